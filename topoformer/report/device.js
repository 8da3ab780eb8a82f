// What a device makes of the orders: when each operator runs on which stream, and what moves on and off the chip.

const MOST_STREAMS = 16; // rows of a timeline
const LEVEL_HEIGHT = 84,
  GAP = 30; // pixels

function latencyChart() {
  const data = model.latency;
  const end = Math.max(...data.orders.map((timeline) => timeline.seconds), 1e-12);
  const view = new View(end, end / 5000, "time");
  const rows = streamRows(data);
  const chart = new Chart(get("latency-plot"), {
    view,
    name:
      `Timeline on ${data.device}: ` +
      data.orders.map((timeline, i) => `${orderName(i)} ${formatSeconds(timeline.seconds)}`).join(", "),
    height: () => layoutOf(rows, data.orders.length).height,
    draw: (chart) => drawTimelines(chart, data, rows),
    read: (chart, x, y) => readTimeline(chart, data, rows, x, y),
    move: () => {},
    press: () => {},
    step: (chart, by) => view.pan(by * view.span * 0.1),
  });
  get("latency-tools").append(groupSelect("latency", "Colour", "colour"), zoomButtons(chart));
  watch(["time", "theme", "colour"], () => chart.draw());
  describeLatency(data);
  return chart;
}

/** Streams that run anything, and the row of each; the last of the device is that of collectives. */
function streamRows(data) {
  const used = new Set(data.orders.flatMap((timeline) => [...new Set(timeline.stream)]));
  const sorted = [...used].sort((a, b) => a - b);
  return new Map(sorted.slice(0, MOST_STREAMS).map((stream, row) => [stream, row]));
}

function layoutOf(rows, orders) {
  const row = Math.max(10, Math.min(26, 120 / Math.max(rows.size, 1)));
  const block = GAP + rows.size * row + LEVEL_HEIGHT + 12;
  return { row, block, height: orders * block + 12 + 46 };
}

function describeLatency(data) {
  const last = data.orders.at(-1);
  const parts = [
    `The longest path of operators takes ${formatSeconds(data.path)},`,
    `${formatPercent(data.path / (last.seconds || 1))} of it.`,
  ];
  if (last.off_chip_seconds)
    parts.push(`${formatSeconds(last.off_chip_seconds)} of it wait for the memory behind the chip, after all else.`);
  if (last.left_out) parts.push(`The timeline shows the longest ${formatCount(last.node.length)} operators.`);
  get("latency-note").append(" " + parts.join(" "));
  const legend = () => get("latency-legend").replaceChildren(...colourLegend(nodeGrouping()));
  watch(["colour"], legend);
  legend();
}

/** What nodes are coloured by: what tensors are, where that says anything of nodes. */
const nodeGrouping = () => grouping(ofTensors(state.colour) ? "op" : state.colour);

function drawTimelines(chart, data, rows) {
  const { row, block } = layoutOf(rows, data.orders.length);
  const most = Math.max(1, ...data.orders.map((timeline) => timeline.held));
  data.orders.forEach((timeline, i) => {
    const top = 12 + i * block;
    const held = `at most ${formatBytes(timeline.held)} on all streams`;
    const title = `${orderName(i)}: ${formatSeconds(timeline.seconds)}, ${held}`;
    chart.text(
      fitted(chart.context, title, chart.width - chart.box.left),
      chart.box.left,
      top + 14,
      colours[orderColour(i)],
    );
    drawStreams(chart, timeline, rows, top + GAP - 6, row, data.streams);
    drawLevel(chart, timeline, top + GAP + rows.size * row + LEVEL_HEIGHT, most, colours[orderColour(i)]);
  });
  chart.axis(
    ticks(chart.view.from, chart.view.to, Math.max(2, chart.box.width / 110)).map((value) => ({
      value,
      label: formatSeconds(value),
    })),
    "time",
  );
}

function drawStreams(chart, timeline, rows, top, row, streams) {
  const { context } = chart;
  const { left } = chart.box;
  const { ofNode, colour } = nodeGrouping();
  for (const [stream, place] of rows) {
    if (row >= 14)
      chart.text(
        stream === streams ? "links" : `stream ${stream + 1}`,
        left - 8,
        top + place * row + row / 2 + 4,
        colours.faint,
        "right",
      );
  }
  chart.inside(() => {
    for (let i = 0; i < timeline.node.length; i++) {
      if (!rows.has(timeline.stream[i]) || !timeline.length[i]) continue;
      const x = chart.x(timeline.start[i]);
      const width = chart.x(timeline.start[i] + timeline.length[i]) - x;
      if (x + width < left || x > chart.box.right) continue;
      context.fillStyle = colours[`c${colour[ofNode[timeline.node[i]]]}`];
      const y = top + rows.get(timeline.stream[i]) * row;
      context.fillRect(x, y, Math.max(width - (width > 3 ? 1 : 0), 0.7), row - 2);
      const words =
        width > 48 && row >= 14
          ? fitted(context, nodeText(timeline.node[i], "op") || nodeText(timeline.node[i], "label"), width - 8)
          : "";
      if (words) chart.text(words, x + 4, y + row / 2 + 3, colours.label);
    }
  });
}

/** Bytes alive on all streams together, over time, as a filled curve above `bottom`. */
function drawLevel(chart, timeline, bottom, most, colour) {
  const { context } = chart;
  const { left, right } = chart.box;
  const y = (bytes) => bottom - ((LEVEL_HEIGHT - 16) * bytes) / most;
  chart.text(formatBytes(most), left - 8, y(most) + 4, colours.faint, "right");
  chart.line(left, y(most), right, y(most), colours.grid);
  chart.line(left, bottom, right, bottom, colours.grid);
  chart.inside(() => {
    const path = new Path2D();
    path.moveTo(chart.x(0), bottom);
    let level = 0;
    for (let i = 0; i < timeline.time.length; i++) {
      const x = chart.x(timeline.time[i]);
      path.lineTo(x, y(level));
      path.lineTo(x, y((level = timeline.level[i])));
    }
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = 1.5;
    context.stroke(path);
    path.lineTo(chart.x(timeline.time.at(-1) ?? 0), bottom);
    context.globalAlpha = 0.14;
    context.fill(path);
    context.globalAlpha = 1;
  });
}

