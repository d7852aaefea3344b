"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const filters = document.getElementById("filters");
  const across = document.getElementById("across");
  const frontOnly = document.getElementById("front-only");
  const plots = document.getElementById("plots");
  const tooltip = document.getElementById("tooltip");
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const choices = [...filters.querySelectorAll("details")];
  const scroll = document.getElementById("scroll");
  const NEAR = 16, HEIGHT = 350, MARGIN = { left: 52, right: 14, top: 24, bottom: 44 };
  // Pixels that a power of ten needs for the ticks 1, 2 and 5.
  const ROOM = 120;
  const GREY = data.grey;

  // Shapes of size 1 around 0, by matplotlib's names.
  const polygon = (n, inner, turn = 0) => {
    const points = [];
    const count = inner ? 2 * n : n;
    for (let i = 0; i < count; i += 1) {
      const radius = inner && i % 2 ? inner : 1.15;
      const angle = turn - Math.PI / 2 + (2 * Math.PI * i) / count;
      points.push(`${(radius * Math.cos(angle)).toFixed(3)},${(radius * Math.sin(angle)).toFixed(3)}`);
    }
    return `M${points.join("L")}Z`;
  };
  const CROSS = "M-.35,-1.1H.35V-.35H1.1V.35H.35V1.1H-.35V.35H-1.1V-.35H-.35Z";
  const SHAPES = {
    "o": "M1,0A1,1 0 1 1 -1,0A1,1 0 1 1 1,0Z",
    "s": "M-.9,-.9H.9V.9H-.9Z",
    "^": polygon(3, 0), "v": polygon(3, 0, Math.PI), "<": polygon(3, 0, -Math.PI / 2), ">": polygon(3, 0, Math.PI / 2),
    "D": "M0,-1.2L1.2,0L0,1.2L-1.2,0Z", "P": CROSS, "X": CROSS, "p": polygon(5, 0), "*": polygon(5, 0.5),
  };

  const svg = (name, attributes, parent, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  };
  const html = (name, text, parent) => {
    const made = document.createElement(name);
    made.textContent = text;
    parent.append(made);
    return made;
  };
  const marker = (cell, x, y, size, parent) => {
    const look = data.looks[cell.model];
    const colour = cell.feasible ? look.colour : GREY;
    return svg("path", {
      d: SHAPES[look.shape],
      transform: `translate(${x.toFixed(1)},${y.toFixed(1)}) scale(${size})${look.shape === "X" ? " rotate(45)" : ""}`,
      fill: cell.front ? colour : "#fff", stroke: cell.front ? "#000" : colour,
      "stroke-width": 1.4, "vector-effect": "non-scaling-stroke",
    }, parent);
  };

  // The chosen cells.
  const ticked = (choice) => [...choice.querySelectorAll("input:checked")].map((input) => input.value);
  const shown = () => {
    const wanted = choices.map((choice) => [choice.dataset.key, ticked(choice)]).filter(([, values]) => values.length);
    return data.cells.map((cell) =>
      wanted.every(([key, values]) => values.includes(cell[key])) && (!frontOnly.checked || cell.front));
  };

  // Axes: positions and ticks.
  const ticksBetween = (low, high) => {
    const rough = (high - low) / 5;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => power * factor >= rough);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) ticks.push(Number((i * step).toPrecision(10)));
    return ticks;
  };
  const axis = (values, from, to, mayBeLog) => {
    let low = Math.min(...values), high = Math.max(...values);
    const log = mayBeLog && low > 0 && high / low >= 3;
    const scaled = log ? Math.log10 : (value) => value;
    const pad = log ? 0.06 * (scaled(high) - scaled(low)) : 0.06 * (high - low) || Math.abs(high) * 0.1 || 1;
    const first = scaled(low) - pad, last = scaled(high) + pad;
    const place = (value) => from + ((scaled(value) - first) / (last - first)) * (to - from);
    let ticks;
    if (log) {
      ticks = [];
      const factors = Math.abs(to - from) / (last - first) >= ROOM ? [1, 2, 5] : [1];
      for (let power = Math.floor(first); power <= Math.ceil(last); power += 1)
        for (const factor of factors) ticks.push(Number((factor * 10 ** power).toPrecision(6)));
      ticks = ticks.filter((tick) => scaled(tick) >= first && scaled(tick) <= last);
    } else ticks = ticksBetween(first, last);
    return { place, ticks };
  };

  const drawPlot = (box, dataset, cells, chosen) => {
    html("h3", dataset, box);
    const known = cells.filter((cell) => cell[chosen.key] !== null && cell.accuracy !== null);
    if (!known.length) { html("p", "No cell has both values.", box); return; }
    const missing = cells.length - known.length;
    const width = Math.max(260, box.clientWidth);
    const plot = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", tabindex: 0 }, box);
    svg("title", {}, plot, `${dataset}: accuracy over ${chosen.label}, ${known.length} cells`);
    const right = width - MARGIN.right, bottom = HEIGHT - MARGIN.bottom;
    const x = axis(known.map((cell) => cell[chosen.key] * chosen.factor), MARGIN.left, right, true);
    const y = axis(known.map((cell) => cell.accuracy), bottom, MARGIN.top, false);
    for (const tick of x.ticks) {
      svg("line", { x1: x.place(tick), x2: x.place(tick), y1: MARGIN.top, y2: bottom, stroke: "#e2e2e2" }, plot);
      svg("text", { x: x.place(tick), y: bottom + 16, "text-anchor": "middle" }, plot, String(tick));
    }
    for (const tick of y.ticks) {
      svg("line", { x1: MARGIN.left, x2: right, y1: y.place(tick), y2: y.place(tick), stroke: "#e2e2e2" }, plot);
      const words = `${Number((tick * 100).toPrecision(6))}%`;
      svg("text", { x: MARGIN.left - 6, y: y.place(tick) + 4, "text-anchor": "end" }, plot, words);
    }
    svg("text", { x: 0, y: 13 }, plot, "accuracy");
    svg("path", { d: `M${MARGIN.left},${MARGIN.top}V${bottom}H${right}`, fill: "none", stroke: "#000" }, plot);
    svg("text", { x: (MARGIN.left + right) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, plot, chosen.label);
    const ordered = [...known].sort((a, b) => a.front - b.front || b.rank - a.rank);
    const points = ordered.map((cell) => {
      const point = { cell, x: x.place(cell[chosen.key] * chosen.factor), y: y.place(cell.accuracy) };
      point.path = marker(cell, point.x, point.y, 5.5, plot);
      point.path.setAttribute("class", "point");
      return point;
    });
    const subject = missing === 1 ? "1 cell without both values is" : `${missing} cells without both values are`;
    if (missing) html("p", `${subject} not drawn.`, box).className = "caption";
    interact(plot, points, width);
  };

  // Hover, tap and arrow keys show a cell's values.
  let hit = null;
  const leave = () => {
    tooltip.hidden = true;
    if (hit) { hit.path.setAttribute("stroke-width", 1.4); rows[hit.row].classList.remove("hit"); }
    hit = null;
  };
    const bringIntoTable = (row) => {
    const at = row.getBoundingClientRect(), within = scroll.getBoundingClientRect();
    const heading = table.tHead.offsetHeight;
    if (at.top >= within.top + heading && at.bottom <= within.bottom) return;
    scroll.scrollTop += at.top - within.top - Math.max(heading, (within.height - at.height) / 2);
  };
  const showValues = (plot, point, width) => {
    leave();
    const { cell } = point;
    hit = { path: point.path, row: data.cells.indexOf(cell) };
    point.path.setAttribute("stroke-width", 4);
    rows[hit.row].classList.add("hit");
    bringIntoTable(rows[hit.row]);
    tooltip.replaceChildren();
    html("b", `${cell.rank}. ${cell.model} ${cell.technique}`, tooltip);
    if (cell.variation) html("div", cell.variation, tooltip);
    const addLine = (name, value, digits, unit = "", factor = 1) => {
      if (value !== null) html("div", `${name} ${(value * factor).toFixed(digits)}${unit}`, tooltip);
    };
    addLine("accuracy", cell.accuracy, 2, "%", 100);
    addLine("test time", cell.test_ms, 3, " ms");
    addLine("compressed", cell.compressed_bytes, 1, " kB", 1e-3);
    addLine("training", cell.train_s, 1, " s");
    if (cell.train_unknown) html("div", "training unknown", tooltip);
    addLine("score", cell.score, 2, " dB");
    addLine("gain", cell.gain, 2, " dB");
    if (!cell.feasible) html("div", "over its budget", tooltip);
    tooltip.hidden = false;
    const at = plot.getBoundingClientRect(), scale = at.width / width;
    const left = at.left + point.x * scale + 14, top = at.top + point.y * scale;
    const room = document.documentElement.clientWidth - tooltip.offsetWidth - 4;
    const above = top + tooltip.offsetHeight + 16 > window.innerHeight;
    tooltip.style.left = `${Math.max(4, Math.min(left, room)) + window.scrollX}px`;
    tooltip.style.top = `${top + window.scrollY + (above ? -tooltip.offsetHeight - 14 : 14)}px`;
  };
  const interact = (plot, points, width) => {
    const nearest = (event) => {
      const at = plot.getBoundingClientRect(), scale = width / at.width;
      const px = (event.clientX - at.left) * scale, py = (event.clientY - at.top) * scale;
      let best = null, least = NEAR;
      for (const point of points) {
        const distance = Math.hypot(point.x - px, point.y - py);
        if (distance <= least) { least = distance; best = point; }
      }
      return best;
    };
    const look = (event) => {
      const point = nearest(event);
      if (!point) leave();
      else if (!hit || hit.path !== point.path) showValues(plot, point, width);
    };
    plot.addEventListener("pointermove", look);
    plot.addEventListener("pointerdown", look);
    plot.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") leave(); });
    plot.addEventListener("blur", leave);
    const across = [...points].sort((a, b) => a.x - b.x);
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") leave();
      if (!step) return;
      event.preventDefault();
      const at = hit ? across.findIndex((point) => point.path === hit.path) : -1;
      showValues(plot, across[(at + step + across.length) % across.length], width);
    });
  };

  const drawLegend = (cells) => {
    const legend = document.getElementById("legend");
    legend.replaceChildren();
    const add = (cell, words) => {
      const item = html("span", "", legend);
      const icon = svg("svg", { viewBox: "-7 -7 14 14", "aria-hidden": "true" }, item);
      marker(cell, 0, 0, 5.5, icon);
      item.append(words);
    };
    for (const model of Object.keys(data.looks))
      if (cells.some((cell) => cell.model === model)) add({ model, front: true, feasible: true }, model);
    const [model] = Object.keys(data.looks);
    add({ model, front: false, feasible: true }, "hollow: dominated");
    if (cells.some((cell) => !cell.feasible)) add({ model, front: true, feasible: false }, "grey: over budget");
  };

  const draw = () => {
    leave();
    const visible = shown();
    rows.forEach((row, at) => { row.hidden = !visible[at]; });
    const cells = data.cells.filter((_, at) => visible[at]);
    document.getElementById("count").textContent = `${cells.length} of ${data.cells.length} cells`;
    for (const choice of choices) choice.querySelector("b").textContent = ticked(choice).join(", ") || "all";
    const chosen = data.across[across.selectedIndex];
    plots.replaceChildren();
    // The width of a box depends on the number of boxes, so all are made first.
    const drawn = data.datasets.filter((dataset) => cells.some((cell) => cell.dataset === dataset));
    const boxes = drawn.map(() => html("section", "", plots));
    drawn.forEach((dataset, at) => {
      drawPlot(boxes[at], dataset, cells.filter((cell) => cell.dataset === dataset), chosen);
    });
    if (!cells.length) html("p", "No cell is left: choose less narrowly.", plots);
    drawLegend(cells);
  };

  // Sorting; unknown values go last.
  table.tHead.addEventListener("click", (event) => {
    const heading = event.target.closest("th");
    if (!heading) return;
    const { key } = heading.dataset;
    const numbers = data.cells.some((cell) => typeof cell[key] === "number" || typeof cell[key] === "boolean");
    const before = heading.getAttribute("aria-sort");
    const downward = before ? before === "ascending" : numbers && key !== "rank";
    for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", downward ? "descending" : "ascending");
    const value = (row) => data.cells[row.dataset.at][key];
    body.append(...[...rows].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === null || b === null) return (a === null) - (b === null);
      return (a < b ? -1 : a > b ? 1 : 0) * (downward ? -1 : 1);
    }));
  });

  for (const { label } of data.across) html("option", label, across);
  filters.addEventListener("change", draw);
  filters.addEventListener("submit", (event) => event.preventDefault());
  // The form's fields are reset only after the event.
  filters.addEventListener("reset", () => setTimeout(draw));
  document.addEventListener("click", (event) => {
    for (const choice of choices) if (!choice.contains(event.target)) choice.open = false;
  });
  // MLflow shows the page in a sandboxed frame, where links within a page lead nowhere.
  document.querySelector("nav").addEventListener("click", (event) => {
    if (event.target.hash) document.querySelector(event.target.hash).scrollIntoView();
  });
  // In the next frame: changing the observed box during the notification is an error.
  let width = 0;
  new ResizeObserver(() => requestAnimationFrame(() => {
    if (plots.clientWidth !== width) { width = plots.clientWidth; draw(); }
  })).observe(plots);
})();
