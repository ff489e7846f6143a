// Why there is no session: the right cause, whether trying again can help, and soon. Time is simulated.

import assert from "node:assert/strict";
import { test } from "node:test";
import { clocked, world } from "./fake.mjs";

const certificate = { pinning: true, current: "ab".repeat(32), next: "cd".repeat(32), port: 5000, path: "/weir" };
const forbidden = { status: 403, code: 0x41, name: "forbidden", retry: false,
  detail: "pages of https://evil.test are not served: list it in http.origins" };

/** Connects; gives the error, or the client, and after how many ms. */
const outcome = async (clock, w, options) => {
  const began = clock.now;
  let result = null, at = 0;
  w.connect(options).then((client) => (result = client), (error) => (result = error))
    .then(() => (at = clock.now));
  for (let i = 0; i < 1200 && !result; i++) await clock.pass(10);
  return { result, took: at - began };
};
const scene = (title, body) => test(title, { timeout: 20_000 }, () => clocked(body));
const fails = (peer) => {
  if (peer.transport === "websocket") peer.break();
  else peer.fail(new Error("refused"));
  return false;
};
// As Firefox does where UDP is refused, and where a hash is wrong.
const hangs = (peer) => (peer.transport === "websocket" ? fails(peer) : false);

for (const transport of ["auto", "webtransport", "websocket"]) {
  for (const certificateHashes of [undefined, ["ab".repeat(32)]]) {
    const given = certificateHashes ? ", hashes given" : "";
    scene(`a page that the daemon does not serve hears that (${transport}${given})`, async (clock) => {
      const w = world({ transport: "both", script: fails, certificate: forbidden });
      const { result, took } = await outcome(clock, w, { transport, certificateHashes });
      assert.deepEqual([result.name, result.code, result.retry, result.message],
        ["forbidden", 0x41, false, forbidden.detail]);
      assert.ok(took <= 100, `${took} ms`);
    });
  }
}

scene("what the page's policy blocks: no close comes, and the policy is named", async (clock) => {
  const listeners = new Set();
  globalThis.addEventListener = (name, call) => name === "securitypolicyviolation" && listeners.add(call);
  globalThis.removeEventListener = (name, call) => listeners.delete(call);
  try {
    for (const blockedURI of ["wss", "wss://weir.test:4433/weir"]) {
      const w = world({ transport: "websocket", script: (peer) => {
        for (const call of listeners) {
          call({ effectiveDirective: "img-src", blockedURI: "https://weir.test/" });
          call({ effectiveDirective: "connect-src", blockedURI });
        }
        peer.error();
        return false;
      } });
      const { result, took } = await outcome(clock, w);
      assert.deepEqual([result.name, result.retry], ["unreachable", false]);
      assert.match(result.message,
        /Content-Security-Policy blocks it: allow weir.test:4433 in connect-src/);
      assert.ok(took <= 100, `${took} ms`);
      assert.equal(listeners.size, 0);
    }
  } finally {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  }
});

scene("an error that no close follows, and no policy: unreachable, soon", async (clock) => {
  const w = world({ transport: "websocket", script: (peer) => (peer.error(), false) });
  const { result, took } = await outcome(clock, w);
  assert.deepEqual([result.name, result.retry], ["unreachable", true]);
  assert.ok(took <= 100, `${took} ms`);
});

scene("a dead daemon, and a browser that waits for UDP: as long again as it had", async (clock) => {
  const w = world({ transport: "both", script: hangs });
  const { result, took } = await outcome(clock, w);
  assert.deepEqual([result.name, result.retry], ["unreachable", true]);
  assert.match(result.message, /nothing answers there/);
  assert.ok(took <= 3100, `${took} ms`);
  assert.ok(w.peers.every(({ closed }) => closed));
});

scene("TCP fails, and UDP answers late: it is taken", async (clock) => {
  const w = world({ transport: "both", script: (peer) => {
    if (peer.transport === "websocket") return fails(peer);
    setTimeout(() => (peer.welcome(), peer.open()), 2500);
    return false;
  } });
  const { result } = await outcome(clock, w);
  assert.equal(result.transport, "webtransport");
  result.close();
  await clock.pass(1);
});

scene("a wrong hash, and a browser that says nothing of it: named, over whatever carries", async (clock) => {
  const script = (peer) => (peer.transport === "websocket" ? peer.welcome() : false);
  const w = world({ transport: "both", script, certificate });
  const { result } = await outcome(clock, w, { certificateHashes: ["ee".repeat(32)] });
  assert.equal(result.reason,
    `WebSocket: certificateHashes do not name the daemon's: ${certificate.current}`);
  result.close();
  await clock.pass(1);
  const alone = await outcome(clock, w, { certificateHashes: ["ee".repeat(32)], transport: "webtransport" });
  assert.deepEqual([alone.result.name, alone.result.retry], ["unreachable", false]);
  assert.match(alone.result.message, /certificateHashes do not name/);
  assert.ok(alone.took <= 1600, `${alone.took} ms`);
  // The right one, in whatever case, and no answer: that is UDP.
  const right = await outcome(clock, w, { certificateHashes: ["AB".repeat(32)] });
  assert.equal(right.result.reason, "WebSocket: no answer over UDP within 1.5 s");
  right.result.close();
  await clock.pass(1);
});

scene("a wrong hash, and a browser that refuses it at once: named too", async (clock) => {
  const script = (peer) => (peer.transport === "websocket" ? peer.welcome() : fails(peer));
  const w = world({ transport: "both", script, certificate });
  const { result, took } = await outcome(clock, w, { certificateHashes: ["ee".repeat(32)] });
  assert.match(result.reason, /^WebSocket: certificateHashes do not name the daemon's/);
  assert.ok(took <= 100, `${took} ms`);
  result.close();
  await clock.pass(1);
});

scene("HTTP answers and nothing else does: so it says", async (clock) => {
  const w = world({ transport: "both", script: fails, certificate });
  const { result } = await outcome(clock, w);
  assert.deepEqual([result.name, result.retry], ["unreachable", true]);
  assert.match(result.message, /the daemon answers over HTTP/);
});
