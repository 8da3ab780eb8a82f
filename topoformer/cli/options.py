"""What can be said on the command line, and what is said back where it is wrong."""

import argparse
import math
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from graphs.errors import quoted, unknown_name
from graphs.units import parse_bytes

SOURCE_HELP = """a graph (.json, .json.gz), a torch.export program (.pt2), an ONNX model (.onnx), or a function that
                      returns (module, example_inputs): package.module:factory or path/file.py:factory"""
EXAMPLES = {
    "calibrate": """example:
  topoformer calibrate model.py:make graphs.models:resnet18

Then --device cpu is this machine, for schedule and compare.""",
    "": """examples:
  topoformer schedule graphs.models:resnet18 --seconds 5
  topoformer schedule model.pt2 --save better.pt2 --report memory.html
  topoformer compare graph.json --methods program,lpmf,auto""",
    "schedule": """examples:
  topoformer schedule graph.json --seconds 5
  topoformer schedule model.py:make --save better.pt2 --report memory.html
  topoformer schedule model.onnx --dim batch=8 --save better.onnx
  topoformer schedule graph.json --json > schedule.json
  topoformer schedule model.pt2 --measure-scratch --verify
  topoformer schedule graph.json --objective latency --device h100-sxm --streams 2 --memory-limit 4GiB
  topoformer schedule graph.json --pareto --device h100-sxm --report front.svg
  topoformer schedule model.py:make --method bo --cost measured --objective arena --journal tried.jsonl

'make' returns (module, example_inputs); the inputs are a tuple, a dictionary of keyword arguments or one tensor.
Ctrl-C during an 'auto' search prints the best order found so far.""",
    "check": """examples:
  topoformer check model.py:make --max-peak 512MiB
  topoformer check model.py:make --baseline peak.json --tolerance 1
  topoformer check model.py:make --max-peak 512MiB --program-order""",
    "compare": """example:
  topoformer compare graph.json --methods program,lpmf,auto --seconds 5""",
    "generate": """example:
  topoformer generate layered --nodes 500 --seed 1 -o graph.json.gz""",
}


class UsageError(Exception):
    """Options that do not go together, or a name that is not known."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error here is said."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command and its options; raises UsageError."""
    options, unknown = _parser().parse_known_args(argv)
    if unknown:
        name = unknown[0].partition("=")[0]
        if name.startswith("-"):
            raise UsageError(unknown_name("option", name, options.known))
        raise UsageError(f"one argument too many, {quoted(name)} (see topoformer {options.command} --help)")
    return options


