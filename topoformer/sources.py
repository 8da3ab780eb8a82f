"""What the command line can schedule: a graph, an ONNX model, an exported program, a function that makes a module."""

import importlib
import importlib.util
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import graphs
from graphs.errors import unknown_name

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.export import ExportedProgram

    from topoformer.pytorch.verify import Verification
    from topoformer.scheduling import Schedule


class SourceError(ValueError):
    """A SOURCE argument that cannot be turned into a graph; the text names it and says why."""


@dataclass(frozen=True)
class Source:
    """A graph and, where it came from PyTorch or ONNX, the program or model to hand back."""

    graph: graphs.Graph
    program: "ExportedProgram | None" = None
    model: "ModelProto | None" = None
    path: Path | None = None  # file of the model, beside which its external data lie

    @property
    def suffix(self) -> str:
        """What the name of a file ends in that the source can be written to, "" where there is none."""
        return ".onnx" if self.model is not None else ".pt2" if self.program is not None else ""


def load_source(source: str, *, dims: Mapping[str, int] | None = None, aliases: str | None = None) -> Source:
    """Load ``graph.json[.gz]``, ``model.onnx``, ``program.pt2``, ``package.module:factory`` or ``file.py:factory``.

    ``factory()`` returns ``(module, example_inputs)``, as :func:`topoformer.optimize` takes them.

    Args:
        dims: sizes of the symbolic dimensions of an ONNX model, ``{"batch": 8}``.
        aliases: which values of an ONNX model share memory, as :func:`graphs.onnx.from_onnx` says.

    Raises:
        SourceError, GraphError, UnsupportedOp: one line that says what is wrong.
        OSError: a file cannot be read.
    """
    if source.endswith(".onnx"):
        return _from_onnx(source, dims or {}, aliases)
    if dims or aliases is not None:
        what = "sizes of dimensions" if dims else "aliases"
        raise SourceError(f"'{source}': {what} can only be chosen for an .onnx file")
    if source.endswith(".pt2"):
        from graphs.fx import from_fx
        from graphs.pt2 import load_pt2

        program = load_pt2(source)
        return Source(from_fx(program, name=Path(source).stem), program)
    module, colon, factory = source.rpartition(":")
    if colon and factory.isidentifier() and not os.path.exists(source):
        return _from_factory(source, module, factory)
    if source.endswith(".py") and os.path.isfile(source):
        raise SourceError(f"'{source}' is Python: name the function in it that makes the module, '{source}:function'")
    return Source(graphs.load(source))


def check_savable(source: Source, path: str | os.PathLike[str]) -> None:
    """Raises SourceError unless ``source`` can be written to a file called ``path``."""
    if not source.suffix:
        raise SourceError(f"'{source.graph.name}' is a graph, without a program to save")
    if not os.fspath(path).endswith(source.suffix):
        what = "an ONNX model is" if source.model is not None else "a PyTorch program is"
        raise SourceError(f"'{os.fspath(path)}': {what} saved to a {source.suffix} file")


def save_program(source: "Source | ExportedProgram", order: graphs.Order, path: str | os.PathLike[str]) -> None:
    """Write the program or model of ``source`` in ``order`` to a ``.pt2`` or ``.onnx`` file, whole or not at all.

    External data of an ONNX model are copied beside the file, unless they lie there already.

    Raises:
        SourceError: there is none, or the file is called otherwise.
        GraphError: the external data of an ONNX model cannot be copied.
        OSError: the file cannot be written.
    """
    if isinstance(source, Source):
        check_savable(source, path)
        if source.model is not None:
            from graphs import onnx

            onnx.save_onnx(onnx.apply_order(source.model, order), path, source=source.path)
            return
        source = program_of(source)
    from graphs.fx import apply_order
    from graphs.pt2 import save_pt2

    save_pt2(apply_order(source, order), path)


def check_runnable(source: Source, what: str) -> None:
    """Raises SourceError unless the program of ``source``, called ``what``, can be run on its example inputs."""
    from topoformer.pytorch.verify import flat_inputs

    try:
        flat_inputs(program_of(source))
    except ValueError as error:
        raise SourceError(f"'{what}' cannot be run: {error}") from None


def with_measured_scratch(source: Source) -> Source:
    """``source`` with the workspaces of its operators, measured by running each, as scratch of its graph."""
    from topoformer.pytorch.scratch import measure_scratch

    with stdout_kept_for_results():
        return replace(source, graph=measure_scratch(program_of(source), source.graph))


def with_measured_seconds(source: Source) -> Source:
    """``source`` with the durations of its operators, measured by running each, as seconds of its graph."""
    from topoformer.pytorch.timing import measure_seconds

    with stdout_kept_for_results():
        return replace(source, graph=measure_seconds(program_of(source), source.graph))


