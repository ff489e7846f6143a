// Over a link that delays and loses, in each browser: every message once, in each delivery mode. The
// delays are printed, not judged: the link is made of timers, and the machine may be busy.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Link } from "./harness/udp.mjs";
import { scenario } from "./harness/suite.mjs";

const DELAY = 25;
const COUNT = 300;
const rows = [];

for (const loss of [0.01, 0.05]) {
  scenario(
    `${DELAY} ms, ${loss * 100} % lost: each message once`,
    async (browser, t) => {
      const seed = Number(process.env.WEIR_SEED ?? Math.floor(Math.random() * 2 ** 31));
      t.diagnostic(`WEIR_SEED=${seed}`);
      const daemon = await t.daemon();
      for (const delivery of ["ordered", "unordered", "realtime"]) {
        const link = t.keep(await Link.start(daemon.port, { delay: DELAY, loss, seed }));
        const tab = await browser.tab(`${daemon.url}/weir.js`);
        tab.expect(/favicon\.ico/);
        await tab.evaluate(async (port) => {
          const weir = await import("/weir.js");
          window.client = await weir.connect(undefined, { transport: "webtransport", webTransportPort: port });
        }, link.port);
        link.lossy = true;
        const { delays, sequences, receipts, stats } = await tab.evaluate(
          async ({ delivery, count }) => {
            const subscription = client.subscribe(`demo/${delivery}`, { delivery });
            await subscription.ready;
            const sent = [];
            const delays = [];
            const sequences = [];
            const reading = (async () => {
              for await (const event of subscription) {
                if (event.kind === "gap") throw new Error(JSON.stringify(event));
                delays.push(performance.now() - sent[Number(event.text().slice(0, 6))]);
                sequences.push(event.sequence);
                if (delays.length === count) break;
              }
            })();
            const receipts = [];
            for (let i = 0; i < count; i++) {
              sent.push(performance.now());
              const text = String(i).padStart(6, "0").padEnd(200, ".");
              receipts.push(client.publish(`demo/${delivery}`, text, { realtime: delivery === "realtime" }));
              await new Promise((resolve) => setTimeout(resolve, 1000 / 60));
            }
            await reading;
            await Promise.all(receipts);
            return { delays, sequences, receipts: receipts.length, stats: subscription.stats };
          },
          { delivery, count: COUNT },
          { timeout: 60_000 },
        );
        assert.deepEqual(
          sequences.toSorted((a, b) => a - b),
          Array.from({ length: COUNT }, (_, i) => i + 1),
        );
        assert.equal(receipts, COUNT);
        if (delivery === "ordered") assert.equal(stats.datagrams, 0);
        else assert.ok(stats.datagrams > COUNT / 2);
        delays.sort((a, b) => a - b);
        const at = (share) => delays[Math.ceil(share * COUNT) - 1].toFixed(1).padStart(7);
        rows.push(
          `${browser.name.padEnd(9)}${String(loss * 100).padStart(3)} %  ${delivery.padEnd(10)}` +
            [0.5, 0.95, 0.99, 1].map(at).join("") +
            `${(link.bytes / 1024).toFixed(0).padStart(8)} KiB${link.late.toFixed(0).padStart(8)} ${JSON.stringify(stats)}`,
        );
        await tab.close();
      }
    },
    { timeout: 120_000 },
  );
}

test("the delays", (t) => {
  t.diagnostic("publish to message back, ms; 200 bytes 60 times a second; bytes on the link, both ways");
  t.diagnostic("                           p50    p95    p99    max     bytes    late: the link's own, at most");
  for (const row of rows) t.diagnostic(row);
});
