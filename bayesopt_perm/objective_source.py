"""The user's function by the place where it is written, so that any process can load it."""

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bayesopt_perm._kernels import Int64Array

__all__ = ["ObjectiveSource"]


@dataclass(frozen=True)
class ObjectiveSource:
    """``module.name:function`` or ``path/file.py:function``, called as that function; pickled as its text.

    Raises:
        ValueError: when it is loaded, if there is no such function.
    """

    text: str

    def __call__(self, order: Int64Array) -> Any:
        return self.function(order)

    def __getstate__(self) -> dict[str, str]:
        return {"text": self.text}  # another process loads the function itself

    @cached_property
    def function(self) -> Any:
        """The function, loaded by the first call in each process."""
        where, colon, name = self.text.rpartition(":")
        if not colon or not where or not name:
            raise ValueError(f"'{self.text}' is neither module:function nor path/file.py:function")
        module = self._from_file(Path(where)) if where.endswith(".py") else self._imported(where)
        found = getattr(module, name, None)
        if not callable(found):
            raise ValueError(f"'{self.text}': there is no function '{name}' in {where}")
        return found

    def _from_file(self, path: Path) -> Any:
        if not path.is_file():
            raise ValueError(f"'{self.text}': there is no file '{path}'")
        spec = importlib.util.spec_from_file_location(f"bayesopt_perm_objective_{path.stem}", path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        sys.path.insert(0, str(path.resolve().parent))  # what it imports from beside it
        spec.loader.exec_module(module)
        return module

    def _imported(self, name: str) -> Any:
        sys.path.insert(0, "")  # a module in this folder, as for ``python -m``
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ValueError(f"'{self.text}': {error}") from None
        finally:
            sys.path.remove("")
