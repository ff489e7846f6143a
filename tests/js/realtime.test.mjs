// Delivery in datagrams, and publishing in them: weir.js against a daemon behind a bad network.
// Time is simulated, chance is seeded: WEIR_SEED=n runs that seed only.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  begin, chunks, clocked, end, message, noise, seeded, settle, topic, world,
} from "./fake.mjs";
import { Relay } from "./relay.mjs";

const SEEDS = process.env.WEIR_SEED ? [Number(process.env.WEIR_SEED)]
  : [1, 2, 3, ...Array.from({ length: 9 }, () => Math.floor(Math.random() * 2 ** 31))];
const NONE = { datagrams: 0, repeated: 0, asked: 0, repaired: 0, late: 0 };

/** One test in simulated time, for each seed. */
const chance = (title, run) => {
  for (const seed of SEEDS) {
    test(`${title}: seed ${seed}`, { timeout: 60_000 }, () => clocked(async (clock) => {
      const random = seeded(seed), real = Math.random;
      Math.random = random;
      try {
        const said = await run({ clock, random });
        if (said) console.log(`${title}, seed ${seed}:`, JSON.stringify(said));
      } catch (error) {
        error.message = `WEIR_SEED=${seed}: ${error.message}`;
        throw error;
      } finally {
        Math.random = real;
      }
    }));
  }
};

/** A client, and its daemon, over whatever sessions it takes. */
const linked = async (clock, relay, transport = "webtransport") => {
  const w = world({ transport, script: (peer) => void relay.attach(peer) });
  const connecting = w.connect();
  await clock.pass(0);
  return { w, client: await connecting, relay };
};

/** Reads it to its end, with pauses now and then. */
const consume = async (subscription, { random = () => 1 } = {}) => {
  const events = [];
  for (;;) {
    const { value, done } = await subscription.next();
    if (done) return events;
    events.push(value);
    if (random() < 0.01) await new Promise((resolve) => setTimeout(resolve, random() * 400));
  }
};

chance("each message once, in three deliveries, through broken sessions", async ({ clock, random }) => {
  const rtt = 5 + random() * 100, loss = random() * 0.3;
  const relay = new Relay(random, { rtt, loss, jitter: random() * 10 });
  const { w, client } = await linked(clock, relay);
  const kinds = ["ordered", "unordered", "realtime"];
  const filters = { ordered: "a/*", unordered: "a/*", realtime: "b/*" };
  const subscriptions = kinds.map((delivery) => client.subscribe(filters[delivery], { delivery }));
  await clock.pass(4 * rtt);
  await Promise.all(subscriptions.map(({ ready }) => ready));
  const reading = subscriptions.map((subscription) => consume(subscription, { random }));
  const names = ["a/x", "a/y", "b/x", "b/y", "b/z"], total = 600;
  for (let i = 0; i < total; i++) {
    relay.accept(names[Math.floor(random() * names.length)], `${i}`);
    await clock.pass(random() < 0.6 ? 0 : random() * 40);
    if (i === 200 || i === 400) {
      relay.peer.break();
      await clock.pass(1000);
    }
  }
  // Long enough for the slowest repair, and for the pauses of those who read.
  await clock.pass(20_000);
  const stats = subscriptions.map((subscription) => ({ ...subscription.stats }));
  for (const subscription of subscriptions) subscription.close();
  for (const [i, events] of (await Promise.all(reading)).entries()) {
    for (const name of names.filter((name) => name[0] === filters[kinds[i]][0])) {
      const got = events.filter(({ topic }) => topic === name);
      assert.ok(got.every(({ kind }) => kind === "message"));
      const sequences = got.map(({ sequence }) => sequence);
      const { log } = relay.topic(name);
      if (kinds[i] !== "ordered") sequences.sort((a, b) => a - b);
      assert.deepEqual(sequences, log.map((_, n) => n + 1), `${kinds[i]} ${name}`);
      for (const event of got) assert.equal(event.text(), log[event.sequence - 1]);
    }
  }
  assert.deepEqual(stats[0], NONE);
  for (const { datagrams, repeated, asked, repaired, late } of stats.slice(1)) {
    assert.ok(datagrams > 50 && repeated > 0);
    assert.ok(loss < 0.1 || (asked > 0 && repaired > 0));
    assert.equal(late, 0);
  }
  assert.equal(w.peers.length, 3);
  client.close();
  await clock.pass(1);
  const { there, listed } = relay;
  return { rtt: Math.round(rtt), loss: loss.toFixed(2), there, listed, ...stats[2] };
});

