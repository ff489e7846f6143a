import assert from "node:assert/strict";
import { test } from "node:test";
import {
  begin, chunks, clocked, end, message, noise, settle, tick, topic, world,
} from "./fake.mjs";

// Both transports promise the same.
const both = (name, body) => {
  for (const transport of ["webtransport", "websocket"]) {
    test(`${name} (${transport})`, { timeout: 20_000 }, async () => {
      const w = world({ transport });
      const client = await w.connect({ timeout: 1000 });
      try {
        await body({ w, client, peer: await w.next(), transport });
      } finally {
        await client.close();
      }
    });
  }
};

const confirm = (peer, { request }, position = 300) =>
  peer.say({ frame: "Subscribed", request, position });

const subscribed = async (peer, subscription) => {
  const asked = await peer.next("Subscribe");
  confirm(peer, asked);
  await subscription.ready;
  return asked;
};

const read = async (subscription, count) => {
  const texts = [];
  while (texts.length < count) {
    const { value, done } = await subscription.next();
    if (done) break;
    texts.push(value.kind === "gap" ? `gap ${value.first}-${value.last} ${value.cause}`
      : value.text());
  }
  return texts;
};

const becomes = (client, state) => new Promise((resolve) => {
  client.addEventListener("state", function on(event) {
    if (event.detail.state !== state) return;
    client.removeEventListener("state", on);
    resolve(event.detail);
  });
});

both("a stream that comes before Subscribed is handed out after it", async ({ client, peer }) => {
  const subscription = client.subscribe("a/**");
  const asked = await peer.next("Subscribe");
  assert.equal(asked.start, "New");
  peer.stream(asked.request).say(topic(4, "a/b", 5), message(4, 5));
  let got = null;
  const first = subscription.next().then(({ value }) => (got = value));
  await settle();
  assert.equal(got, null);
  confirm(peer, asked);
  await first;
  assert.deepEqual([got.kind, got.topic, got.epoch, got.sequence, got.text(), got.stamp],
    ["message", "a/b", 104n, 5, "4:5", null]);
});

both("after a break nothing is missed and nothing repeated", async ({ w, client, peer }) => {
  const subscription = client.subscribe("**", { lag: "newest" });
  const first = await subscribed(peer, subscription);
  peer.stream(first.request).say(topic(4, "a", 5), message(4, 5), topic(6, "rests", 3),
    message(6, 3), { frame: "Gap", topic: 4, first: 6, last: 8, cause: "Skipped" }, message(4, 9));
  assert.deepEqual(await read(subscription, 3), ["4:5", "6:3", "gap 6-8 skipped"]);
  await settle();
  peer.break();
  const second = await w.next();
  // What had come is handed out, not asked for again.
  assert.deepEqual(await read(subscription, 1), ["4:9"]);
  const waiting = read(subscription, 2);
  const again = await second.next("Subscribe");
  assert.deepEqual([again.filter, again.lag], ["**", "Newest"]);
  assert.deepEqual(again.start, { Resume: { since: { run: 7, position: 300 }, topics: [
    { topic: "a", epoch: 104, next: 10 }, { topic: "rests", epoch: 106, next: 4 },
  ] } });
  second.stream(again.request).say(topic(40, "a", 10, 104n), message(40, 10));
  confirm(second, again, 999);
  await settle();
  second.break();
  // Where it first began, and the topic that rested, are kept.
  const third = await w.next();
  const last = await third.next("Subscribe");
  assert.deepEqual(last.start, { Resume: { since: { run: 7, position: 300 }, topics: [
    { topic: "a", epoch: 104, next: 11 }, { topic: "rests", epoch: 106, next: 4 },
  ] } });
  // The daemon has forgotten one: it begins anew.
  third.stream(last.request).say(topic(1, "rests", 1, 555n), message(1, 1));
  assert.deepEqual(await waiting, ["40:10", "1:1"]);
});

