"use strict";
// Tables sort and filter; figures say what lies below the pointer, and their legends switch series on and off.
(() => {
  const make = (tag, values) => Object.assign(document.createElement(tag), values);
  const pressed = (element, act) => {
    element.addEventListener("click", act);
    element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); }
    });
  };

  const value = (cell) => {
    const number = parseFloat(cell.textContent.replace(/^[<>\[]/, ""));
    return Number.isNaN(number) ? cell.textContent.trim().toLowerCase() : number;
  };
  const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.tabIndex = 0;
      pressed(head, () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row) => [value(row.cells[column]), row]);
        const known = rows.filter(([key]) => key !== "");
        known.sort((a, b) => (down ? -1 : 1) * compare(a[0], b[0]));
        table.tBodies[0].append(...[...known, ...rows.filter(([key]) => key === "")].map(([, row]) => row));
      });
    });
  }

  function filterable(table) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 6) return;
    const field = make("input", { type: "search", placeholder: "filter rows" });
    field.setAttribute("aria-label", `filter rows of: ${table.caption.textContent}`);
    const count = make("span", { className: "soft" });
    const line = make("div", { className: "filter" });
    line.append(field, count);
    table.parentElement.before(line);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const row of rows) {
        const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        left += !row.hidden;
      }
      count.textContent = words.length ? ` ${left} of ${rows.length}` : "";
    });
  }

  const off = new Set(); // names of series, the same in every figure
  const charts = [];
  const tip = make("div", { className: "tip", hidden: true });
  tip.setAttribute("role", "status");

  function switchable(chart) {
    const parts = (element, key) => element.dataset[key].split(",").map((at) => chart.names[at]);
    const update = () => {
      for (const series of chart.svg.querySelectorAll("[data-series]"))
        series.style.display = parts(series, "series").some((name) => off.has(name)) ? "none" : "";
      for (const entry of chart.svg.querySelectorAll("[data-legend]")) {
        const out = off.has(parts(entry, "legend")[0]);
        entry.style.opacity = out ? 0.35 : "";
        entry.setAttribute("aria-pressed", String(!out));
      }
    };
    for (const entry of chart.svg.querySelectorAll("[data-legend]")) {
      const [name] = parts(entry, "legend");
      entry.setAttribute("role", "button");
      if (entry.querySelector("text")) entry.setAttribute("tabindex", "0");
      pressed(entry, () => {
        if (!off.delete(name)) off.add(name);
        charts.forEach((each) => each.update());
      });
    }
    return update;
  }

  const scaled = (kind, number) => kind === "log" ? Math.log(number) : number;
  const along = ([kind, low, high], from, to, number) =>
    from + (to - from) * (scaled(kind, number) - scaled(kind, low)) / (scaled(kind, high) - scaled(kind, low));
  const short = (number) => number === null ? "unknown" : String(Number(number.toPrecision(4)));

  // The nearest point that is shown, or the cell of an image.
  function under(chart, x, y) {
    let best = null, least = 400;
    const inside = ({ box }) => x > box[0] - 8 && x < box[2] + 8 && y > box[1] - 8 && y < box[3] + 8;
    for (const [at, cells] of chart.cells.map((each) => [each[0], each])) {
      const { box } = chart.axes[at], [, marks, rows] = cells;
      const row = Math.floor((y - box[1]) / (box[3] - box[1]) * rows.length);
      const column = Math.floor((x - box[0]) / (box[2] - box[0]) * rows[0].length);
      if (row in rows && column in rows[row] && rows[row][column] !== null)
        return { x, y, text: `${marks[row]}\nlayer ${column}: ${short(rows[row][column])}` };
    }
    for (const [at, series, xs, ys, bands] of chart.lines) {
      const axes = chart.axes[at], names = series.map((each) => chart.names[each]);
      if (!inside(axes) || names.some((name) => off.has(name))) continue;
      xs.forEach((value, i) => {
        if (value === null || ys[i] === null) return;
        const px = along(axes.x, axes.box[0], axes.box[2], value);
        const py = along(axes.y, axes.box[3], axes.box[1], ys[i]);
        const distance = (px - x) ** 2 + (py - y) ** 2;
        if (!(distance < least)) return;
        const band = Array.isArray(bands) && bands[i] ? ` (${short(bands[i][0])} to ${short(bands[i][1])})` : "";
        const place = bands === "points" ? "" : `\n${axes.xlabel} ${short(value)}: ${short(ys[i])}${band}`;
        [best, least] = [{ x: px, y: py, text: names.join(", ") + place }, distance];
      });
    }
    return best;
  }

  function hovering(chart) {
    const spot = document.createElementNS(chart.svg.namespaceURI, "circle");
    spot.setAttribute("class", "spot");
    spot.setAttribute("r", "6");
    const hide = () => { tip.hidden = true; spot.remove(); };
    const show = (event) => {
      const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.svg.getScreenCTM().inverse());
      const found = under(chart, place.x, place.y);
      if (!found) return hide();
      spot.setAttribute("cx", found.x);
      spot.setAttribute("cy", found.y);
      chart.svg.append(spot);
      tip.textContent = found.text;
      tip.hidden = false;
      const right = Math.min(event.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
      tip.style.left = `${Math.max(8, right)}px`;
      tip.style.top = `${event.clientY + 16}px`;
    };
    for (const name of ["pointermove", "pointerdown"]) chart.svg.addEventListener(name, show);
    chart.svg.addEventListener("pointerleave", hide);
  }

  document.querySelectorAll(".script").forEach((line) => { line.hidden = false; });
  document.body.append(tip);
  for (const table of document.querySelectorAll("table")) { sortable(table); filterable(table); }
  for (const place of document.querySelectorAll(".chart")) {
    const chart = JSON.parse(place.querySelector("script").textContent);
    chart.svg = place.querySelector("svg");
    chart.update = switchable(chart);
    hovering(chart);
    charts.push(chart);
  }
})();
