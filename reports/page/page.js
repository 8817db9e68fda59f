// The page: header, filters, contents, and updates when they change.

const main = document.getElementById("main");
const side = document.getElementById("side");
const status = document.getElementById("status");
const dark = matchMedia("(prefers-color-scheme: dark)");
const views = [];

function open(what) {
  state.open = what;
  writeAddress();
  showPanel(views);
}

/** Show everything as the state has it. */
function refresh() {
  const left = filtered();
  const shown = new Set(views.filter((view) => view.show(left) !== false).map(({ id }) => id));
  for (const heading of main.querySelectorAll("section.group")) {
    heading.hidden = [...heading.querySelectorAll("section.table")].every((one) => one.hidden);
  }
  for (const link of document.querySelectorAll("#contents a[data-id]")) {
    link.parentElement.hidden = Boolean(document.getElementById(link.dataset.id)?.hidden);
  }
  const count = left.reduce((sum, one) => sum + one, 0);
  const tables = views.length - 1;
  const these = shown.size - 1;
  const number = (one) => one.toLocaleString("en");
  status.textContent = filtering()
    ? `${number(count)} of ${number(data.count)} cells, ${these} of ${tables} tables. ` +
      "Entries are not recomputed: an entry is hidden unless all its records match."
    : "";
}

function changed() {
  writeAddress();
  refresh();
}

/** Make a filter by numbers and ranges; returns its parts, and how to show the state's. */
function rangeFilter(id, label) {
  const hint = element("p", { id: `${id}-hint`, class: "hint" });
  const input = element("input", {
    id, inputmode: "numeric", placeholder: "0, 2-4", autocomplete: "off", "aria-describedby": hint.id,
  });
  function sayHint() {
    const wrong = ranges(state.ranges.get(id)) === null;
    input.setAttribute("aria-invalid", String(wrong));
    hint.textContent = wrong ? "Give comma-separated whole numbers or ranges: 0, 2-4" : "";
  }
  input.addEventListener("input", () => (state.ranges.set(id, input.value), sayHint(), changed()));
  const show = () => {
    input.value = state.ranges.get(id);
    sayHint();
  };
  return { parts: [element("label", { for: id }, label), input, hint], show };
}

/** Make the controls of the filters; a filter with a single value is left out. */
function buildFilters() {
  const form = document.getElementById("filters");
  const query = element("input", { type: "search", id: "query", autocomplete: "off" });
  query.addEventListener("input", () => ((state.query = query.value), changed()));
  form.append(element("label", { for: "query" }, "Search"), query);
  const boxes = [];
  for (const { column, label, values } of data.filters) {
    if (values.length < 2) continue;
    const options = values.map((one) => {
      const box = element("input", { type: "checkbox", name: parameter(column), value: one });
      box.addEventListener("change", () => {
        const wanted = state.chosen.get(column);
        if (box.checked) wanted.add(one);
        else wanted.delete(one);
        changed();
      });
      boxes.push([column, one, box]);
      return element("label", {}, box, " ", name(one));
    });
    const choices = element("div", { class: values.length > 12 ? "choices long" : "choices" }, ...options);
    form.append(element("fieldset", {}, element("legend", {}, ...written(label)), choices));
  }
  const fills = numbered.map(([id, label, column]) => {
    const { parts, show } = rangeFilter(id, label);
    if (distinct(column).size > 1) form.append(...parts);
    return show;
  });
  const clear = element("button", { type: "reset" }, "Clear filters");
  form.append(clear);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    for (const wanted of state.chosen.values()) wanted.clear();
    state.query = "";
    for (const id of state.ranges.keys()) state.ranges.set(id, "");
    fill();
    changed();
  });
  function fill() {
    query.value = state.query;
    for (const show of fills) show();
    for (const [column, one, box] of boxes) box.checked = state.chosen.get(column).has(one);
  }
  return fill;
}

/** Add an entry to the contents; it scrolls, since the address is taken by the state. */
function addContents(id, title, inner = []) {
  const link = element("a", { href: `#${id}`, "data-id": id }, ...written(title));
  link.addEventListener("click", (event) => {
    event.preventDefault();
    if (!wide.matches) side.open = false;
    goTo(document.getElementById(id));
  });
  const item = element("li", {}, link);
  if (inner.length) item.append(element("ul", {}, ...inner));
  return item;
}

function goTo(target) {
  target.setAttribute("tabindex", "-1");
  target.scrollIntoView();
  target.focus({ preventScroll: true });
}

const spoken = (text) => text.replaceAll("-", " ").replace(/^./, (letter) => letter.toUpperCase());

function buildTables(contents) {
  for (const group of data.groups) {
    const title = spoken(group.name);
    const made = group.tables.map((table, k) => reportTable(group, table, k + 1, open));
    views.push(...made);
    const id = `report-${group.name}`;
    const section = element(
      "section",
      { id, class: "group", "aria-labelledby": `${id}-title` },
      element("h2", { id: `${id}-title` }, title),
      element("p", { class: "about" }, ...written(group.about)),
      ...made.map((one) => one.section),
    );
    main.append(section);
    contents.append(addContents(id, title));
  }
}

