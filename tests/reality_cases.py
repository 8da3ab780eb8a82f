"""Small programs that between them use everything the capture must get right."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from tests.reality import EFFECTS, Case, rand, traced
from tests.reality_captures import CAPTURES

aten = torch.ops.aten


@torch.library.custom_op("topoformer_tests::log", mutates_args=())
def log(x: torch.Tensor, text: str) -> None:
    EFFECTS.append(f"{text} {float(x.sum()):.6f}")


@log.register_fake
def _log_fake(_x: torch.Tensor, _text: str) -> None:
    return None


@torch.library.custom_op("topoformer_tests::accumulate", mutates_args={"totals"})
def accumulate(x: torch.Tensor, totals: list[torch.Tensor]) -> torch.Tensor:
    for total in totals:
        total.add_(x.sum())
    return x * 2


@accumulate.register_fake
def _accumulate_fake(x: torch.Tensor, _totals: list[torch.Tensor]) -> torch.Tensor:
    return torch.empty_like(x)


def lstm_cell() -> Case:
    def unrolled(x: torch.Tensor, w: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(x.shape[1], u.shape[0])
        states = []
        for step in x.unbind(0):
            i, f, g, o = (step @ w + h @ u).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            states.append(h)
        return torch.stack(states)

    return traced(unrolled, rand(4, 3, 5), rand(5, 24), rand(6, 24))


def aliased_mutation() -> Case:
    """Dropout, a write into a view, and reads before and after it, directly and through aliases."""

    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        base = F.dropout(x * 2, 0.5, training=True)
        before = base.sum(0)
        row = base[1]
        row.mul_(3)
        through_alias = base.view(-1)[:7].exp()
        noise = torch.rand_like(x)
        base.t().add_(noise.t())
        first, second = base.split(2)
        second.copy_(first * 0.5)
        return before, through_alias, base.cos(), first + second, torch.bernoulli(noise)

    return traced(program, rand(4, 6))


def split_chunk_unbind() -> Case:
    def program(x: torch.Tensor) -> torch.Tensor:
        parts = x.sin().split([1, 2, 3], 0)
        copies = torch.split_with_sizes_copy(x.exp(), [2, 4], 0)
        rows = x.cos().unbind(0)
        chunks = (x + 1).chunk(3, 1)
        return torch.cat(parts).sum() + torch.cat(copies).mul(2).mean() + rows[0].sum() * rows[5] + chunks[1].max()

    return traced(program, rand(6, 9))


def whole_list_argument() -> Case:
    """An operator takes another's list of results as it is, so that all of them live until then."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.empty(6, 4, device="cpu")
    parts = graph.call_function(aten.split_with_sizes_copy.default, (x, [1, 2, 3]))
    first = graph.call_function(operator.getitem, (parts, 0))
    doubled = graph.call_function(aten.mul.Tensor, (first, 2.0))
    joined = graph.call_function(aten.cat.default, (parts,))
    total = graph.call_function(aten.sum.default, (doubled,))
    graph.output((joined, total))
    return Case(fx.GraphModule(nn.Module(), graph), (rand(6, 4),))


def scatter_and_index_put() -> Case:
    def program(x: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, ...]:
        table = torch.zeros(5, 4)
        early = table.sum(1)
        table.index_put_((index,), x, accumulate=True)
        middle = table * 2
        table.scatter_(0, index.unsqueeze(1).expand(3, 4), x)
        added = torch.scatter_add(table, 0, index.unsqueeze(1).expand(3, 4), x)
        table[0] = 1.0
        return early, middle, added, table.index_select(0, index), table

    return traced(program, rand(3, 4), torch.tensor([4, 1, 1]))


def multi_output() -> Case:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values, order = torch.sort(x, stable=True)
        top, _ = torch.topk(x * 2, 3)
        largest, where = (x + 1).max(1)
        spread, mean = torch.var_mean(x.exp(), 0)
        return values.sum(), order[:, :2] + where.unsqueeze(1), top * largest.unsqueeze(1), spread.mean() + mean

    return traced(program, rand(5, 8))


