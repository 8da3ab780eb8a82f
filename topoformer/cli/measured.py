"""``topoformer schedule --method bo --cost measured``: orders are run, and the best measured one is the result."""

import argparse
import math
import sys
from typing import TYPE_CHECKING

from topoformer.cli.progress import busy

if TYPE_CHECKING:
    from topoformer.scheduling import Schedule
    from topoformer.sources import Source

MEASURES = {"memory": "peak", "arena": "heap", "latency": "seconds"}


def refined(source: "Source", options: argparse.Namespace) -> "Schedule":
    """The schedule with the lowest measured cost; says on stderr how many orders were measured and how many failed."""
    from topoformer.pytorch.refining import refine
    from topoformer.schedulers.bayes import EVALUATIONS
    from topoformer.sources import program_of, stdout_kept_for_results

    evaluations = options.evaluations or EVALUATIONS
    with busy(f"measuring {evaluations} orders", options) as say, stdout_kept_for_results():
        found = refine(
            program_of(source),
            cost=MEASURES[options.objective],
            evaluations=evaluations,
            seconds=options.seconds,
            steps=options.steps,
            seed=options.seed,
            timeout=options.timeout or math.inf,
            workers=1 if options.workers is None else options.workers,
            dask=options.dask,
            journal=options.journal,
            progress=lambda count, best: say(f"measured {count} of {evaluations} orders, the lowest {best:,.6g}"),
            name=source.graph.name,
        )
    failed = sum(trial.failure is not None for trial in found.trials)
    if not options.quiet:
        text = f"measured {len(found.trials)} orders, {failed} failed, ended by: {found.stopped}"
        print(f"{text}; the start of the search measured {found.start_value:,.6g}", file=sys.stderr)
    return found.schedule
