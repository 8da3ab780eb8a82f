"""Hugging Face models, built from a configuration on the meta device: no weights are downloaded or allocated."""

from typing import Any

import torch
from torch import nn

from graphs import Graph

IDS = torch.zeros(1, 32, dtype=torch.long)
DEEP = {"num_hidden_layers": 2}


def _image(side: int) -> torch.Tensor:
    return torch.zeros(1, 3, side, side)


# options of the configuration, those that make it shallow; inputs
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Bert": (DEEP, {"input_ids": IDS}),
    "GPT2": ({"n_layer": 2}, {"input_ids": IDS, "use_cache": False}),
    "Llama": (DEEP, {"input_ids": IDS, "use_cache": False}),
    "T5": ({"num_layers": 2}, {"input_ids": IDS, "decoder_input_ids": IDS, "use_cache": False}),
    "ViT": (DEEP, {"pixel_values": _image(224)}),
    "Swin": ({"depths": [1, 1, 1, 1]}, {"pixel_values": _image(224)}),
    "CLIP": (
        {"text_config": DEEP, "vision_config": DEEP},
        {"input_ids": IDS, "pixel_values": _image(224)},
    ),
    "Whisper": (
        {"encoder_layers": 2, "decoder_layers": 2},
        {"input_features": torch.zeros(1, 80, 3000), "decoder_input_ids": IDS, "use_cache": False},
    ),
    "Segformer": ({"depths": [1, 1, 1, 1]}, {"pixel_values": _image(128)}),
    "Mask2Former": ({"encoder_layers": 2, "decoder_layers": 2}, {"pixel_values": _image(128)}),
    "Mamba": (DEEP, {"input_ids": IDS, "use_cache": False}),
}


def model_and_inputs(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """The base model of that name, in evaluation mode, and inputs for it."""
    import transformers

    options, inputs = MODELS[name]
    with torch.device("meta"):
        config = getattr(transformers, f"{name}Config")(**options)
        model: nn.Module = getattr(transformers, f"{name}Model")(config)
        return model.eval(), inputs


def graph_of(name: str) -> Graph:
    """What the model computes, as a graph."""
    from graphs.fx import from_fx
    from topoformer.pytorch import capture

    return from_fx(capture(*model_and_inputs(name)), name=name)
