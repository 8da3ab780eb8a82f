"""A schedule as a page: what a reader sees without a script, and the data and the script that make it interactive."""

import base64
import re
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template

from graphs.units import format_bytes, format_seconds
from topoformer.picture import COLOURS
from topoformer.report import anytime
from topoformer.report.alive import alive_table
from topoformer.report.compared import Compared, methods_table
from topoformer.report.container import packed
from topoformer.report.data import report_data
from topoformer.report.device_data import chip, timed
from topoformer.report.drawing import svg
from topoformer.report.words import achieved, proven
from topoformer.result import Schedule
from topoformer.text import cost_rows, count, printable

SCRIPTS = (
    "base",
    "state",
    "chart",
    "gestures",
    "memory",
    "map",
    "table",
    "groups",
    "device",
    "page",
)  # one script, in this order
TITLE_LENGTH = 120


def html(result: Schedule, *, compared: Sequence[Compared] = ()) -> str:
    """A self-contained page: a sentence of what was achieved, numbers, charts, what is alive at the peak.

    Args:
        compared: what other methods found, for a table beside the schedule's own numbers.
    """
    style, script = _theme() + _asset("page.css"), _script()
    picture, search, said = svg(result), _search(result), achieved(result)
    styles = [style, *re.findall("<style>(.*?)</style>", picture + search, re.DOTALL)]
    return Template(_asset("page.html")).substitute(
        policy=_policy(styles, script),
        name=escape(printable(result.graph.name, TITLE_LENGTH)),
        style=style,
        sentence=escape(f"{said[:1].upper()}{said[1:]} {proven(result)}"),
        tiles="\n".join(_tile(*tile) for tile in _tiles(result)),
        picture=picture,
        alive=alive_table(result),
        latency=_latency(result),
        traffic=_traffic(result),
        arena=_arena(result),
        methods=_section("methods", "Methods", "Methods compared", methods_table(result, compared)) if compared else "",
        search=search,
        facts="\n".join(_fact(*fact) for fact in _facts(result)),
        data=packed(report_data(result)),
        script=script,
    )


def _asset(name: str) -> str:
    return (files("topoformer.report") / name).read_text("utf-8")


def _script() -> str:
    parts = "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def _theme() -> str:
    """The colours of all pictures as properties of the page, for the light and the dark."""
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in COLOURS.items()) for i in range(2))
    chosen = f":root[data-theme=dark]{{color-scheme:dark;{dark}}}:root[data-theme=light]{{color-scheme:light}}"
    pictures = "".join(
        f"main .topoformer .{name}{{fill:var(--{name})}}main .topoformer .{name}-line{{stroke:var(--{name})}}"
        for name in COLOURS
    )
    system = f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
    paper = f"@media print{{:root,:root:not([data-theme=light]),:root[data-theme=dark]{{{light}}}}}"
    return f":root{{color-scheme:light dark;{light}}}{system}{chosen}{pictures}{paper}\n"


def _policy(styles: Sequence[str], script: str) -> str:
    """A Content-Security-Policy that lets in these very styles and this script, and nothing from anywhere."""
    allowed = " ".join(dict.fromkeys(_source(style) for style in styles))
    rest = "base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; style-src {allowed}; script-src {_source(script)}; {rest}"


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def _section(name: str, short: str, title: str, body: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">\n'
        f'<h2 id="{name}-title" data-short="{short}">{title}</h2>\n{body}\n</section>'
    )


# ---------------------------------------------------------------- numbers


def _tile(what: str, value: str, remark: str, colour: str) -> str:
    unit = re.fullmatch(r"([0-9.,]+) (\D+)", value)
    shown = f"{unit[1]} <small>{escape(unit[2])}</small>" if unit else escape(value)
    return f'<div class="tile {colour}"><dt>{what}</dt><dd>{shown}</dd><dd class="remark">{escape(remark)}</dd></div>'


def _tiles(result: Schedule) -> list[tuple[str, str, str, str]]:
    """(what, how much, remark, class): what one looks at first."""
    before, after, bound = result.program_cost.peak_bytes, result.cost.peak_bytes, result.bound_bytes
    change = f"{100 * (result.ratio - 1):+.1f}%".replace("-", "\N{MINUS SIGN}") if after != before else "unchanged"
    tiles = [
        ("Program peak", format_bytes(before), "in the given order", "of-before"),
        ("New peak", format_bytes(after), f"{change}, {result.ratio:.3f} of the program's", "of-after"),
        (
            "Lower bound",
            format_bytes(bound),
            "no order needs less" if bound or result.proven_optimal else "none proven",
            "of-bound",
        ),
    ]
    if result.objective.is_memory:
        tiles.append(("Gap", _gap(result), _gap_remark(result), ""))
    cost, program = result.cost, result.program_cost
    if cost.latency_seconds is not None and program.latency_seconds is not None:
        was = f"program {format_seconds(program.latency_seconds)}"
        tiles.append(("Latency", format_seconds(cost.latency_seconds), was, ""))
    if cost.traffic_bytes is not None and program.traffic_bytes is not None:
        tiles.append(
            ("Traffic", format_bytes(cost.traffic_bytes), f"program {format_bytes(program.traffic_bytes)}", "")
        )
    if "arena" in result.__dict__:
        proof = "no smaller one exists" if result.arena.proven else "all tensors at fixed offsets"
        tiles.append(("Arena", format_bytes(result.arena.arena_bytes), proof, ""))
    tiles.append(("Resident", format_bytes(cost.resident_bytes), "weights and inputs, beside the peak", ""))
    tiles.append(("Search", f"{result.search_seconds:.2f} s", printable(result.method, 30), ""))
    return tiles