chance("published in datagrams: accepted once, answered all", async ({ clock, random }) => {
  const rtt = 5 + random() * 100, loss = random() * 0.4;
  const relay = new Relay(random, { rtt, loss, jitter: random() * 10 });
  const { client } = await linked(clock, relay);
  const total = 300, promises = [];
  for (let i = 0; i < total; i++) {
    promises.push(client.publish(`t/${i % 3}`, `${i}`, { realtime: i % 10 > 0 }));
    await clock.pass(random() < 0.5 ? 0 : random() * 30);
    if (i === 150) relay.peer.break();
  }
  await clock.pass(5000);
  const answers = await Promise.all(promises);
  for (const [i, answer] of answers.entries()) {
    // Whoever did not ask for datagrams is told everything.
    if (i % 10 === 0) assert.ok(answer.sequence > 0);
  }
  for (let t = 0; t < 3; t++) {
    const texts = relay.topic(`t/${t}`).log.map((payload) => Number(new TextDecoder().decode(payload)));
    assert.deepEqual(texts.sort((a, b) => a - b),
      Array.from({ length: total / 3 }, (_, i) => i * 3 + t));
  }
  client.close();
  await clock.pass(1);
  return { rtt: Math.round(rtt), loss: loss.toFixed(2),
    acknowledged: answers.filter((answer) => answer === null).length };
});

// ---- One thing at a time ----

const scene = (title, body, transport = "webtransport") =>
  test(title, { timeout: 20_000 }, () => clocked(async (clock) => {
    const w = world({ transport });
    const client = await w.connect(), peer = await w.next();
    await body({ w, clock, client, peer });
    client.close();
    await clock.pass(1);
  }));

const subscribe = async (client, peer, filter, options) => {
  const subscription = client.subscribe(filter, options);
  const { request, ...asked } = await peer.next("Subscribe");
  peer.say({ frame: "Subscribed", request, position: 300 });
  await subscription.ready;
  return { subscription, request, asked };
};

/** Answers the ping that measures the round trip, after so long. */
const measured = async (clock, peer, rtt) => {
  const { request } = await peer.next("Ping");
  await clock.pass(rtt);
  peer.say({ frame: "Pong", request, clock: 0 });
  await settle();
};

const read = async (subscription, count) => {
  const got = [];
  while (got.length < count) {
    const { value } = await subscription.next();
    got.push(value.kind === "gap" ? `gap ${value.first}-${value.last} ${value.cause}` : value.text());
  }
  return got;
};

scene("whose a datagram is", async ({ clock, client, peer }) => {
  const ordered = await subscribe(client, peer, "o");
  const low = await subscribe(client, peer, "l", { delivery: "unordered", deadline: 5 });
  const high = await subscribe(client, peer, "h", { delivery: "realtime", deadline: 500 });
  assert.deepEqual([ordered, low, high].map(({ asked }) => [asked.delivery, asked.deadline]),
    [["Ordered", 0], ["Unordered", 0], ["Realtime", 500]]);
  peer.datagram(topic(1, "l"), message(1, 1), message(1, 2));
  peer.datagram({ frame: "For", request: high.request }, topic(2, "h"), message(2, 1));
  // Of nobody, and of a topic that nobody has announced.
  peer.datagram({ frame: "For", request: 99 }, topic(3, "x"), message(3, 1));
  peer.datagram(message(2, 1));
  peer.datagram({ frame: "For", request: high.request }, message(2, 2));
  assert.deepEqual(await read(low.subscription, 2), ["1:1", "1:2"]);
  assert.deepEqual(await read(high.subscription, 2), ["2:1", "2:2"]);
  assert.deepEqual(low.subscription.stats, { ...NONE, datagrams: 3 });
  assert.deepEqual(high.subscription.stats, { ...NONE, datagrams: 2 });
  // The lowest is that also when it is over.
  low.subscription.close();
  peer.datagram(message(1, 3));
  peer.datagram({ frame: "For", request: high.request }, message(2, 3));
  assert.deepEqual(await read(high.subscription, 1), ["2:3"]);
  assert.equal(client.state, "open");
});

