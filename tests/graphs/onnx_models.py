"""ONNX models for the tests: small ones from text, real ones from the onnx package, exports of PyTorch networks."""

import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import parser

LIGHT_FOLDER = Path(onnx.__file__).parent / "backend/test/data/light"
LIGHT = sorted(path.stem for path in LIGHT_FOLDER.glob("light_*.onnx"))  # real networks, their weights made on the fly
EXPORTED = ("transformer", "resnet18", "unet_plus_plus", "mobilenet")
HUGGING_FACE = ("bert", "bert_dynamic", "gpt2")
DIMS = {"batch": 3, "seq": 6}
VALUES = "<float one = {1.0}, int64[1] zero = {0}, int64[1] minus = {-1}>"


def model(body, *, inputs="float[4, 6] x", outputs="float[4, 6] y", values=VALUES, weights=None, opset=20, more=""):
    """``(inputs) => (outputs) {body}`` as a ModelProto; ``weights`` are shapes of initializers that are 0."""
    header = f'<ir_version: 10, opset_import: ["": {opset}, "com.microsoft": 1, "custom": 1]>'
    made = parser.parse_model(f"{header} small ({inputs}) => ({outputs}) {values} {{ {body} }} {more}")
    for name, shape in (weights or {}).items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name))
    return made


def exported(name, folder):
    """The file of a network that PyTorch's exporter wrote, with random weights, into ``folder``."""
    import torch

    module, args, kwargs, dynamic = _network(name)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), args, kwargs=kwargs, dynamo=True, dynamic_shapes=dynamic, verbose=False
        )
    path = Path(folder) / f"{name}.onnx"
    program.save(path, external_data=False)
    return path


def _network(name):
    import torch

    if name not in HUGGING_FACE:
        import graphs.models

        module, args = getattr(graphs.models, name)()
        return module, args, None, None
    import transformers

    ids = {"input_ids": torch.zeros(3, 6, dtype=torch.long)}
    if name.startswith("bert"):
        config = transformers.BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=50
        )
        batch, seq = torch.export.Dim("batch"), torch.export.Dim("seq")
        dynamic = {"input_ids": {0: batch, 1: seq}} if name == "bert_dynamic" else None
        return transformers.BertModel(config), (), ids, dynamic
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=32)
    return transformers.GPT2Model(config), (), {**ids, "use_cache": False}, None


def inputs_for(proto, seed=0):
    """A random array for each input, symbolic dimensions at DIMS."""
    rng = np.random.default_rng(seed)
    weights = {tensor.name for tensor in proto.graph.initializer}
    feeds = {}
    for value in proto.graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        shape = [DIMS.get(dim.dim_param, dim.dim_value) for dim in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        feeds[value.name] = (rng.random(shape) * 2).astype(dtype)
    return feeds


def random_order(graph, seed):
    """A random legal order of ``graph``, int32[n]."""
    rng = np.random.default_rng(seed)
    waiting = np.diff(graph.preds.ptr)
    ready = [v for v in range(graph.n) if waiting[v] == 0]
    order = []
    while ready:
        order.append(ready.pop(rng.integers(len(ready))))
        for v in graph.succs.row(order[-1]).tolist():
            waiting[v] -= 1
            if waiting[v] == 0:
                ready.append(v)
    return np.array(order, np.int32)
