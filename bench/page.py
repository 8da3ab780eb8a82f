"""A suite's results as one page that opens from disk: scores, plots, a row a graph, where and with what it was run."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bench.plots import anytime, growth, profile
from bench.reading import Row, graph_table, remarks, rows_of, score_table
from bench.scaling import scaling_table
from graphs.io import write_atomic

STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;background:#fff;color:#1c2430}
table{border-collapse:collapse;font-size:.85em;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}
td,th{padding:.25em .7em;border-bottom:1px solid #d9dee5;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}
svg{max-width:100%;height:auto;background:#fff}
@media(prefers-color-scheme:dark){body{background:#14181f;color:#e6e9ef}td,th{border-color:#2b323d}}
"""


def write(path: Path, suite: str, lines: Sequence[dict[str, Any]]) -> None:
    """Write the page of ``lines``, whole or not at all."""
    write_atomic(path, page(suite, lines).encode())


def page(suite: str, lines: Sequence[dict[str, Any]]) -> str:
    """The page of a suite's lines."""
    rows = rows_of(lines)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(suite)} - topoformer benchmark</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head><body>
<h1>{escape(suite)}: {len(rows)} graphs</h1>
{"".join(_parts(suite, lines, rows))}
<h2>Run with</h2>{_where(lines)}
</body></html>
"""


def _parts(suite: str, lines: Sequence[dict[str, Any]], rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        yield "<p>There are no results yet.</p>"
        return
    yield f"<h2>Methods</h2>{html_table(score_table(rows))}"
    yield f"<h2>How often within a factor of the best</h2>{profile(rows)}"
    if curve := anytime(rows):
        yield f"<h2>How soon</h2>{curve}"
    if suite == "scale":
        yield f"<h2>Growth</h2>{growth(lines)}{html_table(line for line in scaling_table(lines) if line)}"
    yield f"<h2>Graphs: peaks over the best known</h2>{html_table(graph_table(rows))}"
    if said := [line for line in remarks(lines, rows) if line]:
        yield "<h2>Remarks</h2><ul>" + "".join(f"<li>{escape(line.removeprefix('- '))}</li>" for line in said) + "</ul>"


def html_table(markdown: Iterator[str]) -> str:
    """A Markdown table as HTML."""
    rows = [line.strip().strip("|").split("|") for line in markdown]
    head, body = rows[0], rows[2:]
    titles = "".join(f"<th scope=col>{escape(cell.strip())}</th>" for cell in head)
    cells = "".join("<tr>" + "".join(f"<td>{escape(cell.strip())}</td>" for cell in row) + "</tr>\n" for row in body)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{cells}</tbody></table></div>'


def _where(lines: Sequence[dict[str, Any]]) -> str:
    machines = sorted({line["machine"] for line in lines})
    commits = sorted({line["commit"] for line in lines})
    versions = sorted({f"{name} {version}" for line in lines for name, version in line["versions"].items()})
    said = (("machine", machines), ("versions", versions), ("commit", commits))
    return "<ul>" + "".join(f"<li>{what}: {escape(', '.join(found))}</li>" for what, found in said) + "</ul>"
