// The page's script: the host live by server-sent events, its history by the API. No library, nothing from elsewhere.
import { Panel } from "./charts.js";
import { Table, bytes, count, duration, millis, percent, rate, seconds, set } from "./table.js";

const $ = (id) => document.getElementById(id);
const FINE = 10;
const COARSE = 60;
const SPARK = 60;

const host = { instances: new Map(), unreadable: new Map(), daemons: new Map(), vassals: new Map(), alarms: new Map() };
const paces = new Map();   // by instance: its rate, what it stood at, and the rates of the last minute
const workerPaces = new Map();
let now = 0;
let chosen = "";
let span = 1800;

const perSecond = (value, short) => (short ? rate(value) : `${rate(value)}/s`);
const whole = (value) => count(Math.round(value));
const PANELS = [
  { title: "Requests", kind: "lines", wide: true, keys: [["requests", "accent", "a second"]], format: perSecond, least: 1 },
  { title: "Worker status", kind: "stack", keys: [["busy", "busy", "busy"], ["idle", "idle", "idle"], ["pause", "pause", "paused"], ["cheap", "cheap", "cheap"]], format: whole, counted: true, least: 1 },
  { title: "In request", kind: "lines", keys: [["in_request", "busy", "threads"]], format: whole, counted: true, least: 1 },
  { title: "Listen queue", kind: "lines", keys: [["queue", "warn", "waiting"]], limit: "queue_capacity", format: whole, counted: true, least: 4 },
  { title: "Average request time", kind: "band", keys: [["request_time_min", "accent", "least"], ["request_time_mean", "accent", "mean"], ["request_time_max", "accent", "most"]], format: seconds },
  { title: "Requests per worker", kind: "band", keys: [["worker_requests_min", "accent", "least"], ["worker_requests_mean", "accent", "mean"], ["worker_requests_max", "accent", "most"]], format: perSecond, least: 1 },
  { title: "Running time", kind: "band", note: "of the time", keys: [["running_min", "busy", "least"], ["running_mean", "busy", "mean"], ["running_max", "busy", "most"]], format: percent, least: 0.1 },
  { title: "Workers", kind: "lines", keys: [["workers", "idle", "running"]], format: whole, counted: true, least: 1 },
  { title: "Respawns", kind: "bars", keys: [["respawns", "pause", "in the interval"]], format: whole, counted: true, least: 1 },
  { title: "Harakiri", kind: "bars", keys: [["harakiri", "bad", "in the interval"]], format: whole, counted: true, least: 1 },
].map((spec) => new Panel(spec));

const status = (one) => (one.startsWith("sig") ? "sig" : one);
const started = (one) => Object.values(one.status).reduce((sum, number) => sum + number, 0);
const respawns = (one) => Math.max(0, one.respawn_count - one.workers);
const bad = (value) => (value > 0 ? "bad" : "");

const instances = new Table($("instances"), {
  key: (one) => one.name,
  open: (one) => (one.reason === undefined ? choose(one.name) : undefined),
  chosen: (one) => one.name === chosen,
  empty: "No app of that name.",
  sort: "name",
  columns: [
    { name: "name", title: "App", text: (one) => one.name, sort: (one) => one.name, link: true },
    { name: "state", title: "State", text: (one) => one.state, sort: (one) => one.state, badge: (one) => one.state, hint: (one) => one.reason ?? "" },
    { name: "rate", title: "Requests/s", text: (one) => rate(pace(one)), sort: pace, spark: (one) => paces.get(one.name)?.last ?? [] },
    { name: "busy", title: "Busy", text: (one) => `${one.status.busy ?? 0}/${started(one)}`, sort: (one) => one.status.busy ?? 0, meter: (one) => (one.status.busy ?? 0) / Math.max(1, started(one)) },
    { name: "queue", title: "Queue", text: (one) => count(one.listen_queue), sort: (one) => one.listen_queue, mark: (one) => (one.listen_queue_max && one.listen_queue >= one.listen_queue_max / 2 ? "bad" : "") },
    { name: "avg", title: "Avg time", text: (one) => millis(one.avg_rt), sort: (one) => one.avg_rt },
    { name: "requests", title: "Requests", text: (one) => count(one.requests), sort: (one) => one.requests, more: true },
    { name: "exceptions", title: "Exceptions", text: (one) => count(one.exceptions), sort: (one) => one.exceptions, mark: (one) => bad(one.exceptions), more: true },
    { name: "harakiri", title: "Harakiri", text: (one) => count(one.harakiri_count), sort: (one) => one.harakiri_count, mark: (one) => bad(one.harakiri_count), more: true },
    { name: "respawns", title: "Respawns", text: (one) => count(respawns(one)), sort: respawns, more: true },
    { name: "rss", title: "Memory", text: (one) => bytes(one.rss), sort: (one) => one.rss, more: true },
    { name: "up", title: "Up", text: (one) => (one.started && one.alive ? duration(now - one.started) : "–"), sort: (one) => -one.started, more: true },
  ],
});

