"""``topoformer schedule --pareto``: memory against latency or traffic."""

import argparse
import gzip
import json
from typing import TYPE_CHECKING

from topoformer.cli.commands import DONE, load, objective_of, prepared
from topoformer.cli.options import UsageError
from topoformer.cli.outputs import DRAWN, check_suffix, check_targets
from topoformer.cli.progress import busy

if TYPE_CHECKING:
    from topoformer.front import Front

ALONE = {
    "cost": "--cost measured",
    "evaluations": "--evaluations",
    "workers": "--workers",
    "timeout": "--timeout",
    "journal": "--journal",
    "dask": "--dask",
    "save": "--save",
    "trace": "--trace",
    "arena": "--arena",
    "verify": "--verify",
    "memory_limit": "--memory-limit",
}


def pareto(options: argparse.Namespace) -> int:
    """Search for the front, print it, write what is asked for; returns the exit code.

    Raises:
        UsageError: options that do not go with it.
    """
    from graphs.io import write_atomic
    from topoformer import text
    from topoformer.front import pareto as search

    for name, option in ALONE.items():
        if getattr(options, name) not in (None, False, "simulated"):
            raise UsageError(f"{option} does not go with --pareto, which finds several orders")
    if options.method != "auto":
        raise UsageError("--method does not go with --pareto, which uses auto")
    if options.pareto < 2:
        raise UsageError(f"--pareto must be at least 2 (got {options.pareto})")
    if options.device is None:
        raise UsageError("--pareto needs a device: name one with --device")
    if options.objective == "memory":
        options.objective = "latency"
    goal = objective_of(options)
    if options.objective not in ("latency", "traffic") or goal.device is None:
        raise UsageError(f"--pareto weighs memory against latency or traffic (got '{options.objective}')")
    check_suffix("--report", options.report, ".svg", *DRAWN)
    check_targets(options, {"-o": options.output, "--report": options.report})
    source, _ = load(options)
    source = prepared(source, options)
    with busy(f"{options.pareto} searches of {options.seconds / options.pareto:.1f} s", options) as say:
        front = search(
            source.graph,
            goal.device,
            objective=options.objective,
            points=options.pareto,
            seconds=options.seconds,
            seed=options.seed,
            steps=options.steps,
            progress=say,
        )
    answer = front.to_json()
    if options.output:
        data = (json.dumps(answer) + "\n").encode()
        write_atomic(options.output, gzip.compress(data, mtime=0) if options.output.suffix == ".gz" else data)
    if options.report:
        write_atomic(options.report, _drawn(front, options.report.suffix))
    print(json.dumps(answer) if options.json else text.pareto_lines(front))
    return DONE  # as a search for one order that was interrupted is


def _drawn(front: "Front", suffix: str) -> bytes:
    if suffix in DRAWN:
        from topoformer.report.plot import picture

        return picture(front.plot(), suffix)
    from topoformer.front_plot import svg

    return svg(front).encode()
