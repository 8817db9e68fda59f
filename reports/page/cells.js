// The cells: those that pass the filters, and their table.

/** Read `0, 2-4` as ranges; null if it is invalid. */
function ranges(text) {
  const found = [];
  for (const part of text.split(",")) {
    if (!part.trim()) continue;
    const match = /^\s*(\d+)(?:\s*-\s*(\d+))?\s*$/.exec(part);
    if (!match) return null;
    found.push([Number(match[1]), Number(match[2] ?? match[1])]);
  }
  return found;
}

const searched = ["attack", "dataset", "learner", "defense", "preset"];
const haystacks = [];

/** Return what a text search looks into, in small letters. */
function haystack(cell) {
  haystacks[cell] ??= [
    ...searched.flatMap((column) => [value(column, cell), name(value(column, cell))]),
    ...["rho_a", "device", "status", "reason", "key"].map((column) => value(column, cell)),
  ]
    .join("\n")
    .toLowerCase();
  return haystacks[cell];
}

/** Return 1 for each cell that the filters leave, 0 for the others. */
function filtered() {
  const left = new Uint8Array(data.count).fill(1);
  const keep = (test) => {
    for (let cell = 0; cell < left.length; cell++) if (left[cell] && !test(cell)) left[cell] = 0;
  };
  for (const [column, wanted] of state.chosen) {
    if (wanted.size) keep((cell) => wanted.has(String(value(column, cell))));
  }
  for (const [id, , column] of numbered) {
    const wanted = ranges(state.ranges.get(id));
    if (!wanted?.length) continue;
    keep((cell) => {
      const one = value(column, cell);
      // Clean images have no noise.
      if (column === "noise_seed" && value("attack", cell) === "clean") return true;
      return wanted.some(([low, high]) => low <= one && one <= high);
    });
  }
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length) keep((cell) => words.every((word) => haystack(cell).includes(word)));
  return left;
}

const percent = (one) => one.toFixed(2);
const seconds = (one) => one.toFixed(one < 100 ? 1 : 0);
const radius = (one) => one?.replace(/^l2 (.*)$/, (_, size) => `L2 ${Number(Number(size).toPrecision(3))}`);
const labelled = { show: name };
// The columns of the table of all cells; values that all cells share are listed above it.
const cellColumns = [
  { key: "attack", heading: "Method", always: true, ...labelled },
  { key: "dataset", heading: "Data set", ...labelled },
  { key: "learner", heading: "Learner", ...labelled },
  { key: "defense", heading: "Defense", ...labelled },
  { key: "rho_a", heading: "rho_a", always: true },
  { key: "rho_u", heading: "rho_u", show: radius },
  { key: "protect", heading: "Protected", show: (one) => `${Number((100 * one).toPrecision(4))} %` },
  { key: "preset", heading: "Preset", shared: (one) => `${one} preset` },
  { key: "noise_seed", heading: "Noise seed", number: true, shared: (one) => `noise seed ${one}` },
  { key: "seed", heading: "Seed", number: true, shared: (one) => `seed ${one}` },
  { key: "test_accuracy", heading: "Final (%)", always: true, number: true, show: percent },
  { key: "protected_accuracy", heading: "Protected classes (%)", number: true, show: percent },
  { key: "peak_accuracy", heading: "Peak (%)", always: true, number: true, show: percent },
  { key: "train_accuracy", heading: "Train (%)", always: true, number: true, show: percent },
  { key: "generation_seconds", heading: "Noise (s)", always: true, number: true, show: seconds },
  { key: "training_seconds", heading: "Training (s)", always: true, number: true, show: seconds },
  { key: "device", heading: "Device" },
  { key: "key", heading: "Record", always: true, show: (one) => one.slice(0, 8) },
];

const distinct = (column) =>
  new Set(Array.from({ length: data.count }, (_, cell) => value(column, cell) ?? ""));

