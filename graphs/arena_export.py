"""An arena plan for other programs: JSON, and a C99 header for runtimes without an allocator."""

import re
from typing import Any

import numpy as np

from graphs.arena import ArenaPlan
from graphs.errors import quoted
from graphs.graph import inverse
from graphs.memory import lifetimes

FORMAT, VERSION = "topoformer.arena", 1
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # one that starts with "_" may be the compiler's own
NAME_LIMIT = 32  # characters of a tensor's name in an identifier: C99 promises to tell 63 apart
SYMBOL_LIMIT = 20
KEYWORDS = frozenset(
    [
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
    ]
)


def to_json(plan: ArenaPlan) -> dict[str, Any]:
    """``plan`` as a JSON object of version 1: numbers, strings and lists only.

    ``tensors`` and ``scratch`` list what has a place; ``first_step`` to ``last_step`` (inclusive) is when it is used.
    """
    graph = plan.graph
    tensors, scratch = _rows(plan)
    return {
        "format": FORMAT,
        "version": VERSION,
        "graph": graph.name,
        "graph_sha256": graph.fingerprint,
        "alignment": plan.alignment,
        "arena_bytes": plan.arena_bytes,
        "peak_bytes": plan.peak_bytes,
        "bound_bytes": plan.bound_bytes,
        "order": [graph.labels[node] for node in plan.order.tolist()],
        "tensors": [
            {
                "tensor": tensor,
                "name": graph.tensor_names[tensor],
                "writer": graph.labels[graph.writer[tensor]] if graph.writer[tensor] >= 0 else None,
                "offset": offset,
                "bytes": size,
                "first_step": first,
                "last_step": last,
            }
            for tensor, offset, size, first, last in tensors
        ],
        "scratch": [
            {"node": graph.labels[node], "offset": offset, "bytes": size, "first_step": step, "last_step": step}
            for node, offset, size, step, _ in scratch
        ],
    }


def to_c_header(plan: ArenaPlan, symbol: str = "arena") -> str:
    """``plan`` as a C99 header: sizes as macros, names as an enum, and a table of places indexed by it.

    The table, ``symbol``, has a row for each tensor with a place, then one for each node's scratch. Its names are
    made of the tensors' and nodes' names, and numbered, so that they differ whatever those are.

    Raises:
        ValueError: ``symbol`` is not a C identifier that starts with a letter, or is a word of the language.
    """
    if not IDENTIFIER.fullmatch(symbol) or symbol in KEYWORDS or len(symbol) > SYMBOL_LIMIT:
        text = f"a C identifier of at most {SYMBOL_LIMIT} characters that starts with a letter"
        raise ValueError(f"'symbol' must be {text} (got {quoted(symbol)})")
    tensors, scratch = _rows(plan)
    graph, big = plan.graph, symbol.upper()
    entries = [
        (f"{big}_T{row[0]}_{_word(graph.tensor_names[row[0]] or _writer(plan, row[0]))}", row) for row in tensors
    ]
    entries += [(f"{big}_S{row[0]}_{_word(graph.labels[row[0]])}", row) for row in scratch]
    entries = [(name.rstrip("_"), row) for name, row in entries]
    names = [f"    {name} = {place}," for place, (name, _) in enumerate(entries)]
    rows = [
        f"    {{UINT64_C({offset}), UINT64_C({size}), UINT32_C({first}), UINT32_C({last})}}, /* {name} */"
        for name, (_, offset, size, first, last) in entries
    ]
    return "\n".join(
        [
            f"/* Arena plan of {_comment(graph.name)}, written by topoformer.",
            f"   graph sha256 {graph.fingerprint} */",
            f"#ifndef {big}_PLAN_H",
            f"#define {big}_PLAN_H",
            "",
            "#include <stdint.h>",
            "",
            f"#define {big}_ARENA_BYTES UINT64_C({plan.arena_bytes})",
            f"#define {big}_ALIGNMENT UINT64_C({plan.alignment})",
            f"#define {big}_STEPS UINT32_C({graph.n})",
            "",
            f"enum {symbol}_entry {{",
            *names,
            f"    {big}_COUNT = {len(entries)}",
            "};",
            "",
            f"struct {symbol}_place {{",
            "    uint64_t offset;     /* bytes from the arena's start */",
            "    uint64_t bytes;",
            "    uint32_t first_step; /* steps of the order, both ends included */",
            "    uint32_t last_step;",
            "};",
            "",
            f"static const struct {symbol}_place {symbol}[] = {{",
            *(rows or ["    {UINT64_C(0), UINT64_C(0), UINT32_C(0), UINT32_C(0)}, /* C has no empty arrays */"]),
            "};",
            "",
            f"#endif /* {big}_PLAN_H */",
            "",
        ]
    )


Row = tuple[int, int, int, int, int]  # tensor or node, offset, bytes, first step, last step


def _rows(plan: ArenaPlan) -> tuple[list[Row], list[Row]]:
    """What has a place: tensors, and nodes' scratch."""
    graph = plan.graph
    first, last = (steps.tolist() for steps in lifetimes(graph, plan.order))
    position = inverse(plan.order).tolist()
    placed = np.flatnonzero(plan.offset >= 0).tolist()
    nodes = np.flatnonzero(plan.scratch_offset >= 0).tolist()
    return (
        [(t, int(plan.offset[t]), int(graph.size[t]), first[t], last[t] - 1) for t in placed],
        [(v, int(plan.scratch_offset[v]), int(graph.scratch[v]), position[v], position[v]) for v in nodes],
    )


def _writer(plan: ArenaPlan, tensor: int) -> str:
    writer = int(plan.graph.writer[tensor])
    return plan.graph.labels[writer] if writer >= 0 else ""


def _word(name: str) -> str:
    """What of ``name`` can stand in an identifier: ASCII letters, digits, and "_" for a run of anything else."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name)[:NAME_LIMIT].strip("_").upper()


def _comment(name: str) -> str:
    """``name`` in a comment: on one line, in printable ASCII, and unable to end it, nest one or make a trigraph."""
    text = ascii(quoted(name))[1:-1]  # ascii() escapes what quoted() leaves: letters of other scripts
    return re.sub(r"[^A-Za-z0-9 .,:_'\"()=+-]", "_", text)
