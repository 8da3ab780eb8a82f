"""Every public name says what it is, takes, gives and raises, with an example that can be pasted and runs."""

import doctest
import inspect
import re
import sys

import numpy as np
import pytest

import bayesopt_perm
import graphs
import topoformer

PACKAGES = (graphs, topoformer, bayesopt_perm)
PUBLIC = {f"{package.__name__}.{name}": getattr(package, name) for package in PACKAGES for name in package.__all__}
# Values and an alias, which cannot have a docstring of their own: a comment where they are defined says what they are.
COMMENTED = {
    "graphs.DEVICES": "graphs.device",
    "graphs.Order": "graphs.graph",
    "topoformer.SCHEDULERS": "topoformer.scheduling",
}
DOCUMENTED = {name: value for name, value in PUBLIC.items() if name not in COMMENTED}
CLASSES = sorted(name for name, value in DOCUMENTED.items() if inspect.isclass(value))
FUNCTIONS = sorted(name for name, value in DOCUMENTED.items() if inspect.isfunction(value))
FEW = 3  # parameters that need no list of arguments
SAID_BY_THEIR_NAMES = {"graph", "order", "path"}  # where there are few, and the first sentence is about them
ARRAY = re.compile(r"ndarray|_SupportsArray|ArrayLike")  # in the text of an annotation, an alias spelt out
SHAPE = re.compile(r"\b(?:int|float|uint|bool)\d*\[[^\]]+\]")


class Runner(doctest.DocTestRunner):
    """Keeps what it would print."""

    def __init__(self):
        super().__init__(verbose=False)
        self.reports = []

    def run_all(self, value, name):
        """Run the examples of an object and its public methods, each docstring by itself in an empty namespace."""
        for test in doctest.DocTestFinder().find(value, name, module=False, globs={}):
            self.run(test, out=self.reports.append)
        return self


def has_example(value):
    return ">>>" in (inspect.getdoc(value) or "")


def without_examples(text):
    """What a docstring says in words."""
    return text.split("\nExample:\n")[0]


def not_mentioned(value):
    """Parameters of a function that its docstring does not speak of, and "Args:" where a list of them is missing.

    Those of a class are those of its ``__init__``, whose docstring counts too.
    """
    words, names = without_examples(inspect.getdoc(value)), parameters(value)
    if inspect.isclass(value):
        words += f"\n{inspect.getdoc(value.__init__)}"
    known = SAID_BY_THEIR_NAMES if len(names) <= FEW else set()
    silent = [each for each in names if each not in known and not re.search(rf"\b{each}\b", words)]
    return silent if len(names) <= FEW or "Args:" in words.splitlines() else [*silent, "Args:"]


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def members(value):
    """(name, docstring) of the public methods and properties that a class itself defines."""
    for name, member in vars(value).items():
        inner = getattr(member, "__func__", getattr(member, "fget", getattr(member, "func", member)))
        if not name.startswith("_") and inspect.isfunction(inner):
            yield name, inspect.getdoc(inner)


def shapes_missing(value):
    """Whether a function takes or gives arrays and its docstring has no shape of any."""
    signature = inspect.signature(value)
    annotations = [*(each.annotation for each in signature.parameters.values()), signature.return_annotation]
    return any(ARRAY.search(str(each)) for each in annotations) and not SHAPE.search(inspect.getdoc(value))


def raises_missing(value):
    """Whether a function's own body has a ``raise``, of which its docstring says nothing."""
    raised = re.search(r"^\s+raise\b", inspect.getsource(value), re.MULTILINE)
    return raised is not None and "Raises:" not in inspect.getdoc(value).splitlines()


def test_all_public_names_are_looked_at():
    assert len(PUBLIC) == sum(len(package.__all__) for package in PACKAGES)
    assert set(CLASSES) | set(FUNCTIONS) == set(DOCUMENTED)
    assert {"graphs.simulate", "topoformer.schedule", "bayesopt_perm.minimize"} <= set(FUNCTIONS)
    assert {"graphs.Graph", "topoformer.Scheduler", "bayesopt_perm.Surrogate"} <= set(CLASSES)


@pytest.mark.parametrize("name", COMMENTED)
def test_a_value_has_a_comment_where_it_is_defined(name):
    short = name.partition(".")[2]
    source = inspect.getsource(sys.modules[COMMENTED[name]])
    assert re.search(rf"(?:^#.*\n{short}\b|^{short} = .*  # )", source, re.MULTILINE)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_name_has_a_docstring_with_an_example(name):
    text = inspect.getdoc(DOCUMENTED[name])
    assert text
    assert DOCUMENTED[name].__doc__ is not None, "inherited"
    assert text.splitlines()[0].endswith((".", ":")), "the first line is a sentence"
    assert "Example:" in text.splitlines()
    assert has_example(DOCUMENTED[name])


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_examples_of_a_name_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    runner = Runner().run_all(DOCUMENTED[name], name)
    assert runner.tries >= 1
    assert runner.failures == 0, "".join(runner.reports)
    assert list(tmp_path.iterdir()) == [], "it leaves files behind"


@pytest.mark.parametrize("name", CLASSES)
def test_public_members_have_a_docstring(name):
    assert [member for member, text in members(DOCUMENTED[name]) if not text] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes(name):
    assert not_mentioned(DOCUMENTED[name]) == []


@pytest.mark.parametrize(
    "value", [graphs.Graph.build, topoformer.ScheduleCache, bayesopt_perm.BayesOpt, bayesopt_perm.PermutationSpace]
)
def test_what_users_make_says_what_it_takes(value):
    assert not_mentioned(value) == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_the_shapes_of_its_arrays(name):
    assert not shapes_missing(DOCUMENTED[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_raises(name):
    assert not raises_missing(DOCUMENTED[name])


def half(number: np.ndarray, by, more, most):
    """Half of ``number``.

    Args:
        by: who asks.
        more: and what.

    Example:
        >>> half(8, 1, 1, 1)
        4
    """
    if number is None:
        raise TypeError
    return number // 2


class Halves:
    """Halves of numbers."""

    def of(self, number):
        """Half of ``number``.

        Example:
            >>> 8 // 2
            3
        """
        return number // 2

    def silent(self):
        return 0

    @property
    def last(self):
        raise AttributeError


def test_a_wrong_output_is_found_also_in_a_method():
    runner = Runner().run_all(Halves, "Halves")
    assert (runner.tries, runner.failures) == (1, 1)
    assert "Halves.of" in "".join(runner.reports)
    assert "Got:\n    4" in "".join(runner.reports)


def test_an_example_that_does_not_import_what_it_uses_is_found():
    runner = Runner().run_all(half, "half")
    assert (runner.tries, runner.failures) == (1, 1)
    assert "NameError: name 'half' is not defined" in "".join(runner.reports)


def test_what_is_not_said_is_found():
    assert not_mentioned(half) == ["most"]
    assert not_mentioned(Halves.of) == []
    assert shapes_missing(half)
    assert raises_missing(half)
    assert not raises_missing(Halves.of)
    assert [member for member, text in members(Halves) if not text] == ["silent", "last"]