both("what waits while the consumer is away is not lost", async ({ w, client, peer }) => {
  const subscription = client.subscribe("a", { from: "all" });
  const asked = await subscribed(peer, subscription);
  peer.stream(asked.request).say(topic(1, "a"), message(1, 1), message(1, 2), message(1, 3));
  await settle();
  assert.deepEqual(await read(subscription, 1), ["1:1"]);
  peer.break();
  const second = await w.next();
  await settle();
  // Not while two are queued.
  assert.deepEqual(second.frames.map(({ frame }) => frame), []);
  const rest = read(subscription, 3);
  const again = await second.next("Subscribe");
  assert.deepEqual(again.start, { Resume: { since: { run: 0, position: 0 }, topics: [
    { topic: "a", epoch: 101, next: 4 },
  ] } });
  second.stream(again.request).say(topic(1, "a", 4, 101n), message(1, 4));
  assert.deepEqual(await rest, ["1:2", "1:3", "1:4"]);
});

for (const [from, start] of [["latest", "Latest"], ["last:3", { Last: 3 }], [8, { Sequence: 8 }]]) {
  both(`${from}, and nothing heard of: again as the first time`, async ({ w, client, peer }) => {
    const subscription = client.subscribe("a", { from });
    assert.deepEqual((await subscribed(peer, subscription)).start, start);
    peer.break();
    assert.deepEqual((await (await w.next()).next("Subscribe")).start, start);
  });
}

both("new, and nothing heard of: from where it began", async ({ w, client, peer }) => {
  const subscription = client.subscribe("a");
  await subscribed(peer, subscription);
  peer.break();
  assert.deepEqual((await (await w.next()).next("Subscribe")).start,
    { Resume: { since: { run: 7, position: 300 }, topics: [] } });
});

both("not confirmed: again as the first time", async ({ w, client, peer }) => {
  const subscription = client.subscribe("a", { from: "all" });
  await peer.next("Subscribe");
  peer.break();
  const second = await w.next();
  assert.equal((await subscribed(second, subscription)).start, "All");
});

both("a sequence missing or repeated is a defect, and thrown", async ({ client, peer }) => {
  for (const [good, bad] of [[message(1, 1), message(1, 3)], [message(1, 1), message(1, 1)],
    [message(1, 1), { frame: "Gap", topic: 1, first: 3, last: 4, cause: "Evicted" }],
    [message(1, 1), message(2, 1)]]) {
    const subscription = client.subscribe("a");
    const { request } = await subscribed(peer, subscription);
    peer.stream(request).say(topic(1, "a"), good, bad);
    assert.deepEqual(await read(subscription, 1), ["1:1"]);
    await assert.rejects(subscription.next(), { name: "malformed", code: 0x10, retry: false });
    assert.deepEqual(await subscription.next(), { value: undefined, done: true });
    assert.equal((await peer.next("Unsubscribe")).subscription, request);
  }
});

both("frames for later are ignored", async ({ client, peer }) => {
  const subscription = client.subscribe("a");
  const { request } = await subscribed(peer, subscription);
  peer.say({ frame: "Drain", within: 1, reason: "" },
    { frame: "Acknowledge", alias: 1, floor: 1, seen: 0 });
  peer.stream(request).say(topic(1, "a"), { frame: "Head", topic: 1, sequence: 9 }, message(1, 1));
  assert.deepEqual(await read(subscription, 1), ["1:1"]);
});

const large = noise(200_000), parts = chunks(large);

both("a large message comes in parts, and is handed out whole", async ({ client, peer }) => {
  const subscription = client.subscribe("*"), other = client.subscribe("b");
  const { request } = await subscribed(peer, subscription);
  const asked = await subscribed(peer, other);
  const say = (...frames) => peer.stream(request).say(...frames);
  say(topic(1, "a"), topic(2, "b"), begin(1, 1, large.length));
  peer.stream(asked.request).say(topic(2, "b"));
  for (const [n, part] of parts.entries()) {
    // Other topics, and on the one channel other subscriptions, have their turns.
    say(part, message(2, n + 1));
    assert.deepEqual(await read(subscription, 1), [`2:${n + 1}`]);
    peer.stream(asked.request).say(message(2, n + 1));
    assert.deepEqual(await read(other, 1), [`2:${n + 1}`]);
  }
  say(end, message(1, 2));
  const { value } = await subscription.next();
  assert.deepEqual([value.topic, value.sequence, value.count, value.stamp], ["a", 1, 3, 2]);
  assert.deepEqual(value.payload, large);
  assert.equal(value.payload.buffer.byteLength, large.length);
  assert.deepEqual(await read(subscription, 1), ["1:2"]);
});