def batch_norm_training() -> Case:
    """Running statistics that change without the schema saying so, read before and after."""

    def program(x: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> tuple[torch.Tensor, ...]:
        before = mean * 2
        y = aten.native_batch_norm(x, None, None, mean, var, True, 0.1, 1e-5)[0]
        between = var.sqrt()
        z = aten.native_batch_norm(y.relu(), None, None, mean, var, True, 0.1, 1e-5)[0]
        return before, between, z.sum() + mean, var.exp()

    return traced(program, rand(4, 3, 5, 5), torch.zeros(3), torch.ones(3))


def functionalised() -> Case:
    """Mutations of inputs as copy_ at the end, which must come after every read of the old contents."""

    def program(x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        old = state.sin()
        state.add_(x)
        x.mul_(state)
        return old + state.cos() * x

    return traced(program, rand(4, 5), rand(4, 5) + 1, functional=True)


def list_and_out_arguments() -> Case:
    """Writes declared for lists, keyword arguments and ``out=``."""

    def program(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
        before = a * b
        torch._foreach_mul_([a, b], 2.0)
        between = a + b
        torch._foreach_add_([a, b], [x, x])
        out = torch.empty(3, 4)
        aten.mul.out(a, x, out=out)
        read = out.sum()
        aten.sub.out(b, x, out=out)
        low, where = torch.empty(3), torch.empty(3, dtype=torch.long)
        aten.min.dim_min(a, 1, min=low, min_indices=where)
        total = torch.zeros(())
        more = torch.zeros(())
        seen = total + 1
        y = torch.ops.topoformer_tests.accumulate(x, totals=[total, more])
        return before, between, read, out, low, where, seen, y, total * 2, more

    return traced(program, rand(3, 4), rand(3, 4) + 1, rand(3, 4) - 1)


def dtypes() -> Case:
    """Every width of element, complex and conjugate views, zero-size and 0-dim tensors."""

    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mask = x > 0
        z = torch.complex(x, x * 2)
        conjugate = z.conj()
        packed = x.to(torch.float8_e4m3fn)
        half = x.to(torch.bfloat16)
        nothing = x[:0] * 2
        scalar = x.sum() * 3.0
        long = (x * 10).long()
        bits = long.to(torch.uint8).view(torch.float4_e2m1fn_x2)
        filled = torch.full((), 2.5, dtype=torch.float64)
        joined = torch.cat([nothing, half.float()])
        magnitude = (conjugate * z).abs() + mask
        return magnitude, packed.float() + scalar, joined * filled, bits.view(torch.uint8) + 1, nothing, z.real + 1

    return traced(program, rand(6, 8))


def side_effects() -> Case:
    def program(x: torch.Tensor) -> torch.Tensor:
        torch.ops.topoformer_tests.log(x, "first")
        y = x * 2
        aten._assert_async.msg(y.isfinite().all(), "not a number")
        torch.ops.topoformer_tests.log(y, "second")
        z = y.exp()
        torch.ops.topoformer_tests.log(x, "third")
        return z

    return traced(program, rand(3, 3))


def random_calls() -> Case:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a = torch.rand_like(x)
        b = torch.randn(3, 4)
        c = F.dropout(x, 0.4, training=True)
        d = F.dropout(x.exp(), 0.4, training=False)
        e = torch.randint(0, 9, (4,))
        x.uniform_()
        return a, b + c, d, e, torch.multinomial(a, 2), torch.rrelu(x, training=True)

    return traced(program, rand(3, 4))


def write_after_write() -> Case:
    """Two writes to overlapping views that nothing but their storage connects."""

    def program(x: torch.Tensor) -> torch.Tensor:
        base = x.clone()
        left, right = base[:, :3], base[:, 2:]
        left.mul_(2)
        right.add_(1)
        left.sub_(right.sum() * 0)
        base.view(-1)[::2].fill_(4)
        base[0].exp_()
        return base

    return traced(program, rand(3, 5))


def strides_and_storage() -> Case:
    """Storages larger than what is seen of them, and results whose strides decide whether a copy is made."""

    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        wide = x.exp()[:, ::3]
        same = x.sin().contiguous()
        copied = x.t().contiguous()
        reshaped = x.cos().t().reshape(-1)
        expanded = x[:1].sqrt().expand(7, -1)
        padded = torch.empty_strided((2, 3), (10, 2)).fill_(1.0)
        channels = x.tanh().view(1, 2, 3, 6).to(memory_format=torch.channels_last)
        return wide, same + 1, copied, reshaped * 2, expanded.sum(), padded + 1, channels

    return traced(program, rand(6, 6).abs())


def padding() -> Case:
    """A storage larger than the one tensor in it."""

    def program(x: torch.Tensor) -> torch.Tensor:
        gaps = torch.empty_strided((2, 3), (10, 2))
        return x + aten.fill_.Scalar(gaps, 1.0)

    return traced(program, rand(2, 3))


def given_away() -> Case:
    """Arguments that the caller lets go of: one read twice through a view, one unused, one returned."""

    def program(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, ...]:
        view = a.view(-1)
        d = b.exp() @ c
        return d + view[:4].sum(), view.sin(), c

    case = traced(program, rand(4, 6), rand(5, 8), rand(8, 4), rand(9, 9))
    return Case(
        case.module, case.inputs, donated=tuple(n.name for n in case.module.graph.nodes if n.op == "placeholder")
    )


def kernel_memory() -> Case:
    """Kernels whose results have more, less or other memory than their stand-ins without data."""

    def program(x: torch.Tensor, y: torch.Tensor) -> tuple[Any, ...]:
        loss = F.mse_loss(x, y) + F.smooth_l1_loss(x, y) + F.soft_margin_loss(x, y)
        column = x.sin()[:, 1::2]
        changed = [aten.select_scatter(column, y[:, 0], 1, 0), aten.slice_scatter(column, y[1:, :3], 0, 1)]
        folded = aten.col2im(x.exp().view(1, 4, 6), [3, 4], [2, 2], [1, 1], [0, 0], [1, 1])
        shuffled = aten.native_channel_shuffle(x.cos().view(1, 4, 6, 1), 2).mul_(2)
        noise = aten.uniform(column)
        return loss, changed[0] * 2, changed[1], folded + 1, shuffled, noise.t().reshape(-1), torch.kaiser_window(6)

    return traced(program, rand(4, 6), rand(4, 6).sign())


def equal_calls() -> Case:
    """The same call twice on a view with gaps: the second time, too, all of the memory behind it is copied."""

    def program(x: torch.Tensor) -> torch.Tensor:
        columns = [x.sin()[:, 1], x.cos()[:, 1]]
        return sum(aten.copy(column, x[:, 0]) for column in columns)

    return traced(program, rand(5, 7))


CASES: dict[str, Callable[[], Case]] = CAPTURES | {
    make.__name__: make
    for make in (
        lstm_cell,
        aliased_mutation,
        split_chunk_unbind,
        whole_list_argument,
        scatter_and_index_put,
        multi_output,
        batch_norm_training,
        functionalised,
        list_and_out_arguments,
        dtypes,
        side_effects,
        random_calls,
        write_after_write,
        strides_and_storage,
        padding,
        given_away,
        kernel_memory,
        equal_calls,
    )
}
