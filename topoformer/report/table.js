// What is in memory in one step, as a table that can be sorted, grouped and filtered.

const MOST_ROWS = 200; // shown at once; a button shows more

const COLUMNS = [
  { key: "name", title: "tensor", value: (i) => text(model.items.name[i]) },
  {
    key: "bytes",
    title: "bytes",
    number: true,
    value: (i) => model.items.bytes[i],
    shown: (i) => formatCount(model.items.bytes[i]),
  },
  { key: "part", title: "of live", number: true, value: (i) => model.items.bytes[i] },
  { key: "kind", title: "kind", value: (i) => model.kinds[model.items.kind[i]] },
  { key: "type", title: "type", value: (i) => text(model.items.type[i]) },
  { key: "op", title: "operator", value: (i) => nodeText(model.items.node[i], "op") },
  { key: "module", title: "module", value: (i) => nodeText(model.items.node[i], "module") },
  { key: "source", title: "source", value: (i) => nodeText(model.items.node[i], "source") },
];

const ALL_OPEN = 40; // rows that are few enough to show with all of their groups open

// `folded`: groups that were opened where all are closed at first, or closed where all are open
const table = { sort: "bytes", down: true, filter: "", folded: new Set(), rows: MOST_ROWS };

function aliveTable() {
  const filter = make("input", { type: "search", id: "filter", placeholder: "any column", spellcheck: false });
  filter.addEventListener("input", () => {
    table.filter = filter.value.trim().toLowerCase();
    changed("table");
  });
  const field = make("label", { class: "field" }, make("span", { textContent: "Filter" }), filter);
  get("alive-tools").append(orderSwitch("alive"), groupSelect("alive", "Group", "tableGroup", true), field);
  watch(["pinned", "order", "tableGroup"], () => {
    table.rows = MOST_ROWS;
    table.folded.clear();
  });
  watch(["pinned", "order", "tableGroup", "table"], renderTable);
  renderTable();
}

/** Columns of which anything is known. */
function knownColumns() {
  return COLUMNS.filter(({ key, value }) => {
    if (!["type", "op", "module", "source"].includes(key)) return true;
    const seen = key === "type" ? model.items.type : model.nodes[key];
    return seen.some((number) => text(number));
  });
}

function renderTable() {
  const which = order();
  const step = shownStep(which);
  const { bytes: live, node } = model.steps ? at(which, step) : { bytes: 0, node: -1 };
  const alive = model.steps ? aliveAt(which, step) : [];
  const rest = live - alive.reduce((sum, i) => sum + model.items.bytes[i], 0);
  const rows = alive.filter(
    (i) => !table.filter || itemMatches(i, table.filter) || model.kinds[model.items.kind[i]].includes(table.filter),
  );
  sortRows(rows);
  describeStep(step, live, node, alive);
  const columns = knownColumns();
  const body = state.tableGroup
    ? groupedBodies(rows, columns, live)
    : [make("tbody", {}, ...plainRows(rows, columns, live))];
  if (rest > 0 && !table.filter) body.push(make("tbody", {}, restRow(rest, live, columns)));
  const focused = document.activeElement?.dataset?.focus;
  const caption = make("caption", { class: "unseen", textContent: `${orderName(state.order)}, ${stepText(step)}` });
  get("alive-table").replaceChildren(make("table", { class: "sortable" }, caption, tableHead(columns), ...body));
  if (!rows.length) get("alive-table").append(make("p", { class: "hint", textContent: "Nothing to show." }));
  if (focused)
    get("alive-table")
      .querySelector(`[data-focus="${CSS.escape(focused)}"]`)
      ?.focus();
}

function describeStep(step, live, node, alive) {
  const title = get("alive-title");
  const note = get("alive-note");
  const line = get("pinned");
  const pinned = state.pinned !== null;
  line.hidden = !pinned;
  title.textContent = pinned ? "What is in memory in the pinned step" : "What is in memory at the peak";
  const scratch = alive.filter((i) => model.kinds[model.items.kind[i]] === "scratch").length;
  const count = alive.length - scratch;
  if (!model.steps) return note.replaceChildren("The graph has no nodes: nothing is ever in memory beside its inputs.");
  note.replaceChildren(
    `${formatBytes(live)} in ${plural(count, "tensor")}${scratch ? " and scratch" : ""}, `,
    `in step ${formatCount(step + 1)} of ${formatCount(model.steps)} of the `,
    `${orderName(state.order)}, while `,
    make("b", { textContent: nodeLine(node) }),
    " runs.",
  );
  line.replaceChildren();
  if (!pinned) return;
  const button = make("button", { type: "button", textContent: "Unpin" });
  button.addEventListener("click", () => pin(state.pinned));
  const said = `Pinned: ${stepText(state.pinned)}, ${formatBytes(live)} in the ${orderName(state.order)}, `;
  line.append(make("span", {}, said, make("b", { textContent: nodeLine(node) })), button);
}