scene("the lowest is none that was refused", async ({ client, peer }) => {
  const refused = client.subscribe("a/**/b", { delivery: "realtime" });
  const { request } = await peer.next("Subscribe");
  const next = await subscribe(client, peer, "a", { delivery: "realtime" });
  const last = await subscribe(client, peer, "b", { delivery: "realtime" });
  peer.say({ frame: "Failed", request, code: 0x21, reason: "" });
  await assert.rejects(refused.ready, { name: "bad_filter" });
  peer.datagram(topic(1, "a"), message(1, 1));
  assert.deepEqual(await read(next.subscription, 1), ["1:1"]);
  // It ends just when it is given up: that refuses the Unsubscribe, and not the subscription.
  next.subscription.close();
  await peer.next("Unsubscribe");
  peer.say({ frame: "Failed", request: next.request, code: 0x25, reason: "" });
  await settle();
  peer.datagram(topic(2, "b"), message(2, 1));
  peer.datagram({ frame: "For", request: last.request }, topic(2, "b"), message(2, 2));
  peer.datagram({ frame: "For", request: last.request }, message(2, 3));
  await settle();
  assert.deepEqual(last.subscription.stats, { ...NONE, datagrams: 2 });
});

scene("a topic said again, on its stream, in datagrams, on streams of their own", async ({ client, peer }) => {
  const { subscription, request } = await subscribe(client, peer, "a", { delivery: "realtime" });
  peer.datagram(topic(1, "a", 5), message(1, 5));
  const stream = peer.stream(request);
  stream.say(topic(1, "a", 5), message(1, 6));
  for (const frame of [message(1, 7), { frame: "Gap", topic: 1, first: 8, last: 9, cause: "Evicted" }]) {
    const own = peer.own(request);
    own.say(topic(1, "a", 5), frame);
    own.end();
  }
  await settle();
  stream.say(message(1, 10), message(1, 7));
  assert.deepEqual(await read(subscription, 5), ["1:5", "1:6", "1:7", "gap 8-9 evicted", "1:10"]);
  assert.deepEqual(subscription.stats, { ...NONE, datagrams: 1, repeated: 1 });
  // Forgotten, and back; the announcement of before comes late.
  peer.datagram(topic(9, "a", 1, 999n), message(9, 1));
  peer.datagram(topic(1, "a", 5), message(1, 11));
  peer.datagram(message(9, 2));
  assert.deepEqual(await read(subscription, 2), ["9:1", "9:2"]);
});

scene("asked for twice in datagrams, then on the control stream", async ({ clock, client, peer }) => {
  const { subscription, request } = await subscribe(client, peer, "a", { delivery: "realtime" });
  await measured(clock, peer, 40);
  peer.datagram(topic(1, "a"), message(1, 1));
  await clock.pass(3);
  peer.datagram(message(1, 3));
  await clock.pass(3);
  assert.deepEqual(peer.frames, []);
  await clock.pass(1);
  const repair = { frame: "Repair", subscription: request, topic: 1, holes: [[2, 2]] };
  assert.deepEqual(peer.frames.splice(0), [{ ...repair, datagram: true }]);
  await clock.pass(59);
  assert.deepEqual(peer.frames, []);
  await clock.pass(1);
  assert.deepEqual(peer.frames.splice(0), [{ ...repair, datagram: true }]);
  await clock.pass(60);
  assert.deepEqual(peer.frames.splice(0), [repair]);
  await clock.pass(1100);
  assert.deepEqual(peer.frames.splice(0), []);
  peer.stream(request).say(topic(1, "a"), message(1, 2), message(1, 3));
  assert.deepEqual(await read(subscription, 3), ["1:1", "1:3", "1:2"]);
  assert.deepEqual(subscription.stats,
    { datagrams: 2, repeated: 1, asked: 3, repaired: 1, late: 0 });
  // The last of a burst: told by its head.
  peer.stream(request).say({ frame: "Head", topic: 1, sequence: 5 });
  await clock.pass(6);
  assert.deepEqual(peer.frames, []);
  await clock.pass(1);
  assert.deepEqual(peer.frames.splice(0), [{ ...repair, holes: [[4, 5]], datagram: true }]);
  peer.datagram(message(1, 5), message(1, 4));
  assert.deepEqual(await read(subscription, 2), ["1:5", "1:4"]);
  await clock.pass(3000);
  assert.deepEqual(peer.frames, []);
});

