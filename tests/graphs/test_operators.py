"""PyTorch's operators from its own test database: what the capture says of each is what a run does.

Each sample is traced as it is, on views with gaps, in place, with ``out=`` and with its backward pass. A fixed part of
the database, all operators that ever disagreed among them; `python -m tests.graphs.test_operators` runs all of it, on
another device where one is named.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

import graphs
from graphs import UnsupportedOp, fx_trace
from tests.reality import Case, contents, disagreements, run, tensors_in, twins

try:
    from torch.testing._internal.common_methods_invocations import op_db
except ImportError as error:  # it needs packages that torch itself does not
    op_db, MISSING = [], f"torch's operator database cannot be imported: {error}"
else:
    MISSING = ""

FAILED_ONCE = (
    *("nn.functional.mse_loss", "nn.functional.smooth_l1_loss", "nn.functional.soft_margin_loss"),
    *("nn.functional.binary_cross_entropy", "nn.functional.embedding_bag", "nn.functional.unfold"),
    *("select_scatter", "slice_scatter", "diagonal_scatter", "as_strided_scatter", "as_strided", "to_sparse"),
    *("ravel", "expand_as", "dot", "vdot", "stft", "istft"),
)
EVERY = 4  # of the others, one in so many
UNINITIALISED = ("empty", "new_empty")  # names begin so: their results are whatever was there before


def chosen() -> list[Any]:
    return [op for i, op in enumerate(op_db) if op.name in FAILED_ONCE or i % EVERY == 0]


def with_gaps(x: torch.Tensor) -> torch.Tensor:
    if not x.dim():
        return x
    wide = x.new_zeros([2 * n + 3 for n in x.shape])
    return wide[tuple(slice(1, 1 + 2 * n, 2) for n in x.shape)].copy_(x)


def as_case(function: Callable[..., Any], call: Any, layout: Callable[[torch.Tensor], torch.Tensor]) -> Case:
    leaves, spec = tree_flatten(call)
    where = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    inputs = tuple(layout(leaves[i].detach()) for i in where)

    def flat(*tensors: torch.Tensor) -> Any:
        values = dict(enumerate(leaves)) | dict(zip(where, tensors, strict=True))
        args, kwargs = tree_unflatten([values[i] for i in range(len(leaves))], spec)
        return function(*args, **kwargs)

    module = make_fx(flat)(*twins(inputs))
    for node, value in zip(module.graph.find_nodes(op="placeholder"), inputs, strict=True):
        node.meta["val"] = value  # make_fx notes shapes only
    return Case(module, inputs)


def with_backward(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        def leaf(x: torch.Tensor) -> torch.Tensor:
            return x.detach().requires_grad_(x.is_floating_point())

        args, kwargs = tree_map_only(torch.Tensor, leaf, (args, kwargs))
        with torch.enable_grad():
            results = [result for result in tensors_in(function(*args, **kwargs)) if result.requires_grad]
            inputs = [value for value in tensors_in((args, kwargs)) if value.requires_grad]
            return results, torch.autograd.grad([r.sum() for r in results], inputs, allow_unused=True)

    return call


def ways(op: Any, sample: Any) -> Iterator[tuple[str, Callable[..., Any], Any]]:
    """(name, function, its arguments) for each way of calling ``op``."""
    call = (sample.input, *sample.args), dict(sample.kwargs)
    yield "plain", op.op, call
    if op.inplace_variant is not None:
        yield "in place", op.inplace_variant, call
    if op.supports_autograd:
        yield "backward", with_backward(op.op), call
    if op.supports_out:
        args, kwargs = copy.deepcopy(call)
        out = tree_map_only(torch.Tensor, torch.zeros_like, op.op(*args, **kwargs))
        yield "out", op.op, (call[0], {**call[1], "out": out if isinstance(out, torch.Tensor) else tuple(out)})


def cases(op: Any, dtype: torch.dtype, samples: int, device: str) -> Iterator[tuple[str, Case]]:
    torch.manual_seed(0)
    drawn = list(op.sample_inputs(device, dtype))
    for sample in drawn[:: max(1, len(drawn) // samples)][:samples]:
        for layout in (torch.detach, with_gaps):
            try:
                for way, function, call in ways(op, sample):
                    yield f"{op.full_name} {dtype} {way} {layout.__name__}", as_case(function, call, layout)
            except Exception:  # the sample does not fit this way of calling, or does not trace
                continue


def wrong(case: Case, orders: int = 1) -> list[str]:
    """What the capture of ``case`` says that a run of it contradicts; [] where it is refused by name."""
    tracer = fx_trace._Tracer(case.module, (), (), {})
    try:
        facts = tracer.run()
        graph = graphs.from_fx(case.module)
    except UnsupportedOp:
        return []
    found = disagreements(case, graph, orders)
    seen = [run(case, case.module, seed).seen for seed in (7, 8)]
    if seen[0] != seen[1] and not any(step.random for step in facts.steps):
        found.append("draws random numbers")
    inputs = twins(case.inputs)
    with torch.no_grad():
        results = tensors_in(case.module(*inputs))
    changed = set().union(*(step.changes for step in facts.steps))
    placeholders = case.module.graph.find_nodes(op="placeholder")
    for node, before, after in zip(placeholders, case.inputs, inputs, strict=True):
        tensor = tracer.tensor_of[fx_trace.storage_key(tracer.env[node])]
        if contents(before) != contents(after) and tensor not in changed:
            found.append(f"changes {node.name}")
    out = torch.fx.node.map_arg(case.module.graph.output_node().args[0], tracer.env.__getitem__)
    fakes = [tracer.env[node] for node in placeholders]
    if shared([*inputs, *results]) != shared([*fakes, *tensors_in(out)]):
        found.append("other values share memory")
    return found


def shared(values: list[torch.Tensor]) -> list[int]:
    """For each tensor with memory, the place of the first that has the same."""
    keys = [fx_trace.storage_key(tensor) for tensor in values]
    return [keys.index(key) if x.untyped_storage().nbytes() else -1 for key, x in zip(keys, values, strict=True)]


def disagreeing(op: Any, dtypes: tuple[torch.dtype, ...], samples: int, device: str = "cpu") -> list[str]:
    usable = [dtype for dtype in dtypes if dtype in op.supported_dtypes(torch.device(device).type)]
    if op.name.startswith(UNINITIALISED):
        return []
    return [
        f"{name}: {text}"
        for dtype in usable
        for name, case in cases(op, dtype, samples, device)
        for text in wrong(case)[:1]
    ]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(8))
def test_operators_do_what_their_graph_says(part: int) -> None:
    for op in chosen()[part::8]:
        assert disagreeing(op, (torch.float32,), samples=3 if op.name in FAILED_ONCE else 1) == []


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.autograd.set_multithreading_enabled(False)  # an accelerator's backward pass, too, is traced in this thread
    every = (torch.float32, torch.float16, torch.int64, torch.complex64, torch.bool)
    for op in op_db:
        for text in disagreeing(op, every, samples=4, device=(*sys.argv[1:], "cpu")[0]):
            print(text, file=sys.stdout, flush=True)
