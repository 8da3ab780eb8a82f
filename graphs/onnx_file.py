"""``.onnx`` files: read with suspicion, written in one piece; the weights that lie beside them are never loaded."""

import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto, TensorProto

from graphs.errors import GraphError, UnsupportedOp, quoted
from graphs.io import write_atomic
from graphs.onnx_functions import inlined
from graphs.onnx_structure import all_tensors, check_structure, location_of

PROTOBUF_LIMIT = (1 << 31) - 1  # bytes of a message, for every reader and writer of protobuf
SMALL_FILE = 1 << 22  # bytes of a file that cannot unpack into much
MESSAGE_LIMIT = 1 << 22  # messages in a file: each takes some 150 bytes of memory, and may take two in the file
FIELD_LIMIT = 1 << 23  # entries of any kind; data of tensors are one
CHUNK = 1 << 22


def load_onnx(path: str | os.PathLike[str]) -> ModelProto:
    """The model in an ``.onnx`` file, its own functions inlined, its external data left where they are.

    Functions are inlined here, so that the nodes which :func:`graphs.onnx.from_onnx` counts are those that
    :func:`graphs.onnx.apply_order` puts in order and that the written file holds. A model without functions is as
    the file has it. Memory: twice the file, without its external data.

    Raises:
        GraphError: not an ONNX model, or one whose nodes do not fit together; one line that names the file.
        UnsupportedOp: what it holds is not understood; one line that names the file and the node or value.
        OSError: the file cannot be read.
    """
    with naming(path):
        model = _parsed(_read(path))
        check_structure(model)
        if model.functions:
            model = inlined(model)
            check_structure(model)
        return model


def save_onnx(model: ModelProto, path: str | os.PathLike[str], *, source: str | os.PathLike[str] | None = None) -> None:
    """Write ``model`` to ``path``; an existing file is replaced whole or not at all.

    External data are found through the folder of the model's file. Written into the folder of ``source`` the model
    goes on using the files there; written elsewhere these are copied beside it first, one chunk at a time.

    Args:
        model: as :func:`load_onnx` or :func:`graphs.onnx.apply_order` gave it.
        source: the file that the model was read from; needed where it has external data.

    Raises:
        GraphError: more than 2 GiB without its external data; external data that are missing, lie outside the
            folder of ``source``, or would overwrite another file.
        OSError: a file cannot be written.
    """
    target = Path(path)
    with naming(path):
        data = _serialized(model)
        for location in sorted(_locations(model)):
            if source is None:
                raise GraphError(f"external data {quoted(location)}: 'source', the file of the model, must be given")
            _bring_along(Path(source).resolve().parent, target.resolve().parent, location, target)
    write_atomic(target, data)


def _serialized(model: ModelProto) -> bytes:
    try:
        data: bytes = model.SerializeToString()
    except (EncodeError, ValueError):
        data = b""
    if not 0 < len(data) <= PROTOBUF_LIMIT:
        raise GraphError("more than the 2 GiB that protobuf holds: keep its weights as external data")
    return data


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the file's name before what is said against its content, on one line whatever a library said."""
    try:
        yield
    except (GraphError, UnsupportedOp) as error:
        raise type(error)(f"{quoted(os.fspath(path), 200)}: {error}") from None


def external_file(folder: Path, location: str) -> Path:
    """The file of external data called ``location`` in the model's ``folder``.

    Raises:
        GraphError: it is not a plain file inside the folder.
    """
    root = folder.resolve()
    file = root / location
    try:
        inside = not os.path.isabs(location) and file.resolve().is_relative_to(root) and "\0" not in location
        plain = inside and file.is_file()
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, links in a circle
        inside = plain = False
    if not inside:
        raise GraphError(f"external data {quoted(location)} do not lie in the folder of the model")
    if not plain:
        raise GraphError(f"external data {quoted(location)}: there is no such file in {quoted(root, 120)}")
    return file


def external_integers(tensor: TensorProto, folder: Path) -> bytes | None:
    """The external data of a small tensor of integers, little-endian; None where it holds something else.

    Raises:
        GraphError: they are not where the tensor says.
    """
    if tensor.data_type not in (TensorProto.INT32, TensorProto.INT64):
        return None
    entries = {entry.key: entry.value for entry in tensor.external_data}
    length = math.prod(tensor.dims) * (4 if tensor.data_type == TensorProto.INT32 else 8)
    with open(external_file(folder, location_of(tensor)), "rb") as file:
        try:
            file.seek(int(entries.get("offset", "0")[:20]))
            data = file.read(length)
        except (ValueError, OSError):
            data = b""
    if len(data) != length:
        raise GraphError(f"tensor {quoted(tensor.name)}: its external data are not all there")
    return data


