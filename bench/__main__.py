"""``python -m bench SUITE``: run one suite and print its table."""

import argparse
import importlib
import sys

SUITES = {
    "speed": "how fast the simulator, the list policies, loading and the command line are",
    "networks": "peak before and after on the networks of graphs.models (the README's table)",
}


def main(argv: list[str] | None = None) -> int:
    """Run the suite that the arguments name; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("suite", choices=SUITES, help="; ".join(f"{name}: {what}" for name, what in SUITES.items()))
    suite = parser.parse_args(argv).suite
    for line in importlib.import_module(f"bench.{suite}").table():
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
