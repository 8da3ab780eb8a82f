"""``python -m bench SUITE``: run one suite and print its table."""

import argparse
import importlib
import itertools
import sys
import time
from collections.abc import Iterator

from topoformer.cli.progress import moving

SUITES = {
    "speed": "how fast the simulator, the list policies, loading and the command line are",
    "networks": "peak before and after on the networks of graphs.models (the README's table)",
    "certified": "peaks, bounds and seconds on published, fresh, irregular and large graphs",
    "inductor": "peaks and seconds beside PyTorch Inductor's own memory pass",
    "inductor_hooks": "Inductor's own estimate of peaks under its order and under ours",
    "backend": "our torch.compile backend beside eager and aot_eager: bits, peaks and compile times of 29 models",
    "learned": "gaps and milliseconds of the learned methods, their controls and the unguided beam",
    "curve": "the learning curve of the shipped weights, drawn into bench/results",
    "recipe": "ten minutes of training on a CPU against methods that need none",
    "ablation": "encoders, relations, training stages and decoders of the network, small and on the CPU",
    "training": "measured peaks and times of whole training steps beside eager PyTorch",
    "permutations": "Bayesian optimisation over permutations beside hill climbers and other batch rules",
    "objectives": "traffic, latency on streams, arenas and measured costs of our orders beside the program's",
    "arena": "arenas of a static memory planner beside greedy packers, and beside the peaks of schedules",
    "latency": "latency as simulated after calibration beside latency as measured",
    "device_peaks": "predicted peaks against what the allocator of a device counted",
}


def main(argv: list[str] | None = None) -> int:
    """Run the suite that the arguments name; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("suite", choices=SUITES, help="; ".join(f"{name}: {what}" for name, what in SUITES.items()))
    suite = importlib.import_module(f"bench.{parser.parse_known_args(argv)[0].suite}")
    if hasattr(suite, "options"):
        suite.options(parser)
    arguments = vars(parser.parse_args(argv))
    del arguments["suite"]
    for line in _lines(suite.__name__.removeprefix("bench."), suite.table(**arguments)):
        print(line, flush=True)
    return 0


def _lines(name: str, lines: Iterator[str]) -> Iterator[str]:
    """The table's lines; while one is awaited, a terminal shows how long that has taken."""
    for number in itertools.count():
        began = time.monotonic()
        with moving(lambda: f"{name}: line {number + 1}, for {time.monotonic() - began:.0f} s"):  # noqa: B023
            line = next(lines, None)
        if line is None:
            return
        yield line


if __name__ == "__main__":
    sys.exit(main())
