import json
import random
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from graphs import Graph, GraphError, Kind, check_order, from_networkx, peak_bytes, program_order, simulate
from graphs.memory import lifetimes
from tests import oracle
from tests.strategies import random_graph, random_order

LAYERED = Path(__file__).parents[2].parent / "shared" / "data" / "layered"
PUBLISHED_PEAKS = {100: 46_319, 250: 146_840, 500: 284_439, 1000: 608_619}


def graph(reads, writer, size, **columns):
    return Graph.build("g", [f"n{i}" for i in range(len(reads))], reads, writer, size, **columns)


def test_random_graphs_and_orders_agree_with_the_oracle():
    seen = set()
    for seed in range(2000):
        g, rng = random_graph(seed), random.Random(seed)
        seen.update(kind.name for kind in Kind if (g.kind == kind).any())
        for order in (program_order(g).tolist(), random_order(g, rng)):
            during, after = oracle.profile(g, order)
            profile = simulate(g, order)
            assert (profile.step_bytes.tolist(), profile.live_bytes.tolist()) == (during, after), seed
            assert profile.peak_bytes == peak_bytes(g, np.array(order, np.int32)) == max(during, default=0), seed
            assert not during or during.index(max(during)) == profile.peak_step
    assert seen == {kind.name for kind in Kind}


def test_alive_and_lifetimes_agree_with_the_oracle():
    for seed in range(300):
        g = random_graph(seed)
        order = random_order(g, random.Random(seed))
        profile = simulate(g, order)
        first, last = lifetimes(g, profile.order)
        done = set()
        for t, node in enumerate(order):
            wanted = oracle.tensors_during(g, done, node)
            alive = profile.alive(t)
            assert {entry.tensor for entry in alive} == wanted, (seed, t)
            assert wanted == {i for i in range(g.k) if first[i] <= t < last[i]}
            assert sum(entry.bytes for entry in alive) + g.scratch[node] == profile.step_bytes[t]
            assert [entry.bytes for entry in alive] == sorted((entry.bytes for entry in alive), reverse=True)
            done.add(node)


def test_the_oracle_finds_the_optimum_of_all_orders():
    checked = 0
    for seed in range(150):
        g = random_graph(seed, max_nodes=6)
        peaks = [simulate(g, order).peak_bytes for order in oracle.legal_orders(g)]
        assert oracle.best_peak(g) == min(peaks)
        checked += min(peaks) < max(peaks)
    assert checked > 20  # graphs where the order matters


def test_a_chain_holds_two_tensors_at_a_time():
    g = graph([[], [0], [1]], [0, 1, 2], [10, 4, 3])
    profile = simulate(g)
    assert profile.step_bytes.tolist() == [10, 14, 7]
    assert profile.live_bytes.tolist() == [10, 4, 0]
    assert (profile.peak_bytes, profile.peak_step) == (14, 1)


def test_an_output_stays_to_the_end():
    g = graph([[], [0], []], [0, 1, 2], [10, 4, 3], kind=[Kind.OUTPUT, Kind.OUTPUT, Kind.TEMPORARY])
    assert simulate(g).step_bytes.tolist() == [10, 14, 17]
    assert simulate(g).live_bytes.tolist() == [10, 14, 14]


def test_a_temporary_that_nobody_reads_lives_for_its_own_step():
    g = graph([[], []], [0, 1], [10, 4])
    assert simulate(g).step_bytes.tolist() == [10, 4]
    assert simulate(g).live_bytes.tolist() == [0, 0]


def test_inputs_and_weights_are_resident_and_not_in_the_peak():
    g = graph([[0, 1], [2]], [-1, -1, 0, 1], [1000, 500, 3, 4], kind=[Kind.INPUT, Kind.WEIGHT, 0, Kind.OUTPUT])
    profile = simulate(g)
    assert profile.step_bytes.tolist() == [3, 7]
    assert profile.resident_bytes == g.resident_bytes == 1500


