// The pictures of the page in the docs, with live content: tests/browser/screenshots.mjs WEIR OUTDIR
//
// Needs what run.sh has installed. Writes page.png (a desktop, light), page-dark.png and
// page-phone.png, at most 200 KB each.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";

const [, , weir, folder] = process.argv;
if (!weir || !folder) {
  console.error("usage: node tests/browser/screenshots.mjs path/to/weir outdir");
  process.exit(2);
}
process.env.WEIR_BIN = weir;
const { launch } = await import("./harness/browsers.mjs");
const { Daemon } = await import("./harness/daemon.mjs");
const { page, say, shown } = await import("./harness/page.mjs");

const LARGEST = 200_000;
const pictures = [
  { name: "page.png", size: { width: 1280, height: 900 }, colours: "light" },
  { name: "page-dark.png", size: { width: 1280, height: 900 }, colours: "dark" },
  { name: "page-phone.png", size: { width: 390, height: 844 }, colours: "light" },
];
const talk = [
  "is the north gate open?", "yes", "level at 2.41 m", "yes", "grüß dich 👋", "level at 2.44 m", "yes",
  "closing it at 2.50", "level at 2.41 m", "ok", "ok", "level at 2.50 m", "closed", "ok",
];

mkdirSync(folder, { recursive: true });
const daemon = await Daemon.start();
const browser = await launch("chromium");
let code = 0;
try {
  await daemon.lines("demo/chat", talk);
  for (const { name, size, colours } of pictures) {
    const tab = await page(browser, daemon, {}, {
      open: async (url) => {
        const tab = await browser.stranger(undefined, size);
        await tab.colours(colours);
        await tab.goto(url);
        return tab;
      },
    });
    await shown(tab, talk.length);
    await say(tab, "thanks");
    await shown(tab, "thanks");
    // Enough samples that the plot has its 30 seconds half full.
    const enough = () =>
      [...document.querySelectorAll("#latency .samples")].every((cell) => Number(cell.dataset.value) >= 300);
    await tab.until(enough, null, { timeout: 40_000 });
    await tab.evaluate(() => document.activeElement?.blur());
    const path = join(folder, name);
    await tab.screenshot(path, { whole: size.width < 500 });
    for (const quantize of ["/usr/bin/pngquant"]) {
      if (existsSync(quantize)) execFileSync(quantize, ["--force", "--output", path, "64", path]);
    }
    const bytes = statSync(path).size;
    console.log(`${path}: ${bytes} bytes`);
    if (bytes > LARGEST) {
      console.error(`${path} is larger than ${LARGEST} bytes`);
      code = 1;
    }
    await tab.drop();
  }
} finally {
  await browser.close();
  await daemon.end();
}
process.exit(code);
