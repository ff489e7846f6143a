// Without UDP: WebSocket, soon, and the page says so.
//
// UDP is blocked for real: `?port=` names a UDP port where a socket is bound and never answers. To
// the browser that is what a firewall looks like that drops: its packets leave, and nothing comes
// back, neither an answer nor an ICMP error. A port where nothing is bound is another case: the
// kernel answers with ICMP "port unreachable", as a firewall that rejects does, and Chromium knows
// at once.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { page, say, shown, text } from "./harness/page.mjs";
import { scenario } from "./harness/suite.mjs";

const NOISE = /WebTransport|ERR_|connection/i;

/** A UDP port that swallows everything; `end()` gives it back. */
async function silence() {
  const socket = createSocket("udp4");
  let packets = 0;
  socket.on("message", () => (packets += 1));
  await new Promise((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return {
    port: socket.address().port,
    get packets() {
      return packets;
    },
    end: () => new Promise((resolve) => socket.close(resolve)),
  };
}

/** Milliseconds from the start of the navigation until the session is open. */
async function opened(tab) {
  return tab.evaluate(
    () =>
      new Promise((resolve) => {
        const state = document.querySelector("#state");
        const look = () => {
          if (state.dataset.state === "open") resolve(performance.now());
        };
        new MutationObserver(look).observe(state, { attributes: true });
        look();
      }),
    null,
    { timeout: 12_000 },
  );
}

async function fallsBack(browser, t, port) {
  const daemon = await t.daemon();
  const tab = await browser.stranger();
  tab.expect(NOISE);
  await tab.goto(`${daemon.url}/?port=${port}&room=a`);
  const took = await opened(tab);
  const reason = await text(tab, "#reason");
  t.diagnostic(`open ${took.toFixed(0)} ms after the navigation began: ${reason}`);
  assert.equal(await tab.evaluate(() => document.body.dataset.transport), "websocket");
  assert.match(reason, /WebSocket/);
  assert.ok(took < 3000, `took ${took.toFixed(0)} ms`);
  await say(tab, "hello");
  await shown(tab, "hello");
  return { tab, reason };
}

scenario("UDP is dropped: WebSocket within 3 s, and the page says why", async (browser, t) => {
  const nobody = t.keep(await silence());
  const { tab, reason } = await fallsBack(browser, t, nobody.port);
  assert.match(reason, /UDP/);
  assert.ok(nobody.packets > 0, "the browser did not even try");
  t.diagnostic(`${nobody.packets} packets were dropped`);
  await tab.close();
});

scenario("UDP is refused: WebSocket within 3 s, and the page says why", async (browser, t) => {
  const nobody = await silence();
  await nobody.end();
  const { tab } = await fallsBack(browser, t, nobody.port);
  await tab.close();
});
