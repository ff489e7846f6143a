// Publications that are of no use after a while, and those that wait to be sent.

import assert from "node:assert/strict";
import { test } from "node:test";
import { clocked, settle, world } from "./fake.mjs";

/** A client whose daemon can be away, in both transports. */
const scene = (title, body) => {
  for (const transport of ["webtransport", "websocket"]) {
    test(`${title} (${transport})`, { timeout: 20_000 }, () => clocked(async (clock) => {
      const daemon = { isUp: true };
      const script = (peer) => {
        peer.handle = ({ frame, request }) => {
          if (frame === "Ping") peer.say({ frame: "Pong", request, clock: 0 });
          return frame === "Ping";
        };
        if (daemon.isUp) return peer.welcome();
        peer.fail?.(new Error("down"));
        peer.break();
        return false;
      };
      const w = world({ transport, script });
      const client = await w.connect({ transport });
      await body({ w, client, clock, daemon, peer: await w.next() });
      client.close();
      await clock.pass(20_000);
      assert.equal(clock.pending, 0);
    }));
  }
};

/** The daemon goes away, and the client knows. */
const away = async ({ daemon, peer, clock }) => {
  daemon.isUp = false;
  peer.break();
  await clock.pass(1);
};

/** The daemon is back; gives the peer of the session after that. */
const back = async ({ w, daemon, client, clock }) => {
  daemon.isUp = true;
  while (client.state !== "open") await clock.pass(1000);
  return w.peers.at(-1);
};

const outcome = (promise) => promise.then(() => "receipt", ({ name, code, retry }) => ({ name, code, retry }));
const TIMED_OUT = { name: "timed_out", code: 0x03, retry: true };
const OVERLOADED = { name: "overloaded", code: 0x02, retry: true };

scene("what has outlived its time is not sent when the daemon returns", async (s) => {
  const { client, clock, peer } = s;
  // Sent and not acknowledged; never sent; without an end.
  const sent = outcome(client.publish("a", "sent", { lifetime: 3000 }));
  await settle();
  assert.equal((await peer.next("Publish")).number, 1);
  await away(s);
  const unsent = outcome(client.publish("a", "unsent", { lifetime: 3000, realtime: true }));
  const patient = client.publish("a", "patient"), lasting = client.publish("a", "lasting", { lifetime: 90_000 });
  await clock.pass(40_000);
  assert.deepEqual([await sent, await unsent], [TIMED_OUT, TIMED_OUT]);
  const next = await back(s);
  await settle();
  const publications = next.frames.filter(({ frame }) => frame === "Publish");
  assert.deepEqual(publications.map(({ number }) => number), [3, 4]);
  for (const publication of publications) next.receipt(publication);
  assert.deepEqual((await Promise.all([patient, lasting])).map(({ sequence }) => sequence), [3, 4]);
  // Its time passes afterwards, and nothing happens.
  await clock.pass(90_000);
});

scene("a time that passes with the timers asleep counts too", async (s) => {
  const { client, clock, peer } = s;
  const short = ["a", "b"].map((topic) => outcome(client.publish(topic, "x", { lifetime: 3000 })));
  const rest = ["a", "b"].map((topic) => client.publish(topic, "y"));
  await settle();
  await away(s);
  clock.jump(60_000);
  // Not by its timer: the session is there before.
  s.daemon.isUp = true;
  const next = await back(s);
  await settle();
  const publications = next.frames.filter(({ frame }) => frame === "Publish");
  assert.deepEqual(publications.map(({ topic, number }) => topic + number), ["a2", "b2"]);
  for (const publication of publications) next.receipt(publication);
  await Promise.all(rest);
  assert.deepEqual(await Promise.all(short), [TIMED_OUT, TIMED_OUT]);
});

scene("what has outlived its time makes room in the window", async ({ client, clock, peer }) => {
  const all = Array.from({ length: 1030 }, (_, i) => outcome(client.publish("a", "x", { lifetime: i ? 0 : 500 })));
  const large = Array.from({ length: 17 }, (_, i) =>
    outcome(client.publish("b", new Uint8Array(70_000), { lifetime: i ? 0 : 900 })));
  await settle();
  assert.equal(peer.frames.length, 1024);
  for (const publication of peer.frames.splice(0)) if (publication.number > 1) peer.receipt(publication);
  await settle();
  assert.deepEqual(peer.frames, [], "the first holds the window");
  await clock.pass(501);
  assert.deepEqual(peer.frames.map(({ number }) => number), [1025, 1026, 1027, 1028, 1029, 1030,
    ...Array.from({ length: 16 }, (_, i) => i + 1)]);
  for (const publication of peer.frames.splice(0, 6)) peer.receipt(publication);
  const [first, ...rest] = peer.frames.splice(0);
  await clock.pass(500);
  assert.deepEqual(peer.frames.map(({ number }) => number), [17], "one of those that go alone");
  // Too late: nobody waits for it.
  peer.receipt(first);
  for (const publication of [...rest, ...peer.frames.splice(0)]) peer.receipt(publication);
  assert.deepEqual(await Promise.all(all), [TIMED_OUT, ...Array(1029).fill("receipt")]);
  assert.deepEqual(await Promise.all(large), [TIMED_OUT, ...Array(16).fill("receipt")]);
});

scene("close() does not wait for what has outlived its time", async ({ client, clock }) => {
  const one = outcome(client.publish("a", "x", { lifetime: 500 }));
  await settle();
  let left = false;
  client.close().then(() => (left = true));
  await clock.pass(400);
  assert.equal(left, false);
  await clock.pass(200);
  assert.equal(left, true);
  assert.deepEqual(await one, TIMED_OUT);
});

scene("what waits to be sent is bounded in number", async (s) => {
  const { client } = s;
  await away(s);
  const waiting = Array.from({ length: 16_384 }, () => client.publish("a", ""));
  assert.deepEqual(await outcome(client.publish("a", "")), OVERLOADED);
  assert.deepEqual(await outcome(client.publish("b", "")), OVERLOADED);
  const next = await back(s);
  // Those that were refused have no number.
  let numbers = 0;
  while (numbers < 16_384) {
    await settle();
    for (const publication of next.frames.splice(0)) {
      assert.equal(publication.number, ++numbers);
      next.receipt(publication);
    }
  }
  await Promise.all(waiting);
  const one = client.publish("a", "");
  next.receipt(await next.next("Publish"));
  await one;
});

scene("what waits to be sent is bounded in bytes", async (s) => {
  const { client, clock } = s, MiB = 1 << 20;
  await away(s);
  const mine = (size, options) => outcome(client.publish("a", new Uint8Array(size), options));
  const short = Array.from({ length: 4 }, () => mine(16 * MiB - 100, { lifetime: 2000 }));
  assert.deepEqual(await mine(1000), OVERLOADED);
  const small = mine(0);
  await clock.pass(2100);
  assert.deepEqual(await Promise.all(short), Array(4).fill(TIMED_OUT));
  // There is room again.
  const after = mine(1000), next = await back(s);
  for (let i = 0; i < 2; i++) next.receipt(await next.next("Publish"));
  assert.deepEqual([await small, await after], ["receipt", "receipt"]);
});

test("a lifetime that cannot be meant is refused", async () => {
  const w = world({ transport: "websocket" }), client = await w.connect();
  for (const lifetime of [-1, 2 ** 31, "soon", NaN]) {
    await assert.rejects(client.publish("a", "x", { lifetime }), TypeError);
  }
  await client.close();
});
