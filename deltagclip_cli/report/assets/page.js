"use strict";
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const CLOCKS = { epochs: "epoch", steps: "step", seconds: "seconds" };
  const REGIMES = { plain: "#0072B2", "plain or clipped": "#0072B2", clipped: "#E69F00", floored: "#D55E00" };
  const PARTS = { curves: "Curves", steps: "What the step size did", certificate: "Certificate", sensitivity: "How much the settings matter" };
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
    constructor(title, traces, layout, told = "") {
      Object.assign(this, { title, traces, layout, isShown: false });
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

  function mayBeLog(metric) {
    return !/acc|ratio|fraction|share|÷/i.test(metric);
  }

  function spansDecades(lines) {
    const means = lines.flatMap(({ mean }) => mean.filter((value) => value !== null));
    const [low, high] = means.reduce(([least, most], each) => [Math.min(least, each), Math.max(most, each)], [Infinity, -Infinity]);
    return low > 0 && high > DECADES * low;
  }

  class View {
    constructor(box) {
      Object.assign(this, data.sections[box.dataset.charts]);
      this.off = new Set([...this.lines.keys()].filter((row) => row >= this.shown));
      this.clock = this.epochs ? "epochs" : "steps";
      this.scale = "automatic";
      this.plots = [];
      if (!this.charts.length) return;
      box.append(this.controls(), this.legend());
      Object.entries(PARTS).forEach(([part, title]) => this.part(box, part, title));
    }

    part(box, part, title) {
      const made = this.charts.filter((chart) => chart.part === part).map((chart) => this.curves(chart));
      if (part === "steps") made.push(...this.regimes.map((chart) => this.areas(chart)));
      if (part === "sensitivity") made.push(...this.sensitivity.map((chart) => this.dependence(chart)));
      if (!made.length) return;
      this.plots.push(...made);
      box.append(element("h3", {}, title), element("div", { class: "grid" }, ...made.map((plot) => plot.figure)));
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
      return this.charts.some(({ lines }) => lines.some(({ seeds }) => seeds.length));
    }

    choice(name, title, words) {
      const select = element("select", { class: name }, ...words.map((word) => element("option", {}, word)));
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

    // ---------------------------------------------------------------- curves

    x(line) {
      return data.axes[line.axis][this.clock];
    }

    xaxis() {
      return { title: { text: CLOCKS[this.clock] }, type: this.logX ? "log" : "linear" };
    }

    curves({ metric, title, lines }) {
      const needsLog = spansDecades(lines);
      const isLog = () => mayBeLog(metric) && (this.scale === "automatic" ? needsLog : this.scale === "logarithmic");
      const traces = () => lines.filter(({ row }) => !this.off.has(row))
        .flatMap((line) => [...this.band(line, isLog()), ...this.each(line), this.mean(line)]);
      return new Plot(title, traces, () => ({
        xaxis: this.xaxis(),
        yaxis: { type: isLog() ? "log" : "linear" },
        hovermode: this.lines.length - this.off.size > 8 ? "closest" : "x unified",
      }), `, at the end ${this.ends(lines)}`);
    }

    ends(lines) { // for who cannot see the chart
      const ended = lines.filter(({ row, mean }) => row < this.shown && mean.at(-1) !== null);
      return ended.map((line) => `${this.called(line)} ${Number(line.mean.at(-1).toPrecision(4))}`).join(", ");
    }

    called({ row, role }) {
      return role ? `${this.lines[row].name}, ${role}` : this.lines[row].name;
    }

    mean(line) {
      const [name, { colour: hue, dash: own }] = [this.called(line), this.lines[line.row]];
      const dash = line.role ? "dot" : own;
      const error = (at) => (line.error?.[at] == null ? "" : ` ± ${line.error[at].toPrecision(2)}`);
      return {
        x: this.x(line), y: line.mean, name: shown(name), mode: line.mean.length > 1 ? "lines" : "markers",
        line: { color: hue, dash, width: 2 }, marker: { color: hue },
        customdata: line.mean.map((_, at) => [line.n[at] ?? line.n, error(at)]),
        hovertemplate: "%{y:.5~g}%{customdata[1]} (n = %{customdata[0]})<extra>%{fullData.name}</extra>",
      };
    }

    band(line, isLog) {
      if (line.error === null) return [];
      const { colour: hue } = this.lines[line.row];
      const at = line.mean.map((_, i) => i).filter((i) => line.mean[i] !== null && line.error[i] !== null);
      if (!at.length) return [];
      const x = at.map((i) => this.x(line)[i]);
      const high = at.map((i) => line.mean[i] + line.error[i]);
      // On a logarithmic axis a band that goes below zero ends a decade under the mean.
      const low = at.map((i) => (isLog && line.mean[i] <= line.error[i] ? line.mean[i] / 10 : line.mean[i] - line.error[i]));
      const edge = { mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
      return [
        { ...edge, x, y: low },
        { ...edge, x, y: high, fill: "tonexty", fillcolor: translucent(hue, 0.2) },
      ];
    }

    each(line) {
      if (!this.seeds) return [];
      const { name, colour: hue } = this.lines[line.row];
      return line.seeds.map((y) => ({
        x: this.x(line), y, name: `${shown(name)}, one seed`, mode: "lines",
        line: { color: translucent(hue, 0.45), width: 1 }, hoverinfo: "skip",
      }));
    }

    areas({ row, lines }) {
      const traces = () => (this.off.has(row) ? [] : lines.map((line) => ({
        x: this.x(line), y: line.mean, name: line.name, stackgroup: "one", mode: "lines",
        line: { width: 0.5, color: REGIMES[line.name] }, fillcolor: translucent(REGIMES[line.name], 0.75),
        hovertemplate: "%{y:.1%}<extra>%{fullData.name}</extra>",
      })));
      return new Plot(`${this.lines[row].name}: shares of steps`, traces, () => ({
        xaxis: this.xaxis(), yaxis: { tickformat: ".0%", range: [0, 1] }, showlegend: true, hovermode: "x unified",
      }));
    }

    dependence({ key, metric, lines }) {
      const values = lines.flatMap((line) => line.x);
      const isLog = Math.min(...values) > 0 && Math.max(...values) >= 10 * Math.min(...values);
      const traces = () => lines.map(({ name, colour: hue, dash, x, mean, error, setting }) => ({
        x, y: mean, name: shown(name), mode: "lines+markers", line: { color: hue, dash, width: 2 },
        error_y: { array: error.map((each) => each ?? 0), color: hue, thickness: 1 },
        text: setting.map(shown), hovertemplate: "%{y:.5~g} (%{text})<extra>%{fullData.name}</extra>",
      }));
      return new Plot(`${metric} by ${key}`, traces, () => ({
        xaxis: { title: { text: shown(key) }, type: isLog ? "log" : "linear" }, showlegend: lines.length > 1,
      }));
    }
  }

  document.querySelectorAll("[data-charts]").forEach((box) => new View(box));

  Object.entries(data.profiles?.clocks ?? {}).forEach(([clock, profiles]) => {
    const grid = document.getElementById("profiles");
    grid.classList.add("grid");
    const traces = () => data.profiles.lines.filter(({ name }) => name in profiles).map(({ name, colour: hue, dash }) => ({
      x: profiles[name].tau, y: profiles[name].share, name: shown(name), mode: "lines",
      line: { color: hue, dash, width: 2, shape: "hv" }, hovertemplate: "%{y:.0%}<extra>%{fullData.name}</extra>",
    }));
    grid.append(new Plot(`Performance profile, ${clock}`, traces, () => ({
      xaxis: { title: { text: "times the fastest (τ)" }, type: "log", dtick: Math.log10(2), tickformat: ".3g" },
      yaxis: { title: { text: "share of targets reached" }, tickformat: ".0%", range: [-0.02, 1.05] },
      showlegend: true, hovermode: "x unified",
    })).figure);
  });

  setTheme(root.dataset.theme);
})();
