// Elements, numbers and colours. Texts of a run become text nodes and nothing else.

const data = JSON.parse(document.getElementById("data").textContent);

/** An element: attributes (`on...` are listeners, `class` and `style` as usual), then children: elements and texts. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** A number in few characters. */
function short(value) {
  if (value == null) return "not finite";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return String(Number(value.toPrecision(4)));
}

/** With a sign. */
function signed(value, digits = 2) {
  if (value == null) return "not finite";
  return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
}

function duration(seconds) {
  if (seconds < 1) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 120) return `${Number(seconds.toPrecision(3))} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

const NUM_COLOURS = 10;

/** The style that gives an element the colour of a place in the palette. */
const colourStyle = (at) => `--of: var(--s${at % NUM_COLOURS})`;

let palette = null;

/** Colours as a canvas needs them. */
function colours() {
  if (!palette) {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    const series = Array.from({ length: NUM_COLOURS }, (_, at) => of(`--s${at}`));
    palette = { series, ink: of("--ink"), soft: of("--soft"), line: of("--line"), grid: of("--grid"), card: of("--card") };
  }
  return palette;
}

/** Draws an element's canvas when it comes into sight, and again when its size, the scheme or the settings change. */
const drawn = new Map();
const insight = new Set();

const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      insight.add(entry.target);
      drawn.get(entry.target)();
    } else insight.delete(entry.target);
  }
}, { rootMargin: "200px" });

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) if (insight.has(target)) drawn.get(target)();
});

function drawInSight(canvas, draw) {
  drawn.set(canvas, draw);
  sight.observe(canvas);
  sizes.observe(canvas);
}

function redraw() {
  for (const canvas of insight) drawn.get(canvas)();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  palette = null;
  redraw();
});

/** A canvas's pen in CSS pixels, wiped clean. */
function pen(canvas) {
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.font = "11px system-ui, sans-serif";
  return { context, width, height };
}

/** Round numbers in a range, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) found.push(Number((at * step).toPrecision(12)));
  return found;
}

/** A box beside the pointer. */
function place(box, x, y, width) {
  box.hidden = false;
  box.style.top = `${y}px`;
  const left = x + 14 + box.offsetWidth > width ? x - 14 - box.offsetWidth : x + 14;
  box.style.left = `${Math.max(0, Math.min(left, width - box.offsetWidth))}px`;
}
