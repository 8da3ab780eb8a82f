"""Devices: the few numbers from which seconds of an order are estimated, and some named ones with their sources."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from graphs.errors import GraphError, quoted, unknown_name

FORMAT, VERSION = "topoformer.device", 1
MOST_STREAMS, MOST_BYTES, MOST_RATE = 4096, 1 << 62, 1e30


@dataclass(frozen=True)
class Device:
    """What executes a graph: rates in their base units (flop/s, bytes/s, seconds, bytes).

    The rates are those of the roofline model (Williams et al., Communications of the ACM 52, 2009), see
    :mod:`graphs.latency`. A device of one's own goes wherever the name of a known one does.

    Raises:
        GraphError: a number is out of range.

    Example:
        >>> from graphs import Device, Graph, simulate_latency
        >>> slow = Device("slow", {"float32": 2e3, "int8": 8e3}, bandwidth=1e3, launch_seconds=0.5, streams=2)
        >>> slow.rate("int8"), slow.rate("bfloat16")
        (8000.0, 2000.0)
        >>> Device.from_json(slow.to_json()) == slow
        True
        >>> graph = Graph.build("g", ["a"], reads=[[]], writer=[0], size=[1000], flops=[4000])
        >>> simulate_latency(graph, device=slow).seconds  # 0.5 to launch, 2 to compute; 1 to move is hidden
        2.5
    """

    name: str
    flops: Mapping[str, float]  # flop/s by type of number; others count as "float32"
    bandwidth: float  # bytes/s of the memory that tensors live in
    launch_seconds: float = 0.0  # that each kernel takes whatever it does
    streams: int = 1  # queues of kernels that run at once
    memory_bytes: int | None = None  # of the memory that tensors live in
    on_chip_bytes: int = 0  # memory beside the processor that software fills; 0: none
    on_chip_bandwidth: float = math.inf
    link_bandwidth: float = 0.0  # bytes/s to other devices, in one direction; 0: there are none
    source: str = field(default="", compare=False)  # where the numbers are from

    def __post_init__(self) -> None:
        if not isinstance(self.flops, Mapping) or "float32" not in self.flops:
            raise GraphError(f"device {quoted(self.name)}: 'flops' must give a rate for 'float32'")
        for dtype, rate in self.flops.items():
            _check(self.name, f"flops of {dtype}", rate, low=0.0, open_=True)
        for name in ("bandwidth", "on_chip_bandwidth"):
            _check(self.name, name, getattr(self, name), low=0.0, open_=True, most=math.inf)
        for name in ("launch_seconds", "link_bandwidth"):
            _check(self.name, name, getattr(self, name), low=0.0)
        for name, least, most in (
            ("streams", 1, MOST_STREAMS),
            ("on_chip_bytes", 0, MOST_BYTES),
            ("memory_bytes", 1, MOST_BYTES),
        ):
            value = getattr(self, name)
            if value is None and name == "memory_bytes":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                text = f"'{name}' must be an integer from {least} to {most}"
                raise GraphError(f"device {quoted(self.name)}: {text} (got {_shown(value)})")
        if not isinstance(self.source, str):
            raise GraphError(f"device {quoted(self.name)}: 'source' must be a string (got {_shown(self.source)})")

    def rate(self, dtype: str) -> float:
        """flop/s in numbers of type ``dtype``."""
        return self.flops.get(dtype, self.flops["float32"])

    def to_json(self) -> dict[str, Any]:
        """The dictionary of device JSON, version 1; an infinite rate is left out."""
        known = asdict(self) | {"flops": dict(self.flops)}
        kept = {key: value for key, value in known.items() if value is not None and value != math.inf}
        return {"format": FORMAT, "version": VERSION, **kept}

    @classmethod
    def from_json(cls, data: Any) -> "Device":
        """The device that a dictionary of device JSON describes.

        Raises:
            GraphError: it does not describe one; names the key.
        """
        if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
            raise GraphError(f"not a device: 'format' must be '{FORMAT}' and 'version' {VERSION}")
        names = {f.name for f in fields(cls)}
        values = {key: value for key, value in data.items() if key not in ("format", "version")}
        for key in values:
            if key not in names:
                raise GraphError(unknown_name("device key", key, sorted(names)))
        for key in ("name", "flops", "bandwidth"):
            if key not in values:
                raise GraphError(f"device has no '{key}'")
        if not isinstance(values["name"], str):
            raise GraphError(f"device: 'name' must be a string (got {type(values['name']).__name__})")
        return cls(**values)


def _check(device: str, name: str, value: Any, *, low: float, open_: bool = False, most: float = MOST_RATE) -> None:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and (value > low if open_ else value >= low)
    if not fine or value > most:
        wanted = "positive" if open_ else "not negative"
        limit = "" if most == math.inf else f" and at most {most:g}"
        raise GraphError(
            f"device {quoted(device)}: '{name}' must be a number that is {wanted}{limit} (got {_shown(value)})"
        )


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a very large number"
    return text if len(text) <= 60 else f"{text[:57]}..."


TERA, GIGA, MIB = 1e12, 1e9, 1 << 20
# By name; the ``source`` of each says where its numbers are from.
DEVICES = {
    device.name: device
    for device in (
        Device(
            "h100-sxm",
            {"float64": 34 * TERA, "float32": 67 * TERA, "float16": 989.4 * TERA, "bfloat16": 989.4 * TERA,
             "float8_e4m3fn": 1978.9 * TERA, "float8_e5m2": 1978.9 * TERA, "int8": 1978.9 * TERA},
            bandwidth=3.35 * TERA,
            launch_seconds=3e-6,
            streams=4,
            memory_bytes=80 * 10**9,
            link_bandwidth=450 * GIGA,
            source="NVIDIA H100 Tensor Core GPU data sheet (2023), dense rates; NVLink 900 GB/s in both directions; "
            "float32 without TF32, PyTorch's default; launch and streams: usual values, not the vendor's",
        ),
        Device(
            "a100-sxm",
            {"float64": 9.7 * TERA, "float32": 19.5 * TERA, "float16": 312 * TERA, "bfloat16": 312 * TERA,
             "int8": 624 * TERA},
            bandwidth=2.039 * TERA,
            launch_seconds=3e-6,
            streams=4,
            memory_bytes=80 * 10**9,
            link_bandwidth=300 * GIGA,
            source="NVIDIA A100 80GB data sheet (2021), dense rates; NVLink 600 GB/s in both directions; float32 "
            "without TF32; launch and streams: usual values, not the vendor's",
        ),
        Device(
            "rtx4090",
            {"float64": 1.29 * TERA, "float32": 82.6 * TERA, "float16": 165.2 * TERA, "bfloat16": 165.2 * TERA,
             "float8_e4m3fn": 330.3 * TERA, "int8": 660.6 * TERA},
            bandwidth=1.008 * TERA,
            launch_seconds=3e-6,
            streams=4,
            memory_bytes=24 * 10**9,
            link_bandwidth=31.5 * GIGA,
            source="NVIDIA Ada GPU Architecture whitepaper (2022), appendix A, dense rates, float32 accumulation; "
            "link: PCI Express 4.0 x16; launch and streams: usual values, not the vendor's",
        ),
        Device(
            "npu-8mb",
            {"float32": 0.5 * TERA, "float16": 12 * TERA, "int8": 26 * TERA},
            bandwidth=67.2 * GIGA,
            launch_seconds=2e-6,
            memory_bytes=12 * 10**9,
            on_chip_bytes=8 * MIB,
            on_chip_bandwidth=1.0 * TERA,
            source="a Hexagon-like accelerator: 8 MB of tightly coupled memory (VTCM) as in Qualcomm's Hexagon V73 "
            "programming guide, LPDDR5X-8400 with 64 bits, 26 TOPS int8 as stated for Snapdragon 888; float rates, "
            "on-chip bandwidth and launch are assumed",
        ),
        Device(
            "cortex-m7",
            {"float32": 0.432 * GIGA, "int8": 0.864 * GIGA},
            bandwidth=0.4 * GIGA,
            launch_seconds=1e-6,
            memory_bytes=32 * MIB,
            on_chip_bytes=512 * 1024,
            on_chip_bandwidth=1.728 * GIGA,
            source="STM32F767 data sheet: Cortex-M7 at 216 MHz, 512 KB of SRAM, 64-bit bus, one float32 multiply-add "
            "or two 16-bit ones a cycle; external SDRAM of 32 bits at 100 MHz; launch is assumed",
        ),
    )
}  # fmt: skip


def device_named(name: str) -> Device:
    """The device of that name in :data:`DEVICES`.

    Raises:
        ValueError: there is none; names the nearest and lists all.
    """
    if name not in DEVICES:
        raise ValueError(unknown_name("device", name, DEVICES))
    return DEVICES[name]
