"""The page as a browser shows it: charts, tables and controls, by pointer and keyboard."""

import itertools
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from graphs import simulate
from graphs.device import device_named
from graphs.graph import Graph
from graphs.synthetic import layered
from graphs.units import format_bytes
from topoformer import report, schedule
from topoformer.report import Compared

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)>&\"'\x1b[31m\0\u2028\ud800"
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"  # until changes are drawn
# Elements whose text is too close in brightness to what is behind it (WCAG 2, AA: 4.5), as "tag.class: ratio".
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  const ratioOf = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!words || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const colour = element instanceof SVGElement ? style.fill : style.color;
    const ratio = ratioOf(light(rgba(colour)), light(ground(element)));
    if (ratio < 4.5) found.push(`${element.tagName}.${element.getAttribute("class")}: ${ratio.toFixed(2)}`);
  }
  const style = getComputedStyle(document.documentElement);
  const named = (name) => light(rgba(style.getPropertyValue(`--${name}`)));
  for (const name of ["ink", "faint", "before", "after", "bound"]) {
    const ratio = ratioOf(named(name), named("ground"));
    if (ratio < 4.5) found.push(`${name} of the charts: ${ratio.toFixed(2)}`);
  }
  for (let i = 0; i <= 12; i++) if (ratioOf(named("label"), named(`c${i}`)) < 4.5) found.push(`label on c${i}`);
  return found;
}"""
UNNAMED = """() => [...document.querySelectorAll("button, a, input, select, canvas, [tabindex='0'], [role=img]")]
  .filter((element) => element.checkVisibility())
  .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.length
    || element.getAttribute("aria-labelledby")))
  .map((element) => element.outerHTML.slice(0, 80))"""


def rich(nodes=60, seed=3):
    """A graph with all that a graph can have: names, modules, types, sources, scratch."""
    base, rng = layered(nodes, seed=seed), np.random.default_rng(seed)
    return replace(
        base,
        scratch=rng.integers(0, 3, nodes) * 1000,
        ops=tuple(f"aten.op{i % 3}.default" for i in range(nodes)),
        modules=tuple(f"layers.{i // 10}.part{i % 2}" if i % 7 else "" for i in range(nodes)),
        sources=tuple(f"model.py:{i}" for i in range(nodes)),
        types=tuple(f"float32[{i}, 8]" for i in range(base.k)),
    )


def nasty():
    names = [f"{NASTY}{i}" for i in range(4)]
    return Graph.build(
        NASTY, names, [[], [0], [0, 1], [2]], range(4), [100, 300, 200, 50],
        ops=names, tensor_names=names, modules=names, sources=names, types=names, scratch=[0, 7, 0, 0],
    )  # fmt: skip


@pytest.fixture(scope="module")
def result():
    found = schedule(rich(), seconds=2.0)
    assert found.cost.peak_bytes < found.program_cost.peak_bytes
    return found


@pytest.fixture(scope="module")
def compared(result):
    return report.html(result, compared=[Compared("lpmf", result.program_cost.peak_bytes, 0.1)])


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def show(browser, tmp_path):
    """A function that opens a page and waits until it can be used; nothing may go wrong or be asked of the network."""
    contexts, wrong, numbers = [], [], itertools.count()

    def opened(html, *, width=1280, height=900, scheme="light", script=True, touch=False):
        path = tmp_path / f"{next(numbers)}.html"
        path.write_text(html)
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=script,
            has_touch=touch, reduced_motion="reduce",
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda request: wrong.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        if script:
            page.wait_for_selector("html[data-ready]")
            page.evaluate(FRAMES)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def point(page, selector, across=0.5, down=0.5):
    """Move the pointer to a place in an element, and wait for what comes of it."""
    page.locator(selector).scroll_into_view_if_needed()
    box = page.locator(selector).bounding_box()
    page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
    page.evaluate(FRAMES)


def tip(page):
    assert page.locator("#tip").is_visible()
    return page.locator("#tip").inner_text()


def step_under(page, across=0.5):
    """The step that the memory plot says is at a place of it."""
    point(page, "#memory-plot", across)
    return int(re.match(r"Step ([\d,]+)", tip(page))[1].replace(",", ""))


def column(page, number):
    return page.locator(f"#alive-table tbody tr:not(.group):not(.rest) td:nth-child({number})").all_inner_texts()


def sizes(page):
    return [int(text.replace(",", "")) for text in column(page, 2)]


def ungrouped(page):
    page.select_option("#alive-group", "")
    page.evaluate(FRAMES)


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


# ---------------------------------------------------------------- every kind of page


def timed():
    device = replace(device_named("h100-sxm"), streams=2)
    return schedule(rich(), "streams", objective="latency", device=device, seconds=1.0)


def moved():
    device = replace(device_named("npu-8mb"), on_chip_bytes=30_000)
    return schedule(rich(), "lpmf", objective="traffic", device=device, seconds=1.0)


PAGES = {
    "better": lambda: schedule(rich(), seconds=2.0),
    "timed": timed,
    "moved": moved,
    "nasty": lambda: schedule(nasty(), "program"),
    "empty": lambda: schedule(Graph.build("empty", [], [], [], []), "program"),
    "nothing": lambda: schedule(Graph.build("nothing", ["a"], [[]], [0], [0]), "program"),
    "large": lambda: schedule(
        Graph.build("large", ["a", "b"], [[], [0]], [0, 1], [1 << 50, 7], scratch=[5, 1 << 40]), "program"
    ),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_fits_and_answers(show, name):
    found = PAGES[name]()
    if name == "better":
        assert found.arena
    page = show(report.html(found), width=480, height=800)
    assert overflow(page) <= 0
    for selector in ("#memory-plot", "#map-plot", "#latency-plot", "#traffic-plot"):
        if page.locator(selector).count():
            for across, down in ((0.3, 0.3), (0.99, 0.9)):
                point(page, selector, across, down)
            page.focus(selector)
            for key in ("+", "ArrowRight", "ArrowUp", "Shift+ArrowUp", "p", "Enter", "-", "Escape", "Home"):
                page.keyboard.press(key)
            page.evaluate(FRAMES)
    page.set_viewport_size({"width": 320, "height": 600})
    page.evaluate(FRAMES)
    assert overflow(page) <= 0


def test_names_are_shown_and_stay_text(show):
    page = show(report.html(schedule(nasty(), "program")))
    shown = "<script>alert(1)</script><img src=x onerror=alert(2)>&\"'\\x1b[31m\\x00\\u2028\\ud800"
    assert page.locator("h1").inner_text() == shown
    point(page, "#map-plot", 0.5, 0.6)
    assert shown in tip(page)
    ungrouped(page)
    assert shown in page.locator("#alive-table").inner_text()
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2


def test_without_a_script_the_numbers_are_still_there(show, result):
    page = show(report.html(result), script=False)
    assert page.locator("h1").inner_text() == result.graph.name
    assert page.locator(".static svg").is_visible()
    assert page.locator("#alive .static tbody tr").count() == len(result.profile.alive()) + bool(
        result.graph.scratch[result.order[result.profile.peak_step]]
    )
    assert not page.locator("#map-plot").is_visible()
    assert not page.locator("button:visible").count()


def test_twenty_thousand_nodes_can_be_read(show):
    found = schedule(rich(20_000), "program", seconds=0.1)
    page = show(report.html(found))
    point(page, "#map-plot", 0.5, 0.8)
    assert "bytes" in tip(page)
    assert 9_000 < step_under(page) < 11_000


# ---------------------------------------------------------------- charts


def test_the_tip_says_what_is_live_in_both_orders(show, result):
    page = show(report.html(result))
    step = step_under(page, 0.4) - 1
    said = tip(page)
    assert format_bytes(int(result.profile.step_bytes[step])) in said
    assert result.graph.labels[result.order[step]] in said
    assert "program order" in said
    page.mouse.move(2, 2)
    page.evaluate(FRAMES)
    assert not page.locator("#tip").is_visible()


def test_zooming_and_moving_show_other_steps(show, result):
    page = show(report.html(result))
    left, right = step_under(page, 0.1), step_under(page, 0.95)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Control")
    page.evaluate(FRAMES)
    assert step_under(page, 0.1) > left
    page.locator("#memory-tools button", has_text="Reset").click()
    assert (step_under(page, 0.1), step_under(page, 0.95)) == (left, right)
    page.focus("#memory-plot")
    page.keyboard.press("+")
    assert step_under(page, 0.95) - step_under(page, 0.1) <= (right - left) // 2 + 1
    before = step_under(page, 0.5)
    page.mouse.down()
    point(page, "#memory-plot", 0.8)
    page.mouse.up()
    assert step_under(page, 0.5) < before
    page.keyboard.press("Home")
    assert step_under(page, 0.95) == right


def test_dragging_over_the_whole_selects_a_range_of_both_charts(show, result):
    page = show(report.html(result))
    first, last = step_under(page, 0.3), step_under(page, 0.5)
    point(page, "#memory-plot", 0.3)
    page.mouse.down()
    point(page, "#memory-plot", 0.5)
    page.mouse.up()
    assert abs(step_under(page, 0.08) - first) <= 1
    assert abs(step_under(page, 0.98) - last) <= 1
    point(page, "#map-plot", 0.98, 0.02)
    assert abs(int(re.search(r"Step (\d+)", tip(page))[1]) - last) <= 1


def test_without_focus_or_control_the_wheel_scrolls_the_page(show, result):
    page = show(report.html(result))
    left = step_under(page, 0.1)
    page.mouse.wheel(0, 120)
    for _ in range(100):
        if page.evaluate("scrollY > 0"):
            break
        page.evaluate(FRAMES)
    assert page.evaluate("scrollY > 0")
    assert step_under(page, 0.1) == left


def test_a_pinned_step_is_what_the_table_shows(show, result):
    page = show(report.html(result))
    step = step_under(page, 0.7) - 1
    page.mouse.down()
    page.mouse.up()
    page.evaluate(FRAMES)
    assert f"step {step + 1}" in page.locator("#pinned").inner_text()
    assert "pinned" in page.locator("#alive-title").inner_text()
    ungrouped(page)
    assert sum(sizes(page)) == result.profile.step_bytes[step]
    page.locator("#pinned button").click()
    page.evaluate(FRAMES)
    assert sum(sizes(page)) == result.cost.peak_bytes
    assert not page.locator("#pinned").is_visible()


def test_keys_walk_the_steps_and_say_them(show, result):
    page = show(report.html(result))
    page.focus("#memory-plot")
    page.keyboard.press("p")
    page.keyboard.press("ArrowRight")
    step = result.profile.peak_step + 1
    said = page.locator("#said").inner_text()
    assert said.startswith(f"Step {step + 1}:")
    assert format_bytes(int(result.profile.step_bytes[step])) in said
    page.keyboard.press("Enter")
    page.evaluate(FRAMES)
    assert f"step {step + 1}" in page.locator("#pinned").inner_text()
    page.keyboard.press("Escape")
    page.focus("#map-plot")
    page.keyboard.press("ArrowUp")
    assert "alive" in page.locator("#said").inner_text()


def test_the_map_follows_the_order_and_the_search(show, result):
    page = show(report.html(result))
    picture = page.locator("#map-plot").screenshot()
    page.locator("#map-tools label", has_text="program order").click()
    page.evaluate(FRAMES)
    assert page.locator("#map-plot").screenshot() != picture
    assert page.locator("#alive-tools input:checked").get_attribute("value") == "0"
    ungrouped(page)
    assert sum(sizes(page)) == result.program_cost.peak_bytes
    page.fill("#search", "aten.op1")
    page.evaluate(FRAMES)
    assert re.fullmatch(r"\d+ found", page.locator("#found").inner_text())
    page.fill("#search", "nothing of this name")
    assert page.locator("#found").inner_text() == "0 found"


def test_a_touch_pins_a_step(show, result):
    page = show(report.html(result), width=480, touch=True)
    page.locator("#memory-plot").tap()
    page.evaluate(FRAMES)
    assert "Pinned" in page.locator("#pinned").inner_text()


def test_two_fingers_zoom(show, result):
    page = show(report.html(result), width=480, touch=True)
    box = page.locator("#memory-plot").bounding_box()
    across, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 40), ("touchMove", 80), ("touchMove", 160), ("touchEnd", None)):
        points = [] if apart is None else [{"x": across + side * apart, "y": y, "id": side + 1} for side in (-1, 1)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.evaluate(FRAMES)
    assert step_under(page, 0.9) - step_under(page, 0.3) < result.graph.n / 3
    assert page.locator("#pinned").is_hidden()


def test_the_timeline_says_what_runs(show):
    found = timed()
    page = show(report.html(found))
    for across in np.linspace(0.1, 0.9, 30):
        point(page, "#latency-plot", across, 0.16)
        if "takes" in tip(page):
            break
    assert re.search(r"operator\s+aten\.op\d\.default", tip(page))
    assert tip(page).split("\n")[0] in found.graph.labels
    assert "of it" in page.locator("#latency-note").inner_text()


def test_on_paper_all_is_light_and_charts_are_there(show, compared):
    page = show(compared, scheme="dark")
    page.emulate_media(media="print")
    page.evaluate(FRAMES)
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ground')") == "#ffffff"
    assert page.locator("#memory-plot").is_visible()
    assert not page.locator("button:visible").count() - page.locator(".fold:visible, thead button:visible").count()
    assert page.evaluate(CONTRASTS) == []


# ---------------------------------------------------------------- tables and bars


def test_columns_sort_by_click_and_by_key(show, result):
    page = show(report.html(result))
    ungrouped(page)
    header = page.locator("#alive-table thead th", has_text="bytes")
    assert header.get_attribute("aria-sort") == "descending"
    assert sizes(page) == sorted(sizes(page), reverse=True)
    header.locator("button").click()
    page.evaluate(FRAMES)
    assert header.get_attribute("aria-sort") == "ascending"
    assert sizes(page) == sorted(sizes(page))
    page.keyboard.press("Enter")  # the header has kept the focus
    page.evaluate(FRAMES)
    assert sizes(page) == sorted(sizes(page), reverse=True)
    page.locator("#alive-table thead button", has_text="operator").click()
    page.evaluate(FRAMES)
    assert header.get_attribute("aria-sort") == "none"
    assert column(page, 6) == sorted(column(page, 6))


def test_groups_fold_and_add_up(show, result):
    page = show(report.html(result))
    page.select_option("#alive-group", "module 2")
    page.evaluate(FRAMES)
    groups = page.locator("#alive-table tr.group")
    sums = [int(text.replace(",", "")) for text in groups.locator("td:nth-child(2)").all_inner_texts()]
    assert sum(sums) == result.cost.peak_bytes
    assert sums == sorted(sums, reverse=True)
    fold, rows = groups.locator("button").first, len(sizes(page))
    was = fold.get_attribute("aria-expanded")
    fold.press("Enter")
    page.evaluate(FRAMES)
    assert fold.get_attribute("aria-expanded") != was
    assert len(sizes(page)) != rows


def test_a_filter_leaves_what_matches(show, result):
    page = show(report.html(result))
    ungrouped(page)
    page.fill("#filter", "op1")
    page.evaluate(FRAMES)
    assert set(column(page, 6)) <= {"aten.op1.default"}
    page.fill("#filter", "no such thing")
    page.evaluate(FRAMES)
    assert "Nothing to show" in page.locator("#alive-table").inner_text()


def test_bars_say_the_bytes_of_each_group_before_and_after(show, result):
    page = show(report.html(result))
    page.select_option("#groups-group", "kind")
    page.evaluate(FRAMES)
    words = page.locator("#groups-bars").inner_text()
    program = simulate(result.graph)
    for profile in (program, result.profile):
        assert format_bytes(sum(t.bytes for t in profile.alive() if t.kind == "temporary")) in words


# ---------------------------------------------------------------- colours, names, headings


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(show, compared, scheme):
    page = show(compared, scheme=scheme)
    assert page.evaluate(CONTRASTS) == []


def test_the_button_changes_the_colours(show, compared):
    page = show(compared)
    ground, picture = page.evaluate("getComputedStyle(document.body).backgroundColor"), "#memory-plot"
    shown = page.locator(picture).screenshot()
    page.click("#theme")
    page.evaluate(FRAMES)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground
    assert page.locator(picture).screenshot() != shown
    assert page.evaluate(CONTRASTS) == []
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground


def test_every_control_has_a_name_and_can_be_reached(show, compared):
    page = show(compared)
    assert page.evaluate(UNNAMED) == []
    reached = set()
    page.focus("body")
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {
        "theme",
        "memory-plot",
        "map-plot",
        "search",
        "map-group",
        "alive-group",
        "filter",
        "alive-table",
    } <= reached


def test_headings_come_in_order_and_sections_have_names(show, compared):
    page = show(compared)
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((title) => Number(title.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    named = "(section) => document.getElementById(section.getAttribute('aria-labelledby'))"
    assert page.evaluate(f"[...document.querySelectorAll('section')].every({named})")
    links = page.evaluate("[...document.querySelectorAll('nav a')].map((a) => a.getAttribute('href').slice(1))")
    assert links == page.evaluate("[...document.querySelectorAll('section')].map((section) => section.id)")
