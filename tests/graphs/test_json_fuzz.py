"""Whatever is done to a graph file, it loads to a sound graph or is refused with one line."""

import copy
import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphs import Graph, GraphError, load, save, simulate
from graphs.json_format import graph_to_json
from tests import oracle
from tests.strategies import random_graph

FUZZ = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
AWKWARD = (
    -1, 0, 1, 2, 3, 2**31, 2**32, 2**62, 2**63, 2**64, -(2**70), 10**30, 1.0, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), True, False, None, "", "a\nb", "\ud800", "x" * 500, "output", "donated", "reads", [], {}, [[]],
)  # fmt: skip
scalars = st.sampled_from(AWKWARD) | st.integers(-3, 12) | st.floats() | st.text(max_size=5)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
).map(copy.deepcopy)  # fmt: skip
SEEDS = st.integers(0, 200)


class Twice(dict):
    """A dictionary that is written with one of its keys given a second time."""

    def __init__(self, data, key, value):
        super().__init__(data)
        self.again = (key, value)

    def items(self):
        return [*super().items(), self.again]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "g.json"


def check(path, content):
    """Load what was made of a file; return whether it is still a graph."""
    path.write_bytes(content)
    refusal, g = "", None
    try:
        g = load(path)
    except GraphError as error:
        refusal = str(error)
    if g is None:
        assert refusal.isprintable()
        assert 0 < len(refusal) < 500
        return False
    assert isinstance(g, Graph)
    assert oracle.is_legal(g, range(g.n))
    assert simulate(g).step_bytes.tolist() == oracle.profile(g, range(g.n))[0]
    save(g, path)
    assert load(path).fingerprint == g.fingerprint
    return True


def containers(value):
    """Every list and object in ``value`` that is not empty, ``value`` itself last."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [spot for item in inner for spot in containers(item)] + ([value] if inner else [])


def mutate(data, draw):
    """Change one spot of ``data`` in place; return the new whole."""
    spots = containers(data)
    spot = draw(st.sampled_from(spots))
    key = draw(st.sampled_from(sorted(spot) if isinstance(spot, dict) else range(len(spot))))
    what = draw(st.sampled_from(("replace", "replace", "delete", "twice", "other", "rename", "append")))
    if what == "replace":
        spot[key] = draw(anything)
    elif what == "delete":
        del spot[key]
    elif what == "other":  # a value from elsewhere in the file: right in form, wrong in place
        spot[key] = copy.deepcopy(draw(st.sampled_from(spots)))
    elif what == "rename" and isinstance(spot, dict):
        spot[draw(st.sampled_from((key + "s", key[:-1], key.upper(), "x-tool", "after", "kind")))] = spot.pop(key)
    elif isinstance(spot, list):
        spot.insert(key, copy.deepcopy(spot[key]) if what == "twice" else draw(anything))
    elif spot is data and what == "twice":
        return Twice(data, key, draw(anything))
    else:
        for holder in spots:
            for place, item in holder.items() if isinstance(holder, dict) else enumerate(holder):
                if item is spot:
                    holder[place] = Twice(spot, key, draw(anything))
                    return data
    return data


@settings(FUZZ, max_examples=800)
@given(data=st.data(), seed=SEEDS, changes=st.integers(1, 3))
def test_a_graph_with_changed_values(path, data, seed, changes):
    whole = graph_to_json(random_graph(seed, max_nodes=5))
    for _ in range(changes):
        if isinstance(whole, dict) and whole:
            whole = mutate(whole, data.draw)
    check(path, json.dumps(whole).encode())


@settings(FUZZ, max_examples=600)
@given(seed=SEEDS, packed=st.booleans(), cut=st.integers(0, 10**6), flips=st.lists(st.tuples(
    st.integers(0, 10**6), st.integers(0, 255)), max_size=4), whole=st.booleans())  # fmt: skip
def test_a_file_with_changed_bytes(path, seed, packed, cut, flips, whole):
    content = json.dumps(graph_to_json(random_graph(seed, max_nodes=5))).encode()
    content = bytearray(gzip.compress(content) if packed else content)
    for place, value in flips:
        content[place % len(content)] = value
    check(path, bytes(content if whole else content[: cut % len(content)]))


@settings(FUZZ, max_examples=300)
@given(seed=SEEDS, flips=st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(b'0123456789-.eE+,:[]{}"tfn\\u ')),
                                  min_size=1, max_size=3))  # fmt: skip
def test_a_file_with_changed_signs(path, seed, flips):
    content = bytearray(json.dumps(graph_to_json(random_graph(seed, max_nodes=5))).encode())
    for place, value in flips:
        content[place % len(content)] = value
    check(path, bytes(content))


@settings(FUZZ, max_examples=200)
@given(content=st.binary(max_size=60), head=st.sampled_from((b"", b"{", b'{"format": ', b"\x1f\x8b", b"\xef\xbb\xbf")))
def test_a_file_of_anything(path, content, head):
    assert not check(path, head + content)


@settings(FUZZ, max_examples=200)
@given(value=anything)
def test_a_file_of_any_json(path, value):
    assert not check(path, json.dumps({"format": "topoformer.graph", "version": 1, "nodes": value}).encode())


def test_the_fuzzer_makes_graphs_as_well_as_refusals(path):
    answers = []

    @settings(FUZZ, max_examples=200)
    @given(data=st.data(), seed=SEEDS)
    def run(data, seed):
        whole = mutate(graph_to_json(random_graph(seed, max_nodes=5)), data.draw)
        answers.append(check(path, json.dumps(whole).encode()))

    run()
    assert 10 < sum(answers) < 190
