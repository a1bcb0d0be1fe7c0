// Where the time of each run went: a bar for each span of steps, phases on top of each other.

/** The same colour for a phase in every run, and the last one for what no phase counts. */
const phaseColour = (() => {
  const names = [...new Set(data.phases.flatMap((phases) => phases?.names ?? []))].filter((name) => name !== "other");
  return (name) => (name === "other" ? NUM_COLOURS - 1 : names.indexOf(name) % (NUM_COLOURS - 1));
})();

/** The highest bar of all runs: with one scale their heights can be compared. */
const highestBar = Math.max(1e-9, ...data.phases.flatMap((phases) =>
  (phases?.spans ?? []).map((_, bar) => phases.seconds.reduce((sum, seconds) => sum + seconds[bar], 0))));

function timeView() {
  const cards = data.phases.map((phases, run) => phases && phases.names.length && timeCard(phases, run));
  const section = document.getElementById("time");
  section.append(...cards.filter(Boolean));
  if (!cards.some(Boolean)) section.append(make("p", { class: "soft" }, "No run measured the time of its steps."));
  return () => {
    cards.forEach((card, run) => card && (card.hidden = !state.runs[run]));
    redraw();
  };
}

function timeCard(phases, run) {
  const whole = phases.totals.reduce((sum, seconds) => sum + seconds, 0);
  const numSteps = data.charts.find((chart) => chart.area === "time" && chart.name === "step_seconds")
    .curves.find((curve) => curve.run === run).num_points;
  const rows = phases.names.map((name, at) => make("tr", {},
    make("td", {}, make("span", { class: "swatch", style: colourStyle(phaseColour(name)) }), name),
    make("td", { class: "number" }, `${((100 * phases.totals[at]) / whole).toFixed(1)} %`),
    make("td", { class: "number" }, duration(phases.totals[at] / numSteps)),
    make("td", { class: "number" }, duration(phases.totals[at]))));
  const box = make("div", { class: "told", hidden: true, "aria-live": "polite" });
  const canvas = make("canvas", { tabindex: 0, role: "img",
    "aria-label": `Seconds of a step by phase, ${data.runs[run].name}; the table has the shares. Arrow keys move along the steps.` });
  const columns = ["phase", "share", "a step", "in all"].map((name, at) => make("th", { class: at > 0 && "number", scope: "col" }, name));
  new Bars(canvas, box, phases);
  return make("div", { class: "card phases" },
    make("div", { class: "bar" },
      make("h2", {}, make("span", { class: "swatch", style: colourStyle(run) }), data.runs[run].name),
      make("span", { class: "soft" }, `${duration(whole)} in ${numSteps.toLocaleString("en")} steps, seconds a step`)),
    make("div", { class: "body" },
      make("div", { class: "plot" }, canvas, box),
      make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, columns)), make("tbody", {}, rows)))));
}

class Bars {
  constructor(canvas, box, phases) {
    Object.assign(this, { canvas, box, phases, pointed: null });
    canvas.addEventListener("pointermove", (event) => this.tell(Math.floor((event.offsetX - MARGIN.left) / this.width)));
    canvas.addEventListener("pointerleave", () => this.leave());
    canvas.addEventListener("blur", () => this.leave());
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!move) return;
      event.preventDefault();
      this.tell((this.pointed ?? -1) + move);
    });
    drawInSight(canvas, () => this.draw());
  }

  draw() {
    const { context, width, height } = pen(this.canvas);
    const { phases } = this;
    const plot = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const y = (seconds) => MARGIN.top + (1 - seconds / (highestBar * 1.05)) * plot.height;
    this.width = plot.width / phases.spans.length;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const value of ticks(0, highestBar * 1.05, 5)) {
      context.fillStyle = colours().grid;
      context.fillRect(MARGIN.left, Math.round(y(value)), plot.width, 1);
      context.fillStyle = colours().soft;
      context.fillText(short(value), MARGIN.left - 6, y(value));
    }
    const gap = this.width > 6 ? 1.5 : 0;
    const bottoms = phases.spans.map(() => 0);
    phases.seconds.forEach((seconds, at) => {
      context.fillStyle = colours().series[phaseColour(phases.names[at])];
      seconds.forEach((value, bar) => {
        context.globalAlpha = this.pointed == null || this.pointed === bar ? 1 : 0.55;
        const top = y(bottoms[bar] + value);
        // half a pixel more, so that bars without a gap leave no light between them
        context.fillRect(MARGIN.left + bar * this.width, top, Math.max(1, this.width - gap + (gap ? 0 : 0.5)), y(bottoms[bar]) - top);
        bottoms[bar] += value;
      });
    });
    context.globalAlpha = 1;
    this.marks(context, plot.width, height);
  }

  marks(context, width, height) {
    const { spans } = this.phases;
    context.fillStyle = colours().soft;
    context.textBaseline = "top";
    context.textAlign = "center";
    const count = Math.min(spans.length, Math.max(2, Math.floor(width / 90)));
    for (let mark = 0; mark < count; mark++) {
      const bar = Math.floor((mark * spans.length) / count);
      context.fillText(spans[bar][0].toLocaleString("en"), MARGIN.left + (bar + 0.5) * this.width, height - MARGIN.bottom + 6);
    }
  }

  tell(bar) {
    const { spans, names, seconds } = this.phases;
    this.pointed = Math.min(spans.length - 1, Math.max(0, bar));
    this.draw();
    const [first, last] = spans[this.pointed].map((step) => step.toLocaleString("en"));
    const rows = names.map((name, at) => [name, seconds[at][this.pointed]]).filter(([, value]) => value > 0);
    const lines = rows.reverse().map(([name, value]) => make("div", {},
      make("span", { class: "swatch", style: colourStyle(phaseColour(name)) }), name, make("span", { class: "number" }, duration(value))));
    this.box.replaceChildren(make("div", { class: "soft" }, first === last ? `step ${first}` : `steps ${first} to ${last}, mean`), ...lines);
    place(this.box, MARGIN.left + (this.pointed + 0.5) * this.width, MARGIN.top, this.canvas.clientWidth);
  }

  leave() {
    this.pointed = null;
    this.box.hidden = true;
    if (insight.has(this.canvas)) this.draw();
  }
}
