"""The README keeps its word: its commands and examples run as printed, the files that it names are there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme import VENV, blocks, commands

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def run(path, folder):
    """The runner on one file, in ``folder``, which is also its home."""
    env = os.environ | {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.readme", str(path)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=500, check=False)


def test_what_the_readme_says_runs_as_printed(tmp_path):
    done = run(README, tmp_path)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert int(re.findall(r"^(\d+) commands and blocks ran$", done.stdout, re.MULTILINE)[0]) >= 25
    for name in ("report.html", "better.pt2", "schedule.json", "trace.json", "memory.svg", "front.svg", "plan.h"):
        assert (tmp_path / name).stat().st_size > 100, name


@pytest.mark.parametrize(
    "block",
    ["```sh\ntopoformer schedule nowhere.json\n```\n", "```python\nassert 1 == 2\n```\n", "```sh\nfalse\n```\n"],
)
def test_what_does_not_run_is_noticed(tmp_path, block):
    (tmp_path / "bad.md").write_text(f"# A title\n\n{block}")
    done = run(tmp_path / "bad.md", tmp_path)
    assert done.returncode == 1
    assert "this block of" in done.stderr


def test_the_first_two_commands_install_and_do_the_job():
    first, second = [text for language, text in blocks(README.read_text()) if language == "sh"][:2]
    assert first.startswith(f"{VENV}. && .venv/bin/topoformer schedule ")
    assert second.startswith(f"{VENV}-e '.[test]' && .venv/bin/python -m pytest")
    assert (list(commands(first)), list(commands(second))) == (["topoformer schedule graphs.models:pnasnet"], [])


def test_files_and_folders_that_the_readme_names_are_there():
    text = README.read_text()
    named = re.findall(r"`((?:bench|graphs|topoformer|bayesopt_perm|tests|schedulers|synthetic)/[\w/.]*)`", text)
    named += re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(named) > 20
    places = (ROOT, ROOT / "topoformer", ROOT / "graphs")
    assert [name for name in named if not any((place / name).exists() for place in places)] == []