both("aborted: a gap and nothing else", async ({ client, peer }) => {
  const subscription = client.subscribe("a");
  const { request } = await subscribed(peer, subscription);
  peer.stream(request).say(topic(1, "a"), begin(1, 1, large.length), parts[0],
    { frame: "Abort", code: 0x51 },
    { frame: "Gap", topic: 1, first: 1, last: 1, cause: "Aborted" },
    begin(1, 2, large.length), ...parts, end);
  assert.deepEqual(await read(subscription, 1), ["gap 1-1 aborted"]);
  assert.deepEqual((await subscription.next()).value.payload, large);
});

both("a break inside a large message: from its beginning", async ({ w, client, peer }) => {
  const subscription = client.subscribe("a");
  const { request } = await subscribed(peer, subscription);
  peer.stream(request).say(topic(1, "a"), message(1, 1), begin(1, 2, large.length), parts[0]);
  assert.deepEqual(await read(subscription, 1), ["1:1"]);
  const next = subscription.next();
  await settle();
  peer.break();
  const second = await w.next();
  const again = await second.next("Subscribe");
  assert.equal(again.start.Resume.topics[0].next, 2);
  second.stream(again.request).say(topic(1, "a", 2), begin(1, 2, large.length), ...parts, end);
  assert.deepEqual((await next).value.payload, large);
});

for (const [what, ...wrong] of [
  ["too short", end], ["too long", ...parts, parts[0]], ["no beginning", { frame: "Abort", code: 1 }, end],
  ["a chunk of nothing", { frame: "Abort", code: 1 }, parts[0]],
  ["above the limit", begin(1, 1, (1 << 24) + 1)], ["without bounds", begin(1, 1, 2n ** 64n - 1n)],
]) {
  both(`a large message, ${what}: it is over, and the daemon is told`, async ({ client, peer, transport }) => {
    const subscription = client.subscribe("a");
    const { request } = await subscribed(peer, subscription);
    const closed = becomes(client, "closed");
    peer.stream(request).say(topic(1, "a"), begin(1, 1, large.length), ...wrong);
    await closed;
    await assert.rejects(subscription.next(), { name: "malformed" });
    assert.equal(peer.closed.code, transport === "websocket" ? 4016 : 0x10);
  });
}

both("get: in parts, or given up half-way", async ({ client, peer }) => {
  for (const given of [true, false]) {
    const got = client.get("a");
    const { request } = await peer.next("Get");
    const stream = peer.stream(request);
    stream.say(topic(1, "a", 7), begin(1, 7, large.length), parts[0]);
    peer.say({ frame: "Drain", within: 1, reason: "" });
    if (given) {
      stream.say(...parts.slice(1), end);
      const { sequence, payload } = await got;
      assert.deepEqual([sequence, payload], [7, large]);
    } else {
      stream.say({ frame: "Abort", code: 0x31 });
      await assert.rejects(got, { name: "evicted", code: 0x31 });
    }
    stream.end();
  }
});

both("refused: told by ready and by the iterator", async ({ client, peer }) => {
  const subscription = client.subscribe("a**");
  const { request } = await peer.next("Subscribe");
  peer.say({ frame: "Failed", request, code: 0x21, reason: "a filter is …" });
  const error = { name: "bad_filter", code: 0x21, retry: false, message: "a filter is …" };
  await assert.rejects(subscription.ready, error);
  await assert.rejects(subscription.next(), error);
  assert.equal((await subscription.next()).done, true);
});