const workers = new Table($("workers"), {
  key: (one) => one.slot,
  empty: "No workers.",
  sort: "id",
  columns: [
    { name: "id", left: true, title: "Worker", text: (one) => String(one.id || "–"), sort: (one) => one.slot },
    { name: "status", title: "Status", text: (one) => one.status, sort: (one) => one.status, badge: (one) => status(one.status) },
    { name: "doing", title: "Serving", text: (one) => doing(one), sort: (one) => doing(one), wide: true },
    { name: "rate", title: "Requests/s", text: (one) => rate(one.rate), sort: (one) => one.rate ?? -1 },
    { name: "avg", title: "Avg time", text: (one) => millis(one.avg_rt), sort: (one) => one.avg_rt },
    { name: "requests", title: "Requests", text: (one) => count(one.requests), sort: (one) => one.requests },
    { name: "delta", title: "Since respawn", text: (one) => count(one.delta_requests), sort: (one) => one.delta_requests, more: true },
    { name: "up", title: "Up", text: (one) => (one.last_spawn ? duration(now - one.last_spawn) : "–"), sort: (one) => -one.last_spawn },
    { name: "exceptions", title: "Exceptions", text: (one) => count(one.exceptions), sort: (one) => one.exceptions, mark: (one) => bad(one.exceptions), more: true },
    { name: "harakiri", title: "Harakiri", text: (one) => count(one.harakiri_count), sort: (one) => one.harakiri_count, mark: (one) => bad(one.harakiri_count), more: true },
    { name: "respawns", title: "Respawns", text: (one) => count(Math.max(0, one.respawn_count - 1)), sort: (one) => one.respawn_count, more: true },
    { name: "rss", title: "Memory", text: (one) => bytes(one.rss), sort: (one) => one.rss, more: true },
    { name: "pid", title: "PID", text: (one) => String(one.pid || "–"), sort: (one) => one.pid, more: true },
  ],
});

const TROUBLE = ["refused", "throttled", "stopping", "waiting", "paused"];
const vassals = new Table($("vassals"), {
  key: (one) => one.id,
  open: (one) => (host.instances.has(one.instance) ? choose(one.instance) : undefined),
  empty: "No vassal of that name.",
  sort: "state",
  columns: [
    { name: "id", title: "Vassal", text: (one) => one.id, sort: (one) => one.id, link: true },
    { name: "state", title: "State", text: (one) => one.state, sort: (one) => (TROUBLE.includes(one.state) ? TROUBLE.indexOf(one.state) : 9), badge: (one) => one.state },
    { name: "respawns", title: "Respawns", text: (one) => count(one.respawns), sort: (one) => one.respawns },
    { name: "since", title: "Started", text: (one) => (one.last_start ? `${duration(now - one.last_start)} ago` : "–"), sort: (one) => -one.last_start },
    { name: "held", title: "Held back", text: (one) => (one.blacklist_level ? `${one.attempts} failed starts` : ""), sort: (one) => one.blacklist_level, mark: (one) => bad(one.blacklist_level) },
    { name: "monitor", title: "From", text: (one) => one.monitor, sort: (one) => one.monitor, wide: true, more: true },
  ],
});

