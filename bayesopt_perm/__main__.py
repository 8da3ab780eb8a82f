"""``python -m bayesopt_perm FILE.py:FUNCTION -n 20``: minimise a function of an order from the command line."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor
from functools import partial
from pathlib import Path
from typing import Any

from bayesopt_perm.objective_source import ObjectiveSource

DONE, CANNOT, USAGE = 0, 1, 2
ABOUT = "Minimise FUNCTION(order), order int64[n], over permutations of n items with few evaluations, several at once."
EPILOG = """examples:
  python -m bayesopt_perm measure.py:seconds -n 40 --budget 200 --journal search.jsonl
  python -m bayesopt_perm measure.py:seconds -n 40 --processes 4 --timeout 60
  python -m bayesopt_perm measure.py:seconds -n 40 --dask tcp://scheduler:8786

With --journal the same command goes on where it was stopped, by Ctrl-C or a kill."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 1 cannot do it, 2 usage."""
    try:
        options = _parser().parse_args(argv)
        return _minimise(options)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USAGE
    except (ValueError, OSError, BrokenExecutor) as error:  # JournalError is a ValueError
        print(f"bayesopt_perm: {' '.join(str(error).split())}", file=sys.stderr)
        return CANNOT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bayesopt_perm",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("function", metavar="FUNCTION", help="module:function or path/file.py:function")
    parser.add_argument("-n", type=int, required=True, help="number of items")
    parser.add_argument("--precedence", type=Path, metavar="FILE", help="JSON list of pairs [u, v]: u before v")
    parser.add_argument("--start", type=Path, metavar="FILE", help="JSON list of orders to begin with")
    parser.add_argument("--budget", type=int, default=530, metavar="N", help="evaluations (default 530)")
    parser.add_argument("--batch", type=int, default=5, metavar="N", help="evaluations at once (default 5)")
    parser.add_argument("--initial", type=int, default=30, metavar="N", help="of them random at first (default 30)")
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="end after so long")
    parser.add_argument("--timeout", type=float, default=math.inf, metavar="S", help="an evaluation may take so long")
    parser.add_argument("--target", type=float, default=-math.inf, help="end at this value")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kernel", default="auto", help='a name, or "auto" (default)')
    parser.add_argument("--acquisition", default="logei", help="logei (default), ei, ucb or est")
    parser.add_argument("--rule", default="law", help="how a batch is chosen (default law)")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="go on from here, and keep every evaluation here")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--processes", type=int, default=0, metavar="N", help="evaluate in N processes")
    where.add_argument("--dask", metavar="ADDRESS", help="evaluate on the workers of a Dask scheduler")
    parser.add_argument("--asynchronous", action="store_true", help="ask for one more as soon as one is done")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    return parser


def _minimise(options: argparse.Namespace) -> int:
    function = ObjectiveSource(options.function)
    _ = function.function  # a name that is wrong is said now, not as 530 failed evaluations
    from bayesopt_perm.minimizing import minimize

    result = minimize(
        function,
        options.n,
        precedence=_read(options.precedence),
        start=_read(options.start),
        budget=options.budget,
        batch_size=options.batch,
        initial=options.initial,
        seconds=options.seconds,
        timeout=options.timeout,
        target=options.target,
        seed=options.seed,
        kernel=options.kernel,
        acquisition=options.acquisition,
        batch=options.rule,
        journal=options.journal,
        executor=_executor(options),
        asynchronous=options.asynchronous,
        progress=None if options.quiet or not sys.stderr.isatty() else partial(_show, options.budget),
    )
    failed = sum(evaluation.failure is not None for evaluation in result.history)
    if result.best is None:
        reason = next((e.failure for e in result.history if e.failure), "it was stopped before the first")
        raise ValueError(f"no evaluation gave a value: {reason}")
    answer = {
        "value": result.value,
        "order": result.order.tolist(),
        "evaluations": len(result.history),
        "failed": failed,
        "stopped": result.stopped,
    }
    print(json.dumps(answer) if options.json else "\n".join(f"{key:12} {value}" for key, value in answer.items()))
    return DONE


def _read(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _executor(options: argparse.Namespace) -> Callable[[], Executor] | None:
    """What makes the executor that evaluates; None for this thread."""
    from bayesopt_perm.workers import DaskExecutor, process_pool

    if options.dask:
        return partial(DaskExecutor, options.dask)
    return partial(process_pool, options.processes) if options.processes else None


def _show(budget: int, optimizer: Any) -> None:
    best = f"{optimizer.best.value:g}" if optimizer.best else "none"
    count = len(optimizer.history)
    print(f"\r{count} of {budget} evaluations, best {best}", end="\n" if count == budget else "", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