both("lagged: resumed by itself, or thrown if it asked for that", async ({ client, peer }) => {
  for (const lag of ["oldest", "disconnect"]) {
    const subscription = client.subscribe("a", { lag });
    const { request } = await subscribed(peer, subscription);
    const stream = peer.stream(request);
    // The end may come before the stream's last messages.
    stream.say(topic(1, "a"), message(1, 1));
    await settle();
    peer.say({ frame: "Ended", request, code: 0x50, reason: "behind" });
    if (peer.transport === "webtransport") stream.say(message(1, 2));
    stream.end();
    const had = peer.transport === "webtransport" ? ["1:1", "1:2"] : ["1:1"];
    assert.deepEqual(await read(subscription, had.length), had);
    const next = subscription.next();
    if (lag === "disconnect") {
      await assert.rejects(next, { name: "lagged", retry: true });
      continue;
    }
    const again = await peer.next("Subscribe");
    assert.deepEqual(again.start.Resume.topics, [{ topic: "a", epoch: 101, next: had.length + 1 }]);
    peer.stream(again.request).say(topic(1, "a", 7, 200n), message(1, 7));
    assert.equal((await next).value.sequence, 7);
    subscription.close();
  }
});

both("ended before its stream has come: all is asked for again", async ({ client, peer }) => {
  const subscription = client.subscribe("a");
  const { request } = await subscribed(peer, subscription);
  peer.say({ frame: "Ended", request, code: 0x50, reason: "behind" });
  peer.stream(request).say(topic(1, "a"), message(1, 1));
  const again = await peer.next("Subscribe");
  assert.deepEqual(again.start, { Resume: { since: { run: 7, position: 300 }, topics: [] } });
  peer.stream(again.request).say(topic(1, "a"), message(1, 1));
  assert.deepEqual(await read(subscription, 1), ["1:1"]);
});

both("leaving the loop, close() and a signal end a subscription", async ({ client, peer }) => {
  const abort = new AbortController();
  const ways = [
    (subscription) => subscription.close(),
    () => abort.abort(),
    async (subscription) => {
      for await (const { kind } of subscription) if (kind) break;
    },
  ];
  for (const way of ways) {
    const subscription = client.subscribe("a", { signal: abort.signal.aborted ? undefined
      : abort.signal });
    const { request } = await subscribed(peer, subscription);
    peer.stream(request).say(topic(1, "a"), message(1, 1));
    await settle();
    await way(subscription);
    assert.equal((await peer.next("Unsubscribe")).subscription, request);
    assert.deepEqual(await subscription.next(), { value: undefined, done: true });
  }
});

both("a reader that waits is woken by close()", async ({ client, peer }) => {
  const subscription = client.subscribe("a");
  const { request } = await subscribed(peer, subscription);
  peer.stream(request).say(topic(1, "a"));
  const reads = [subscription.next(), subscription.next()];
  await settle();
  subscription.close();
  for (const result of await Promise.all(reads)) assert.equal(result.done, true);
});

both("a slow consumer costs a bounded memory", async ({ client, peer, transport }) => {
  const subscription = client.subscribe("a", { from: "all" });
  let { request } = await subscribed(peer, subscription);
  const payload = new Uint8Array(50_000), total = 100;
  // The daemon sends all it has, until it hears that it should not.
  const serve = async (request, from) => {
    const stream = peer.stream(request);
    stream.say(topic(1, "a", from, 9n));
    for (let n = from; n <= total; n++) {
      stream.say(message(1, n, payload));
      await tick();
    }
    return stream;
  };
  const stream = await serve(request, 1);
  await settle();
  let next = 1;
  if (transport === "webtransport") {
    // 5 MB were offered, and about 1 MiB taken: QUIC holds the rest at the daemon.
    assert.ok(stream.waiting > 70, `${stream.waiting} of 100 wait`);
    assert.deepEqual(peer.frames.filter(({ frame }) => frame === "Unsubscribe"), []);
    while (next <= total) assert.equal((await subscription.next()).value.sequence, next++);
    assert.ok(stream.waiting <= 0);
    return;
  }
  let rounds = 0;
  for (; next <= total; rounds++) {
    assert.equal((await peer.next("Unsubscribe")).subscription, request);
    peer.say({ frame: "Ended", request, code: 0, reason: "" });
    // Nothing more until all that waits has been read.
    for (let i = 0; i < 21; i++) assert.equal((await subscription.next()).value.sequence, next++);
    const pending = subscription.next();
    const again = await peer.next("Subscribe");
    assert.deepEqual(again.start.Resume.topics, [{ topic: "a", epoch: 9, next }]);
    request = again.request;
    confirm(peer, again);
    const served = serve(request, next);
    assert.equal((await pending).value.sequence, next++);
    if (total - next < 20) {
      while (next <= total) assert.equal((await subscription.next()).value.sequence, next++);
    }
    await served;
  }
  assert.ok(rounds >= 3, `${rounds}`);
});

