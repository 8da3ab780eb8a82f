"""Devices by what people write: a name, a file, the machine at hand; with other streams or on-chip memory."""

from dataclasses import replace

from graphs.device import DEVICES, Device
from graphs.errors import unknown_name
from graphs.io import read_json

HERE = "cpu"  # the machine at hand, once it has been measured


def device_of(name: str | None, streams: int | None = None, on_chip_bytes: int | None = None) -> Device | None:
    """The device that ``name`` says: one of ``graphs.device.DEVICES``, "cpu" or a device .json; None without a name.

    Args:
        streams: instead of the device's own.
        on_chip_bytes: instead of the device's own.

    Raises:
        ValueError: there is no such device, or only a change of one.
        OSError: the file cannot be read.
    """
    if name is None:
        if streams is not None or on_chip_bytes is not None:
            raise ValueError("streams and on-chip memory are those of a device, and none is named")
        return None
    if name.endswith(".json"):
        device = Device.from_json(read_json(name))
    elif name in DEVICES:
        device = DEVICES[name]
    elif name == HERE:
        from topoformer.calibration import this_device

        device = this_device()
    else:
        raise ValueError(unknown_name("device", name, [*DEVICES, HERE]))
    return replace(
        device,
        streams=device.streams if streams is None else streams,
        on_chip_bytes=device.on_chip_bytes if on_chip_bytes is None else on_chip_bytes,
    )
