"""Nested dictionaries with arrays in them as text that a page carries and reads back without parsing numbers."""

import base64
import gzip
import json
from typing import Any

import numpy as np

TYPES = {"int32": "i4", "float64": "f8"}  # what the page's script knows; little-endian
ALIGNMENT = 8  # typed arrays are views of the unpacked bytes


def packed(data: dict[str, Any]) -> str:
    """``data`` as base64 of gzip of: length of the JSON (uint32), the JSON, the arrays that it refers to.

    In the JSON an array is ``{"array": [type, offset, length]}``, the offset in bytes from the first array on.
    """
    arrays: list[bytes] = []
    head = json.dumps(_without_arrays(data, arrays), separators=(",", ":"), allow_nan=False).encode()
    head += b" " * (-(len(head) + 4) % ALIGNMENT)
    body = len(head).to_bytes(4, "little") + head + b"".join(arrays)
    return base64.b64encode(gzip.compress(body, 9, mtime=0)).decode()


def unpacked(text: str) -> dict[str, Any]:
    """What :func:`packed` was given, as the page's script reads it."""
    body = gzip.decompress(base64.b64decode(text))
    start = 4 + int.from_bytes(body[:4], "little")

    def array_of(value: dict[str, Any]) -> Any:
        if "array" not in value:
            return value
        name, offset, length = value["array"]
        return np.frombuffer(body, f"<{TYPES[name]}", length, start + offset)

    found: dict[str, Any] = json.loads(body[4:start], object_hook=array_of)
    return found


def _without_arrays(value: Any, arrays: list[bytes]) -> Any:
    if isinstance(value, dict):
        return {name: _without_arrays(part, arrays) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_arrays(part, arrays) for part in value]
    if not isinstance(value, np.ndarray):
        return value
    name = "float64" if value.dtype in (np.int64, np.float64) else "int32"  # a page's numbers are float64
    data = value.astype(f"<{TYPES[name]}").tobytes()
    entry = {"array": [name, sum(map(len, arrays)), len(value)]}
    arrays.append(data + b"\0" * (-len(data) % ALIGNMENT))
    return entry