function buildFigures(contents) {
  if (!data.figures.length) return;
  const figures = data.figures.map(({ name: title, about, image, data: numbers }) => {
    const ending = image.startsWith("data:image/svg") ? "svg" : "png";
    const links = element(
      "span",
      { class: "downloads" },
      element("a", { href: image, download: `${title}.${ending}` }, ending.toUpperCase()),
    );
    if (numbers) {
      const save = () => download(`${title}.csv`, "text/csv;charset=utf-8", csv(dataRows(numbers)));
      links.append(
        element(
          "button",
          { type: "button", class: "quiet", click: save, "aria-label": `Download the data of ${title}` },
          "Data",
        ),
      );
    }
    const alt = `${about}${numbers ? " The button Data below downloads its numbers." : ""}`;
    return element(
      "figure",
      { id: `figure-${title}` },
      element("img", { src: image, alt }),
      element("figcaption", {}, element("h3", {}, spoken(title)), element("p", {}, ...written(about)), links),
    );
  });
  const heading = element("h2", { id: "figures-title" }, "Figures");
  const note = element("p", { class: "about" }, "Figures always show all cells; filters do not apply.");
  main.append(
    element(
      "section",
      { id: "figures", "aria-labelledby": "figures-title" },
      heading,
      note,
      element("div", { class: "figures" }, ...figures),
    ),
  );
  contents.append(addContents("figures", "Figures"));
}

/** Return the rows of a figure's data; cells stand in it by number, and are written by key. */
function dataRows(numbers) {
  const names = Object.keys(numbers);
  const field = (column, row) => {
    const found = unpacked(numbers[column], row);
    if (column === "keys") return found.map((cell) => value("key", cell)).join(" ");
    return found !== null && typeof found === "object" ? JSON.stringify(found) : found;
  };
  const lengths = Object.values(numbers).map(({ index, values }) => (index ?? values ?? [0]).length);
  const rows = [...Array(Math.max(0, ...lengths)).keys()];
  return [names, ...rows.map((row) => names.map((column) => field(column, row)))];
}

function buildHeader() {
  document.querySelector("h1").textContent = data.title;
  const count = (one, word) => `${one.toLocaleString("en")} ${word}${one === 1 ? "" : "s"}`;
  const some = (column) => [...distinct(column)].filter(Boolean).map(name);
  const few = (column, word) => {
    const found = some(column);
    return found.length > 3 ? count(found.length, word) : found.join(", ");
  };
  const facts = [
    count(data.count, "cell"),
    count(some("attack").length, "method"),
    few("learner", "learner"),
    `${few("preset", "preset")} preset`,
    data.columns.noise_seed ? count(distinct("noise_seed").size, "noise seed") : null,
    count(distinct("seed").size, "seed"),
    few("device", "device"),
  ];
  document.getElementById("facts").textContent = facts.filter(Boolean).join(" · ");
  const button = document.getElementById("theme");
  const isDark = () => (state.theme ? state.theme === "dark" : dark.matches);
  button.addEventListener("click", () => {
    state.theme = isDark() ? "light" : "dark";
    writeAddress();
    show();
  });
  dark.addEventListener("change", () => show());
  function show() {
    if (state.theme) document.documentElement.dataset.theme = state.theme;
    else delete document.documentElement.dataset.theme;
    button.textContent = isDark() ? "Light theme" : "Dark theme";
  }
  return show;
}

function buildLeftOut(contents) {
  if (!data.left_out.length) return;
  const items = data.left_out.map(([title, why]) =>
    element("li", {}, element("strong", {}, title), ": ", ...written(why)),
  );
  main.append(
    element(
      "section",
      { id: "left-out", "aria-labelledby": "left-out-title" },
      element("h2", { id: "left-out-title" }, "Left out"),
      element("ul", {}, ...items),
    ),
  );
  contents.append(addContents("left-out", "Left out"));
}

const wide = matchMedia("(min-width: 60rem)");
const contents = document.getElementById("contents");
readAddress();
const showTheme = buildHeader();
const fillFilters = buildFilters();
buildTables(contents);
buildFigures(contents);
const cellsView = allCells(open);
views.push(cellsView);
main.append(cellsView.section);
contents.append(addContents(cellsView.id, cellsView.title));
buildLeftOut(contents);

function showState() {
  showTheme();
  fillFilters();
  refresh();
  showPanel(views);
}

side.open = wide.matches;
wide.addEventListener("change", () => (side.open = wide.matches));
addEventListener("hashchange", () => {
  readAddress();
  showState();
});
panel.addEventListener("close", () => {
  state.open = "";
  writeAddress();
});
panel.addEventListener("click", (event) => {
  if (event.target === panel) panel.close();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  goTo(main);
});
showState();
