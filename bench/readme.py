"""``python -m bench readme``: the README's tables, each worked out from the lines in ``bench/results``.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; what is between them is replaced.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.grid import read
from bench.reading import OURS, Row, geometric, methods_of, ratio, rows_of, score
from bench.rivals import RIVALS
from graphs.io import write_atomic
from graphs.units import format_bytes

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
TABLE = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
STEPS = {
    "llama_sgd": "Llama (Hugging Face), SGD, batch 1",
    "resnet_sgd": "ResNet-18, SGD with momentum, batch 8",
    "unet_sgd": "U-Net, SGD with momentum, batch 2",
    "mobilenet_adam": "MobileNetV2, Adam, batch 8",
    "transformer_adamw": "decoder of 4 layers, AdamW, batch 4",
    "lstm_adam": "two-layer LSTM, Adam, batch 8",
}
SETS = {
    "layered": "layered random graphs, 100-2,000 nodes",
    "networks": "networks, inference: zoo, Hugging Face, ONNX",
    "training": "training steps and joint graphs",
    "irregular": "randomly wired, NAS cells, trees, traps",
}


def table() -> Iterator[str]:
    """Write the tables into the README; says which of them have changed."""
    before = README.read_text(encoding="utf-8")
    after = renewed(before)
    for (_, name, old, _), (_, _, new, _) in zip(TABLE.findall(before), TABLE.findall(after), strict=True):
        yield f"{name}: {'as it was' if old == new else 'changed'}"
    write_atomic(README, after.encode())


def renewed(text: str) -> str:
    """``text`` with every table made anew."""
    return TABLE.sub(lambda found: found[1] + "".join(line + "\n" for line in TABLES[found[2]]()) + found[4], text)


def _lines(name: str) -> list[dict[str, Any]]:
    return read(RESULTS / f"{name}.jsonl")


def _steps() -> Iterator[str]:
    yield "| step | plain PyTorch | traced order | topoformer | ratio to either | time of plain PyTorch |"
    yield "|---|---:|---:|---:|---:|---:|"
    for line in sorted(_lines("training_steps"), key=lambda line: line["ours_bytes"] / line["eager_bytes"]):
        sizes = " | ".join(f"{line[name] / 1e6:.1f}" for name in ("eager_bytes", "traced_bytes", "ours_bytes"))
        part = line["ours_bytes"] / line["eager_bytes"]
        yield f"| {STEPS[line['step']]} | {sizes} | {part:.3f} | {line['time_of_eager']:.2f} |"


def _networks() -> Iterator[str]:
    from graphs.models import ZOO

    yield "| network | nodes | program order | topoformer | ratio | lower bound | search |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    rows = {row.graph: row for row in rows_of(_lines("networks"))}
    for name in ZOO:
        row, ours = rows[name], rows[name].by_method[OURS]
        peak = ours["peak_bytes"]
        bound = "optimal" if ours["bound_bytes"] == peak else format_bytes(ours["bound_bytes"])
        sizes = f"{format_bytes(row.program)} | {format_bytes(peak)} | {ratio(peak, row.program):.3f} | {bound}"
        yield f"| {name} | {row.nodes} | {sizes} | {ours['seconds']:.2f} s |"


def _sets() -> Iterator[str]:
    yield (
        "| graphs | | peak / program order | / best of all rivals | at most above the optimum, mean | proven optimal "
        "| median seconds |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for suite, title in SETS.items():
        rows = [row for row in rows_of(_lines(suite)) if OURS in row.by_method]
        ours = [row.by_method[OURS] for row in rows]
        gaps = [ratio(line["peak_bytes"], line["bound_bytes"]) - 1 for line in ours]
        proven = sum(gap == 0 for gap in gaps)
        to_rivals = geometric([ratio(row.by_method[OURS]["peak_bytes"], _best_rival(row)) for row in rows])
        to_program = geometric([ratio(row.by_method[OURS]["peak_bytes"], row.program) for row in rows])
        yield (
            f"| {title} | {len(rows)} | {to_program:.3f} | {to_rivals:.3f} | {sum(gaps) / len(gaps):.2%} "
            f"| {proven} of {len(rows)} | {median(line['seconds'] for line in ours):.2f} |"
        )


def _best_rival(row: Row) -> int:
    peaks: list[int] = [line["peak_bytes"] for name, line in row.by_method.items() if name in RIVALS]
    return min(peaks, default=row.program)


def _rivals() -> Iterator[str]:
    by_suite = {suite: rows_of(_lines(suite)) for suite in SETS}
    everything = [row for rows in by_suite.values() for row in rows]
    yield f"| method | {' | '.join(SETS)} | `auto` lower, equal, higher | median seconds |"
    yield f"|---|{'---:|' * (len(SETS) + 2)}"
    for method in methods_of(everything):
        cells = [_against_best(rows, method) for rows in by_suite.values()]
        found = score(everything, method)
        against = "" if method == OURS else f"{found.wins}, {found.ties}, {found.losses}"
        yield f"| {method} | {' | '.join(cells)} | {against} | {found.seconds:.2f} |"


def _against_best(rows: Sequence[Row], method: str) -> str:
    """The geometric mean of peak over the best known, with a mark where some graphs are missing."""
    found = score(rows, method)
    if not found.graphs:
        return ""
    return f"{found.to_best:.3f}" + (f" ({found.graphs} of {len(rows)})" if found.graphs < len(rows) else "")


def _objectives() -> Iterator[str]:
    lines = _lines("objectives")

    def of(name: str, **wanted: object) -> list[dict[str, Any]]:
        asked = {"table": name, **wanted}
        return [line for line in lines if all(line.get(key) == value for key, value in asked.items())]

    traffic = of("traffic", device="npu-8mb")
    free, within = ([line[key][0] for line in of("streams", streams=2)] for key in ("free", "within"))
    arenas = [line["arena"] / line["peak"] for line in of("arena")]
    refined = sorted(line["refined"] / line["start"] for line in of("refine"))
    yield "| | program order | topoformer |"
    yield "|---|---:|---:|"
    moved = [line["ours"] / line["program"] for line in traffic]
    yield f"| bytes on and off 8 MiB, {len(traffic)} networks | 1 | {_span(moved)} |"
    yield f"| seconds on 2 streams of an H100, {len(free)} networks | 1 | {_span(free)} |"
    yield f"| the same, holding no more memory than the program order | 1 | {_span(within)} |"
    yield f"| arena over peak, {len(arenas)} networks | | {max(arenas):.3f} at most |"
    said = ", ".join(f"{value:.2f}" for value in refined)
    yield f"| measured heap or peak over that of the best order by simulation, {len(refined)} cases | 1 | {said} |"


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}, median {median(values):.2f}"


def _growth() -> Iterator[str]:
    from bench.scaling import scaling_table

    yield from (line for line in scaling_table(_lines("scale")) if line)


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "steps": _steps,
    "networks": _networks,
    "sets": _sets,
    "rivals": _rivals,
    "objectives": _objectives,
    "growth": _growth,
}
