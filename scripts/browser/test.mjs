// Opens every kind of page of a report in a real browser: with and without scripts, in light and
// dark, on a desk and on a telephone. Looks for errors, for accessibility faults (axe-core) and for
// texts of others that become HTML; uses the search and sorts tables; sees the live page move, by
// a simulated scan of many relays and by a real one on a private network.
//
// Usage: test.mjs BWSCAN SIMULATED DEMO OUTPUT
//   BWSCAN     the program
//   SIMULATED  the example `simulated` of bw-watch, whose scan the live page shows
//   DEMO       the directory that `bwscan demo` wrote
//   OUTPUT     where screenshots and the report are written
import { AxeBuilder } from "@axe-core/playwright";
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [bwscan, simulated, demo, output] = process.argv.slice(2);
if (!output) {
  console.error("usage: test.mjs BWSCAN SIMULATED DEMO OUTPUT");
  process.exit(2);
}
const HOSTILE = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>";
// A nickname that no authority would list: it has no space, which ends one in a consensus.
const NICKNAME = "<img/src=x/onerror=alert(3)>";
const DESK = { width: 1280, height: 900 };
const TELEPHONE = { width: 390, height: 844 };

fs.rmSync(output, { recursive: true, force: true });
fs.mkdirSync(path.join(output, "shots"), { recursive: true });
const data = path.join(output, "data");
const problems = [];
const problem = (where, what) => {
  problems.push(`${where}: ${what}`);
  console.error(`FAIL ${where}: ${what}`);
};

// Copies the store, and adds a scan whose scanner, destination and failure try to be HTML. Beside it
// are a consensus and descriptors of the same relays: one has such a nickname and version.
function hostileStore() {
  fs.cpSync(path.join(demo, "data"), data, {
    recursive: true, filter: (name) => !name.includes("data/tor"),
  });
  const lines = execFileSync(bwscan, ["export", "--data-dir", data], { maxBuffer: 1 << 30 })
    .toString().trim().split("\n").map((line) => JSON.parse(line));
  const id = "f".repeat(32);
  const { scan } = lines.find((line) => line.scan);
  const { outcome } = lines.find((line) => line.outcome?.outcome.measured).outcome;
  const { attempt, ended, timings } = outcome.measured;
  const before = 3_600_000;
  Object.assign(attempt, { scan: id, destination: HOSTILE, started: attempt.started - before });
  const failed = { attempt, ended: ended - before, timings, stage: "create", kind: "timeout",
    blame: "target", detail: HOSTILE, bytes: 0 };
  const added = [
    { scan: { ...scan, id, scanner: HOSTILE, started: scan.started - before, ended: null } },
    { outcome: { scan: id, verdict: { kind: "charged" }, outcome: { failed } } },
  ];
  const file = path.join(output, "hostile.jsonl");
  fs.writeFileSync(file, added.map((line) => JSON.stringify(line)).join("\n") + "\n");
  execFileSync(bwscan, ["import", "--data-dir", data, "jsonl", file], { stdio: "inherit" });
  const targets = new Map(lines.filter((line) => line.outcome)
    .map((line) => Object.values(line.outcome.outcome)[0].attempt.target)
    .map((target) => [target.fingerprint, target]));
  hostileDirectory([...targets.values()], attempt.target.fingerprint);
  return { ...attempt.target, nickname: NICKNAME };
}

// Writes a consensus and descriptors of these relays.
function hostileDirectory(targets, victim) {
  const time = (millis) => new Date(millis).toISOString().slice(0, 19).replace("T", " ");
  const now = Math.max(...targets.map((target) => target.descriptor.published));
  const base64 = (hex) => Buffer.from(hex, "hex").toString("base64").replace(/=+$/, "");
  const relay = ({ fingerprint, nickname, address, consensus_weight: weight }) => {
    const [name, version] = fingerprint === victim ? [NICKNAME, HOSTILE] : [nickname, "0.4.9.11"];
    return `r ${name} ${base64(fingerprint)} ${base64(fingerprint)} ${time(now)} ${address} 9001 0\n`
      + `s ${nickname.startsWith("exit") ? "Exit " : ""}Fast Guard Running Stable Valid\n`
      + `v Tor ${version}\nw Bandwidth=${weight}\n`;
  };
  const descriptor = ({ fingerprint, descriptor: { published, average, burst, observed } }) =>
    `router x 127.0.0.1 9001 0 0\nfingerprint ${fingerprint}\npublished ${time(published)}\n`
      + `bandwidth ${average} ${burst} ${observed}\nrouter-signature\n`;
  const head = "network-status-version 3\nvote-status consensus\n" + ["valid-after", "fresh-until", "valid-until"]
    .map((name, hours) => `${name} ${time(now + hours * 3_600_000)}\n`).join("");
  fs.writeFileSync(path.join(output, "consensus"), `${head}${targets.map(relay).join("")}directory-footer\n`);
  fs.writeFileSync(path.join(output, "descriptors"), targets.map(descriptor).join(""));
}

