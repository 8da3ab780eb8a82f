"""``python -m topoformer.net.traced FOLDER``: small variants of the zoo's networks as graph files, for training."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from graphs import Graph
from topoformer.net.data import save_traced

WIRED = ((10, 64), (16, 64), (24, 64), (32, 64), (20, 64), (28, 64))  # nodes a stage, pixels; seeds from 1000
TINY = {"filters": 8, "resolution": 64}
THIN = {"channels": 8, "resolution": 64}
Variant = tuple[str, dict[str, Any]]  # factory of the zoo, its arguments
PLAIN: dict[str, Variant] = {
    "nasnet1": ("nasnet_a", {"cells": 1, **TINY}),
    "nasnet2": ("nasnet_a", {"cells": 2, **TINY}),
    "pnas1": ("pnasnet", {"cells": 1, **TINY}),
    "pnas2": ("pnasnet", {"cells": 2, **TINY}),
    "darts6": ("darts", {"layers": 6, **THIN}),
    "darts10": ("darts", {"layers": 10, **THIN}),
    "amoeba6": ("amoebanet", {"layers": 6, **THIN}),
    "amoeba9": ("amoebanet", {"layers": 9, **THIN}),
    "unetpp4": ("unet_plus_plus", {"depth": 4, **THIN}),
    "unetpp5": ("unet_plus_plus", {"depth": 5, **THIN}),
    "hrnet": ("hrnet", {"modules": (1, 1, 1), "blocks": 1, **THIN}),
    "hrnet2": ("hrnet", {"modules": (1, 2, 1), "blocks": 2, **THIN}),
    "bifpn2": ("bifpn", {"layers": 2, "channels": 16}),
    "bifpn4": ("bifpn", {"layers": 4, "channels": 16}),
    "moe2": ("moe", {"layers": 2, "dim": 64, "experts": 4}),
    "moe3": ("moe", {"layers": 3, "dim": 64, "experts": 8}),
    "tr4": ("transformer", {"layers": 4, "dim": 64}),
    "resnet": ("resnet18", {"resolution": 64, "channels": 16}),
    "mobile": ("mobilenet", {"resolution": 64}),
    "dense": ("densenet", {"blocks": (4, 6, 4), "resolution": 64}),
    "incep": ("inception", {"resolution": 96, "channels": 16}),
    "lstm": ("lstm", {"steps": 8, "layers": 2, "hidden": 32}),
    "treelstm": ("tree_lstm", {"leaves": 16, "hidden": 32}),
    "treelstm3": ("tree_lstm", {"leaves": 24, "arity": 3, "hidden": 32}),
    "treelstmr": ("tree_lstm", {"leaves": 24, "balanced": False, "hidden": 32, "seed": 5}),
}
RANDOM: dict[str, Variant] = {
    f"randwire_{model}_{number}": (
        f"randwire_{model}",
        {"seed": 1000 + number, "nodes": nodes, "resolution": pixels, "channels": 16},
    )
    for model in ("ws", "er", "ba")
    for number, (nodes, pixels) in enumerate(WIRED)
}
VARIANTS = PLAIN | RANDOM  # by the name of the file


def trace(name: str) -> Graph:
    """The graph of one variant."""
    from graphs.fx import from_fx
    from graphs.models import ZOO
    from topoformer.pytorch import capture

    factory, arguments = VARIANTS[name]
    return from_fx(capture(*ZOO[factory](**arguments)), name=name)


def main(folder: str) -> None:
    """Write every variant that is not in ``folder`` yet."""
    save_traced(Path(folder), [(name, partial(trace, name)) for name in VARIANTS])


if __name__ == "__main__":
    main(*sys.argv[1:])
