// Makes the pictures of the README: the overview, figures, a relay's page and its measurements, the
// terminal, and the live page.
//
// Usage: pictures.mjs REPORT WATCH BROWSER OUTPUT
//   REPORT   a report, such as demo/report
//   WATCH    where scripts/watch_sizes.py has written
//   BROWSER  where test.mjs has written
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [report, watch, seen, output] = process.argv.slice(2);
if (!output) {
  console.error("usage: pictures.mjs REPORT WATCH BROWSER OUTPUT");
  process.exit(2);
}
// All of them together.
const MOST = 450_000;

fs.mkdirSync(output, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const context = await browser.newContext({ viewport: { width: 1000, height: 700 }, colorScheme: "light" });
const page = await context.newPage();
const base = pathToFileURL(report).href + "/";
// The relay with the most measurements has most to show.
const relays = fs.readdirSync(path.join(report, "relay"));
const size = (name) => fs.statSync(path.join(report, "relay", name)).size;
const relay = relays.reduce((most, name) => (size(name) > size(most) ? name : most));
const views = [
  ["overview", "index.html"], ["figures", "figures.html"],
  ["relay", `relay/${relay}`], ["measurements", `relay/${relay}`, "Measurements"],
];
for (const [name, address, heading] of views) {
  await page.goto(base + address);
  if (heading) {
    await page.getByRole("heading", { name: heading }).evaluate((head) => head.scrollIntoView());
  }
  await page.screenshot({ path: path.join(output, `${name}.png`) });
}
await browser.close();
fs.copyFileSync(path.join(watch, "80x24.svg"), path.join(output, "watch.svg"));
fs.copyFileSync(path.join(seen, "live.png"), path.join(output, "live.png"));
const names = fs.readdirSync(output);
const bytes = names.reduce((sum, name) => sum + fs.statSync(path.join(output, name)).size, 0);
console.log(`${names.join(", ")}: ${bytes} bytes`);
process.exit(bytes <= MOST ? 0 : 1);
