// How much of memory each group of tensors takes, before and after; and the controls that several sections share.

const MOST_GROUPS = 12;

let switches = 0;

/** Buttons that choose the order which map, table and traffic are about; nothing where there is one order. */
function orderSwitch(where) {
  if (model.orders.length === 1) return "";
  const name = `order-${where}-${switches++}`;
  const inputs = model.orders.map((_, i) => {
    const input = make("input", { type: "radio", name, value: String(i), checked: i === state.order });
    input.addEventListener("change", () => {
      state.order = i;
      changed("order");
    });
    watch(["order"], () => (input.checked = state.order === i));
    return make("label", {}, input, make("span", { textContent: orderName(i) }));
  });
  return make("fieldset", { class: "switch" }, make("legend", { class: "unseen", textContent: "Order" }), ...inputs);
}

/** A list of what can be grouped by, kept in `state[property]`. */
function groupSelect(where, title, property, none = false) {
  const select = make("select", { id: `${where}-group` });
  if (none) select.append(make("option", { value: "", textContent: "nothing" }));
  for (const [key, words] of groupKeys()) select.append(make("option", { value: key, textContent: words }));
  select.value = state[property];
  select.addEventListener("change", () => {
    state[property] = select.value;
    changed(property);
  });
  watch([property], () => (select.value = state[property]));
  return make("label", { class: "field" }, make("span", { textContent: `${title} by` }), select);
}

function groupBars() {
  get("groups-tools").append(groupSelect("groups", "Group", "colour"));
  watch(["colour", "pinned"], renderGroups);
  renderGroups();
}

/** Bytes of each group in the step that is shown of each order, float64[groups] each. */
function groupBytes() {
  const { ofItem, names } = grouping(state.colour);
  return model.orders.map((which) => {
    const sums = new Float64Array(names.length);
    if (model.steps) for (const i of aliveAt(which, shownStep(which))) sums[ofItem[i]] += model.items.bytes[i];
    return sums;
  });
}

function renderGroups() {
  const { names } = grouping(state.colour);
  const sums = groupBytes();
  const most = (group) => Math.max(...sums.map((sum) => sum[group]));
  const groups = names
    .map((_, i) => i)
    .filter(most)
    .sort((a, b) => sums.at(-1)[b] - sums.at(-1)[a] || most(b) - most(a) || a - b);
  const top = Math.max(1, ...groups.map(most));
  const rows = groups.slice(0, MOST_GROUPS).map((group) =>
    barRow(
      names[group],
      sums.map((sum) => sum[group]),
      top,
    ),
  );
  const rest = groups.slice(MOST_GROUPS);
  if (rest.length) {
    const left = sums.map((sum) => rest.reduce((total, group) => total + sum[group], 0));
    rows.push(barRow(`${plural(rest.length, "other group")} together`, left, Math.max(top, ...left)));
  }
  const each = model.orders.length > 1 ? " of each order" : "";
  const where = state.pinned === null ? `at the peak${each}` : `in ${stepText(state.pinned)}${each}`;
  get("groups-title").textContent =
    `Memory by ${selectedWords()}, ${state.pinned === null ? "at the peak" : "in the pinned step"}`;
  get("groups-note").textContent = groups.length ? `What each group holds ${where}.` : "Nothing is in memory there.";
  get("groups-bars").replaceChildren(orderLegend(), make("div", { class: "bars", role: "list" }, ...rows));
}

function orderLegend() {
  const entry = (_, i) => make("li", {}, make("i", { class: `key of-${orderColour(i)}` }), orderName(i));
  return make("ul", { class: "legend" }, ...model.orders.map(entry));
}

const selectedWords = () => groupKeys().find(([key]) => key === state.colour)[1];

function barRow(name, sizes, top) {
  const bars = sizes.map((size, i) => {
    const fill = make("i", { class: `fill of-${orderColour(i)}` });
    fill.style.inlineSize = `${(100 * size) / top}%`;
    const words = make("span", { class: "n", textContent: formatBytes(size) });
    words.setAttribute("aria-label", `${orderName(i)} ${formatBytes(size)}`);
    return make("div", { class: "bar-line" }, make("span", { class: "track" }, fill), words);
  });
  return make(
    "div",
    { class: "bar-row", role: "listitem" },
    make("span", { class: "bar-name", textContent: name, title: name }),
    make("div", {}, ...bars),
  );
}
