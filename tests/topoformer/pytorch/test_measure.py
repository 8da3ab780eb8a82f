"""measure_peak: programs whose peak can be worked out by hand, and whatever can come between."""

import gc
import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.profiler import profile

from topoformer.pytorch.measure import _without_notices, measure_peak

N = 4000  # bytes of a tensor of 1,000 floats


pytestmark = pytest.mark.usefixtures("one_thread")


def floats(count=1000):
    return torch.rand(count, generator=torch.Generator().manual_seed(count))


def levels(function, *args, **kwargs):
    """(peak, end) in bytes."""
    return measure_peak(function, *args, **kwargs)[:2]


# ---------------------------------------------------------------- known programs


def chain(x):
    a = x + x
    b = a * a
    del a
    c = b + b
    del b
    return torch.cat([c, c])


def test_a_chain_holds_a_call_s_argument_and_result():
    assert levels(chain, floats()) == (3 * N, 2 * N)
    assert levels(chain, floats(500)) == (3 * N // 2, N)


def test_what_is_not_there_any_more_at_the_end_is_not_counted_there():
    assert levels(lambda x: float((x * x).sum()), floats()) == (N + 4, 0)
    assert levels(lambda: None) == (0, 0)


def test_views_and_changes_in_place_take_nothing():
    def program(x):
        a = x.clone()
        view = a.view(10, 100)[1:, :50].t()
        a.add_(x)
        return view

    assert levels(program, floats()) == (N, N)


def test_the_result_is_handed_on():
    x = floats()
    assert torch.equal(measure_peak(torch.add, x, x, alpha=2).result, 3 * x)


def test_workspaces_of_kernels_are_seen():
    x = floats(4096).view(64, 64)
    assert levels(torch.logsumexp, x, 0)[1] == 256
    assert levels(torch.logsumexp, x, 0)[0] > 4096 * 4  # exp(x) is one of them


def test_five_runs_take_the_same():
    layer = nn.Conv2d(8, 8, 3, padding=1)
    image = floats(8 * 32 * 32).view(1, 8, 32, 32)

    def step():
        layer(image).square().sum().backward()
        layer.zero_grad(set_to_none=True)

    step()
    found = [levels(step) for _ in range(5)]
    assert len(set(found)) == 1
    assert found[0][0] > 3 * 8 * 32 * 32 * 4
    assert found[0][1] == 0


# ---------------------------------------------------------------- memory that was there before


def emptied(values):
    a = values.pop()
    b = torch.sin(a)
    del a
    return torch.cos(b)


@pytest.mark.parametrize("again", range(3))  # addresses come back, and with them what the profiler knew of them
def test_what_was_given_away_makes_room(again):
    assert levels(emptied, [floats()]) == (N, 0)


def test_releases_alone_are_below_zero():
    assert levels(list.clear, [floats(), floats(500)]) == (0, -N * 3 // 2)


def test_a_view_elsewhere_keeps_what_was_given_away():
    x = floats()
    view = x[:10]
    values = [x]
    del x
    assert levels(list.clear, values) == (0, 0)
    assert float(view[0]) == float(floats()[0])


def test_room_made_before_it_is_needed_lowers_the_peak():
    def late(values):
        b = torch.ones(1000)
        values.clear()
        return b

    def early(values):
        values.clear()
        return torch.ones(1000)

    assert levels(late, [floats()]) == (N, 0)
    assert levels(early, [floats()]) == (0, 0)


def test_activations_are_freed_by_the_backward_pass():
    w = floats(123_457).requires_grad_()  # as many as nowhere else: the profiler has not seen such memory before
    saved = torch.exp(w)
    loss = saved.sum()
    del saved  # autograd still has it, and nobody else
    assert levels(loss.backward) == (4 * 123_457 + 4, 0)  # the gradient of the sum, and the one that stays
    assert w.grad is not None


def test_a_saved_tensor_that_no_longer_fits_is_no_trouble():
    w = floats().requires_grad_()
    saved = torch.exp(w)
    loss = saved.sum()
    with torch.no_grad():
        saved.add_(1)
    assert levels(lambda: None) == (0, 0)
    with pytest.raises(RuntimeError, match="inplace"):
        measure_peak(loss.backward)


def test_gradients_that_nobody_has_looked_at():
    w = floats(123_458).requires_grad_()
    (w * w).sum().backward()
    assert levels(torch.optim.SGD([w], 0.1).zero_grad) == (0, -4 * 123_458)


def test_garbage_of_before_is_not_counted():
    gc.disable()
    try:
        values = [floats()]
        values.append(values)
        del values
        assert levels(gc.collect) == (0, 0)
    finally:
        gc.enable()


def test_garbage_made_meanwhile_is():
    def program():
        values = [torch.ones(1000)]
        values.append(values)

    gc.disable()
    try:
        assert levels(program) == (N, N)
    finally:
        gc.enable()


def test_tensors_without_memory_are_passed_over():
    kept = [torch.eye(3).to_sparse(), torch.empty(1000, device="meta"), torch.empty(0)]
    with FakeTensorMode():
        kept.append(torch.empty(1000))
    assert levels(list.clear, [floats(), *kept]) == (0, -N)


# ---------------------------------------------------------------- what can come between


def test_an_error_comes_through_and_leaves_no_profiler_behind():
    with pytest.raises(ZeroDivisionError):
        measure_peak(lambda: 1 / 0)
    assert not torch.autograd._profiler_enabled()
    assert levels(chain, floats()) == (3 * N, 2 * N)


def test_one_profiler_at_a_time():
    with profile() as outer:
        with pytest.raises(RuntimeError, match="profiler is active"):
            measure_peak(chain, floats())
        torch.ones(3)
    assert any(event.name == "aten::ones" for event in outer.function_events)
    with pytest.raises(RuntimeError, match="profiler is active"):
        measure_peak(lambda: measure_peak(chain, floats()))
    assert not torch.autograd._profiler_enabled()


def test_nothing_is_printed_but_what_others_print(capfd):
    measure_peak(lambda: os.write(2, b"talk\n"))
    assert capfd.readouterr() == ("", "talk\n")
    with _without_notices():  # what another thread prints just then
        os.write(2, b"more talk\nUSDT: started\nand more\n")
    assert capfd.readouterr() == ("", "more talk\nand more\n")


def test_the_first_measurement_of_a_process_is_as_quiet():
    code = (
        "import torch; from topoformer.pytorch.measure import measure_peak;"
        "print(*measure_peak(list.clear, [torch.ones(1000)])[:2])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("0 -4000\n", "")


def test_stderr_may_be_closed():
    kept = os.dup(2)
    os.close(2)
    try:
        assert levels(chain, floats()) == (3 * N, 2 * N)
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def test_other_threads_are_not_seen():
    def program():
        other = threading.Thread(target=lambda: torch.ones(1000))
        other.start()
        other.join()

    assert levels(program) == (0, 0)


def test_a_module_is_called_with_its_keywords():
    class Scaled(nn.Module):
        def forward(self, x, *, by):
            return x * by

    measured = measure_peak(Scaled(), floats(), by=floats())
    assert measured[:4] == (N, N, N, 0)
    assert torch.equal(measured.result, floats() * floats())


# ---------------------------------------------------------------- devices


@pytest.mark.parametrize("device", ["meta", "mps", torch.device("meta")])
def test_devices_that_are_none_of_ours(device):
    with pytest.raises(ValueError, match="'device' must be 'cpu' or a CUDA device"):
        measure_peak(chain, floats(), device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="no CUDA device here"):
        measure_peak(chain, floats(), device="cuda")


def test_tensors_on_several_devices():
    with FakeTensorMode():
        values = [torch.empty(1, device="cuda:0"), torch.empty(1, device="cuda:1")]
    holder = nn.Identity()
    holder.register_buffer("other", values[1])
    for function, args in ((max, values), (holder, values[:1]), (holder.forward, values[:1])):
        with pytest.raises(ValueError, match="cuda:0 and cuda:1; 'device' must say"):
            measure_peak(function, *args)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda():
    x = torch.ones(1 << 20, device="cuda")
    measured = measure_peak(chain, x)
    assert measured[:3] == (12 << 20, 8 << 20, 12 << 20)
    assert measured.reserved_bytes >= measured.bytes
    assert measure_peak(chain, x.cpu(), device="cuda")[:4] == (0, 0, 0, 0)
    assert levels(emptied, [torch.ones(1 << 20, device="cuda")]) == (4 << 20, 0)
