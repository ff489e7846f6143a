// A page that is offered far more than it can take, with holes all the while. Times are printed, not
// judged: tests/js/flood.test.mjs counts.

import assert from "node:assert/strict";
import { scenario } from "./harness/suite.mjs";

// Runs in the page, before weir.js connects: datagrams can be put among those that come.
function tap() {
  window.WebTransport = class extends WebTransport {
    constructor(...given) {
      super(...given);
      const { readable } = this.datagrams;
      const merged = new ReadableStream({
        start: (controller) => {
          window.inject = (bytes) => controller.enqueue(bytes);
          (async () => {
            for await (const chunk of readable) {
              window.seen ??= chunk;
              controller.enqueue(chunk);
            }
          })().catch(() => {});
        },
      });
      Object.defineProperty(this.datagrams, "readable", { value: merged });
    }
  };
}

scenario("70,000 messages a second over realtime, one in 50 lost: the page stays a page", async (browser, t) => {
  const daemon = await t.daemon(), files = await t.files();
  const tab = await browser.tab(files.url);
  tab.expect(/WebTransport|ERR_|connection/i);
  await tab.evaluate(tap);
  const said = await tab.evaluate(async (url) => {
    const { connect, codec } = await import("/web/weir.js");
    const client = await connect(url, { transport: "webtransport" });
    const subscription = client.subscribe("demo/flood", { delivery: "realtime" });
    await subscription.ready;
    await client.publish("demo/flood", "first");
    const first = (await subscription.next()).value;
    let taken = 1;
    (async () => {
      for await (const { kind } of subscription) if (kind) taken++;
    })();
    // The id that the daemon has given the topic.
    const reader = new codec.FrameReader();
    const frames = [];
    for (reader.push(window.seen); ; ) {
      const body = reader.next();
      if (!body) break;
      frames.push(codec.decode(body));
    }
    const { topic } = frames.find(({ frame }) => frame === "Message");
    const ticks = new MessageChannel();
    let longest = 0, last = performance.now(), over = false, tasks = 0;
    ticks.port1.onmessage = () => {
      const now = performance.now();
      longest = Math.max(longest, now - last);
      last = now;
      tasks++;
      if (!over) ticks.port2.postMessage(0);
    };
    ticks.port2.postMessage(0);
    const long = [];
    try {
      new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) long.push(Math.round(duration));
      }).observe({ type: "longtask" });
    } catch {}
    const began = performance.now(), payload = new Uint8Array(100);
    let next = first.sequence + 1;
    await new Promise((resolve) => {
      const offer = () => {
        const now = performance.now();
        if (now - began > 3000) return resolve();
        for (let n = 0; next < first.sequence + 70 * (now - began) && n < 1000; n++) {
          const frame = { frame: "Message", topic, sequence: next, count: 1, stamp: 0, payload };
          if (next++ % 50 > 0) window.inject(codec.encode(frame, "client"));
        }
        setTimeout(offer, 0);
      };
      offer();
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    over = true;
    const { stats } = subscription;
    return { offered: next, taken, longest: Math.round(longest), long: long.sort((a, b) => b - a).slice(0, 5),
      tasks, asked: stats.asked };
  }, daemon.url, { timeout: 55_000 });
  t.diagnostic(JSON.stringify(said));
  assert.ok(said.taken > 1000, JSON.stringify(said));
  await tab.close();
});
