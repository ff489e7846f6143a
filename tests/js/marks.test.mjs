// Marks: positions first, names only where they are needed. So a filter may match any number of topics.

import assert from "node:assert/strict";
import { test } from "node:test";
import { codec } from "../../web/weir/index.js";
import { message, settle, topic, world } from "./fake.mjs";

const LIMIT = 1 << 20;
const MANY = 25_000;
// Names of 65 characters: 25,000 of them are 2 MB.
const name = (n) => `${"a-segment-that-is-quite-long/".repeat(2)}${String(n).padStart(7, "0")}`;
const mark = (position) => ({ frame: "Mark", position });

for (const transport of ["webtransport", "websocket"]) {
  const scene = (title, body) => test(`${title} (${transport})`, { timeout: 20_000 }, async () => {
    let run = 7;
    const w = world({ transport, script: (peer) => peer.welcome({ run }) });
    const client = await w.connect();
    const restart = () => (run += 1);
    try {
      await body({ w, client, peer: await w.next(), restart });
    } finally {
      await client.close();
    }
  });

  const confirm = (peer, { request }, position = 300) =>
    peer.say({ frame: "Subscribed", request, position });
  const subscribed = async (client, peer, filter, options) => {
    const subscription = client.subscribe(filter, options), asked = await peer.next("Subscribe");
    confirm(peer, asked);
    await subscription.ready;
    return { subscription, asked, stream: peer.stream(asked.request) };
  };
  const read = async (subscription, count) => {
    const got = [];
    for (; count > 0; count--) {
      const { value } = await subscription.next();
      got.push(value.kind === "gap" ? `gap ${value.first}-${value.last}` : value.text());
    }
    return got;
  };
  const small = (asked) => {
    const { datagram, ...frame } = asked;
    const { length } = codec.encode(frame);
    assert.ok(length <= LIMIT, `a frame of ${length} bytes`);
    return asked.start.Resume;
  };
  // One message of each topic, in portions, so that none waits for a page that reads.
  const all = async (subscription, stream, from, to) => {
    for (let n = from; n < to; n += 500) {
      const portion = Array.from({ length: Math.min(500, to - n) }, (_, i) => n + i);
      stream.say(...portion.flatMap((id) => [topic(id, name(id)), message(id, 1)]));
      assert.deepEqual(await read(subscription, portion.length), portion.map((id) => `${id}:1`));
    }
  };

  scene("after a Mark only what was heard of since is listed", async ({ w, client, peer }) => {
    const { subscription, stream } = await subscribed(client, peer, "**", { from: "all" });
    stream.say(topic(1, "a"), message(1, 1), topic(2, "b"), message(2, 1), topic(3, "c"), message(3, 1),
      mark(40), message(2, 2), { frame: "Gap", topic: 3, first: 2, last: 4, cause: "Evicted" });
    assert.deepEqual(await read(subscription, 5), ["1:1", "2:1", "3:1", "2:2", "gap 2-4"]);
    peer.break();
    const second = await w.next(), again = await second.next("Subscribe");
    assert.deepEqual(again.start, { Resume: { since: { run: 7, position: 40 }, topics: [
      { topic: "b", epoch: 102, next: 3 }, { topic: "c", epoch: 103, next: 5 },
    ] } });
    // The one that was not listed goes on where it stood; one is new.
    confirm(second, again);
    second.stream(again.request).say(topic(1, "a", 2), message(1, 2), topic(9, "z"), message(9, 1));
    assert.deepEqual(await read(subscription, 2), ["1:2", "9:1"]);
  });

  scene("what waits here when a Mark comes is not asked for again", async ({ w, client, peer }) => {
    const { subscription, stream } = await subscribed(client, peer, "**");
    stream.say(topic(1, "a"), message(1, 1), message(1, 2), mark(302), message(1, 3));
    await settle();
    peer.break();
    const second = await w.next();
    assert.deepEqual(await read(subscription, 3), ["1:1", "1:2", "1:3"]);
    const next = read(subscription, 1), again = await second.next("Subscribe");
    assert.deepEqual(again.start.Resume,
      { since: { run: 7, position: 302 }, topics: [{ topic: "a", epoch: 101, next: 4 }] });
    second.stream(again.request).say(topic(1, "a", 4), message(1, 4));
    assert.deepEqual(await next, ["1:4"]);
  });

  scene("a Mark before Subscribed says nothing", async ({ w, client, peer }) => {
    const subscription = client.subscribe("**", { from: "all" }), asked = await peer.next("Subscribe");
    peer.stream(asked.request).say(topic(1, "a"), message(1, 1), mark(40));
    await settle();
    peer.break();
    const second = await w.next(), again = await second.next("Subscribe");
    assert.equal(again.start, "All");
    second.stream(again.request).say(topic(1, "a"), message(1, 1));
    confirm(second, again);
    assert.deepEqual(await read(subscription, 1), ["1:1"]);
  });

  scene("25,000 topics with long names, and Marks: resumed with the last ones", async ({ w, client, peer }) => {
    const { subscription, stream } = await subscribed(client, peer, "**", { from: "all" });
    await all(subscription, stream, 1, 24_501);
    stream.say(mark(24_500));
    await all(subscription, stream, 24_501, MANY + 1);
    peer.break();
    const second = await w.next(), again = await second.next("Subscribe");
    const { since, topics } = small(again);
    assert.deepEqual([since, topics.length, topics[0].topic],
      [{ run: 7, position: 24_500 }, 500, name(24_501)]);
    confirm(second, again);
    second.stream(again.request).say(topic(3, name(3), 2), message(3, 2));
    assert.deepEqual(await read(subscription, 1), ["3:2"]);
  });

  scene("and where the daemon has another run: what is not listed comes again, and is dropped",
    async ({ w, client, peer, restart }) => {
      const { subscription, stream } = await subscribed(client, peer, "**", { from: "all" });
      await all(subscription, stream, 1, MANY + 1);
      stream.say(mark(MANY));
      await settle();
      restart();
      peer.break();
      const second = await w.next(), again = await second.next("Subscribe");
      const { since, topics } = small(again), listed = new Set(topics.map(({ topic }) => topic));
      assert.equal(since.run, 7);
      assert.ok(topics.length > 10_000, `${topics.length}`);
      confirm(second, again);
      // Of the cache that was saved: the same epochs; but one topic has begun anew.
      const other = second.stream(again.request), left = Array.from({ length: MANY }, (_, n) => n + 1)
        .filter((id) => !listed.has(name(id)));
      const [anew, gap, ...rest] = left;
      other.say(topic(anew, name(anew), 1, 5n), message(anew, 1, "anew"), topic(gap, name(gap)),
        { frame: "Gap", topic: gap, first: 1, last: 3, cause: "Evicted" }, message(gap, 4, "four"));
      assert.deepEqual(await read(subscription, 3), ["anew", "gap 2-3", "four"]);
      for (let i = 0; i < rest.length; i += 500) {
        other.say(...rest.slice(i, i + 500).flatMap((id) => [topic(id, name(id)), message(id, 1)]));
        await settle();
      }
      other.say(message(rest[0], 2));
      assert.deepEqual(await read(subscription, 1), [`${rest[0]}:2`]);
    });

  scene("25,000 topics and no Mark, from new: what does not fit is dropped", async ({ w, client, peer }) => {
    const { subscription, stream } = await subscribed(client, peer, "**");
    await all(subscription, stream, 1, MANY + 1);
    peer.break();
    const second = await w.next(), again = await second.next("Subscribe");
    const { since, topics } = small(again);
    assert.deepEqual(since, { run: 7, position: 300 });
    assert.ok(topics.length > 10_000 && topics.length < MANY);
    confirm(second, again);
    second.stream(again.request).say(topic(MANY, name(MANY)), message(MANY, 1), message(MANY, 2));
    assert.deepEqual(await read(subscription, 1), [`${MANY}:2`]);
  });

  scene("25,000 topics and no Mark, from the last of each: it ends, and says what to do",
    async ({ w, client, peer }) => {
      const { subscription, stream } = await subscribed(client, peer, "**", { from: "last:1" });
      const { subscription: other } = await subscribed(client, peer, "other");
      await all(subscription, stream, 1, MANY + 1);
      peer.break();
      const second = await w.next();
      await assert.rejects(subscription.next(), { name: "frame_too_large", code: 0x14, retry: false,
        message: /25000 topics are too many to resume: split the filter/ });
      // It alone.
      const again = await second.next("Subscribe");
      assert.equal(again.filter, "other");
      second.stream(again.request).say(topic(1, "other"), message(1, 1));
      confirm(second, again);
      assert.deepEqual(await read(other, 1), ["1:1"]);
      assert.equal(client.state, "open");
    });
}

test("a topic with a hole is listed whatever was marked", { timeout: 10_000 }, async () => {
  const w = world({ transport: "webtransport" });
  const client = await w.connect(), peer = await w.next();
  const subscription = client.subscribe("**", { delivery: "realtime" });
  const { request } = await peer.next("Subscribe");
  peer.say({ frame: "Subscribed", request, position: 0 });
  await subscription.ready;
  const stream = peer.stream(request);
  stream.say(topic(1, "a"), topic(2, "b"));
  await settle();
  peer.datagram(message(1, 1), message(1, 3), message(2, 1), message(2, 2));
  await settle();
  stream.say({ frame: "Head", topic: 1, sequence: 3 }, { frame: "Head", topic: 2, sequence: 2 },
    { frame: "Mark", position: 5 });
  for (let i = 0; i < 4; i++) await subscription.next();
  await settle();
  peer.break();
  const second = await w.next(), { start } = await second.next("Subscribe");
  assert.deepEqual(start, { ResumeWith: { since: { run: 7, position: 5 },
    topics: [{ topic: "a", epoch: 101, next: 2 }], had: [{ topic: 0, ranges: [[1, 1]] }] } });
  await client.close();
});
