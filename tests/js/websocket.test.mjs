// What is particular to a WebSocket: it says neither when it has sent nor, once it is dead, that it has not.

import assert from "node:assert/strict";
import { test } from "node:test";
import { clocked, settle, world } from "./fake.mjs";

test("a socket that died with bytes buffered is not asked for them any more", { timeout: 10_000 }, () =>
  clocked(async (clock) => {
    const w = world({ transport: "websocket" });
    const client = await w.connect({ reconnect: false }), peer = await w.next();
    peer.link.bufferedAmount = 5 << 20;
    client.publish("a", "x").catch(() => {});
    await clock.pass(20);
    // As browsers do, it keeps the figure when it is closed.
    peer.break();
    await clock.pass(20);
    assert.equal(client.state, "closed");
    const { set } = clock;
    await clock.pass(60_000);
    assert.deepEqual([clock.set - set, clock.pending], [0, 0]);
  }));

test("nor one that the page closed", { timeout: 10_000 }, () => clocked(async (clock) => {
  const w = world({ transport: "websocket" });
  const client = await w.connect({ timeout: 100 }), peer = await w.next();
  peer.link.bufferedAmount = 5 << 20;
  client.publish("a", "x").catch(() => {});
  await clock.pass(20);
  client.close();
  await clock.pass(1000);
  await settle();
  assert.deepEqual([client.state, clock.pending], ["closed", 0]);
}));
