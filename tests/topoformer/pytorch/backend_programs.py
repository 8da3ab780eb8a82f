"""Programs that compiled code has to get right: each takes ``compiled`` and returns all that one can see of its run."""

import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

PROGRAMS: dict[str, Callable[[Any], Any]] = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


def numbers(*shape, seed=0, grad=False):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_(grad)


def layers(*modules):
    """A module with weights of its own, always the same."""
    net = nn.Sequential(*modules)
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.copy_(numbers(*parameter.shape, seed=i) * 0.3)
    return net


def two_layers():
    return layers(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))


def grads(module):
    return [parameter.grad for parameter in module.parameters()]


@program
def batch_norm(compiled):
    net = layers(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    run, out = compiled(net), []
    for i in range(2):
        out.append(run(numbers(2, 3, 8, 8, seed=i)))
        out[-1].pow(2).sum().backward()
    net.eval()
    with torch.no_grad():
        out.append(run(numbers(2, 3, 8, 8)))
    return out, grads(net), list(net.buffers())


@program
def random_numbers(compiled):
    net = layers(nn.Linear(8, 16), nn.Dropout(0.3), nn.Linear(16, 16), nn.Dropout(0.5))

    def run(x):
        noise = torch.rand_like(x)
        return net(x + noise), torch.bernoulli(noise), torch.randperm(5), torch.randn(3)

    run, out = compiled(run), []
    for i in range(2):
        out.append(run(numbers(4, 8, seed=i)))
        out[-1][0].pow(2).sum().backward()
    return out, grads(net), torch.get_rng_state()


@program
def changed_inputs(compiled):
    def run(x, y):
        x.add_(1)
        z = x * y
        y.mul_(2)
        x.view(-1)[0] = 7.0
        return z + x

    x, y = numbers(3, 3), numbers(3, 3, seed=1)
    return compiled(run)(x, y), x, y


@program
def inputs_that_share_memory(compiled):
    def run(x, y):
        x.add_(1)
        return y * 2

    base = numbers(4, 4)
    run = compiled(run)
    return run(base[0], base[1:3].view(-1)), run(base.view(-1), base), base


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(4))
        self.layer = layers(nn.Linear(4, 4))

    def forward(self, x):
        self.calls += 1
        self.last.copy_(self.layer(x).detach().mean(0))
        return self.layer(x) + self.calls.detach().clone() * self.last.detach().clone()


@program
def changed_buffers(compiled):
    net = Counting()
    run, out = compiled(net), []
    for i in range(2):
        out.append(run(numbers(2, 4, seed=i)))
        out[-1].pow(2).sum().backward()
    return out, list(net.buffers()), grads(net)


@program
def changed_views_while_training(compiled):
    net = layers(nn.Linear(4, 4))

    def run(x):
        h = net(x)
        h[:, 0] = 0
        total = h.sum(0)
        h[:, 1:].mul_(2)
        return total, h

    total, h = compiled(run)(numbers(3, 4))
    (total.sum() + (h * h).sum()).backward()
    return total, h, grads(net)


@program
def outputs_that_are_inputs(compiled):
    def run(x):
        y = x.sin()
        return x, x.view(-1), x.t(), y, y.t(), (x + 1).view(-1)[2:]

    x = numbers(3, 3, grad=True)
    out = compiled(run)(x)
    sum(t.sum() for t in out).backward()
    with torch.no_grad():
        out[0].add_(5)
    return out, x, x.grad


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = layers(nn.Embedding(10, 6))
        self.out = nn.Linear(6, 10, bias=False)
        self.out.weight = self.words[0].weight

    def forward(self, ids):
        return self.out(self.words(ids).tanh())


@program
def tied_weights(compiled):
    net = Tied()
    y = compiled(net)(torch.arange(7))
    y.logsumexp(-1).sum().backward()
    return y, grads(net)


@program
def hardly_any_graph(compiled):
    return [
        compiled(lambda x: x)(numbers(2)),
        compiled(lambda x: (x, [x], 3))(numbers(2)),
        compiled(nn.Identity())(numbers(2, grad=True)),
        compiled(lambda n: torch.ones(n) * 2 + torch.arange(n))(4),
        compiled(lambda: torch.zeros(3).cos())(),
    ]