const ago = (time) => (time ? `${duration(now - time)} ago` : "–");
const alarms = new Table($("alarms"), {
  key: (one) => `${one.instance}/${one.alarm}`,
  empty: "No alarm of that name.",
  sort: "last",
  columns: [
    { name: "alarm", left: true, title: "Alarm", text: (one) => one.alarm, sort: (one) => one.alarm },
    { name: "instance", left: true, title: "App", text: (one) => one.instance, sort: (one) => one.instance },
    { name: "last", title: "Last raised", text: (one) => ago(one.last_raised), sort: (one) => -one.last_raised },
    { name: "raised", title: "Raised", text: (one) => count(one.raised), sort: (one) => one.raised },
    { name: "pending", title: "Waiting", text: (one) => count(one.pending), sort: (one) => one.pending, mark: (one) => bad(one.pending) },
    { name: "delivered", title: "Delivered", text: (one) => count(one.delivered), sort: (one) => one.delivered, more: true },
    { name: "failed", title: "Given up", text: (one) => count(one.failed), sort: (one) => one.failed, mark: (one) => bad(one.failed), more: true },
  ],
});

function doing(worker) {
  const serving = worker.cores.filter((core) => core.in_request && core.uri);
  const first = serving[0];
  return first ? `${first.method} ${first.uri}${serving.length > 1 ? ` +${serving.length - 1}` : ""}` : "";
}

function pace(one) {
  return paces.get(one.name)?.rate ?? null;
}

// Requests a second since the event before; null when there is none or the counters began again.
function measure(paces, key, requests, time) {
  const before = paces.get(key);
  const known = before && requests >= before.requests && time > before.time;
  const speed = known ? (requests - before.requests) / (time - before.time) : null;
  const last = [...(before?.last ?? []).slice(1 - SPARK), speed ?? 0];
  paces.set(key, { requests, time, rate: speed, last });
  return speed;
}

function receive(event) {
  const news = JSON.parse(event.data);
  now = news.now;
  if (event.type === "state") for (const section of Object.values(host)) section.clear();
  for (const [section, items] of Object.entries(host)) {
    for (const [name, item] of Object.entries(news[section] ?? {})) {
      if (item === null) items.delete(name);
      else items.set(name, item);
    }
  }
  for (const name of [...paces.keys()]) if (!host.instances.has(name)) paces.delete(name);
  for (const one of host.instances.values()) measure(paces, one.name, one.requests, now);
  link("live", "live");
  show();
}

function wanted(...texts) {
  const sought = $("filter").value.trim().toLowerCase();
  return texts.some((text) => text.toLowerCase().includes(sought));
}

const NOTHING = { state: "unreadable", alive: false, status: {}, listen_queue: 0, listen_queue_max: 0, avg_rt: 0, requests: 0, exceptions: 0, harakiri_count: 0, respawn_count: 0, workers: 0, rss: 0, started: 0 };

function show() {
  const all = [...host.instances.values()];
  const lost = [...host.unreadable].map(([name, reason]) => ({ ...NOTHING, name, reason }));
  instances.show([...all, ...lost].filter((one) => wanted(one.name)));
  const sum = (pick) => all.reduce((total, one) => total + pick(one), 0);
  const held = [...host.vassals.values()];
  const raised = [...host.alarms.values()];
  const totals = {
    apps: lost.length ? `${all.length} + ${lost.length} unreadable` : count(all.length),
    rate: rate(sum((one) => pace(one) ?? 0)),
    busy: `${count(sum((one) => one.status.busy ?? 0))} of ${count(sum(started))}`,
    queued: count(sum((one) => one.listen_queue)),
    vassals: `${held.filter((one) => ["accepting", "loyal"].includes(one.state)).length} of ${held.length}`,
    alarms: count(raised.reduce((total, one) => total + one.pending, 0)),
  };
  for (const element of document.querySelectorAll("[data-total]")) set(element, totals[element.dataset.total]);
  for (const element of document.querySelectorAll('[data-only="vassals"]')) element.hidden = !held.length;
  for (const element of document.querySelectorAll('[data-only="alarms"]')) element.hidden = !raised.length;
  $("empty").hidden = !now || all.length + lost.length > 0;
  $("instances").hidden = all.length + lost.length === 0;
  vassals.show(held.filter((one) => wanted(one.id, one.state)));
  alarms.show(raised.filter((one) => wanted(one.alarm, one.instance)));
  const states = new Map();
  for (const one of held) states.set(one.state, (states.get(one.state) ?? 0) + 1);
  set($("vassal-states"), [...states].map(([state, number]) => `${number} ${state}`).join(" · "));
  daemons();
}

