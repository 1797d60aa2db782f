// The map: up to 100,000 products on a canvas. The server makes panel and lists; the state is in
// the address.

const SIDE = 65535, CELL_BITS = 9, CELLS = 65536 >> CELL_BITS;
const MANY = 6000; // Points beyond which pixels are written instead of circles
const N_NAMED = 400; // Points up to which products are named, else categories
const $ = (id) => document.getElementById(id);
const canvas = $("map"), context = canvas.getContext("2d", { alpha: false });
const panel = $("map-panel"), list = $("map-list"), tip = $("map-tip");
const version = canvas.dataset.version, query = new URLSearchParams(location.search);

let n = 0, X, Y, C, starts, order; // The products of grid cell i are order[starts[i]...starts[i + 1]]
let categories = [], paint, isFront, colours, ink;
let width = 1, height = 1, ratio = 1, image, pixels;
const view = { x: SIDE / 2, y: SIDE / 2, scale: 0 }; // Centre in map units, pixels per unit
let only = 0; // The code of the category shown alone
let selected = {}, companions = [], hovered = -1;
const names = new Map(); // row: [product_id, name]

// ---- from the server

async function load(path, fields) {
  const response = await fetch(`/map/${path}?${new URLSearchParams({ version, ...fields })}`);
  if (response.status !== 200) throw new Error(response.statusText);
  return response;
}

async function loadPoints() {
  const [points, found] = await Promise.all([load("points"), load("categories")]);
  const columns = new Uint16Array(await points.arrayBuffer());
  n = columns.length / 3;
  [X, Y, C] = [0, 1, 2].map((i) => columns.subarray(i * n, (i + 1) * n));
  categories = await found.json();
  buildGrid();
  const code = categories.findIndex((one) => one.name === query.get("category")) + 1;
  if (code) only = code;
  setColours();
}

function buildGrid() {
  starts = new Uint32Array(CELLS * CELLS + 1);
  const cell = (i) => (Y[i] >> CELL_BITS) * CELLS + (X[i] >> CELL_BITS);
  for (let i = 0; i < n; i++) starts[cell(i) + 1]++;
  for (let i = 0; i < CELLS * CELLS; i++) starts[i + 1] += starts[i];
  order = new Uint32Array(n);
  const next = starts.slice();
  for (let i = 0; i < n; i++) order[next[cell(i)]++] = i;
}

const wanted = new Set();
let naming = false;
async function loadNames(rows) {
  for (const row of rows) if (!names.has(row)) wanted.add(row);
  if (naming || !wanted.size) return;
  naming = true;
  try {
    while (wanted.size) {
      const some = [...wanted].slice(0, 200);
      some.forEach((row) => wanted.delete(row));
      const found = await (await load("names", { rows: some })).json();
      for (const [row, id, name] of found) names.set(row, [id, name]);
    }
  } catch { wanted.clear(); } finally { naming = false; }
  redraw();
}

async function watchLayout() {
  const state = $("map-state"), progress = state.querySelector("progress");
  if (!progress) return;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    let now;
    try { now = await (await load("state")).json(); } catch { continue; }
    if (now.share !== null) { progress.value = now.share; continue; }
    state.textContent = now.failure
      ? `This stays the first sketch (PCA): the better layout (t-SNE) failed: ${now.failure}`
      : "The better layout (t-SNE) is here.";
    if (!now.failure) { await loadPoints(); fit(); }
    return;
  }
}

// ---- colours

function setColours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  ink = Object.fromEntries(["ink", "sheet", "accent", "faint"].map((one) => [one, read(`--${one}`)]));
  colours = Array.from({ length: 11 }, (_, i) => read(`--c${i}`));
  colours.push(ink.faint, ink.accent); // 11 and 12
  paint = new Uint8Array(65536);
  for (let code = 0; code < 65536; code++) {
    const own = code <= 10 ? code : 0;
    paint[code] = !only ? own : code === only ? own || 12 : 11;
  }
  isFront = colours.map((_, i) => (only ? i !== 11 : i > 0));
  redraw();
}

