"use strict";
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const CLOCKS = { epochs: "epoch", steps: "step", seconds: "seconds" };
  const PALE = 0.35; // of a mean in which not all seeds are
  const DECADES = 100; // a curve over more than these is flat on a linear axis
  const plots = [];

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    made.append(...children);
    return made;
  }

  // ------------------------------------------------------------------ theme

  const button = document.getElementById("theme");
  function setTheme(theme) {
    root.dataset.theme = theme;
    button.setAttribute("aria-pressed", String(theme === "dark"));
    plots.forEach((plot) => plot.refresh());
  }
  button.addEventListener("click", () => setTheme(root.dataset.theme === "dark" ? "light" : "dark"));

  function colour(name) {
    return getComputedStyle(root).getPropertyValue(name).trim();
  }

  // ----------------------------------------------------------------- tables

  function key(cell) { // of a cell the number it begins with; a name may begin with one by chance
    const text = cell.textContent.trim().replace("∞", "Infinity");
    const number = cell.tagName === "TH" ? Number(text || NaN) : parseFloat(text);
    return Number.isNaN(number) ? null : number;
  }

  function compare(one, other, direction) {
    const [a, b] = [key(one), key(other)];
    if (a !== null && b !== null && a !== b) return direction * (a - b);
    if ((a === null) !== (b === null)) return a === null ? 1 : -1; // nothing comes last
    return direction * one.textContent.trim().localeCompare(other.textContent.trim());
  }

  function sortable(figure) {
    const headers = [...figure.querySelectorAll("thead th")];
    const body = figure.querySelector("tbody");
    headers.forEach((header, column) => {
      header.querySelector(".sort").addEventListener("click", () => {
        const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        headers.forEach((each) => each.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
        const rows = [...body.rows];
        rows.sort((a, b) => compare(a.cells[column], b.cells[column], direction));
        body.append(...rows);
      });
    });
  }

  function filterable(figure) {
    const input = figure.querySelector(".filter");
    if (input === null) return;
    const told = figure.querySelector("output");
    input.addEventListener("input", () => {
      const word = input.value.trim().toLowerCase();
      const rows = [...figure.querySelectorAll("tbody tr")];
      rows.forEach((row) => {
        row.hidden = !row.textContent.toLowerCase().includes(word);
      });
      const shown = rows.filter((row) => !row.hidden).length;
      told.textContent = word ? `${shown} of ${rows.length} rows` : "";
    });
  }

  async function copy(text) { // whether that was possible
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch { // some browsers keep the clipboard from pages in files, but not from who selects text
      const [area, focused] = [element("textarea"), document.activeElement];
      area.value = text;
      document.body.append(area);
      area.select();
      const isCopied = document.execCommand("copy");
      area.remove();
      focused?.focus();
      return isCopied;
    }
  }

  function copyable(figure) {
    figure.querySelectorAll("[data-copy]").forEach((button) => {
      button.addEventListener("click", async () => {
        const text = figure.querySelector(`template.${button.dataset.copy}`).content.textContent;
        const format = button.textContent.slice("Copy ".length);
        figure.querySelector("output").textContent =
          (await copy(text)) ? `Copied as ${format}` : "This browser lets no page copy anything";
      });
    });
  }

  document.querySelectorAll("figure.sheet").forEach((figure) => {
    sortable(figure);
    filterable(figure);
    copyable(figure);
  });

  document.querySelectorAll("[data-download]").forEach((button) => {
    button.addEventListener("click", () => {
      const text = button.parentElement.querySelector("pre").textContent;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "text/yaml" }));
      link.download = button.dataset.download;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  });

  // ----------------------------------------------------------------- charts

  function translucent(hex, alpha) {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgba(${r}, ${g}, ${b}, ${alpha})`;
  }

  // Draws nothing until its place comes near the screen, for some pages have hundreds.
  const watcher = new IntersectionObserver((entries) => {
    entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => target.plot.show());
  }, { rootMargin: "800px" });

  // Paper is light and as wide as it is, whatever the screen was.
  function setPrinting(isPrinting) {
    root.classList.toggle("printing", isPrinting);
    plots.forEach((plot) => plot.show());
    plots.forEach((plot) => plot.refresh());
  }
  addEventListener("beforeprint", () => setPrinting(true));
  addEventListener("afterprint", () => setPrinting(false));

  class Plot {
    // isGone tells whether all that it shows is switched off.
    constructor(title, traces, layout, told = "", isGone = () => false) {
      Object.assign(this, { title, traces, layout, isGone, isShown: false });
      this.place = element("div", { role: "img", "aria-label": `Chart: ${title}${told}` });
      this.place.plot = this;
      plots.push(this);
      watcher.observe(this.place);
    }

    get figure() {
      return element("figure", { class: "chart", "data-title": this.title }, this.place);
    }

    show() {
      watcher.unobserve(this.place);
      if (!this.isShown) this.draw();
    }

    refresh() {
      if (this.isShown) this.draw();
    }

    draw() {
      this.isShown = true;
      this.place.parentElement.hidden = this.isGone();
      const { xaxis, yaxis, ...others } = this.layout();
      const ink = colour("--ink");
      const { clientWidth: width, clientHeight: height } = this.place;
      const axis = { color: ink, gridcolor: colour("--line"), zeroline: false, automargin: true, exponentformat: "power" };
      Plotly.react(this.place, this.traces(), {
        title: { text: shown(this.title), font: { size: 15 }, x: 0, xanchor: "left" },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: ink, family: "system-ui, sans-serif", size: 12 },
        margin: { l: 10, r: 10, t: 36, b: 10 },
        showlegend: false, legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0 },
        hoverlabel: { bgcolor: colour("--panel"), font: { color: ink }, namelength: -1 },
        ...(root.classList.contains("printing") ? { width, height } : { autosize: true }),
        ...others,
        xaxis: { ...axis, ...xaxis },
        yaxis: { ...axis, ...yaxis },
      }, { responsive: true, displaylogo: false, displayModeBar: false });
    }
  }

  function shown(name) { // plotly takes some tags for its own
    return name.replaceAll("<", "&lt;");
  }

  function swatch({ colour: hue, dash }) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const dashes = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3" }[dash];
    const set = (node, attributes) => Object.entries(attributes).forEach((each) => node.setAttribute(...each));
    set(svg, { width: 28, height: 10, "aria-hidden": "true" });
    set(stroke, { x1: 0, x2: 28, y1: 5, y2: 5, stroke: hue, "stroke-width": 3, "stroke-dasharray": dashes });
    svg.append(stroke);
    return svg;
  }

  function spansDecades(lines) {
    const means = lines.flatMap(({ pieces }) => pieces.flatMap(({ mean }) => mean.filter((value) => value !== null)));
    const [low, high] = means.reduce(([least, most], each) => [Math.min(least, each), Math.max(most, each)], [Infinity, -Infinity]);
    return low > 0 && high > DECADES * low;
  }

  class View {
    constructor(box) {
      Object.assign(this, data.sections[box.dataset.charts]);
      this.off = new Set([...this.lines.keys()].filter((row) => row >= this.shown));
      this.scale = "automatic";
      this.plots = [];
      if (!this.groups.length) return;
      box.append(this.controls(), this.legend());
      this.groups.forEach(({ heading, charts }) => {
        const made = charts.map((chart) => this.plot(chart));
        this.plots.push(...made);
        box.append(element("h3", {}, heading), element("div", { class: "grid" }, ...made.map((plot) => plot.figure)));
      });
    }

    refresh() {
      this.plots.forEach((plot) => plot.refresh());
    }

    // -------------------------------------------------------------- controls

    controls() {
      const clocks = Object.keys(CLOCKS).filter((clock) => this.epochs || clock !== "epochs");
      return element("div", { class: "controls" },
        this.choice("clock", "Against", clocks),
        this.check("logX", "logarithmic"),
        this.choice("scale", "Losses and norms", ["automatic", "linear", "logarithmic"]),
        ...(this.hasSeeds() ? [this.check("seeds", "Each seed")] : []));
    }

    hasSeeds() {
      return this.groups.some(({ charts }) => charts.some(({ lines = [] }) => lines.some(({ pieces }) => pieces.some(({ seeds }) => seeds.length))));
    }

    choice(name, title, words) {
      const select = element("select", { class: name }, ...words.map((word) => element("option", {}, word)));
      select.value = this[name];
      select.addEventListener("change", () => { this[name] = select.value; this.refresh(); });
      return element("label", {}, title, select);
    }

    check(name, title) {
      const input = element("input", { type: "checkbox", class: name });
      input.addEventListener("change", () => { this[name] = input.checked; this.refresh(); });
      return element("label", {}, input, title);
    }

    legend() {
      const list = element("ul", { class: "legend", "aria-label": "Lines" });
      const inputs = this.lines.map((line, row) => {
        const input = element("input", { type: "checkbox" });
        input.checked = !this.off.has(row);
        input.addEventListener("change", () => {
          this.off[input.checked ? "delete" : "add"](row);
          this.refresh();
        });
        list.append(element("li", {}, element("label", {}, input, swatch(line), line.name)));
        return input;
      });
      if (inputs.length <= 2) return list;
      const everything = (title, isOn) => {
        const button = element("button", { type: "button" }, title);
        button.addEventListener("click", () => {
          inputs.forEach((input, row) => {
            input.checked = isOn(row);
            this.off[input.checked ? "delete" : "add"](row);
          });
          this.refresh();
        });
        list.append(element("li", {}, button));
      };
      everything("All", () => true);
      if (inputs.length > this.shown) everything(`Best ${this.shown}`, (row) => row < this.shown);
      everything("None", () => false);
      return list;
    }

    // ---------------------------------------------------------------- charts

    x({ axis }) {
      return data.axes[axis][this.clock];
    }

    // Lines are drawn in the look of their rows; traces are plotly's own.
    plot({ title, told, lines = [], traces = [], layout = {}, mayBeLog }) {
      const needsLog = spansDecades(lines);
      const isLog = () => mayBeLog && (this.scale === "automatic" ? needsLog : this.scale === "logarithmic");
      const isOn = ({ row }) => !this.off.has(row);
      const isGone = () => !lines.length && traces.length > 0 && !traces.some(isOn);
      const isOverTime = lines.length || traces.some(({ axis }) => axis !== undefined);
      const clock = () => (isOverTime ? { title: { text: CLOCKS[this.clock] }, type: this.logX ? "log" : "linear" } : {});
      return new Plot(title, () => [
        ...lines.filter(isOn).flatMap((line) => line.pieces.flatMap((piece) => this.piece(line, piece, isLog()))),
        ...traces.filter(isOn).map((trace) => (trace.axis === undefined ? trace : { ...trace, x: this.x(trace) })),
      ], () => ({
        hovermode: this.lines.length - this.off.size > 8 ? "closest" : "x unified",
        ...layout,
        xaxis: { ...clock(), ...layout.xaxis },
        yaxis: { type: isLog() ? "log" : "linear", ...layout.yaxis },
      }), told, isGone);
    }

    piece({ row, name, dash }, piece, isLog) {
      const { colour: own } = this.lines[row];
      const hue = piece.isWhole ? own : translucent(own, PALE);
      const [x, last] = [this.x(piece), piece.mean.length - 1];
      const error = (at) => (piece.error?.[at] == null ? "" : ` ± ${piece.error[at].toPrecision(2)}`);
      const drawn = [...this.band(own, x, piece, isLog), ...this.each(name, own, x, piece), {
        x, y: piece.mean, name: shown(name), mode: last ? "lines" : "markers",
        line: { color: hue, dash, width: 2 }, marker: { color: hue },
        customdata: piece.mean.map((_, at) => [piece.n, error(at)]),
        hovertemplate: "%{y:.5~g}%{customdata[1]} (n = %{customdata[0]})<extra>%{fullData.name}</extra>",
      }];
      if (piece.isBroken) {
        drawn.push({
          x: x.slice(-1), y: piece.mean.slice(-1), mode: "markers", marker: { symbol: "x-thin-open", size: 9, color: own, line: { width: 2 } },
          hovertemplate: `${shown(name)}: a seed ends<extra></extra>`,
        });
      }
      return drawn;
    }

    band(hue, x, { mean, error, isWhole }, isLog) {
      const at = error === null ? [] : mean.map((_, i) => i).filter((i) => mean[i] !== null && error[i] !== null);
      if (!at.length) return [];
      const high = at.map((i) => mean[i] + error[i]);
      // On a logarithmic axis a band that goes below zero ends a decade under the mean.
      const low = at.map((i) => (isLog && mean[i] <= error[i] ? mean[i] / 10 : mean[i] - error[i]));
      const edge = { x: at.map((i) => x[i]), mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
      return [
        { ...edge, y: low },
        { ...edge, y: high, fill: "tonexty", fillcolor: translucent(hue, isWhole ? 0.2 : 0.2 * PALE) },
      ];
    }

    each(name, hue, x, { seeds }) {
      if (!this.seeds) return [];
      return seeds.map((y) => ({
        x, y, name: `${shown(name)}, one seed`, mode: "lines",
        line: { color: translucent(hue, 0.45), width: 1 }, hoverinfo: "skip",
      }));
    }
  }

  document.querySelectorAll("[data-charts]").forEach((box) => new View(box));

  function fill(grid, charts) {
    grid.classList.add("grid");
    charts.forEach(({ title, traces, layout }) => grid.append(new Plot(title, () => traces, () => layout).figure));
  }

  if (data.across?.length) fill(document.getElementById("profiles"), data.across);
  document.querySelectorAll("[data-methods]").forEach((box) => fill(box, data.methods[box.dataset.methods] ?? []));

  setTheme(root.dataset.theme);
})();
