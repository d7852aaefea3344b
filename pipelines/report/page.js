"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const filters = document.getElementById("filters");
  const frontOnly = document.getElementById("front-only");
  const boxes = [...document.querySelectorAll(".plot")];
  const tooltip = document.getElementById("tooltip");
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const choices = [...filters.querySelectorAll("details")];
  const scroll = document.getElementById("scroll");
  const heads = new Map([...table.tHead.rows[0].cells].map((head) => [head.dataset.key, head]));
  // An axis is at least so long: one test image, or the noise of one time, must not fill it.
  const MIN_POINTS = 0.02, MIN_FACTOR = 1.2;
  // The place of the vertical axis' title.
  const TITLE = [0, 0, 60, 16];
  const NEAR = 18, RIGHT = 12, TOP = 22, BOTTOM = 42;
  // Pixels that a power of ten needs for the ticks 1, 2 and 5; more need four times as many.
  const ROOM = 120;
  // Radii of points by number of cells; above MANY, only the front's cells are joined to their baselines.
  const MANY = 60, RADII = (count) => (count > MANY ? [3, 8] : [4.5, 12]);
  const TEXT = 12, MAX_NAME = 34, MAX_MODELS = 12, GREY = data.grey;

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
  const radiusOf = (cells) => {
    const sizes = cells.map((cell) => Math.log(cell.compressed_bytes || 1));
    const least = Math.min(...sizes), spread = Math.max(...sizes) - least, [small, large] = RADII(cells.length);
    const share = (bytes) => (spread ? (Math.log(bytes || 1) - least) / spread : 0.2);
    return (bytes) => Math.sqrt(small ** 2 + share(bytes) * (large ** 2 - small ** 2));
  };
  const marker = (cell, x, y, size, parent) => {
    const look = data.looks[cell.model] || { colour: "#000", shape: "o" };
    const colour = cell.feasible ? look.colour : GREY;
    return svg("path", {
      d: SHAPES[look.shape],
      transform: `translate(${x.toFixed(1)},${y.toFixed(1)}) scale(${size.toFixed(2)})${look.shape === "X" ? " rotate(45)" : ""}`,
      fill: cell.front ? colour : "#fff", "fill-opacity": cell.front ? 0.9 : 0.6, stroke: cell.front ? "#000" : colour,
      "stroke-width": 1.4, "vector-effect": "non-scaling-stroke",
    }, parent);
  };
  // A value as the table has it, without its small print.
  const read = (cell, key) => rows[data.cells.indexOf(cell)].cells[heads.get(key).cellIndex].firstChild.textContent;
  const named = (cells) => {
    const shown = cells.slice(0, 3).map((cell) => `${cell.name} (${read(cell, "accuracy")})`).join(", ");
    return cells.length > 3 ? `${shown} and ${cells.length - 3} more, which are in the table` : shown;
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
    const pad = log ? 0.06 * (scaled(high) - scaled(low)) : 0.06 * (high - low) || Math.abs(high) * 0.03 || 1;
    const first = scaled(low) - pad, last = scaled(high) + pad;
    const place = (value) => from + ((scaled(value) - first) / (last - first)) * (to - from);
    let ticks;
    if (log) {
      ticks = [];
      const decade = Math.abs(to - from) / (last - first);
      const factors = decade >= 4 * ROOM ? [1, 1.5, 2, 3, 5, 7] : decade >= ROOM ? [1, 2, 5] : [1];
      for (let power = Math.floor(first); power <= Math.ceil(last); power += 1)
        for (const factor of factors) ticks.push(Number((factor * 10 ** power).toPrecision(6)));
      ticks = ticks.filter((tick) => scaled(tick) >= first && scaled(tick) <= last);
    } else ticks = ticksBetween(first, last);
    return { place, ticks };
  };

  // With values added so that the axis is at least so long.
  const atLeastApart = (values, apart, most = Infinity) => {
    const low = Math.min(...values), high = Math.max(...values), room = (apart - (high - low)) / 2;
    return room > 0 ? [...values, Math.max(0, low - room), Math.min(most, high + room)] : values;
  };

  // The least accuracy on the axis: cells below a gap of more than half of it, few and none of the front, are left out.
  const lowest = (cells) => {
    const sorted = [...cells].sort((a, b) => a.accuracy - b.accuracy), values = sorted.map((cell) => cell.accuracy);
    const span = values[values.length - 1] - values[0];
    const at = values.findIndex((one, below) => below && one - values[below - 1] > span / 2);
    const few = at * 3 <= values.length && !sorted.slice(0, at).some((cell) => cell.front && cell.learnt);
    return at > 0 && span > 0.2 && few ? values[at] : values[0];
  };

  // Names next to points: the first words of each that fit, where they cover the fewest other points.
  const pen = document.createElement("canvas").getContext("2d");
  const widthOf = (text) => {
    pen.font = `${TEXT}px ${getComputedStyle(document.body).fontFamily}`;
    return pen.measureText(text).width;
  };
  const putLabels = (plot, wanted, lines, points, edges) => {
    const boxOf = ({ x, y, room }) => [x - room, y - room, x + room, y + room];
    const meet = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
    // Points whose label may be left out do not keep the others' away.
    const taken = [TITLE, ...wanted.filter(({ most }) => most === undefined).map(({ point }) => boxOf(point))];
    const around = [...points.map(boxOf), ...lines];
    for (const { point, words, most = Infinity } of wanted) {
      const found = words.flatMap((text, at) => {
        const width = widthOf(text) + 2, { x, y } = point, far = point.room + 3, diagonal = 0.7 * point.room + 3;
        return [[x + far, y], [x - far - width, y], [x - width / 2, y - far - 7], [x - width / 2, y + far + 7],
          [x + diagonal, y - diagonal - 5], [x + diagonal, y + diagonal + 5],
          [x - diagonal - width, y - diagonal - 5], [x - diagonal - width, y + diagonal + 5]]
          .map(([left, middle]) => ({ text, left, middle, box: [left, middle - 7, left + width, middle + 7] }))
          .filter(({ box }) => box[0] >= edges[0] && box[1] >= edges[1] && box[2] <= edges[2] && box[3] <= edges[3]
            && !taken.some((other) => meet(box, other)))
          .map((one) => ({ ...one, cost: around.filter((other) => meet(one.box, other)).length + (most ? 5 * at : 0) }));
      }).sort((a, b) => a.cost - b.cost);
      if (!found.length || found[0].cost > most) continue;
      const [{ text, left, middle, box }] = found;
      taken.push(box);
      svg("text", { x: left + 1, y: middle + 4, class: "label" }, plot, text);
    }
  };

  const percent = (tick) => `${Number((tick * 100).toPrecision(6))}%`;
  const drawAxes = (plot, x, y, chosen, [left, right, bottom]) => {
    let end = 0;
    for (const tick of x.ticks) {
      const words = tick.toLocaleString("en-US", { maximumSignificantDigits: 6 }), wide = widthOf(words) + 2;
      svg("line", { x1: x.place(tick), x2: x.place(tick), y1: TOP, y2: bottom, stroke: "#e6e6e6" }, plot);
      const start = Math.min(x.place(tick) - wide / 2, right + RIGHT - wide);
      if (start < end) continue;
      end = start + wide + 4;
      svg("text", { x: start + wide / 2, y: bottom + 16, "text-anchor": "middle" }, plot, words);
    }
    for (const tick of y.ticks) {
      svg("line", { x1: left, x2: right, y1: y.place(tick), y2: y.place(tick), stroke: "#e6e6e6" }, plot);
      svg("text", { x: left - 6, y: y.place(tick) + 4, "text-anchor": "end" }, plot, percent(tick));
    }
    svg("text", { x: 0, y: 12 }, plot, "accuracy");
    svg("path", { d: `M${left},${TOP}V${bottom}H${right}`, fill: "none", stroke: "#000" }, plot);
    svg("text", { x: (left + right) / 2, y: bottom + BOTTOM - 6, "text-anchor": "middle" }, plot, chosen.label);
  };

  // The line along the cells that no other beats in the two quantities of the axes.
  const drawFront = (plot, points) => {
    let path = "", last = null;
    const lines = [];
    for (const point of [...points].sort((a, b) => a.x - b.x || a.y - b.y)) {
      const { x, y } = point;
      if (last && y >= last.y) continue;
      path += last ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)},${y.toFixed(1)}`;
      if (last) lines.push([last.x, last.y - 1, x, last.y + 1], [x - 1, y, x + 1, last.y]);
      last = point;
    }
    svg("path", { d: path, class: "front" }, plot);
    return lines;
  };

  const drawPlot = (box, cells) => {
    const { dataset } = box.dataset;
    const chosen = data.across[box.querySelector(".across").selectedIndex];
    const area = box.querySelector(".area");
    area.replaceChildren();
    const known = cells.filter((cell) => cell[chosen.key] !== null && cell.accuracy !== null);
    if (!known.length) { html("p", cells.length ? "No cell has both values." : "No cell is chosen.", area); return; }
    const width = Math.max(260, area.clientWidth), height = width < 500 ? 380 : 460;
    const plot = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "application", tabindex: 0 }, area);
    svg("title", {}, plot, `${dataset}: accuracy over ${chosen.label}, ${known.length} cells. Arrow keys walk through them.`);
    const right = width - RIGHT, bottom = height - BOTTOM;
    const least = lowest(known), low = known.filter((cell) => cell.accuracy < least);
    const accuracies = known.map((cell) => cell.accuracy).filter((one) => one >= least);
    const y = axis(atLeastApart(accuracies, MIN_POINTS, 1), bottom, TOP, false);
    y.ticks = y.ticks.filter((tick) => tick >= 0 && tick <= 1);
    const left = 8 + Math.max(...y.ticks.map((tick) => widthOf(percent(tick))));
    const values = known.map((cell) => cell[chosen.key] * chosen.factor);
    const x = axis(atLeastApart(values, (MIN_FACTOR - 1) * Math.min(...values)), left, right, true);
    drawAxes(plot, x, y, chosen, [left, right, bottom]);
    const radius = radiusOf(known);
    const place = (cell) => {
      const r = radius(cell.compressed_bytes), room = listed.has(cell) ? 1.2 * r + 3 : r;
      return { cell, r, room, x: x.place(cell[chosen.key] * chosen.factor), y: cell.accuracy < least ? bottom : y.place(cell.accuracy) };
    };
    const points = known.map(place).sort((a, b) => a.cell.front - b.cell.front || b.r - a.r);
    const of = new Map(points.map((point) => [point.cell, point]));
    const few = points.length <= MANY, bases = new Set();
    for (const point of points) {
      const base = of.get(data.cells[point.cell.base]);
      if (!base || !(few || point.cell.front)) continue;
      bases.add(base);
      svg("line", {
        x1: base.x.toFixed(1), y1: base.y.toFixed(1), x2: point.x.toFixed(1), y2: point.y.toFixed(1),
        stroke: data.looks[point.cell.model].colour, class: "link",
      }, plot);
    }
    const lines = drawFront(plot, points);
    for (const point of points) {
      point.path = marker(point.cell, point.x, point.y, point.r, plot);
      point.path.setAttribute("class", "point");
      if (listed.has(point.cell)) svg("circle", { cx: point.x, cy: point.y, r: point.room - 0.5, class: "ring" }, plot);
    }
    const order = (a, b) => listed.has(b.cell) - listed.has(a.cell) || a.cell.rank - b.cell.rank;
    const front = points.filter(({ cell }) => cell.front || listed.has(cell)).sort(order);
    const others = few ? points.filter((point) => !front.includes(point)).sort((a, b) => bases.has(b) - bases.has(a) || order(a, b)) : [];
    const words = ({ cell }) => [cell.name, cell.technique].filter((text) => text.length <= MAX_NAME);
    putLabels(plot, [
      ...front.map((point) => ({ point, words: [...words(point), `#${point.cell.rank}`] })),
      ...others.map((point) => ({ point, words: bases.has(point) ? words(point) : words(point).slice(-1), most: 0 })),
    ], lines, points, [left, 0, width, bottom]);
    drawLegend(area, known, radius, few);
    const missing = cells.filter((cell) => !of.has(cell)), limit = known.find((cell) => cell.accuracy === least);
    const count = (of) => `${of.length} cell${of.length === 1 ? "" : "s"}`, are = (of) => (of.length === 1 ? "is" : "are");
    if (low.length) html("p", `${count(low)} below ${read(limit, "accuracy")} ${are(low)} drawn on the lower edge: ${named(low)}.`, area);
    if (missing.length) {
      const why = chosen.key === "train_s" ? "of unknown training time" : "without both values";
      html("p", `${count(missing)} ${why} ${are(missing)} not drawn: ${named(missing)}.`, area);
    }
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
    html("b", read(cell, "rank"), tooltip);
    if (cell.variation) html("div", cell.variation, tooltip);
    for (const key of ["accuracy", "test_ms", "compressed_bytes", "train_s", "score", "gain"])
      if (cell[key] !== null || key === "train_s") html("div", `${heads.get(key).textContent.trim()} ${read(cell, key)}`, tooltip);
    if (!cell.feasible) html("div", `misses ${cell.missed || "a budget"}`, tooltip);
    if (!cell.learnt) html("div", "no better than a constant answer", tooltip);
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
      const first = step > 0 ? 0 : across.length - 1;
      showValues(plot, across[at < 0 ? first : (at + step + across.length) % across.length], width);
    });
  };

  const drawLegend = (parent, cells, radius, few) => {
    const legend = html("p", "", parent);
    legend.className = "legend";
    const add = (cell, words, size = 5.5) => {
      const item = html("span", "", legend), half = Math.max(7, size + 1);
      const icon = svg("svg", { viewBox: `${-half} ${-half} ${2 * half} ${2 * half}`, width: 2 * half, height: 2 * half, "aria-hidden": "true" }, item);
      if (cell) marker(cell, 0, 0, size, icon);
      else svg("circle", { r: size, class: "ring" }, icon);
      item.append(words);
    };
    const models = Object.keys(data.looks).filter((model) => cells.some((cell) => cell.model === model));
    for (const model of models.slice(0, MAX_MODELS)) add({ model, front: true, feasible: true }, model);
    if (models.length > MAX_MODELS) html("span", `and ${models.length - MAX_MODELS} more models`, legend);
    add({ model: "", front: true, feasible: true }, "filled: on the Pareto front");
    if (cells.some((cell) => !cell.front)) add({ model: "", front: false, feasible: true }, "hollow: beaten by another cell");
    if (cells.some((cell) => !cell.feasible)) add({ model: "", front: true, feasible: false }, "grey: over budget");
    if (cells.some((cell) => listed.has(cell))) add(null, "ringed: on the shortlist");
    const sized = cells.filter((cell) => cell.compressed_bytes).sort((a, b) => a.compressed_bytes - b.compressed_bytes);
    const ends = sized.filter((cell, at) => !at || (at === sized.length - 1 && cell.compressed_bytes > sized[0].compressed_bytes));
    for (const cell of ends) add({ model: "", front: false, feasible: true }, read(cell, "compressed_bytes"), radius(cell.compressed_bytes));
    html("p", `The area of a point grows with the compressed size. Thin lines join a baseline to its optimized cells${few ? "" : " on the front"}. `
      + "The stepped line runs along the best cells in the two quantities drawn. A number after # is the rank by score. "
      + "Point at a cell, tap it, or press the arrow keys, to read its values.", parent);
  };

  const draw = () => {
    leave();
    const visible = shown();
    rows.forEach((row) => { if (row.hidden === visible[row.dataset.at]) row.hidden = !visible[row.dataset.at]; });
    const cells = data.cells.filter((_, at) => visible[at]);
    document.getElementById("count").textContent = `${cells.length} of ${data.cells.length} cells`;
    for (const choice of choices) choice.querySelector("b").textContent = ticked(choice).join(", ") || "all";
    for (const box of boxes) drawPlot(box, cells.filter((cell) => cell.dataset === box.dataset.dataset));
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

  // The shortlist's cells have the same mark as in the plot.
  const listed = new Set();
  for (const icon of document.querySelectorAll(".icon")) {
    const cell = data.cells.find((one) => one.dataset === icon.dataset.dataset && one.rank === Number(icon.dataset.at) + 1);
    listed.add(cell);
    icon.setAttribute("viewBox", "-7 -7 14 14");
    marker(cell, 0, 0, 5.5, icon);
  }
  for (const box of boxes) {
    const label = html("label", "accuracy over ", box), select = html("select", "", label);
    select.className = "across";
    for (const { label: words } of data.across) html("option", words, select);
    select.addEventListener("change", draw);
    html("div", "", box).className = "area";
  }
  const choose = document.getElementById("choose");
  filters.addEventListener("change", draw);
  filters.addEventListener("submit", (event) => event.preventDefault());
  // The form's fields are reset only after the event.
  filters.addEventListener("reset", () => setTimeout(draw));
  for (const choice of choices) {
    choice.addEventListener("focusout", (event) => {
      // Nothing gets the focus upon a click on plain text in the list.
      if (event.relatedTarget && !choice.contains(event.relatedTarget)) choice.open = false;
    });
    choice.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !choice.open) return;
      choice.open = false;
      choice.querySelector("summary").focus();
    });
  }
  document.addEventListener("click", (event) => {
    for (const choice of choices) if (!choice.contains(event.target)) choice.open = false;
  });
  // MLflow shows the page in a sandboxed frame, where links within a page lead nowhere.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link) document.querySelector(link.hash).scrollIntoView();
  });
  let width = 0;
  const fit = () => {
    // A frame may have no width at first.
    choose.open = choose.open || document.documentElement.clientWidth > 600;
    if (boxes[0].clientWidth !== width) { width = boxes[0].clientWidth; draw(); }
  };
  fit();
  // In the next frame: changing the observed box during the notification is an error.
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(boxes[0]);
})();