@program
def whole_numbers(compiled):
    return [
        compiled(lambda x: (x.argmax(-1), (x > 0).sum()))(numbers(3, 4)),
        compiled(lambda i: i // 2 + 1)(torch.arange(5)),
        compiled(lambda x: x.shape[0] * 2)(numbers(3, 4)),
    ]


@program
def autocast(compiled):
    net = two_layers()

    def inside(x):
        h = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            return h + net[2](net[0](x)).float()

    inside, around = compiled(inside), compiled(net)
    a = inside(numbers(5, 8))
    a.pow(2).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        b = around(numbers(5, 8))
        b.float().pow(2).sum().backward()  # the backward graph is compiled under autocast
    return a, b, grads(net)


@program
def recomputed(compiled):
    net = layers(*(layers(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(3)))

    def run(x):
        for block in net:
            x = x + checkpoint(block, x, use_reentrant=False)
        return x

    y = compiled(run, fullgraph=True)(numbers(5, 8, grad=True))
    y.pow(2).sum().backward()
    return y, grads(net)


@program
def recomputed_with_dropout(compiled):
    net = layers(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 8))
    y = compiled(lambda x: x + checkpoint(net, x, use_reentrant=False))(numbers(5, 8, grad=True))
    y.pow(2).sum().backward()
    return y, grads(net)


@program
def graph_breaks(compiled):
    net = two_layers()

    def run(x):
        h = net[0](x).sin()
        torch._dynamo.graph_break()
        h = net[2](h)
        return h * h if h.sum() > 0 else h * 3

    x = numbers(5, 8, grad=True)
    y = compiled(run)(x)
    y.sum().backward()
    return y, x.grad, grads(net)


@program
def sizes_that_change(compiled):
    net = layers(nn.Conv1d(2, 4, 3), nn.GELU(), nn.Conv1d(4, 4, 3))
    run, out = compiled(net), []
    for n in (15, 13, 19, 10):
        out.append(run(numbers(2, 2, n)))
        out[-1].pow(2).sum().backward()
    return out, grads(net)


@program
def sizes_said_to_change(compiled):
    net = two_layers()
    run, marked, out = compiled(net, dynamic=True), compiled(lambda x: (x * x.shape[0]).softmax(0)), []
    for n in (5, 3, 9):
        x = numbers(n, 8)
        out.append(run(x))
        out[-1].pow(2).sum().backward()
        torch._dynamo.mark_dynamic(x, 0)
        out.append(marked(x))
    return out, grads(net)


@program
def sizes_that_only_a_run_can_tell(compiled):
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True, capture_scalar_outputs=True):
        nonzero = compiled(lambda x: x.nonzero() * 2, fullgraph=True)(numbers(3, 4))
        return nonzero, compiled(lambda x, i: x * i.item(), fullgraph=True)(numbers(3), torch.tensor(4))


@program
def control_flow(compiled):
    def run(x):
        return torch.cond(x.sum() > 0, lambda x: x.sin() * 2, lambda x: x.cos() + 1, (x,)).exp()

    return compiled(run)(numbers(3).abs()), compiled(run)(-numbers(3).abs())


@program
def without_gradients(compiled):
    net = two_layers()
    run = compiled(net)
    with torch.no_grad():
        out = [run(numbers(5, 8))]
    with torch.inference_mode():
        out += [run(numbers(5, 8)).clone()]
    out += [run(numbers(5, 8))]

    def partly(x):
        with torch.no_grad():
            h = net(x)
        return net(x) * h

    out += [compiled(partly)(numbers(5, 8))]
    out[-1].sum().backward()
    return out, grads(net)


@program
def a_graph_that_is_kept(compiled):
    net = two_layers()
    y = compiled(net)(numbers(5, 8)).pow(2).sum()
    y.backward(retain_graph=True)
    y.backward()
    return y, grads(net)


@program
def functions_with_their_own_gradient(compiled):
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 2 * x

    x = numbers(4, grad=True)
    y = compiled(lambda x: Square.apply(x.sin()))(x)
    y.sum().backward()
    return y, x.grad, compiled(torch.func.grad(lambda x: x.sin().sum()))(numbers(3))


@program
def an_optimizer_step(compiled):
    net = two_layers()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)

    def update():
        optimizer.step()

    step = compiled(update)
    for i in range(3):
        optimizer.zero_grad()
        net(numbers(5, 8, seed=i)).sum().backward()
        step()
    return list(net.parameters())


@program
def sparse_gradients(compiled):
    net = nn.Embedding(10, 4, sparse=True, _weight=numbers(10, 4))
    y = compiled(net)(torch.arange(5))
    y.pow(2).sum().backward()
    return y, net.weight.grad.to_dense()


@program
def outputs_of_which_some_are_used(compiled):
    net = layers(nn.Linear(4, 4), nn.Linear(4, 4))
    out = compiled(lambda x: {"a": net[0](x), "b": None, "c": [x, net[0](x).exp()]})(numbers(2, 4))
    out["a"].sum().backward()
    return out, grads(net)


@program
def numbers_of_other_types(compiled):
    net = two_layers().to(torch.bfloat16)
    y = compiled(net)(numbers(5, 8).to(torch.bfloat16))
    y.sum().backward()
    return y, grads(net), compiled(lambda x: torch.fft.fft(x).conj().abs())(numbers(8).double())


@program
def two_tensors_in_one(compiled):
    from torch.testing._internal.two_tensor import TwoTensor

    net = layers(nn.Linear(4, 4))
    y = compiled(lambda x: net(x).sin())(TwoTensor(numbers(2, 4), numbers(2, 4, seed=1)))
    y.sum().backward()
    return y.a, y.b, [getattr(grad, "a", grad) for grad in grads(net)]


@program
def a_module_compiled_in_parts_and_twice(compiled):
    net = two_layers()
    net[0] = compiled(net[0])
    run = compiled(compiled(net))
    y = run(numbers(5, 8))
    y.sum().backward()
    return y, grads(net)


@program
def threads(compiled):
    results = [None] * 3
    nets = [two_layers() for _ in results]

    def work(i):
        y = compiled(nets[i])(numbers(5, 8, seed=i))
        y.pow(2).sum().backward()
        results[i] = y, grads(nets[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(results))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results


@program
def backward_in_another_thread(compiled):
    net = two_layers()
    y = compiled(net)(numbers(5, 8)).pow(2).sum()
    worker = threading.Thread(target=y.backward)
    worker.start()
    worker.join()
    return y, grads(net)


@program
def compiled_backward(compiled):
    net = two_layers()
    with torch._dynamo.config.patch(compiled_autograd=True), warnings.catch_warnings(action="ignore"):

        def step(x):
            y = net(x).pow(2).sum()
            y.backward()
            return y

        return compiled(step)(numbers(5, 8)), grads(net)