// Copies the newest bandwidth file, and adds those of three days before: each has other weights, and
// one lacks its first relay. The last path is that of the newest.
function severalDays() {
  const folder = path.join(output, "v3bw");
  fs.mkdirSync(folder);
  const dated = fs.readdirSync(path.join(demo, "v3bw")).filter((name) => /^\d{8}_\d{6}\.v3bw$/.test(name));
  const newest = dated.toSorted().at(-1);
  const [time, ...lines] = fs.readFileSync(path.join(demo, "v3bw", newest), "utf8").split("\n");
  const number = (line) => line.replace(/\bbw=(\d+)/, (_, bw) => `bw=${Math.ceil(bw * (0.6 + Math.random()))}`);
  const paths = [3, 2, 1].map((days) => {
    const seconds = Number(time) - days * 86_400;
    const stamp = new Date(seconds * 1000).toISOString();
    const name = `${stamp.slice(0, 19).replace(/[-:]/g, "").replace("T", "_")}.v3bw`;
    const first = lines.findIndex((line) => /\bbw=/.test(line));
    const kept = lines.filter((_, index) => days !== 2 || index !== first);
    const text = kept.map(number).join("\n").replace(/^(file_created|latest_bandwidth)=.*$/gm,
      `$1=${stamp.slice(0, 19)}`);
    const file = path.join(folder, name);
    fs.writeFileSync(file, `${seconds}\n${text}`);
    return file;
  });
  fs.copyFileSync(path.join(demo, "v3bw", newest), path.join(folder, newest));
  fs.symlinkSync(newest, path.join(folder, "latest.v3bw"));
  return [...paths, path.join(folder, newest)];
}

// Starts a program, and waits for the first line that `pattern` fits.
const started = [];
function start(program, args, pattern) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  started.push(child);
  return new Promise((resolve, reject) => {
    let text = "";
    if (!pattern) { resolve(child); }
    child.stdout.on("data", (chunk) => {
      text += chunk;
      const found = pattern && text.match(pattern);
      if (found) { resolve(found[0]); }
    });
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}: ${text}`)));
  });
}

// A page that notes what goes wrong on it.
async function open(context, url, where) {
  const page = await context.newPage();
  page.on("console", (message) => {
    if (message.type() === "error") { problem(where, `console: ${message.text()}`); }
  });
  page.on("pageerror", (error) => problem(where, `script: ${error}`));
  page.on("dialog", (dialog) => { problem(where, `dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("requestfailed", (request) => {
    // A stream of events ends when its page is closed.
    if (!request.url().endsWith("/events")) { problem(where, `request failed: ${request.url()}`); }
  });
  const response = await page.goto(url, { waitUntil: "load" });
  if (response && response.status() !== 200) { problem(where, `status ${response.status()}`); }
  return page;
}

async function check(page, where) {
  if ((await page.locator("main h1").count()) !== 1) { problem(where, "not one heading"); }
  if ((await page.locator("img[src=x]").count()) !== 0) { problem(where, "a text became HTML"); }
  const wider = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth + 1);
  if (wider) { problem(where, "the page is wider than the screen"); }
}

async function accessible(page, where) {
  // From a disk axe may not read the style sheet; the server's pages are the same.
  if (page.url().startsWith("file:")) { return; }
  const { violations } = await new AxeBuilder({ page }).analyze();
  for (const { id, impact, nodes } of violations) {
    const text = `axe: ${id} (${impact}): ${nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`;
    if (impact === "serious" || impact === "critical") { problem(where, text); }
    else { console.log(`note ${where}: ${text}`); }
  }
}

