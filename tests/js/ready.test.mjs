// Over WebSocket what the cache has may come before Subscribed, and be more than may wait here.

import assert from "node:assert/strict";
import { test } from "node:test";
import { message, settle, topic, world } from "./fake.mjs";

const SIZE = 50_000, TOTAL = 60;

// Sends the messages from this one on, until the client says that it is enough.
const serve = async (peer, { request }, from, subscribed) => {
  const stream = peer.stream(request);
  stream.say(topic(1, "a", from, 9n));
  for (let n = from; n <= TOTAL; n++) stream.say(message(1, n, new Uint8Array(SIZE)));
  // As the daemon does: the answer stands behind what was written before it.
  if (subscribed) peer.say({ frame: "Subscribed", request, position: TOTAL });
  await settle();
};

const drain = async (subscription, peer, from) => {
  const got = [];
  peer.handle = (frame) => {
    if (frame.frame !== "Subscribe") return false;
    serve(peer, frame, frame.start.Resume?.topics[0]?.next ?? 1, true);
    return true;
  };
  for (let n = from; n <= TOTAL; n++) got.push((await subscription.next()).value.sequence);
  return got;
};
const every = Array.from({ length: TOTAL }, (_, n) => n + 1);

const scene = (title, body) => test(title, { timeout: 10_000 }, async () => {
  const w = world({ transport: "websocket" });
  const client = await w.connect();
  try {
    await body({ w, client, peer: await w.next() });
  } finally {
    await client.close();
  }
});

scene("a backlog above 1 MiB before Subscribed: ready resolves all the same", async ({ client, peer }) => {
  const subscription = client.subscribe("a", { from: "all" });
  const asked = await peer.next("Subscribe");
  await serve(peer, asked, 1, true);
  await subscription.ready;
  assert.equal((await peer.next("Unsubscribe")).subscription, asked.request);
  peer.say({ frame: "Ended", request: asked.request, code: 0, reason: "" });
  assert.deepEqual(await drain(subscription, peer, 1), every);
});

scene("and another subscription's frames in between do not bring it back", async ({ client, peer }) => {
  const subscription = client.subscribe("a", { from: "all" }), other = client.subscribe("b");
  const asked = await peer.next("Subscribe"), second = await peer.next("Subscribe");
  await serve(peer, asked, 1, false);
  peer.stream(second.request).say(topic(2, "b"), message(2, 1));
  // Of what was given up: not one is taken that does not follow.
  peer.stream(asked.request).say(message(1, TOTAL));
  peer.say({ frame: "Subscribed", request: second.request, position: 1 },
    { frame: "Subscribed", request: asked.request, position: TOTAL });
  await Promise.all([subscription.ready, other.ready]);
  assert.deepEqual((await other.next()).value.sequence, 1);
  assert.deepEqual(await drain(subscription, peer, 1), every);
});

scene("broken before Subscribed: all of it again, and ready resolves", async ({ w, client, peer }) => {
  const subscription = client.subscribe("a", { from: "all" });
  await serve(peer, await peer.next("Subscribe"), 1, false);
  peer.break();
  const again = await w.next(), asked = await again.next("Subscribe");
  assert.equal(asked.start, "All");
  await serve(again, asked, 1, true);
  await subscription.ready;
  assert.deepEqual(await drain(subscription, again, 1), every);
});

scene("refused after all: ready rejects", async ({ client, peer }) => {
  const subscription = client.subscribe("a", { from: "all" }), asked = await peer.next("Subscribe");
  await serve(peer, asked, 1, false);
  peer.say({ frame: "Failed", request: asked.request, code: 0x41, reason: "not for you" });
  await assert.rejects(subscription.ready, { name: "forbidden" });
  await assert.rejects(subscription.next(), { name: "forbidden" });
});
