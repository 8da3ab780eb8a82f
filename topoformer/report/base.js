// Elements, numbers as text, and the data that the page carries.

const get = (id) => document.getElementById(id);

/** An element with properties and children; text is set as text, never parsed. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function formatBytes(count) {
  let value = count;
  let unit = "B";
  for (const larger of ["KiB", "MiB", "GiB", "TiB"]) {
    if (Math.abs(value) < 1024) break;
    value /= 1024;
    unit = larger;
  }
  return unit === "B" ? `${count} B` : `${value.toFixed(2)} ${unit}`;
}

const formatCount = (number) => number.toLocaleString("en-US");
const formatPercent = (part) => `${(100 * part).toFixed(1)} %`;
const plural = (number, what) => `${formatCount(number)} ${what}${number === 1 ? "" : "s"}`;

function formatSeconds(seconds) {
  const [scale, unit] = [
    [1, "s"],
    [1e-3, "ms"],
    [1e-6, "us"],
  ].find(([least]) => seconds >= least) ?? [1e-9, "ns"];
  return seconds ? `${Number((seconds / scale).toPrecision(3))} ${unit}` : "0 s";
}

/** Multiples of 1, 2 or 5 times a power of ten from `from` to `to`, about `parts` of them, at least `least` apart. */
function ticks(from, to, parts, least = 0) {
  const wanted = Math.max((to - from) / parts, least);
  if (!(wanted > 0)) return [];
  const power = 10 ** Math.floor(Math.log10(wanted) + 1e-9);
  const step = power * ([5, 2, 1].find((factor) => power * factor <= wanted * (1 + 1e-9)) ?? 1);
  const found = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to * (1 + 1e-12); i++) found.push(i * step);
  return found;
}

/** Ticks of an axis of bytes that are round in its own unit, with their labels. */
function byteTicks(from, to, parts) {
  const unit = 1024 ** Math.min(4, Math.max(0, Math.floor(Math.log2(Math.max(to, 1)) / 10)));
  const name = ["B", "KiB", "MiB", "GiB", "TiB"][Math.log2(unit) / 10];
  return ticks(from / unit, to / unit, parts, 1 / unit).map((value) => ({
    value: value * unit,
    label: value ? `${Number(value.toPrecision(6))} ${name}` : "0",
  }));
}

/** The first index in [0, length) at which `holds` is true, if it stays so; length where it never is. */
function firstWhere(length, holds) {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The page's data: gzip of a JSON head and the arrays it refers to, in base64. */
async function unpack(text) {
  const packed = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const types = { int32: Int32Array, float64: Float64Array };
  const start = 4 + length;
  return JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)), (_, value) => {
    if (value === null || typeof value !== "object" || !("array" in value)) return value;
    const [type, offset, count] = value.array;
    return new types[type](buffer, start + offset, count);
  });
}