async function shot(page, name) {
  // Pictures below the first screen are loaded only when somebody scrolls there.
  await page.evaluate(() => Promise.all([...document.images].map((image) => {
    image.loading = "eager";
    return image.decode();
  })));
  await page.screenshot({ path: path.join(output, "shots", `${name}.png`), fullPage: true });
}

async function everyPage(browser, base, pages) {
  for (const [look, viewport, colorScheme] of [["desk", DESK, "light"], ["telephone", TELEPHONE, "dark"]]) {
    const context = await browser.newContext({ viewport, colorScheme });
    for (const [name, address] of pages) {
      const where = `${name}, ${look}`;
      const page = await open(context, base + address, where);
      await check(page, where);
      await accessible(page, where);
      await shot(page, `${name}-${look}`);
      await page.close();
    }
    await context.close();
  }
}

async function withoutScripts(browser, base, pages) {
  const context = await browser.newContext({ javaScriptEnabled: false, viewport: DESK });
  for (const [name, address] of pages) {
    const where = `${name}, without scripts`;
    const page = await open(context, base + address, where);
    if ((await page.locator("main").innerText()).length < 40) { problem(where, "says nothing"); }
    await page.close();
  }
  // Lists lead to a relay.
  const page = await open(context, base + "relays.html", "lists, without scripts");
  await page.locator("main a[href^='list/']").first().click();
  await page.locator("main a[href*='relay/']").first().click();
  if (!page.url().includes("/relay/")) { problem("lists, without scripts", "lead to no relay"); }
  await context.close();
}

async function search(browser, base, { fingerprint, nickname }) {
  const context = await browser.newContext({ viewport: DESK });
  const page = await open(context, base + "index.html", "search");
  const field = page.getByRole("combobox");
  await field.click();
  await field.fill(fingerprint.slice(0, 10));
  const found = page.getByRole("option");
  await found.first().waitFor();
  if (!(await found.first().innerText()).includes(nickname)) { problem("search", "another relay is found"); }
  await shot(page, "search");
  await field.press("Enter");
  await page.waitForURL(`**/relay/${fingerprint}.html`);
  if (!(await page.locator("main").innerText()).includes(HOSTILE)) { problem("search", "a detail is not shown"); }
  await field.click();
  await field.fill("family:no such relay");
  await page.getByText("No relay fits.").waitFor();
  await field.fill("no such relay at all");
  await page.getByText("No relay fits.").waitFor();
  await context.close();
}

// Presses the heads of a column, and looks at the order of its cells.
async function sorting(browser, base) {
  const context = await browser.newContext({ viewport: DESK });
  const page = await open(context, base + "relays.html", "sorting");
  const table = page.locator("table").last();
  const cells = async (column) => (await table.locator(`tbody td:nth-child(${column})`).allInnerTexts());
  const weights = async () => (await cells(2)).map((text) => Number(text.replace(/,/g, "")));
  const head = (name) => table.getByRole("columnheader", { name }).getByRole("button");
  const before = await weights();
  await head("Weight").click();
  await head("Weight").click();
  const after = await weights();
  if (before.length < 3 || after.join() !== before.toReversed().toSorted((a, b) => a - b).join()) {
    problem("sorting", `weights come as ${after}`);
  }
  await head("Address").click();
  const addresses = await cells(5);
  const number = (text) => text.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  if (addresses.some((text, index) => index > 0 && number(text) < number(addresses[index - 1]))) {
    problem("sorting", `addresses come as ${addresses}`);
  }
  await accessible(page, "sorting");
  await shot(page, "sorted");
  await context.close();
}

async function live(browser, base) {
  const context = await browser.newContext({ viewport: DESK });
  const page = await open(context, base + "live.html", "live");
  const content = () => page.locator("#live-running").innerText();
  const first = await content();
  await page.waitForFunction((before) => Number(document.documentElement.dataset.moved) >= 5 &&
    document.getElementById("live-running").innerText !== before, first, { timeout: 180_000 });
  await page.waitForFunction(() => document.querySelectorAll("#live-recent tr").length >= 5, null,
    { timeout: 120_000 });
  await accessible(page, "live, moving");
  await shot(page, "live-moving");
  // As large as the other pictures of the README.
  await page.setViewportSize({ width: 1000, height: 700 });
  await page.screenshot({ path: path.join(output, "live.png") });
  await context.close();
  // Without scripts it loads itself again.
  const plain = await browser.newContext({ javaScriptEnabled: false });
  const still = await open(plain, base + "live.html", "live, without scripts");
  await still.waitForEvent("load", { timeout: 20_000 });
  await plain.close();
}

