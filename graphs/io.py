"""Graph JSON, version 1: the exchange format, read with suspicion and written in one piece.

``{"format": "topoformer.graph", "version": 1, "name": ..., "nodes": [...], "tensors": [...]}``; a node has ``name``,
``op``, ``reads``, ``writes`` and may have ``after``, ``scratch_bytes``, ``flops``, ``seconds``, ``moved_bytes``,
``dtype``, ``module``, ``source``; a tensor has ``bytes`` and may have ``kind``, ``name`` and ``value_type``. Nodes
stand in program order.
"""

import gzip
import json
import os
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Any

from graphs.errors import GraphError, quoted
from graphs.graph import Graph
from graphs.json_format import graph_from_json, graph_to_json

FILE_LIMIT = 1 << 30  # bytes of JSON text, unpacked: a graph of five million nodes
PACKED_LIMIT = 1 << 26  # a gzip file may unpack to this many bytes, or to PACKED_RATIO times its own where that is more
PACKED_RATIO = 100  # graphs pack 5 to 20 times, bombs 1,000 times
CHUNK = 1 << 20


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a graph from a ``.json`` or ``.json.gz`` file (told apart by content).

    Raises:
        GraphError: not a graph of version 1; one line that names the file and the node or tensor.
        OSError: the file cannot be read.

    Example:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> from graphs import load
        >>> nodes = [{"name": "a", "reads": [], "writes": [0]}, {"name": "b", "reads": [0], "writes": [1]}]
        >>> data = {"format": "topoformer.graph", "version": 1, "name": "g", "nodes": nodes}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "g.json"
        ...     size = path.write_text(json.dumps(data | {"tensors": [{"bytes": 4}, {"bytes": 2, "kind": "output"}]}))
        ...     load(path)
        <Graph 'g': 2 nodes, 2 tensors (1 temporary, 1 output), 1 edges, writes 6 B, resident 0 B>
    """
    try:
        return graph_from_json(read_json(path))
    except GraphError as error:
        raise GraphError(f"{quoted(os.fspath(path), 200)}: {error}") from None


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write ``graph`` to a ``.json`` or ``.json.gz`` file; an existing file is replaced whole or not at all.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from graphs import Graph, load, save
        >>> graph = Graph.build("g", ["a", "b"], reads=[[], [0]], writer=[0, 1], size=[4, 2])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(graph, f"{folder}/g.json.gz")
        ...     load(f"{folder}/g.json.gz").fingerprint == graph.fingerprint
        True
    """
    data = json.dumps(graph_to_json(graph), separators=(",", ":")).encode()
    write_atomic(path, gzip.compress(data, mtime=0) if os.fspath(path).endswith(".gz") else data)


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` beside ``path`` and rename: readers see the old file or the new one, never half of it."""
    target = Path(path)
    if target.exists() and not target.is_file():  # /dev/null and pipes cannot be replaced, a directory must not be
        target.write_bytes(data)
        return
    target = target.resolve()  # through a link, so that the link stays
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        written = Path(folder) / target.name  # opened in the usual way, so that it gets the usual permissions
        written.write_bytes(data)
        if target.exists():
            shutil.copymode(target, written)
        os.replace(written, target)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Parse a JSON object from a file, gzipped or not, that may be anything.

    Raises:
        GraphError: it is not a JSON object, or too large; without the file's name.
        OSError: the file cannot be read.
    """
    text = _read_object_text(path)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise GraphError("not a graph: the JSON nests too deep") from None
    except ValueError as error:  # JSONDecodeError, or an integer of more digits than Python reads
        raise GraphError(f"not valid JSON ({str(error)[:120]})") from None


def _refuse_constant(name: str) -> float:
    raise GraphError(f"{name} is not a number that JSON knows")


def _read_object_text(path: str | os.PathLike[str]) -> str:
    """The file's text, read in pieces so that a wrong first byte or an endless file costs nothing."""
    pieces = bytearray()
    try:
        with open(path, "rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"  # not read and seek: the file may be a pipe
            limit = FILE_LIMIT
            if packed and (own := os.fstat(file.fileno()).st_size):
                limit = min(limit, max(PACKED_LIMIT, PACKED_RATIO * own))
            stream: Any = gzip.GzipFile(fileobj=file) if packed else file
            while piece := stream.read(CHUNK):
                if not pieces and not piece.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"{"):
                    raise GraphError("not a graph: the file does not begin with '{'")
                if b"\0" in piece:
                    raise GraphError("not a graph: the file holds zero bytes")
                pieces += piece
                if len(pieces) > limit:
                    raise GraphError(f"more than {limit} bytes of JSON")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise GraphError(f"not a whole gzip file ({error})") from None
    if not pieces:
        raise GraphError("not a graph: the file is empty")
    try:
        return pieces.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GraphError(f"not UTF-8 text ({error.reason} at byte {error.start})") from None
