"""What has been measured of the machine at hand: devices in one JSON file of the user.

``device.json`` in ``topoformer`` in the user's cache directory, ``$XDG_CACHE_HOME`` or ``~/.cache``, written by
``topoformer calibrate``. It holds the devices of each machine that shares the directory, told apart by processor.
"""

import json
import os
import platform
import re
from functools import cache
from pathlib import Path
from typing import Any

from graphs.device import Device
from graphs.errors import GraphError, unknown_name
from graphs.io import read_json, write_atomic
from topoformer.cache_folder import user_folder

FORMAT = {"format": "topoformer.calibration", "version": 1}
MOST_MACHINES = 100


class CalibrationError(ValueError):
    """The machine at hand has not been measured; the text says how to."""


def profile_path() -> Path:
    """Of the file with what has been measured."""
    return user_folder() / "device.json"


def this_device(name: str = "cpu", *, path: str | os.PathLike[str] | None = None) -> Device:
    """The machine at hand as ``topoformer calibrate`` has measured it.

    Args:
        name: "cpu", or "cuda" for its first GPU.
        path: of the file to look into; by default :func:`profile_path`.

    Raises:
        CalibrationError: it has not been measured.

    Example:
        >>> from topoformer import this_device
        >>> this_device(path="no/such/file.json")  # "topoformer calibrate" makes one
        Traceback (most recent call last):
            ...
        topoformer.calibration.CalibrationError: this machine has not been measured: run 'topoformer calibrate' first

        What is in such a file, here written by hand:

        >>> import tempfile
        >>> from graphs import Device
        >>> from topoformer.calibration import save_profile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_profile(Device("cpu", {"float32": 8e10}, bandwidth=2e10), f"{folder}/device.json")
        ...     this_device(path=f"{folder}/device.json").bandwidth  # bytes/s
        20000000000.0
    """
    known = load_profile(path)
    if not known:
        raise CalibrationError("this machine has not been measured: run 'topoformer calibrate' first")
    if name not in known:
        text = f"{unknown_name('measured device', name, known)}; 'topoformer calibrate' measures those that are there"
        raise CalibrationError(text)
    return known[name]


def load_profile(path: str | os.PathLike[str] | None = None) -> dict[str, Device]:
    """Measured devices of this machine, by name; a file that cannot be read, or is something else, counts as empty."""
    found = {}
    for name, data in _machines(path).get(machine(), {}).items():
        try:
            device = Device.from_json(data)
        except GraphError:
            continue
        if device.name == name:
            found[name] = device
    return found


def save_profile(device: Device, path: str | os.PathLike[str] | None = None) -> None:
    """Keep ``device`` as measured on this machine; others in the file stay.

    Raises:
        OSError: the file cannot be written.
    """
    target = profile_path() if path is None else Path(path)
    machines = _machines(target)
    devices = machines.pop(machine(), {}) | {device.name: device.to_json()}
    kept = dict(list(machines.items())[1 - MOST_MACHINES :]) | {machine(): devices}
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, (json.dumps({**FORMAT, "machines": kept}, indent=1) + "\n").encode())


def machine() -> str:
    """What tells machines apart that share a directory: the processor, and how many cores there are."""
    return f"{processor()}, {os.cpu_count()} cores"


@cache
def processor() -> str:
    """The name of this machine's processor."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def _machines(path: str | os.PathLike[str] | None) -> dict[str, dict[str, Any]]:
    try:
        data = read_json(profile_path() if path is None else path)
    except (GraphError, OSError):
        return {}
    machines = data.get("machines")
    if {key: data.get(key) for key in FORMAT} != FORMAT or not isinstance(machines, dict):
        return {}
    return {name: devices for name, devices in machines.items() if isinstance(devices, dict)}
