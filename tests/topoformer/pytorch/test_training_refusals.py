"""What a captured step cannot do as the plain loop would is refused in one line that says what it is."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import LBFGS, SGD, Adam
from torch.utils.checkpoint import checkpoint

import topoformer
from tests.topoformer.pytorch.stepping import both

X, T = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3


def sgd(model):
    return SGD(model.parameters(), lr=0.1)


def layer():
    return nn.Linear(5, 3)


class Doing(nn.Module):
    """A layer whose output ``act`` is called with."""

    def __init__(self, act):
        super().__init__()
        self.layer, self.act = layer(), act

    def forward(self, x):
        return self.act(self, self.layer(x))


def keep(module, y):
    module.last = y
    return y


def unused_random(module, y):
    return y * random.random()


def numpy_random(module, y):
    return y * np.random.rand()


def by_data(module, y):
    return y if y.sum() > 0 else -y


def replay(module, y):
    return checkpoint(lambda z: F.dropout(z, 0.5), y, use_reentrant=False)


def growing(module, y):
    module.seen = torch.cat([module.seen, y.detach()[:1]])
    return y


def raising(module, y):
    raise RuntimeError("out of\ncheese")


REFUSED = {
    "keeps a tensor in attribute 'last' of a Doing": keep,
    "Python's or NumPy's random numbers": unused_random,
    "NumPy's random numbers, which a captured step would repeat": numpy_random,
    "the training step of Doing does not trace": by_data,
    "as activation checkpointing with dropout does": replay,
    "does not trace .RuntimeError: out of. *$": raising,
}


def counting(module, y):
    module.calls += 1
    module.rows = len(y)
    return y / module.calls


def test_a_counter_is_warned_of_and_put_back(caplog):
    model = Doing(counting)
    model.calls, model.rows = 1, None
    topoformer.compile_train_step(model, F.cross_entropy, sgd(model), (X, T))
    assert "forward changes attribute 'calls' of a Doing from 1 to 2" in caplog.text
    assert (model.calls, model.rows) == (1, None)


@pytest.mark.parametrize("text", REFUSED)
def test_forward(text):
    model = Doing(REFUSED[text])
    with pytest.raises(topoformer.UnsupportedOp, match=text) as error:
        topoformer.compile_train_step(model, F.cross_entropy, sgd(model), (X, T))
    assert "\n" not in str(error.value)
    assert "last" not in vars(model)


def test_a_buffer_that_grows():
    model = Doing(growing)
    model.register_buffer("seen", torch.zeros(1, 3))
    with pytest.raises(topoformer.UnsupportedOp, match="buffer 'seen' changes its shape or type in forward"):
        topoformer.compile_train_step(model, F.cross_entropy, sgd(model), (X, T))
    assert model.seen.shape == (1, 3)


def test_checkpointing_without_random_numbers_works():
    model = Doing(lambda _, y: checkpoint(torch.tanh, y, use_reentrant=False))
    pair = both(model, F.cross_entropy, sgd, [(X, T)] * 3).assert_equal()
    names = [str(node.target) for node in pair.step.program.graph.nodes]
    assert names.count("aten.tanh.default") == 2  # computed again in the backward pass


@pytest.mark.parametrize(
    ("loss_fn", "text"),
    [
        (lambda y, t: F.cross_entropy(y, t, reduction="none"), "must be a single number .got a tensor of shape .6,.."),
        (lambda y, t: y.sum().item(), "does not trace"),
        (lambda y, t: 3.0, "the loss must be a tensor .got float."),
        (lambda y, t: t.float().sum(), "does not depend on any parameter that the optimizer trains"),
        (lambda y, t: y.sum().detach(), "does not depend on any parameter"),
    ],
)
def test_losses(loss_fn, text):
    model = layer()
    with pytest.raises(topoformer.UnsupportedOp, match=text):
        topoformer.compile_train_step(model, loss_fn, sgd(model), (X, T))


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_parameters(register):
    model = layer()
    getattr(model.weight, register)(lambda _: None)
    with pytest.raises(topoformer.UnsupportedOp, match="parameter 'weight' has a hook on its gradient"):
        topoformer.compile_train_step(model, F.cross_entropy, sgd(model), (X, T))
    plain = layer()
    step = topoformer.compile_train_step(plain, F.cross_entropy, sgd(plain), (X, T))
    getattr(plain.bias, register)(lambda _: None)
    with pytest.raises(topoformer.UnsupportedOp, match="parameter 'bias' has a hook on its gradient"):
        step((X, T))


def test_hooks_on_modules_are_part_of_the_step():
    model = nn.Sequential(layer(), nn.Linear(3, 3))
    model[0].register_forward_hook(lambda _module, _args, y: y * 2)
    model[1].register_full_backward_hook(lambda _module, grads, _: (grads[0] * 3,))
    both(model, F.cross_entropy, sgd, [(X, T)] * 3).assert_equal()


def test_parameters_from_elsewhere():
    model, other = layer(), layer()
    optimizer = SGD([*model.parameters(), *other.parameters()], lr=0.1)
    with pytest.raises(topoformer.UnsupportedOp, match=r"parameter 2 of the optimizer's group 0, of shape .3, 5."):
        topoformer.compile_train_step(model, F.cross_entropy, optimizer, (X, T))


def test_nothing_to_train():
    model = layer()
    optimizer = sgd(model)
    model.requires_grad_(False)
    with pytest.raises(topoformer.UnsupportedOp, match="holds no parameter of the model that requires a gradient"):
        topoformer.compile_train_step(model, F.cross_entropy, optimizer, (X, T))


def test_an_optimizer_that_needs_a_closure():
    model = layer()
    with pytest.raises(topoformer.UnsupportedOp, match="LBFGS needs a closure"):
        topoformer.compile_train_step(model, F.cross_entropy, LBFGS(model.parameters()), (X, T))


def test_sparse_gradients():
    model = nn.Sequential(nn.Embedding(6, 3, sparse=True))
    with pytest.raises(topoformer.UnsupportedOp, match=r"the gradient of '0.weight' is sparse"):
        topoformer.compile_train_step(model, F.cross_entropy, sgd(model), (T, T))


def test_wrappers_that_communicate():
    model = nn.DataParallel(layer())
    with pytest.raises(topoformer.UnsupportedOp, match="DataParallel communicates with other processes or devices"):
        topoformer.compile_train_step(model, F.cross_entropy, sgd(model), (X, T))


def test_parameters_without_a_shape():
    model = nn.LazyLinear(3)
    with pytest.raises(topoformer.UnsupportedOp, match="parameter 'weight' has no shape yet"):
        topoformer.compile_train_step(model, F.cross_entropy, sgd(model), (X, T))


def test_a_batch_that_requires_a_gradient():
    model = layer()
    with pytest.raises(topoformer.UnsupportedOp, match="a tensor of the batch requires a gradient"):
        topoformer.compile_train_step(model, F.cross_entropy, sgd(model), (X.clone().requires_grad_(), T))


def test_too_many_shapes():
    model = layer()
    step = topoformer.compile_train_step(model, F.cross_entropy, sgd(model), (X[:1], T[:1]), method="program")
    for rows in range(1, 17):
        step((torch.zeros(rows, 5), torch.zeros(rows, dtype=torch.long)))
    with pytest.raises(topoformer.UnsupportedOp, match="has been captured for 16 forms"):
        step((torch.zeros(17, 5), torch.zeros(17, dtype=torch.long)))
    assert step.captures == 16


def test_a_state_of_another_shape():
    model = layer()
    optimizer = Adam(model.parameters())
    step = topoformer.compile_train_step(model, F.cross_entropy, optimizer, (X, T))
    step((X, T))
    optimizer.state[model.weight]["exp_avg"] = torch.zeros(1)
    with pytest.raises(ValueError, match="state 'exp_avg' of 'weight' has another shape or type than before"):
        step((X, T))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"model": 3}, TypeError, "'model' must be a torch.nn.Module .got int."),
        ({"optimizer": 3}, TypeError, "'optimizer' must be a torch.optim.Optimizer .got int."),
        ({"loss_fn": 3}, TypeError, "'loss_fn' must be callable"),
        ({"example_batch": X}, TypeError, "'example_batch' must be .inputs, target. .* .got Tensor."),
        ({"example_batch": (X, T, T)}, TypeError, "got a tuple of 3"),
        ({"accumulate": 0}, ValueError, "'accumulate' must be a positive integer .got 0."),
        ({"max_grad_norm": -1.0}, ValueError, "'max_grad_norm' must be positive .got -1.0."),
        ({"max_grad_value": float("nan")}, ValueError, "'max_grad_value' must be positive .got nan."),
        ({"autocast": "bf16"}, TypeError, "'autocast' must be a floating-point torch.dtype .got 'bf16'."),
        ({"method": "nope"}, ValueError, "unknown method 'nope'"),
        ({"seconds": 0}, ValueError, "'seconds' must be positive"),
    ],
)
def test_arguments(arguments, error, text):
    model = layer()
    given = {"model": model, "loss_fn": F.cross_entropy, "optimizer": sgd(model), "example_batch": (X, T)}
    with pytest.raises(error, match=text):
        topoformer.compile_train_step(**given | arguments)


def test_batches_of_objects():
    model = layer()
    with pytest.raises(TypeError, match="the batch holds a set, which is neither a tensor nor a constant"):
        topoformer.compile_train_step(model, lambda y, t: y.sum(), sgd(model), (X, {"a"}))


@pytest.mark.parametrize("where", ["forward", "update"])
def test_what_fails_is_not_half_done(where):
    """An error before anything ran leaves parameters, state and counters as they were."""
    model = layer()
    optimizer = Adam(model.parameters())
    step = topoformer.compile_train_step(model, F.cross_entropy, optimizer, (X, T))
    step((X, T))
    before = model.weight.detach().clone()
    count = float(optimizer.state[model.weight]["step"])
    if where == "forward":
        with pytest.raises(topoformer.UnsupportedOp):
            step((X[:, :2], T))
    else:
        optimizer.state[model.bias]["exp_avg_sq"] = torch.zeros(1)
        with pytest.raises(ValueError, match="exp_avg_sq"):
            step((X, T))
    assert torch.equal(model.weight, before)
    assert float(optimizer.state[model.weight]["step"]) == count
