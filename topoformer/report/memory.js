// Memory over time: both orders, the lower bound, and the step that everything else follows.

const HEADROOM = 1.1; // of the axis over the highest curve

/** The highest of the steps behind each pixel from the left to the right of the plot. */
function envelope(which, chart) {
  const { width } = chart.box;
  const pixels = Math.max(1, Math.round(width));
  const perPixel = chart.view.span / pixels;
  const highest = new Float64Array(pixels);
  for (let pixel = 0; pixel < pixels; pixel++) {
    const from = chart.view.from + pixel * perPixel;
    const last = Math.min(model.steps - 1, Math.max(Math.floor(from), Math.ceil(from + perPixel) - 1));
    const end = columnOf(last);
    for (let column = columnOf(Math.min(Math.floor(from), last)); column <= end; column++) {
      if (which.bytes[column] > highest[pixel]) highest[pixel] = which.bytes[column];
    }
  }
  return highest;
}

function memoryChart() {
  const top = HEADROOM * Math.max(1, model.bound, ...model.orders.map((which) => which.peak));
  const chart = new Chart(get("memory-plot"), {
    ...stepOptions(),
    name: "Memory over time. " + spokenPeaks(),
    help: "memory-hint",
    height: (width) => (width < 560 ? 280 : 360),
    draw: (chart) => drawMemory(chart, top),
    read: (chart, x) => stepTip(stepAt(chart, x)),
    press: (chart, x) => pin(x === null ? (state.cursor ?? shownStep()) : stepAt(chart, x)),
  });
  get("memory-tools").append(memoryLegend(), zoomButtons(chart));
  watch(["view", "order", "theme"], () => chart.draw());
  watch(["cursor", "pinned"], () => chart.paint());
  return chart;
}

/** What all charts whose x axis is the steps have in common. */
function stepOptions() {
  return {
    view: state.view,
    over: drawCursors,
    cursor: () => (state.cursor === null ? shownStep() + 0.5 : state.cursor + 0.5),
    move: (chart, value) => moveCursor(value === null ? null : clampStep(value)),
    step: (chart, by) => walk(by),
    key: (chart, event) => stepKey(event),
  };
}

const clampStep = (value) => Math.min(model.steps - 1, Math.max(0, Math.floor(value)));
const stepAt = (chart, x) => clampStep(chart.value(x));

function moveCursor(step) {
  if (step === state.cursor) return;
  state.cursor = step;
  changed("cursor");
}

/** Move the cursor by steps, or by what a few pixels show of them. */
function walk(by) {
  const stride = Math.max(1, Math.round(state.view.span / 200));
  const step = clampStep((state.cursor ?? shownStep()) + by * stride);
  state.view.include(step, 1);
  moveCursor(step);
  say(spokenStep(step));
}

function stepKey(event) {
  if (event.key === "Escape" && state.pinned !== null) pin(state.pinned);
  else if (event.key === "p" || event.key === "P") {
    moveCursor(order().peak_step);
    state.view.include(state.cursor, 1);
    say(spokenStep(state.cursor));
  } else return false;
  return true;
}

function spokenPeaks() {
  const peaks = model.orders.map((which, i) => `${orderName(i)}: peak ${formatBytes(which.peak)}`);
  return [...peaks, model.bound ? `lower bound ${formatBytes(model.bound)}` : "no bound"].join(", ") + ".";
}

function spokenStep(step) {
  const parts = model.orders.map((which, i) => {
    const { bytes, node } = at(which, step);
    return `${orderName(i)} ${formatBytes(bytes)} while ${nodeLine(node)} runs`;
  });
  return `Step ${step + 1}: ${parts.join("; ")}`;
}

function stepTip(step) {
  const lines = [`Step ${formatCount(step + 1)} of ${formatCount(model.steps)}`];
  model.orders.forEach((which, i) => {
    const found = at(which, step);
    const where = found.step === step ? "" : `, ${stepText(found.step)}`;
    lines.push([orderName(i) + where, formatBytes(found.bytes), orderColour(i)]);
    lines.push(["", nodeLine(found.node)]);
  });
  if (model.bound) lines.push(["lower bound", formatBytes(model.bound), "bound"]);
  return lines;
}

function memoryLegend() {
  const entries = model.orders.map((which, i) => [orderColour(i), `${orderName(i)}, peak ${formatBytes(which.peak)}`]);
  if (model.bound) entries.push(["bound", `lower bound ${formatBytes(model.bound)}`]);
  const keys = entries.map(([colour, words]) => make("li", {}, make("i", { class: `key of-${colour}` }), words));
  return make("ul", { class: "legend" }, ...keys);
}

// ---------------------------------------------------------------- drawing

function drawMemory(chart, top) {
  const { bottom, top: ceiling, right, left } = chart.box;
  const y = (bytes) => bottom - ((bottom - ceiling) * bytes) / top;
  chart.rows(byteTicks(0, top, 4), y, "live");
  if (!model.steps) chart.text("no steps", (left + right) / 2, (ceiling + bottom) / 2, colours.faint, "center");
  chart.inside(() => {
    model.orders.forEach((which, i) => drawCurve(chart, envelope(which, chart), y, colours[orderColour(i)]));
    if (model.bound) chart.line(left, y(model.bound), right, y(model.bound), colours.bound, [7, 4], 1.5);
  });
  if (model.steps) drawPeaks(chart, y);
  chart.axis(stepMarks(state.view, chart.box.width), "step");
}

function drawCurve(chart, highest, y, colour) {
  const { context } = chart;
  const { left, bottom, width } = chart.box;
  const perPixel = width / highest.length;
  const path = new Path2D();
  path.moveTo(left, y(highest[0]));
  highest.forEach((bytes, pixel) => {
    if (pixel && bytes !== highest[pixel - 1]) path.lineTo(left + pixel * perPixel, y(highest[pixel - 1]));
    if (pixel && bytes !== highest[pixel - 1]) path.lineTo(left + pixel * perPixel, y(bytes));
  });
  path.lineTo(left + width, y(highest.at(-1)));
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 1.5;
  context.stroke(path);
  path.lineTo(left + width, bottom);
  path.lineTo(left, bottom);
  context.globalAlpha = 0.14;
  context.fill(path);
  context.globalAlpha = 1;
}

/** The pinned step and the step that is pointed at, on any chart of steps. */
function drawCursors(chart) {
  if (state.pinned !== null) chart.crosshair(state.pinned + 0.5, colours.accent);
  if (state.cursor !== null) chart.crosshair(state.cursor + 0.5, colours.ink, [2, 3]);
}

/** A dot on each peak in view, with its bytes: above the curve, or below where the first label is in the way. */
function drawPeaks(chart, y) {
  const { context } = chart;
  const { left, right } = chart.box;
  const taken = [];
  model.orders.forEach((which, i) => {
    const x = chart.x(which.peak_step + 0.5);
    if (x < left || x > right) return;
    const colour = colours[orderColour(i)];
    context.beginPath();
    context.arc(x, y(which.peak), 4, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = colours.ground;
    context.stroke();
    const words = formatBytes(which.peak);
    const half = context.measureText(words).width / 2;
    const middle = Math.min(Math.max(x, left + half + 4), right - half);
    const near = taken.some(
      (other) => Math.abs(other.x - middle) < 2 * half + 8 && Math.abs(other.y - y(which.peak)) < 22,
    );
    chart.text(words, middle, y(which.peak) + (near ? 20 : -9), colour, "center", true);
    taken.push({ x: middle, y: y(which.peak) });
  });
}
