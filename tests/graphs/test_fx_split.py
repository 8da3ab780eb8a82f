"""A convolution's gradients computed one by one are those that it computes together."""

from collections import Counter

import pytest
import torch
from torch import nn

import graphs
import topoformer
from graphs.fx_split import CONVOLUTION, split
from tests.reality import disagreements, rand, run, traced

KINDS = {
    "plain": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 7, 7)),
    "no bias": (lambda: nn.Conv2d(3, 4, 3, bias=False), (2, 3, 7, 7)),
    "strided, padded": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 8, 8)),
    "dilated": (lambda: nn.Conv2d(3, 4, 3, dilation=2), (2, 3, 9, 9)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (2, 4, 7, 7)),
    "grouped": (lambda: nn.Conv2d(4, 6, 1, groups=2), (1, 4, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 2, 2), (2, 3, 5, 5)),
    "one dimension": (lambda: nn.Conv1d(3, 4, 3), (2, 3, 9)),
    "three dimensions": (lambda: nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4)),
}


pytestmark = pytest.mark.usefixtures("one_thread")


def backward_of(make, shape, *, of_input=True):
    layer = make()

    def program(x, *weights):
        leaves = [w.detach().requires_grad_() for w in weights]
        x = x.exp().requires_grad_(of_input)
        with torch.enable_grad():
            names = [name for name, _ in layer.named_parameters()]
            y = torch.func.functional_call(layer, dict(zip(names, leaves, strict=True)), (x,))
            return torch.autograd.grad(y.square().sum(), [*leaves, *([x] if of_input else [])])

    return traced(program, rand(*shape), *(p.detach() for p in layer.parameters()))


def calls(module):
    return [list(node.args[10]) for node in module.graph.find_nodes(op="call_function", target=CONVOLUTION)]


@pytest.mark.parametrize("kind", KINDS)
def test_same_bits_in_any_order(kind):
    case = backward_of(*KINDS[kind])
    assert len(calls(case.module)) == 1
    wanted = run(case, case.module).seen
    split(case.module.graph)
    case.module.graph.lint()
    case.module.recompile()
    bias = "no bias" not in kind
    assert sorted(calls(case.module)) == [[False, True, bias], [True, False, False]]
    assert run(case, case.module).seen == wanted
    assert disagreements(case, graphs.from_fx(case.module), 10) == []


def test_what_has_one_gradient_only_stays_as_it_is():
    case = backward_of(*KINDS["plain"], of_input=False)
    before = Counter(str(node.target) for node in case.module.graph.nodes)
    split(case.module.graph)
    assert Counter(str(node.target) for node in case.module.graph.nodes) == before


def test_a_gradient_can_be_used_up_before_the_other_comes():
    def program(x, weight):
        leaf, x = weight.detach().requires_grad_(), x.exp().requires_grad_()
        with torch.enable_grad():
            loss = nn.functional.conv2d(x, leaf, padding=1).sum()
            of_weight, of_input = torch.autograd.grad(loss, [leaf, x])
        return of_input, of_weight.norm()

    module = traced(program, rand(1, 32, 8, 8), rand(32, 32, 3, 3)).module
    together = topoformer.schedule(graphs.from_fx(module))
    split(module.graph)
    module.recompile()
    apart = topoformer.schedule(graphs.from_fx(module))
    assert apart.cost.peak_bytes < together.bound_bytes
