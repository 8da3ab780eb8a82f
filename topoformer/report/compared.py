"""What other methods found for the same graph, beside the schedule of the page."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from graphs.units import format_bytes
from topoformer.result import Schedule
from topoformer.text import printable, value_text

PROGRAM = "program"  # the method that changes nothing


class Compared(NamedTuple):
    """The order that a method found."""

    method: str
    peak_bytes: int
    seconds: float
    value: float | None = None  # of what was minimised, where that is not the peak

    @classmethod
    def of(cls, result: Schedule) -> "Compared":
        """What the method of ``result`` found, also where the program's own order was kept."""
        cost, objective = result.method_cost, result.objective
        value = None if objective.is_memory else objective.value(cost)
        return cls(result.method, cost.held_bytes, result.search_seconds, value)

    @property
    def rank(self) -> tuple[float, float]:
        """What methods are sorted by: lower is better."""
        return (self.peak_bytes if self.value is None else self.value), self.seconds


def methods_table(result: Schedule, compared: Sequence[Compared]) -> str:
    """A row a method, the best first, the program's own order among them."""
    objective, cost = result.objective, result.program_cost
    before = Compared(PROGRAM, cost.held_bytes, 0.0, None if objective.is_memory else objective.value(cost))
    rows = sorted([*(row for row in compared if row.method != PROGRAM), before], key=lambda row: row.rank)
    bound = result.bound_bytes if objective.is_memory else 0
    body = "".join(_row(row, result, before, bound, rows) for row in rows)
    first = "peak" if objective.is_memory else printable(objective.name, 40)
    columns = (first, "of program", "above bound" if objective.is_memory else "held", "took")
    head = "".join(f"<th scope=col class=n>{escape(column)}</th>" for column in columns)
    head = f"<tr><th scope=col>method</th><td class=wide></td>{head}</tr>"
    table = f'<div class="scroll"><table><thead>{head}</thead>\n<tbody>{body}</tbody></table></div>'
    hint = "The line in each bar is the lower bound: no order of any method can be below it."
    return f'{table}\n<p class="hint">{hint}</p>' if bound else table


def _row(row: Compared, result: Schedule, before: Compared, bound: int, rows: Sequence[Compared]) -> str:
    own, (number, _), (program, _) = row.method == PROGRAM, row.rank, before.rank
    top = max(other.rank[0] for other in rows) or 1
    if row.value is None:
        said = format_bytes(row.peak_bytes)
        last = "optimal" if row.peak_bytes == bound else f"{100 * (row.peak_bytes / bound - 1):.1f} %" if bound else ""
    else:
        said, last = value_text(result.objective, row.value), format_bytes(row.peak_bytes)
    ratio = f"{number / program:.3f}" if program else "1.000"
    width, mark = 100 * number / top, 100 * bound / top
    line = f'<rect class="mark" x="{mark:.2f}%" width="2" height="100%"/>' if bound else ""
    bar = f'<svg class="strip {"of-before" if own else "of-after"}" aria-hidden="true">'
    best = ' class="best"' if number == rows[0].rank[0] else ""
    return (
        f"<tr{best}><th scope=row>{escape('program order' if own else printable(row.method, 40))}</th>"
        f'<td class=wide>{bar}<rect width="{width:.2f}%" height="100%"/>{line}</svg></td>'
        f"<td class=n>{escape(said)}</td><td class=n>{ratio}</td><td class=n>{last}</td>"
        f"<td class=n>{'' if own else f'{row.seconds:.2f} s'}</td></tr>\n"
    )
