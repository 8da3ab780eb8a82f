"""What is alive at the peak as a table of text, for readers without a script."""

from html import escape

from topoformer.result import Schedule
from topoformer.text import place, printable

ROWS = 200
COLUMNS = ("tensor", "bytes", "of live", "kind", "type", "operator", "module", "source")
NUMBERS = COLUMNS[1:3]


def alive_table(result: Schedule) -> str:
    """The largest tensors, what the others and the step's scratch add up to, and how much of the whole each is."""
    graph = result.graph
    if not graph.n:
        return "<p>The graph has no nodes: nothing is ever in memory beside its inputs.</p>"
    alive, step = result.profile.alive(), result.profile.peak_step
    node, peak = int(result.order[step]), max(result.profile.peak_bytes, 1)
    rows = []
    for tensor in alive[:ROWS]:
        texts = map(printable, (tensor.kind, tensor.type, tensor.op, tensor.module))
        rows.append(_row(printable(tensor.name), tensor.bytes, peak, *texts, place(tensor.source, 120)))
    if rest := alive[ROWS:]:
        rows.append(_row(f"and {len(rest):,} more", sum(tensor.bytes for tensor in rest), peak))
    if scratch := int(graph.scratch[node]):
        rows.append(_row("scratch of the step", scratch, peak))
    head = "".join(f"<th scope=col{' class=n' * (name in NUMBERS)}>{name}</th>" for name in COLUMNS)
    return (
        f"<p>In step {step + 1:,} of {graph.n:,} of the new order, while "
        f"<b>{escape(printable(graph.labels[node]))}</b> runs.</p>\n"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{"".join(rows)}</tbody></table></div>'
    )


def _row(name: str, size: int, peak: int, *texts: str) -> str:
    cells = "".join(f"<td>{escape(text)}</td>" for text in texts or [""] * (len(COLUMNS) - 3))
    return (
        f"<tr><td>{escape(name)}</td><td class=n>{size:,}</td><td class=n>{100 * size / peak:.1f} %</td>{cells}</tr>\n"
    )