def _gap(result: Schedule) -> str:
    if result.proven_optimal:
        return "Optimal"
    if not result.bound_bytes:
        return "Unknown"
    return "< 0.1 %" if result.gap < 0.001 else f"{100 * result.gap:,.1f} %"


def _gap_remark(result: Schedule) -> str:
    if result.proven_optimal:
        return "the new peak is the bound"
    return "from the bound to the new peak" if result.bound_bytes else "without a bound"


def _fact(what: str, value: str) -> str:
    return f"<dt>{what}</dt><dd>{escape(value)}</dd>"


def _facts(result: Schedule) -> list[tuple[str, str]]:
    graph = result.graph
    both = [result.program_cost.peak_bytes, result.cost.peak_bytes, result.bound_bytes, result.cost.resident_bytes]
    before, after, bound, resident = (f"{format_bytes(size)} ({size:,} bytes)" for size in both)
    found = "found before, kept on disk" if result.cached else f"in {result.search_seconds:.2f} s"
    return [
        ("Peak in program order", before),
        ("Peak in the new order", f"{after}, {result.ratio:.3f} of the program's"),
        ("Lower bound", bound),
        ("Resident", f"{resident}: weights and inputs, whatever the order, not in the peaks"),
        *((name.capitalize(), f"{size}, {remark}") for name, size, remark in cost_rows(result)),
        ("Objective", printable(result.objective.name)),
        ("Graph", f"{count(graph.n, 'node')}, {count(graph.k, 'tensor')}, {count(len(graph.preds.idx), 'edge')}"),
        ("Found by", f"{printable(result.method)}, seed {result.seed}, {found}"),
        *((("Narrowed", result.narrowed),) if result.narrowed else ()),
        ("Graph's sha256", graph.fingerprint),
    ]


# ---------------------------------------------------------------- sections that not every schedule has


def _search(result: Schedule) -> str:
    if not result.phases:
        return ""
    picture = anytime.picture(result.phases) if result.objective.is_memory else ""  # it is about peaks
    legend = (
        '<ul class="legend"><li><i class="key of-after"></i>peak of the best order so far</li>'
        '<li><i class="key of-bound"></i>lower bound</li></ul>'
    )
    body = f'{legend}\n<div class="scroll">{picture}</div>' if picture else ""
    table = f'<div class="scroll">{anytime.table(result.phases)}</div>'
    return _section("search", "Search", "How the search went", f"{body}\n{table}")


def _latency(result: Schedule) -> str:
    if timed(result) is None:
        return ""
    body = """<p id="latency-note"></p>
<div class="live" hidden>
<div class="tools" id="latency-tools"></div>
<div class="plot"><canvas id="latency-plot" tabindex="0"></canvas></div>
<ul class="legend" id="latency-legend"></ul>
</div>"""
    return _section("latency", "Latency", "When each operator runs", body.replace("></p>", f">{_cost(result, 0)}</p>"))


def _traffic(result: Schedule) -> str:
    if chip(result) is None:
        return ""
    body = """<p id="traffic-note"></p>
<div class="live" hidden>
<div class="tools" id="traffic-tools"></div>
<div class="plot"><canvas id="traffic-plot" tabindex="0"></canvas></div>
<ul class="legend" id="traffic-legend"></ul>
</div>"""
    return _section(
        "traffic", "Traffic", "What moves on and off the chip", body.replace("></p>", f">{_cost(result, 1)}</p>")
    )


def _cost(result: Schedule, which: int) -> str:
    """The line of text of latency or traffic."""
    wanted = ("latency", "traffic")[which]
    return next(
        (
            escape(f"{name.capitalize()} {size}: {remark}.")
            for name, size, remark in cost_rows(result)
            if name == wanted
        ),
        "",
    )


def _arena(result: Schedule) -> str:
    if "arena" not in result.__dict__:
        return ""
    arena = result.arena
    verdict = (
        "No smaller arena exists for this order."
        if arena.proven
        else f"No arena for this order is smaller than {format_bytes(arena.least_bytes)}."
    )
    rows = [
        ("Peak of the order", arena.peak_bytes),
        (f"Peak, sizes in multiples of {arena.alignment}", arena.bound_bytes),
        ("Arena", arena.arena_bytes),
    ]
    top = max(size for _, size in rows) or 1
    body = "".join(
        f"<tr><th scope=row>{what}</th><td class=n>{format_bytes(size)}</td><td class=n>{size:,}</td>"
        f'<td class=wide><svg class="strip" aria-hidden="true"><rect width="{100 * size / top:.2f}%" height="100%"/>'
        "</svg></td></tr>\n"
        for what, size in rows
    )
    head = "<thead><tr><th scope=col></th><th scope=col class=n>size</th><th scope=col class=n>bytes</th><td></td></tr>"
    return _section(
        "arena", "Arena", "One arena for all tensors",
        f"<p>{verdict} Placed by {printable(arena.method)}; the map above shows these offsets.</p>"
        f'<div class="scroll"><table>{head}</thead><tbody>{body}</tbody></table></div>',
    )  # fmt: skip
