// The time that the search of a report takes from a key to the list of relays, for each kind of
// query, in milliseconds: the median of several, and the longest.
//
// Usage: search_time.mjs REPORT
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [report] = process.argv.slice(2);
if (!report) {
  console.error("usage: search_time.mjs REPORT");
  process.exit(2);
}
const TIMES = 20;

// The fields of a relay in the middle of the index.
const script = fs.readFileSync(path.join(report, "search-index.js"), "utf8");
const lines = JSON.parse(script.slice("bwscanIndex(".length, script.lastIndexOf(")"))).split("\n");
const fields = lines[lines.length >> 1].split("\t");
const [fingerprint, nickname, address, key, country, family] = fields;
const queries = [
  ["fingerprint", fingerprint.slice(0, 8)], ["nickname", nickname], ["one letter", nickname.slice(0, 1)],
  ["address", address], ["key", key], ["country", country], ["family", family && `family:${nickname}`],
  ["nothing", "no such relay"],
].filter(([, query]) => query);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const page = await browser.newPage();
await page.goto(`${pathToFileURL(report).href}/index.html`);
const field = page.getByRole("combobox");
await field.fill(fingerprint.slice(0, 8));
await page.getByRole("option").first().waitFor();
for (const [name, query] of queries) {
  const took = await page.evaluate(([text, times]) => {
    const input = document.getElementById("query");
    const all = [];
    for (let time = 0; time < times; time += 1) {
      input.value = text;
      const begin = performance.now();
      input.dispatchEvent(new Event("input"));
      // The list is laid out, too.
      document.getElementById("found").getBoundingClientRect();
      all.push(performance.now() - begin);
    }
    return all.sort((one, other) => one - other);
  }, [query, TIMES]);
  console.log(`${name} ${took[TIMES >> 1].toFixed(1)} ${took[TIMES - 1].toFixed(1)}`);
}
await browser.close();