function daemons() {
  const shown = [...host.daemons.values()];
  const list = $("daemons");
  while (list.childElementCount < shown.length) list.append(document.createElement("li"));
  while (list.childElementCount > shown.length) list.lastElementChild.remove();
  shown.forEach((one, at) => {
    list.children[at].dataset.state = one.alive ? one.state : "gone";
    list.children[at].title = one.status;
    set(list.children[at], one.alive ? one.name : `${one.name} is gone`);
  });
}

async function get(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function history() {
  const scope = chosen ? `api/v1/instances/${encodeURIComponent(chosen)}/history` : "api/v1/history";
  const asked = chosen;
  const found = await get(`${scope}?interval=${span > 1800 ? COARSE : FINE}`);
  if (asked === chosen) for (const panel of PANELS) panel.show(found, found.now - span, found.now);
}

async function detail() {
  if (!chosen) return;
  const asked = chosen;
  const found = await get(`api/v1/instances/${encodeURIComponent(chosen)}`);
  if (asked !== chosen) return;
  const one = found.instance;
  workers.show(found.workers.map((worker, slot) => ({ ...worker, slot, rate: measure(workerPaces, slot, worker.requests, found.now) })));
  const said = [`pid ${one.pid}`, `generation ${one.generation}`, `${count(one.reloads)} reloads`, one.address];
  set($("facts"), said.filter(Boolean).join(" · "));
}

function choose(name) {
  if (location.hash !== hashOf(name)) location.hash = hashOf(name);
  else follow();
}

const hashOf = (name) => (name ? `#app=${encodeURIComponent(name)}` : "#");

// The address says which app is shown, so that it can be kept, sent and gone back from.
function follow() {
  const name = decodeURIComponent(location.hash.match(/^#app=(.*)$/)?.[1] ?? "");
  if (name !== chosen) workerPaces.clear();
  chosen = name;
  set($("panels-title"), chosen || "All apps");
  $("back").hidden = !chosen;
  $("detail").hidden = !chosen;
  set($("detail-title"), chosen ? `Workers of ${chosen}` : "Workers");
  document.title = chosen ? `${chosen} - palatine` : "palatine";
  show();
  refresh();
  if (chosen) $("panels-title").scrollIntoView({ block: "start" });
}

function link(state, words) {
  $("link").dataset.state = state;
  set($("link"), words);
}

const quietly = (what) => what().catch(() => { if ($("link").dataset.state === "live") set($("link"), "live; history unavailable"); });
const refresh = () => Promise.all([quietly(history), quietly(detail)]);

$("panels").append(...PANELS.map((panel) => panel.element));
$("filter").addEventListener("input", show);
$("back").addEventListener("click", () => choose(""));
for (const button of document.querySelectorAll("[data-span]")) {
  button.addEventListener("click", () => {
    span = Number(button.dataset.span);
    for (const one of document.querySelectorAll("[data-span]")) one.setAttribute("aria-pressed", String(one === button));
    quietly(history);
  });
}
addEventListener("hashchange", follow);
const events = new EventSource("api/v1/events");
events.addEventListener("state", receive);
events.addEventListener("change", receive);
events.addEventListener("error", () => link("lost", "connection lost, trying again"));
setInterval(() => quietly(history), FINE * 1000);
setInterval(() => quietly(detail), 2000);
follow();
