"""PyTorch Inductor's own memory pass as a rival: its orders are legal, its model is ours, and it never wins."""

import functools

import pytest

import graphs
from bench.rivals.inductor import estimated_peak, inductor, missing, parts
from graphs import Graph, check_order, peak_bytes
from graphs.synthetic import FAMILIES
from tests import oracle
from tests.reality_cases import CASES
from tests.strategies import random_graph
from topoformer.scheduling import schedule

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
SYNTHETIC = {
    f"{name}-{nodes}": functools.partial(make, nodes, seed=7) for name, make in FAMILIES.items() for nodes in (40, 90)
}
SECONDS = 0.5


def pick(graph: Graph) -> int:
    """Peak, in bytes, of the order that Inductor would run."""
    return peak_bytes(graph, check_order(graph, inductor(graph, None, seconds=1, seed=0)))


def never_worse(graph: Graph) -> None:
    ours, theirs = schedule(graph, seconds=SECONDS), pick(graph)
    assert ours.cost.peak_bytes <= theirs
    assert ours.bound_bytes <= theirs
    assert estimated_peak(graph) == peak_bytes(graph)


def test_its_orders_are_legal_and_its_estimate_of_the_programs_own_is_ours() -> None:
    for seed in range(300):
        graph = random_graph(seed)
        assert estimated_peak(graph) == oracle.peak(graph, range(graph.n))
        for sort in parts().values():
            assert oracle.is_legal(graph, sort(graph).tolist())


def test_it_picks_the_best_of_its_sorts() -> None:
    for make in SYNTHETIC.values():
        graph = make()
        orders = [graphs.program_order(graph), *(sort(graph) for sort in parts().values())]
        assert pick(graph) == min(peak_bytes(graph, check_order(graph, order)) for order in orders)


def test_a_method_by_its_name() -> None:
    graph = SYNTHETIC["tree-40"]()
    result = schedule(graph, inductor)
    assert result.method == "inductor"
    assert result.method_cost.peak_bytes == pick(graph)


def test_deep_graphs() -> None:
    n = 2_500
    never_worse(Graph.build("chain", map(str, range(n)), [[]] + [[v] for v in range(n - 1)], range(n), [8] * n))


@pytest.mark.parametrize("name", SYNTHETIC)
def test_never_worse_on_synthetic_graphs(name: str) -> None:
    never_worse(SYNTHETIC[name]())


def test_it_is_a_rival() -> None:
    made = [make() for make in SYNTHETIC.values()]
    assert sum(pick(graph) < peak_bytes(graph) for graph in made) > len(made) / 3
    assert sum(pick(graph) > schedule(graph, seconds=SECONDS).cost.peak_bytes for graph in made) > len(made) / 3


def test_never_worse_on_random_graphs() -> None:
    for seed in range(60):
        never_worse(random_graph(seed, 30))


@pytest.mark.parametrize("name", CASES)
def test_never_worse_on_captured_programs(name: str) -> None:
    case = CASES[name]()
    never_worse(graphs.from_fx(case.module, donated=case.donated))
