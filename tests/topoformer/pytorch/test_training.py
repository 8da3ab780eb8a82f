"""compile_train_step trains as the plain loop does, bit for bit, with every optimiser and option that it takes."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, Adam, AdamW

import graphs
import topoformer
from tests.topoformer.pytorch.stepping import bits, both
from topoformer.cache import ScheduleCache
from topoformer.outcome import Outcome

pytestmark = pytest.mark.usefixtures("one_thread")


class Net(nn.Module):
    """Batch norm, dropout, a layer used twice, one used never, a frozen one."""

    def __init__(self):
        super().__init__()
        self.first, self.twice, self.never = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm, self.frozen, self.last = nn.BatchNorm1d(8), nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 3)

    def forward(self, x):
        x = F.dropout(self.norm(self.first(x)).relu_(), 0.3, self.training)
        return self.last(self.frozen(self.twice(self.twice(x))))


def made(kind=Net, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind()


def batches(count=5, rows=6):
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(rows, 5, generator=generator), torch.randint(3, (rows,), generator=generator))
        for _ in range(count)
    ]


def groups(model, **second):
    decayed = [p for p in model.parameters() if p.dim() > 1]
    return [{"params": decayed}, {"params": [p for p in model.parameters() if p.dim() == 1], **second}]


OPTIMIZERS = {
    "sgd": lambda m: SGD(m.parameters(), lr=0.1),
    "sgd, momentum and decay": lambda m: SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
    "sgd, nesterov": lambda m: SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "sgd, dampening": lambda m: SGD(m.parameters(), lr=0.1, momentum=0.9, dampening=0.2),
    "sgd, maximize": lambda m: SGD(m.parameters(), lr=0.01, weight_decay=0.01, maximize=True),
    "sgd, foreach": lambda m: SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, foreach=True),
    "sgd, fused": lambda m: SGD(m.parameters(), lr=0.1, momentum=0.9, dampening=0.2, weight_decay=0.01, fused=True),
    "sgd, lr is a tensor": lambda m: SGD(m.parameters(), lr=torch.tensor(0.1), momentum=0.9),
    "adam": lambda m: Adam(m.parameters(), lr=0.01),
    "adam, decay": lambda m: Adam(m.parameters(), lr=0.01, weight_decay=0.1),
    "adam, amsgrad": lambda m: Adam(m.parameters(), lr=0.01, amsgrad=True),
    "adam, maximize": lambda m: Adam(m.parameters(), lr=0.001, maximize=True, weight_decay=0.1),
    "adam, foreach": lambda m: Adam(m.parameters(), lr=0.01, weight_decay=0.1, foreach=True),
    "adam, fused": lambda m: Adam(m.parameters(), lr=0.01, weight_decay=0.1, amsgrad=True, fused=True),
    "adamw": lambda m: AdamW(m.parameters(), lr=0.01),
    "adamw, groups": lambda m: AdamW(groups(m, lr=0.002, weight_decay=0.0), lr=0.01, weight_decay=0.1),
    "adamw, fused": lambda m: AdamW(groups(m, betas=(0.8, 0.9)), lr=0.01, weight_decay=0.1, fused=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_does_what_torch_does(name):
    pair = both(made(), F.cross_entropy, OPTIMIZERS[name], batches()).assert_equal()
    assert not torch.equal(pair.ours.first.weight, made().first.weight)
    assert torch.equal(pair.ours.never.weight, made().never.weight)
    assert torch.equal(pair.ours.frozen.weight, made().frozen.weight)
    assert pair.ours.never.weight not in pair.our_optimizer.state


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3, dtype=torch.complex64))

    def forward(self, x):
        return (x.to(torch.complex64) @ self.weight).abs()


@pytest.mark.parametrize("name", ["sgd, momentum and decay", "adam, decay", "adam, amsgrad", "adamw"])
def test_complex_parameters(name):
    both(made(Complex), F.cross_entropy, OPTIMIZERS[name], batches()).assert_equal()


def test_learning_rates_change_without_a_new_capture():
    model, schedulers = made(), {}

    def with_schedule(m):
        optimizer = AdamW(m.parameters(), lr=0.01)
        schedulers[m] = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=12)
        return optimizer

    ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
    optimizers = with_schedule(ours), with_schedule(theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as schedulers warn of where they are called before any step
        step = topoformer.compile_train_step(ours, F.cross_entropy, optimizers[0], batches()[0], seconds=2)
        for i, batch in enumerate(batches(10)):
            torch.manual_seed(i)
            step(batch)
            schedulers[ours].step()
            torch.manual_seed(i)
            F.cross_entropy(theirs(batch[0]), batch[1]).backward()
            optimizers[1].step()
            optimizers[1].zero_grad()
            schedulers[theirs].step()
    assert bits(ours, optimizers[0]) == bits(theirs, optimizers[1])
    assert step.captures == 1


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_checkpoint_goes_from_one_to_the_other(first):
    given, data = made(), batches(8)
    optimizer = OPTIMIZERS["adam, amsgrad"]
    through = both(given, F.cross_entropy, optimizer, data)
    half = both(given, F.cross_entropy, optimizer, data[:4])
    model, state = (half.ours, half.our_optimizer) if first == "ours" else (half.theirs, half.optimizer)
    resumed = made(seed=1)
    other = optimizer(resumed)
    step = topoformer.compile_train_step(resumed, F.cross_entropy, other, data[0], seconds=2)
    resumed.load_state_dict(model.state_dict())
    other.load_state_dict(state.state_dict())
    for i, batch in enumerate(data[4:], 4):
        torch.manual_seed(i)
        step(batch)
    assert bits(resumed, other) == bits(through.theirs, through.optimizer)


def test_parameters_put_in_place_of_others():
    data = batches(4)
    pair = both(made(), F.cross_entropy, OPTIMIZERS["sgd"], data)
    replaced = copy.deepcopy(made(seed=2).state_dict())
    pair.ours.load_state_dict(replaced, assign=True)
    with pytest.raises(topoformer.UnsupportedOp, match="belongs neither to the model nor to loss_fn"):
        pair.step(data[0])  # the optimiser still holds the old ones


@pytest.mark.parametrize("count", [2, 3])
def test_accumulation(count):
    def loop(model, optimizer, i, batch):
        loss = F.cross_entropy(model(batch[0]), batch[1])
        (loss / count).backward()
        if (i + 1) % count == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    pair = both(made(), F.cross_entropy, OPTIMIZERS["adam"], batches(7), loop=loop, accumulate=count).assert_equal()
    assert pair.ours.first.weight.grad is not None
    assert torch.equal(pair.ours.first.weight.grad, pair.theirs.first.weight.grad)


@pytest.mark.parametrize("options", [{"max_grad_norm": 0.5}, {"max_grad_norm": 1e9}, {"max_grad_value": 0.01}])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_clipping(options, accumulate):
    norms = []

    def loop(model, optimizer, i, batch):
        loss = F.cross_entropy(model(batch[0]), batch[1])
        (loss / accumulate).backward()
        if (i + 1) % accumulate == 0:
            if "max_grad_norm" in options:
                norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), options["max_grad_norm"]))
            else:
                torch.nn.utils.clip_grad_value_(model.parameters(), options["max_grad_value"])
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    optimizer = OPTIMIZERS["sgd, momentum and decay"]
    data = batches(4)
    pair = both(made(), F.cross_entropy, optimizer, data, loop=loop, accumulate=accumulate, **options).assert_equal()
    if norms:
        assert torch.equal(pair.step.grad_norm, norms[-1])


def test_autocast():
    def loop(model, optimizer, _, batch):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss.detach()

    pair = both(made(), F.cross_entropy, OPTIMIZERS["adamw"], batches(), loop=loop, autocast=torch.bfloat16)
    pair.assert_equal()
    assert any(
        node.meta["val"].dtype == torch.bfloat16 for node in pair.step.program.graph.nodes if "addmm" in node.name
    )
    around = both(made(), F.cross_entropy, OPTIMIZERS["adamw"], batches(1))
    with torch.autocast("cpu", torch.bfloat16):  # around the call is as good as inside
        around.step(batches(1)[0])
    assert around.step.captures == 2


@pytest.mark.parametrize("accumulate", [1, 2])
def test_loss_scaling_skips_updates_that_are_not_finite(accumulate):
    scalers = [torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2) for _ in range(2)]
    data = batches(6)
    data[2][0][0, 0] = torch.inf

    def loop(model, optimizer, i, batch):
        loss = F.cross_entropy(model(batch[0]), batch[1])
        scalers[1].scale(loss / accumulate).backward()
        if (i + 1) % accumulate == 0:
            scalers[1].unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scalers[1].step(optimizer)
            scalers[1].update()
            optimizer.zero_grad()
        return loss.detach()

    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    options = {"scaler": scalers[0], "max_grad_norm": 1.0, "accumulate": accumulate}
    pair = both(model, F.cross_entropy, OPTIMIZERS["adam"], data, loop=loop, **options)
    assert bits(pair.ours, pair.our_optimizer) == bits(pair.theirs, pair.optimizer)
    assert scalers[0].get_scale() == scalers[1].get_scale() != 8.0


class Reassigning(nn.Module):
    """Puts other tensors in the place of its buffers, and keeps a count in one of integers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long), persistent=False)

    def forward(self, x):
        y = self.layer(x)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(0)
            self.calls += 1
        return y - self.mean


