// The page's own latency panel in Chromium, behind a link that loses packets, for the docs:
//
//   weir bench link --loss 2% --run 'node tests/browser/lossy.mjs docs'
//
// Needs what run.sh has installed. Prints what the panel says after half a minute at 60 Hz, and
// writes page-lossy.png into the folder. The certificate is one that no authority knows, which a
// person would click away: Chromium is told to.

import { join } from "node:path";
import { chromium } from "playwright-core";

const { WEIR_URL, WEIR_CHROMIUM = "/usr/bin/chromium" } = process.env;
const [, , folder] = process.argv;
if (!WEIR_URL || !folder) {
  console.error("usage: weir bench link --loss 2% --run 'node tests/browser/lossy.mjs OUTDIR'");
  process.exit(2);
}
const browser = await chromium.launch({
  executablePath: WEIR_CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu"],
});
const context = await browser.newContext({
  ignoreHTTPSErrors: true,
  viewport: { width: 1280, height: 900 },
});
const page = await context.newPage();
await page.goto(WEIR_URL);
await page.locator("#latency-rate label", { hasText: "60" }).click();
const full = () =>
  [...document.querySelectorAll("#latency .samples")].every((cell) => Number(cell.dataset.value) >= 1750);
await page.waitForFunction(full, null, { timeout: 90_000 });
const rows = await page.evaluate(() =>
  [...document.querySelectorAll("#latency tbody tr")].map((row) => ({
    transport: row.dataset.transport,
    ...Object.fromEntries([...row.querySelectorAll("td")].map((cell) => [cell.className.split(" ")[0], cell.textContent])),
  })),
);
console.table(rows);
console.log(await page.locator("#latency-words").textContent());
await page.screenshot({ path: join(folder, "page-lossy.png") });
await browser.close();
const p99 = (transport) => Number(rows.find((row) => row.transport === transport).p99);
process.exitCode = p99("webtransport") < p99("websocket") ? 0 : 1;
