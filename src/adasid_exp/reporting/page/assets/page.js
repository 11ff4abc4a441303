"use strict";
// Everything here works on what the page already holds; text from data only ever becomes text nodes.
(() => {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const PALETTE = 10;
  const DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]];
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // ---- theme

  const root = document.documentElement;
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

  function showTheme() {
    byId("theme").setAttribute("aria-pressed", String(isDark()));
    byId("theme").textContent = isDark() ? "Light" : "Dark";
    byId("theme").setAttribute("aria-label", isDark() ? "Switch to light colors" : "Switch to dark colors");
  }

  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    if (root.dataset.storage !== "none") localStorage.setItem("adasid-theme", root.dataset.theme);
    showTheme();
  });
  systemDark.addEventListener("change", showTheme);
  showTheme();

  // ---- figures: drawn when they come near, so that the page opens at once

  const CONFIG = {
    background: "transparent",
    font: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif",
    view: { stroke: null },
    axis: {
      labelColor: "var(--quiet)", titleColor: "var(--quiet)", titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 11,
      gridColor: "var(--faint)", domainColor: "var(--muted)", tickColor: "var(--muted)", tickSize: 4,
    },
    legend: { labelColor: "var(--quiet)", titleColor: "var(--quiet)", titleFontWeight: "normal" },
  };
  const OPTIONS = { actions: false, renderer: "svg", ast: true, defaultStyle: false, config: CONFIG, tooltip: { disableDefaultStyle: true } };
  const views = new Map(); // element -> its Vega view
  const waiting = new Map(); // element -> what draws it

  function rowsOf(columns) {
    const names = Object.keys(columns);
    return columns[names[0]].map((_, row) => Object.fromEntries(names.map((name) => [name, columns[name][row]])));
  }

  async function draw(element) {
    const task = waiting.get(element);
    if (!task) return;
    waiting.delete(element);
    seen.unobserve(element);
    const { spec, columns, muted } = task;
    const result = await vegaEmbed(element, { ...spec, datasets: { source: rowsOf(columns) } }, OPTIONS);
    views.set(element, result.view);
    const off = muted();
    if (off.length) await result.view.signal("muted", off).runAsync();
  }

  const seen = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
    { rootMargin: "400px" },
  );

  function place(element, spec, columns, muted) {
    waiting.set(element, { spec, columns, muted });
    seen.observe(element);
  }

  const mutedIn = (legend) => (legend ? all(".key[aria-pressed=false]", legend).map((key) => key.dataset.series) : []);

  function wireLegend(legend, elements) {
    legend.addEventListener("click", (event) => {
      const key = event.target.closest(".key");
      if (!key) return;
      key.setAttribute("aria-pressed", String(key.getAttribute("aria-pressed") !== "true"));
      for (const element of elements()) {
        const view = views.get(element);
        if (view) view.signal("muted", mutedIn(legend)).runAsync();
      }
    });
  }

  function numbersTable(columns) {
    const names = Object.keys(columns);
    const head = make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)));
    const lines = columns[names[0]].map((_, row) =>
      make("tr", {}, ...names.map((name) => make("td", {}, String(columns[name][row] ?? "")))));
    return make("table", { class: "plain" }, make("thead", {}, head), make("tbody", {}, ...lines));
  }

  for (const figure of all("figure[data-figure]")) {
    const plots = payload.figures[figure.dataset.figure];
    const legend = figure.querySelector(".legend");
    const places = all(".plot", figure);
    for (const element of places) {
      const plot = plots[Number(element.dataset.plot)];
      place(element, plot.spec, plot.data, () => mutedIn(legend));
    }
    if (legend) wireLegend(legend, () => places);
    const numbers = figure.querySelector(".numbers");
    numbers.addEventListener("toggle", () => {
      const box = numbers.querySelector(".scroll");
      if (!numbers.open || box.childElementCount) return;
      plots.filter((plot) => Object.keys(plot.data).length).forEach((plot) => box.append(numbersTable(plot.data)));
    });
  }

  window.addEventListener("beforeprint", () => {
    all("details.asides").forEach((element) => { element.open = true; });
    [...waiting.keys()].filter((element) => element.offsetParent).forEach(draw);
  });

  // ---- tables: sort, filter, choose blocks

  function valueOf(row, column) {
    const cell = row.cells[column];
    if (column === 0) return cell.querySelector(".row-label").textContent.toLowerCase();
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  }

  function sortBy(table, header) {
    const column = header.cellIndex;
    const first = column === 0 ? "ascending" : header.querySelector(".sort").dataset.first || "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = header.getAttribute("aria-sort") === first ? other : first;
    for (const each of all("th[aria-sort]", table)) each.setAttribute("aria-sort", each === header ? order : "none");
    const sign = order === "ascending" ? 1 : -1;
    const rows = all("tbody tr", table).map((row) => [valueOf(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // what is missing stays below
      return sign * (a < b ? -1 : a > b ? 1 : 0);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  function filterRows(grid, text) {
    const wanted = text.trim().toLowerCase();
    const rows = all("tbody tr", grid.querySelector(".results"));
    const kept = rows.filter((row) => {
      row.hidden = !`${row.dataset.row} ${row.cells[0].textContent}`.toLowerCase().includes(wanted);
      return !row.hidden;
    });
    grid.querySelector(".count").textContent = wanted ? `${kept.length} of ${rows.length} rows` : "";
  }

  function markEdges(table) {
    for (const row of all("tbody tr, thead tr:last-child", table)) {
      let block = "";
      for (const cell of row.cells) {
        if (cell.dataset.block && cell.dataset.block !== block) cell.classList.add("edge");
        block = cell.dataset.block || block;
      }
    }
  }

  for (const grid of all("section.grid")) {
    const table = grid.querySelector(".results");
    if (!table) continue;
    markEdges(table);
    for (const button of all(".sort", table)) button.addEventListener("click", () => sortBy(table, button.closest("th")));
    grid.querySelector(".filter").addEventListener("input", (event) => filterRows(grid, event.target.value));
    for (const box of all(".blocks input", grid)) {
      box.addEventListener("change", () => {
        for (const cell of all(`[data-block="${CSS.escape(box.dataset.block)}"]`, table)) cell.hidden = !box.checked;
      });
    }
  }

  // ---- what differs between two runs

  const [first, second] = [byId("run-a"), byId("run-b")];

  function titleOf(run) {
    return `${run.label} · ${run.part} · seed ${run.seed}`;
  }

  function fillRuns(select) {
    let group = null;
    payload.runs.forEach((run, place) => {
      if (!group || group.label !== run.grid) select.append((group = make("optgroup", { label: run.grid })));
      group.append(make("option", { value: place }, titleOf(run)));
    });
  }

  function settingsOf(numbers) {
    return new Map(numbers.map((number) => {
      const [key, value] = payload.pairs[number];
      return [payload.keys[key], payload.values[value]];
    }));
  }

  function changes(a, b) {
    const keys = [...new Set([...a.keys(), ...b.keys()])].sort();
    return keys.filter((key) => a.get(key) !== b.get(key)).map((key) => [key, a.get(key), b.get(key)]);
  }

  function groupRow(text) {
    return make("tr", { class: "group" }, make("th", { scope: "colgroup", colspan: 3 }, text));
  }

  const shown = (value) => (value === undefined ? make("span", { class: "quiet" }, "not there") : make("code", {}, value));

  function changeRow([key, a, b]) {
    return make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, shown(a)), make("td", {}, shown(b)));
  }

  function changesOfRole(role, a, b) {
    if (a === b) return [];
    const [one, other] = [payload.artifacts[a], payload.artifacts[b]];
    if (!one || !other) return [groupRow(`${role}: only the ${one ? "first" : "second"} has it (${(one || other).label})`)];
    const found = changes(settingsOf(one.settings), settingsOf(other.settings));
    const where = changes(settingsOf(one.provenance), settingsOf(other.provenance));
    const head = found.length ? role : `${role}: same settings, other inputs`;
    return [groupRow(head), ...found.map(changeRow), ...where.map(([key, x, y]) => changeRow([`made: ${key}`, x, y]))];
  }

  function figureRows(a, b) {
    const names = Object.keys(a.figures).filter((name) => name in b.figures);
    if (!names.length) return [];
    const text = (value) => (Math.abs(value) < 10 ? value.toFixed(4) : value.toFixed(0));
    return [groupRow("figures"), ...names.map((name) => {
      const [x, y] = [a.figures[name], b.figures[name]];
      const delta = make("span", { class: "quiet delta" }, ` (${y - x >= 0 ? "+" : "−"}${text(Math.abs(y - x))})`);
      return make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, text(x)), make("td", {}, text(y), delta));
    })];
  }

  function compare() {
    const [a, b] = [payload.runs[Number(first.value)], payload.runs[Number(second.value)]];
    const roles = [...new Set([...Object.keys(a.roles), ...Object.keys(b.roles)])];
    const rows = roles.flatMap((role) => changesOfRole(role, a.roles[role], b.roles[role]));
    const same = roles.filter((role) => a.roles[role] === b.roles[role]);
    const box = byId("difference");
    box.replaceChildren();
    if (!rows.length) box.append(make("p", {}, "Nothing: both rest on the same artifacts."));
    else {
      const head = make("tr", {}, ...["setting", titleOf(a), titleOf(b)].map((text) => make("th", { scope: "col" }, text)));
      const table = make("table", { class: "plain changes" }, make("caption", {}, "Settings that differ, by stage; what is the same is left out."),
        make("thead", {}, head), make("tbody", {}, ...rows, ...figureRows(a, b)));
      box.append(make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "What differs" }, table));
    }
    if (same.length) box.append(make("p", { class: "quiet" }, `The same in both: ${same.join(", ")}.`));
  }

  // To begin with: the focus of a grid and a method of the same block and seed, else any two rows of one block.
  function telling() {
    const alike = (a, b) => a.name === b.name && a.part === b.part && a.seed === b.seed && a.row !== b.row;
    for (const wanted of [(a, b) => b.focus && !a.reference, (a, b) => !a.reference && !b.reference, () => true]) {
      for (const [j, b] of payload.runs.entries()) {
        const i = payload.runs.findIndex((a) => alike(a, b) && wanted(a, b));
        if (i >= 0) return [i, j];
      }
    }
    return [0, 0];
  }

  let picked = null;

  function runsOf(button) {
    return payload.runs.map((run, place) => [run, place]).filter(([run]) => run.row === button.dataset.row && run.name === button.dataset.grid);
  }

  function pick(button) {
    if (!picked || picked === button) {
      button.setAttribute("aria-pressed", String(!picked));
      picked = picked ? null : button;
      return;
    }
    const [mine, theirs] = [runsOf(picked), runsOf(button)];
    const pair = mine.flatMap(([a, i]) => theirs.filter(([b]) => a.part === b.part && a.seed === b.seed).map(([, j]) => [i, j]))[0];
    const [i, j] = pair || [mine[0][1], theirs[0][1]];
    picked.setAttribute("aria-pressed", "false");
    picked = null;
    [first.value, second.value] = [i, j];
    compare();
    byId("h-compare").scrollIntoView();
    byId("h-compare").focus({ preventScroll: true });
  }

  if (first) {
    fillRuns(first);
    fillRuns(second);
    [first.value, second.value] = telling();
    first.addEventListener("change", compare);
    second.addEventListener("change", compare);
    byId("swap").addEventListener("click", () => {
      [first.value, second.value] = [second.value, first.value];
      compare();
    });
    for (const button of all(".pick")) button.addEventListener("click", () => pick(button));
    compare();
  }

  // ---- learning curves: panels of the dashboard over the runs of one grid

  function linesSpec(series, metrics, xTitle) {
    const range = (values) => ({ domain: series, range: series.map((_, place_) => values(place_)) });
    const color = { field: "series", type: "nominal", legend: null, scale: range((n) => `var(--s${n % PALETTE})`) };
    const dash = metrics.length > 1
      ? { field: "metric", type: "nominal", legend: { title: null, orient: "bottom", columns: 2, symbolStrokeColor: "var(--quiet)" } }
      : { field: "series", type: "nominal", legend: null, scale: range((n) => DASHES[Math.floor(n / PALETTE) % DASHES.length]) };
    const tooltip = [
      { field: "series", type: "nominal", title: " " }, { field: "metric", type: "nominal" }, { field: "seed", type: "nominal" },
      { field: "artifact", type: "nominal" }, { field: "x", type: "quantitative", title: xTitle, format: ".4~g" }, { field: "y", type: "quantitative", title: "value", format: ".4~g" },
    ];
    return {
      data: { name: "source" }, width: "container", height: 190, params: [{ name: "muted", value: [] }],
      transform: [{ filter: "indexof(muted, datum.series) < 0" }],
      encoding: {
        x: { field: "x", type: "quantitative", title: xTitle }, color,
        y: { field: "y", type: "quantitative", title: null, scale: { zero: false } }, detail: [{ field: "artifact" }, { field: "metric" }],
      },
      layer: [
        { mark: { type: "line", strokeWidth: 1.5, interpolate: "linear" }, encoding: { strokeDash: dash } },
        { mark: { type: "point", filled: true, size: 22, opacity: 0.01 }, encoding: { tooltip } },
      ],
    };
  }

  function barsSpec(names, series) {
    const scale = { domain: series, range: series.map((_, n) => `var(--s${n % PALETTE})`) };
    return {
      data: { name: "source" }, width: "container", height: 17 * names.length, params: [{ name: "muted", value: [] }],
      transform: [{ filter: "indexof(muted, datum.series) < 0" }],
      encoding: { y: { field: "series", type: "nominal", sort: names, title: null, axis: { labelLimit: 170, ticks: false, domain: false } } },
      layer: [
        { mark: { type: "rule", strokeWidth: 1 }, encoding: { x: { aggregate: "min", field: "y", type: "quantitative" }, x2: { aggregate: "max", field: "y" }, color: { value: "var(--muted)" } } },
        { mark: { type: "point", filled: true, size: 55, opacity: 1 },
          encoding: {
            x: { field: "y", type: "quantitative", title: null, scale: { zero: false } }, color: { field: "series", type: "nominal", legend: null, scale },
            tooltip: [{ field: "series", type: "nominal", title: " " }, { field: "seed", type: "nominal" }, { field: "artifact", type: "nominal" }, { field: "y", type: "quantitative", title: "value", format: ".4~g" }],
          } },
      ],
    };
  }

  // Trainings of a grid: each artifact once, named by the row that rests on it, or by itself where several do.
  function trainingsOf(grid) {
    const found = new Map();
    for (const run of payload.runs.filter((each) => each.grid === grid)) {
      for (const signature of Object.values(run.roles)) {
        if (!payload.learning[signature]) continue;
        if (!found.has(signature)) found.set(signature, { signature, seed: run.seed, rows: new Set() });
        found.get(signature).rows.add(run.label);
      }
    }
    for (const each of found.values()) {
      const artifact = payload.artifacts[each.signature];
      each.stage = artifact.stage;
      each.name = each.rows.size > 1 ? artifact.label : [...each.rows][0];
    }
    return [...found.values()];
  }

  const nameOf = (signature) => `${payload.artifacts[signature].label} [${signature.slice(0, 8)}]`;

  function curveColumns(trainings, metrics, axis) {
    const columns = { series: [], metric: [], seed: [], artifact: [], x: [], y: [] };
    for (const { signature, name, seed } of trainings) {
      for (const metric of metrics) {
        const curve = payload.learning[signature].curves[metric];
        if (!curve) continue;
        curve[2].forEach((value, place) => {
          columns.series.push(name); columns.metric.push(metric); columns.seed.push(seed);
          columns.artifact.push(nameOf(signature));
          columns.x.push(curve[axis === "epoch" ? 0 : 1][place]); columns.y.push(value);
        });
      }
    }
    return columns;
  }

  function barColumns(trainings, metric) {
    const columns = { series: [], seed: [], artifact: [], y: [] };
    for (const { signature, name, seed } of trainings) {
      const value = payload.learning[signature].metrics[metric];
      if (value !== undefined) { columns.series.push(name); columns.seed.push(seed); columns.artifact.push(nameOf(signature)); columns.y.push(value); }
    }
    return columns;
  }

  function panelOf(panel, trainings, series, legend, chosenAxis) {
    const mine = trainings.filter((each) => each.stage === panel.stage);
    const axis = chosenAxis === "spec" ? panel.x : chosenAxis;
    const columns = panel.kind === "line" ? curveColumns(mine, panel.metrics, axis) : barColumns(mine, panel.metrics[0]);
    if (!columns.y.length) return null;
    const names = series.filter((name) => columns.series.includes(name));
    const spec = panel.kind === "line" ? linesSpec(series, panel.metrics, axis) : barsSpec(names, series);
    const what = panel.kind === "line" ? `${panel.title} over ${axis}s` : panel.title;
    const element = make("div", { class: "plot", role: "img", "aria-label": `${what}, ${new Set(columns.series).size} runs` });
    element.style.minHeight = `${spec.height + 44}px`; // so that what follows stays where it is while this is drawn
    place(element, spec, columns, () => mutedIn(legend));
    return make("div", { class: "panel" }, make("p", { class: "panel-title" }, panel.title), element);
  }

  function clearPlots(root_) {
    for (const element of all(".plot", root_)) {
      waiting.delete(element);
      seen.unobserve(element);
      const view = views.get(element);
      if (view) view.finalize();
      views.delete(element);
    }
    root_.replaceChildren();
  }

  function fillLegend(legend, series) {
    legend.replaceChildren(...series.map((name, number) => {
      const swatch = make("i", { class: `swatch c${number % PALETTE} d${Math.floor(number / PALETTE) % DASHES.length}` });
      const key = make("button", { type: "button", class: "key", "aria-pressed": "true" }, swatch, name);
      key.dataset.series = name;
      return key;
    }));
  }

  function showLearning() {
    const [legend, box] = [byId("learning-legend"), byId("learning-sections")];
    const trainings = trainingsOf(byId("learning-grid").value);
    const series = [...new Set(trainings.map((each) => each.name))];
    clearPlots(box);
    fillLegend(legend, series);
    for (const section of payload.dashboard) {
      const panels = section.panels.map((panel) => panelOf(panel, trainings, series, legend, byId("learning-axis").value)).filter(Boolean);
      if (!panels.length) continue;
      const plots = make("div", { class: "plots" }, ...panels);
      if (!section.folded) box.append(make("h3", { class: "section-title" }, section.title), plots);
      else box.append(make("details", {}, make("summary", {}, section.title), plots));
    }
    if (!box.childElementCount) box.append(make("p", {}, "No training of this grid left a log in this store."));
  }

  if (byId("learning-grid")) {
    const grids = [...new Set(payload.runs.filter((run) => Object.values(run.roles).some((s) => payload.learning[s])).map((run) => run.grid))];
    byId("learning-grid").append(...grids.map((grid) => make("option", { value: grid }, grid)));
    byId("learning-grid").addEventListener("change", showLearning);
    byId("learning-axis").addEventListener("change", showLearning);
    wireLegend(byId("learning-legend"), () => all(".plot", byId("learning-sections")));
    showLearning();
  }

  // ---- codebooks: one at a time

  if (byId("codebook")) {
    const show = () => all(".codebook").forEach((each) => each.classList.toggle("shown", each.dataset.codebook === byId("codebook").value));
    byId("codebook").addEventListener("change", show);
    show();
  }

  // ---- where we are, in the table of contents

  const links = new Map(all(".toc a").map((link) => [link.getAttribute("href").slice(1), link]));
  const inView = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting)) {
      for (const [id, link] of links) {
        if (id === entry.target.id) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  all("main > section").forEach((section) => inView.observe(section));
})();