scene("deadline: given up, told as late, not handed out when it comes after all", async ({ clock, client, peer }) => {
  const { subscription, request } =
    await subscribe(client, peer, "a", { delivery: "realtime", deadline: 100 });
  await measured(clock, peer, 20);
  peer.datagram(topic(1, "a"), message(1, 2));
  await clock.pass(89);
  assert.equal(subscription.stats.late, 0);
  await clock.pass(1);
  peer.datagram(message(1, 1), message(1, 3));
  // The daemon may say so too.
  peer.stream(request).say(topic(1, "a"), { frame: "Gap", topic: 1, first: 3, last: 7, cause: "Late" });
  await settle();
  peer.datagram(message(1, 8));
  assert.deepEqual(await read(subscription, 5),
    ["1:2", "gap 1-1 late", "1:3", "gap 4-7 late", "1:8"]);
  assert.deepEqual([subscription.stats.late, subscription.stats.repeated], [5, 1]);
});

scene("resumed: the lowest that is missing, and what was had is dropped again", async ({ w, clock, client, peer }) => {
  const { subscription } = await subscribe(client, peer, "a", { delivery: "realtime" });
  peer.datagram(topic(4, "a", 5), message(4, 5), message(4, 7), message(4, 10));
  assert.deepEqual(await read(subscription, 3), ["4:5", "4:7", "4:10"]);
  peer.break();
  await clock.pass(300);
  const second = await w.next();
  const { request, start, delivery } = await second.next("Subscribe");
  assert.equal(delivery, "Realtime");
  // 7 and 10 have arrived.
  assert.deepEqual([start.ResumeWith.topics, start.ResumeWith.had],
    [[{ topic: "a", epoch: 104, next: 6 }], [{ topic: 0, ranges: [[1, 1], [2, 1]] }]]);
  second.say({ frame: "Subscribed", request, position: 1 });
  // By another id, of another run: what was known by the old one is not confused with it.
  const stream = second.stream(request);
  stream.say(topic(4, "b"), message(4, 1), topic(5, "a", 6, 104n));
  for (const n of [6, 7, 8]) stream.say(message(5, n, `a${n}`));
  await settle();
  second.datagram(message(5, 11, "a11"));
  assert.deepEqual((await read(subscription, 4)).sort(), ["4:1", "a11", "a6", "a8"]);
  second.frames.length = 0;
  // What is still missing is asked for.
  await clock.pass(80);
  assert.deepEqual(second.frames.map(({ frame, topic, holes }) => [frame, topic, holes]),
    [["Repair", 5, [[9, 9]]]]);
  stream.say(message(5, 9, "a9"), message(5, 10, "a10"), message(5, 12, "a12"));
  assert.deepEqual(await read(subscription, 2), ["a9", "a12"]);
});

scene("resumed in the next run: what the daemon skips has arrived", async ({ w, clock, client, peer }) => {
  const { subscription } = await subscribe(client, peer, "a", { delivery: "realtime" });
  peer.datagram(topic(4, "a", 5), message(4, 5), message(4, 7), message(4, 9));
  assert.deepEqual(await read(subscription, 3), ["4:5", "4:7", "4:9"]);
  peer.break();
  await clock.pass(300);
  const second = await w.next(), { request } = await second.next("Subscribe");
  second.say({ frame: "Subscribed", request, position: 1 });
  const stream = second.stream(request);
  const gap = (first, last, cause) => ({ frame: "Gap", topic: 4, first, last, cause });
  // The earlier run has not kept 9, and 9 is another message now.
  stream.say(topic(4, "a", 6, 105n), gap(9, 9, "Lost"), message(4, 6), gap(7, 7, "Had"), message(4, 9));
  assert.deepEqual(await read(subscription, 3), ["gap 9-9 lost", "4:6", "4:9"]);
  second.frames.length = 0;
  await clock.pass(80);
  assert.deepEqual(second.frames.map(({ frame, topic, holes }) => [frame, topic, holes]),
    [["Repair", 4, [[8, 8]]]]);
});

scene("many holes: as many ranges are shown as a daemon takes", async ({ w, clock, client, peer }) => {
  const { subscription } = await subscribe(client, peer, "**", { delivery: "realtime" });
  for (let id = 1; id <= 20; id++) {
    peer.datagram(topic(id, `t/${id}`));
    for (let n = 2; n <= 140; n += 2) peer.datagram(message(id, n));
    await read(subscription, 70);
  }
  peer.break();
  await clock.pass(300);
  const { start: { ResumeWith: { topics, had } } } = await (await w.next()).next("Subscribe");
  assert.deepEqual([topics.length, had.length], [20, 16]);
  assert.ok(had.every(({ ranges }) => ranges.length === 64));
});