def verified(source: Source, schedule: "Schedule", *, with_scratch: bool) -> "Verification":
    """What running the program of ``source`` in its own order and in that of ``schedule`` shows.

    Raises:
        ValueError: it cannot be run.
    """
    from topoformer.pytorch.verify import verify

    with stdout_kept_for_results():
        return verify(program_of(source), schedule, with_scratch=with_scratch)


def program_of(source: Source) -> "ExportedProgram":
    """The program of ``source``; raises SourceError where there is none."""
    if source.model is not None:
        raise SourceError(
            f"'{source.graph.name}' is an ONNX model, which cannot be run here: only .pt2 and factories can"
        )
    if source.program is None:
        raise SourceError(f"'{source.graph.name}' is a graph, without a program to run")
    return source.program


def _from_onnx(source: str, dims: Mapping[str, int], aliases: str | None) -> Source:
    try:
        from graphs import onnx
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("onnx", "google"):
            raise
        raise SourceError("reading .onnx files needs the package 'onnx': pip install 'topoformer[onnx]'") from None
    path = Path(source)
    model = onnx.load_onnx(path)
    with onnx.naming(path):
        chosen = onnx.ALIASES[0] if aliases is None else aliases
        graph = onnx.from_onnx(model, dims=dims, aliases=chosen, name=path.stem, folder=path.parent)
    return Source(graph, model=model, path=path)


def _from_factory(source: str, module: str, name: str) -> Source:
    from graphs.fx import from_fx
    from topoformer.pytorch import capture

    with stdout_kept_for_results():
        factory = _resolve(source, module, name)
        made = _guarded(source, factory)
        if not (isinstance(made, tuple | list) and len(made) == 2):
            raise SourceError(f"'{source}' must return (module, example_inputs) (got {_shape(made)})")
        try:
            with _held_back():
                program = capture(*made)
        except TypeError as error:
            raise SourceError(f"'{source}' must return (module, example_inputs): {error}") from None
        except SystemExit:
            raise SourceError(f"'{source}': the module ends the program when it runs") from None
    return Source(from_fx(program, name=name), program)


@contextmanager
def stdout_kept_for_results() -> Iterator[None]:
    """What the user's code prints goes to stderr, and so does what its child processes and C libraries print."""
    try:
        out, err = sys.stdout.fileno(), sys.stderr.fileno()
    except (AttributeError, OSError):  # a caller has put something else in their place
        with redirect_stdout(sys.stderr):
            yield
        return
    sys.stdout.flush()
    kept = os.dup(out)
    try:
        os.dup2(err, out)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, out)
        os.close(kept)


@contextmanager
def _held_back() -> Iterator[None]:
    """Show what is printed meanwhile only if all goes well: a refusal is one line, and torch prints pages before it."""
    held = io.StringIO()
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stdout(held), redirect_stderr(held):
            yield
    finally:
        logging.disable(before)
    sys.stderr.write(held.getvalue())


def _resolve(source: str, module: str, name: str) -> Callable[[], Any]:
    loaded = _import_file(source, module) if module.endswith(".py") else _import_module(source, module)
    if not hasattr(loaded, name):
        raise SourceError(f"'{module}' has no such function: {unknown_name('name', name, _own_functions(loaded))}")
    factory: Callable[[], Any] = getattr(loaded, name)
    if not callable(factory):
        raise SourceError(f"'{source}' is not a function (got {type(factory).__name__})")
    return factory


def _own_functions(module: Any) -> list[str]:
    """Public functions of a module or its package, not those that it imports from elsewhere."""
    package = module.__name__.partition(".")[0]
    found = {key: value for key, value in vars(module).items() if callable(value) and not key.startswith("_")}
    return [k for k, v in found.items() if str(getattr(v, "__module__", "")).partition(".")[0] == package]


def _import_module(source: str, module: str) -> Any:
    if not all(part.isidentifier() for part in module.split(".")):
        raise SourceError(f"'{source}': '{module}' is neither a .py file nor the name of a module")
    sys.path.insert(0, os.getcwd())  # as python -m does
    return _guarded(source, lambda: importlib.import_module(module))


def _import_file(source: str, path: str) -> Any:
    file = Path(path).resolve()
    if not file.is_file():
        raise SourceError(f"'{source}': there is no file '{path}'")
    name = f"topoformer_source_{file.stem}"  # a file called torch.py must not take torch's place
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SourceError(f"'{source}': '{path}' is not Python source")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that classes in it can be found by name, as after an import
    sys.path.insert(0, str(file.parent))
    _guarded(source, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    return module


def _guarded(source: str, action: Callable[[], Any]) -> Any:
    """Run the user's code; whatever it raises becomes one line."""
    try:
        return action()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a script that parses its own arguments
        lines = str(error).strip().splitlines() or ["no message"]
        raise SourceError(f"'{source}' raised {type(error).__name__}: {lines[0][:300]}") from error


def _shape(value: Any) -> str:
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__
