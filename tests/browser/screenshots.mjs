// The pictures of the page in the docs, with live content: tests/browser/screenshots.mjs WEIR OUTDIR
//
// Needs what run.sh has installed, a daemon built for speed, and a machine with nothing else to do:
// the latencies shown are measured. Writes page.png (a desktop, light), page-dark.png and
// page-phone.png, at most 200 KB each; they are made smaller where pngquant is installed. Takes two
// minutes.

import { execFileSync } from "node:child_process";
import { mkdirSync, statSync } from "node:fs";
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
const { pause } = await import("./harness/process.mjs");

const LARGEST = 200_000;
const pictures = [
  { name: "page.png", size: { width: 1280, height: 900 }, colours: "light" },
  { name: "page-dark.png", size: { width: 1280, height: 900 }, colours: "dark" },
  { name: "page-phone.png", size: { width: 390, height: 844 }, colours: "light" },
];
const talk = [
  "is the north gate open?",
  "yes",
  "level at 2.41 m",
  "grüß dich, Jana",
  "level at 2.44 m",
  "yes",
  "closing it at 2.50",
  "ok",
  "level at 2.44 m",
  "ok",
  "level at 2.50 m",
  "closed",
  "yes",
  "ok",
];

async function take(browser, { name, size, colours }) {
  const daemon = await Daemon.start();
  try {
    const open = async (url) => {
      const tab = await browser.stranger(undefined, size);
      await tab.colours(colours);
      await tab.goto(url);
      return tab;
    };
    const tab = await page(browser, daemon, {}, { open });
    // A talk in which people take their time.
    for (const line of talk) {
      await daemon.pub("demo/chat", line);
      await pause(700);
    }
    await shown(tab, talk.length);
    await say(tab, "thanks");
    await shown(tab, "thanks");
    // The plot shows 30 s, at 20 samples a second.
    const full = () =>
      [...document.querySelectorAll("#latency .samples")].every((cell) => Number(cell.dataset.value) >= 590);
    await tab.until(full, null, { timeout: 60_000 });
    await tab.evaluate(() => document.activeElement?.blur());
    const path = join(folder, name);
    await tab.screenshot(path);
    await tab.close();
    try {
      execFileSync("pngquant", ["--force", "--strip", "--output", path, "128", path]);
    } catch (error) {
      if (error.code !== "ENOENT") throw error;
    }
    const bytes = statSync(path).size;
    console.log(`${path}: ${bytes} bytes`);
    if (bytes > LARGEST) throw new Error(`${path} is larger than ${LARGEST} bytes: pngquant makes it smaller`);
  } finally {
    await daemon.end();
  }
}

mkdirSync(folder, { recursive: true });
const browser = await launch("chromium");
try {
  for (const picture of pictures) await take(browser, picture);
} finally {
  await browser.close();
}