scene("what is not read is bounded, and repaired when it is read", async ({ clock, client, peer }) => {
  const { subscription, request } = await subscribe(client, peer, "a", { delivery: "realtime" });
  peer.datagram(topic(1, "a"));
  for (let n = 1; n <= 5000; n++) {
    peer.datagram(message(1, n));
    if (n % 500 === 0) await clock.pass(100);
  }
  await clock.pass(2000);
  peer.stream(request).say(topic(1, "a"), { frame: "Head", topic: 1, sequence: 5000 });
  await clock.pass(2000);
  const asks = () => peer.frames.splice(0).filter(({ frame }) => frame === "Repair");
  assert.deepEqual(asks(), []);
  assert.equal((await read(subscription, 512)).at(-1), "1:512");
  assert.deepEqual(asks(), []);
  await read(subscription, 2);
  assert.deepEqual(asks().map(({ holes }) => holes), [[[1025, 5000]]]);
  assert.deepEqual(subscription.stats, { ...NONE, datagrams: 5000, asked: 1 });
  assert.equal((await read(subscription, 510)).at(-1), "1:1024");
  // By stream, which holds back by itself.
  const stream = peer.stream(request);
  for (let n = 1025; n <= 5000; n++) stream.say(message(1, n, new Uint8Array(2000)));
  await settle();
  assert.ok(stream.waiting > 3000, `${stream.waiting} wait`);
  for (let n = 1025; n <= 5000; n++) assert.equal((await subscription.next()).value.sequence, n);
  assert.equal(subscription.stats.repaired, 3976);
});

scene("a datagram that is none ends the session", async ({ client, peer }) => {
  await subscribe(client, peer, "a", { delivery: "realtime" });
  const closed = new Promise((resolve) => client.addEventListener("state", resolve));
  peer.datagram(Uint8Array.of(3, 1, 1));
  assert.equal((await closed).detail.code, 0x10);
  assert.equal(peer.closed.code, 0x10);
});

scene("options that there are not", async ({ client }) => {
  for (const options of [{ delivery: "fast" }, { lag: "none" }, { from: "resume" }, { from: {} }]) {
    assert.throws(() => client.subscribe("a", options), TypeError);
  }
  for (const deadline of [-1, 0.5]) {
    assert.throws(() => client.subscribe("a", { delivery: "realtime", deadline }), RangeError);
  }
});

scene("published in a datagram: declared, repeated, then on the stream", async ({ clock, client, peer }) => {
  const lost = [];
  const { carry } = peer;
  const first = client.publish("a", "x", { realtime: true });
  const { alias, ...publication } = await peer.next("Publish");
  assert.deepEqual([publication.topic, publication.number, publication.datagram], ["a", 1, true]);
  await measured(clock, peer, 40);
  peer.frames.length = 0;
  // The round trip was a guess of 50 ms then.
  await clock.pass(44);
  assert.deepEqual(peer.frames, []);
  await clock.pass(1);
  assert.deepEqual(peer.frames.splice(0).map(({ number, datagram }) => [number, datagram]), [[1, undefined]]);
  peer.receipt({ alias, number: 1 }, 7);
  assert.equal((await first).sequence, 7);

  peer.carry = (bytes) => void lost.push(bytes.slice());
  const second = client.publish("a", "y", { realtime: true });
  await clock.pass(0);
  assert.equal(lost.length, 1);
  await clock.pass(3);
  assert.equal(lost.length, 1);
  await clock.pass(1);
  assert.equal(lost.length, 2);
  assert.deepEqual(lost[0], lost[1]);
  // Not acknowledged yet: the topic goes along, 4 bytes.
  assert.equal(lost[0][1], 1);
  await clock.pass(66);
  assert.deepEqual(peer.frames.splice(0).map(({ number, datagram }) => [number, datagram]), [[2, undefined]]);
  peer.datagram({ frame: "Acknowledge", alias, floor: 2, seen: 0 });
  assert.equal(await second, null);
  peer.receipt({ alias, number: 2 });

  // Known now. Out of order; and what was not in datagrams is not answered by their answers.
  peer.carry = carry;
  lost.length = 0;
  const done = [];
  const three = [3, 4, 5].map((n) =>
    client.publish("a", "z", { realtime: n !== 4 }).then((receipt) => done.push([n, receipt?.sequence])));
  await clock.pass(0);
  const [, , , ...rest] = peer.frames.splice(0).map(({ number, datagram }) => [number, datagram]);
  assert.deepEqual(rest, []);
  peer.datagram({ frame: "Acknowledge", alias, floor: 3, seen: (1n << 63n) | 3n });
  await settle();
  assert.deepEqual(done, [[3, undefined], [5, undefined]]);
  peer.receipt({ alias, number: 4 }, 9);
  await Promise.all(three);
  await clock.pass(1000);
  assert.deepEqual(done.at(-1), [4, 9]);
  assert.deepEqual(peer.frames.filter(({ frame }) => frame === "Publish"), []);
});

