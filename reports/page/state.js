// The data of the page, small builders, and the state in the fragment of the address.

const data = JSON.parse(document.getElementById("data").textContent);

/** Return a value of a column: it holds one for all rows, all of them, or the distinct ones. */
function unpacked(column, row) {
  if ("same" in column) return column.same;
  return column.index ? column.values[column.index[row]] : column.values[row];
}

/** Return what a column holds for a cell; null if that is not known. */
function value(column, cell) {
  return data.columns[column] ? unpacked(data.columns[column], cell) : null;
}

/** Return a label as the field writes it: SEM for sem. */
function name(label) {
  return Object.hasOwn(data.names, label) ? data.names[label] : label;
}

/**
 * Make an element. Children are nodes or texts: no text is ever read as HTML, so that a name
 * with tags in it is shown as it is.
 */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, given] of Object.entries(attributes)) {
    if (given === null || given === undefined || given === false) continue;
    if (typeof given === "function") made.addEventListener(key, given);
    else made.setAttribute(key, given === true ? "" : given);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Return the nodes of a text in which rho_a and rho_u are set as in a paper. */
function written(text) {
  return text
    .split(/\b(rho_[au])\b/)
    .map((part) =>
      part === "rho_a" || part === "rho_u"
        ? element("span", { class: "symbol" }, "ρ", element("sub", {}, part.at(-1)))
        : part,
    );
}

/** Return the nodes of a text whose addresses are links. */
function linked(text) {
  return text
    .split(/(https:\/\/[^\s()]*[\w/])/)
    .flatMap((part, k) => (k % 2 ? [element("a", { href: part }, part)] : written(part)));
}

// Filters by ranges of numbers: parameter, label, column.
const numbered = [
  ["seeds", "Seeds", "seed"],
  ["noise-seeds", "Noise seeds", "noise_seed"],
];
const state = {
  chosen: new Map(data.filters.map((filter) => [filter.column, new Set()])),
  ranges: new Map(numbered.map(([id]) => [id, ""])),
  query: "",
  sorts: new Map(), // id of a table to { column, down }
  open: "", // ID/ROW/COLUMN of an entry, or the key of a record
  theme: "", // dark, light, or empty: the system's
};

const parameter = (column) => (column === "attack" ? "method" : column);

/** Take the state from the address; what makes no sense there is left out. */
function readAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  for (const { column, values } of data.filters) {
    const wanted = address.getAll(parameter(column)).filter((one) => values.includes(one));
    state.chosen.set(column, new Set(wanted));
  }
  for (const [id] of numbered) state.ranges.set(id, address.get(id) ?? "");
  state.query = address.get("q") ?? "";
  state.open = address.get("open") ?? "";
  state.theme = ["dark", "light"].includes(address.get("theme")) ? address.get("theme") : "";
  state.sorts.clear();
  for (const text of address.getAll("sort")) {
    const [id, column, way] = text.split(":");
    if (way === "up" || way === "down") state.sorts.set(id, { column, down: way === "down" });
  }
}

/** Put the state into the address, without a step in the browser's history. */
function writeAddress() {
  const address = new URLSearchParams();
  for (const [column, wanted] of state.chosen) {
    for (const one of wanted) address.append(parameter(column), one);
  }
  for (const [id, text] of state.ranges) if (text) address.set(id, text);
  if (state.query) address.set("q", state.query);
  for (const [id, { column, down }] of state.sorts) {
    address.append("sort", `${id}:${column}:${down ? "down" : "up"}`);
  }
  if (state.open) address.set("open", state.open);
  if (state.theme) address.set("theme", state.theme);
  history.replaceState(null, "", `#${address}`);
}

/** Tell whether any filter is set. */
function filtering() {
  const chosen = [...state.chosen.values()].some((wanted) => wanted.size);
  return chosen || [state.query, ...state.ranges.values()].some((text) => text.trim());
}

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** Compare two values for a sort, numbers before texts; what is not known stays last. */
function compare(one, other, down) {
  const empty = (each) => each === null || each === undefined || each === "";
  if (empty(one) || empty(other)) return empty(one) - empty(other);
  const both = typeof one === "number" && typeof other === "number";
  const order = both ? one - other : collator.compare(String(one), String(other));
  return down ? -order : order;
}

/** Make text harmless for a spreadsheet, which would run what begins like a formula. */
function harmless(text) {
  return /^[=+\-@\t\r＝＋－＠]/.test(text) ? `'${text}` : text;
}

/** Return rows of texts and numbers as CSV. */
function csv(rows) {
  const field = (one) => {
    if (one === null || one === undefined) return "";
    const text = typeof one === "string" ? harmless(one) : String(one);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(field).join(",") + "\r\n").join("");
}

/** Hand a text to the reader as a file. */
function download(file, kind, text) {
  const url = URL.createObjectURL(new Blob([text], { type: kind }));
  element("a", { href: url, download: file }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Make the two buttons that download what a table shows. */
function downloads(id, rows, objects) {
  const button = (label, act) =>
    element(
      "button",
      { type: "button", class: "quiet", click: act, "aria-label": `Download ${label} of ${id}` },
      label,
    );
  return element(
    "div",
    { class: "downloads" },
    button("CSV", () => download(`${id}.csv`, "text/csv;charset=utf-8", csv(rows()))),
    button("JSON", () =>
      download(`${id}.json`, "application/json", JSON.stringify(objects(), null, 1) + "\n"),
    ),
  );
}
