// weir.js while the daemon, or UDP, is away: what waits, what moves over, what is of no use any more.

import assert from "node:assert/strict";
import { connected } from "./harness/client.mjs";
import { pause } from "./harness/process.mjs";
import { scenario } from "./harness/suite.mjs";
import { Link } from "./harness/udp.mjs";

const NOISE = /WebTransport|WebSocket|ERR_|connection|Cross-Origin|fetch/i;

scenario(
  "UDP comes back: the client leaves WebSocket, and nothing is missed or repeated",
  async (browser, t) => {
    const daemon = await t.daemon();
    const link = t.keep(await Link.start(daemon.port, { loss: 1 }));
    link.lossy = true;
    const tab = await connected(browser, daemon, { webTransportPort: link.port }, { spy: true });
    tab.expect(NOISE);
    assert.equal(await tab.evaluate(() => client.transport), "websocket");
    await tab.evaluate(async () => {
      window.seen = [];
      const subscription = client.subscribe("demo/*", { from: "all" });
      await subscription.ready;
      (async () => {
        for await (const { kind, topic, sequence, count } of subscription) seen.push([kind, topic, sequence, count]);
      })();
      window.receipts = [];
      window.publishing = setInterval(() => receipts.push(client.publish("demo/own", `own ${receipts.length}`)), 10);
    });
    let lines = 0, moved = false;
    const outside = async function* () {
      for (; !moved || lines % 100; lines++) {
        yield `line ${lines}\n`;
        await pause(5);
      }
    };
    const published = daemon.weir("pub", ["demo/outside", "--lines"], { input: outside(), timeout: 60_000 });
    await tab.until(() => seen.length > 100);
    const freed = await tab.evaluate(() => performance.now());
    link.lossy = false;
    await tab.until(() => client.transport === "webtransport", null, { timeout: 45_000 });
    // Some more over the new session.
    await tab.until((before) => seen.length > before + 200, await tab.evaluate(() => seen.length));
    moved = true;
    await published;
    const { states, own } = await tab.evaluate(async () => {
      clearInterval(publishing);
      const own = (await Promise.all(receipts)).map(({ sequence, count }) => [sequence, count]);
      return { own, states };
    });
    await tab.until((all) => seen.length >= all, lines + own.length);
    const all = (topic, n) => Array.from({ length: n }, (_, i) => ["message", topic, i + 1, 1]);
    const seen = await tab.evaluate(() => seen);
    assert.deepEqual(seen.filter(([, topic]) => topic === "demo/outside"), all("demo/outside", lines));
    assert.deepEqual(seen.filter(([, topic]) => topic === "demo/own"), all("demo/own", own.length));
    assert.deepEqual(own, own.map((_, i) => [i + 1, 1]));
    assert.deepEqual(states.map(({ state, transport }) => [state, transport]), [["open", "webtransport"]]);
    t.diagnostic(`moved ${(states[0].at - freed).toFixed(0)} ms after UDP came back; ${seen.length} messages`);
    const sockets = () => opened.filter((wire) => wire instanceof WebSocket).map(({ readyState }) => readyState);
    await tab.until(() => opened.every((wire) => !(wire instanceof WebSocket) || wire.readyState === WebSocket.CLOSED));
    assert.equal((await tab.evaluate(sockets)).length, 1);
    await tab.close();
  },
  { timeout: 120_000 },
);

for (const transport of ["webtransport", "websocket"]) {
  scenario(`${transport}: connect waits for a daemon that is not up yet`, async (browser, t) => {
    const files = await t.files();
    const daemon = await t.daemon({ env: { WEIR_HTTP__ORIGINS: JSON.stringify([files.url]) } });
    await daemon.stop();
    const tab = await browser.tab(files.url);
    tab.expect(NOISE);
    const first = await tab.evaluate(
      async ({ url, transport }) => {
        const { connect } = await import("/web/weir.js");
        const said = ({ name, retry }) => ({ name, retry });
        const controller = new AbortController();
        const aborted = connect(url, { transport, wait: true, signal: controller.signal }).catch(({ name }) => name);
        window.connecting = connect(url, { transport, wait: true }).then((client) => Object.assign(window, { client }));
        const refused = await connect(url, { transport }).catch(said);
        controller.abort();
        return { refused, aborted: await aborted, client: typeof window.client };
      },
      { url: daemon.url, transport },
    );
    assert.deepEqual([first.aborted, first.client, first.refused.retry], ["AbortError", "undefined", true]);
    // Firefox waits for UDP for as long as it may.
    assert.match(first.refused.name, /^(unreachable|timed_out)$/);
    await daemon.again();
    await tab.until(() => window.client?.state === "open", null, { timeout: 25_000 });
    assert.equal(await tab.evaluate(() => client.publish("demo/a", "x").then(({ count }) => count)), 1);
    await tab.close();
  });

  scenario(`${transport}: what has outlived its time, and what is too much, is not sent`, async (browser, t) => {
    const daemon = await t.daemon();
    const tab = await connected(browser, daemon, { transport });
    tab.expect(NOISE);
    await daemon.stop();
    await tab.until(() => client.state === "reconnecting");
    const said = await tab.evaluate(async () => {
      const outcome = (promise) => promise.then(() => "receipt", ({ name, code, retry }) => `${name} ${code} ${retry}`);
      const short = [], started = performance.now();
      for (let i = 0; i < 60; i++) {
        short.push(outcome(client.publish("demo/a", `short ${i}`, { realtime: true, lifetime: 500 })));
        await new Promise((resolve) => setTimeout(resolve, 1000 / 60));
      }
      const outcomes = new Set(await Promise.all(short)), took = performance.now() - started;
      window.rest = Array.from({ length: 16_384 }, () => client.publish("demo/a", "kept"));
      const beyond = await outcome(client.publish("demo/a", "beyond"));
      return { outcomes: [...outcomes], beyond, took };
    });
    assert.deepEqual([said.outcomes, said.beyond], [["timed_out 3 true"], "overloaded 2 true"]);
    await daemon.again();
    await tab.until(() => client.state === "open", null, { timeout: 25_000 });
    const counts = await tab.evaluate(async () => (await Promise.all(rest)).map(({ count }) => count), null, {
      timeout: 45_000,
    });
    assert.deepEqual([counts[0], counts.at(-1), counts.length], [1, 16_384, 16_384]);
    assert.deepEqual((await daemon.top("demo/a")).map(({ count }) => count), [16_384]);
    await tab.close();
  }, { timeout: 90_000 });
}