def _read(path: str | os.PathLike[str]) -> bytes:
    status = os.stat(path)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise GraphError("not a regular file")
    if status.st_size > PROTOBUF_LIMIT:
        raise GraphError(f"{status.st_size} bytes are more than the 2 GiB that an ONNX model may have in one file")
    with open(path, "rb") as file:  # a directory: the system's own words
        return file.read(PROTOBUF_LIMIT)


def _parsed(data: bytes) -> ModelProto:
    if not data:
        raise GraphError("not an ONNX model: the file is empty")
    try:
        if len(data) > SMALL_FILE:
            _check_count(memoryview(data))
        model = ModelProto()
        model.ParseFromString(data)
        return model
    except (DecodeError, IndexError):
        raise GraphError("not an ONNX model, or not the whole of one") from None


def _check_count(data: memoryview) -> None:
    """Refuse a file of more messages than memory should be spent on: empty ones take two bytes each.

    Raises:
        GraphError: too many.
        DecodeError, IndexError: the file is not protobuf.
    """
    count = seen = 0
    stack: list[tuple[int, int, Any]] = [(0, len(data), ModelProto.DESCRIPTOR)]
    while stack:
        at, end, descriptor = stack.pop()
        fields = {number: field.message_type for number, field in descriptor.fields_by_number.items()}
        while at < end:
            key, at = _varint(data, at)
            if key < 8:  # no field has the number 0
                raise DecodeError
            if (seen := seen + 1) > FIELD_LIMIT:
                raise GraphError(f"not an ONNX model that fits memory: more than {FIELD_LIMIT} entries")
            wire = key & 7
            if wire == 2:
                length, at = _varint(data, at)
                if inner := fields.get(key >> 3):
                    if (count := count + 1) > MESSAGE_LIMIT:
                        raise GraphError(f"not an ONNX model that fits memory: more than {MESSAGE_LIMIT} entries")
                    stack.append((at, min(at + length, end), inner))
                at += length
            elif wire == 0:
                _, at = _varint(data, at)
            elif wire in (1, 5):
                at += 8 if wire == 1 else 4
            else:  # groups, which no ONNX file has
                raise DecodeError


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise DecodeError


def _locations(model: ModelProto) -> set[str]:
    return {location_of(tensor) for tensor in all_tensors(model) if tensor.data_location == TensorProto.EXTERNAL}


def external_paths(model: ModelProto, path: str | os.PathLike[str]) -> list[Path]:
    """The files that hold external data of the model in the file ``path``."""
    return [external_file(Path(path).resolve().parent, location) for location in sorted(_locations(model))]


def check_copies(model: ModelProto, path: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Raises GraphError where :func:`save_onnx` could not bring the model's external data along to ``target``."""
    source, folder = Path(path).resolve().parent, Path(target).resolve().parent
    for location in sorted(_locations(model)):
        _check_copy(source, folder, location, Path(target))


def _check_copy(source: Path, target: Path, location: str, model_file: Path) -> bool:
    """Whether there is something to copy; raises GraphError where it cannot be."""
    file, copy = external_file(source, location), target / location
    if file.resolve() == model_file.resolve():
        raise GraphError(f"external data {quoted(location)} would be overwritten by the model")
    if source == target:
        return False
    if not copy.parent.resolve().is_relative_to(target):
        raise GraphError(f"external data {quoted(location)} would be written outside the folder of the model")
    if copy.exists() or copy.is_symlink():
        if not (copy.is_file() and _same_content(file, copy)):
            raise GraphError(f"external data {quoted(location)} would overwrite another file in {quoted(target, 120)}")
        return False
    return True


def _bring_along(source: Path, target: Path, location: str, model_file: Path) -> None:
    """Have the file ``location`` of the folder ``source`` in the folder ``target`` too."""
    if not _check_copy(source, target, location, model_file):
        return
    file, copy = external_file(source, location), target / location
    copy.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix=f".{copy.name}.") as folder:
        written = Path(folder) / copy.name
        shutil.copyfile(file, written)
        os.replace(written, copy)


def _same_content(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with open(one, "rb") as left, open(other, "rb") as right:
        while piece := left.read(CHUNK):
            if piece != right.read(CHUNK):
                return False
    return True
