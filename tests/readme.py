"""Run the README as a reader would: ``python -m tests.readme README.md``, in an empty folder.

Blocks run from top to bottom: ``sh`` line by line, ``python`` in one namespace, but for a block whose first line is a
file's name, which is written to that file. What a fresh machine is set up with is left out.
"""

import re
import shlex
import subprocess
import sys
import time
import traceback
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
VENV = "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt "
FIRST = re.compile(re.escape(VENV) + r"\. && \.venv/bin/(topoformer .*)")


def blocks(text):
    """(language, lines) of every fenced block, in order."""
    return [(found.group(1), found.group(2)) for found in BLOCK.finditer(text)]


def commands(text):
    """The lines of a block of shell commands that are to be run; what follows the install line is."""
    for line in text.splitlines():
        if installed := FIRST.fullmatch(line):
            yield installed.group(1)
        elif not line.startswith((VENV, "#")) and line:
            yield line


def run_command(line):
    """Run one line, in this process where it is ours; raises where it fails."""
    from topoformer.cli import main

    words = shlex.split(line)
    if words[0] == "topoformer":
        code = main(words[1:])
    else:
        words[0] = sys.executable if words[0] == "python" else words[0]
        code = subprocess.run(words, check=False).returncode
    if code:
        raise SystemExit(f"exit code {code}")


def run(language, text, names):
    """Run one block; returns how many parts of it there were."""
    if language == "sh":
        lines = list(commands(text))
        for line in lines:
            print(f"$ {line}", flush=True)
            run_command(line)
        return len(lines)
    if language == "yaml":
        return run("sh", "\n".join(re.findall(r"run: (topoformer .*)", text)), names)
    if language == "python":
        if named := FILE.match(text):
            Path(named.group(1)).write_text(text)
        else:
            exec(compile(text, "README.md", "exec"), names)
        return 1
    return 0


def main(path):
    """Run all blocks; returns how many parts ran, and raises at the first that fails."""
    names, count = {"__name__": "readme"}, 0
    sys.path.insert(0, "")
    for language, text in blocks(Path(path).read_text(encoding="utf-8")):
        began = time.monotonic()
        try:
            count += run(language, text, names)
        except BaseException:
            traceback.print_exc()
            raise SystemExit(f"this block of {path} fails:\n{text}") from None
        print(f"# {time.monotonic() - began:.1f} s", flush=True)
    print(f"{count} commands and blocks ran")


if __name__ == "__main__":
    main(sys.argv[1])