// A scan of real tor processes: measurements begin, show rates and end.
async function livePrivate(browser, base, socket) {
  const folder = path.join(output, "private");
  fs.rmSync(socket, { force: true });
  fs.symlinkSync(path.resolve(folder, "data", path.basename(socket)), socket);
  const scan = await start(bwscan, ["demo", "--output", folder, "--relays", "5", "--exits", "3"]);
  scan.stdout.resume();
  const context = await browser.newContext({ viewport: DESK });
  const page = await open(context, base + "live.html", "live, private network");
  const seen = (pattern) => page.waitForFunction((source) =>
    new RegExp(source).test(document.getElementById("live-running").innerText), pattern, { timeout: 180_000 });
  await seen("(relay|exit)\\d\\d[^]*[kM]B/s");
  const first = await page.locator("#live-running").innerText();
  await page.waitForFunction((before) => document.getElementById("live-running").innerText !== before, first,
    { timeout: 180_000 });
  await page.waitForFunction(() => document.querySelectorAll("#live-recent a").length >= 3, null,
    { timeout: 180_000 });
  await shot(page, "live-private");
  const outcomes = await page.locator("#live-recent").innerText();
  if (!/(relay|exit)\d\d/.test(outcomes)) { problem("live, private network", `outcomes are ${outcomes}`); }
  await context.close();
  const ended = new Promise((resolve) => { scan.removeAllListeners("exit"); scan.on("exit", resolve); });
  scan.kill("SIGTERM");
  await ended;
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
try {
  const victim = hostileStore();
  const report = path.join(output, "report");
  const days = severalDays();
  const files = ["--consensus", path.join(output, "consensus"),
    "--descriptors", path.join(output, "descriptors"), "--v3bw", path.join(output, "v3bw"),
    "--truth", path.join(demo, "capacities.json"), ...days.slice(1).flatMap((file) => ["--file", file])];
  execFileSync(bwscan, ["report", "--data-dir", data, "-o", report, ...files], { stdio: "inherit" });
  const list = fs.readdirSync(path.join(report, "list"));
  const kinds = [...new Set(list.map((name) => name.split("-")[0]))];
  const relays = fs.readdirSync(path.join(report, "relay")).slice(0, 2);
  const pages = [
    ["overview", "index.html"], ["relays", "relays.html"], ["figures", "figures.html"],
    ...kinds.map((kind) => [`list-${kind}`, `list/${list.find((name) => name.startsWith(kind))}`]),
    ["relay-hostile", `relay/${victim.fingerprint}.html`],
    ...relays.map((relay, index) => [`relay-${index + 1}`, `relay/${relay}`]),
    ["comparison", "comparison.html"],
  ];

  // From a disk, and from the server.
  const disk = pathToFileURL(report).href + "/";
  await everyPage(browser, disk, pages);
  await withoutScripts(browser, disk, pages);
  await search(browser, disk, victim);

  const listen = ["--listen", "127.0.0.1:0"];
  const base = await start(bwscan, ["web", "--data-dir", data, ...listen, ...files], /http:\S+/);
  const served = pages.map(([name, address]) => [`web-${name}`, address]);
  await everyPage(browser, base, served);
  await withoutScripts(browser, base, served);
  await search(browser, base, victim);
  await sorting(browser, base);

  const socket = path.join(data, "watch.sock");
  // It is ended long before it is over, even on a slow machine.
  const simulation = await start(simulated, [socket, "2000", "3600"]);
  const livePage = [["web-live", "live.html"]];
  await everyPage(browser, base, livePage);
  await withoutScripts(browser, base, livePage);
  await live(browser, base);
  simulation.removeAllListeners("exit");
  simulation.kill("SIGTERM");
  await livePrivate(browser, base, socket);
} finally {
  await browser.close();
  started.forEach((child) => { child.removeAllListeners("exit"); child.kill("SIGTERM"); });
}
console.log(`${problems.length} problems; screenshots in ${path.join(output, "shots")}`);
process.exit(problems.length === 0 ? 0 : 1);
