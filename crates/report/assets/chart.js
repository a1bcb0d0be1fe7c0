// A chart of one metric: a line for each run, its smoothed twin, and a read-out.

const MARGIN = { left: 46, right: 10, top: 8, bottom: 20 };

/** Steps from their differences. */
function steps(differences) {
  let step = 0;
  return differences.map((more) => (step += more));
}

/** Exponential moving average over a number of steps, freed of the bias of its beginning. It goes by steps, not by points, so
    that a metric of every hundredth step is not smeared over the run. A thinned curve is averaged over its means: peaks,
    which thinning keeps, do not count more than what lies between them. */
function smoothed(curve, span) {
  const [at, values] = curve.means.length ? [curve.meanAt, curve.means] : [curve.at, curve.values];
  let [average, mass, before] = [0, 0, at[0] - curve.every];
  return values.map((value, place) => {
    if (value == null) return [at[place], null];
    const keep = Math.exp((before - at[place]) / span);
    before = at[place];
    average = keep * average + (1 - keep) * value;
    mass = keep * mass + (1 - keep);
    return [at[place], average / mass];
  });
}

class Chart {
  constructor(canvas, box, curves, title) {
    Object.assign(this, { canvas, box, title, pointed: null });
    this.curves = curves.map((curve) => ({ ...curve, at: steps(curve.steps), meanAt: steps(curve.mean_steps) }));
    canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    canvas.addEventListener("pointerleave", () => this.leave());
    canvas.addEventListener("blur", () => this.leave());
    canvas.addEventListener("keydown", (event) => this.key(event));
    drawInSight(canvas, () => this.draw());
  }

  /** Curves of the runs that are shown. */
  shown() {
    return this.curves.filter((curve) => state.runs[curve.run]);
  }

  range() {
    let [low, high, first, last] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const curve of this.shown()) {
      for (const value of curve.values) {
        if (value == null) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
      if (curve.at.length) {
        first = Math.min(first, curve.at[0]);
        last = Math.max(last, curve.at[curve.at.length - 1]);
      }
    }
    if (low > high) return null;
    const room = high > low ? (high - low) * 0.06 : Math.abs(high) * 0.1 || 1;
    // a share or a count does not go below nothing
    const floor = low >= 0 ? Math.max(0, low - room) : low - room;
    return { low: floor, high: high + room, first, last: last > first ? last : first + 1 };
  }

  draw() {
    const { context, width, height } = pen(this.canvas);
    const range = (this.span = this.range());
    if (!range) {
      context.fillStyle = colours().soft;
      context.fillText(this.shown().length ? "no finite number" : "no run is selected", MARGIN.left, height / 2);
      return;
    }
    const plot = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    this.x = (step) => MARGIN.left + ((step - range.first) / (range.last - range.first)) * plot.width;
    this.y = (value) => MARGIN.top + (1 - (value - range.low) / (range.high - range.low)) * plot.height;
    this.axes(context, range, width, height);
    const lines = this.shown().map((curve) => [curve, curve.at.map((step, place) => [step, curve.values[place]])]);
    // points farther apart than the average reaches are hardly moved by it
    const isFaint = (line) => line.length > 2 && (line[line.length - 1][0] - line[0][0]) / (line.length - 1) < state.smoothing;
    for (const [curve, line] of lines) {
      const alpha = isFaint(line) ? 0.25 : 1;
      if (line.length > plot.width) this.band(context, line, curve.run, lines.length > 1 ? 0.7 * alpha : alpha);
      else this.line(context, line, curve.run, alpha, isFaint(line) ? 1 : 1.5);
    }
    for (const [curve, line] of lines) {
      if (isFaint(line)) this.line(context, smoothed(curve, state.smoothing), curve.run, 1, 1.8, false);
    }
    if (this.pointed != null) this.cross(context, height);
  }

  axes(context, range, width, height) {
    const { grid, soft } = colours();
    context.fillStyle = soft;
    context.strokeStyle = grid;
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    context.beginPath();
    for (const value of ticks(range.low, range.high, Math.max(3, height / 38))) {
      const y = Math.round(this.y(value)) + 0.5;
      context.moveTo(MARGIN.left, y);
      context.lineTo(width - MARGIN.right, y);
      context.fillText(short(value), MARGIN.left - 6, y);
    }
    context.stroke();
    context.textBaseline = "top";
    const marks = ticks(range.first, range.last, Math.max(2, width / 90)).filter((step) => Number.isInteger(step));
    for (const step of marks) {
      const x = this.x(step);
      const text = step.toLocaleString("en");
      const half = context.measureText(text).width / 2;
      context.textAlign = "center";
      context.fillText(text, Math.min(x, width - half - 1), height - MARGIN.bottom + 6);
    }
  }

