"""Hugging Face models, built from a configuration on the meta device: captured and ordered without their weights."""

import pytest
import torch

import graphs
import topoformer

transformers = pytest.importorskip("transformers", reason="the extra 'test' brings transformers")

IDS = torch.zeros(1, 32, dtype=torch.long)
DEEP = {"num_hidden_layers": 2}


def image(side):
    return torch.zeros(1, 3, side, side)


MODELS = {
    "Bert": (DEEP, {"input_ids": IDS}),
    "GPT2": ({"n_layer": 2}, {"input_ids": IDS, "use_cache": False}),
    "Llama": (DEEP, {"input_ids": IDS, "use_cache": False}),
    "T5": ({"num_layers": 2}, {"input_ids": IDS, "decoder_input_ids": IDS, "use_cache": False}),
    "ViT": (DEEP, {"pixel_values": image(224)}),
    "Swin": ({"depths": [1, 1, 1, 1]}, {"pixel_values": image(224)}),
    "CLIP": (
        {"text_config": DEEP, "vision_config": DEEP},
        {"input_ids": IDS, "pixel_values": image(224)},
    ),
    "Whisper": (
        {"encoder_layers": 2, "decoder_layers": 2},
        {"input_features": torch.zeros(1, 80, 3000), "decoder_input_ids": IDS, "use_cache": False},
    ),
    "Segformer": ({"depths": [1, 1, 1, 1]}, {"pixel_values": image(128)}),
    "Mask2Former": ({"encoder_layers": 2, "decoder_layers": 2}, {"pixel_values": image(128)}),
    "Mamba": (DEEP, {"input_ids": IDS, "use_cache": False}),
}


@pytest.mark.parametrize("name", MODELS)
def test_captured_ordered_and_handed_back(name):
    options, inputs = MODELS[name]
    with torch.device("meta"):
        model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**options)).eval()
    devices = [p.device for p in model.parameters()]
    weight_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    program = topoformer.capture(model, inputs)
    graph = graphs.from_fx(program, name=name)
    assert graph.resident_bytes >= weight_bytes
    result = topoformer.schedule(graph)
    assert result.proven_optimal
    assert result.bound_bytes <= result.cost.peak_bytes <= result.program_cost.peak_bytes
    again = graphs.from_fx(graphs.apply_order(program, result.order), name=name)
    assert graphs.peak_bytes(again) == result.cost.peak_bytes
    assert torch.device("meta") in devices
    assert [p.device for p in model.parameters()] == devices  # the caller's model is as it was
