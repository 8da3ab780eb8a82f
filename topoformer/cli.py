"""The command line: results on stdout, talk and progress on stderr, errors as one line."""

import argparse
import gzip
import io
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from graphs.errors import GraphError, UnsupportedOp, quoted, unknown_name

if TYPE_CHECKING:
    from graphs import Graph
    from topoformer.scheduling import Schedule
    from topoformer.sources import Source

DONE, CANNOT, USAGE, INTERRUPTED = 0, 1, 2, 130
MOST_NODES = 10_000_000  # of a generated graph: some 10 GB while it is made
SOURCE_HELP = """a graph (.json, .json.gz), a torch.export program (.pt2), or a function that returns
                      (module, example_inputs): package.module:factory or path/file.py:factory"""
EXAMPLES = {
    "": """examples:
  topoformer schedule graphs.models:resnet18 --seconds 5
  topoformer schedule model.pt2 --save better.pt2 --report memory.html
  topoformer compare graph.json --methods program,lpmf,auto""",
    "schedule": """examples:
  topoformer schedule graph.json --seconds 5
  topoformer schedule model.py:make --save better.pt2 --report memory.svg
  topoformer schedule graph.json --json > schedule.json

'make' returns (module, example_inputs); the inputs are a tuple, a dictionary of keyword arguments or one tensor.
Ctrl-C during an 'auto' search prints the best order found so far.""",
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


def console() -> None:
    """Entry point of the ``topoformer`` command."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 cannot schedule, 2 usage."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # any name can be printed, whatever the encoding
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["train"]:  # has a command line of its own, and needs PyTorch
            from topoformer.net.train import main as train

            return train(arguments[1:])
        options = _parse(arguments)
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse has printed the help or the version
        return stop.code if isinstance(stop.code, int) else USAGE
    except UsageError as error:
        return _fail(str(error), USAGE)
    except (GraphError, UnsupportedOp, ValueError) as error:
        return _fail(str(error), CANNOT)
    except MemoryError:
        return _fail("there is not enough memory for it", CANNOT)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        _abandon_stdout()
        return DONE
    except OSError as error:
        _abandon_stdout()
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", CANNOT)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _fail(text: str, code: int) -> int:
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    print(f"topoformer: {line[:2000]}", file=sys.stderr)
    return code


def _abandon_stdout() -> None:
    """Drop what could not be written: Python would try again at exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
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
        ("methods", _add_methods, "say what each method is and when to use it"),
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


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=SOURCE_HELP)
    parser.add_argument("--seconds", type=_seconds, default=10.0, metavar="S", help="time to search (default 10)")
    parser.add_argument(
        "--steps", type=_positive, metavar="N", help="states to look at at most: the same on any machine"
    )
    parser.add_argument("--seed", type=_natural, default=0, metavar="N", help="seed of random choices (default 0)")
    parser.add_argument("--objective", default="memory", metavar="NAME", help="what to minimise (default memory)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    _add_search(parser)
    parser.add_argument("--method", default="auto", metavar="NAME", help="see 'topoformer methods' (default auto)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the schedule as JSON (gzipped: .gz)")
    parser.add_argument("--save", type=Path, metavar="FILE.pt2", help="write the reordered program")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page (.html) or a picture (.svg) of it")
    parser.set_defaults(run=_schedule)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    _add_search(parser)
    parser.add_argument("--methods", metavar="A,B,C", help="names with commas between, or 'all' (default all)")
    parser.set_defaults(run=_compare)


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("family", metavar="FAMILY", help="layered, randwire, series_parallel, tree, ...")
    parser.add_argument("--nodes", type=_natural, required=True, metavar="N", help="number of nodes")
    parser.add_argument("--seed", type=_natural, default=0, metavar="S", help="seed (default 0)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="a .json or .json.gz (default: stdout)")
    parser.set_defaults(run=_generate)


def _add_nothing(_: argparse.ArgumentParser) -> None:
    """No options here: the command is handed on whole."""


def _add_methods(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_methods)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number of seconds (got {quoted(text, 30)})") from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be positive and finite (got {quoted(text, 30)})")
    return value


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


def _schedule(options: argparse.Namespace) -> int:
    from topoformer import text

    _check_names([options.method], options.objective)
    _check_suffix("--save", options.save, ".pt2")
    _check_suffix("--report", options.report, ".html", ".svg")
    _check_targets(options.source, {"-o": options.output, "--save": options.save, "--report": options.report})
    source, seconds = _load(options)
    if options.save and source.program is None:
        raise UsageError(
            f"--save needs a SOURCE that is a program, a .pt2 or a factory ({quoted(options.source)} is a graph)"
        )
    result = _search(source.graph, options.method, options)
    _write_results(source, result, options)
    print(json.dumps(result.to_json()) if options.json else text.schedule_lines(result, load_seconds=seconds))
    return DONE


def _write_results(source: "Source", result: "Schedule", options: argparse.Namespace) -> None:
    from graphs.io import write_atomic
    from topoformer import report
    from topoformer.sources import save_program

    if options.output:
        data = (json.dumps(result.to_json()) + "\n").encode()
        write_atomic(options.output, gzip.compress(data, mtime=0) if options.output.suffix == ".gz" else data)
    if options.save and source.program is not None:
        save_program(source.program, result.order, options.save)
    if options.report:
        draw = report.svg if options.report.suffix == ".svg" else report.html
        write_atomic(options.report, draw(result).encode())


def _compare(options: argparse.Namespace) -> int:
    from topoformer import text
    from topoformer.scheduling import SCHEDULERS

    names = list(SCHEDULERS)
    if options.methods not in (None, "all"):
        names = [name.strip() for name in options.methods.split(",")]
    _check_names(names, options.objective)
    source, _ = _load(options)
    results: list[Schedule] = []
    try:
        for name in names:
            results.append(_search(source.graph, name, options))
    except KeyboardInterrupt:
        if not results:
            raise
        print(f"interrupted: {len(results)} of {len(names)} methods", file=sys.stderr)
    print(json.dumps(text.compare_rows(results)) if options.json else text.compare_lines(results))
    return DONE


def _generate(options: argparse.Namespace) -> int:
    from graphs import save
    from graphs.json_format import graph_to_json
    from graphs.synthetic import FAMILIES

    if options.family not in FAMILIES:
        raise UsageError(unknown_name("family", options.family, FAMILIES))
    if options.nodes > MOST_NODES:
        raise UsageError(f"--nodes must be at most {MOST_NODES} (got {options.nodes})")
    _check_suffix("-o", options.output, ".json", ".json.gz")
    _check_targets("", {"-o": options.output})
    try:
        graph = FAMILIES[options.family](options.nodes, seed=options.seed)
    except ValueError as error:
        raise UsageError(f"{options.family}: {error}") from None
    if options.output:
        save(graph, options.output)
    else:
        print(json.dumps(graph_to_json(graph)))
    print(graph, file=sys.stderr)
    return DONE


def _methods(_: argparse.Namespace) -> int:
    from topoformer.scheduling import SCHEDULERS, scheduler_named, summary

    for name in SCHEDULERS:
        print(f"{name:17} {summary(scheduler_named(name))}")
    return DONE


def _check_names(methods: Sequence[str], objective: str) -> None:
    from graphs.cost import OBJECTIVES
    from topoformer.scheduling import SCHEDULERS

    for name in methods:
        if name not in SCHEDULERS:
            raise UsageError(unknown_name("method", name, SCHEDULERS))
    if objective not in OBJECTIVES:
        raise UsageError(unknown_name("objective", objective, OBJECTIVES))


def _check_suffix(option: str, path: Path | None, *allowed: str) -> None:
    special = path is not None and path.exists() and not path.is_file()  # /dev/null; directories are told apart later
    if path and not special and not path.name.endswith(allowed):
        raise UsageError(f"{option} takes a file that ends in {' or '.join(allowed)} (got {quoted(path.name)})")


def _check_targets(source: str, targets: "dict[str, Path | None]") -> None:
    """Say now that a file cannot be written, not after the search."""
    taken = {os.path.realpath(source): "SOURCE"}
    for option, path in targets.items():
        if path is None:
            continue
        if path.is_dir():
            raise UsageError(f"{option}: {quoted(path)} is a directory")
        if not path.parent.is_dir():
            raise UsageError(f"{option}: there is no directory {quoted(path.parent)} to write {quoted(path.name)} to")
        real = os.path.realpath(path)
        if real in taken and (path.is_file() or not path.exists()):
            raise UsageError(f"{option} and {taken[real]} are the same file, {quoted(path)}")
        taken[real] = option


def _load(options: argparse.Namespace) -> "tuple[Source, float]":
    from topoformer.sources import load_source

    began = time.perf_counter()
    with _busy(f"reading {options.source}", options):
        source = load_source(options.source)
    return source, time.perf_counter() - began


def _search(graph: "Graph", method: str, options: argparse.Namespace) -> "Schedule":
    from topoformer.scheduling import schedule

    with _busy(f"{method}: ordering {graph.n} nodes (the first run compiles)", options):
        return schedule(
            graph,
            method,
            seconds=options.seconds,
            seed=options.seed,
            objective=options.objective,
            steps=options.steps,
        )


@contextmanager
def _busy(what: str, options: argparse.Namespace) -> Iterator[None]:
    """A moving line on stderr while something takes time; nothing where stderr is not a terminal."""
    if options.quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(what)):
        yield