/** Make the section of all cells; returns its element and how to show it again. */
function allCells(open) {
  const id = "cells";
  const constant = [];
  const columns = cellColumns.filter(({ key, always, show, shared }) => {
    if (always) return true;
    const found = distinct(key);
    if (found.size > 1) return true;
    const [only] = found;
    if (only !== "" && !(key === "protect" && only === 1) && !(key === "defense" && only === "none"))
      constant.push((shared ?? show ?? String)(only));
    return false;
  });
  const rank = new Map(
    (data.filters.find(({ column }) => column === "rho_a")?.values ?? []).map((one, k) => [one, k]),
  );
  const sorted = (key, cell) => {
    const found = value(key, cell);
    if (key === "rho_a") return rank.get(found) ?? null;
    return searched.includes(key) ? name(found) : found;
  };
  const step = 200;
  let limit = step;
  let cells = [];

  const table = element("table", { "aria-labelledby": `${id}-title` });
  const body = element("tbody");
  const head = headings(id, columns, () => show());
  table.append(element("thead", {}, head.row), body);
  const more = element("button", { type: "button", click: () => grow() });
  const note = constant.length
    ? element("p", { class: "title" }, `All: ${constant.join(", ")}`)
    : null;

  function row(cell) {
    return element("tr", {}, ...columns.map((column, k) => cellOf(column, cell, k)));
  }
  function cellOf({ key, number, show: text }, cell, k) {
    const found = value(key, cell);
    const shown = found === null ? "" : text ? text(found) : String(found);
    if (k === 0) return element("th", { scope: "row" }, shown);
    if (key !== "test_accuracy") return element("td", { class: number ? "number" : null }, shown);
    const done = value("status", cell) === "done" || value("status", cell) === null;
    const written = done ? shown : value("status", cell);
    return element(
      "td",
      { class: "number" },
      entryButton(written, `${cellTitle(cell)}: ${written}`, () => open(value("key", cell))),
    );
  }
  function grow() {
    const first = body.rows.length;
    limit = Math.min(limit + 5 * step, cells.length);
    body.append(...cells.slice(first, limit).map(row));
    finish();
    body.rows[first]?.querySelector("button")?.focus();
  }
  function finish() {
    more.hidden = limit >= cells.length;
    more.textContent = `Show more (${(cells.length - limit).toLocaleString("en")} left)`;
  }
  function show(left) {
    if (left) {
      cells = [];
      for (let cell = 0; cell < left.length; cell++) if (left[cell]) cells.push(cell);
    } else cells.sort((one, other) => one - other);
    const sort = head.refresh();
    if (sort) {
      const values = new Map(cells.map((cell) => [cell, sorted(sort.column, cell)]));
      cells.sort((a, b) => compare(values.get(a), values.get(b), sort.down) || a - b);
    }
    limit = step;
    body.replaceChildren(...cells.slice(0, limit).map(row));
    finish();
  }
  const plain = Object.keys(data.columns).filter((column) => {
    const { same, values = [same] } = data.columns[column];
    const isObject = values.some((one) => one !== null && typeof one === "object");
    return column !== "setting" && (!isObject || column === "epoch_accuracy");
  });
  const asText = (one) => (Array.isArray(one) ? one.join(" ") : one);
  const section = element(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    element("h2", { id: `${id}-title` }, "All cells"),
    element("p", { class: "about" }, "One row per cell: one method, setting and seed."),
    note,
    downloads(
      id,
      () => [plain, ...cells.map((cell) => plain.map((column) => asText(value(column, cell))))],
      () => cells.map(asObject),
    ),
    scroller("Table of all cells", table),
    more,
  );
  return { id, title: "All cells", section, show };
}

/** Return all that is known of a cell, as one object. */
function asObject(cell) {
  return Object.fromEntries(
    Object.keys(data.columns).map((column) => {
      const found = value(column, cell);
      return [column, column === "setting" && found ? JSON.parse(found) : found];
    }),
  );
}

/** Tell whether the noise of a cell has another seed than its training. */
function ownNoise(cell) {
  const noise = value("noise_seed", cell);
  return noise !== null && noise !== value("seed", cell);
}

/** Return what a cell is called: SEM, rho_a 4/255, seed 0. */
function cellTitle(cell) {
  const defense = value("defense", cell);
  const share = value("protect", cell);
  return [
    name(value("attack", cell)),
    defense && defense !== "none" ? name(defense) : null,
    share !== null && share !== 1 ? `${Number((100 * share).toPrecision(4))} % protected` : null,
    `rho_a ${value("rho_a", cell)}`,
    ownNoise(cell) ? `noise seed ${value("noise_seed", cell)}` : null,
    `seed ${value("seed", cell)}`,
  ]
    .filter((part) => part !== null)
    .join(", ");
}
