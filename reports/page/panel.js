// The panel: the records of a number, and the command that reproduces it.

const panel = document.getElementById("panel");

/** Return the cells of what is open: an entry of a table, or one record. */
function opened(views) {
  const parts = state.open.split("/");
  if (parts.length === 3) {
    const view = views.find(({ id, table }) => table && id === parts[0]);
    const row = view?.table.rows[Number(parts[1])];
    const entry = row?.entries[Number(parts[2])];
    if (!entry?.cells.length) return null;
    const heading = view.table.headings[Number(parts[2])];
    return { title: `${row.name}, ${heading}`, entry, cells: entry.cells };
  }
  for (let cell = 0; state.open && cell < data.count; cell++) {
    if (value("key", cell) === state.open) return { title: cellTitle(cell), cells: [cell] };
  }
  return null;
}

/** Show the panel of what is open, or close it. */
function showPanel(views) {
  const found = opened(views);
  if (!found) {
    if (panel.open) panel.close();
    return;
  }
  const { title, entry, cells } = found;
  const several = cells.length > 1;
  const step = 20;
  const more = element("button", { type: "button", click: () => add() });
  const records = element("div", {});
  function add() {
    const first = records.children.length;
    records.append(...cells.slice(first, first + step).map((cell, k) => record(cell, several, first + k)));
    more.hidden = records.children.length >= cells.length;
    more.textContent = `Show more (${cells.length - records.children.length} left)`;
  }
  add();
  const parts = [
    element(
      "div",
      { class: "head" },
      element("h2", { id: "panel-title" }, ...written(title)),
      element("button", { type: "button", class: "quiet", click: () => panel.close() }, "Close"),
    ),
    several ? element("p", { class: "lead" }, entrySummary(entry, cells)) : null,
    records,
    more,
  ];
  panel.replaceChildren(...parts.filter(Boolean));
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
}

/** Return in words what an entry of several cells is. */
function entrySummary(entry, cells) {
  const records = `${cells.length} records`;
  if (!entry || entry.value === null) return `${entry?.text || "No number"}, from ${records}.`;
  const interval = entry.interval
    ? `, 95 % interval ${entry.interval.map((one) => one.toFixed(2)).join(" to ")}`
    : "";
  return `${entry.text}${interval}, from ${records}:`;
}

/** Make the account of one record; one of several can be folded. */
function record(cell, several, number) {
  const done = value("test_accuracy", cell) !== null;
  const parts = [
    done ? outcome(cell) : failure(cell),
    command(cell),
    facts("Time and hardware", timing(cell)),
    facts("Noise", noise(cell)),
    facts("Record", provenance(cell)),
    folded("Versions", flat(value("environment", cell))),
    folded("Settings", flat(JSON.parse(value("setting", cell) || "null"))),
  ].filter(Boolean);
  if (!several) return element("div", {}, ...parts);
  const accuracy = done ? `${value("test_accuracy", cell)} %` : value("status", cell);
  const summary = element("summary", {}, ...written(`${cellTitle(cell)}: ${accuracy}`));
  return element("details", { class: "record", open: number === 0 }, summary, ...parts);
}

function outcome(cell) {
  const epochs = value("epoch_accuracy", cell) ?? [];
  const peak = value("peak_accuracy", cell);
  const when = epochs.indexOf(peak) + 1;
  const rows = [
    ["Final test accuracy", unit(value("test_accuracy", cell), "%")],
    ["Peak test accuracy", unit(peak, "%") && `${unit(peak, "%")}${when ? ` (epoch ${when})` : ""}`],
    ["On the protected classes", unit(value("protected_accuracy", cell), "%")],
    ["On the poisoned training images", unit(value("train_accuracy", cell), "%")],
  ];
  const section = facts("Accuracy", rows);
  if (epochs.length > 1) section.append(curve(epochs, peak));
  if (epochs.length) {
    const list = element("details", {}, element("summary", {}, "Accuracy after each epoch (%)"));
    list.append(element("p", { class: "values" }, epochs.join(", ")));
    section.append(list);
  }
  return section;
}

function failure(cell) {
  const status = value("status", cell);
  const words = status === "failed" ? "This cell failed." : "This cell is not finished.";
  return element(
    "section",
    { class: "failure" },
    element("p", {}, element("strong", {}, words), " ", value("reason", cell) || ""),
  );
}

/** Draw accuracy over epochs, with the final and the highest point. */
function curve(epochs, peak) {
  const [width, height, edge] = [360, 110, 28];
  const draw = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, given] of Object.entries(attributes)) made.setAttribute(key, given);
    if (text) made.textContent = text;
    return made;
  };
  const x = (k) => (edge + ((width - edge - 8) * k) / (epochs.length - 1)).toFixed(1);
  const y = (one) => (height - 18 - ((height - 26) * one) / 100).toFixed(1);
  const last = epochs.length - 1;
  const label = `Test accuracy over ${epochs.length} epochs: highest ${peak} %, final ${epochs[last]} %`;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const level of [0, 50, 100]) {
    svg.append(draw("line", { class: "grid", x1: edge, x2: width - 8, y1: y(level), y2: y(level) }));
    svg.append(draw("text", { x: edge - 6, y: Number(y(level)) + 4, "text-anchor": "end" }, String(level)));
  }
  const points = epochs.map((one, k) => `${x(k)},${y(one)}`).join(" ");
  svg.append(draw("polyline", { class: "line", points }));
  svg.append(draw("circle", { class: "peak", cx: x(epochs.indexOf(peak)), cy: y(peak), r: 3.5 }));
  svg.append(draw("circle", { class: "final", cx: x(last), cy: y(epochs[last]), r: 3.5 }));
  svg.append(draw("text", { x: edge, y: height - 3 }, "epoch 1"));
  svg.append(draw("text", { x: width - 8, y: height - 3, "text-anchor": "end" }, String(epochs.length)));
  return svg;
}

