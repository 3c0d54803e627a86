// Tables that are drawn again each second without losing focus or place: rows are kept by key, cells only set when other.
const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (n) => (n < 1e5 ? grouped.format(n) : compact.format(n));
export const rate = (n) => (n === null || n === undefined ? "–" : n > 0 && n < 10 ? n.toFixed(1) : count(n));
export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
export const seconds = (s) => millis(s * 1e6);
export const millis = (us) => (us === 0 ? "–" : us < 1000 ? `${Math.round(us)} µs` : us < 10000 ? `${(us / 1000).toFixed(1)} ms` : us < 1e6 ? `${Math.round(us / 1000)} ms` : `${(us / 1e6).toFixed(1)} s`);

export function bytes(n) {
  const units = ["B", "K", "M", "G", "T"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) { n /= 1024; at += 1; }
  return n === 0 ? "–" : `${at && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}

export function duration(s) {
  if (s < 60) return `${Math.max(0, Math.floor(s))} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const words = new Intl.Collator(undefined, { numeric: true });

export class Table {
  // spec: { key, columns: [{ name, title, text, sort, link, badge, meter, spark, mark, hint, wide, more }], sort, open, chosen, empty }
  constructor(element, spec) {
    this.spec = spec;
    this.rows = new Map();
    this.items = [];
    this.sort = spec.sort;
    this.down = false;
    const head = element.createTHead().insertRow();
    this.heads = spec.columns.map((column) => this.head(head, column));
    this.body = element.createTBody();
    this.none = document.createElement("caption");
    this.none.textContent = spec.empty;
    this.none.hidden = true;
    element.prepend(this.none);
    this.mark();
  }

  head(row, column) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.className = this.classes(column);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = column.title;
    button.addEventListener("click", () => {
      this.down = this.sort === column.name ? !this.down : !column.link && !["id", "last"].includes(column.name);
      this.sort = column.name;
      this.mark();
      this.show(this.items);
    });
    cell.append(button);
    row.append(cell);
    return cell;
  }

  classes(column) {
    return [column.more && "more", column.wide && "wide", (column.link || column.badge || column.wide || column.left) && "text"].filter(Boolean).join(" ");
  }

  mark() {
    this.heads.forEach((cell, at) => {
      if (this.spec.columns[at].name === this.sort) cell.setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
  }

  show(items) {
    const { key, columns } = this.spec;
    const by = columns.find((column) => column.name === this.sort);
    const value = new Map(items.map((item) => [item, by.sort(item) ?? -1]));
    const compare = (a, b) => (typeof a === "string" ? words.compare(a, b) : a - b);
    this.items = [...items].sort((a, b) => (this.down ? -1 : 1) * compare(value.get(a), value.get(b)) || words.compare(key(a), key(b)));
    const kept = new Set(this.items.map(key));
    for (const [name, row] of this.rows) if (!kept.has(name)) { row.remove(); this.rows.delete(name); }
    this.items.forEach((item, at) => {
      const row = this.row(key(item));
      if (this.body.children[at] !== row) this.body.insertBefore(row, this.body.children[at] ?? null);
      row.item = item;
      if (this.spec.chosen) row.toggleAttribute("data-chosen", this.spec.chosen(item));
      columns.forEach((column, number) => this.cell(row.children[number], column, item));
    });
    this.none.hidden = this.items.length > 0;
  }

  row(name) {
    let row = this.rows.get(name);
    if (row) return row;
    row = document.createElement("tr");
    for (const column of this.spec.columns) {
      const cell = row.insertCell();
      cell.className = this.classes(column);
      if (column.link && this.spec.open) {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "link";
        button.addEventListener("click", () => this.spec.open(row.item));
        cell.append(button);
      } else cell.append(document.createElement("span"));
      if (column.meter) cell.append(meter());
      if (column.spark) cell.prepend(sparkline());
    }
    this.rows.set(name, row);
    return row;
  }

  cell(cell, column, item) {
    const words = cell.querySelector("button, span");
    const text = column.text(item);
    set(words, text);
    if (column.wide) words.title = text;
    if (column.badge) { words.className = "badge"; words.dataset.state = column.badge(item); }
    if (column.hint) words.title = column.hint(item);
    if (column.mark) cell.dataset.mark = column.mark(item);
    if (column.meter) cell.lastChild.firstChild.style.width = `${Math.round(100 * column.meter(item))}%`;
    if (column.spark) trace(cell.firstChild, column.spark(item));
  }
}

function meter() {
  const bar = document.createElement("i");
  bar.className = "meter";
  bar.append(document.createElement("b"));
  return bar;
}

function sparkline() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 60 16");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  return svg;
}

function trace(svg, rates) {
  const top = Math.max(1, ...rates);
  const drawn = rates.map((value, at) => `${at ? "L" : "M"}${60 - rates.length + 1 + at},${(15 - (value / top) * 14).toFixed(1)}`).join("");
  if (svg.firstChild.getAttribute("d") !== drawn) svg.firstChild.setAttribute("d", drawn);
}
