// Pointer, wheel and keys on a chart.

const CLICK = 5; // pixels that a pointer may move and still have clicked

function addGestures(chart) {
  const canvas = chart.canvas;
  const touching = new Map(); // pointers that are down, by id
  const place = (event) => ({ x: event.offsetX, y: event.offsetY });
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    touching.set(event.pointerId, { ...place(event), first: place(event), moved: false, shift: event.shiftKey });
  });
  canvas.addEventListener("pointermove", (event) => {
    const pointer = touching.get(event.pointerId);
    const to = place(event);
    if (!pointer) return hover(chart, to);
    if (touching.size === 2) pinch(chart, [...touching.values()], pointer, to);
    else drag(chart, pointer, to);
    Object.assign(pointer, to);
  });
  const end = (event) => {
    const pointer = touching.get(event.pointerId);
    if (!pointer) return;
    touching.delete(event.pointerId);
    if (event.type === "pointerup") release(chart, pointer, place(event));
    chart.selected = null;
    chart.paint();
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => chart.leave());
  canvas.addEventListener("dblclick", () => resetViews(chart));
  canvas.addEventListener("wheel", (event) => wheel(chart, event), { passive: false });
}

function resetViews(chart) {
  chart.view.reset();
  chart.options.down?.().reset();
}

function hover(chart, { x, y }) {
  chart.hovering = true;
  chart.pointer = { x, y };
  chart.options.move(chart, chart.value(x));
  chart.read(x, y);
}

function drag(chart, pointer, to) {
  const far = Math.hypot(to.x - pointer.first.x, to.y - pointer.first.y) > CLICK;
  if (!far && !pointer.moved) return;
  const down = chart.options.down?.();
  if (!pointer.moved) pointer.selects = pointer.shift || (chart.view.whole && (!down || down.whole));
  pointer.moved = true;
  hideTip(chart);
  if (pointer.selects) {
    chart.selected = [chart.value(pointer.first.x), chart.value(to.x)];
    chart.paint();
    return;
  }
  chart.view.pan(((pointer.x - to.x) / chart.box.width) * chart.view.span);
  if (down) down.pan(((to.y - pointer.y) / (chart.box.bottom - chart.box.top)) * down.span);
}

function pinch(chart, pointers, moving, to) {
  const other = pointers.find((pointer) => pointer !== moving);
  const before = Math.abs(moving.x - other.x);
  const after = Math.abs(to.x - other.x);
  for (const pointer of pointers) pointer.moved = true;
  if (before > 8 && after > 8) chart.view.zoom(before / after, chart.value((to.x + other.x) / 2));
}

function release(chart, pointer, to) {
  if (!pointer.moved) return chart.options.press(chart, to.x, to.y);
  if (!chart.selected) return;
  chart.view.show(Math.min(...chart.selected), Math.max(...chart.selected));
}

function wheel(chart, event) {
  const zooms = event.ctrlKey || event.metaKey || document.activeElement === chart.canvas;
  if (!zooms && !event.shiftKey) return;
  const distance = (event.deltaY || event.deltaX) * (event.deltaMode === 1 ? 30 : 1);
  const sideways = event.deltaX && Math.abs(event.deltaX) > Math.abs(event.deltaY);
  const view = chart.view;
  if (event.shiftKey && chart.options.down) chart.options.zoomDown(chart, 1.0015 ** distance, event.offsetY);
  else if (sideways || event.shiftKey) view.pan((distance / chart.box.width) * view.span);
  else view.zoom(1.0015 ** distance, chart.value(event.offsetX));
  event.preventDefault();
}

const STEPS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 };

function addKeys(chart) {
  chart.canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (chart.options.key?.(chart, event) || press(chart, event)) event.preventDefault();
  });
  chart.canvas.addEventListener("blur", () => chart.leave());
}

/** Whether a key that every chart knows was pressed. */
function press(chart, event) {
  const view = chart.view;
  const at = chart.options.cursor?.() ?? undefined;
  if (event.key in STEPS) chart.options.step?.(chart, STEPS[event.key]);
  else if (event.key === "+" || event.key === "=") view.zoom(0.5, at);
  else if (event.key === "-") view.zoom(2, at);
  else if (event.key === "Home") resetViews(chart);
  else if (event.key === "Enter" || event.key === " ") chart.options.press(chart, null, null);
  else return false;
  return true;
}

/** Buttons that zoom a chart, for those who neither scroll nor press keys. */
function zoomButtons(chart) {
  const named = (label, words, act) => {
    const button = make("button", { type: "button", class: "icon", textContent: label, title: words });
    button.setAttribute("aria-label", words);
    button.addEventListener("click", act);
    return button;
  };
  return make(
    "div",
    { class: "buttons" },
    named("+", "Zoom in", () => chart.view.zoom(0.5, chart.options.cursor?.() ?? undefined)),
    named("\u2212", "Zoom out", () => chart.view.zoom(2)),
    named("Reset", "Show everything", () => resetViews(chart)),
  );
}
