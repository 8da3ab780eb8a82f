"""The learning curve of the shipped weights: validation gaps over training time, from JSON to a picture."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SHOWN = (("layered 500", "greedy"), ("layered 500", "best of 64"), ("mixed", "best of 64"))


def table() -> Iterator[str]:
    """Draw the picture and say where it is."""
    from matplotlib.figure import Figure

    curves: dict[str, list[dict[str, Any]]] = json.loads((RESULTS / "learning_curve.json").read_text())
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for (decoder, entries), style in zip(curves.items(), ("-", "--"), strict=True):
        minutes = [entry["seconds"] / 60 for entry in entries]
        for colour, (group, method) in enumerate(SHOWN):
            gaps = [100 * entry["gap"][group][method] for entry in entries]
            axes.plot(minutes, gaps, style, color=f"C{colour}", label=f"{decoder}: {group}, {method}")
    axes.axhline(0.0, color="black", linewidth=0.5)
    axes.set(ylim=(-3, 8), xlabel="minutes on one H100 and 16 cores", ylabel="gap to a beam of width 1,000, %")
    axes.legend(fontsize=7)
    target = RESULTS / "learning_curve.svg"
    figure.savefig(target, metadata={"Date": None})
    yield f"drawn: {target.relative_to(RESULTS.parent.parent)}"
