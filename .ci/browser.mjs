// What a person sees on the live page: run by `.ci/browser BROWSER BINARY [--picture FILE]`. Speaks the DevTools protocol
// over the pipe of `--remote-debugging-pipe`, so that nothing has to be installed beside the browser.
import { spawn } from "node:child_process";
import dgram from "node:dgram";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";

const [browserPath, binary, ...options] = process.argv.slice(2);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sense-otel-browser."));
const ended = [];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function fail(what) {
  throw new Error(what);
}

// ---- The receiver

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function receiver() {
  const udp = await freePort(), page = await freePort();
  const config = path.join(folder, "sense-otel.yaml");
  fs.writeFileSync(config, `receiver: { udp: { endpoint: "127.0.0.1:${udp}" } }
admin: { endpoint: "localhost:${page}" }
exporter: { endpoint: "http://127.0.0.1:9" }
`);
  const url = `http://localhost:${page}`;
  const start = async () => {
    const child = spawn(binary, ["run", "--in-memory", "--config", config], { stdio: "ignore" });
    ended.push(() => child.kill());
    for (let tries = 0; ; tries++) {
      if (await fetch(`${url}/status`).then((answer) => answer.ok, () => false)) return child;
      if (tries > 100) fail("the receiver does not answer");
      await sleep(50);
    }
  };
  const again = { url, udp, child: await start() };
  again.stop = () => new Promise((resolve) => {
    again.child.on("exit", resolve);
    again.child.kill();
  });
  again.start = async () => {
    again.child = await start();
  };
  return again;
}

// A site in the hand of the test.
class Site {
  constructor(port) {
    this.port = port;
    this.socket = dgram.createSocket("udp4");
    this.sequences = new Map();
    ended.push(() => this.socket.close());
  }

  // An event in our own format; `at` in milliseconds.
  async send(node, session, command, user, { app, at = Date.now(), agent = CHROME, directory = "LAB" } = {}) {
    const sequence = (this.sequences.get(node) || 0) + 1;
    this.sequences.set(node, sequence);
    const id = app ? appId(app) : "(null)";
    const fields = ["/sense-otel/1/", sequence, new Date(at).toISOString(), node, session, command, 0, directory, user,
      "AppAccess", id, app || "(null)", app ? `/app/${id}` : "Not available", `x UserAgent: '${agent}'`];
    const text = fields.join("\t");
    await new Promise((resolve, reject) => this.socket.send(text, this.port, "127.0.0.1", (error) => (error ? reject(error) : resolve())));
  }
}

const CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
const SAFARI = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15";
const sessionId = (number) => `c0de0000-0000-4000-8000-${number.toString(16).padStart(12, "0")}`;
const appId = (name) => {
  let hash = 1;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 0xffffffff;
  return `a421f4a2-c311-4ef4-ba41-${hash.toString(16).padStart(12, "0")}`;
};

// ---- The browser

