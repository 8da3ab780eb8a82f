"""Hugging Face models, built from a configuration on the meta device: captured and ordered without their weights."""

import pytest
import torch

import graphs
import topoformer
from bench.huggingface import MODELS, model_and_inputs

pytest.importorskip("transformers", reason="the extra 'test' brings transformers")


@pytest.mark.parametrize("name", [name for name in MODELS if name != "Mask2Former"])  # ten seconds, and nothing new
def test_captured_ordered_and_handed_back(name):
    model, inputs = model_and_inputs(name)
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