const pack = (hex) => {
  const value = parseInt(hex.slice(1), 16);
  return (0xff000000 | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
};

// ---- drawing

let isDue = false;
function redraw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => { isDue = false; draw(); });
}

const toX = (x) => (x - view.x) * view.scale + width / 2;
const toY = (y) => (y - view.y) * view.scale + height / 2;
const fromX = (px) => (px - width / 2) / view.scale + view.x;
const fromY = (py) => (py - height / 2) / view.scale + view.y;

// Calls visit(from, to) with ranges of `order`, a row of grid cells each.
function visitCells(left, top, right, bottom, visit) {
  const cell = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor(value / 2 ** CELL_BITS)));
  const x0 = cell(left), x1 = cell(right), y1 = cell(bottom);
  for (let y = cell(top); y <= y1; y++) visit(starts[y * CELLS + x0], starts[y * CELLS + x1 + 1]);
}

function visitVisible(visit) {
  const edge = 8 / view.scale;
  visitCells(fromX(0) - edge, fromY(0) - edge, fromX(width) + edge, fromY(height) + edge, visit);
}

function draw() {
  if (!n || !view.scale) return;
  let visible = 0;
  visitVisible((from, to) => { visible += to - from; });
  const size = Math.min(9, Math.max(2, Math.sqrt((width * height) / visible) / 4));
  if (visible > MANY) drawPixels(size);
  else drawCircles(size);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawSelection();
  drawLabels(visible);
  if (canvas.matches(":focus-visible")) drawCross();
}

function drawPixels(size) {
  const w = canvas.width, h = canvas.height, side = Math.round(size * ratio);
  const k = view.scale * ratio, ox = w / 2 - view.x * k - side / 2, oy = h / 2 - view.y * k - side / 2;
  const packed = Uint32Array.from(colours, pack);
  pixels.fill(pack(ink.sheet));
  for (const front of [false, true]) {
    visitVisible((from, to) => {
      // Backwards: the most bought come last, on top.
      for (let j = to - 1; j >= from; j--) {
        const i = order[j], colour = paint[C[i]];
        if (isFront[colour] !== front) continue;
        const x = (X[i] * k + ox) | 0, y = (Y[i] * k + oy) | 0;
        if (x < 0 || y < 0 || x + side > w || y + side > h) continue;
        const value = packed[colour];
        for (let row = y * w + x, end = row + side * w; row < end; row += w)
          for (let at = row; at < row + side; at++) pixels[at] = value;
      }
    });
  }
  context.putImageData(image, 0, 0);
}

function drawCircles(size) {
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = ink.sheet;
  context.fillRect(0, 0, width, height);
  const paths = new Map();
  visitVisible((from, to) => {
    for (let j = to - 1; j >= from; j--) {
      const i = order[j], colour = paint[C[i]], x = toX(X[i]), y = toY(Y[i]);
      if (!paths.has(colour)) paths.set(colour, new Path2D());
      paths.get(colour).moveTo(x + size / 2, y);
      paths.get(colour).arc(x, y, size / 2, 0, 7);
    }
  });
  const sorted = [...paths].sort(([a], [b]) => isFront[a] - isFront[b]);
  for (const [colour, path] of sorted) {
    context.fillStyle = colours[colour];
    context.fill(path);
  }
}

function drawSelection() {
  const { row, other } = selected;
  context.strokeStyle = ink.accent;
  if (row === undefined) return ring(hovered);
  const ends = other === undefined ? companions : [other];
  context.lineWidth = other === undefined ? 1.25 : 2.5;
  context.beginPath();
  for (const end of ends) {
    context.moveTo(toX(X[row]), toY(Y[row]));
    context.lineTo(toX(X[end]), toY(Y[end]));
  }
  context.stroke();
  [row, ...ends, hovered].forEach(ring);
}

function ring(row) {
  if (row < 0 || row >= n) return;
  context.lineWidth = 2;
  context.beginPath();
  context.arc(toX(X[row]), toY(Y[row]), 7, 0, 7);
  context.stroke();
}

function drawCross() {
  context.strokeStyle = ink.ink;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(width / 2 - 8, height / 2);
  context.lineTo(width / 2 + 8, height / 2);
  context.moveTo(width / 2, height / 2 - 8);
  context.lineTo(width / 2, height / 2 + 8);
  context.stroke();
}

