"""What a call really takes from PyTorch's allocators: by the profiler's events on a CPU, by counters on CUDA."""

import gc
import os
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.graph import Node
from torch.autograd.profiler import profile, record_function
from torch.utils._pytree import tree_leaves

MARK = "topoformer:"
NOTICES = ("USDT:", "Memory block of unknown size")  # printed by the profiler, whose events say the same and more


class MeasuredPeak(NamedTuple):
    """What one call took, above what was there when it began.

    Example:
        >>> import torch
        >>> from topoformer import measure_peak
        >>> peak = measure_peak(torch.zeros, 1000, device="cpu")
        >>> peak.bytes, peak.end_bytes, peak.reserved_bytes, peak.result.shape
        (4000, 4000, 0, torch.Size([1000]))
    """

    bytes: int  # most at any moment
    end_bytes: int  # there when it had returned; negative where it freed more than it left
    requested_bytes: int  # as `bytes`, before CUDA's allocator rounds up; the same on a CPU
    reserved_bytes: int  # most that CUDA's allocator took from the device, its cache emptied before; 0 on a CPU
    result: Any  # what the call returned


def measure_peak(
    function: Callable[..., Any], /, *args: Any, device: str | torch.device | None = None, **kwargs: Any
) -> MeasuredPeak:
    """Call ``function(*args, **kwargs)`` and measure the memory that it takes at its peak, in bytes.

    Seen is all that comes from PyTorch's allocator of one device: storages of tensors, and the workspaces of kernels
    that ask that allocator for them. Memory that was there before and is freed meanwhile counts as given back: that of
    tensors in a list that the call empties, of gradients, of what autograd saved. Not seen is what libraries take from
    the system themselves, as oneDNN does for some kernels and cuBLAS for its handles.

    On a CPU the bytes are exact, as they are asked for; what other Python threads do is not seen, nor is a storage
    there before that is made smaller. On CUDA, libraries that keep memory after their first use make a first call
    cost more than later ones.

    Args:
        function: anything that can be called; to give it an argument named ``device``, wrap it.
        args, kwargs: what it is called with.
        device: "cpu" or a CUDA device; by default the CUDA device of the tensors among the arguments and of the
            module that is called, the CPU where there is none. Memory on other devices is not measured.

    Raises:
        ValueError: ``device`` is neither, or the tensors are on several CUDA devices.
        RuntimeError: a profiler is active: there can be one at a time.

    Example:
        >>> import torch
        >>> from topoformer import measure_peak
        >>> peak = measure_peak(lambda: torch.zeros(1000).sum())  # 1,000 numbers and their sum of 4 bytes each
        >>> peak.bytes, peak.end_bytes
        (4004, 4)
    """
    where = _device(device, function, (args, kwargs))
    gc.collect()
    if where.type == "cuda":
        return _measure_cuda(where, lambda: function(*args, **kwargs))
    return _measure_cpu(lambda: function(*args, **kwargs))


def _device(wanted: str | torch.device | None, function: Callable[..., Any], arguments: Any) -> torch.device:
    if wanted is not None:
        device = torch.device(wanted)
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"'device' must be 'cpu' or a CUDA device (got '{device}')")
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"'device' is '{device}', and there is no CUDA device here")
        return device
    owner = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    weights = [*owner.parameters(), *owner.buffers()] if isinstance(owner, nn.Module) else []
    tensors = [leaf for leaf in tree_leaves([arguments, weights]) if isinstance(leaf, torch.Tensor)]
    found = sorted({str(tensor.device) for tensor in tensors if tensor.is_cuda})
    if len(found) > 1:
        raise ValueError(f"tensors are on {' and '.join(found)}; 'device' must say which to measure")
    return torch.device(found[0] if found else "cpu")


def _measure_cuda(device: torch.device, call: Callable[[], Any]) -> MeasuredPeak:
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    start = torch.cuda.memory_stats(device)
    result = call()
    torch.cuda.synchronize(device)
    end = torch.cuda.memory_stats(device)

    def above(what: str, when: str = "peak") -> int:
        """The statistics are empty until something has been allocated."""
        return int(end.get(f"{what}_bytes.all.{when}", 0) - start.get(f"{what}_bytes.all.current", 0))

    return MeasuredPeak(
        above("allocated"), above("allocated", "current"), above("requested"), above("reserved"), result
    )


def _measure_cpu(call: Callable[[], Any]) -> MeasuredPeak:
    recording = Recording()
    there = _Before(recording)
    with recording:
        recording.mark("begin")
        result = call()
        recording.mark("end")
    peak, end = _levels(recording.events, there.sizes)
    return MeasuredPeak(peak, end, peak, 0, result)


