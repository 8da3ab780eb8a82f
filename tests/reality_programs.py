"""Random small programs: views, writes through them, random numbers, out=, zero sizes, in any combination."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from tests.reality import Case, twins

Tensor = torch.Tensor
aten = torch.ops.aten


class Program:
    """A function whose choices depend on a seed and on shapes and types, never on data."""

    def __init__(self, seed: int, calls: int) -> None:
        self.seed, self.calls = seed, calls

    def __call__(self, *inputs: Tensor) -> list[Any]:
        self.random = random.Random(self.seed)
        self.pool = list(inputs)
        for _ in range(self.calls):
            call = self.random.choice(CALLS)
            state = self.random.getrandbits(32)
            try:
                made = call(self)
            except (RuntimeError, TypeError, IndexError, ValueError):  # does not fit these operands: another one does
                made = ()
            self.random = random.Random(state)
            self.pool += [made] if isinstance(made, Tensor) else [t for t in made if isinstance(t, Tensor)]
        chosen = self.random.choices(self.pool, k=self.random.randrange(6))
        return [*chosen, *self.pool[-2:], 3]

    def any(self) -> Tensor:
        recent = self.random.random() < 0.5
        return self.random.choice(self.pool[-5:] if recent else self.pool)

    def like(self, x: Tensor) -> Tensor:
        return self.random.choice([t for t in self.pool if t.shape == x.shape])

    def writable(self) -> Tensor:
        """One in which no two elements share memory: kernels refuse to write to others."""
        fit = [t for t in self.pool if all(s for n, s in zip(t.shape, t.stride(), strict=True) if n > 1)]
        return self.random.choice(fit)

    def dim(self, x: Tensor) -> int:
        return self.random.randrange(x.dim())

    def number(self) -> float:
        return self.random.choice([0.5, 1.0, 2.0, -1.5])


def cut(p: Program) -> Tensor:
    x = p.any()
    d = p.dim(x)
    start = p.random.randrange(x.shape[d] + 1)
    return aten.slice.Tensor(x, d, start, p.random.randint(start, x.shape[d]), p.random.choice([1, 1, 2]))


def view(p: Program) -> Any:
    x = p.any()
    return p.random.choice(
        [
            lambda: x.reshape(-1),
            lambda: x.mT,
            lambda: x.select(p.dim(x), 0),
            lambda: x.unsqueeze(0),
            lambda: x.unsqueeze(-1).expand(*x.shape, 3),
            x.diagonal,
            x.detach,
            lambda: x.unfold(p.dim(x), 2, 1),
            lambda: x.as_strided([2, 2], [2, 1]) if x.numel() > 3 else (),
            lambda: x.view(torch.uint8),
            x.squeeze,
            lambda: torch.view_as_real(x),
            x.conj,
            lambda: x.conj().imag,
            lambda: x.movedim(0, -1),
        ]
    )()


def several_views(p: Program) -> Any:
    x = p.any()
    d = p.dim(x)
    return p.random.choice(
        [lambda: x.split(2, d), lambda: x.chunk(2, d), lambda: x.unbind(d), lambda: x.tensor_split(3)]
    )()


def pointwise(p: Program) -> Any:
    x = p.any()
    y = p.like(x)
    return p.random.choice(
        [
            lambda: x + y,
            lambda: x * p.number(),
            x.sin,
            lambda: x > y,
            lambda: torch.where(x > 0, x, y),
            lambda: -x,
        ]
    )()


def write(p: Program) -> Any:
    x = p.writable()
    y = p.like(x)
    return p.random.choice(
        [
            lambda: x.add_(y, alpha=2),
            lambda: x.mul_(p.number()),
            x.sin_,
            lambda: x.copy_(p.any()),
            lambda: x.fill_(p.number()),
            x.zero_,
            lambda: x.masked_fill_(y > 0, 2.0),
            lambda: x.index_put_((torch.tensor([0, 0]),), x.new_ones(()), accumulate=True),
            lambda: x.scatter_(0, torch.zeros_like(x, dtype=torch.long)[:1], y),
            lambda: x.index_add_(0, torch.tensor([0]), y[:1]),
            lambda: x.clamp_(-2, 2),
            lambda: x.transpose_(0, -1),
            lambda: x.unsqueeze_(0),
            x.squeeze_,
        ]
    )()


def write_elsewhere(p: Program) -> Any:
    x = p.writable()
    y, z = p.like(x), p.like(x)
    return p.random.choice(
        [
            lambda: torch.mul(y, z, out=x),
            lambda: torch.cat([y[:1], z[1:]], out=x),
            lambda: torch._foreach_add_([x], [y]) or x,
            lambda: torch._foreach_mul_([x, y], 0.5) or x,
            lambda: torch.sum(y.unsqueeze(0), 0, out=x),
            lambda: torch.max(y, 0, out=(x.new_empty(y.shape[1:]), torch.empty(y.shape[1:], dtype=torch.long))),
        ]
    )()


def copy(p: Program) -> Any:
    x = p.any()
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.bool, torch.complex64, torch.float32]
    return p.random.choice(
        [
            x.clone,
            x.contiguous,
            lambda: x.to(p.random.choice(kinds)),
            x.mT.contiguous,
            lambda: x.flip(0),
            lambda: x.repeat(2, *[1] * (x.dim() - 1)),
            x.resolve_conj,
            lambda: aten.split_with_sizes_copy(x, [1, x.shape[0] - 1]),
            lambda: aten.clone(x, memory_format=torch.contiguous_format),
        ]
    )()


def draw(p: Program) -> Any:
    x = p.any()
    return p.random.choice(
        [
            lambda: torch.rand_like(x),
            lambda: torch.randn(3, 2),
            lambda: torch.nn.functional.dropout(x, 0.5, True),
            lambda: torch.randperm(5),
            lambda: p.writable().uniform_(),
            lambda: p.writable().bernoulli_(0.5),
            lambda: torch.multinomial(x.abs().float() + 1, 1),
        ]
    )()


def reduce(p: Program) -> Any:
    x = p.any()
    d = p.dim(x) if x.dim() else 0
    return p.random.choice(
        [
            x.sum,
            lambda: x.mean(d, keepdim=True),
            lambda: x.max(d),
            lambda: x.sort(d, stable=True),
            lambda: x.topk(1, d),
            lambda: x.cumsum(d),
            lambda: torch.var_mean(x, d),
            lambda: x.softmax(d),
            lambda: torch.nn.functional.mse_loss(x, p.like(x)),
            x.any,
        ]
    )()


def join(p: Program) -> Any:
    x = p.any()
    y, z = p.like(x), p.like(x)
    return p.random.choice(
        [
            lambda: torch.cat([x, y, z]),
            lambda: torch.cat([x, y[:0]]),
            lambda: torch.stack([x, z], -1),
            lambda: x @ y.mT,
            lambda: torch.cat([x, z], -1).mT,
        ]
    )()


def create(p: Program) -> Any:
    x = p.any()
    return p.random.choice(
        [
            lambda: torch.tensor([1.0, 2.0]),
            lambda: torch.zeros(3, 0),
            lambda: torch.zeros(15).as_strided((2, 3), (10, 2)).fill_(1.0),  # gaps that can be read
            lambda: torch.zeros_like(x),
            lambda: torch.full((), 2.5),
            lambda: x.new_ones(2, 3),
            lambda: torch.arange(4),
        ]
    )()


CALLS: list[Callable[[Program], Any]] = [
    *(cut, view, view, several_views, pointwise, pointwise, write, write, write, write_elsewhere, copy, draw),
    *(reduce, join, create),
]


def random_program(seed: int, calls: int = 14) -> Case:
    """A traced program whose inputs share memory, have gaps, and are sometimes given away."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(60, generator=generator)
    inputs = (
        torch.randn(4, 6, generator=generator),
        base[:24].view(4, 6),
        base[12:48:2].view(6, 3),
        torch.randn(3, 4, dtype=torch.complex64, generator=generator),
        torch.randint(-3, 4, (4, 6), generator=generator),
    )
    module = make_fx(Program(seed, calls))(*twins(inputs))
    for node in [n for n in module.graph.nodes if n.op == "call_function" and "val" not in n.meta]:
        module.graph.erase_node(node)  # noted, and then it failed
    module.recompile()
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    for node, value in zip(placeholders, inputs, strict=True):
        node.meta["val"] = value  # make_fx notes the shapes only, not what memory they share
    names = [node.name for node in placeholders]
    given = [[], names, names[:2]][seed % 3]
    return Case(module, inputs, donated=tuple(given))