// ---- labels

function drawText(text, x, y, font) {
  context.font = font;
  context.textAlign = "center";
  context.lineJoin = "round";
  context.lineWidth = 4;
  context.strokeStyle = ink.sheet;
  context.fillStyle = ink.ink;
  const isolated = `\u2068${text.length > 40 ? text.slice(0, 39) + "…" : text}\u2069`;
  context.strokeText(isolated, x, y);
  context.fillText(isolated, x, y);
}

function drawLabels(visible) {
  const taken = [[width - 170, 0, width, 46]]; // The buttons
  const place = (text, x, y, font) => {
    context.font = font;
    const half = context.measureText(text.slice(0, 40)).width / 2 + 4;
    const box = [x - half, y - 12, x + half, y + 4];
    const isOut = box[0] < 0 || box[1] < 0 || box[2] > width || box[3] > height;
    if (isOut || taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3]))
      return;
    taken.push(box);
    drawText(text, x, y, font);
  };
  const { row, other, label } = selected;
  if (label) // First, so that it keeps its place among the names.
    place(label, (toX(X[row]) + toX(X[other])) / 2, (toY(Y[row]) + toY(Y[other])) / 2, "600 13px system-ui, sans-serif");
  const marked = [row, other, ...(other === undefined ? companions : [])];
  const shown = marked.filter((one) => one !== undefined);
  if (visible <= N_NAMED) shown.push(...listVisible(60));
  for (const one of shown)
    if (names.has(one)) place(names.get(one)[1], toX(X[one]), toY(Y[one]) - 10, "12px system-ui, sans-serif");
  if (visible > N_NAMED)
    categories.slice(0, 300).some((one, i) => {
      if (!only || only === i + 1) place(one.name, toX(one.x), toY(one.y), "600 13px system-ui, sans-serif");
      return taken.length > 24;
    });
  if (shown.some((one) => !names.has(one))) setTimeout(() => loadNames(shown), 0);
}

// Rows come most bought first.
function listVisible(limit) {
  const left = fromX(0), right = fromX(width), top = fromY(0), bottom = fromY(height), rows = [];
  for (let i = 0; i < n && rows.length < limit; i++)
    if (X[i] >= left && X[i] <= right && Y[i] >= top && Y[i] <= bottom && (!only || C[i] === only)) rows.push(i);
  return rows;
}

// ---- moving

const fitted = () => (Math.min(width, height) * 0.92) / SIDE;

function moveTo(x, y, scale) {
  view.scale = Math.min(fitted() * 800, Math.max(fitted() * 0.7, scale));
  view.x = Math.min(SIDE, Math.max(0, x));
  view.y = Math.min(SIDE, Math.max(0, y));
  redraw();
  settle();
}

const fit = () => moveTo(SIDE / 2, SIDE / 2, fitted());

function zoom(factor, px = width / 2, py = height / 2) {
  const x = fromX(px), y = fromY(py);
  const scale = Math.min(fitted() * 800, Math.max(fitted() * 0.7, view.scale * factor));
  moveTo(x - (px - width / 2) / scale, y - (py - height / 2) / scale, scale);
}

let settling;
function settle() {
  clearTimeout(settling);
  settling = setTimeout(() => {
    const isAll = Math.abs(view.scale / fitted() - 1) < 0.01;
    setAddress({ view: isAll ? "" : [view.x | 0, view.y | 0, (view.scale / fitted()).toPrecision(4)].join() });
    showList();
  }, 400);
}

function setAddress(fields, push = false) {
  for (const [name, value] of Object.entries(fields)) value ? query.set(name, value) : query.delete(name);
  query.set("version", version);
  history[push ? "pushState" : "replaceState"](null, "", `/map?${query}`);
}

function resize() {
  const old = fitted(), zoomed = view.scale / old;
  const box = canvas.getBoundingClientRect();
  [width, height, ratio] = [canvas.clientWidth || box.width, canvas.clientHeight || box.height, devicePixelRatio || 1];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  image = context.createImageData(canvas.width, canvas.height);
  pixels = new Uint32Array(image.data.buffer);
  if (view.scale) view.scale = zoomed * fitted();
  redraw();
}