def test_buffers_that_are_assigned():
    pair = both(made(Reassigning), F.cross_entropy, OPTIMIZERS["sgd"], batches()).assert_equal()
    assert pair.ours.calls == pair.theirs.calls == 5


class Tied(nn.Module):
    """One weight under two names, and two parameters that are views of one memory."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(3, 4), nn.Linear(4, 3, bias=False)
        self.head.weight = self.table.weight
        both_halves = torch.randn(2, 4, 5)
        self.left, self.right = nn.Parameter(both_halves[0]), nn.Parameter(both_halves[1])

    def forward(self, x):
        return self.head(x @ self.left.T + torch.tanh(x @ self.right.T))


def test_tied_weights_and_parameters_that_share_memory():
    both(made(Tied), F.cross_entropy, OPTIMIZERS["adam, decay"], batches()).assert_equal()


class Bounded(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, logits, target):
        return F.cross_entropy(logits / self.temperature, target)


def test_a_loss_with_parameters_of_its_own():
    model, losses = made(), [Bounded(), Bounded()]
    ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
    optimizers = [
        SGD([*m.parameters(), *loss.parameters()], lr=0.1) for m, loss in zip((ours, theirs), losses, strict=True)
    ]
    step = topoformer.compile_train_step(ours, losses[0], optimizers[0], batches()[0], seconds=2)
    for i, batch in enumerate(batches(3)):
        torch.manual_seed(i)
        step(batch)
        torch.manual_seed(i)
        optimizers[1].zero_grad()
        losses[1](theirs(batch[0]), batch[1]).backward()
        optimizers[1].step()
    assert bits(ours, optimizers[0]) == bits(theirs, optimizers[1])
    assert torch.equal(losses[0].temperature, losses[1].temperature)
    assert losses[0].temperature != 1
    with pytest.raises(topoformer.UnsupportedOp, match="belongs neither to the model nor to loss_fn"):
        topoformer.compile_train_step(ours, losses[0].forward, optimizers[0], batches()[0])


class Named(nn.Module):
    """Inputs by name, a constant among them; returns the loss in a dictionary."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x, *, target, power):
        return {"loss": F.cross_entropy(self.layer(x) ** power, target)}