def test_a_donated_tensor_is_live_from_the_start_until_its_last_reader():
    g = graph([[], [0], []], [-1, 0, 1, 2], [100, 1, 2, 3], kind=[Kind.DONATED] + [Kind.TEMPORARY] * 3)
    assert simulate(g).step_bytes.tolist() == [101, 102, 3]
    assert simulate(g).live_bytes.tolist() == [100, 0, 0]
    assert simulate(g, [1, 0, 2]).step_bytes.tolist() == [102, 1, 3]
    assert simulate(g).resident_bytes == 0


def test_a_donated_tensor_that_nobody_reads_is_gone_before_the_first_step():
    g = graph([[]], [-1, 0], [100, 1], kind=[Kind.DONATED, Kind.TEMPORARY])
    assert simulate(g).step_bytes.tolist() == [1]
    assert simulate(g).alive(0)[0].tensor == 1


def test_scratch_is_live_only_while_its_node_runs():
    g = graph([[], [0]], [0, 1], [10, 4], scratch=[7, 100])
    assert simulate(g).step_bytes.tolist() == [17, 114]
    assert simulate(g).live_bytes.tolist() == [10, 0]


def test_a_view_allocates_nothing_and_its_reader_keeps_the_base():
    # base -> view -> use: the use reads the base's tensor and runs after the view
    g = graph([[], [0], [0], []], [0, 2, 3], [10, 1, 5], after=[(1, 2)])
    assert simulate(g, [0, 3, 1, 2]).step_bytes.tolist() == [10, 15, 10, 11]
    with pytest.raises(GraphError, match="node 'n2' must run after node 'n1'"):
        simulate(g, [0, 2, 1, 3])


def test_the_outputs_of_one_node_have_lives_of_their_own():
    g = graph([[], [0], [1]], [0, 0, 1, 2], [10, 20, 1, 1])  # split, then a reader of each half
    assert simulate(g, [0, 1, 2]).step_bytes.tolist() == [30, 31, 21]
    assert simulate(g, [0, 2, 1]).step_bytes.tolist() == [30, 31, 11]


def test_a_tensor_of_no_bytes_costs_nothing_but_is_listed():
    g = graph([[], [0]], [0, 1], [0, 4])
    assert simulate(g).step_bytes.tolist() == [0, 4]
    assert [entry.tensor for entry in simulate(g).alive(1)] == [1, 0]


def test_bytes_do_not_wrap_near_the_end_of_int64():
    huge = 2**60
    g = graph([[], [0], [0, 1]], [0, 1, 2], [huge, huge, huge])
    assert simulate(g).peak_bytes == 3 * huge


def test_the_empty_graph_has_a_peak_of_zero():
    g = graph([], [-1], [8], kind=[Kind.DONATED])
    profile = simulate(g)
    assert (profile.peak_bytes, profile.peak_step, len(profile.step_bytes)) == (0, 0, 0)
    assert peak_bytes(g) == 0
    assert profile.alive() == []
    with pytest.raises(IndexError, match="0 steps"):
        profile.alive(0)


def test_alive_tells_people_what_and_where():
    g = graph(
        [[0], [1]], [-1, 0, 1], [5, 10, 4], kind=[Kind.DONATED, Kind.TEMPORARY, Kind.OUTPUT], ops=["conv", "relu"],
        tensor_names=["", "hidden", ""], sources=["model.py:3", "model.py:4"],
        types=["int8[5]", "", ""], modules=["stem.conv", ""],
    )  # fmt: skip
    assert [tuple(entry) for entry in simulate(g).alive(0)] == [
        (1, "hidden", 10, "temporary", "n0", "conv", "model.py:3", "", "stem.conv"),
        (0, "tensor 0", 5, "donated", "", "", "", "int8[5]", ""),
    ]
    assert simulate(g).alive() == simulate(g).alive(0)
    assert simulate(g).alive(-1) == simulate(g).alive(1)
    assert simulate(g).alive(1)[1].name == "n1"