// ---- lists and panel

async function showList() {
  const rows = listVisible(50);
  try {
    list.innerHTML = await (await load("list", { rows })).text();
  } catch { return; }
  const category = only && categories[only - 1].name;
  $("map-list-title").replaceChildren(
    category ? Object.assign(document.createElement("bdi"), { textContent: category }) : "",
    `${category ? ", m" : "M"}ost bought of those in view`);
  $("map-pages").hidden = true;
}

function readPanel() {
  const found = panel.querySelector("[data-from]")?.dataset;
  const row = (text) => (text === undefined ? undefined : Number(text));
  selected = found
    ? { id: found.from, row: row(found.fromRow), other: row(found.toRow), label: found.label }
    : {};
  companions = [...panel.querySelectorAll("tr[data-row]")].map((one) => Number(one.dataset.row));
  redraw();
}

async function select(from, to = "", { push = true, fly = false } = {}) {
  try {
    panel.innerHTML = await (await load("panel", { from, to })).text();
  } catch {
    panel.textContent = "The workbench does not answer; try again.";
    return;
  }
  readPanel();
  fillField("from", from);
  fillField("to", to);
  if (push) setAddress({ from, to }, true);
  if (fly) showSelected();
}

// Fields show names; what they were filled with stays known.
function fillField(field, text = "") {
  const input = $(`map-${field}`), found = panel.querySelector(`[data-${field}]`)?.dataset;
  input.dataset.id = found?.[field] ?? text;
  input.value = found?.[`${field}Name`] ?? text;
  input.dataset.shown = input.value;
}

function readField(field) {
  const { value, dataset } = $(`map-${field}`);
  return value && value === dataset.shown ? dataset.id : value;
}

function showSelected() {
  const rows = [selected.row, selected.other ?? companions].flat().filter((row) => row !== undefined);
  if (!rows.length) return;
  const [left, right] = [Math.min, Math.max].map((one) => one(...rows.map((row) => X[row])));
  const [top, bottom] = [Math.min, Math.max].map((one) => one(...rows.map((row) => Y[row])));
  const scale = 0.75 * Math.min(width / (right - left + 1), height / (bottom - top + 1));
  moveTo((left + right) / 2, (top + bottom) / 2, Math.min(scale, fitted() * 12));
}

async function selectRow(row, asSecond) {
  if (row < 0) return;
  await loadNames([row]);
  const id = names.get(row)?.[0];
  if (id === undefined) return;
  if (asSecond && selected.id !== undefined) select(selected.id, id);
  else select(id);
}

function isolate(code) {
  only = code === only ? 0 : code;
  setColours();
  for (const button of document.querySelectorAll(".map-legend button"))
    button.setAttribute("aria-pressed", Number(button.dataset.code) === only);
  if ($("map-category")) $("map-category").value = only > 10 ? categories[only - 1].name : "";
  setAddress({ category: only && categories[only - 1].name, page: "" });
  showList();
}

// ---- pointers and keys

function findNearest(px, py, reach = 10) {
  const x = fromX(px), y = fromY(py), r = reach / view.scale;
  let best = -1, least = r * r;
  visitCells(x - r, y - r, x + r, y + r, (from, to) => {
    for (let j = from; j < to; j++) {
      const i = order[j], distance = (X[i] - x) ** 2 + (Y[i] - y) ** 2;
      if (distance < least && (!only || C[i] === only)) [best, least] = [i, distance];
    }
  });
  return best;
}

const pointers = new Map();
let travelled = 0;

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  if (!pointers.size) travelled = 0;
  pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
});

canvas.addEventListener("pointermove", (event) => {
  const { offsetX: px, offsetY: py } = event, old = pointers.get(event.pointerId);
  if (!old) return hover(px, py);
  travelled += Math.hypot(px - old[0], py - old[1]);
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  pointers.set(event.pointerId, [px, py]);
  if (other) {
    const distance = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]);
    zoom(distance([px, py]) / Math.max(distance(old), 1), (px + other[0]) / 2, (py + other[1]) / 2);
    travelled += 10;
  } else if (travelled > 3) moveTo(view.x - (px - old[0]) / view.scale, view.y - (py - old[1]) / view.scale, view.scale);
});