both("what has no answer is sent again with its number", async ({ w, client, peer }) => {
  const receipts = ["x", "y", "z"].map((text) => client.publish("a", text));
  receipts.push(client.publish("b", new Uint8Array([1, 2])));
  const sent = [];
  for (let i = 0; i < 4; i++) sent.push(await peer.next("Publish"));
  assert.deepEqual(sent.map(({ topic, number }) => topic + number), ["a1", "a2", "a3", "b1"]);
  assert.ok(sent.every(({ stamp }) => Math.abs(stamp / 1000 - Date.now()) < 5000));
  // Answered in any order.
  peer.receipt(sent[1], 12);
  assert.deepEqual(await receipts[1], { sequence: 12, count: 1, since: null,
    digest: "00".repeat(32), duplicate: false });
  peer.break();
  receipts.push(client.publish("a", "new"));
  const second = await w.next();
  const again = [];
  for (let i = 0; i < 4; i++) again.push(await second.next("Publish"));
  assert.deepEqual(again.map(({ topic, number }) => topic + number), ["a1", "a3", "b1", "a4"]);
  assert.deepEqual(again[0], sent[0]);
  assert.deepEqual(second.hello, peer.hello);
  const { alias, number } = again[1];
  second.say({ frame: "Rejected", alias, number, code: 0x28, reason: "old" });
  await assert.rejects(receipts[2], { name: "stale", code: 0x28, retry: false });
  for (const i of [3, 0, 2]) second.receipt(again[i]);
  second.receipt(again[0]); // An answer too many changes nothing.
  assert.deepEqual((await Promise.all([receipts[0], receipts[3], receipts[4]]))
    .map(({ sequence }) => sequence), [1, 1, 4]);
});

both("the window bounds what is in flight", async ({ client, peer }) => {
  const receipts = Array.from({ length: 1100 }, () => client.publish("a", "x"));
  await settle();
  assert.equal(peer.frames.length, 1024);
  // All but the oldest are answered: it alone holds the window.
  const [first, ...rest] = peer.frames.splice(0);
  for (const publication of rest) peer.receipt(publication);
  await settle();
  assert.deepEqual(peer.frames.map(({ number }) => number), []);
  peer.receipt(first);
  await settle();
  assert.deepEqual(peer.frames.map(({ number }) => number),
    Array.from({ length: 76 }, (_, i) => 1025 + i));
  for (const publication of peer.frames.splice(0)) peer.receipt(publication);
  await Promise.all(receipts);
});

both("a large payload goes alone, 16 at a time", async ({ client, peer, transport }) => {
  const receipts = Array.from({ length: 18 }, () => client.publish("a", new Uint8Array(70_000)));
  await settle();
  assert.equal(peer.frames.length, 16);
  if (transport === "webtransport") assert.equal(peer.alone, 16);
  for (let i = 0; i < 18; i++) peer.receipt(await peer.next("Publish"));
  await Promise.all(receipts);
});

both("what would cost the session is refused here", async ({ client, peer }) => {
  await assert.rejects(client.publish("x".repeat(256), ""), { name: "bad_topic" });
  await assert.rejects(client.publish("a", new Uint8Array((1 << 24) + 1)),
    { name: "payload_too_large" });
  await assert.rejects(client.publish("a", 5), TypeError);
  await assert.rejects(client.publish("a"), TypeError);
  assert.throws(() => client.subscribe("a", { from: "last:x" }), TypeError);
  assert.throws(() => client.subscribe("a", { from: -1 }), RangeError);
  await assert.rejects(client.get("a", { digest: "00" }), TypeError);
  await assert.rejects(client.top("a", -1), RangeError);
  for (let i = 0; i < 4096; i++) {
    client.publish(`t${i}`, "").catch(() => {});
    if (i % 500 === 0) await settle();
    for (const publication of peer.frames.splice(0)) peer.receipt(publication);
  }
  await assert.rejects(client.publish("one more", ""), { name: "bad_alias", code: 0x24 });
  client.publish("t5", "").catch(() => {});
  await settle();
  for (const publication of peer.frames.splice(0)) peer.receipt(publication);
});

