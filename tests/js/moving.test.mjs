// A client that fell back to WebSocket moves over to WebTransport as soon as that works.

import assert from "node:assert/strict";
import { test } from "node:test";
import { clocked, message, settle, topic, world } from "./fake.mjs";

/** A world where UDP does not pass until `udp.passes`. */
const blocked = (udp = { passes: false, tries: 0 }, fails = (peer) => peer.fail(new Error("no UDP"))) => {
  const script = (peer) => {
    peer.handle = ({ frame, request }) => {
      if (frame === "Ping") peer.say({ frame: "Pong", request, clock: 0 });
      return frame === "Ping";
    };
    if (peer.transport === "websocket" || udp.passes) return peer.welcome();
    udp.tries++;
    fails(peer);
    return false;
  };
  return { udp, ...world({ transport: "both", script }) };
};

/** The next peer with this transport. */
const over = async (w, transport) => {
  for (;;) {
    const peer = await w.next();
    if (peer.transport === transport && !peer.closed) return peer;
  }
};

const scene = (title, body) => test(title, { timeout: 20_000 }, () => clocked(body));

scene("nothing is missed, repeated or counted twice, and the WebSocket is closed", async (clock) => {
  const w = blocked();
  const client = await w.connect(), states = [];
  client.addEventListener("state", ({ detail }) => states.push(`${detail.state} ${detail.transport}`));
  const old = await over(w, "websocket");
  assert.equal(client.transport, "websocket");
  const subscription = client.subscribe("**", { delivery: "realtime" }), seen = [];
  (async () => {
    for await (const { sequence } of subscription) seen.push(sequence);
  })();
  const { request } = await old.next("Subscribe");
  old.say({ frame: "Subscribed", request, position: 300 });
  old.stream(request).say(topic(4, "a", 5), message(4, 5), message(4, 6));
  const receipts = ["x", "y"].map((text) => client.publish("a", text)), asked = client.get("a");
  await settle();
  assert.deepEqual(seen, [5, 6]);
  const first = await old.next("Publish");
  old.receipt(first);

  w.udp.passes = true;
  await clock.pass(7500);
  assert.deepEqual([client.transport, client.reason, client.state], ["webtransport", "WebTransport", "open"]);
  assert.equal(old.closed.code, 1000);
  assert.deepEqual(states, ["open webtransport"], "the page was never without a session");
  const peer = await over(w, "webtransport");
  assert.deepEqual(peer.hello.producer, old.hello.producer);
  const again = await peer.next("Subscribe");
  assert.deepEqual(again.start, { Resume: { since: { run: 7, position: 300 },
    topics: [{ topic: "a", epoch: 104, next: 7 }] } });
  peer.say({ frame: "Subscribed", request: again.request, position: 301 });
  peer.stream(again.request).say(topic(1, "a", 7, 104n), message(1, 7));
  const second = await peer.next("Publish");
  assert.equal(second.number, 2, "the first has its receipt");
  peer.receipt(second);
  assert.deepEqual((await Promise.all(receipts)).map(({ sequence }) => sequence), [1, 2]);
  const get = await peer.next("Get");
  peer.stream(get.request).say(topic(1, "a", 7), message(1, 7, "found"));
  assert.equal((await asked).text(), "found");
  await settle();
  assert.deepEqual(seen, [5, 6, 7]);
  await clock.pass(600_000);
  assert.equal(w.peers.filter(({ transport }) => transport === "webtransport").length, 2, "it stays");
  client.close();
  await clock.pass(20_000);
});

scene("the pauses between the attempts grow, up to five minutes", async (clock) => {
  const w = blocked();
  const client = await w.connect(), { random } = Math;
  try {
    Math.random = () => 1;
    let last = w.udp.tries, began = clock.now;
    const pauses = [];
    while (pauses.length < 9) {
      await clock.pass(100);
      if (w.udp.tries > last) pauses.push(clock.now - began);
      if (w.udp.tries > last) [last, began] = [w.udp.tries, clock.now];
    }
    // The first was that of `connect`; its time, and that of finding the reason, is in the pauses.
    const rough = pauses.map((ms) => Math.round(ms / 1000));
    assert.deepEqual(rough.slice(1, 5).map((s, i) => s > rough[i] * 1.7), [true, true, true, true], `${rough}`);
    assert.ok(rough.slice(-2).every((s) => s >= 300 && s < 306), `${rough}`);
    assert.deepEqual(w.peers.filter(({ transport }) => transport === "websocket").length, 1);
  } finally {
    Math.random = random;
  }
  client.close();
  await clock.pass(20_000);
  assert.equal(clock.pending, 0);
});

