"""How long the parts take that users wait for: ``bench/benchmarks.py``, run by pytest-benchmark, as a table."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from graphs.units import format_seconds

BENCHMARKS = Path(__file__).parent / "benchmarks.py"


def options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--only", metavar="WORDS", default="", help="those whose names match, as pytest's -k takes it")
    parser.add_argument("--out", type=Path, help="keep the measurements, for 'pytest-benchmark compare'")


def table(only: str, out: Path | None) -> Iterator[str]:
    """A row a benchmark: median, and how much the middle half of the rounds differs by."""
    with tempfile.TemporaryDirectory() as folder:
        path = out or Path(folder) / "speed.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(BENCHMARKS)]
        command += ["--benchmark-only", f"--benchmark-json={path}", *(("-k", only) if only else ())]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"the benchmarks failed: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
        found = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    yield "| what | median | middle half within | rounds |"
    yield "|---|---:|---:|---:|"
    for one in found:
        stats = one["stats"]
        name = one["name"].removeprefix("test_").replace("_", " ").replace("[", ", ").rstrip("]")
        yield f"| {name} | {format_seconds(stats['median'])} | {format_seconds(stats['iqr'])} | {stats['rounds']} |"
