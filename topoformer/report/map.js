// The lifetime of each tensor as a box: when it is alive, and where in memory it lies.

const LABEL_WIDTH = 48,
  LABEL_HEIGHT = 14; // least pixels of a box that shows its name

let mapView = null; // of the y axis: bytes
let chosenItem = null; // under the pointer or the keyboard
let matching = null; // of each item, whether the search finds it; null without a search

function mapChart() {
  mapView = new View(mapHeight(), 64, "map");
  const chart = new Chart(get("map-plot"), {
    ...stepOptions(),
    name: "Lifetimes of tensors: steps across, memory upwards. Arrows walk: left and right steps, up and down tensors.",
    height: (width) => (width < 560 ? 340 : 440),
    help: "map-note",
    draw: drawMap,
    over: drawOverMap,
    read: readMap,
    move: moveOnMap,
    press: (chart, x) => pin(x === null ? (state.cursor ?? shownStep()) : stepAt(chart, x)),
    key: mapKey,
    down: () => mapView,
    zoomDown: (chart, factor, y) => mapView.zoom(factor, placeAt(chart, y)),
  });
  get("map-tools").append(orderSwitch("map"), groupSelect("map", "Colour", "colour"), searchBox(), zoomButtons(chart));
  watch(["view", "order", "colour", "search", "theme", "map"], () => chart.draw());
  watch(["cursor", "pinned", "chosen"], () => chart.paint());
  watch(["order"], () => {
    mapView.end = mapHeight();
    chosenItem = null;
    mapView.reset();
  });
  watch(["order", "colour", "theme", "search"], describeMap);
  describeMap();
  return chart;
}

const mapHeight = () => Math.max(...model.orders.map((which) => which.height), 1);

function moveOnMap(chart, value) {
  const step = value === null ? null : clampStep(value);
  const found = value === null || !chart.hovering ? null : itemAt(step, placeAt(chart, chart.pointer.y), chart);
  if (found !== chosenItem) changed("chosen");
  chosenItem = found;
  moveCursor(step);
}

function placeAt(chart, y) {
  const { top, bottom } = chart.box;
  return mapView.from + ((bottom - y) / (bottom - top)) * mapView.span;
}

/** The item at a step and a place in memory, or within a pixel of it. */
function itemAt(step, place, chart) {
  const { first, last, offset } = order();
  const { bytes } = model.items;
  const near = mapView.span / (chart.box.bottom - chart.box.top);
  const wide = state.view.span / chart.box.width;
  let found = null;
  let least = Infinity;
  for (let i = 0; i < first.length; i++) {
    if (first[i] > step + wide || last[i] <= step - wide) continue;
    const away = Math.max(offset[i] - place, place - offset[i] - bytes[i], 0);
    if (away < least && away <= near) [found, least] = [i, away];
  }
  return found;
}

/** Up and down: from one tensor of the step to the next in memory; with shift, zoom. */
function mapKey(chart, event) {
  const way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
  if (!way) return stepKey(event);
  if (event.shiftKey) {
    mapView.zoom(way > 0 ? 0.5 : 2);
    return true;
  }
  const { offset } = order();
  const step = state.cursor ?? shownStep();
  const alive = aliveAt(order(), step).sort((a, b) => offset[a] - offset[b] || a - b);
  const next = alive.indexOf(chosenItem) + way;
  chosenItem = alive[Math.min(Math.max(next, 0), alive.length - 1)] ?? null;
  moveCursor(step);
  changed("chosen");
  if (chosenItem !== null)
    say(
      itemLines(chosenItem)
        .map((line) => (Array.isArray(line) ? line.slice(0, 2).join(" ") : line))
        .join(", "),
    );
  return true;
}

function readMap(chart) {
  return chosenItem === null ? stepTip(state.cursor ?? 0) : itemLines(chosenItem);
}

function itemLines(item) {
  const { name, type, kind, bytes, node } = model.items;
  const { first, last } = order();
  const exact = bytes[item] < 1024 ? "" : ` (${formatCount(bytes[item])} bytes)`;
  const known = (label, value) => (value ? [label, value] : null);
  const steps = last[item] - first[item];
  return [
    text(name[item]),
    ["size", formatBytes(bytes[item]) + exact],
    known("type", text(type[item])),
    ["kind", model.kinds[kind[item]]],
    known("operator", nodeText(node[item], "op")),
    known("written by", nodeText(node[item], "label")),
    known("module", nodeText(node[item], "module")),
    known("source", nodeText(node[item], "source")),
    ["alive", `${stepText(first[item])} to ${formatCount(last[item])}, ${plural(steps, "step")}`],
  ].filter(Boolean);
}

// ---------------------------------------------------------------- what stands around it

function searchBox() {
  const input = make("input", {
    type: "search",
    id: "search",
    placeholder: "name, module, operator",
    spellcheck: false,
  });
  const found = make("span", { class: "found", id: "found" });
  input.addEventListener("input", () => {
    state.search = input.value.trim().toLowerCase();
    findMatches(found);
    changed("search");
  });
  return make("label", { class: "field" }, make("span", { textContent: "Find" }), input, found);
}

function itemMatches(item, words) {
  const { name, type, node } = model.items;
  const parts = [
    text(name[item]),
    text(type[item]),
    ...["label", "op", "module", "source"].map((of) => nodeText(node[item], of)),
  ];
  return parts.some((part) => part.toLowerCase().includes(words));
}

function findMatches(found) {
  matching = null;
  found.textContent = "";
  if (!state.search) return;
  let count = 0;
  matching = model.items.bytes.map(() => 0);
  for (let i = 0; i < matching.length; i++) if (itemMatches(i, state.search)) matching[i] = ++count;
  found.textContent = `${formatCount(count)} found`;
  say(`${plural(count, "tensor")} found`);
}

