// The page's one script: draws the states the exporter sends once a second. No library, nothing from elsewhere.
"use strict";

const POINTS = 120;                    // seconds of history a card draws
const cards = new Map();               // by instance: its elements, and what it stood at before
const $ = (id) => document.getElementById(id);

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const count = (n) => (n < 1e5 ? number.format(n) : compact.format(n));
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const rate = (n) => (n === null ? "–" : n < 10 ? n.toFixed(1) : number.format(n));
const millis = (us) => (us === 0 ? "–" : us < 10000 ? `${(us / 1000).toFixed(1)} ms` : us < 1e6 ? `${Math.round(us / 1000)} ms` : `${(us / 1e6).toFixed(1)} s`);
const bytes = (n) => {
  const units = ["B", "K", "M", "G", "T"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) { n /= 1024; at += 1; }
  return n === 0 ? "–" : `${at && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
};
const span = (s) => {
  if (s < 60) return `${Math.max(0, Math.floor(s))} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} m`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
};
const kind = (status) => (status.startsWith("sig") ? "sig" : status);

function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

function makeCard(name) {
  const article = $("card").content.firstElementChild.cloneNode(true);
  article.querySelector("h2").textContent = name;
  const facts = {};
  for (const element of article.querySelectorAll("[data-fact]")) facts[element.dataset.fact] = element;
  const card = { article, facts, rates: [], before: null, workers: new Map() };
  cards.set(name, card);
  return card;
}

// Requests a second since the state before; null when there is none or the counters started again.
function pace(now, requests, before) {
  if (before === null || requests < before.requests || now <= before.now) return null;
  return (requests - before.requests) / (now - before.now);
}

function draw(svg, rates) {
  const top = Math.max(1, ...rates);
  const step = 240 / (POINTS - 1);
  const start = 240 - step * (rates.length - 1);
  const points = rates.map((value, at) => `${(start + at * step).toFixed(1)},${(46 - (value / top) * 30).toFixed(1)}`);
  const line = points.length ? `M${points.join("L")}` : "";
  svg.querySelector(".line").setAttribute("d", line);
  svg.querySelector(".area").setAttribute("d", line && `${line}L240,48L${start.toFixed(1)},48Z`);
  svg.setAttribute("aria-label", `requests per second, highest ${rate(top)}`);
}

function children(parent, wanted, tag) {
  while (parent.childElementCount < wanted) parent.append(document.createElement(tag));
  while (parent.childElementCount > wanted) parent.lastElementChild.remove();
  return parent.children;
}

function drawWorkers(card, instance, now) {
  const tiles = children(card.article.querySelector(".workers"), instance.workers.length, "li");
  const rows = children(card.article.querySelector("tbody"), instance.workers.length, "tr");
  instance.workers.forEach((worker, at) => {
    const tile = tiles[at];
    const status = kind(worker.status);
    if (!tile.firstChild) tile.append(document.createElement("span"), document.createElement("i"));
    if (!tile.lastChild.firstChild) tile.lastChild.append(document.createElement("b"));
    text(tile.firstChild, worker.id ? String(worker.id) : "·");
    tile.dataset.status = status;
    tile.title = `worker ${worker.id || "(never started)"}: ${worker.status}, ${worker.in_request} of ${instance.cores} cores in a request`;
    tile.setAttribute("aria-label", tile.title);
    tile.lastChild.firstChild.style.width = `${(100 * worker.in_request) / Math.max(1, instance.cores)}%`;

    const speed = pace(now, worker.requests, card.workers.get(at) ?? null);
    card.workers.set(at, { now, requests: worker.requests });
    const values = [
      worker.id || "–", worker.pid || "–", worker.status, count(worker.requests), rate(speed), millis(worker.avg_rt),
      count(worker.exceptions), count(worker.harakiri_count), count(Math.max(0, worker.respawn_count - 1)), bytes(worker.rss), bytes(worker.tx),
      worker.last_spawn ? span(now - worker.last_spawn) : "–",
    ];
    const fields = children(rows[at], values.length, "td");
    values.forEach((value, column) => {
      if (column !== 2) return text(fields[column], String(value));
      if (!fields[2].firstChild) fields[2].append(document.createElement("i"), document.createElement("span"));
      fields[2].firstChild.dataset.status = status;
      return text(fields[2].lastChild, value);
    });
  });
}

function drawInstance(instance, now) {
  const card = cards.get(instance.name) ?? makeCard(instance.name);
  const { article, facts } = card;
  const speed = pace(now, instance.requests, card.before);
  card.before = { now, requests: instance.requests };
  if (speed !== null) card.rates = [...card.rates.slice(1 - POINTS), speed];
  article.dataset.alive = String(instance.alive);
  const state = article.querySelector(".state");
  state.dataset.state = instance.state;
  text(state, instance.state);
  const address = article.querySelector(".address");
  text(address, instance.address);
  if (instance.address.startsWith("http://")) address.href = instance.address;
  text(facts.rate, rate(speed));
  text(facts.requests, count(instance.requests));
  text(facts.avg_rt, millis(instance.avg_rt));
  text(facts.queue, instance.listen_queue_max ? `${count(instance.listen_queue)} / ${count(instance.listen_queue_max)}` : count(instance.listen_queue));
  text(facts.exceptions, count(instance.exceptions));
  text(facts.harakiri_count, count(instance.harakiri_count));
  const started = instance.workers.filter((worker) => worker.respawn_count).length;
  text(facts.respawns, count(instance.respawn_count - started));
  text(facts.tx, bytes(instance.tx));
  text(facts.uptime, instance.started ? span(now - instance.started) : "–");
  facts.queue.classList.toggle("bad", instance.listen_queue_max > 0 && instance.listen_queue >= instance.listen_queue_max);
  facts.exceptions.classList.toggle("bad", instance.exceptions > 0);
  facts.harakiri_count.classList.toggle("bad", instance.harakiri_count > 0);
  draw(article.querySelector("svg"), card.rates);
  drawWorkers(card, instance, now);
  return { article, speed: speed ?? 0 };
}

function drawUnreadable({ name, reason }) {
  const card = cards.get(name) ?? makeCard(name);
  const state = card.article.querySelector(".state");
  state.dataset.state = "unreadable";
  text(state, "unreadable");
  state.title = reason;
  return { article: card.article, speed: 0 };
}

function show(state) {
  const drawn = [
    ...state.instances.map((instance) => drawInstance(instance, state.now)),
    ...state.unreadable.map(drawUnreadable),
  ];
  const names = new Set([...state.instances, ...state.unreadable].map((one) => one.name));
  for (const [name, card] of cards) {
    if (!names.has(name)) { card.article.remove(); cards.delete(name); }
  }
  const main = $("instances");
  drawn.forEach(({ article }, at) => {
    if (main.children[at] !== article) main.insertBefore(article, main.children[at] ?? null);
  });
  const sum = (pick) => state.instances.reduce((total, instance) => total + pick(instance), 0);
  const workers = sum((one) => one.workers.filter((worker) => worker.id).length);
  const totals = {
    instances: count(names.size),
    rate: rate(drawn.reduce((total, one) => total + one.speed, 0)),
    busy: `${count(sum((one) => one.status.busy ?? 0))} / ${count(workers)}`,
    in_request: count(sum((one) => one.in_request)),
    listen_queue: count(sum((one) => one.listen_queue)),
  };
  for (const element of document.querySelectorAll("[data-total]")) text(element, totals[element.dataset.total]);
  $("empty").hidden = names.size > 0;
  filter();
}

function filter() {
  const wanted = $("filter").value.trim().toLowerCase();
  for (const [name, card] of cards) card.article.hidden = !name.toLowerCase().includes(wanted);
}

function linked(state, words) {
  $("link").dataset.state = state;
  text($("link"), words);
}

$("filter").addEventListener("input", filter);
const events = new EventSource("/api/v1/events");
events.addEventListener("state", (event) => { linked("live", "live"); show(JSON.parse(event.data)); });
events.addEventListener("error", () => linked("lost", "connection lost, trying again"));