class Browser {
  static async start() {
    const child = spawn(browserPath, ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
      "--hide-scrollbars", "--no-first-run", "--disable-background-networking", `--user-data-dir=${folder}/profile`, "about:blank"],
    { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    ended.push(() => child.kill("SIGKILL"));
    const browser = new Browser();
    Object.assign(browser, { child, next: 1, calls: new Map(), requests: [], complaints: [] });
    let rest = "";
    child.stdio[4].on("data", (data) => {
      const messages = (rest + data.toString("utf8")).split("\0");
      rest = messages.pop();
      for (const message of messages) browser.heard(JSON.parse(message));
    });
    const { targetInfos } = await browser.call("Target.getTargets");
    const target = targetInfos.find((info) => info.type === "page") || fail("the browser has no page");
    ({ sessionId: browser.session } = await browser.call("Target.attachToTarget", { targetId: target.targetId, flatten: true }));
    for (const domain of ["Page", "Runtime", "Network", "Log", "Audits"]) await browser.call(`${domain}.enable`);
    return browser;
  }

  heard({ id, result, error, method, params }) {
    if (id) {
      const { resolve, reject } = this.calls.get(id);
      this.calls.delete(id);
      return error ? reject(new Error(error.message)) : resolve(result);
    }
    if (method === "Network.requestWillBeSent") this.requests.push(params.request.url);
    if (method === "Runtime.exceptionThrown") this.complaints.push(params.exceptionDetails.exception?.description || params.exceptionDetails.text);
    if (method === "Log.entryAdded" && params.entry.level === "error") this.complaints.push(`${params.entry.text} ${params.entry.url || ""}`);
    if (method === "Audits.issueAdded" && params.issue.code === "ContentSecurityPolicyIssue") this.complaints.push(JSON.stringify(params.issue.details));
  }

  call(method, params = {}) {
    const id = this.next++;
    const sessionId = this.session && !method.startsWith("Target.") ? this.session : undefined;
    this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((resolve, reject) => this.calls.set(id, { resolve, reject }));
  }

  async run(expression) {
    const { result, exceptionDetails } = await this.call("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) fail(`${expression}: ${exceptionDetails.exception?.description || exceptionDetails.text}`);
    return result.value;
  }

  // Waits until an expression is true.
  async until(what, expression, within = 15000) {
    for (const began = Date.now(); ; await sleep(50)) {
      if (await this.run(expression)) return;
      if (Date.now() - began > within) {
        fail(`${what}: not within ${within} ms; the page says: ${await this.run("document.body.innerText.slice(0, 1500)")}`);
      }
    }
  }

  async open(url) {
    await this.call("Page.navigate", { url });
    await this.until("the page is connected", "document.readyState === 'complete' && document.getElementById('dot')?.className === 'dot '");
  }

  async size(width, height, scheme) {
    await this.call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
    await this.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  }

  async picture(file) {
    const { data } = await this.call("Page.captureScreenshot", { format: "png" });
    fs.writeFileSync(file, Buffer.from(data, "base64"));
  }
}

const ROWS = "document.querySelectorAll('#rows > li').length";
const NAMES = "[...document.querySelectorAll('#rows .name')].map((name) => name.textContent)";
const same = (left, right) => JSON.stringify(left) === JSON.stringify(right);
const type = (field, text) => `{ const field = document.getElementById("${field}"); field.value = ${JSON.stringify(text)};
  field.dispatchEvent(new Event("input", { bubbles: true })); }`;

// ---- What is checked

async function content(browser, site, url) {
  await browser.open(url);
  await browser.until("nobody is on", "document.getElementById('headline').textContent === 'Nobody is on Qlik Sense right now'");
  const now = Date.now();
  await site.send("node1", sessionId(1), "Start session", "anna", { at: now - 7200e3 });
  await site.send("node1", sessionId(1), "Open connection", "anna", { app: "Sales", at: now - 7000e3 });
  await site.send("node1", sessionId(1), "Close connection", "anna", { app: "Sales", at: now - 3600e3 });
  await site.send("node1", sessionId(1), "Open connection", "anna", { app: "Energy", at: now - 3500e3 });
  await site.send("node2", sessionId(2), "Start session", "bo", { at: now - 2000e3, agent: SAFARI });
  await browser.until("two people", "document.getElementById('headline').textContent === '2 people are on Qlik Sense'");
  const rows = await browser.run(`[...document.querySelectorAll('#rows > li')].map((row) => [row.querySelector('.name').textContent,
    row.querySelector('.about').textContent, [...row.querySelector('.age').children].map((each) => each.textContent).join(' ').trim(), row.querySelector('.who').className,
    [...row.querySelectorAll('.part')].map((part) => part.textContent + (part.classList.contains('closed') ? ' closed' : ''))])`);
  const expected = [["LAB\\bo", "Safari 17, macOS · node2", "33m idle 33m", "who idle", []],
    ["LAB\\anna", "Chrome 126, Windows · node1", "2h 00m", "who active", ["Sales closed", "Energy"]]];
  if (!same(rows, expected)) fail(`rows: ${JSON.stringify(rows)}`);
  // Bars stand where their times are: the whole of anna's from the left, Energy in the second half and to the end.
  const [whole, sales, energy] = await browser.run(`[...document.querySelectorAll('#rows > li')[1].querySelectorAll('.whole, .part')]
    .map((bar) => { const track = bar.parentElement.getBoundingClientRect(), box = bar.getBoundingClientRect();
      return [(box.left - track.left) / track.width, (box.right - track.left) / track.width]; })`);
  const near = (value, wanted) => Math.abs(value - wanted) < 0.03;
  if (!near(whole[0], 0.02) || !near(whole[1], 1) || !near(sales[0], 0.05) || !near(sales[1], 0.51) || !near(energy[0], 0.52) || !near(energy[1], 1)) {
    fail(`bars: ${JSON.stringify([whole, sales, energy])}`);
  }
  for (const [id, text] of [["apps", "Energy"], ["nodes", "node2"], ["health", "The backend has taken no logs"], ["events", "LAB\\anna opened Energy"],
    ["peak", "2 sessions"], ["subline", "2 sessions with 1 app open"]]) {
    await browser.until(`${id} says "${text}"`, `document.getElementById("${id}").textContent.includes(${JSON.stringify(text)})`);
  }
}

async function live(browser, site) {
  await browser.run("window.before = document.querySelector('#rows > li:last-child')");
  await site.send("node2", sessionId(3), "Start session", "cecilia");
  const sent = Date.now();
  await browser.until("cecilia is on", `${NAMES}[0] === 'LAB\\\\cecilia'`);
  await browser.until("and it is told", "document.querySelector('#events li').textContent.includes('cecilia started a session')");
  console.log(`live: seen after ${Date.now() - sent} ms`);
  if (!(await browser.run("window.before === document.querySelector('#rows > li:last-child')"))) fail("rows of others were made anew");
  await site.send("node2", sessionId(3), "Stop session", "cecilia");
  await browser.until("cecilia is gone", `${ROWS} === 2`);
}

async function filter(browser) {
  for (const [field, text, expected] of [["user", "ANNA", ["LAB\\anna"]], ["user", "", ["LAB\\bo", "LAB\\anna"]], ["app", "energ", ["LAB\\anna"]],
    ["app", "", ["LAB\\bo", "LAB\\anna"]], ["node", "node2", ["LAB\\bo"]], ["node", "nowhere", []], ["node", "", ["LAB\\bo", "LAB\\anna"]]]) {
    await browser.run(type(field, text));
    await browser.until(`${field} = "${text}"`, `JSON.stringify(${NAMES}) === ${JSON.stringify(JSON.stringify(expected))}`);
  }
  await browser.run("document.querySelector('#apps .name').click()");
  await browser.until("a click on an app", `JSON.stringify(${NAMES}) === '["LAB\\\\\\\\anna"]' && location.search === '?app=Energy'`);
  await browser.call("Page.reload");
  await browser.until("the address keeps it", `JSON.stringify(${NAMES}) === '["LAB\\\\\\\\anna"]' && document.getElementById('app').value === 'Energy'`);
  await browser.run(type("app", ""));
  await browser.until("everyone again", `${ROWS} === 2`);
}

async function hostile(browser, site) {
  const attack = (number) => `<img src=x onerror="window.hacked=${number}"><script>window.hacked=${number}</script>`;
  const elements = "document.querySelectorAll('img, iframe, object, script').length";
  const before = await browser.run(elements);
  await site.send(attack(1), sessionId(66), "Start session", attack(2), { directory: "<b>", agent: attack(3) });
  await site.send(attack(1), sessionId(66), "Open connection", attack(2), { app: attack(4), directory: "<b>", agent: attack(3) });
  await browser.until("the name stands there as text", `${NAMES}.includes(${JSON.stringify(`<b>\\${attack(2)}`)})`);
  for (const id of ["apps", "nodes", "events", "rows"]) {
    await browser.until(`${id} has it as text`, `document.getElementById("${id}").textContent.includes("<img src=x onerror=")`);
  }
  await browser.run("document.querySelectorAll('#apps .name, #nodes .name').forEach((name) => { name.click(); name.click(); })");
  await sleep(500);
  if ((await browser.run(elements)) !== before) fail("a name became an element");
  if ((await browser.run("typeof window.hacked")) !== "undefined") fail("a name was run");
  // And if a script of ours made HTML of it after all, the browser would not let it.
  const refused = await browser.run("try { document.createElement('p').innerHTML = '<i>'; 'taken' } catch (error) { error.name }");
  if (refused !== "TypeError") fail(`the browser lets HTML be made: ${refused}`);
  // That was us.
  await sleep(200);
  browser.complaints = browser.complaints.filter((complaint) => !/TrustedHTML|TrustedTypes/i.test(complaint));
}

async function many(browser, site) {
  for (let user = 0; user < 10000; user++) {
    await site.send(`node${user % 4}`, sessionId(1000 + user), "Start session", `user${String(user).padStart(5, "0")}`);
    if (user % 3 === 0) await site.send(`node${user % 4}`, sessionId(1000 + user), "Open connection", `user${String(user).padStart(5, "0")}`, { app: `App ${user % 50}` });
    if (user % 200 === 0) await sleep(5);
  }
  await browser.until("10,003 people", "document.getElementById('headline').textContent === '10,003 people are on Qlik Sense'", 30000);
  if ((await browser.run(ROWS)) !== 200) fail(`${await browser.run(ROWS)} rows`);
  await browser.run("document.getElementById('more').click()");
  await browser.until("more of them", `${ROWS} === 400`);
  for (let step = 0; step < 2; step++) {
    await browser.run("document.getElementById('more').click()");
    await sleep(1500);
  }
  await browser.until("1,000 of them", `${ROWS} === 1000 && document.getElementById('more').hidden`);
  // How long the page cannot listen to a person, at most, while it draws 1,000 rows each second.
  const stall = await browser.run(`new Promise((resolve) => { let last = performance.now(), worst = 0, began = last;
    const turn = () => { const now = performance.now(); worst = Math.max(worst, now - last); last = now;
      if (now - began > 4000) resolve(worst); else setTimeout(turn, 0); }; turn(); })`);
  console.log(`many: 10,003 people, 1,000 rows; the page was busy for ${Math.round(stall)} ms at a time at most`);
  if (stall > 1000) fail(`the page stood still for ${stall} ms`);
  await browser.run(type("user", "user09999"));
  await browser.until("one of ten thousand", `JSON.stringify(${NAMES}) === '["LAB\\\\\\\\user09999"]'`);
}

async function looks(browser) {
  const colours = [];
  for (const scheme of ["light", "dark"]) {
    await browser.size(1440, 1000, scheme);
    colours.push(await browser.run("getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color"));
  }
  if (colours[0] === colours[1]) fail(`light and dark are the same: ${colours}`);
  for (const width of [1440, 900, 390]) {
    await browser.size(width, 900, "light");
    const overflow = await browser.run("document.documentElement.scrollWidth - innerWidth");
    if (overflow > 0) fail(`at ${width} pixels the page is ${overflow} too wide`);
  }
}

// Somebody restarts the receiver while the page is open.
async function restart(browser, site, url, running) {
  await browser.open(url);
  await running.stop();
  await browser.until("it says so", "document.getElementById('dot').className === 'dot lost' && document.getElementById('clock').textContent.includes('trying again')");
  await running.start();
  await browser.until("it is back, with nobody", "document.getElementById('dot').className === 'dot ' && document.getElementById('headline').textContent.startsWith('Nobody')", 30000);
  await site.send("node9", sessionId(9), "Start session", "zoe");
  await browser.until("and hears again", `${NAMES}.some((name) => name.endsWith("zoe")) && document.getElementById("events").children.length === 1`);
  browser.complaints = browser.complaints.filter((complaint) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING/.test(complaint));
}

async function check() {
  const running = await receiver(), { url, udp } = running;
  const browser = await Browser.start(), site = new Site(udp);
  await browser.size(1440, 1000, "light");
  for (const [name, step] of Object.entries({ content, live, filter, hostile, many, looks, restart })) {
    await step(browser, site, url, running);
    console.log(`${name}: ok`);
  }
  const foreign = browser.requests.filter((request) => !request.startsWith(`${url}/`) && request !== "about:blank");
  if (foreign.length) fail(`the page asked elsewhere: ${foreign}`);
  if (browser.complaints.length) fail(`the browser complained: ${browser.complaints.join("\n")}`);
  console.log("no request to elsewhere, no complaint of the browser: ok");
}

// ---- The picture of the documentation

// The page of `sense-otel demo` late in the morning of its day, in a time zone where that day begins in the morning.
async function picture(file) {
  const ahead = Math.max(-12, Math.min(14, 16 - new Date().getUTCHours()));
  process.env.TZ = `Etc/GMT${ahead > 0 ? "-" : "+"}${Math.abs(ahead)}`;
  const child = spawn(binary, ["demo", "--sessions", "1500", "--speed", "400"], { stdio: ["ignore", "pipe", "ignore"] });
  ended.push(() => child.kill());
  const url = await new Promise((resolve) => {
    let text = "";
    child.stdout.on("data", (data) => {
      const found = /http:\/\/localhost:\d+\//.exec((text += data));
      if (found) resolve(found[0]);
    });
  });
  const browser = await Browser.start();
  await browser.size(1400, 1050, "light");
  await browser.open(`${url}?order=active`);
  const hour = "Number(document.getElementById('clock').textContent.slice(0, 2))";
  await browser.until("late in the morning", `${hour} >= 11 && ${hour} < 20`, 90000);
  for (const scheme of ["light", "dark"]) {
    await browser.size(1400, 1050, scheme);
    await sleep(300);
    await browser.picture(file.replace(/(\.png)?$/, scheme === "light" ? ".png" : "-dark.png"));
  }
}

try {
  await (options[0] === "--picture" ? picture(options[1]) : check());
} catch (error) {
  console.error(`FAILED: ${error.message}`);
  process.exitCode = 1;
} finally {
  ended.forEach((end) => end());
  await sleep(300);
  fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  process.exit();
}