/** What each colour stands for. */
function colourLegend({ names, colour, repeats }) {
  const key = (i) => make("i", { class: `key c${colour[i]}` });
  const shown = names.slice(0, COLOURS).map((name, i) => make("li", { title: name }, key(i), name));
  const rest = names.length - COLOURS;
  if (rest > 0)
    shown.push(
      make(
        "li",
        {},
        repeats ? "" : key(COLOURS),
        `${formatCount(rest)} others${repeats ? " in the same colours" : ""}`,
      ),
    );
  return shown;
}

function describeMap() {
  get("map-legend").replaceChildren(...colourLegend(grouping(state.colour)));
  const places = order().planned
    ? "Places are the offsets in the planned arena."
    : "Places are those of a simple allocator that takes the lowest free gap: to show sizes and lifetimes, not a plan.";
  const left = model.left_out
    ? ` Of ${formatCount(model.left_out + model.items.bytes.length)} tensors the ` +
      `${formatCount(model.items.bytes.length)} largest are shown.`
    : "";
  const keys = " Shift and scroll, or Shift and the arrows up and down, zoom into memory.";
  get("map-note").textContent = places + left + keys;
}

// ---------------------------------------------------------------- drawing

function heightOf(chart, place) {
  const { top, bottom } = chart.box;
  return bottom - ((place - mapView.from) / mapView.span) * (bottom - top);
}

function drawMap(chart) {
  const { top, bottom, left, right } = chart.box;
  const y = (place) => heightOf(chart, place);
  chart.rows(byteTicks(mapView.from, mapView.to, 4), y, "address");
  chart.inside(() => {
    drawBoxes(chart, y);
    if (model.steps) chart.crosshair(order().peak_step + 0.5, colours[orderColour(state.order)], [5, 3]);
  });
  if (!model.items.bytes.length)
    chart.text("no tensors", (left + right) / 2, (top + bottom) / 2, colours.faint, "center");
  chart.axis(stepMarks(state.view, chart.box.width), "step");
  const x = chart.x(order().peak_step + 0.5);
  if (model.steps && x >= left && x <= right) {
    const half = chart.context.measureText("peak").width / 2;
    const middle = Math.min(Math.max(x, left + half), right - half);
    chart.text("peak", middle, top - 9, colours[orderColour(state.order)], "center", true);
  }
}

/** Boxes by colour, so that the canvas changes it few times; those that the search does not find are faint. */
function drawBoxes(chart, y) {
  const { context } = chart;
  const { ofItem, colour: colourOf } = grouping(state.colour);
  const byColour = Array.from({ length: COLOURS + 1 }, () => []);
  const { first, last, offset } = order();
  const { bytes } = model.items;
  const { from, to } = state.view;
  for (let i = 0; i < first.length; i++) {
    if (last[i] <= from || first[i] >= to || offset[i] + bytes[i] < mapView.from || offset[i] > mapView.to) continue;
    byColour[colourOf[ofItem[i]]].push(i);
  }
  for (const found of matching ? [false, true] : [true]) {
    context.globalAlpha = found ? 1 : 0.16;
    byColour.forEach((items, colour) => {
      context.fillStyle = colours[`c${colour}`];
      for (const i of items) if (!matching || !!matching[i] === found) drawBox(chart, y, i);
    });
  }
  context.globalAlpha = 1;
}

function boxOf(chart, y, item) {
  const { first, last, offset } = order();
  const x = chart.x(first[item]);
  const top = y(offset[item] + model.items.bytes[item]);
  return { x, top, width: chart.x(last[item]) - x, height: y(offset[item]) - top };
}

function drawBox(chart, y, item) {
  const { x, top, width, height } = boxOf(chart, y, item);
  const apart = height > 4 ? 1 : height > 2 ? 0.5 : 0; // what is seen between neighbours
  chart.context.fillRect(x, top + apart / 2, Math.max(width - (width > 4 ? 1 : 0), 0.7), Math.max(height - apart, 0.7));
  if (width > 6 && height > 6) {
    // an edge, since some colours are close to the ground
    chart.context.strokeStyle = "rgb(0 0 0 / 0.22)";
    chart.context.lineWidth = 1;
    chart.context.strokeRect(x + 0.5, top + apart / 2 + 0.5, width - 2, height - apart - 1);
  }
  if (width > LABEL_WIDTH && height > LABEL_HEIGHT) drawName(chart, item, x, top, width, height);
}

function drawName(chart, item, x, top, width, height) {
  const { context } = chart;
  const fill = context.fillStyle;
  const from = Math.max(x, chart.box.left);
  const room = Math.min(x + width, chart.box.right) - from - 10;
  const words = fitted(context, text(model.items.name[item]), room);
  if (words) chart.text(words, from + 5, top + height / 2 + 4, colours.label);
  context.fillStyle = fill;
}

/** Words cut to a width in pixels; nothing where three letters do not fit. */
function fitted(context, words, room) {
  if (room < 24) return "";
  const length = context.measureText(words).width;
  if (length <= room) return words;
  const kept = Math.floor((words.length * room) / length) - 1;
  return kept >= 3 ? `${words.slice(0, kept)}\u2026` : "";
}

/** The cursors, and a line around what is chosen. */
function drawOverMap(chart) {
  drawCursors(chart);
  if (chosenItem === null) return;
  const { x, top, width, height } = boxOf(chart, (place) => heightOf(chart, place), chosenItem);
  chart.context.strokeStyle = colours.ink;
  chart.context.lineWidth = 2;
  chart.context.strokeRect(x, top, Math.max(width, 2), Math.max(height, 2));
}
