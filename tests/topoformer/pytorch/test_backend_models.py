"""torch.compile(backend="topoformer") on whole models: aot_eager's bits, and never more memory by measurement."""

import gc

import pytest

from bench.backend import close, run, same
from bench.tiny import HUGGING_FACE

# Ten different ones, each in a moment, and how much of aot_eager's peak there must be at most; all are in
# ``python -m bench backend``.
MODELS = {
    ("resnet18", "training"): 0.9,
    ("transformer", "training"): 1,
    ("lstm", "inference"): 1,
    ("lstm", "training"): 0.96,
    ("tree_lstm", "inference"): 0.5,
    ("Bert", "inference"): 1,
    ("GPT2", "inference"): 0.8,
    ("Llama", "inference"): 1,
    ("ViT", "training"): 1,
    ("ViT", "inference"): 1,
}


@pytest.fixture(scope="module", autouse=True)
def _little_garbage():
    """Each measurement collects garbage first; what was there before any of them need not be looked through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("name", "mode"), MODELS)
def test_a_model_as_aot_eager_runs_it_in_no_more_memory(name, mode):
    if name in HUGGING_FACE:
        pytest.importorskip("transformers", reason="the extra 'test' brings transformers")
    ours = run(name, mode, "topoformer", {"cache": False, "seconds": 1.0})
    theirs = run(name, mode, "aot_eager")
    assert same(ours, theirs)
    assert ours.peak_bytes <= theirs.peak_bytes * MODELS[name, mode]
    assert ours.graphs == theirs.graphs
    assert all(hasattr(record, "schedule") for record in ours.ordered)  # none was left as it was
    assert len(ours.ordered) == ours.graphs * (2 if mode == "training" else 1)
    assert close(ours, run(name, mode, None)) < 1e-4
