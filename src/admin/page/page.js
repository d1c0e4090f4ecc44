// The live page: listens to /api/events and draws what it hears. Every text goes into the page as text; no HTML is made.
"use strict";

const byId = (id) => document.getElementById(id);
const STEP_LIMIT = 200, LIMIT_MAX = 1000, EVENTS_SHOWN = 60, LANES_MAX = 5, LANE = 20, LANES_TOP = 18;
const MINUTE = 60000, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const FIELDS = ["user", "app", "node", "order"];
const numbers = new Intl.NumberFormat("en");

const state = { source: null, limit: STEP_LIMIT, rows: new Map(), at: 0, heardAt: 0, timer: 0, retry: 0, window: null };

function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// A picture in numbers: 1 session, 1,204 sessions.
const count = (number, one, many) => `${numbers.format(number)} ${number === 1 ? one : many || one + "s"}`;
const two = (number) => String(number).padStart(2, "0");
const clock = (time, seconds) => {
  const date = new Date(time);
  return `${two(date.getHours())}:${two(date.getMinutes())}` + (seconds ? `:${two(date.getSeconds())}` : "");
};
function age(ms) {
  const minutes = Math.floor(Math.max(0, ms) / MINUTE);
  if (minutes < 1) return `${Math.floor(Math.max(0, ms) / 1000)}s`;
  if (minutes < 60) return `${minutes}m`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)}h ${two(minutes % 60)}m`;
  return `${Math.floor(minutes / 1440)}d ${Math.floor(minutes / 60) % 24}h`;
}
// The same app has the same colour, whoever has it open.
function colour(name) {
  let hash = 7;
  for (let i = 0; i < name.length; i++) hash = (hash * 31 + name.charCodeAt(i)) >>> 0;
  return `c${((hash ^ (hash >>> 11)) >>> 0) % 8}`;
}

// ---- Listening

function address() {
  const asked = new URLSearchParams();
  for (const field of FIELDS) {
    const value = byId(field).value.trim();
    if (value && value !== "newest") asked.set(field, value);
  }
  const shown = asked.toString();
  history.replaceState(null, "", shown ? `?${shown}` : location.pathname);
  asked.set("limit", state.limit);
  return `/api/events?${asked}`;
}

function listen() {
  if (state.source) state.source.close();
  clearTimeout(state.retry);
  if (document.hidden) return;
  const source = new EventSource(address());
  state.source = source;
  source.addEventListener("view", (event) => {
    if (state.source !== source) return;
    const view = JSON.parse(event.data);
    state.at = Date.parse(view.at);
    state.heardAt = performance.now();
    connection("");
    draw(view);
  });
  source.addEventListener("open", () => byId("events").replaceChildren());
  source.addEventListener("error", () => {
    connection("lost");
    // The browser comes back by itself, unless it was told to go away.
    if (source.readyState === EventSource.CLOSED) state.retry = setTimeout(listen, 5000);
  });
}

function connection(how) {
  byId("dot").className = `dot ${how}`;
  if (how === "lost") byId("clock").textContent = "no answer, trying again";
}

// ---- Drawing

function draw(view) {
  const { sessions, users, connections } = view.open;
  byId("headline").textContent = users === 0 ? "Nobody is on Qlik Sense right now"
    : users === 1 ? "One person is on Qlik Sense" : `${numbers.format(users)} people are on Qlik Sense`;
  byId("subline").textContent = `${count(sessions, "session")} with ${count(connections, "app")} open`;
  document.title = users === 0 ? "Nobody on Qlik Sense" : `${numbers.format(users)} on Qlik Sense`;
  drawDay(view);
  drawHealth(view.health);
  drawBars("apps", view.apps.map((app) => [app.name, app.sessions, count(app.sessions, "session")]), "app", "No app is open.");
  drawBars("nodes", view.nodes.map((node) => [node.name, node.sessions,
    `${count(node.sessions, "session")}, ${age(state.at - Date.parse(node.last_event))} ago`]), "node", "No node has sent an event yet.");
  drawEvents(view.events);
  drawSessions(view);
}

function drawDay(view) {
  const { peak, day } = view;
  const steps = day.sessions, midnight = Date.parse(day.midnight), length = Math.max(DAY, steps.length * day.step * 1000);
  const most = Math.max(1, ...steps.map((step) => step || 0));
  const x = (index) => (index * day.step * 1000 / length) * 1000;
  const y = (value) => 98 - (value / most) * 92;
  let edge = "", area = "", begin = -1;
  for (let i = 0; i <= steps.length; i++) {
    const value = i < steps.length ? steps[i] : null;
    if (value === null || value === undefined) {
      if (begin >= 0) area += `L${x(i).toFixed(1)} 100L${x(begin).toFixed(1)} 100Z`;
      begin = -1;
      continue;
    }
    const points = `${x(i).toFixed(1)} ${y(value).toFixed(1)}L${x(i + 1).toFixed(1)} ${y(value).toFixed(1)}`;
    edge += (begin < 0 ? "M" : "L") + points;
    area += (begin < 0 ? "M" : "L") + points;
    if (begin < 0) begin = i;
  }
  const curve = byId("curve");
  const paths = ["area", "edge"].map((name, i) => {
    const path = curve.children[i] || document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", name);
    path.setAttribute("d", i ? edge : area);
    return path;
  });
  if (!curve.children.length) curve.append(...paths);
  const peakAt = Date.parse(peak.at), since = Date.parse(peak.since);
  const summit = byId("summit");
  summit.hidden = peak.sessions === 0;
  summit.style.left = `${(peakAt - midnight) / length * 100}%`;
  summit.style.top = `${y(peak.sessions)}%`;
  byId("peak").textContent = (peak.sessions ? `most at ${clock(peakAt)}: ${count(peak.sessions, "session")}` : "no session yet")
    + (since > midnight ? ` (watched since ${clock(since)})` : "");
  const hours = byId("hours");
  if (!hours.children.length) {
    for (let hour = 0; hour <= 24; hour += 3) {
      const mark = make("span", "", two(hour));
      mark.style.left = `${hour / 24 * 100}%`;
      hours.append(mark);
    }
  }
}

function drawHealth(health) {
  const verdict = byId("verdict");
  verdict.className = health.level;
  verdict.textContent = { good: "all is well", attention: "worth a look", bad: "something is wrong" }[health.level] || "";
  byId("rate").textContent = `${numbers.format(health.events_per_second)} events/s, ${numbers.format(health.pending)} waiting`;
  byId("health").replaceChildren(...health.notes.map((note) => make("li", note.level, note.text)));
}

function drawBars(id, bars, field, none) {
  const most = Math.max(1, ...bars.map((bar) => bar[1]));
  const items = bars.map(([name, value, text]) => {
    const item = make("li");
    const fill = make("span", "fill");
    fill.style.width = `${value / most * 100}%`;
    const label = make("bdi", "name", name);
    label.title = `Show only ${name}`;
    label.dataset.filter = name;
    label.dataset.field = field;
    item.append(fill);
    if (field === "app") item.append(make("span", `swatch ${colour(name)}`));
    item.append(label, make("span", "value", text));
    return item;
  });
  byId(id).replaceChildren(...(items.length ? items : [make("li", "quiet", none)]));
}

function drawEvents(events) {
  const list = byId("events");
  for (const event of events) {
    const item = make("li", event.warning ? "warning" : "");
    item.append(make("time", "", clock(Date.parse(event.time), true)), make("span", "", event.text));
    list.prepend(item);
  }
  while (list.children.length > EVENTS_SHOWN) list.lastChild.remove();
  if (!list.children.length) list.append(make("li", "quiet none", "Nothing yet."));
  else if (events.length) list.querySelectorAll(".none").forEach((item) => item.remove());
}

function drawSessions(view) {
  const sessions = view.sessions;
  const filtered = FIELDS.slice(0, 3).some((field) => byId(field).value.trim());
  byId("shown").textContent = sessions.length < view.matching
    ? `${numbers.format(sessions.length)} of ${count(view.matching, "session")}`
    : count(view.matching, "session");
  const more = byId("more");
  more.hidden = sessions.length >= view.matching || state.limit >= LIMIT_MAX;
  const nobody = byId("nobody");
  nobody.hidden = sessions.length > 0;
  nobody.textContent = filtered ? "Nobody who matches." : "Nobody is on. A session appears here as soon as somebody logs in.";

  // One time for all rows, so that they can be compared: long enough for most of them, half a day at most. The few that
  // are longer begin at the edge.
  const ages = sessions.map((session) => state.at - Date.parse(session.since)).sort((left, right) => left - right);
  const most = ages[Math.floor(ages.length * 0.85)] || 0;
  const length = Math.min(12 * HOUR, Math.max(10 * MINUTE, most * 1.02));
  state.window = { begin: state.at - length, length };
  drawAxis();

  const rows = byId("rows"), before = state.rows, after = new Map();
  let place = rows.firstElementChild;
  for (const session of sessions) {
    const text = JSON.stringify(session);
    let row = before.get(session.id);
    if (!row) row = { element: make("li"), text: "" };
    if (row.text !== text) {
      fill(row, session);
      row.text = text;
    }
    after.set(session.id, row);
    // Rows that stay in their order are not touched.
    while (place && place !== row.element && !stays(place, sessions)) {
      const gone = place;
      place = place.nextElementSibling;
      gone.remove();
    }
    if (place === row.element) place = place.nextElementSibling;
    else rows.insertBefore(row.element, place);
  }
  while (place) {
    const gone = place;
    place = place.nextElementSibling;
    gone.remove();
  }
  state.rows = after;
  settle();
}

let staying = { of: null, ids: new Set() };
function stays(element, sessions) {
  if (staying.of !== sessions) staying = { of: sessions, ids: new Set(sessions.map((session) => session.id)) };
  return staying.ids.has(element.dataset.id);
}

function fill(row, session) {
  const who = make("div", `who ${session.state}`);
  const name = make("span", "name", session.user);
  const about = [session.browser, session.node, session.virtual_proxy].filter(Boolean).join(" · ");
  who.append(make("span", "state"), name, make("span", "about", about));
  who.title = [
    session.user,
    `${session.state}, last event ${clock(Date.parse(session.last_event), true)}`,
    `${session.connections_open} open, ${session.connections_opened} ever opened`,
    session.since_inferred ? `here since ${clock(Date.parse(session.since))} or before` : `here since ${clock(Date.parse(session.since))}`,
    `trace ${session.trace_id}`,
  ].join("\n");

  const track = make("div", "track");
  const whole = make("div", session.since_inferred ? "whole inferred" : "whole");
  track.append(whole);
  const bars = [{ element: whole, from: Date.parse(session.since), to: Infinity }];
  const parts = session.closed.map((part) => ({ app: part.app, from: Date.parse(part.since), to: Date.parse(part.until) }))
    .concat(session.apps.map((part) => ({ app: part.app, from: Date.parse(part.since), to: Infinity })));
  parts.sort((a, b) => a.from - b.from);
  const lanes = [];
  let hidden = session.connections_open - session.apps.length;
  for (const part of parts) {
    let lane = lanes.findIndex((end) => end <= part.from);
    if (lane < 0) lane = lanes.length;
    if (lane >= LANES_MAX) {
      if (part.to === Infinity) hidden++;
      continue;
    }
    const before = lanes[lane] ?? -Infinity;
    lanes[lane] = part.to;
    const app = part.app || "a connection";
    const element = make("div", `part ${colour(app)}${part.to === Infinity ? "" : " closed"}`, app);
    element.title = `${app}\n${clock(part.from)} – ${part.to === Infinity ? "still open" : clock(part.to)}`;
    element.style.top = `${LANES_TOP + lane * LANE}px`;
    track.append(element);
    // A bar with no room for its name has it before it.
    const tag = part.to === Infinity ? make("span", "tag", app) : null;
    if (tag) {
      tag.style.top = element.style.top;
      track.append(tag);
    }
    bars.push({ element, tag, before, from: part.from, to: part.to, named: true });
  }
  if (hidden > 0) {
    const rest = make("span", "rest", `and ${hidden} more`);
    rest.style.top = `${LANES_TOP + lanes.length * LANE}px`;
    track.append(rest);
  }
  track.style.height = `${LANES_TOP + (lanes.length + (hidden > 0 ? 1 : 0)) * LANE}px`;

  const age = make("div", "age"), length = make("span"), idle = make("small");
  age.append(length, idle);
  row.element.dataset.id = session.id;
  row.element.replaceChildren(who, track, age);
  Object.assign(row, { bars, length, idle, since: Date.parse(session.since) });
  row.quietSince = session.state === "idle" ? Date.parse(session.last_event) : 0;
}

const now = () => state.at + Math.min(15000, performance.now() - state.heardAt);

// Bars and ages go on with the time.
function settle() {
  if (!state.window) return;
  const { begin, length } = state.window, end = state.at;
  const width = byId("axis").clientWidth;
  for (const row of state.rows.values()) {
    for (const bar of row.bars) {
      const from = Math.max(0, (bar.from - begin) / length), to = Math.min(1, (Math.min(bar.to, end) - begin) / length);
      bar.element.hidden = to <= 0 && bar.to !== Infinity;
      bar.element.style.left = `${Math.min(from, 0.996) * 100}%`;
      bar.element.style.width = `${Math.max(0, to - from) * 100}%`;
      if (!bar.named) continue;
      const isNarrow = (to - from) * width < 64;
      bar.element.classList.toggle("narrow", isNarrow);
      if (bar.tag) {
        const room = from - Math.max(0, (bar.before - begin) / length);
        bar.tag.hidden = !isNarrow || room * width < 50;
        bar.tag.style.right = `${(1 - Math.min(from, 0.996)) * 100}%`;
        bar.tag.style.maxWidth = `${room * 100}%`;
      }
    }
    row.length.textContent = age(now() - row.since);
    row.idle.textContent = row.quietSince ? `idle ${age(now() - row.quietSince)}` : "";
  }
}

function drawAxis() {
  const { begin, length } = state.window;
  const steps = [MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR];
  const room = Math.max(1, Math.min(7, byId("axis").clientWidth / 70));
  const step = steps.find((each) => length / each <= room) || 6 * HOUR;
  const offset = new Date(begin).getTimezoneOffset() * MINUTE;
  const marks = [];
  for (let time = Math.ceil((begin - offset) / step) * step + offset; time < begin + length * 0.9; time += step) {
    if (time < begin + length * 0.02) continue;
    const mark = make("span", "", clock(time));
    mark.style.left = `${(time - begin) / length * 100}%`;
    marks.push(mark);
  }
  const end = make("span", "", "now");
  end.style.left = "100%";
  byId("axis").replaceChildren(...marks, end);
}

// ---- What a person does

function begin() {
  const asked = new URLSearchParams(location.search);
  for (const field of FIELDS) if (asked.has(field)) byId(field).value = asked.get(field);
  if (!byId("order").value) byId("order").value = "newest";
  for (const field of FIELDS) byId(field).addEventListener("input", () => {
    clearTimeout(state.timer);
    state.timer = setTimeout(listen, 250);
  });
  byId("filter").addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", () => {
    state.limit = Math.min(LIMIT_MAX, state.limit * 2);
    listen();
  });
  document.addEventListener("click", (event) => {
    const { filter, field } = event.target.dataset || {};
    if (filter === undefined) return;
    byId(field).value = byId(field).value === filter ? "" : filter;
    listen();
  });
  // A page that nobody sees asks for nothing.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && state.source) state.source.close();
    else listen();
  });
  setInterval(() => {
    if (!state.at) return;
    if (!byId("dot").classList.contains("lost")) byId("clock").textContent = clock(now(), true);
    settle();
  }, 1000);
  listen();
}

begin();