def test_a_model_that_returns_its_loss():
    data = [{"x": x, "target": t, "power": 2} for x, t in batches()]

    def loop(model, optimizer, _, batch):
        optimizer.zero_grad()
        loss = model(**batch)["loss"]
        loss.backward()
        optimizer.step()
        return loss.detach()

    pair = both(made(Named), None, OPTIMIZERS["sgd"], data, loop=loop).assert_equal()
    pair.step({**data[0], "power": 3})
    assert pair.step.captures == 2


def test_other_shapes_and_modes_lead_to_another_capture():
    pair = both(made(), F.cross_entropy, OPTIMIZERS["adam"], [*batches(2), *batches(1, rows=3), *batches(1)])
    pair.assert_equal()
    assert pair.step.captures == 2
    for model in (pair.ours, pair.theirs):
        model.eval()
    data = batches(1)[0]
    loss = pair.step(data)
    assert torch.equal(loss, F.cross_entropy(pair.theirs(data[0]), data[1]))
    pair.ours.first.requires_grad_(False)
    before = pair.ours.first.weight.clone()
    pair.step(data)
    assert torch.equal(pair.ours.first.weight, before)
    assert pair.step.captures == 4


def test_options_that_turn_something_on():
    data = batches(6)
    pair = both(made(), F.cross_entropy, OPTIMIZERS["sgd"], data[:2])
    for optimizer in (pair.our_optimizer, pair.optimizer):
        optimizer.param_groups[0].update(momentum=0.9, weight_decay=0.1)
    for i, batch in enumerate(data[2:]):
        torch.manual_seed(i)
        pair.step(batch)
        torch.manual_seed(i)
        pair.optimizer.zero_grad()
        F.cross_entropy(pair.theirs(batch[0]), batch[1]).backward()
        pair.optimizer.step()
    pair.losses.clear()
    pair.assert_equal()


def test_a_group_that_comes_later_has_fewer_steps_behind_it():
    data = batches(6)

    def make(model):
        return Adam([p for name, p in model.named_parameters() if "last" not in name], lr=0.01)

    pair = both(made(), F.cross_entropy, make, data[:3])
    for optimizer, model in ((pair.our_optimizer, pair.ours), (pair.optimizer, pair.theirs)):
        optimizer.add_param_group({"params": list(model.last.parameters())})
    for i, batch in enumerate(data[3:]):
        torch.manual_seed(i)
        pair.step(batch)
        torch.manual_seed(i)
        for p in pair.theirs.parameters():
            p.grad = None
        F.cross_entropy(pair.theirs(batch[0]), batch[1]).backward()
        pair.optimizer.step()
    pair.losses.clear()
    pair.assert_equal()
    assert pair.step.captures == 2