both("questions, also across a break", async ({ w, client, peer }) => {
  const subscription = client.subscribe("s");
  const { request } = await subscribed(peer, subscription);
  const got = client.get("a", { sequence: 7 }), top = client.top("a", 3), ping = client.ping();
  const get = await peer.next("Get");
  assert.deepEqual(get.which, { Sequence: 7 });
  // Answers and subscriptions in turns.
  const answer = peer.stream(get.request), stream = peer.stream(request);
  answer.say(topic(4, "a", 7));
  stream.say(topic(5, "s"), message(5, 1));
  answer.say(message(4, 7, "found"));
  stream.say(message(5, 2));
  answer.end();
  const found = await got;
  const { topic: name, epoch, sequence } = found;
  assert.deepEqual([name, epoch, sequence, found.text()], ["a", 104n, 7, "found"]);
  assert.deepEqual(await read(subscription, 2), ["5:1", "5:2"]);
  assert.equal((await peer.next("Top")).k, 3);
  peer.say({ frame: "Pong", request: (await peer.next("Ping")).request, clock: 0 });
  assert.ok(await ping >= 0);
  peer.break();
  const second = await w.next();
  const entry = { digest: new Uint8Array(32), count: 2, since: 5000, sequence: 1, size: 1,
    payload: null };
  second.say({ frame: "Top", request: (await second.next("Top")).request, entries: [entry] });
  const [ranking] = await top;
  assert.deepEqual([ranking.count, ranking.since, ranking.payload, ranking.text()],
    [2, 5, null, null]);
  const none = client.get("b");
  const asked = await second.next("Get");
  second.say({ frame: "Failed", request: asked.request, code: 0x30, reason: "none" });
  await assert.rejects(none, { name: "not_found", message: "none" });
});

both("a goodbye without retry closes, and says why", async ({ client, peer }) => {
  const subscription = client.subscribe("a");
  await subscribed(peer, subscription);
  const next = subscription.next(), receipt = client.publish("a", "x"), ping = client.ping();
  for (const promise of [next, receipt, ping]) promise.catch(() => {});
  const event = becomes(client, "closed");
  await settle();
  peer.say({ frame: "Goodbye", code: 0x41, reason: "not for you", retry: false });
  const detail = await event;
  assert.deepEqual([detail.code, detail.reason], [0x41, "not for you"]);
  assert.equal(client.state, "closed");
  assert.equal(peer.closed.code % 1000, 0);
  const error = { name: "forbidden", code: 0x41, retry: false };
  for (const promise of [next, receipt, ping]) await assert.rejects(promise, error);
  await assert.rejects(client.publish("a", "x"), { name: "closed" });
  await assert.rejects(client.ping(), { name: "closed" });
  assert.throws(() => client.subscribe("a"), { name: "closed" });
});

both("a goodbye with retry, and again", async ({ client, peer }) => {
  const states = [];
  client.addEventListener("state", ({ detail }) => states.push([detail.state, detail.code]));
  peer.say({ frame: "Goodbye", code: 1, reason: "stopping", retry: true });
  await becomes(client, "open");
  assert.deepEqual(states, [["reconnecting", 1], ["open", null]]);
});

both("malformed bytes end it, and the daemon is told", async ({ client, peer, transport }) => {
  const event = becomes(client, "closed");
  peer.raw(Uint8Array.of(1, 0x14));
  assert.equal((await event).code, 0x10);
  assert.equal(peer.closed.code, transport === "websocket" ? 4016 : 16);
});