def _parser() -> argparse.ArgumentParser:
    about = "Order neural-network computation graphs for lower peak memory."
    parser = _Parser(prog="topoformer", description=about, **_style(""))
    parser.add_argument("--version", action="version", version=f"topoformer {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add, text in (
        ("schedule", _add_schedule, "find an order of SOURCE that needs less memory"),
        ("compare", _add_compare, "run several methods on SOURCE, one table row each"),
        ("generate", _add_generate, "write a synthetic graph of some family"),
        ("check", _add_check, "exit with 1 where the peak of SOURCE exceeds a limit, or has grown"),
        ("methods", _add_nothing, "say what each method is and when to use it"),
        ("calibrate", _add_calibrate, "measure this machine, and operators of programs, for the latency model"),
        ("train", _add_nothing, "train the network of the learned methods: topoformer train --help"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", **_style(name))
        add(command)
        command.set_defaults(known=[flag for action in command._actions for flag in action.option_strings])
    return parser


def _style(command: str) -> dict[str, Any]:
    return {
        "epilog": EXAMPLES.get(command),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,  # a script that says --rep would break when a second such option comes
    }


def _version() -> str:
    try:
        return metadata.version("topoformer")
    except metadata.PackageNotFoundError:
        return "(not installed: run from its source)"


def _add_effort(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=SOURCE_HELP)
    parser.add_argument(
        "--dim",
        type=_dimension,
        action="append",
        default=[],
        metavar="NAME=N",
        help="size of a symbolic dimension of an ONNX model, as in batch=8; may be repeated",
    )
    parser.add_argument(
        "--aliases",
        choices=("onnxruntime", "views", "none"),
        help="what shares memory in an ONNX model: as the runtime has it (default), views only, nothing",
    )
    parser.add_argument("--seconds", type=_seconds, default=10.0, metavar="S", help="time to search (default 10)")
    parser.add_argument(
        "--steps", type=_positive, metavar="N", help="states to look at at most: the same on any machine"
    )
    parser.add_argument("--seed", type=_natural, default=0, metavar="N", help="seed of random choices (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    talk.add_argument("-v", "--verbose", action="store_true", help="a line on stderr for each step of the search")


def _add_search(parser: argparse.ArgumentParser) -> None:
    _add_effort(parser)
    parser.add_argument(
        "--objective",
        default="memory",
        metavar="NAME",
        help="memory, latency, traffic, arena or a sum, as in 'latency+0.5*memory' (default memory)",
    )
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="what executes the graph: a name or a device .json; latency and traffic need one",
    )
    parser.add_argument("--streams", type=_positive, metavar="K", help="of the device, instead of its own number")
    parser.add_argument("--on-chip", type=_bytes, metavar="SIZE", help="memory on the device's chip, as in 512KiB")


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    _add_search(parser)
    parser.add_argument("--method", default="auto", metavar="NAME", help="see 'topoformer methods' (default auto)")
    parser.add_argument(
        "--memory-limit",
        type=_bytes,
        metavar="SIZE",
        help="fail unless resident and peak bytes keep within, as in 4GiB",
    )
    parser.add_argument(
        "--measure-scratch", action="store_true", help="count the workspaces of operators too, measured by running them"
    )
    parser.add_argument(
        "--measure-seconds",
        action="store_true",
        help="time the operators on this machine for the latency, instead of estimating them",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="run the program in both orders; compare bytes and outputs with what is said",
    )
    parser.add_argument(
        "--pareto",
        type=_positive,
        nargs="?",
        const=8,
        metavar="POINTS",
        help="memory against latency (or --objective traffic): orders between the least of both (default 8)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the schedule as JSON (gzipped: .gz)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the reordered program (.pt2, .onnx)")
    parser.add_argument(
        "--arena",
        type=Path,
        metavar="FILE",
        help="write a place in one arena for each tensor, as JSON (.json) or a C header (.h)",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write a page (.html) or a picture (.svg, .png, .pdf) of it"
    )
    parser.add_argument(
        "--trace", type=Path, metavar="FILE.json", help="write a trace for Perfetto or chrome://tracing (gzipped: .gz)"
    )
    _add_refine(parser)


def _add_check(parser: argparse.ArgumentParser) -> None:
    _add_effort(parser)
    parser.add_argument("--method", default="auto", metavar="NAME", help="see 'topoformer methods' (default auto)")
    parser.add_argument("--max-peak", type=_bytes, metavar="SIZE", help="most that the peak may be, as in 512MiB")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="a schedule (.json) of before, whose peak must not be exceeded"
    )
    parser.add_argument(
        "--tolerance", type=_percent, default=0.0, metavar="PERCENT", help="what the baseline may be exceeded by"
    )
    parser.add_argument(
        "--program-order",
        action="store_true",
        help="the peaks of the programs as written, not those of the best orders",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the schedule, the next baseline")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    _add_search(parser)
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="write a page with all of them beside the best"
    )
    parser.add_argument("--methods", metavar="A,B,C", help="names with commas between, or 'all' (default all)")


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("family", metavar="FAMILY", help="layered, randwire, series_parallel, tree, ...")
    parser.add_argument("--nodes", type=_natural, required=True, metavar="N", help="number of nodes")
    parser.add_argument("--seed", type=_natural, default=0, metavar="S", help="seed (default 0)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="a .json or .json.gz (default: stdout)")


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", nargs="*", metavar="SOURCE", help=f"{SOURCE_HELP}; its operators are measured too")
    parser.add_argument(
        "--seconds", type=_seconds, default=60.0, metavar="S", help="to time the operators of each SOURCE (default 60)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the device as JSON too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def _add_refine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("with --method bo")
    group.add_argument(
        "--cost",
        choices=("simulated", "measured"),
        default="simulated",
        help="measured: run each order; memory: bytes of the allocator, arena: of a heap, latency: seconds",
    )
    group.add_argument("--evaluations", type=_positive, metavar="N", help="orders to measure (default 60)")
    group.add_argument("--workers", type=_natural, metavar="W", help="processes that measure (default 1; 0: this one)")
    group.add_argument("--timeout", type=_seconds, metavar="S", help="seconds that one measurement may take")
    group.add_argument("--journal", type=Path, metavar="FILE", help="keep every measurement; go on from what it has")
    group.add_argument("--dask", metavar="ADDRESS", help="have a Dask cluster measure, as tcp://host:8786")


def _add_nothing(_: argparse.ArgumentParser) -> None:
    """A command without options here."""


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number of seconds (got {quoted(text, 30)})") from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be positive and finite (got {quoted(text, 30)})")
    return value


def _dimension(text: str) -> tuple[str, int]:
    name, equals, size = text.rpartition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"must be a name and a size, as in batch=8 (got {quoted(text, 30)})")
    return name, _positive(size)


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of per cent, not negative (got {quoted(text, 30)})")
    return value


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _natural(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 63:
        raise argparse.ArgumentTypeError(f"must be an integer from 0 to 2**63 - 1 (got {quoted(text, 30)})")
    return value


def _positive(text: str) -> int:
    value = _natural(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be positive (got '0')")
    return value
