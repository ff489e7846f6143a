// Why there is no session, or one over WebSocket only, as each browser has it.

import assert from "node:assert/strict";
import { createServer } from "node:net";
import { page, shown } from "./harness/page.mjs";
import { scenario } from "./harness/suite.mjs";

const NOISE = /WebTransport|WebSocket|ERR_|CORS|Content.Security|connect|Failed to load|blocked|favicon/i;

/** Connects from a page of another origin; gives what is said, and after how many ms. */
async function outcome(browser, t, url, options = {}, path = "/") {
  const files = await t.files();
  const tab = await browser.tab(`${files.url}${path}`);
  tab.expect(NOISE);
  const said = await tab.evaluate(
    async ({ url, options }) => {
      const { connect } = await import("/web/weir.js");
      const began = performance.now();
      try {
        const client = await connect(url, options);
        const { transport, reason } = client;
        await client.close();
        return { transport, reason };
      } catch ({ name, retry, message }) {
        return { name, retry, message, took: performance.now() - began };
      }
    },
    { url, options },
  );
  t.diagnostic(JSON.stringify(said));
  await tab.close();
  return said;
}

scenario("a page whose policy blocks it: the policy is named", async (browser, t) => {
  const daemon = await t.daemon();
  for (const transport of ["auto", "websocket", "webtransport"]) {
    const { name, retry, message } = await outcome(browser, t, daemon.url, { transport }, "/bound");
    assert.deepEqual([name, retry], ["unreachable", false]);
    assert.match(message, /Content-Security-Policy blocks it: allow .*connect-src/);
  }
});

scenario("nothing there: unreachable, before connecting is given up", async (browser, t) => {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  const { name, retry, message } = await outcome(browser, t, `http://127.0.0.1:${port}`);
  assert.deepEqual([name, retry], ["unreachable", true]);
  assert.match(message, /nothing answers there/);
});

scenario("a wrong hash: named", async (browser, t) => {
  const daemon = await t.daemon();
  const certificateHashes = ["ee".repeat(32)];
  const { name, retry, message } = await outcome(browser, t, daemon.url, { certificateHashes, transport: "webtransport" });
  assert.deepEqual([name, retry], ["unreachable", false]);
  assert.ok(message.includes(daemon.hash), message);
  const { transport, reason } = await outcome(browser, t, daemon.url, { certificateHashes });
  assert.equal(transport, "websocket");
  assert.ok(reason.includes(daemon.hash), reason);
});

scenario("50 lines of 100 kB over WebSocket: the chat shows them", async (browser, t) => {
  const daemon = await t.daemon();
  for (let i = 0; i < 50; i++) await daemon.pub("demo/heavy", `${i} ${"x".repeat(100_000)}`);
  for (let i = 0; i < 5; i++) {
    const tab = await page(browser, daemon, { room: "heavy", transport: "websocket" });
    await shown(tab, 50);
    await tab.close();
  }
});
