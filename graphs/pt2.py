"""``.pt2`` files of torch.export, read as data only.

``torch.export.load`` unpickles some parts of an archive and evaluates size expressions as Python, so a file is looked
through first: whatever would run code from it is refused.
"""

import ast
import io
import json
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from graphs.errors import GraphError

# What sympy's srepr writes for sizes. Only these may take text: elsewhere sympy would evaluate it.
TEXT_TAKERS = {"Symbol": r"[A-Za-z_]\w*", "Integer": r"-?\d+", "Float": r"[-+.eE\d]+", "Rational": r"[-/\d]+"}
CALLS = {
    *TEXT_TAKERS,
    *("Add", "Mul", "Pow", "Max", "Min", "Mod", "Abs", "ceiling", "floor", "And", "Or", "Not"),
    *("Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan"),
    *("FloorDiv", "CleanDiv", "PythonMod", "ModularIndexing", "IntTrueDiv", "FloatTrueDiv", "PowByNatural", "FloatPow"),
    *("LShift", "RShift", "Where", "CeilToInt", "FloorToInt", "TruncToInt", "TruncToFloat", "RoundToInt", "ToFloat"),
    *("BitwiseFn_bitwise_and", "BitwiseFn_bitwise_or", "OpaqueUnaryFn_sqrt"),
}
JSON_LIMIT = 1 << 30


def load_pt2(path: str | os.PathLike[str]) -> ExportedProgram:
    """Load an exported program without running anything that the file brings along.

    Raises:
        GraphError: not such a file, or one that would run code; one line that names the file.
        OSError: the file cannot be read.
    """
    with open(path, "rb"):
        pass  # a missing file, a directory: the system's own words
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_code(archive)
        return torch.export.load(path)
    except GraphError as error:
        raise GraphError(f"{os.fspath(path)}: {error}") from None
    except Exception as error:  # whatever a broken archive makes the reader do
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise GraphError(
            f"{os.fspath(path)}: not a .pt2 file of torch.export ({type(error).__name__}: {first})"
        ) from None


def save_pt2(program: ExportedProgram, path: str | os.PathLike[str]) -> None:
    """Write ``program`` to ``path``; an existing file is replaced whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(target))
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        written = Path(folder) / "program.pt2"
        torch.export.save(program, written)
        os.replace(written, target)


def _refuse_code(archive: zipfile.ZipFile) -> None:
    for entry in archive.infolist():
        name = entry.filename
        if "/aotinductor/" in name or name.endswith(".so"):
            raise GraphError(f"holds compiled code ({name})")
        if re.search(r"/(custom_obj|opaque_obj)_\d+$", name):
            raise GraphError(f"holds a pickled object ({name})")
        if name.endswith(".pt"):
            _refuse_pickled_code(name, archive.read(entry))
        elif name.endswith(".json"):
            if entry.file_size > JSON_LIMIT:
                raise GraphError(f"{name} is larger than {JSON_LIMIT} bytes")
            _refuse_in_json(name, json.loads(archive.read(entry) or b"null"))


def _refuse_pickled_code(name: str, data: bytes) -> None:
    if not data:
        return
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except pickle.UnpicklingError:
        raise GraphError(f"{name} is a pickle of more than tensors") from None


def _refuse_in_json(name: str, data: Any) -> None:
    for key, value in _members(data):
        if key == "use_pickle" and value:
            raise GraphError(f"{name} asks for a pickled tensor")
        if key == "expr_str" and not (isinstance(value, str) and _is_plain(value)):
            raise GraphError(f"{name} holds an expression that is not plain arithmetic: {str(value)[:60]!r}")


def _members(data: Any) -> Iterator[tuple[str, Any]]:
    """Every (key, value) of the objects nested in ``data``."""
    stack = [data]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield from item.items()
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _is_plain(expression: str) -> bool:
    """Whether evaluating ``expression`` can do nothing but build a sympy expression out of numbers and symbols."""
    try:
        tree = ast.parse(expression, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    in_call: set[ast.AST] = set()
    for node in ast.walk(tree.body):
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in CALLS:
                return False
            takes = TEXT_TAKERS.get(node.func.id)
            texts = [arg for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            if texts and not (takes and all(re.fullmatch(takes, str(text.value)) for text in texts)):
                return False
            in_call.update([node.func, *texts])
        elif isinstance(node, ast.Constant):
            if not (node in in_call or isinstance(node.value, int | float)):
                return False
        elif not (node in in_call or isinstance(node, ast.keyword | ast.UnaryOp | ast.USub | ast.Load)):
            return False
    return True
