// All metrics, grouped by area.

const lastStep = Math.max(...data.runs.map((run) => run.last_step), 1);

/** Steps of smoothing by the slider's place, on a logarithmic scale up to a quarter of the run. */
const PLACES = 40;
const spanAt = (place) => (place === 0 ? 0 : Math.round(Math.max(4, lastStep / 4) ** (place / PLACES)));
const placeOf = (span) => (span < 1 ? 0 : Math.round((PLACES * Math.log(span)) / Math.log(Math.max(4, lastStep / 4))) || 1);

function curvesView() {
  const amount = make("output", { class: "number", for: "smoothing" });
  const slider = make("input", { type: "range", id: "smoothing", min: 0, max: PLACES, oninput: () => remember({ smooth: spanAt(Number(slider.value)) }) });
  const find = make("input", { type: "search", placeholder: "metric", value: state.metric, oninput: () => remember({ metric: find.value }) });
  const bar = make("div", { class: "bar" },
    make("label", { for: "smoothing" }, "Smoothing", slider, amount),
    make("label", { class: "find" }, "Find", find));
  const areas = [...new Set(data.charts.map((chart) => chart.area))].map(areaOf);
  document.getElementById("curves").append(bar, ...areas.map((area) => area.element));
  return () => {
    slider.value = placeOf(state.smoothing);
    amount.textContent = slider.ariaValueText = state.smoothing ? `${state.smoothing.toLocaleString("en")} steps` : "off";
    if (find.value !== state.metric) find.value = state.metric;
    const wanted = state.metric.trim().toLowerCase();
    for (const area of areas) {
      for (const { card, name } of area.cards) card.hidden = !name.toLowerCase().includes(wanted);
      const found = area.cards.filter(({ card }) => !card.hidden).length;
      area.element.hidden = found === 0;
      area.count.textContent = found < area.cards.length ? `${found} of ${area.cards.length}` : String(found);
    }
    for (const card of document.querySelectorAll("#curves .last span")) card.hidden = !state.runs[card.dataset.run];
    redraw();
  };
}

function areaOf(name) {
  const charts = data.charts.filter((chart) => chart.area === name);
  const cards = charts.map(chartCard);
  const count = make("span", { class: "soft" });
  const element = make("details", { class: "area", open: true },
    make("summary", {}, make("h2", {}, name), count),
    make("div", { class: "charts" }, cards.map(({ card }) => card)));
  return { element, cards, count };
}

/** A sentence of the documentation without its marks. */
const plain = (text) => text.replaceAll("`", "");

function chartCard(chart) {
  const name = chart.name.startsWith(chart.area) ? chart.name : `${chart.area}/${chart.name}`;
  const last = chart.curves.map((curve) =>
    make("span", { class: "number", style: colourStyle(curve.run), "data-run": curve.run, title: `last of ${data.runs[curve.run].name}` }, short(curve.last)));
  const broken = chart.curves.reduce((sum, curve) => sum + curve.num_nonfinite, 0);
  const box = make("div", { class: "told", hidden: true, "aria-live": "polite" });
  const told = chart.curves.map((curve) => `${data.runs[curve.run].name}: ${curve.num_points} points, last ${short(curve.last)}`);
  const canvas = make("canvas", { tabindex: 0, role: "img", "aria-label": `${name}. ${told.join("; ")}. Arrow keys move along the steps.` });
  const widen = make("button", { "aria-expanded": "false", title: chart.meaning && plain(chart.meaning), onclick: () => {
    widen.setAttribute("aria-expanded", card.classList.toggle("wide"));
  } }, chart.name);
  const card = make("div", { class: "card chart" },
    make("div", { class: "head" }, make("h3", {}, widen), chart.unit && make("span", { class: "unit" }, chart.unit), make("div", { class: "last" }, last)),
    chart.meaning && make("p", { class: "what meaning" }, plain(chart.meaning)),
    broken > 0 && make("p", { class: "what" }, `${broken} not finite`),
    canvas, box);
  new Chart(canvas, box, chart.curves, name);
  return { card, name };
}