def test_an_optimizer_that_is_not_known_is_called_as_it_is(caplog):
    def make(model):
        return torch.optim.RMSprop(model.parameters(), lr=0.01)

    both(made(), F.cross_entropy, make, batches(), max_grad_norm=1e9).assert_equal()
    assert "RMSprop is not one of SGD, Adam, AdamW" in caplog.text


def test_hooks_of_the_optimizer_are_called():
    calls = []
    pair = both(made(), F.cross_entropy, OPTIMIZERS["adam"], batches(2))
    pair.our_optimizer.register_step_post_hook(lambda *_: calls.append(1))
    pair.step(batches(1)[0])
    assert calls == [1]


def test_a_compiled_model_is_taken_for_what_it_wraps():
    model, data = made(), batches(3)
    wrapped = torch.compile(copy.deepcopy(model), backend="eager")
    optimizer = OPTIMIZERS["sgd"](wrapped)
    step = topoformer.compile_train_step(wrapped, F.cross_entropy, optimizer, data[0], seconds=2)
    pair = both(model, F.cross_entropy, OPTIMIZERS["sgd"], data)
    for i, batch in enumerate(data):
        torch.manual_seed(i)
        step(batch)
    assert bits(wrapped._orig_mod, optimizer) == bits(pair.theirs, pair.optimizer)


def test_capturing_changes_nothing():
    model = made()
    optimizer = OPTIMIZERS["adam"](model)
    before, random_state = bits(model, optimizer), torch.get_rng_state()
    step = topoformer.compile_train_step(model, F.cross_entropy, optimizer, batches()[0], seconds=2)
    assert bits(model, optimizer) == before
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not optimizer.state
    assert step.schedule.cost.peak_bytes <= step.schedule.program_cost.peak_bytes
    assert step.schedule.bound_bytes <= step.schedule.cost.peak_bytes


def test_gradients_that_are_there_are_dropped():
    pair = both(made(), F.cross_entropy, OPTIMIZERS["sgd"], batches(2))
    for p in pair.ours.parameters():
        p.grad = torch.ones_like(p)
    batch = batches(3)[2]
    torch.manual_seed(1)
    pair.step(batch)
    torch.manual_seed(1)
    pair.optimizer.zero_grad()
    F.cross_entropy(pair.theirs(batch[0]), batch[1]).backward()
    pair.optimizer.step()
    pair.losses.clear()
    pair.assert_equal()
    assert pair.ours.first.weight.grad is None


def test_a_memory_limit_holds_or_says_that_it_cannot():
    model, batch = made(), batches()[0]
    optimizer = OPTIMIZERS["adam"](model)
    given = (model, F.cross_entropy, optimizer, batch)
    found = topoformer.compile_train_step(*given).schedule
    needs = found.cost.peak_bytes + found.cost.resident_bytes
    assert found.proven_optimal
    assert topoformer.compile_train_step(*given, memory_limit=needs).schedule.cost == found.cost
    with pytest.raises(topoformer.MemoryLimitError, match=f"no order of 'Net_step' fits .* at least .*{needs:,} bytes"):
        topoformer.compile_train_step(*given, memory_limit=needs - 1)


def test_a_second_start_finds_the_schedule_on_disk(tmp_path):
    cache, batch = ScheduleCache(tmp_path), batches()[0]
    found = []
    for _ in range(2):
        model = made()
        step = topoformer.compile_train_step(model, F.cross_entropy, OPTIMIZERS["adam"](model), batch, cache=cache)
        found.append(step.schedule)
    assert [one.cached for one in found] == [False, True]
    assert found[0].order.tolist() == found[1].order.tolist()


def test_each_capture_is_a_line_in_the_log(caplog):
    caplog.set_level("INFO", "topoformer")
    both(made(), F.cross_entropy, OPTIMIZERS["sgd"], [*batches(1), *batches(1, rows=3)])
    lines = [record.getMessage() for record in caplog.records if record.name == "topoformer"]
    assert [line.split(":")[0] for line in lines] == ["Net_step", "Net_step"]
    assert all(", optimal, auto, " in line for line in lines)


def test_an_interrupt_ends_the_program_and_not_the_search_only():
    def method(graph, *_, **__):
        return Outcome(graphs.program_order(graph), interrupted=True)

    model = made()
    with pytest.raises(KeyboardInterrupt):
        topoformer.compile_train_step(model, F.cross_entropy, OPTIMIZERS["sgd"](model), batches(1)[0], method=method)
