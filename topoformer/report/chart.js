// A canvas that can be zoomed, moved, read and driven by keyboard; what it shows is up to its `draw`.

const colours = {};
let tipOwner = null;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ground", "ink", "faint", "grid", "before", "after", "bound", "accent", "label"];
  for (let i = 0; i <= COLOURS; i++) names.push(`c${i}`);
  for (const name of names) colours[name] = style.getPropertyValue(`--${name}`).trim();
}

/** Show lines of text (or [name, value] pairs) beside the pointer. */
function showTip(x, y, lines, owner) {
  const tip = get("tip");
  tipOwner = owner;
  tip.replaceChildren(...lines.filter(Boolean).map(tipLine));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 16 + width > innerWidth - 8 ? x - 16 - width : x + 16;
  tip.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(8, Math.min(y + 16, innerHeight - height - 8))}px`;
}

function tipLine(line) {
  if (typeof line === "string") return make("b", { textContent: line });
  const [name, value, colour] = line;
  const key = colour ? [make("i", { class: `key of-${colour}` })] : [];
  return make("div", {}, make("span", {}, ...key, name), make("span", { textContent: value }));
}

function hideTip(owner) {
  if (tipOwner === owner) get("tip").hidden = true;
}

/** Say something to those who do not see the charts. */
function say(words) {
  get("said").textContent = words;
}

class Chart {
  /**
   * @param canvas the element
   * @param options view: of the x axis; height(width); draw(chart), and over(chart): what changes as the pointer moves;
   *   read(chart, x, y): lines of the tip;
   *   move(chart, value): the cursor went to a value of the x axis, or null; press(chart, x, y): clicked, or Enter;
   *   key(chart, event): other keys, true if used; name, and help (an id): for those who hear the page;
   *   down(): a view of the y axis, and zoomDown(chart, factor, y)
   */
  constructor(canvas, options) {
    Object.assign(this, { canvas, options, view: options.view, width: 0, selected: null, hovering: false });
    this.front = canvas.getContext("2d");
    this.back = document.createElement("canvas").getContext("2d"); // what stays as it is while the pointer moves
    this.context = this.back;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-roledescription", "chart");
    canvas.setAttribute("aria-label", options.name);
    if (options.help) canvas.setAttribute("aria-describedby", options.help);
    addGestures(this);
    addKeys(this);
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
  }

  resize() {
    const width = Math.floor(this.canvas.parentElement.clientWidth);
    const height = this.options.height(width);
    if (!width || (width === this.width && height === this.height && this.scale === devicePixelRatio)) return;
    Object.assign(this, { width, height, scale: devicePixelRatio });
    this.canvas.style.height = `${height}px`;
    for (const { canvas } of [this.front, this.back]) {
      canvas.width = Math.round(width * this.scale);
      canvas.height = Math.round(height * this.scale);
    }
    this.draw();
  }

  get box() {
    const left = this.width < 560 ? 62 : 78;
    return { left, right: this.width - 14, top: 26, bottom: this.height - 42, width: this.width - 14 - left };
  }

  x(value) {
    const { left, width } = this.box;
    return left + (width * (value - this.view.from)) / this.view.span;
  }

  value(x) {
    const { left, width } = this.box;
    return this.view.from + ((x - left) / width) * this.view.span;
  }

  draw() {
    if (!this.width) return;
    this.begin(this.back);
    this.options.draw(this);
    this.paint();
  }

  /** Draw only what changes as the pointer moves, over the rest as it was. */
  paint() {
    if (!this.width) return;
    this.begin(this.front);
    this.front.drawImage(this.back.canvas, 0, 0, this.width, this.height);
    this.inside(() => this.options.over?.(this));
    if (this.selected) this.drawSelection();
  }

  begin(context) {
    this.context = context;
    context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.font = "12px system-ui, sans-serif";
    context.lineJoin = "round";
  }

  drawSelection() {
    const { top, bottom } = this.box;
    const [from, to] = this.selected.map((value) => this.x(value));
    this.context.globalAlpha = 0.18;
    this.context.fillStyle = colours.accent;
    this.context.fillRect(from, top, to - from, bottom - top);
    this.context.globalAlpha = 1;
  }

  /** Draw inside of the plot only. */
  inside(act) {
    const { left, top, bottom, width } = this.box;
    this.context.save();
    this.context.beginPath();
    this.context.rect(left, top - 6, width, bottom - top + 6);
    this.context.clip();
    act();
    this.context.restore();
  }

  line(x0, y0, x1, y1, colour, dashes = [], width = 1) {
    const context = this.context;
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.setLineDash(dashes);
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
    context.stroke();
    context.setLineDash([]);
  }

  text(words, x, y, colour = colours.faint, align = "left", halo = false) {
    const context = this.context;
    context.textAlign = align;
    if (halo) {
      context.lineWidth = 4;
      context.strokeStyle = colours.ground;
      context.strokeText(words, x, y);
    }
    context.fillStyle = colour;
    context.fillText(words, x, y);
  }

  /** The x axis: `marks` are {value, label}. */
  axis(marks, title) {
    const { left, right, bottom } = this.box;
    this.line(left, bottom + 0.5, right, bottom + 0.5, colours.faint);
    for (const { value, label } of marks) {
      const x = this.x(value);
      if (x < left - 1 || x > right + 1) continue;
      this.line(x, bottom, x, bottom + 5, colours.faint);
      const half = this.context.measureText(label).width / 2;
      this.text(label, Math.min(x, this.width - half - 1), bottom + 19, colours.faint, "center");
    }
    this.text(title, (left + right) / 2, bottom + 37, colours.faint, "center");
  }

  /** Lines across for `marks` {value, label}, at the heights that `y` gives, below the title of the y axis. */
  rows(marks, y, title) {
    const { left, right } = this.box;
    this.text(title, left - 8, 11, colours.faint, "right");
    for (const { value, label } of marks) {
      const height = Math.round(y(value)) + 0.5;
      this.line(left, height, right, height, colours.grid);
      this.text(label, left - 8, height + 4, colours.faint, "right");
    }
  }

  crosshair(value, colour, dashes = []) {
    const x = this.x(value);
    const { left, right, top, bottom } = this.box;
    if (x >= left - 1 && x <= right + 1) this.line(x, top - 6, x, bottom, colour, dashes);
  }

  read(x, y) {
    const lines = this.options.read(this, x, y);
    if (!lines) return hideTip(this);
    const { left, top } = this.canvas.getBoundingClientRect();
    showTip(left + x, top + y, lines, this);
  }

  leave() {
    this.hovering = false;
    this.options.move(this, null);
    hideTip(this);
  }
}

/** Marks of an axis of steps, which count from 1. */
function stepMarks(view, width) {
  if (!model.steps) return [];
  const room = 44 + 8 * formatCount(Math.ceil(view.to)).length; // of a label, in pixels
  const marks = ticks(view.from + 0.5, view.to + 0.5, Math.max(1, width / room), 1);
  return marks.filter((mark) => mark >= 1).map((mark) => ({ value: mark - 0.5, label: formatCount(Math.round(mark)) }));
}
