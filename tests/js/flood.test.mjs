// A page that is offered more than it can take stays a page: work is done in portions, and what is
// missing is asked for by one timer, however many messages come.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Receiver } from "../../web/weir/index.js";
import { clocked, message, settle, topic, world } from "./fake.mjs";

const subscribed = async (client, peer, delivery) => {
  const subscription = client.subscribe("a", { delivery });
  const { request } = await peer.next("Subscribe");
  peer.say({ frame: "Subscribed", request, position: 0 });
  await subscription.ready;
  return { subscription, stream: peer.stream(request) };
};

test("10,000 messages behind an open hole: a timer for the hole, not for each", { timeout: 20_000 }, () =>
  clocked(async (clock) => {
    const w = world({ transport: "webtransport" });
    const client = await w.connect(), peer = await w.next();
    const { subscription } = await subscribed(client, peer, "realtime");
    peer.datagram(topic(1, "a"), message(1, 1));
    await clock.pass(1);
    const reading = (async () => {
      for await (const { sequence } of subscription) if (sequence === 10_000) break;
    })();
    const { set } = clock;
    for (let n = 3; n <= 10_000; n++) peer.datagram(message(1, n));
    await reading;
    assert.ok(clock.set - set <= 2, `${clock.set - set} timers were set`);
    client.close();
    await clock.pass(1);
  }));

test("a thousand open holes: one more message looks at a few of them", () => {
  const receiver = new Receiver(1, 0);
  for (let n = 2; n <= 2000; n += 2) receiver.receive(n, n, 0, 50);
  // Counts the looks at holes, whatever they are looked at for.
  let looks = 0;
  receiver.holes = receiver.holes.map((hole) => new Proxy(hole, { get(hole, name) {
    if (name === "last") looks++;
    return hole[name];
  } }));
  for (let n = 2001; n <= 2100; n++) receiver.receive(n, n, 0, 50);
  assert.equal(receiver.holes.length, 1000);
  assert.ok(looks <= 100 * 12, `${looks} looks for 100 messages`);
});

for (const [what, say] of [
  ["datagrams", (peer, stream, frames) => frames.forEach((frame) => peer.datagram(frame))],
  ["chunks of a stream", (peer, stream, frames) => {
    for (let i = 0; i < frames.length; i += 50) stream.say(...frames.slice(i, i + 50));
  }],
]) {
  test(`5,000 messages in ${what} at once: the page has its turns in between`, { timeout: 20_000 }, async () => {
    const w = world({ transport: "webtransport" });
    const client = await w.connect(), peer = await w.next();
    const { subscription, stream } = await subscribed(client, peer, "realtime");
    (what === "datagrams" ? peer.datagram : stream.say)(topic(1, "a"), message(1, 1));
    await subscription.next();
    await settle();
    const portions = [];
    let now = 0, over = false;
    const ticking = (async () => {
      while (!over) {
        await new Promise((resolve) => setImmediate(resolve));
        portions.push(now);
        now = 0;
      }
    })();
    say(peer, stream, Array.from({ length: 5000 }, (_, n) => message(1, n + 2)));
    for await (const { sequence } of subscription) {
      now++;
      if (sequence === 5001) break;
    }
    over = true;
    await ticking;
    const most = Math.max(...portions);
    assert.ok(most <= 512, `${most} messages in one turn, of ${portions.length}`);
    await client.close();
  });
}
