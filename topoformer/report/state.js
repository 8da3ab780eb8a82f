// What is looked at: the model of the schedule, and the state that all charts share.

let model = null;

const state = {
  order: 0, // index in model.orders
  pinned: null, // a step
  cursor: null, // the step under the pointer or the keyboard
  search: "",
  colour: "", // what groups are coloured, and what the table and the bars are grouped by
  tableGroup: "",
  view: null, // the steps in view
};

const watchers = [];
const waiting = new Set();

/** Call `act` in the next frame after any of `names` has changed. */
function watch(names, act) {
  watchers.push({ names: new Set(names), act });
}

function changed(...names) {
  if (!waiting.size) requestAnimationFrame(notify);
  for (const name of names) waiting.add(name);
}

function notify() {
  const names = [...waiting];
  waiting.clear();
  for (const { names: wanted, act } of watchers) if (names.some((name) => wanted.has(name))) act();
}

/** A stretch of an axis that is in view, inside [0, end]. */
class View {
  constructor(end, least, name) {
    Object.assign(this, { from: 0, to: end, end, least: Math.min(least, end), name });
  }

  get span() {
    return this.to - this.from;
  }

  get whole() {
    return this.from <= 0 && this.to >= this.end;
  }

  show(from, to) {
    const span = Math.min(Math.max(to - from, this.least), this.end);
    const start = Math.min(Math.max((from + to - span) / 2, 0), this.end - span);
    Object.assign(this, { from: start, to: start + span });
    changed(this.name);
  }

  zoom(factor, at = (this.from + this.to) / 2) {
    const span = Math.min(Math.max(this.span * factor, this.least), this.end);
    const from = at - (at - this.from) * (span / this.span);
    this.show(from, from + span);
  }

  pan(distance) {
    const moved = Math.min(Math.max(distance, -this.from), this.end - this.to);
    this.show(this.from + moved, this.to + moved);
  }

  reset() {
    this.show(0, this.end);
  }

  include(value, width) {
    if (value < this.from) this.pan(value - this.from - width);
    if (value + width > this.to) this.pan(value + width - this.to + width);
  }
}

// ---------------------------------------------------------------- the model

const text = (number) => model.strings[number];
const order = () => model.orders[state.order];
const nodeText = (node, name) => (node < 0 ? "" : text(model.nodes[name][node]));

function orderName(index) {
  if (model.orders.length === 1) return "program order, kept";
  return model.orders[index].name === "program" ? "program order" : "new order";
}

const orderColour = (index) => (model.orders[index].name === "program" ? "before" : "after");

/** The column of the data that holds a step. */
function columnOf(step) {
  if (model.edges.length === model.steps + 1) return step;
  return firstWhere(model.edges.length - 1, (column) => model.edges[column + 1] > step);
}

/** What is known of the column that holds a step: the step that stands for it, its node and its bytes. */
function at(which, step) {
  const column = columnOf(step);
  return { step: which.step[column], bytes: which.bytes[column], node: which.node[column] };
}

/** The step that table and map are about. */
function shownStep(which = order()) {
  return state.pinned === null ? which.peak_step : at(which, state.pinned).step;
}

/** Items that are alive in a step. */
function aliveAt(which, step) {
  const found = [];
  for (let i = 0; i < which.first.length; i++) if (which.first[i] <= step && step < which.last[i]) found.push(i);
  return found;
}

const stepText = (step) => `step ${formatCount(step + 1)}`;

function nodeLine(node) {
  const op = nodeText(node, "op");
  const label = nodeText(node, "label");
  return op && op !== label ? `${label} (${op})` : label;
}

function pin(step) {
  state.pinned = step === state.pinned ? null : step;
  changed("pinned");
}

// ---------------------------------------------------------------- groups

const COLOURS = 12; // --c0 to --c11 in the style sheet; --c12 is for all other groups
// Of all bytes and steps: where the large groups take less, colours repeat; a single one that takes more says little.
const ENOUGH = 0.6;
const groupings = new Map();

const prefix = (path, depth) => path.split(".").slice(0, depth).join(".");

