"""The reality law: simulated bytes are measured bytes, outputs are equal bit for bit, whatever the legal order.

And its mutants: each rule of the capture, taken away, makes some case break the law.
"""

from collections.abc import Callable

import pytest

import graphs
from graphs import fx, fx_inputs, fx_kernels, fx_operators, fx_order, fx_trace
from tests.reality import disagreements
from tests.reality_cases import CASES
from tests.reality_programs import random_program

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", CASES)
def test_thirty_random_orders(name: str) -> None:
    case = CASES[name]()
    graph = graphs.from_fx(case.module, donated=case.donated)
    assert disagreements(case, graph, 30) == []


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed: int) -> None:
    case = random_program(seed)
    graph = graphs.from_fx(case.module, donated=case.donated)
    assert disagreements(case, graph, 10) == []


def _without(rule: Callable[..., object]) -> Callable[[pytest.MonkeyPatch], None]:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fx, "RULES", tuple(r for r in fx_order.RULES if r is not rule))

    return patch


def _only_declared_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fx_operators, "RUNNING_STATISTICS", ())


def _no_writes_into_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    written = fx_operators.written_arguments
    monkeypatch.setattr(
        fx_operators, "written_arguments", lambda *call: (v for v in written(*call) if not isinstance(v, list))
    )


def _no_keyword_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    written = fx_operators.written_arguments
    monkeypatch.setattr(fx_operators, "written_arguments", lambda op, args, _: written(op, args, {}))


def _a_tensor_for_each_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fx_trace, "storage_key", id)


def _bytes_of_what_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fx_trace, "_bytes", lambda tensor: tensor.numel() * tensor.element_size())


def _outputs_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fx_trace._Tracer, "_note_outputs", lambda *_: None)


def _arguments_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = fx_trace.trace
    monkeypatch.setattr(fx, "trace", lambda module, **options: watched(module, **options | {"donated": ()}))


def _unpacking_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave getitem calls where they would be if nothing tied them to their operator: as late as possible."""
    reordered = fx._reordered

    def late(graph: object, order: object) -> object:
        result = reordered(graph, order)
        for node in [n for n in result.nodes if getattr(n.target, "__name__", "") == "getitem"]:
            if node.users:
                min(node.users, key=list(result.nodes).index).prepend(node)
        return result

    monkeypatch.setattr(fx, "_reordered", late)


def _believe_the_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fx_trace, "with_kernel_memory", lambda _op, _args, _kwargs, result: result)


def _sizes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fx_kernels, "ANEW", ())


def _no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    made = fx_inputs.FakeInputs._tensor
    monkeypatch.setattr(fx_inputs.FakeInputs, "_tensor", lambda *call: made(*call).detach())


def _results_from_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        fx_trace.FakeTensorMode, "cache_enabled", property(lambda _: True, lambda *_: None), raising=False
    )


MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "data flow dropped": (_without(fx_order.data_flow), "split_chunk_unbind"),
    "read after write dropped": (_without(fx_order.read_after_write), "aliased_mutation"),
    "write after read dropped": (_without(fx_order.write_after_read), "aliased_mutation"),
    "random stream dropped": (_without(fx_order.random_stream), "random_calls"),
    "side effects dropped": (_without(fx_order.side_effects), "side_effects"),
    "running statistics forgotten": (_only_declared_writes, "batch_norm_training"),
    "list arguments forgotten": (_no_writes_into_lists, "list_and_out_arguments"),
    "keyword arguments forgotten": (_no_keyword_writes, "list_and_out_arguments"),
    "views as tensors": (_a_tensor_for_each_view, "aliased_mutation"),
    "bytes of the view": (_bytes_of_what_is_seen, "padding"),
    "outputs freed": (_outputs_are_freed, "multi_output"),
    "donated arguments kept": (_arguments_stay, "given_away"),
    "stand-ins believed": (_believe_the_stand_ins, "kernel_memory"),
    "aliases of stand-ins believed": (_sizes_only, "kernel_memory"),
    "gradients forgotten": (_no_gradients, "embedding_bags"),
    "results from a cache": (_results_from_a_cache, "equal_calls"),
    "late unpacking": (_unpacking_in_place, "multi_output"),
}


def test_every_ordering_rule_has_a_mutant() -> None:
    dropped = {name.removesuffix(" dropped").replace(" ", "_") for name in MUTANTS if name.endswith(" dropped")}
    assert dropped == {rule.__name__ for rule in fx_order.RULES}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_law_kills(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, name = MUTANTS[mutant]
    case = CASES[name]()
    patch(monkeypatch)
    graph = graphs.from_fx(case.module, donated=case.donated)
    assert disagreements(case, graph, 30), f"no order shows that {mutant}"
