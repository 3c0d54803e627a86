// Time panels as SVG: lines, bands, stacks and bars, with a cursor for mouse, finger and arrow keys. No library.
const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 96;
const LEFT = 48;
const BOTTOM = 16;
const TOP = 6;

function node(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

// The least of 1, 2, 2.5, 5, 10, 20... that is not below `value`; of what is counted, 1 or one whose half is whole as well.
export function nice(value, counted) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return (counted ? [1, 2, 4, 6, 8, 10] : [1, 2, 2.5, 5, 10]).map((step) => step * unit).find((step) => step >= value * 0.9999);
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

// A run of samples without a hole: where the exporter was not there, there is no line.
function runs(times, gap, from) {
  const found = [];
  times.forEach((time, at) => {
    if (time < from) return;
    if (!found.length || time - times[at - 1] > gap) found.push([]);
    found.at(-1).push(at);
  });
  return found;
}

export class Panel {
  // spec: { title, kind: "lines" | "band" | "stack" | "bars", keys: [[series, colour class, word]...], limit, format, counted, least }
  constructor(spec) {
    this.spec = spec;
    this.history = null;
    this.cursor = null;
    this.element = document.createElement("figure");
    this.element.className = `panel${spec.wide ? " wide" : ""}`;
    this.element.tabIndex = 0;
    const caption = document.createElement("figcaption");
    this.title = document.createElement("span");
    this.title.textContent = spec.title;
    this.value = document.createElement("strong");
    this.legend = document.createElement("small");
    caption.append(this.title, this.value, this.legend);
    this.svg = node("svg", { role: "img", height: HEIGHT });
    this.element.append(caption, this.svg);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.move(null));
    this.element.addEventListener("blur", () => this.move(null));
    this.element.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  show(history, from, to) {
    Object.assign(this, { history, from, to });
    this.draw();
  }

  point(event) {
    const times = this.history?.series.time ?? [];
    if (!times.length) return;
    const box = this.svg.getBoundingClientRect();
    const time = this.from + ((event.clientX - box.left - LEFT) / (box.width - LEFT)) * (this.to - this.from);
    const after = times.findIndex((one) => one >= time);
    const at = after < 0 ? times.length - 1 : after;
    this.move(at > 0 && time - times[at - 1] < times[at] - time ? at - 1 : at);
  }

  key(event) {
    const count = this.history?.series.time.length ?? 0;
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -count, End: count }[event.key];
    if (!step || !count) return;
    event.preventDefault();
    this.move(Math.min(count - 1, Math.max(0, (this.cursor ?? count - 1) + step)));
  }

  move(cursor) {
    if (cursor === this.cursor) return;
    this.cursor = cursor;
    this.draw();
  }

  draw() {
    const width = Math.floor(this.element.clientWidth) - 2 * 14;
    if (!this.history || width < 50) return;
    const { spec, svg } = this;
    const series = this.history.series;
    const times = series.time;
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.replaceChildren();
    this.words(series, times);
    const top = nice(Math.max(spec.least ?? 0, this.highest(series, times)), spec.counted);
    const x = (time) => LEFT + ((time - this.from) / (this.to - this.from)) * (width - LEFT);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
    for (const value of [0, top / 2, top]) {
      node("line", { class: "grid", x1: LEFT, x2: width, y1: y(value), y2: y(value) }, svg);
      const label = spec.format(value, true);
      if (value && (value === top || label !== spec.format(top, true))) node("text", { class: "axis", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, svg).textContent = label;
    }
    for (const share of [0, 0.5, 1]) {
      const anchor = ["start", "middle", "end"][share * 2];
      const time = this.from + share * (this.to - this.from);
      node("text", { class: "axis", x: x(time), y: HEIGHT - 3, "text-anchor": anchor }, svg).textContent = share === 1 ? "now" : clock.format(time * 1000);
    }
    const drawn = node("g", {}, svg);
    const parts = runs(times, this.history.interval * 2.5, this.from);
    this[spec.kind](drawn, series, times, parts, x, y, width);
    const near = (at) => series[spec.limit][at] <= top;
    if (spec.limit && parts.flat().every(near)) this.path(drawn, "limit", parts, (at) => [x(times[at]), y(series[spec.limit][at])]);
    if (this.cursor !== null && times[this.cursor] >= this.from) {
      const at = x(times[this.cursor]);
      node("line", { class: "cursor", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }, svg);
    }
    if (!times.length) node("text", { class: "axis", x: (LEFT + width) / 2, y: HEIGHT / 2 - 4, "text-anchor": "middle" }, svg).textContent = "the first sample comes in a moment";
  }

  highest(series, times) {
    const shown = (key) => Math.max(0, ...series[key].filter((_, at) => times[at] >= this.from));
    const keys = this.spec.keys.map(([key]) => key);
    if (this.spec.kind === "stack") return Math.max(0, ...times.map((time, at) => (time < this.from ? 0 : keys.reduce((sum, key) => sum + series[key][at], 0))));
    return Math.max(...keys.map(shown));
  }

  // What stands beside the title: now, or where the cursor is.
  words(series, times) {
    const at = this.cursor ?? times.length - 1;
    const value = (key) => (at < 0 ? "–" : this.spec.format(series[key][at]));
    const [main, ...others] = this.spec.keys;
    const shown = this.spec.kind === "band" ? this.spec.keys[1] : main;
    const rest = this.spec.kind === "band" ? [this.spec.keys[0], this.spec.keys[2]] : others;
    this.value.textContent = value(shown[0]);
    const known = this.spec.kind !== "band" || this.value.textContent !== "–"; // of nothing there is no least and no most
    const said = (known ? rest : []).map(([key, colour, word]) => [`${value(key)} ${word}`, this.spec.kind === "stack" ? colour : ""]);
    if (this.spec.kind === "stack") said.unshift([`${value(main[0])} ${main[2]}`, main[1]]);
    if (this.spec.limit) said.push([`of ${value(this.spec.limit)}`, ""]);
    if (this.spec.note) said.push([this.spec.note, ""]);
    if (this.cursor !== null && at >= 0) said.unshift([clock.format(times[at] * 1000), ""]);
    if (this.spec.kind === "stack") this.value.textContent = "";
    this.legend.replaceChildren(...said.map(([words, colour]) => {
      const part = document.createElement("span");
      part.className = colour ? `key ${colour}` : "";
      part.textContent = words;
      return part;
    }));
    this.svg.setAttribute("aria-label", `${this.spec.title}: ${this.value.textContent} ${shown[2]}, ${said.map(([words]) => words).join(", ")}`);
  }

  path(parent, name, parts, place) {
    const drawn = parts.map((part) => part.map((at, step) => `${step ? "L" : "M"}${place(at).map((one) => one.toFixed(1)).join(",")}`).join("")).join("");
    node("path", { class: name, d: drawn }, parent);
  }

  area(parent, name, parts, x, low, high) {
    const drawn = parts.map((part) => {
      const there = part.map((at, step) => `${step ? "L" : "M"}${x(at).toFixed(1)},${high(at).toFixed(1)}`).join("");
      const back = [...part].reverse().map((at) => `L${x(at).toFixed(1)},${low(at).toFixed(1)}`).join("");
      return `${there}${back}Z`;
    }).join("");
    node("path", { class: name, d: drawn }, parent);
  }

  lines(parent, series, times, parts, x, y) {
    this.spec.keys.forEach(([key, colour], number) => {
      if (!number) this.area(parent, `area ${colour}`, parts, (at) => x(times[at]), () => y(0), (at) => y(series[key][at]));
      this.path(parent, `line ${colour}`, parts, (at) => [x(times[at]), y(series[key][at])]);
    });
  }

  band(parent, series, times, parts, x, y) {
    const [[least, colour], [mean], [most]] = this.spec.keys;
    this.area(parent, `area ${colour}`, parts, (at) => x(times[at]), (at) => y(series[least][at]), (at) => y(series[most][at]));
    this.path(parent, `line ${colour}`, parts, (at) => [x(times[at]), y(series[mean][at])]);
  }

  stack(parent, series, times, parts, x, y) {
    const sums = times.map(() => 0);
    for (const [key, colour] of this.spec.keys) {
      const low = [...sums];
      series[key].forEach((value, at) => { sums[at] += value; });
      this.area(parent, `solid ${colour}`, parts, (at) => x(times[at]), (at) => y(low[at]), (at) => y(sums[at]));
    }
  }

  bars(parent, series, times, parts, x, y, width) {
    const [[key, colour]] = this.spec.keys;
    const thick = Math.max(1.5, ((width - LEFT) * this.history.interval) / (this.to - this.from) - 1);
    times.forEach((time, at) => {
      const value = series[key][at];
      if (value > 0 && time >= this.from) node("rect", { class: `solid ${colour}`, x: (x(time) - thick).toFixed(1), width: thick.toFixed(1), y: y(value).toFixed(1), height: (y(0) - y(value)).toFixed(1), rx: 1 }, parent);
    });
  }
}