@pytest.mark.parametrize("step", [2, -3, 10**9])
def test_alive_refuses_a_step_that_is_not_there(step):
    with pytest.raises(IndexError, match=rf"one of the order's 2 steps \(got {step}\)"):
        simulate(graph([[], [0]], [0, 1], [1, 1])).alive(step)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([1, 0, 2], "order of graph 'g' is not legal: node 'n1' must run after node 'n0'"),
        ([0, 0, 2], "order holds node 'n0' more than once"),
        ([0, 1, 3], "order holds node 3, but graph 'g' has 3 nodes"),
        ([-1, 1, 2], "order holds node -1, but graph 'g' has 3 nodes"),
        ([0, 1], r"an order of graph 'g' has 3 nodes \(got shape \[2\]\)"),
        ([[0, 1, 2]], r"an order of graph 'g' has 3 nodes \(got shape \[1, 3\]\)"),
        ([0.0, 1.0, 2.0], "'order' must hold integers that fit int32"),
        ([0, 1, 2**40], "'order' holds 1099511627776, which does not fit int32"),
        (None, "'order' must hold integers"),
        ("012", "'order' must hold integers"),
    ],
)
def test_an_order_that_is_not_legal_is_refused_by_name(order, message):
    g = graph([[], [0], [1]], [0, 1, 2], [1, 1, 1])
    with pytest.raises(GraphError, match=message):
        check_order(g, order)
    if order is not None:
        with pytest.raises(GraphError, match=message):
            simulate(g, order)


def test_check_order_agrees_with_the_definition():
    answers = set()
    for seed in range(400):
        g, rng = random_graph(seed, max_nodes=5), random.Random(seed)
        order = rng.sample(range(g.n), g.n)
        legal = oracle.is_legal(g, order)
        answers.add(legal)
        if legal:
            assert check_order(g, order).tolist() == order
        else:
            with pytest.raises(GraphError, match="must run after"):
                check_order(g, order)
    assert answers == {True, False}


def test_check_order_returns_an_order_of_its_own():
    g = graph([[], []], [0, 1], [1, 1])
    given = np.array([1, 0], np.int32)
    checked = check_order(g, given)
    given[:] = 0
    assert checked.tolist() == [1, 0]
    assert checked.dtype == np.int32


def test_a_profile_cannot_be_written_to():
    profile = simulate(graph([[], []], [0, 1], [1, 1]), [1, 0])
    for array in (profile.order, profile.step_bytes, profile.live_bytes):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5
    assert peak_bytes(profile.graph, profile.order) == profile.peak_bytes


def test_a_changed_copy_of_a_graph_is_simulated_afresh():
    g = graph([[], [0]], [0, 1], [10, 4])
    assert simulate(g).peak_bytes == 14
    assert simulate(replace(g, size=np.array([1, 2], np.int64))).peak_bytes == 3


def published(nodes):
    found = sorted(LAYERED.glob(f"random_layered_n{nodes}_*.json"))
    if not found:
        pytest.skip(f"published layered graphs, which are no part of this repository, are not in {LAYERED}")
    data = json.loads(found[0].read_text())
    digraph = nx.DiGraph()
    digraph.add_nodes_from((node["name"], {"bytes": node["out_cost"]}) for node in data["nodes"])
    digraph.add_edges_from((link["0"], link["1"]) for link in data["links"])
    return from_networkx(digraph, name=data["graph"]["name"]), data["graph"]["order"]


@pytest.mark.parametrize("nodes", PUBLISHED_PEAKS)
def test_published_orders_have_the_published_peaks(nodes):
    g, order = published(nodes)
    assert g.n == nodes
    position = {label: i for i, label in enumerate(g.labels)}
    assert simulate(g, [position[str(node)] for node in order]).peak_bytes == PUBLISHED_PEAKS[nodes]