for (const type of ["pointerup", "pointercancel"])
  canvas.addEventListener(type, (event) => {
    const isClick = type === "pointerup" && pointers.size === 1 && travelled <= 3;
    pointers.delete(event.pointerId);
    if (isClick) selectRow(findNearest(event.offsetX, event.offsetY), event.shiftKey);
  });

canvas.addEventListener("pointerleave", () => { hovered = -1; tip.hidden = true; redraw(); });
canvas.addEventListener("dblclick", async (event) => {
  const row = findNearest(event.offsetX, event.offsetY);
  if (row >= 0 && names.has(row)) location.href = `/product/${encodeURIComponent(names.get(row)[0])}`;
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const lines = event.deltaMode ? 16 : 1;
  zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0015)), event.offsetX, event.offsetY);
}, { passive: false });

async function hover(px, py) {
  const row = findNearest(px, py);
  if (row !== hovered) { hovered = row; redraw(); }
  canvas.style.cursor = row < 0 ? "" : "pointer";
  if (row < 0) { tip.hidden = true; return; }
  if (!names.has(row)) await loadNames([row]);
  if (row !== hovered || !names.has(row)) return;
  tip.replaceChildren(Object.assign(document.createElement("bdi"), { textContent: names.get(row)[1] }));
  tip.hidden = false;
  const left = Math.min(px + 14, width - tip.offsetWidth - 4), top = py + 18;
  tip.style.transform = `translate(${Math.max(4, left)}px, ${top}px)`;
}

const KEYS = {
  ArrowLeft: () => moveTo(view.x - 60 / view.scale, view.y, view.scale),
  ArrowRight: () => moveTo(view.x + 60 / view.scale, view.y, view.scale),
  ArrowUp: () => moveTo(view.x, view.y - 60 / view.scale, view.scale),
  ArrowDown: () => moveTo(view.x, view.y + 60 / view.scale, view.scale),
  "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: fit,
  Enter: (event) => selectRow(findNearest(width / 2, height / 2, Infinity), event.shiftKey),
  Escape: () => select(""),
};
canvas.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act(event);
});
for (const type of ["focus", "blur"]) canvas.addEventListener(type, redraw);

// ---- controls

$("map-in").onclick = () => zoom(1.6);
$("map-out").onclick = () => zoom(1 / 1.6);
$("map-fit").onclick = fit;
$("map-version").onchange = () => $("map-form").requestSubmit();
$("map-form").addEventListener("submit", (event) => {
  if ($("map-version").value !== version) {
    for (const field of ["from", "to"]) $(`map-${field}`).value = readField(field);
    return;
  }
  event.preventDefault();
  if (event.submitter?.dataset.code) isolate(Number(event.submitter.dataset.code));
  else select(readField("from"), readField("to"), { fly: true });
});
$("map-category")?.addEventListener("change", (event) => {
  const code = Number(event.target.selectedOptions[0].dataset.code ?? only);
  if (code !== only) isolate(code);
});

for (const part of [panel, list])
  part.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='/map?']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const fields = new URL(link.href).searchParams;
    select(fields.get("from"), fields.get("to") ?? "", { fly: part === list || fields.has("to") });
  });

addEventListener("popstate", () => {
  const now = new URLSearchParams(location.search);
  for (const name of ["from", "to"]) now.has(name) ? query.set(name, now.get(name)) : query.delete(name);
  select(now.get("from") ?? "", now.get("to") ?? "", { push: false });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", setColours);

// ---- start

resize();
new ResizeObserver(resize).observe(canvas);
await loadPoints();
const [x, y, zoomed] = (query.get("view") ?? "").split(",").map(Number);
if (zoomed) moveTo(x, y, zoomed * fitted());
else fit();
readPanel();
for (const field of ["from", "to"]) fillField(field, query.get(field) ?? "");
if (!zoomed && selected.row !== undefined) showSelected();
watchLayout();