  line(context, points, run, alpha, width, dots = true) {
    const colour = colours().series[run % NUM_COLOURS];
    context.globalAlpha = alpha;
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = width;
    context.lineJoin = "round";
    context.beginPath();
    let before = null;
    for (const [step, value] of points) {
      if (value == null) before = null;
      else if (before == null) context.moveTo(this.x(step), this.y(value)), (before = step);
      else context.lineTo(this.x(step), this.y(value));
    }
    context.stroke();
    // few points are measurements one wants to see; a point between two gaps has no line
    points.forEach(([step, value], at) => {
      const alone = points[at - 1]?.[1] == null && points[at + 1]?.[1] == null;
      if (value == null || !dots || (points.length > 40 && !alone)) return;
      context.beginPath();
      context.arc(this.x(step), this.y(value), 2.2, 0, 7);
      context.fill();
    });
    context.globalAlpha = 1;
  }

  /** A curve of more points than pixels: what a line would cover, in one tone. */
  band(context, points, run, alpha) {
    const columns = new Map();
    points.forEach(([step, value], at) => {
      // from the point before, so that columns hang together
      const from = points[at - 1]?.[1] ?? value;
      if (value == null) return;
      const x = Math.round(this.x(step));
      const [top, bottom] = columns.get(x) ?? [Infinity, -Infinity];
      const [y, yFrom] = [this.y(value), this.y(from)];
      columns.set(x, [Math.min(top, y, yFrom), Math.max(bottom, y, yFrom)]);
    });
    context.globalAlpha = alpha;
    context.fillStyle = colours().series[run % NUM_COLOURS];
    for (const [x, [top, bottom]] of columns) context.fillRect(x, top, 1, Math.max(1, bottom - top));
    context.globalAlpha = 1;
  }

  /** The point of each run that is nearest to the step pointed at. */
  nearest() {
    const near = (at) => {
      let [low, high] = [0, at.length - 1];
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (at[middle] <= this.pointed) low = middle;
        else high = middle;
      }
      return Math.abs(at[low] - this.pointed) <= Math.abs(at[high] - this.pointed) ? low : high;
    };
    return this.shown().filter((curve) => curve.at.length).map((curve) => ({ curve, place: near(curve.at) }));
  }

  cross(context, height) {
    const x = Math.round(this.x(this.pointed)) + 0.5;
    context.strokeStyle = colours().soft;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, MARGIN.top);
    context.lineTo(x, height - MARGIN.bottom);
    context.stroke();
    for (const { curve, place } of this.nearest()) {
      if (curve.values[place] == null) continue;
      context.fillStyle = colours().series[curve.run % NUM_COLOURS];
      context.strokeStyle = colours().card;
      context.lineWidth = 1.5;
      context.beginPath();
      context.arc(this.x(curve.at[place]), this.y(curve.values[place]), 3.6, 0, 7);
      context.fill();
      context.stroke();
    }
  }

  point(x) {
    if (!this.span) return;
    const share = (x - MARGIN.left) / (this.canvas.clientWidth - MARGIN.left - MARGIN.right);
    const { first, last } = this.span;
    const wanted = first + Math.min(1, Math.max(0, share)) * (last - first);
    this.pointed = wanted;
    const found = this.nearest().map(({ curve, place }) => curve.at[place]);
    this.tell(found.reduce((best, step) => (Math.abs(step - wanted) < Math.abs(best - wanted) ? step : best), found[0]));
  }

  tell(step) {
    this.pointed = step;
    this.draw();
    const found = this.nearest().sort((a, b) => (b.curve.values[b.place] ?? -Infinity) - (a.curve.values[a.place] ?? -Infinity));
    const rows = found.map(({ curve, place }) => {
      const other = curve.at[place] === step ? "" : ` (step ${curve.at[place].toLocaleString("en")})`;
      const name = make("span", {}, data.runs[curve.run].name + other);
      const value = make("span", { class: "number" }, short(curve.values[place]));
      return make("div", {}, make("span", { class: "swatch", style: colourStyle(curve.run) }), name, value);
    });
    this.box.replaceChildren(make("div", { class: "soft" }, `step ${step.toLocaleString("en")}`), ...rows);
    place(this.box, this.canvas.offsetLeft + this.x(step), this.canvas.offsetTop + MARGIN.top, this.canvas.offsetLeft + this.canvas.clientWidth);
  }

  key(event) {
    const known = this.shown().find((curve) => curve.at.length);
    if (!known || !["ArrowLeft", "ArrowRight", "Home", "End", "Escape"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "Escape") return this.leave();
    const at = known.at;
    let place = this.pointed == null ? -1 : at.findIndex((step) => step >= this.pointed);
    if (event.key === "ArrowRight") place++;
    else if (event.key === "ArrowLeft") place = place < 0 ? at.length - 1 : place - 1;
    else place = event.key === "Home" ? 0 : at.length - 1;
    this.tell(at[Math.min(at.length - 1, Math.max(0, place))]);
  }

  leave() {
    this.pointed = null;
    this.box.hidden = true;
    if (insight.has(this.canvas)) this.draw();
  }
}