scene("refused, though sent in a datagram", async ({ client, peer }) => {
  const refused = client.publish("a", "x", { realtime: true });
  const { alias, number } = await peer.next("Publish");
  peer.say({ frame: "Rejected", alias, number, code: 0x41, reason: "no" });
  await assert.rejects(refused, { name: "forbidden" });
});

scene("too large for a datagram: as ever", async ({ client, peer }) => {
  client.publish("a", new Uint8Array(1300), { realtime: true });
  assert.equal((await peer.next("Publish")).datagram, undefined);
  // With the topic it does not fit, without it does.
  client.publish("long".repeat(50), new Uint8Array(1100), { realtime: true });
  assert.equal((await peer.next("Publish")).datagram, undefined);
});

scene("datagrams that nobody takes away do not pile up", async ({ clock, client, peer }) => {
  let taken = 0;
  peer.link.datagrams.writable = new WritableStream({ write: () => (taken++, new Promise(() => {})) });
  for (let i = 0; i < 500; i++) client.publish("a", "x", { realtime: true });
  await settle();
  const publications = () => peer.frames.filter(({ frame }) => frame === "Publish");
  assert.ok(publications().length > 400 && taken === 1, `${publications().length} by stream`);
  await clock.pass(100);
  assert.equal(new Set(publications().map(({ number }) => number)).size, 500);
});

scene("over WebSocket: as ordered, and publishes as ever", async ({ clock, client, peer }) => {
  const { subscription, request } = await subscribe(client, peer, "a", { delivery: "realtime" });
  peer.stream(request).say(topic(1, "a"), message(1, 1), message(1, 2), message(1, 2));
  assert.deepEqual(await read(subscription, 2), ["1:1", "1:2"]);
  assert.deepEqual(subscription.stats, { ...NONE, repeated: 1 });
  const receipt = client.publish("a", "x", { realtime: true });
  peer.receipt(await peer.next("Publish"), 3);
  assert.equal((await receipt).sequence, 3);
  assert.deepEqual(peer.frames, []);
}, "websocket");

test("large ones on streams of their own, side by side; one that is reset is a gap and nothing else", () =>
  clocked(async (clock) => {
    for (const delivery of ["unordered", "realtime"]) {
      const w = world({ transport: "webtransport" });
      const connecting = w.connect();
      await clock.pass(0);
      const client = await connecting, peer = await w.next();
      const subscription = client.subscribe("a", { delivery });
      await clock.pass(0);
      const { request } = await peer.next("Subscribe");
      peer.say({ frame: "Subscribed", request, position: 0 });
      const payloads = [noise(100_000), noise(200_000), noise(300_000)];
      const streams = payloads.map((payload, n) => {
        const stream = peer.own(request);
        stream.say(topic(1, "a"), begin(1, n + 1, payload.length));
        return stream;
      });
      for (let n = 0; n < 5; n++) {
        payloads.forEach((payload, i) => {
          const part = chunks(payload)[n];
          if (part && (i !== 1 || n < 2)) streams[i].say(part);
        });
        await clock.pass(0);
      }
      streams[1].reset();
      for (const n of [2, 0]) {
        streams[n].say(end);
        streams[n].end();
        await clock.pass(0);
        const { value } = await subscription.next();
        assert.deepEqual([value.sequence, value.payload], [n + 1, payloads[n]]);
      }
      peer.own(request).say(topic(1, "a"),
        { frame: "Gap", topic: 1, first: 2, last: 2, cause: "Aborted" }, message(1, 4));
      const { value } = await subscription.next();
      assert.deepEqual([value.kind, value.first, value.last, value.cause], ["gap", 2, 2, "aborted"]);
      assert.equal((await subscription.next()).value.sequence, 4);
      client.close();
      await clock.pass(1);
    }
  }));
