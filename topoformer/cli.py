"""The command line: results on stdout, talk and progress on stderr, errors as one line."""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from graphs.errors import GraphError, UnsupportedOp, unknown_name

if TYPE_CHECKING:
    from graphs import Graph
    from topoformer.scheduling import Schedule
    from topoformer.sources import Source

DONE, CANNOT, USAGE, INTERRUPTED = 0, 1, 2, 130
SOURCE_HELP = "graph .json[.gz], a .pt2, or package.module:factory / file.py:factory giving (module, example_inputs)"


class UsageError(Exception):
    """Options that do not go together, or a name that is not known."""


def console() -> None:
    """Entry point of the ``topoformer`` command."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 cannot schedule, 2 usage."""
    try:
        options = _parser().parse_args(argv)
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse has said why
        return stop.code if isinstance(stop.code, int) else USAGE
    except UsageError as error:
        return _fail(str(error), USAGE)
    except (GraphError, UnsupportedOp, ValueError) as error:
        return _fail(str(error), CANNOT)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
        return DONE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", CANNOT)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _fail(text: str, code: int) -> int:
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    print(f"topoformer: {line[:2000]}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="topoformer", description="Order neural-network computation graphs for lower peak memory."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_schedule(commands.add_parser("schedule", help="find an order of SOURCE that needs less memory"))
    _add_compare(commands.add_parser("compare", help="run several methods on SOURCE, one table row each"))
    _add_generate(commands.add_parser("generate", help="write a synthetic graph of some family"))
    methods = commands.add_parser("methods", help="say what each method is and when to use it")
    methods.set_defaults(run=_methods)
    return parser


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=SOURCE_HELP)
    parser.add_argument("--seconds", type=_seconds, default=10.0, help="time to search (default 10)")
    parser.add_argument("--seed", type=_natural, default=0, help="seed of random choices (default 0)")
    parser.add_argument("--objective", default="memory", metavar="NAME", help="what to minimise (memory)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    _add_search(parser)
    parser.add_argument("--method", default="auto", metavar="NAME", help="see `topoformer methods` (default auto)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the schedule as JSON")
    parser.add_argument("--save", type=Path, metavar="FILE.pt2", help="write the reordered program")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a page, or a picture (.svg), of it")
    parser.set_defaults(run=_schedule)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    _add_search(parser)
    parser.add_argument("--methods", metavar="A,B,C", help="names, with commas between (default all)")
    parser.set_defaults(run=_compare)


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("family", metavar="FAMILY", help="layered, randwire, series_parallel, tree, ...")
    parser.add_argument("--nodes", type=_natural, required=True, metavar="N", help="number of nodes")
    parser.add_argument("--seed", type=_natural, default=0, metavar="S", help="seed (default 0)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="a .json or .json.gz (default: stdout)")
    parser.set_defaults(run=_generate)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be positive and finite (got {text})")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if not 0 <= value < 1 << 63:
        raise argparse.ArgumentTypeError(f"must be an integer from 0 to 2**63 - 1 (got {text[:30]})")
    return value


def _schedule(options: argparse.Namespace) -> int:
    from topoformer import text

    _check_names([options.method], options.objective)
    _check_targets(options.output, options.save, options.report)
    source, seconds = _load(options)
    if options.save and source.program is None:
        raise UsageError(
            f"--save needs a SOURCE that is a program, a .pt2 or a factory ('{options.source}' is a graph)"
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
        write_atomic(options.output, (json.dumps(result.to_json()) + "\n").encode())
    if options.save and source.program is not None:
        save_program(source.program, result.order, options.save)
    if options.report:
        draw = report.svg if options.report.suffix == ".svg" else report.html
        write_atomic(options.report, draw(result).encode("utf-8", "xmlcharrefreplace"))


def _compare(options: argparse.Namespace) -> int:
    from topoformer import text
    from topoformer.scheduling import SCHEDULERS

    names = [name.strip() for name in options.methods.split(",")] if options.methods else list(SCHEDULERS)
    _check_names(names, options.objective)
    source, _ = _load(options)
    results = [_search(source.graph, name, options) for name in names]
    print(json.dumps([text.compare_row(r) for r in results]) if options.json else text.compare_lines(results))
    return DONE


def _generate(options: argparse.Namespace) -> int:
    from graphs import save
    from graphs.json_format import graph_to_json
    from graphs.synthetic import FAMILIES

    if options.family not in FAMILIES:
        raise UsageError(unknown_name("family", options.family, FAMILIES))
    _check_targets(options.output)
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
        print(f"{name:14} {summary(scheduler_named(name))}")
    return DONE


def _check_names(methods: Sequence[str], objective: str) -> None:
    from graphs.cost import OBJECTIVES
    from topoformer.scheduling import SCHEDULERS

    for name in methods:
        if name not in SCHEDULERS:
            raise UsageError(unknown_name("method", name, SCHEDULERS))
    if objective not in OBJECTIVES:
        raise UsageError(unknown_name("objective", objective, OBJECTIVES))


def _check_targets(*paths: Path | None) -> None:
    """Say now that a file cannot be written, not after the search."""
    for path in paths:
        if path and path.is_dir():
            raise UsageError(f"'{path}' is a directory")
        if path and not path.parent.is_dir():
            raise UsageError(f"there is no directory '{path.parent}' to write '{path.name}' to")


def _load(options: argparse.Namespace) -> "tuple[Source, float]":
    from topoformer.sources import load_source

    began = time.perf_counter()
    with _busy(f"reading {options.source}", options):
        source = load_source(options.source)
    return source, time.perf_counter() - began


def _search(graph: "Graph", method: str, options: argparse.Namespace) -> "Schedule":
    from topoformer.scheduling import schedule

    with _busy(f"{method}: ordering {graph.n} nodes (the first run compiles)", options):
        return schedule(graph, method, seconds=options.seconds, seed=options.seed, objective=options.objective)


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
