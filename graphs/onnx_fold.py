"""Sizes that an ONNX model computes: small constant tensors are worked out where the sizes of others hang on them.

``Shape -> Gather -> Concat -> Reshape`` and the like. The onnx library's own shape inference stops where a value is
not merely passed on, so nodes are looked at once more one by one, in order, with what the constants before them hold.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.defs import OpSchema, SchemaError, get_schema
from onnx.shape_inference import infer_node_outputs

from graphs.onnx_functions import first_line
from graphs.onnx_structure import STANDARD, subgraphs
from graphs.onnx_types import Value, type_of, value_of

SMALL = 1 << 12  # elements of a constant that is worked out
INTEGERS = frozenset([TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT])
# What sizes are computed with. Each gives as many elements as its inferred shape says, so none can fill the memory.
FOLDED = frozenset([
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Concat", "Constant", "ConstantOfShape", "CumSum", "Div",
    "Equal", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual",
    "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Range",
    "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "ScatterElements", "ScatterND",
    "Sign", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze",
    "Where", "Xor",
])  # fmt: skip
# Operators, most of ONNX Runtime's own, whose first output is as large as their first input.
ALIKE = frozenset(
    ["MeanVarianceNormalization", "GroupNormalization", "com.microsoft.GroupNorm"]
    + [f"com.microsoft.{name}" for name in ("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "BiasSoftmax")]
    + [f"com.microsoft.{name}" for name in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")]
    + ["com.microsoft.RotaryEmbedding", "SimplifiedLayerNormalization"]
)
# ONNX Runtime's fusions of an operator of ONNX with the activation or the sum behind it.
TWINS = {"FusedConv": "Conv", "FusedGemm": "Gemm"}


class Folding:
    """One pass over the nodes of ``model``, in order; what it finds is added to ``known``.

    What follows from types and initializers alone, without working anything out, is added to ``plain`` too.
    """

    def __init__(self, model: ModelProto, known: dict[str, Value], plain: set[str]) -> None:
        self.graph: GraphProto = model.graph
        self.known = known
        self.plain = plain
        self.initializers = frozenset(tensor.name for tensor in model.graph.initializer)
        self.imports = list(model.opset_import)
        self.versions = {
            "" if entry.domain in STANDARD else entry.domain: entry.version for entry in model.opset_import
        }
        self.constants: dict[str, npt.NDArray[np.generic]] = {}
        self.reasons: dict[str, str] = {}  # why the library could not tell the size of a value
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}

    def run(self) -> None:
        """Look at every node once."""
        for node in self.graph.node:
            unknown = [output for output in node.output if output and output not in self.known]
            if unknown and node.op_type == "Loop":
                self._carried(node)
            elif unknown and not subgraphs(node):
                self._infer(node)
                read = [name for name in node.input if name]
                if self.plain.issuperset(read) and all(
                    name in self.initializers for name in read if name in self.constants
                ):
                    self.plain.update(output for output in node.output if output in self.known)
            if self._worth_folding(node):
                self._fold(node)

    def _infer(self, node: NodeProto) -> None:
        name = f"{node.domain}.{node.op_type}" if node.domain not in STANDARD else node.op_type
        first = next(iter(node.input), "")
        if name in ALIKE and first in self.known:
            self.known[node.output[0]] = self.known[first]
            return
        if name == "Dropout" and first in self.known:  # old ones leave out the mask
            dropped = self.known[first]
            mask = dropped.element if self.versions.get("", 1) < 10 else TensorProto.BOOL
            self.known |= zip(node.output, (dropped, Value(mask, dropped.shape)), strict=False)
            return
        inputs = [item for item in node.input if item]
        schema, node = self._schema(node)
        if schema is None or not all(item in self.known for item in inputs):
            return
        data = {item: numpy_helper.from_array(array) for item in inputs if (array := self._constant(item)) is not None}
        try:
            types = {item: type_of(self.known[item]) for item in inputs}
            outputs = infer_node_outputs(schema, node, types, data, opset_imports=self.imports)
        except Exception as error:  # a node that contradicts itself: its outputs stay unknown, and are refused by name
            self.reasons |= dict.fromkeys(node.output, first_line(error))
            return
        for output, kind in outputs.items():
            if output not in self.known and (value := value_of(output, kind)) is not None:
                self.known[output] = value

    def _carried(self, node: NodeProto) -> None:
        """What a Loop carries along is as large in the end as before, if its body says that it does not change that."""
        for body in subgraphs(node):
            for before, output, after in zip(node.input[2:], node.output, body.output[1:], strict=False):
                if before in self.known and value_of(after.name, after.type) == self.known[before]:
                    self.known[output] = self.known[before]

    def _schema(self, node: NodeProto) -> tuple[OpSchema | None, NodeProto]:
        """How the library understands ``node``, or one that gives the same sizes."""
        if node.domain == "com.microsoft" and node.op_type in TWINS:
            twin = NodeProto(op_type=TWINS[node.op_type], input=node.input[:3], output=node.output)
            twin.attribute.extend(item for item in node.attribute if not item.name.startswith("activation"))
            node = twin
        domain = "" if node.domain in STANDARD else node.domain
        try:
            return get_schema(node.op_type, self.versions.get(domain, 1), domain), node
        except SchemaError:
            return None, node

    def _worth_folding(self, node: NodeProto) -> bool:
        if node.domain not in STANDARD or node.op_type not in FOLDED | {"Shape", "Size"}:
            return False
        outputs = [self.known.get(output) for output in node.output if output]
        return all(value is not None and value.count <= SMALL and value.element in INTEGERS for value in outputs)

    def _fold(self, node: NodeProto) -> None:
        inputs = {name: self._constant(name) for name in node.input if name}
        if node.op_type in ("Shape", "Size"):
            if (measured := self.known.get(next(iter(node.input), ""))) is not None:
                self.constants[node.output[0]] = _measured(node, measured)
            return
        if any(value is None for value in inputs.values()):
            return
        from onnx.reference import ReferenceEvaluator  # slow to load, and seldom needed

        try:
            with np.errstate(all="ignore"):
                made = ReferenceEvaluator(node, opsets=self.versions).run(None, inputs)
        except Exception:  # it stays unknown, and what hangs on it is refused by name
            return
        self._keep(node.output, made)

    def _keep(self, names: Iterable[str], made: Iterable[object]) -> None:
        for name, value in zip(names, made, strict=False):
            array = np.asarray(value)
            if name and array.size <= SMALL and array.shape == self.known[name].shape:
                self.constants[name] = array

    def _constant(self, name: str) -> npt.NDArray[np.generic] | None:
        """What ``name`` holds, if that is known, small, and of a kind that sizes are computed with."""
        if name not in self.constants and (tensor := self.stored.pop(name, None)) is not None:
            value = self.known.get(name)
            usable = tensor.data_location != TensorProto.EXTERNAL and tensor.data_type in INTEGERS
            if usable and value is not None and value.count <= SMALL:
                try:
                    self.constants[name] = numpy_helper.to_array(tensor)
                except Exception:  # fewer data than its shape says: nobody's size hangs on it, or that one is refused
                    return None
        return self.constants.get(name)


def _measured(node: NodeProto, value: Value) -> npt.NDArray[np.int64]:
    """What a Shape or Size node gives for ``value``."""
    if node.op_type == "Size":
        return np.asarray(value.count, np.int64)
    ends = {attribute.name: attribute.i for attribute in node.attribute}
    rank = len(value.shape)
    start, end = (
        max(0, min(rank, at + rank if at < 0 else at)) for at in (ends.get("start", 0), ends.get("end", rank))
    )
    return np.asarray(value.shape[start : max(start, end)], np.int64)
