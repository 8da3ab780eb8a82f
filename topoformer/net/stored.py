"""Trained weights: a safetensors file beside a JSON of what they are and how they were made."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.errors import unknown_name
from topoformer.net.encoder import Encoder
from topoformer.net.features import VERSION

if TYPE_CHECKING:
    from topoformer.net.model import Topoformer

FOLDER = Path(__file__).parent / "weights"
FORMAT = "topoformer.weights"


class WeightsError(ValueError):
    """Weights that this version cannot use; says why in one line."""


def save_weights(stem: Path, network: "Topoformer", about: dict[str, Any]) -> None:
    """Write ``stem.safetensors``, in 16 bits, and ``stem.json`` with ``about``."""
    from safetensors.numpy import save_file

    tensors = {name: value.detach().cpu().numpy().astype(np.float16) for name, value in network.state_dict().items()}
    save_file(tensors, stem.with_suffix(".safetensors"))
    head = {"format": FORMAT, "feature_version": VERSION, "arguments": network.size.to_json()}
    stem.with_suffix(".json").write_text(json.dumps({**head, **about}, indent=1) + "\n")


def about(decoder: str = "dynamic", folder: Path = FOLDER) -> dict[str, Any]:
    """The JSON beside the weights of ``decoder``.

    Raises:
        ValueError: there is no such decoder.
        WeightsError: the file is not there or is of another version.
    """
    if decoder not in ("dynamic", "static"):
        raise ValueError(unknown_name("decoder", decoder, ("dynamic", "static")))
    path = folder / f"{decoder}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise WeightsError(f"there are no weights at '{path}'") from None
    if found.get("format") != FORMAT:
        raise WeightsError(f"'{path}' must have format '{FORMAT}' (got {found.get('format')!r})")
    if found.get("feature_version") != VERSION:
        raise WeightsError(
            f"'{path}' was trained on features of version {found.get('feature_version')}, this is version {VERSION}"
        )
    return found


def load_encoder(decoder: str = "dynamic", folder: Path = FOLDER) -> Encoder:
    """The trained network, for inference without PyTorch.

    Raises:
        ValueError, WeightsError: as :func:`about`.
    """
    from safetensors.numpy import load_file

    arguments = about(decoder, folder)["arguments"]
    tensors = {name: x.astype(np.float32) for name, x in load_file(folder / f"{decoder}.safetensors").items()}
    return Encoder(tensors, arguments["layers"], arguments["head"], decoder)