both("close() waits for receipts", async ({ client, peer }) => {
  const receipt = client.publish("a", "x"), second = client.publish("a", "y");
  const subscription = client.subscribe("a");
  await subscribed(peer, subscription);
  const publication = await peer.next("Publish");
  const other = await peer.next("Publish");
  let left = false;
  const closing = client.close().then(() => (left = true));
  assert.equal((await subscription.next()).done, true);
  await settle();
  assert.equal(left, false);
  await assert.rejects(client.publish("a", "z"), { name: "closed" });
  peer.receipt(other);
  await second;
  await settle();
  assert.equal(left, false);
  peer.receipt(publication);
  assert.equal((await receipt).sequence, 1);
  await closing;
  assert.equal((await peer.next("Goodbye")).code, 0);
  assert.ok(peer.closed);
  assert.equal(client.state, "closed");
});

for (const transport of ["webtransport", "websocket"]) {
  test(`a silent daemon is pinged, then left (${transport})`, () => clocked(async (clock) => {
    const w = world({ transport });
    const client = await w.connect(), peer = await w.next();
    await clock.pass(4900);
    assert.deepEqual(peer.frames, []);
    await clock.pass(200);
    const { request } = await peer.next("Ping");
    peer.say({ frame: "Pong", request, clock: 0 });
    await clock.pass(4900);
    assert.deepEqual([client.state, peer.frames], ["open", []]);
    const event = becomes(client, "reconnecting");
    await clock.pass(1000);
    await peer.next("Ping");
    await clock.pass(4900);
    assert.equal(client.state, "open");
    await clock.pass(1200);
    assert.match((await event).reason, /no answer for/);
    await w.next();
    await settle();
    assert.equal(client.state, "open");
    client.close();
    await clock.pass(1);
  }));
}

for (const transport of ["webtransport", "websocket"]) {
  test(`an answer that is late is a reason to ping (${transport})`, () => clocked(async (clock) => {
    const w = world({ transport });
    const client = await w.connect(), peer = await w.next();
    const asks = {
      Publish: () => client.publish("a", "x").catch(() => {}),
      Subscribe: () => client.subscribe("a").ready.catch(() => {}),
      Get: () => client.get("a").catch(() => {}),
    };
    for (const [kind, ask] of Object.entries(asks)) {
      await clock.pass(500);
      ask();
      await clock.pass(990);
      await peer.next(kind);
      assert.deepEqual(peer.frames, [], kind);
      await clock.pass(1010);
      peer.say({ frame: "Pong", request: (await peer.next("Ping")).request, clock: 0 });
    }
    // The daemon lives, though it has not answered: once is enough.
    await clock.pass(2000);
    assert.deepEqual([client.state, peer.frames], ["open", []]);
    // And the answer that the page could not take yet is one.
    client.publish("a", "y").catch(() => {});
    await clock.pass(2000);
    await peer.next("Ping");
    await clock.pass(3000);
    clock.jump(60_000);
    await clock.pass(100);
    peer.say({ frame: "Pong", request: 0, clock: 0 });
    await clock.pass(2000);
    assert.equal(client.state, "open");
    client.close();
    await clock.pass(20_000);
  }));
}

test("a stream left unread that may block the session is given up, and resumed", () =>
  clocked(async (clock) => {
    const w = world({ transport: "webtransport" });
    const client = await w.connect(), peer = await w.next();
    const subscription = client.subscribe("a");
    const { request } = await subscribed(peer, subscription);
    const stream = peer.stream(request), payload = new Uint8Array(400_000);
    stream.say(topic(1, "a", 1, 9n));
    for (let n = 1; n <= 9; n++) stream.say(message(1, n, payload));
    await settle();
    assert.ok(stream.waiting > 0);
    await clock.pass(3500);
    await peer.next("Ping");
    assert.deepEqual(peer.frames, []);
    await clock.pass(3000);
    assert.equal((await peer.next("Unsubscribe")).subscription, request);
    assert.equal(client.state, "open");
    let next = 1;
    for (; next <= 3; next++) assert.equal((await subscription.next()).value.sequence, next);
    subscription.next();
    const again = await peer.next("Subscribe");
    assert.deepEqual(again.start.Resume.topics, [{ topic: "a", epoch: 9, next }]);
    client.close();
    await clock.pass(1);
  }));
