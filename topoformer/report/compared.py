"""What other methods found for the same graph, beside the schedule of the page."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from graphs.units import format_bytes
from topoformer.result import Schedule
from topoformer.text import printable

PROGRAM = "program"  # the method that changes nothing


class Compared(NamedTuple):
    """The order that a method found."""

    method: str
    peak_bytes: int
    seconds: float


def methods_table(result: Schedule, compared: Sequence[Compared]) -> str:
    """A row a method, lowest peak first, the program's own order among them."""
    before, bound = result.program_cost.peak_bytes, result.bound_bytes
    others = [row for row in compared if row.method != PROGRAM]
    rows = sorted([*others, Compared(PROGRAM, before, 0.0)], key=lambda row: (row.peak_bytes, row.seconds))
    top = max(row.peak_bytes for row in rows) or 1
    body = "".join(_row(row, before, bound, top, rows[0].peak_bytes) for row in rows)
    columns = ("peak", "of program", "above bound", "took")
    head = "".join(f"<th scope=col class=n>{column}</th>" for column in columns)
    head = f"<tr><th scope=col>method</th><td class=wide></td>{head}</tr>"
    table = f'<div class="scroll"><table><thead>{head}</thead>\n<tbody>{body}</tbody></table></div>'
    hint = "The line in each bar is the lower bound: no order of any method can be below it."
    return f'{table}\n<p class="hint">{hint}</p>' if bound else table


def _row(row: Compared, before: int, bound: int, top: int, lowest: int) -> str:
    own = row.method == PROGRAM
    above = "optimal" if row.peak_bytes == bound else f"{100 * (row.peak_bytes / bound - 1):.1f} %" if bound else ""
    ratio = f"{row.peak_bytes / before:.3f}" if before else "1.000"
    width, mark = 100 * row.peak_bytes / top, 100 * bound / top
    line = f'<rect class="mark" x="{mark:.2f}%" width="2" height="100%"/>' if bound else ""
    bar = f'<svg class="strip {"of-before" if own else "of-after"}" aria-hidden="true">'
    best = ' class="best"' if row.peak_bytes == lowest else ""
    return (
        f"<tr{best}><th scope=row>{escape('program order' if own else printable(row.method, 40))}</th>"
        f'<td class=wide>{bar}<rect width="{width:.2f}%" height="100%"/>{line}</svg></td>'
        f"<td class=n>{format_bytes(row.peak_bytes)}</td><td class=n>{ratio}</td><td class=n>{above}</td>"
        f"<td class=n>{'' if own else f'{row.seconds:.2f} s'}</td></tr>\n"
    )
