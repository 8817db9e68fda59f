// Tables of reports: sorted and filtered, never recomputed.

/**
 * Make the row of headings, each a button that sorts: upwards, downwards, as it was.
 * Returns the row, its cells, and a function that shows the sort in force and returns it.
 */
function headings(id, columns, changed) {
  const cells = columns.map(({ key, heading, number }) => {
    const sort = () => {
      const now = state.sorts.get(id);
      if (now?.column !== key) state.sorts.set(id, { column: key, down: false });
      else if (!now.down) state.sorts.set(id, { column: key, down: true });
      else state.sorts.delete(id);
      writeAddress();
      changed();
    };
    return element(
      "th",
      { scope: "col", class: number ? "number" : null },
      element("button", { type: "button", class: "sort", click: sort }, element("span", {}, ...written(heading))),
    );
  });
  const refresh = () => {
    const sort = state.sorts.get(id);
    let found = null;
    columns.forEach(({ key }, k) => {
      const mine = sort?.column === key;
      if (mine) found = sort;
      cells[k].setAttribute("aria-sort", !mine ? "none" : sort.down ? "descending" : "ascending");
    });
    return found;
  };
  return { row: element("tr", {}, ...cells), cells, refresh };
}

/** Make the frame in which a wide table scrolls, so that the page itself never does. */
function scroller(label, table) {
  return element("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, table);
}

/** Make the button of an entry. */
function entryButton(content, label, open) {
  const children = Array.isArray(content) ? content : [content];
  return element(
    "button",
    { type: "button", class: "entry", "aria-label": label, "aria-haspopup": "dialog", click: open },
    ...children,
  );
}

/** Make the section of one table of a report; returns its element and how to show it again. */
function reportTable(group, table, number, open) {
  const id = `${group.name}-${number}`;
  const label = table.title ? `${table.caption}: ${table.title}` : table.caption;
  const columns = [table.corner || "Row", ...table.headings].map((heading, k) => ({
    key: String(k),
    heading,
    number: k > 0 && table.rows.some(({ entries }) => typeof entries[k - 1]?.value === "number"),
  }));
  const body = element("tbody");
  const head = headings(id, columns, () => show());
  const element_ = element(
    "section",
    { id, class: "table" },
    element(
      "div",
      { class: "caption" },
      element(
        "h3",
        { id: `${id}-title` },
        ...written(table.caption),
        table.title ? element("span", { class: "title" }, ...written(table.title)) : null,
      ),
      downloads(id, csvRows, objects),
    ),
    scroller(
      label,
      element("table", { "aria-labelledby": `${id}-title` }, element("thead", {}, head.row), body),
    ),
    noteOf(table),
  );
  let left = null;
  let rows = [];
  let shown = [];

  const seen = (entry) => Boolean(entry) && (!entry.cells.length || entry.cells.every((c) => left[c]));
  const telling = (entry) => Boolean(entry?.cells.length);
  const sortValue = (row, key) => {
    if (key === "0") return table.rows[row].name;
    const entry = table.rows[row].entries[Number(key) - 1];
    return seen(entry) ? (entry.value ?? entry.text) : null;
  };
  function choose() {
    const all = !filtering();
    const entriesOf = (row) => table.rows[row].entries;
    rows = [...table.rows.keys()].filter(
      (row) => all || entriesOf(row).some((entry) => telling(entry) && seen(entry)),
    );
    shown = table.headings.map((_, k) => all || rows.some((row) => seen(entriesOf(row)[k])));
  }
  function show(mask) {
    left = mask ?? left;
    choose();
    const sort = head.refresh();
    if (sort) {
      const values = new Map(rows.map((row) => [row, sortValue(row, sort.column)]));
      rows.sort((a, b) => compare(values.get(a), values.get(b), sort.down) || a - b);
    }
    shown.forEach((visible, k) => (head.cells[k + 1].hidden = !visible));
    body.replaceChildren(...rows.map(rowOf));
    element_.hidden = !rows.length;
    return rows.length > 0;
  }
  function rowOf(row) {
    const { name: label, entries } = table.rows[row];
    const cells = entries.map((entry, k) => {
      const numeric = columns[k + 1].number;
      const td = element("td", { class: numeric ? "number" : null, hidden: !shown[k] });
      if (seen(entry)) td.append(entryOf(entry, row, k));
      return td;
    });
    return element("tr", {}, element("th", { scope: "row" }, ...written(label)), ...cells);
  }
  function entryOf(entry, row, k) {
    const text = entry.best ? element("strong", {}, entry.text) : entry.text;
    const marks = entry.marks.map((mark) => element("sup", {}, mark));
    if (!entry.cells.length) return element("span", {}, text, ...marks);
    const spoken = [entry.text, ...entry.marks].filter(Boolean).join(" ");
    const label = `${table.rows[row].name}, ${table.headings[k]}: ${spoken}`;
    return entryButton([text, ...marks], label, () => open(`${id}/${row}/${k}`));
  }
  const visible = () => [...table.headings.keys()].filter((k) => shown[k]);
  function csvRows() {
    const spread = (k) => table.rows.some(({ entries }) => typeof entries[k]?.std === "number");
    const names = visible().flatMap((k) =>
      spread(k) ? ["", " std", " seeds"].map((end) => table.headings[k] + end) : [table.headings[k]],
    );
    const lines = rows.map((row) => {
      const entries = table.rows[row].entries;
      const fields = visible().flatMap((k) => {
        const entry = seen(entries[k]) ? entries[k] : null;
        const first = entry && [entry.value ?? entry.text, ...(entry.value === null ? entry.marks : [])];
        const mean = typeof first?.[0] === "number" ? first[0] : (first?.filter(Boolean).join(" ") ?? null);
        return spread(k) ? [mean, entry?.std ?? null, entry?.seeds ?? null] : [mean];
      });
      return [table.rows[row].name, ...fields];
    });
    return [[table.corner || "Row", ...names], ...lines];
  }
  function objects() {
    return rows.flatMap((row) =>
      visible()
        .filter((k) => seen(table.rows[row].entries[k]))
        .map((k) => {
          const { cells, value: mean, ...rest } = table.rows[row].entries[k];
          const keys = cells.map((cell) => value("key", cell));
          return { table: label, row: table.rows[row].name, column: table.headings[k], mean, ...rest, keys };
        }),
    );
  }
  return { id, title: table.title || table.caption, section: element_, show, table };
}

/** Return the lines below a table: seeds, what is bold, what marks mean, where figures are from. */
function noteOf(table) {
  const marks = table.legend.map(([symbol, text]) => `${symbol} ${text}.`);
  const text = [...table.notes, ...marks].join(" ");
  const from = table.sources.map((source) => element("li", {}, ...linked(source)));
  const sources = from.length
    ? element("details", {}, element("summary", {}, "Sources"), element("ul", {}, ...from))
    : null;
  return text || sources ? element("div", { class: "note" }, ...written(text), sources) : null;
}
