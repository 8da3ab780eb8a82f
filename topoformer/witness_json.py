"""The proof of a bound as plain JSON, and back."""

from typing import Any

import numpy as np
import numpy.typing as npt

from graphs import Graph
from graphs.bound import check_bound
from graphs.csr import Int64Array
from graphs.cuts import Witness
from graphs.errors import GraphError
from graphs.implied import Refutation, unit_of
from graphs.json_format import read_count

MOST_RULES = 128  # int8
CUT, REFUTATION = "minimum cut", "refutation"


def witness_to_json(witness: Witness | Refutation | None) -> dict[str, Any] | None:
    """``witness`` as a dictionary; of a flow, the arcs that carry any."""
    if witness is None:
        return None
    head = {"bytes": witness.bytes, "node": witness.node}
    if isinstance(witness, Witness):
        arcs = np.flatnonzero(witness.flow)
        rows = {"arcs": arcs, "flow": witness.flow[arcs], "ideal": np.flatnonzero(witness.ideal)}
        return {"kind": CUT, **head, "number_of_arcs": len(witness.flow)} | _lists(rows)
    return {"kind": REFUTATION, **head} | _lists({"pairs": witness.pairs, "at": witness.at, "rules": witness.rules})


def witness_from_json(graph: Graph, data: Any, bound: int) -> Witness | Refutation | None:
    """The proof in ``data`` that no order of ``graph`` has a peak below ``bound`` bytes.

    A flow is added up here. A refutation, which takes seconds to go through, is for
    :func:`graphs.bound.check_bound` to check.

    Raises:
        GraphError: it is not what :func:`witness_to_json` gives, or no proof of that.
    """
    if data is None:
        return None
    if not isinstance(data, dict) or data.get("kind") not in (CUT, REFUTATION):
        raise GraphError("a witness must be a minimum cut or a refutation")
    bytes_, node = (read_count(data, name, "witness", 0) for name in ("bytes", "node"))
    unit = unit_of(graph)
    if -(-bytes_ // unit) * unit != bound or node >= graph.n:
        raise GraphError(f"the witness is about {bytes_} bytes in node {node}, the bound {bound} bytes")
    if data["kind"] == REFUTATION:
        return _refutation(graph, data, bytes_, node)
    witness = _cut(graph, data, bytes_, node)
    if not check_bound(graph, witness):
        raise GraphError("the flow of a witness does not add up")
    return witness


def _cut(graph: Graph, data: dict[str, Any], bytes_: int, node: int) -> Witness:
    count = read_count(data, "number_of_arcs", "witness", 0)
    if count > len(graph.preds.idx) + len(graph.reads.idx) + 2 * graph.k:
        raise GraphError(f"no network of this graph has {count} arcs")
    arcs, amounts, nodes = (
        _integers(data, name, limit) for name, limit in (("arcs", count), ("flow", 1 << 63), ("ideal", graph.n))
    )
    if len(arcs) != len(amounts):
        raise GraphError(f"a flow must have an amount for each of its {len(arcs)} arcs (got {len(amounts)})")
    flow, ideal = np.zeros(count, np.int64), np.zeros(graph.n, np.bool_)
    flow[arcs], ideal[nodes] = amounts, True
    return Witness(bytes_, node, ideal, flow)


def _refutation(graph: Graph, data: dict[str, Any], bytes_: int, node: int) -> Refutation:
    pairs, at, rules = (
        _integers(data, name, limit) for name, limit in (("pairs", graph.n), ("at", graph.n), ("rules", MOST_RULES))
    )
    if not len(pairs) == 2 * len(at) == 2 * len(rules):
        raise GraphError("a refutation must have a node and a rule for each of its pairs")
    rows = pairs.astype(np.int32).reshape(-1, 2)
    return Refutation(bytes_, rows, at.astype(np.int32), rules.astype(np.int8), node)


def _lists(rows: dict[str, npt.NDArray[Any]]) -> dict[str, list[int]]:
    return {name: row.ravel().tolist() for name, row in rows.items()}


def _integers(data: dict[str, Any], name: str, limit: int) -> Int64Array:
    """The list of integers of that name, from 0 to below ``limit``, int64[length]."""
    values = data.get(name)
    if not (isinstance(values, list) and all(type(value) is int and 0 <= value < limit for value in values)):
        raise GraphError(f"a witness's '{name}' must be a list of integers from 0 to {limit - 1}")
    return np.array(values, np.int64)