scene("a WebSocket that breaks again and again does not make the attempts more", async (clock) => {
  const w = blocked();
  const client = await w.connect({ fallbackAfter: 1500 });
  for (let i = 0; i < 20; i++) {
    await clock.pass(6000);
    w.peers.findLast(({ transport, closed }) => transport === "websocket" && !closed).break();
    await clock.pass(1500);
    assert.equal(client.state, "open");
  }
  // Each reconnect tries WebTransport first. Pauses of 7.5 s to 300 s leave no more than 5 attempts
  // in these 150 s, but chance halves pauses.
  assert.ok(w.udp.tries - 21 <= 6, `${w.udp.tries}`);
  client.close();
  await clock.pass(20_000);
  assert.equal(clock.pending, 0);
});

scene("a page that comes online tries at once", async (clock) => {
  const listeners = new Set();
  globalThis.addEventListener = (type, listener) => type === "online" && listeners.add(listener);
  globalThis.removeEventListener = (type, listener) => listeners.delete(listener);
  try {
    const w = blocked();
    const client = await w.connect();
    await clock.pass(60_000);
    const { tries } = w.udp;
    w.udp.passes = true;
    for (const listener of listeners) listener();
    await clock.pass(10);
    assert.equal(client.transport, "webtransport");
    assert.ok(tries > 1);
    client.close();
    await clock.pass(20_000);
    assert.equal(listeners.size, 0);
  } finally {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  }
});

scene("a WebSocket that breaks while UDP is tried is replaced once", async (clock) => {
  let answer;
  const udp = { passes: false, tries: 0 };
  const w = blocked(udp, (peer) => udp.tries === 2 ? (answer = peer) : peer.fail(new Error("no UDP")));
  const client = await w.connect();
  const old = await over(w, "websocket");
  await clock.pass(7500);
  assert.ok(answer);
  old.break();
  await clock.pass(300);
  const { transport, session } = client;
  assert.deepEqual([client.state, transport], ["open", "websocket"]);
  // UDP answers at last: the session is another one meanwhile, and stays.
  answer.open();
  answer.welcome();
  await clock.pass(1000);
  assert.deepEqual([client.state, client.transport, client.session], ["open", "websocket", session]);
  assert.ok(answer.closed);
  assert.equal(w.peers.filter(({ closed, transport }) => !closed && transport === "websocket").length, 1);
  client.close();
  await clock.pass(20_000);
  assert.equal(clock.pending, 0);
});

for (const [why, options, prepare] of [
  ["that was asked for", { transport: "websocket" }, () => {}],
  ["in a browser without WebTransport", {}, () => delete globalThis.WebTransport],
]) {
  scene(`a WebSocket ${why} stays`, async (clock) => {
    const w = blocked();
    prepare();
    w.udp.passes = true;
    const client = await w.connect(options);
    await clock.pass(600_000);
    assert.deepEqual(w.peers.map(({ transport }) => transport), w.peers.map(() => "websocket"));
    client.close();
    await clock.pass(20_000);
    assert.equal(clock.pending, 0);
  });
}

scene("a client that closes meanwhile leaves nothing behind", async (clock) => {
  let late;
  const udp = { passes: false, tries: 0 };
  const w = blocked(udp, (peer) => udp.tries === 2 ? (late = peer) : peer.fail(new Error("no UDP")));
  const client = await w.connect();
  await clock.pass(7500);
  client.close();
  await clock.pass(1000);
  assert.ok(late.closed);
  assert.deepEqual([client.state, client.transport], ["closed", "websocket"]);
  assert.equal(clock.pending, 0);
});
