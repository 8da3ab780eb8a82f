"""``python -m bench SUITE``: run one suite, or one study, and print its tables."""

import argparse
import importlib
import itertools
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from topoformer.cli.progress import moving

SUITES = {  # graphs x methods, our own and others', a JSON line a run
    "quick": "a little of everything, in two minutes",
    "layered": "the layered random graphs of the paper, published and fresh",
    "networks": "inference: the zoo, Hugging Face, ONNX",
    "training": "whole training steps, and joint graphs of forward and backward",
    "irregular": "randomly wired networks, NAS cells, trees, traps for common rules",
    "scale": "1,000 to 1,000,000 nodes",
}
STUDIES = {  # each with a table of its own
    "speed": "how fast the simulator, the list policies, loading and the command line are",
    "inductor_hooks": "Inductor's own estimate of peaks under its order and under ours",
    "backend": "our torch.compile backend beside eager and aot_eager: bits, peaks and compile times of 29 models",
    "learned": "gaps and milliseconds of the learned methods, their controls and the unguided beam",
    "curve": "the learning curve of the shipped weights, drawn into bench/results",
    "recipe": "ten minutes of training on a CPU against methods that need none",
    "ablation": "encoders, relations, training stages and decoders of the network, small and on the CPU",
    "training_steps": "measured peaks and times of whole training steps beside eager PyTorch",
    "permutations": "Bayesian optimisation over permutations beside hill climbers and other batch rules",
    "objectives": "traffic, latency on streams, arenas and measured costs of our orders beside the program's",
    "arena": "arenas of a static memory planner beside greedy packers, and beside the peaks of schedules",
    "latency": "latency as simulated after calibration beside latency as measured",
    "device_peaks": "predicted peaks against what the allocator of a device counted",
}
TOOLS = {
    "compare": "two result files, run by run",
    "best_known": "the best peak and bound known of each graph; what result files have that is better",
    "readme": "the README's tables, from the results in bench/results",
}


def main(argv: list[str] | None = None) -> int:
    """Run what the arguments name; returns the exit code."""
    about = {**SUITES, **STUDIES, **TOOLS}
    listed = "\n".join(f"  {name:15} {what}" for name, what in about.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, epilog=f"suites, studies and tools:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("suite", choices=about, metavar="SUITE", help="what to run, see below")
    known = [word for word in (sys.argv[1:] if argv is None else argv) if word in about]
    name = known[0] if known else ""
    module: Any = importlib.import_module(f"bench.{'grid' if name in SUITES else name}") if name else None
    if hasattr(module, "options"):
        module.options(parser)
    arguments = vars(parser.parse_args(argv))
    if name not in SUITES:
        del arguments["suite"]
    try:
        for line in _lines(name, module.table(**arguments)):
            print(line, flush=True)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what has a line is kept", file=sys.stderr)
        return 130
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
