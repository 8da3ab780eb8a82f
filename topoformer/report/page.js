// The page: unpack the data, put the charts up, and bring what is there for readers without a script out of the way.

function contents() {
  for (const title of document.querySelectorAll("h2[data-short]")) {
    const link = make("a", { textContent: title.dataset.short });
    link.setAttribute("href", `#${title.parentElement.id}`);
    get("contents").append(make("li", {}, link));
  }
}

/** The button that leaves the light for the dark and comes back. */
function themeButton() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = get("theme");
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const show = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Change to ${isDark() ? "light" : "dark"} colours`);
    readColours();
    changed("theme");
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  dark.addEventListener("change", show);
  show();
}

/** A button beside the graph's sha256 that copies it. */
function copyButtons() {
  const value = [...document.querySelectorAll(".facts dd")].at(-1);
  const button = make("button", { type: "button", textContent: "Copy" });
  button.setAttribute("aria-label", "Copy the graph's sha256");
  const hash = value.textContent;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(hash);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(value);
    }
  });
  value.append(" ", button);
}

/** On paper all is light; charts are drawn again for it, and after it. */
function drawForPaper(charts) {
  matchMedia("print").addEventListener("change", () => {
    readColours();
    for (const chart of charts) chart.draw();
  });
}

/** Without the charts, what is there for readers without a script. */
function explain(error) {
  console.error(error);
  for (const element of document.querySelectorAll(".static")) element.hidden = false;
  for (const element of document.querySelectorAll(".live")) element.hidden = true;
  document.querySelector(".lead").append(" The charts need a newer browser.");
}

function begin(data) {
  model = data;
  state.order = model.orders.length - 1;
  state.view = new View(Math.max(model.steps, 1), Math.min(4, model.steps || 1), "view");
  state.colour = defaultKey(groupKeys());
  state.tableGroup = state.colour.startsWith("module") ? state.colour : "";
  for (const element of document.querySelectorAll(".static")) element.hidden = true;
  for (const element of document.querySelectorAll(".live")) element.hidden = false;
  contents();
  themeButton();
  copyButtons();
  const charts = [memoryChart(), mapChart()];
  aliveTable();
  groupBars();
  if (model.latency) charts.push(latencyChart());
  if (model.traffic) charts.push(trafficChart());
  for (const chart of charts) chart.resize();
  drawForPaper(charts);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideTip(tipOwner);
  });
  document.documentElement.dataset.ready = "true";
}

unpack(get("data").textContent).then(begin).catch(explain);
