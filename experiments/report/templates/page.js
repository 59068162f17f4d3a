"use strict";
// Which traces of the charts are shown. The charts are Plotly's, made in experiments/report/charts.py.
let data; // of the charts
const controls = document.getElementById("controls");
const charts = ["depth", "plain", "residual"];
const TOP = 100; // per cent
const CLOSE = 0.045; // of the axis: ends of lines that are nearer share a text
const INVERTED = { "#000000": "#ffffff", "rgba(0,0,0,0.18)": "rgba(255,255,255,0.18)" }; // in the dark

function theme() {
  const chosen = document.documentElement.dataset.theme;
  return chosen || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function chosen(name) {
  return controls.elements[name].value;
}

// Of the text in charts: as large as the page's, and smaller on a telephone
function fontSize() {
  const size = parseFloat(getComputedStyle(document.documentElement).fontSize);
  return Math.round((small() ? 0.75 : 0.9) * size);
}

function small() {
  return matchMedia("(max-width: 600px)").matches;
}

function shows(meta) {
  if (!meta.split) return true; // guessing
  if (meta.split !== chosen("split")) return false;
  if (meta.view === "published") return controls.elements.published.checked;
  const seed = chosen("seed");
  if (meta.view !== (seed === "mean" ? "mean" : "seed")) return false;
  if (meta.view === "seed" && seed !== "all" && String(meta.seed) !== seed) return false;
  return meta.depth === null || ["all", String(meta.depth)].includes(chosen("depth"));
}

function coloured(trace) {
  const inTheme = (colour) => (theme() === "dark" && INVERTED[colour]) || colour;
  const line = trace.line && { ...trace.line, color: inTheme(trace.line.color) };
  const depth = Number(chosen("depth"));
  // In the first chart a depth is a point of each trace
  const selectedpoints = trace.meta.depth === null && depth
    ? trace.x.flatMap((x, place) => (x === depth ? [place] : [])) : undefined;
  const textfont = line && { color: line.color, size: fontSize() };
  const unselected = textfont && { marker: { opacity: 0.15 }, textfont };
  return { ...trace, line, fillcolor: inTheme(trace.fillcolor), selectedpoints, textfont, unselected };
}

// Depths at the ends of the lines; lines that end close together get one text, and so do seeds
function label(traces, logarithmic) {
  const named = new Set();
  for (const trace of traces.filter((trace) => trace.meta.depth === null && trace.text)) {
    if (named.has(trace.legendgroup)) trace.text = [];
    named.add(trace.legendgroup);
  }
  const lines = traces.filter((trace) => trace.meta.depth && trace.text);
  const place = (trace) => (logarithmic ? Math.log10(Math.max(trace.y.at(-1), 1e-3)) / 4 : trace.y.at(-1) / TOP);
  lines.sort((one, other) => place(one) - place(other));
  const groups = [];
  for (const line of lines) {
    const last = groups.at(-1);
    if (last && place(line) - place(last.at(-1)) < CLOSE) last.push(line);
    else groups.push([line]);
  }
  for (const group of groups) {
    const depths = [...new Set(group.map((line) => line.meta.depth))].sort((one, other) => one - other);
    const middle = group[Math.floor(group.length / 2)];
    for (const line of group) line.text = [];
    middle.text = middle.x.map(() => "");
    middle.text[middle.text.length - 1] = depths.length > 2 ? ` ${depths[0]}–${depths.at(-1)}` : ` ${depths.join(", ")}`;
    if (depths.length > 1) middle.textfont = { size: fontSize() };
  }
}

function draw() {
  const finding = data.findings[chosen("finding")];
  const logarithmic = chosen("axis") === "log";
  const range = logarithmic
    ? [Math.log10(finding.lowest / 1.5), Math.log10(1.1 * TOP)] : [0, TOP];
  for (const name of charts) {
    const div = document.getElementById(`chart-${name}`);
    const { data: traces, layout } = finding.charts[name];
    const yaxis = { ...layout.yaxis, type: chosen("axis"), range };
    if (logarithmic) Object.assign(yaxis, { tickvals: [0.01, 0.1, 1, 10, 100] });
    const shown = traces.filter((trace) => shows(trace.meta)).map(coloured);
    label(shown, logarithmic);
    Plotly.react(div, shown, {
      ...layout, yaxis, xaxis: { ...layout.xaxis },
      template: data.templates[theme()],
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { size: fontSize() }, dragmode: small() ? false : "zoom", uirevision: chosen("finding"),
    }, { responsive: true, displaylogo: false, displayModeBar: false });
    div.setAttribute("aria-label", finding.alts[chosen("split")][name]);
  }
}

function choose(depth) {
  const radio = [...controls.elements.depth].find((each) => each.value === String(depth));
  if (radio && !radio.closest("[hidden]")) radio.checked = true;
  draw();
}

// Depths and seeds that the chosen protocol has
function offer() {
  const finding = data.findings[chosen("finding")];
  for (const part of document.querySelectorAll("[data-finding]")) {
    part.hidden = part.dataset.finding !== chosen("finding");
  }
  for (const label of controls.querySelectorAll("[data-depth]")) {
    label.hidden = !finding.depths.includes(Number(label.dataset.depth));
  }
  if (!finding.depths.includes(Number(chosen("depth")))) controls.elements.depth.value = "all";
  const seeds = controls.elements.seed;
  const before = seeds.value;
  while (seeds.length > 2) seeds.remove(2);
  for (const seed of finding.seeds) seeds.add(new Option(`seed ${seed}`, seed));
  seeds.value = before;
  if (seeds.selectedIndex < 0) seeds.value = "mean";
  controls.elements.published.checked = finding.published;
}

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (each) => each.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function start() {
  data = JSON.parse(await unpacked("data"));
  const library = document.createElement("script");
  library.textContent = await unpacked("plotly");
  document.head.append(library);
  offer();
  draw();
  for (const name of charts) {
    document.getElementById(`chart-${name}`).on("plotly_click", ({ points: [point] }) => {
      const depth = point.data.meta.depth ?? point.x;
      choose(String(depth) === chosen("depth") ? "all" : depth);
    });
  }
  controls.addEventListener("change", (event) => {
    if (event.target.name === "finding") offer();
    draw();
  });
  document.getElementById("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
    draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

start();