/** What tensors and nodes can be grouped by, as [key, text] pairs: only what the graph knows of. */
function groupKeys() {
  const keys = [];
  const known = (name) => model.nodes[name].some((number) => text(number));
  const depths = model.nodes.module.reduce((most, number) => Math.max(most, text(number).split(".").length), 0);
  if (known("module")) {
    for (let depth = 1; depth <= Math.min(depths - 1, 4); depth++) {
      keys.push([`module ${depth}`, depth === 1 ? "module, top level" : `module, ${depth} levels`]);
    }
    keys.push(["module", "module, full path"]);
  }
  if (known("op")) keys.push(["op", "operator"]);
  keys.push(["kind", "kind of tensor"], ["size", "size"]);
  if (known("source")) keys.push(["source", "line of source"]);
  return keys;
}

/** The key that says most at a glance: the first with a handful of groups, none of which is nearly all. */
function defaultKey(keys) {
  const modules = keys.filter(([key]) => key.startsWith("module"));
  const telling = modules.find(([key]) => grouping(key).names.length >= 4 && grouping(key).largest < ENOUGH);
  const several = keys.find(([key]) => grouping(key).names.length > 1);
  return (telling ?? modules.at(-1) ?? several ?? keys[0])[0];
}

/** Keys of tensors that say nothing of nodes. */
const ofTensors = (key) => key === "kind" || key === "size";

function groupName(key, node, item) {
  if (key === "kind") return model.kinds[model.items.kind[item]];
  if (key === "size") return sizeClass(model.items.bytes[item]);
  if (node < 0) return "given from outside";
  const [name, depth] = key.split(" ");
  const shown = nodeText(node, name);
  return (depth ? prefix(shown, Number(depth)) : shown) || (name === "op" ? "unnamed operator" : `no ${name} known`);
}

/** Sizes by powers of 4. */
function sizeClass(bytes) {
  const power = bytes > 1 ? Math.ceil(Math.log2(bytes) / 2) : 0;
  return `up to ${formatBytes(4 ** power).replace(".00", "")}`;
}

/** Groups by a key: the group of each item and node; names and colours by group, the largest first. */
function grouping(key) {
  if (groupings.has(key)) return groupings.get(key);
  const numbers = new Map();
  const weight = [];
  const { node, bytes } = model.items;
  const number = (name) => {
    if (!numbers.has(name)) ((weight[numbers.size] = 0), numbers.set(name, numbers.size));
    return numbers.get(name);
  };
  const byNode = new Map();
  const nodeNumber = (which) => {
    if (!byNode.has(which)) byNode.set(which, number(groupName(key, which)));
    return byNode.get(which);
  };
  const which = model.orders[model.orders.length - 1];
  const ofItem = new Int32Array(node.length);
  for (let i = 0; i < node.length; i++) {
    ofItem[i] = ofTensors(key) ? number(groupName(key, node[i], i)) : nodeNumber(node[i]);
    weight[ofItem[i]] += bytes[i] * (which.last[i] - which.first[i]);
  }
  const ofNode = Int32Array.from(model.nodes.label, (_, i) => (ofTensors(key) ? 0 : nodeNumber(i)));
  const rank = ranks(weight);
  const names = [];
  for (const [name, old] of numbers) names[rank[old]] = name;
  const found = {
    ofItem: ofItem.map((old) => rank[old]),
    ofNode: ofNode.map((old) => rank[old] ?? 0),
    names,
    ...groupColours(weight, rank),
  };
  groupings.set(key, found);
  return found;
}

/** The place of each weight when the largest comes first. */
function ranks(weight) {
  const sorted = weight.map((_, i) => i).sort((a, b) => weight[b] - weight[a] || a - b);
  const rank = new Int32Array(weight.length);
  sorted.forEach((old, place) => (rank[old] = place));
  return rank;
}

/** A colour of its own for each large group and one for all others; where that would be most of them, they repeat. */
function groupColours(weight, rank) {
  const total = weight.reduce((sum, part) => sum + part, 0);
  const large = weight.reduce((sum, part, old) => sum + (rank[old] < COLOURS ? part : 0), 0);
  const repeats = large < ENOUGH * total;
  const colour = new Int32Array(weight.length);
  rank.forEach((place, old) => (colour[place] = repeats ? old % COLOURS : Math.min(place, COLOURS)));
  return { colour, repeats, largest: Math.max(...weight.filter((_, old) => rank[old] === 0), 0) / (total || 1) };
}
