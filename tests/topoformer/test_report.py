"""The report: well-formed, self-contained, and safe whatever a graph's names hold."""

import re
from xml.etree import ElementTree

import pytest

from graphs.json_format import graph_from_json
from graphs.synthetic import breadth_trap, layered, tree
from graphs.units import format_bytes
from topoformer import report, schedule

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert(1)</script>&\"'\x1b[31m\0\ufffe\u2028\ud800"


@pytest.fixture(scope="module")
def better():
    return schedule(layered(60, seed=3), seconds=2.0)


@pytest.fixture(scope="module")
def nasty():
    node = {"name": NASTY, "op": NASTY, "source": NASTY, "reads": [], "writes": [0]}
    data = {"format": "topoformer.graph", "version": 1, "name": NASTY, "nodes": [node]}
    data["tensors"] = [{"bytes": 4, "name": NASTY}]
    return schedule(graph_from_json(data), "program")


def texts(picture):
    return " ".join(element.text or "" for element in ElementTree.fromstring(picture).iter(f"{SVG}text"))


def test_the_picture_says_both_peaks_and_the_bound(better):
    assert better.cost.peak_bytes < better.program_cost.peak_bytes
    said = texts(report.svg(better))
    for size in (better.program_cost.peak_bytes, better.cost.peak_bytes, better.bound_bytes):
        assert format_bytes(size) in said
    for word in ("step", "memory", "program order", "topoformer"):
        assert word in said


@pytest.mark.parametrize(
    ("make", "method", "verdict"),
    [
        (lambda: layered(60, seed=3), "program", "program order, kept"),
        (lambda: tree(2, seed=0), "program", "optimal as given"),
        (lambda: breadth_trap(41, seed=0), "auto", "topoformer, optimal"),
    ],
)
def test_everything_drawn_is_inside_the_picture(make, method, verdict):
    picture = report.svg(schedule(make(), method, seconds=5.0))
    assert verdict in texts(picture)
    root = ElementTree.fromstring(picture)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for mark in [*root.iter(f"{SVG}text"), *root.iter(f"{SVG}circle")]:
        x, y = (float(mark.get(key) or mark.get(f"c{key}")) for key in "xy")
        right = x if mark.get("text-anchor") else x + 0.56 * float(mark.get("font-size", 12)) * len(mark.text or "")
        assert 0 <= x <= right <= width
        assert 0 <= y <= height


@pytest.mark.parametrize("nodes", [1, 2, 3000])
def test_graphs_of_any_length_give_a_picture_of_bounded_size(nodes):
    picture = report.svg(schedule(tree(nodes, seed=0), "program", seconds=0.1))
    assert ElementTree.fromstring(picture).tag == f"{SVG}svg"
    assert len(picture) < 60_000


@pytest.mark.parametrize(("draw", "scripts"), [(report.svg, 0), (report.html, 2)])
def test_names_cannot_become_markup(nasty, draw, scripts):
    drawn = draw(nasty)
    assert drawn.count("<script") == drawn.count("</script>") == scripts
    assert "&lt;script&gt;" in drawn
    assert all(c.isprintable() or c == "\n" for c in drawn)
    assert drawn.encode()  # also where a name is half of a surrogate pair


def test_a_nasty_picture_is_well_formed(nasty):
    assert "<script>" in texts(report.svg(nasty))


@pytest.mark.parametrize("draw", [report.svg, report.html])
def test_nothing_is_fetched_from_elsewhere(better, draw):
    drawn = draw(better).replace('xmlns="http://www.w3.org/2000/svg"', "")
    drawn = re.sub(r'(<script type="application/json" id="data">)[A-Za-z0-9+/=]+<', r"\1<", drawn)
    assert not re.search(r"https?:|//\w|\bsrc=|\bhref=[^\"]|\bhref=\"[^#]|@import|url\(|\bfetch\(|XMLHttp", drawn)


def test_the_page_lists_what_is_alive_at_the_peak(better):
    page = report.html(better)
    assert page.startswith("<!DOCTYPE html>")
    for tensor in better.profile.alive():
        assert f"{tensor.bytes:,}" in page