function command(cell) {
  const base = value("command", cell);
  if (!base) return null;
  const noise = ownNoise(cell) ? ` --noise-seeds ${value("noise_seed", cell)}` : "";
  const text = `${base}${noise} --seeds ${value("seed", cell)}`;
  // Lines break only between options; the text is the same.
  const options = text.split(/ (?=--)/).map((one) => element("span", {}, one));
  const code = element("code", {}, ...options.flatMap((one, k) => (k ? [" ", one] : [one])));
  const button = element("button", { type: "button", class: "quiet" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected; copy it";
    }
  });
  const notes = value("command_notes", cell) ?? [];
  return element(
    "section",
    {},
    element("div", { class: "caption" }, element("h3", {}, "Command to reproduce it"), button),
    element("pre", { tabindex: "0", "aria-label": "Command" }, code),
    ...notes.map((note) => element("p", { class: "note" }, note)),
  );
}

function timing(cell) {
  const resumed = (column) => (value(column, cell) ? ", interrupted and resumed" : "");
  const spent = (column, flag) =>
    value(column, cell) === null ? null : `${value(column, cell).toFixed(2)} s${flag ? resumed(flag) : ""}`;
  const shared = value("packed", cell) > 1 ? `, shared by ${value("packed", cell)} cells` : "";
  const memory = value("peak_memory", cell);
  const maker = value("generation_device", cell);
  const device = value("device", cell);
  return [
    ["Noise generation", spent("generation_seconds", "generation_resumed")],
    ["Preparation by the defense", spent("preparation_seconds")],
    ["Training", spent("training_seconds", "resumed")],
    ["Warm-up (not included)", spent("warmup_seconds")],
    ["Evaluation (not included)", spent("evaluation_seconds")],
    ["Device", device && device + shared],
    ["Noise generated on", maker === device ? null : maker],
    ["Peak memory", memory && `${(memory / 2 ** 30).toFixed(2)} GiB`],
  ];
}

function noise(cell) {
  const short = (column, digits) => value(column, cell)?.toFixed(digits);
  return [
    ["Radius rho_u", radius(value("rho_u", cell))],
    ["Measured L-infinity", short("linf", 0) && `${short("linf", 0)}/255`],
    ["Measured L2 (largest)", short("l2", 3)],
    ["PSNR", short("psnr", 1) && `${short("psnr", 1)} dB`],
    ["SSIM", short("ssim", 3)],
    ["Key of the poison", value("poison", cell)],
  ];
}

function provenance(cell) {
  const git = value("environment", cell)?.git;
  const done = value("test_accuracy", cell) !== null;
  return [
    ["Key", value("key", cell)],
    ["File", done ? `${value("folder", cell)}/cells/${value("key", cell)}.json` : null],
    ["Data set", name(value("dataset", cell))],
    ["Learner", name(value("learner", cell))],
    ["Method needs", value("attack_needs", cell)],
    ["Defense needs", value("defense", cell) === "none" ? null : value("defense_needs", cell)],
    ["Learner needs", value("learner_needs", cell)],
    ["Preset", value("preset", cell)],
    ["Noise seed", ownNoise(cell) ? String(value("noise_seed", cell)) : null],
    ["Seed", String(value("seed", cell))],
    ["Finished", done ? value("created", cell) : null],
    ["Git revision", done ? (git ?? "not recorded") : null],
  ];
}

/** Make a list of names and values; those that are not known are left out. */
function facts(title, rows) {
  const known = rows.filter(([, one]) => one !== null && one !== undefined && one !== "");
  if (!known.length) return null;
  return element("section", {}, element("h3", {}, title), list(known.map(([term, one]) => [element("span", {}, ...written(term)), one])));
}

function folded(title, rows) {
  return rows.length ? element("details", {}, element("summary", {}, title), list(rows)) : null;
}

function list(rows) {
  const pairs = rows.map(([term, one]) =>
    element("div", {}, element("dt", {}, term), element("dd", {}, one)),
  );
  return element("dl", {}, ...pairs);
}

/** Return the leaves of nested objects by dotted names. */
function flat(nested, prefix = "") {
  if (nested === null || typeof nested !== "object") {
    return prefix ? [[prefix, nested === null ? "none" : String(nested)]] : [];
  }
  if (Array.isArray(nested) && nested.every((one) => one === null || typeof one !== "object")) {
    return [[prefix, nested.join(", ")]];
  }
  return Object.entries(nested).flatMap(([key, one]) => flat(one, prefix ? `${prefix}.${key}` : key));
}

function unit(number, text) {
  return number === null ? null : `${number} ${text}`;
}
