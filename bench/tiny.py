"""Many kinds of models, each so small that it runs forward and backward in a moment: for checks that need real runs."""

from typing import Any

import torch
from torch import nn

from graphs.models import ZOO

# Options of the networks of graphs.models, where the default size takes longer than it has to.
SMALL: dict[str, dict[str, int | float]] = {
    "randwire_ws": {"nodes": 8, "resolution": 32},
    "randwire_er": {"nodes": 8, "p": 0.4, "resolution": 32},
    "randwire_ba": {"nodes": 8, "m": 3, "resolution": 32},
    "nasnet_a": {"cells": 1, "filters": 48, "resolution": 64},
    "pnasnet": {"cells": 1, "resolution": 64},
    "darts": {"layers": 4, "resolution": 64},
    "amoebanet": {"layers": 4, "resolution": 64},
    "unet_plus_plus": {"resolution": 64},
    "hrnet": {"resolution": 64},
    "bifpn": {"resolution": 128},
    "lstm": {"steps": 6},
    "resnet18": {"channels": 16, "resolution": 64},
    "mobilenet": {"resolution": 64},
    "densenet": {"resolution": 64},
    "inception": {"resolution": 64},
    "tree_lstm": {"leaves": 12},
}


def _ids(vocabulary: int = 64, count: int = 16) -> torch.Tensor:
    return torch.arange(2 * count).reshape(2, count) * 7 % (vocabulary - 3) + 2


def _image(side: int, channels: int = 3) -> torch.Tensor:
    return torch.linspace(-1, 1, 2 * channels * side * side).mul(50).sin().reshape(2, channels, side, side)


WORDS: dict[str, Any] = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
NARROW: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
PATCHES: dict[str, Any] = {"image_size": 32, "patch_size": 8}
SWIN: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
# options of the configuration; inputs
HUGGING_FACE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Bert": (NARROW | WORDS, {"input_ids": _ids()}),
    "GPT2": (WORDS | {"n_layer": 2, "n_embd": 32, "n_head": 2}, {"input_ids": _ids(), "use_cache": False}),
    "Llama": (NARROW | WORDS | {"num_key_value_heads": 1}, {"input_ids": _ids(), "use_cache": False}),
    "T5": (
        WORDS | {"num_layers": 2, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_heads": 2},
        {"input_ids": _ids(), "decoder_input_ids": _ids(), "use_cache": False},
    ),
    "ViT": (NARROW | PATCHES, {"pixel_values": _image(32)}),
    "Swin": (SWIN, {"pixel_values": _image(32)}),
    "CLIP": (
        {"text_config": NARROW | WORDS, "vision_config": NARROW | PATCHES, "projection_dim": 16},
        {"input_ids": _ids(), "pixel_values": _image(32)},
    ),
    "Whisper": (
        WORDS
        | {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "decoder_start_token_id": 1}
        | {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
        | {"num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 32},
        {"input_features": _image(40, 8)[:, :, 0], "decoder_input_ids": _ids(), "use_cache": False},
    ),
    "Segformer": (
        {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 1, 2, 2]},
        {"pixel_values": _image(64)},
    ),
    "Mask2Former": (
        {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "encoder_feedforward_dim": 32}
        | {"dim_feedforward": 32, "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 8},
        {"pixel_values": _image(64)},
    ),
    "Mamba": (
        {"vocab_size": 64, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2},
        {"input_ids": _ids(), "use_cache": False},
    ),
}
NAMES = (*ZOO, *HUGGING_FACE)


def tiny(name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """The model of that name with random weights, always the same, and its arguments, by place and by name."""
    if name in ZOO:
        module, inputs = ZOO[name](batch=2, **SMALL.get(name, {}))
        return module, inputs, {}
    options, keywords = HUGGING_FACE[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _hugging_face(name, options), (), keywords


def _hugging_face(name: str, options: dict[str, Any]) -> nn.Module:
    import transformers

    if name == "Mask2Former":
        swin = SWIN | {"image_size": 64, "out_features": ["stage1", "stage2", "stage3", "stage4"]}
        swin |= {"depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "embed_dim": 8}
        options = options | {"backbone_config": transformers.SwinConfig(**swin)}
    configuration = getattr(transformers, f"{name}Config")(**options)
    model: nn.Module = getattr(transformers, f"{name}Model")(configuration)
    return model.eval()
