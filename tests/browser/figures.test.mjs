// How fast the page shows something, and how much it weighs. Times are printed, not judged: they
// depend on the machine, and on whether the daemon was built for speed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { browsers } from "./harness/browsers.mjs";
import { connected } from "./harness/client.mjs";
import { scenario } from "./harness/suite.mjs";

const RUNS = 7;
/** Maximum size of weir.js with gzip. */
const SCRIPT = 12 * 1024;

const rows = [];
const figures = (values) => {
  values.sort((a, b) => a - b);
  const at = (share) => values[Math.round(share * (values.length - 1))];
  return [at(0), at(0.5), at(1)].map((ms) => ms.toFixed(0).padStart(6)).join("");
};

// Runs in the page, before its scripts: when the first line of the chat is there.
function watch() {
  new MutationObserver((_, observer) => {
    if (!document.querySelector("#chat-log [data-sequence]")) return;
    window.firstLine = performance.now();
    observer.disconnect();
  }).observe(document, { subtree: true, childList: true });
}

scenario(
  "from the navigation to the first line of the chat",
  async (browser, t) => {
    const daemon = await t.daemon();
    await daemon.lines(
      "demo/figures",
      Array.from({ length: 10 }, (_, i) => `line ${i}`),
    );
    const times = { cold: [], warm: [] };
    for (let i = 0; i < RUNS; i++) {
      const tab = await browser.stranger();
      await tab.before(watch);
      // Cold: nothing in the cache. Warm: the same tab once more.
      for (const kind of ["cold", "warm"]) {
        await tab.goto(`${daemon.url}/?room=figures`);
        times[kind].push(await tab.until(() => window.firstLine));
        assert.equal(await tab.evaluate(() => document.body.dataset.transport), "webtransport");
      }
      await tab.close();
    }
    for (const [kind, values] of Object.entries(times)) {
      rows.push([browser.name, `navigation → first line, ${kind}`, figures(values)]);
    }
  },
  { timeout: 120_000 },
);

for (const transport of ["webtransport", "websocket"]) {
  scenario(`${transport}: from connect() to the first message`, async (browser, t) => {
    const daemon = await t.daemon();
    await daemon.pub("demo/figures", "cached");
    const tab = await connected(browser, daemon, { transport });
    const times = await tab.evaluate(
      async ({ transport, runs }) => {
        const times = [];
        for (let i = 0; i < runs; i++) {
          const start = performance.now();
          const client = await weir.connect(undefined, { transport });
          const { value } = await client.subscribe("demo/figures", { from: "latest" }).next();
          times.push(performance.now() - start);
          if (value.text() !== "cached") throw new Error("another message");
          await client.close();
        }
        return times;
      },
      { transport, runs: RUNS },
    );
    rows.push([browser.name, `connect() → first message, ${transport}`, figures(times)]);
    await tab.close();
  });
}

scenario(
  "what the page weighs",
  async (browser, t) => {
    const daemon = await t.daemon();
    const tab = await browser.stranger();
    await tab.goto(`${daemon.url}/`);
    await tab.until(() => document.querySelector("#state").dataset.state === "open");
    const parts = await tab.evaluate(() =>
      [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
        .filter(({ name }) => new URL(name).origin === location.origin)
        .map(({ name, encodedBodySize, decodedBodySize }) => [
          new URL(name).pathname,
          encodedBodySize,
          decodedBodySize,
        ]),
    );
    const sums = parts.reduce((sums, [, sent, raw]) => [sums[0] + sent, sums[1] + raw], [0, 0]);
    const table = [...parts.sort((a, b) => b[1] - a[1]), ["all", ...sums]];
    for (const [name, sent, raw] of table) {
      t.diagnostic(`${String(sent).padStart(7)} bytes sent, ${String(raw).padStart(7)} raw  ${name}`);
    }
    await tab.close();
  },
  { only: browsers.slice(0, 1) },
);

scenario(
  "weir.js is small",
  async (browser, t) => {
    const daemon = await t.daemon();
    const answer = await fetch(`${daemon.url}/weir.js`, { headers: { "accept-encoding": "identity" } });
    const script = Buffer.from(await answer.arrayBuffer());
    const packed = gzipSync(script, { level: 9 }).length;
    t.diagnostic(`weir.js: ${script.length} bytes, ${packed} with gzip`);
    assert.ok(packed < SCRIPT, `weir.js has ${packed} bytes with gzip, not less than ${SCRIPT}`);
  },
  { only: browsers.slice(0, 1) },
);

test("the times", (t) => {
  t.diagnostic(`${"ms, of ".padStart(10)}${RUNS} runs:`.padEnd(54) + "   min   p50   max");
  for (const [browser, what, values] of rows)
    t.diagnostic(`${browser.padEnd(9)} ${what.padEnd(44)}${values}`);
});
