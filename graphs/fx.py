"""PyTorch programs as graphs, and graphs' orders as PyTorch programs.

:func:`from_fx` is the way in, :func:`apply_order` the way back. A node of the graph is one operator call together with
the ``getitem`` calls that unpack it; arguments, attributes and the check of the inputs stay first, the output last.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import numpy.typing as npt
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from graphs.errors import GraphError
from graphs.fx_operators import operator_name
from graphs.fx_order import RULES
from graphs.fx_trace import steps_of, trace
from graphs.graph import Graph

Program = TypeVar("Program", fx.GraphModule, ExportedProgram)
RECORDER = "topoformer/pytorch/step_capture.py"  # calls the user's model, and is not it
SELF = re.compile(r"^L\['self'\]\.?")  # how Dynamo begins a path
FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def from_fx(
    program: fx.GraphModule | ExportedProgram,
    *,
    name: str | None = None,
    weights: Collection[str] = (),
    donated: Collection[str] = (),
) -> Graph:
    """The graph of an aten-level program from ``torch.export``, ``make_fx`` or AOTAutograd.

    The program is watched while it runs on tensors without data; no memory is spent on weights or activations.
    Symbolic sizes count at their hints. Sizes are those of the storages, as the allocator is asked for them; memory
    that a kernel takes and returns within its own run is not seen. Arguments have the memory that their
    ``meta["val"]`` have, and share it where these do: ``make_fx`` in its default tracing mode forgets what its inputs
    share, with ``tracing_mode="fake"`` it does not.

    Args:
        program: not changed. Placeholders need ``meta["val"]``.
        name: of the graph; by default the program's class name.
        weights: names of placeholders to report as weights; attributes and an ExportedProgram's lifted ones are known.
        donated: names of placeholders that the caller gives away, as a boxed call does: freed after their last use.

    Raises:
        UnsupportedOp: a call is not understood (higher-order operators, collectives, functions without a schema,
            sizes that only a run can tell); names the node.
        GraphError: ``weights`` or ``donated`` names no placeholder.

    Example:
        >>> import torch
        >>> from graphs import from_fx
        >>> program = torch.export.export(torch.nn.Linear(256, 1), (torch.ones(8, 256),))
        >>> from_fx(program, name="linear")
        <Graph 'linear': 1 nodes, 4 tensors (1 output, 1 input, 2 weight), 0 edges, writes 32 B, resident 9.00 KiB>
    """
    module = program.graph_module if isinstance(program, ExportedProgram) else program
    values: dict[str, Any] = {}
    if isinstance(program, ExportedProgram):
        values = _lifted(program)
        weights = {*weights, *values}
    _check_placeholders(module.graph, weights, donated)
    facts = trace(module, weights=weights, donated=donated, values=values)
    steps, storages = facts.steps, facts.storages
    return Graph.build(
        name=name if name is not None else _program_name(module),
        labels=[step.node.name for step in steps],
        ops=[operator_name(step.node.target) for step in steps],
        reads=[sorted(step.reads) for step in steps],
        writer=[storage.writer for storage in storages],
        size=[storage.bytes for storage in storages],
        kind=[storage.kind for storage in storages],
        after=sorted({pair for rule in RULES for pair in rule(facts)}),
        flops=[step.flops for step in steps],
        moved=[step.moved for step in steps],
        dtypes=[step.dtype for step in steps],
        tensor_names=[storage.name for storage in storages],
        types=[storage.type for storage in storages],
        modules=[_module(step.node) for step in steps],
        sources=[_source(step.node) for step in steps],
    )


def apply_order(program: Program, order: npt.ArrayLike) -> Program:
    """A copy of ``program`` whose calls stand in ``order``; parameters and buffers are shared with it.

    Args:
        program: the GraphModule or ExportedProgram that :func:`from_fx` was given.
        order: int[n], a legal order of that graph's nodes: :func:`graphs.check_order` tells.

    Raises:
        GraphError: not a permutation of the program's calls, or a value would be used before it is made.
    """
    if isinstance(program, ExportedProgram):
        return _rebuilt(program, _reordered(program.graph, order))
    result = fx.GraphModule(program, _reordered(program.graph, order), type(program).__name__)
    result.meta = dict(program.meta)
    return result


def _reordered(graph: fx.Graph, order: npt.ArrayLike) -> fx.Graph:
    import numpy as np

    result = copied(graph)
    steps = steps_of(result)
    wanted = np.asarray(order)
    if wanted.shape != (len(steps),) or sorted(wanted.tolist()) != list(range(len(steps))):
        raise GraphError(f"'order' must be a permutation of the program's {len(steps)} calls")
    moved = {node for step in steps for node in (step.node, *step.unpacks)}
    fixed = [node for node in result.nodes if node not in moved and node.op != "output"]
    end = result.output_node()
    for node in fixed:
        end.prepend(node)
    for index in wanted.tolist():
        for node in (steps[index].node, *steps[index].unpacks):
            end.prepend(node)
    _check_uses(result)
    return result


def copied(graph: fx.Graph) -> fx.Graph:
    """A copy with the same node names: exported programs have some that fx itself would not give, such as ``input``."""
    result = fx.Graph(tracer_cls=graph._tracer_cls)
    copies: dict[fx.Node, fx.Node] = {}
    output = result.output(result.graph_copy(graph, copies))
    output.meta = dict(graph.output_node().meta)
    for node, copied in copies.items():
        copied.name = node.name
    result.set_codegen(graph._codegen)
    result.owning_module = graph.owning_module  # to tell the guard from other modules
    return result


def _check_uses(graph: fx.Graph) -> None:
    seen: set[fx.Node] = set()
    for node in graph.nodes:
        if late := next((source for source in node.all_input_nodes if source not in seen), None):
            raise GraphError(f"order is not legal: node '{node.name}' must run after node '{late.name}'")
        seen.add(node)


def _rebuilt(program: ExportedProgram, graph: fx.Graph) -> ExportedProgram:
    module = fx.GraphModule(program.graph_module, graph)
    module.meta = dict(program.graph_module.meta)
    return ExportedProgram(
        root=module,
        graph=graph,
        graph_signature=program.graph_signature,
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=program.verifiers,
    )


def _lifted(program: ExportedProgram) -> dict[str, Any]:
    """Values of the placeholders that stand for parameters, buffers and constants."""
    stored: Mapping[str, Any] = {**program.state_dict, **program.constants}
    return {
        spec.arg.name: stored[spec.target]
        for spec in program.graph_signature.input_specs
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
        and isinstance(stored.get(spec.target or ""), torch.Tensor)
    }


def _check_placeholders(graph: fx.Graph, weights: Collection[str], donated: Collection[str]) -> None:
    known = {node.name for node in graph.nodes if node.op == "placeholder"}
    for what, names in (("weights", weights), ("donated", donated)):
        if missing := next((name for name in names if name not in known), None):
            raise GraphError(f"'{what}' names '{missing}', which is no placeholder of the program")


def _program_name(module: fx.GraphModule) -> str:
    name = type(module).__name__
    return "program" if name in ("GraphModule", "GraphModuleImpl") else name


def _module(node: fx.Node) -> str:
    """The innermost module of the user's program that the call, or the one whose gradient it is, was made in."""
    stack = node.meta.get("nn_module_stack") or node.meta.get("fwd_nn_module_stack") or {}
    path = next((str(path) for path, *_ in reversed(stack.values())), "")
    return SELF.sub("", path)


def _source(node: fx.Node) -> str:
    """The innermost line of the user's own code in the node's stack trace, as "model.py:12"."""
    frames = [frame for frame in FRAME.findall(node.meta.get("stack_trace") or "") if not frame[0].endswith(RECORDER)]
    own = [frame for frame in frames if "/torch/" not in frame[0]] or frames
    return f"{own[-1][0]}:{own[-1][1]}" if own else ""