function sortRows(rows) {
  const { value, number } = COLUMNS.find(({ key }) => key === table.sort);
  const way = table.down ? -1 : 1;
  const bytes = model.items.bytes;
  const compare = number ? (a, b) => value(a) - value(b) : (a, b) => collator.compare(value(a), value(b));
  rows.sort((a, b) => way * compare(a, b) || bytes[b] - bytes[a] || a - b);
}

const collator = new Intl.Collator("en", { numeric: true });

function tableHead(columns) {
  const cells = columns.map((column) => {
    const sorted = column.key === table.sort;
    const button = make("button", { type: "button", textContent: column.title });
    button.dataset.focus = `sort ${column.key}`;
    button.addEventListener("click", () => sortBy(column));
    const cell = make("th", { scope: "col", class: column.number ? "n" : "" }, button);
    cell.setAttribute("aria-sort", sorted ? (table.down ? "descending" : "ascending") : "none");
    return cell;
  });
  return make("thead", {}, make("tr", {}, ...cells));
}

function sortBy(column) {
  table.down = table.sort === column.key ? !table.down : Boolean(column.number);
  table.sort = column.key;
  changed("table");
}

function plainRows(rows, columns, live) {
  const shown = rows.slice(0, table.rows).map((i) => tableRow(i, columns, live));
  if (rows.length > table.rows) shown.push(moreRow(rows.length - table.rows, columns));
  return shown;
}

function tableRow(item, columns, live) {
  const cells = columns.map(({ key, number, value, shown }) => {
    if (key === "part") return make("td", { class: "n" }, partOf(model.items.bytes[item], live));
    const words = shown ? shown(item) : value(item);
    if (number) return make("td", { class: "n", textContent: words });
    return make(
      "td",
      { class: key },
      make("div", { class: "clamp", title: words.length > 40 ? words : "" }, ...breakable(words, key === "source")),
    );
  });
  return make("tr", {}, ...cells);
}

/** Words that may break behind each slash, and behind dots and underscores where they are no file's. */
function breakable(words, isFile) {
  const parts = words.split(isFile ? /(?<=\/)(?=.)/ : /(?<=[./_])(?=.)/);
  return parts.flatMap((part, i) => (i ? [make("wbr"), part] : [part]));
}

/** A percentage with a bar behind it. */
function partOf(bytes, live) {
  const part = live ? bytes / live : 0;
  const bar = make("i", { class: "part" });
  bar.style.inlineSize = `${100 * part}%`;
  return make("span", { class: "share" }, bar, formatPercent(part));
}

function moreRow(left, columns) {
  const button = make("button", {
    type: "button",
    textContent: `Show ${formatCount(Math.min(left, 1000))} more of ${formatCount(left)}`,
  });
  button.dataset.focus = "more";
  button.addEventListener("click", () => {
    table.rows += 1000;
    changed("table");
  });
  return make("tr", {}, make("td", { colSpan: columns.length }, button));
}

function restRow(rest, live, columns) {
  const name = make("td", { textContent: "other tensors, not in this page" });
  const size = make("td", { class: "n", textContent: formatCount(rest) });
  return make(
    "tr",
    { class: "rest" },
    name,
    size,
    make("td", { class: "n" }, partOf(rest, live)),
    make("td", { colSpan: columns.length - 3 }),
  );
}

/** A body a group, largest first: a row with its sum that opens the rows of the group. */
function groupedBodies(rows, columns, live) {
  const { ofItem, names } = grouping(state.tableGroup);
  const groups = new Map();
  for (const i of rows) {
    if (!groups.has(ofItem[i])) groups.set(ofItem[i], []);
    groups.get(ofItem[i]).push(i);
  }
  const sums = [...groups].map(([group, items]) => ({
    group,
    items,
    sum: items.reduce((sum, i) => sum + model.items.bytes[i], 0),
  }));
  sums.sort((a, b) => b.sum - a.sum || a.group - b.group);
  const shown = sums.slice(0, table.rows).map(({ group, items, sum }) => {
    const open = table.folded.has(names[group]) !== rows.length <= ALL_OPEN;
    const head = groupRow(names[group], items.length, sum, live, open, columns);
    return make("tbody", {}, head, ...(open ? plainRows(items, columns, live) : []));
  });
  if (sums.length > table.rows) shown.push(make("tbody", {}, moreRow(sums.length - table.rows, columns)));
  return shown;
}

function groupRow(name, count, sum, live, open, columns) {
  const button = make("button", { type: "button", class: "fold" }, name);
  button.setAttribute("aria-expanded", String(open));
  button.dataset.focus = `group ${name}`;
  button.addEventListener("click", () => {
    if (!table.folded.delete(name)) table.folded.add(name);
    changed("table");
  });
  return make(
    "tr",
    { class: "group" },
    make("th", { scope: "rowgroup" }, button, make("span", { class: "count", textContent: plural(count, "tensor") })),
    make("td", { class: "n", textContent: formatCount(sum) }),
    make("td", { class: "n" }, partOf(sum, live)),
    make("td", { colSpan: columns.length - 3 }),
  );
}