function readTimeline(chart, data, rows, x, y) {
  const { row, block } = layoutOf(rows, data.orders.length);
  const which = Math.min(data.orders.length - 1, Math.max(0, Math.floor((y - 12) / block)));
  const timeline = data.orders[which];
  const time = chart.value(x);
  if (time < 0 || time > chart.view.end) return null;
  const place = Math.floor((y - 12 - which * block - GAP + 6) / row);
  const stream = [...rows].find(([, at]) => at === place)?.[0];
  const slack = chart.view.span / chart.box.width;
  const found = timeline.node.findIndex(
    (_, i) =>
      timeline.stream[i] === stream &&
      timeline.length[i] > 0 &&
      timeline.start[i] - slack <= time &&
      time < timeline.start[i] + timeline.length[i] + slack,
  );
  const level = timeline.level[firstWhere(timeline.time.length, (i) => timeline.time[i] > time) - 1] ?? 0;
  const lines = [`${formatSeconds(time)}, ${orderName(which)}`, ["alive", formatBytes(level), orderColour(which)]];
  if (found < 0) return lines;
  const node = timeline.node[found];
  const end = timeline.start[found] + timeline.length[found];
  return [
    nodeText(node, "label"),
    ["operator", nodeText(node, "op")],
    ["takes", formatSeconds(timeline.length[found])],
    ["from", `${formatSeconds(timeline.start[found])} to ${formatSeconds(end)}`],
    ["module", nodeText(node, "module")],
    ["source", nodeText(node, "source")],
    lines[1],
  ].filter((line) => typeof line === "string" || line[1]);
}

// ---------------------------------------------------------------- traffic

function trafficChart() {
  const data = model.traffic;
  const chart = new Chart(get("traffic-plot"), {
    ...stepOptions(),
    name:
      "Bytes moved in each step. " +
      data.orders.map((moved, i) => `${orderName(i)}: ${formatBytes(moved.total)}`).join(", "),
    height: () => 260,
    draw: (chart) => drawTraffic(chart, data),
    read: (chart, x) => trafficTip(data, stepAt(chart, x)),
    press: (chart, x) => pin(x === null ? (state.cursor ?? shownStep()) : stepAt(chart, x)),
  });
  get("traffic-tools").append(orderSwitch("traffic"), zoomButtons(chart));
  get("traffic-note").append(` ${trafficVerdict(data)}`);
  const entries = [
    ["c0", "fetched"],
    ["c1", "written back"],
  ];
  get("traffic-legend").append(
    ...entries.map(([colour, words]) => make("li", {}, make("i", { class: `key ${colour}` }), words)),
  );
  watch(["view", "order", "theme"], () => chart.draw());
  watch(["cursor", "pinned"], () => chart.paint());
  return chart;
}

function trafficVerdict(data) {
  const times = data.orders.at(-1).total / data.compulsory;
  if (times === 1) return "It moves what every order moves, and no more.";
  return times < Infinity ? `It moves ${times.toFixed(2)} times what every order moves.` : "";
}

function trafficTip(data, step) {
  const column = columnOf(step);
  const moved = data.orders[state.order];
  return [
    `Step ${formatCount(step + 1)}, ${orderName(state.order)}`,
    ["fetched", formatBytes(moved.fetched[column])],
    ["written back", formatBytes(moved.written[column])],
    ["node", nodeLine(at(order(), step).node)],
  ];
}

function drawTraffic(chart, data) {
  const moved = data.orders[state.order];
  const { left, top, bottom, width } = chart.box;
  const most =
    1.08 *
    Math.max(
      1,
      ...data.orders.map(({ fetched, written }) =>
        fetched.reduce((high, bytes, i) => Math.max(high, bytes + written[i]), 0),
      ),
    );
  const y = (bytes) => bottom - ((bottom - top) * bytes) / most;
  chart.rows(byteTicks(0, most, 3), y, "moved");
  chart.inside(() => {
    const perColumn = Math.max(1, width / chart.view.span);
    for (let pixel = 0; pixel < width; pixel += Math.max(1, perColumn)) {
      const column = busiest(moved, chart.value(left + pixel), chart.value(left + pixel + Math.max(1, perColumn)));
      const { fetched, written } = { fetched: moved.fetched[column] ?? 0, written: moved.written[column] ?? 0 };
      const x = left + pixel;
      const size = Math.max(1, perColumn - (perColumn > 4 ? 1 : 0));
      chart.context.fillStyle = colours.c0;
      chart.context.fillRect(x, y(fetched), size, bottom - y(fetched));
      chart.context.fillStyle = colours.c1;
      chart.context.fillRect(x, y(fetched + written), size, y(fetched) - y(fetched + written));
    }
  });
  chart.axis(stepMarks(state.view, width), "step");
}

/** The column of the steps in [from, to) that moves most. */
function busiest(moved, from, to) {
  if (!model.steps) return 0;
  let found = columnOf(clampStep(from + 1e-9));
  const end = columnOf(clampStep(Math.max(from, to - 1e-6)));
  for (let column = found + 1; column <= end; column++) {
    if (moved.fetched[column] + moved.written[column] > moved.fetched[found] + moved.written[found]) found = column;
  }
  return found;
}
