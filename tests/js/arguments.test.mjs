// What a caller gives is checked when it is given: what cannot be meant is refused at once, by a clear
// error, and costs nothing but its own call.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../../web/weir/index.js";
import { settle, world } from "./fake.mjs";

const connected = async (body, { transport = "webtransport", options } = {}) => {
  const w = world({ transport });
  const client = await w.connect(options);
  try {
    await body({ w, client, peer: await w.next() });
  } finally {
    await client.close();
  }
};

// Calls whose arguments no frame can carry, and what each is answered.
const impossible = [
  ["top, half a payload", (client) => client.top("a", 0.5), RangeError],
  ["top, less than none", (client) => client.top("a", -1), RangeError],
  ["top, no number", (client) => client.top("a", "ten"), TypeError],
  ["get, half a message", (client) => client.get("a", { sequence: 1.5 }), RangeError],
  ["get, a short digest", (client) => client.get("a", { digest: "00" }), TypeError],
  ["get, no topic", (client) => client.get(undefined), TypeError],
  ["get, a topic above every limit", (client) => client.get("a".repeat(1 << 20)),
    { name: "frame_too_large", code: 0x14, retry: false }],
  ["publish, no topic", (client) => client.publish(undefined, "x"), TypeError],
  ["publish, a number for a topic", (client) => client.publish(5, "x"), TypeError],
];

for (const [what, call, error] of impossible) {
  for (const when of ["open", "reconnecting"]) {
    test(`${what}, while ${when}: it alone is refused`, { timeout: 5000 }, () => connected(async ({ w, client, peer }) => {
      const other = client.subscribe("a/**");
      const asked = await peer.next("Subscribe");
      peer.say({ frame: "Subscribed", request: asked.request, position: 1 });
      await other.ready;
      if (when === "reconnecting") {
        peer.break();
        await settle();
        assert.equal(client.state, "reconnecting");
      }
      const ping = client.ping();
      await assert.rejects(call(client), error);
      const now = when === "open" ? peer : await w.next();
      const { request } = await now.next("Ping");
      now.say({ frame: "Pong", request, clock: 0 });
      await ping;
      assert.equal(client.state, "open");
      // Nothing of the call has been sent.
      assert.deepEqual(now.frames.filter(({ frame }) => frame !== "Subscribe"), []);
    }));
  }
}

test("subscribe: what cannot be meant is refused", { timeout: 5000 }, () => connected(async ({ client, peer }) => {
  for (const [options, message] of [[{ from: "last:x" }, "no such value: Last:x"],
    [{ from: "noon" }, "no such value: Noon"], [{ from: 1.5 }, "no such value: 1.5"],
    [{ from: null }, "no such value: Null"], [{ lag: "later" }, "no such value: Later"],
    [{ delivery: "fast" }, "no such value: Fast"], [{ sequence: 5 }, "no such option: sequence"],
    [{ From: "all" }, "no such option: From"]]) {
    assert.throws(() => client.subscribe("a", options), { name: "TypeError", message });
  }
  for (const options of [{ from: -1 }, { delivery: "realtime", deadline: -5 }]) {
    assert.throws(() => client.subscribe("a", options), RangeError, JSON.stringify(options));
  }
  assert.throws(() => client.subscribe(5), TypeError);
  await settle();
  assert.deepEqual(peer.frames, []);
}));

test("publish: a payload is a string, a buffer or a view, and no other thing with a length", { timeout: 5000 }, () =>
  connected(async ({ client, peer }) => {
    for (const payload of [{ byteLength: 3 }, { byteLength: 3, buffer: {} }, [1, 2], 5, null, undefined,
      { buffer: new ArrayBuffer(3), byteOffset: 0, byteLength: 3 }]) {
      await assert.rejects(client.publish("a", payload), /a payload is a string, an ArrayBuffer or a view/);
    }
    const buffer = Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7).buffer;
    const good = [["text", "text"], [buffer, "0,1,2,3,4,5,6,7"], [new DataView(buffer, 2, 3), "2,3,4"],
      [new Uint16Array(buffer, 2, 1), "2,3"], [new Uint8Array(), ""]];
    for (const [payload, sent] of good) {
      const receipt = client.publish("a", payload), publication = await peer.next("Publish");
      const text = typeof payload === "string" ? new TextDecoder().decode(publication.payload)
        : publication.payload.join();
      assert.equal(text, sent);
      peer.receipt(publication);
      await receipt;
    }
  }));

test("options that nobody knows are named", { timeout: 5000 }, () => connected(async ({ client }) => {
  await assert.rejects(client.publish("a", "x", { realTime: true }), /no such option: realTime/);
  await assert.rejects(client.get("a", { seq: 1 }), /no such option: seq/);
  assert.throws(() => client.subscribe("a", { dedline: 1 }), /no such option: dedline/);
  await assert.rejects(connect("https://weir.test", { fallback: 5 }), (error) =>
    error instanceof TypeError && /no such option: fallback/.test(error.message));
}));

test("connect: what cannot be meant is refused, and nothing is dialled", { timeout: 5000 }, async () => {
  const w = world({ transport: "both" });
  for (const options of [{ transport: "udp" }, { certificateHashes: ["zz"] }, { certificateHashes: ["ab"] },
    { certificateHashes: "ab".repeat(32) }, { token: 5 }, { webTransportPort: 70_000 },
    { webTransportPort: "x" }, { fallbackAfter: "soon" }, { timeout: -1 }, { timeout: NaN },
    { signal: "now" }]) {
    await assert.rejects(w.connect(options), TypeError, JSON.stringify(options));
  }
  for (const certificateHashes of ["ab".repeat(32), ["ab"], [5]]) {
    await assert.rejects(w.connect({ certificateHashes }), /^TypeError: not 64 hex digits: /);
  }
  assert.deepEqual(w.peers, []);
});

test("a signal ends connecting, with its reason", { timeout: 5000 }, async () => {
  const w = world({ transport: "both", script: () => false });
  const abort = new AbortController();
  const connecting = w.connect({ signal: abort.signal });
  await w.next();
  abort.abort(new Error("the user left"));
  await assert.rejects(connecting, /the user left/);
  assert.ok(w.peers.every(({ closed }) => closed));
  const before = w.peers.length;
  await assert.rejects(w.connect({ signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal(w.peers.length, before);
});

test("a signal that aborts once the client stands changes nothing", { timeout: 5000 }, async () => {
  const abort = new AbortController();
  await connected(async ({ client, peer }) => {
    abort.abort();
    const ping = client.ping(), { request } = await peer.next("Ping");
    peer.say({ frame: "Pong", request, clock: 0 });
    await ping;
    assert.equal(client.state, "open");
  }, { options: { signal: abort.signal } });
});

test("subscribing on a closed client throws closed", { timeout: 5000 }, async () => {
  const w = world({ transport: "webtransport" });
  const client = await w.connect();
  await client.close();
  assert.throws(() => client.subscribe("a"), { name: "closed", code: null, retry: false });
});
