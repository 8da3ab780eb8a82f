"""The way back from an order to a program, for every kind of program that a graph can come from."""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import fx
    from torch.export import ExportedProgram

Program = TypeVar("Program", "fx.GraphModule", "ExportedProgram", "ModelProto")


def apply_order(program: Program, order: npt.ArrayLike) -> Program:
    """A copy of ``program`` whose calls stand in ``order``; what it computes, and its weights, are the same.

    Args:
        program: the GraphModule or ExportedProgram that :func:`graphs.from_fx` was given, or the ModelProto that
            :func:`graphs.from_onnx` was.
        order: int[n], a legal order of that graph's nodes: :func:`graphs.check_order` tells.

    Raises:
        GraphError: not a permutation of the program's calls, or a value would be used before it is made.

    Example:
        >>> import torch, graphs
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> program = make_fx(lambda x: (x.sin(), x.cos()))(torch.ones(2))
        >>> graphs.from_fx(program).labels
        ('sin', 'cos')
        >>> [node.name for node in graphs.apply_order(program, [1, 0]).graph.nodes]
        ['x_1', 'cos', 'sin', 'output']
    """
    apply: Any
    if type(program).__module__.partition(".")[0] == "onnx":
        from graphs.onnx import apply_order as apply
    else:
        from graphs.fx import apply_order as apply
    result: Program = apply(program, order)
    return result