def _levels(events: "Iterable[Event]", before: dict[int, int]) -> tuple[int, int]:
    """Highest and last level between the marks "begin" and "end", in bytes above the first.

    Args:
        before: bytes of the memory that was there at the beginning, by its address.
    """
    live = peak = 0
    taken: dict[int, int] = {}
    gone = dict(before)
    running = False
    for event in events:
        if event.mark in ("begin", "end"):
            running = event.mark == "begin"
        elif not running:
            continue
        elif event.mark:  # the address of a storage there before, which is being freed
            live -= gone.pop(int(event.mark), 0)
        elif event.bytes > 0:
            live -= gone.pop(event.address, 0)  # in use again, so it has been freed without our hearing of it
            taken[event.address] = event.bytes
            live += event.bytes
            peak = max(peak, live)
        elif event.address in taken:
            live -= taken.pop(event.address)
        elif event.address in before:  # the profiler may remember another size, of long ago
            live -= gone.pop(event.address, 0)  # nothing if the mark has come first
        else:
            live += event.bytes
    return peak, live


class Event(NamedTuple):
    """An allocation, a release (``bytes`` below 0) or a mark."""

    mark: str
    address: int
    bytes: int


class Recording:
    """Records what is taken from the CPU's allocator while it is entered; ``events`` afterwards, as they happened."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._profile = profile(profile_memory=True)

    def __enter__(self) -> "Recording":
        """Raises RuntimeError if a profiler is active."""
        if torch.autograd._profiler_enabled():
            raise RuntimeError("memory cannot be measured while a profiler is active: there can be one at a time")
        stranger = torch.empty(1)
        with _without_notices():
            self._profile.__enter__()
            del stranger  # the first release of memory from before prints a warning: let it be this one
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _without_notices():
            self._profile.__exit__(kind, error, trace)
        if error is None:
            self.events = list(_events(self._profile))

    def mark(self, name: str) -> None:
        """Put a mark into the events."""
        with record_function(MARK + name):
            pass


def _events(profiler: profile) -> Iterator[Event]:
    try:
        from torch._C._profiler import _EventType

        kinds, nodes = _EventType, list(profiler.kineto_results.experimental_event_tree())
    except (ImportError, AttributeError) as error:
        raise RuntimeError(
            f"PyTorch {torch.__version__} does not show its allocations as we know it ({error})"
        ) from None
    found = []
    while nodes:
        node = nodes.pop()
        nodes.extend(node.children)
        tag, details = node.typed
        if tag == kinds.Allocation and details.device.type == "cpu":
            found.append((node.start_time_ns, Event("", details.ptr, details.alloc_size)))
        elif node.name.startswith(MARK):
            found.append((node.start_time_ns, Event(node.name.removeprefix(MARK), 0, 0)))
    yield from (event for _, event in sorted(found, key=lambda pair: pair[0]))


class _Before:
    """Every storage on the CPU that Python can get at: ``recording`` gets its address as a mark when it is freed.

    The profiler itself forgets about memory that it has not seen allocated.
    """

    def __init__(self, recording: Recording) -> None:
        self.sizes: dict[int, int] = {}
        self._watches: list[weakref.ref[torch.UntypedStorage]] = []
        with torch._C.DisableTorchFunctionSubclass():
            for tensor in _tensors_there():
                self._watch(tensor, recording)

    def _watch(self, tensor: torch.Tensor, recording: Recording) -> None:
        try:
            storage = tensor.untyped_storage()
            address = storage.data_ptr() if storage.device.type == "cpu" else 0
        except RuntimeError:  # sparse ones and other wrappers have none; what is in them is found by itself
            return
        if address and address not in self.sizes:
            self.sizes[address] = storage.nbytes()
            self._watches.append(weakref.ref(storage, lambda _: recording.mark(str(address))))


def _tensors_there() -> Iterator[torch.Tensor]:
    """Tensors known to Python's garbage collector, their gradients, and what autograd has saved to compute such."""
    tensors = [value for value in gc.get_objects() if issubclass(type(value), torch.Tensor)]
    nodes = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    yield from tensors
    yield from (tensor.grad for tensor in tensors if tensor.is_leaf and tensor.grad is not None)
    seen: set[Node] = set()
    while nodes:
        node = nodes.pop()
        if node not in seen:
            seen.add(node)
            yield from _saved(node)
            nodes.extend(source for source, _ in node.next_functions if source is not None)


def _saved(node: Node) -> Iterator[torch.Tensor]:
    for name in dir(node):
        if name.startswith("_saved_") or name == "saved_tensors":
            try:
                values = tree_leaves(getattr(node, name))
            except Exception:  # freed by a backward pass, changed in place since, or whatever a user's hook raises
                continue
            yield from (value for value in values if isinstance(value, torch.Tensor))


@contextmanager
def _without_notices() -> Iterator[None]:
    """Keep what starting and stopping the profiler prints to itself; everything else that is printed comes after."""
    try:
        kept = os.dup(2)
    except OSError:  # nobody listens
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not any(notice.encode() in line for notice in NOTICES):
                    os.write(2, line)
