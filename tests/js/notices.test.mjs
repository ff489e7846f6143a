// Notices of the daemon's state, and the frame that asks for them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { noticeText } from "../../web/page/words.js";
import { codec } from "../../web/weir/index.js";
import { clocked, world } from "./fake.mjs";

const notice = (code, reason) => ({ frame: "Notice", code, reason });
const UNKEPT = notice(5, "the disk is full");

/** The details of the notices of a client, in their order. */
const notices = (client) => {
  const seen = [];
  client.addEventListener("notice", ({ detail }) => seen.push(detail));
  return seen;
};

for (const transport of ["webtransport", "websocket"]) {
  const scene = (title, body) =>
    test(`${title} (${transport})`, { timeout: 10_000 }, () => clocked(body));

  scene("Knows is sent once in each session, right after Hello", async (clock) => {
    const w = world({ transport }), client = await w.connect({ transport });
    client.subscribe("a");
    client.publish("a", "x").catch(() => {});
    await clock.pass(100);
    (await w.next()).break();
    await clock.pass(1000);
    const second = await w.next();
    assert.equal(w.peers.length, 2);
    for (const { kinds, known } of [w.peers[0], second]) {
      assert.deepEqual(kinds.slice(0, 2), ["Hello", "Knows"]);
      assert.deepEqual(known, [23]);
    }
    client.close();
    await clock.pass(1000);
  });

  scene("a notice is an event, and the session goes on", async (clock) => {
    const w = world({ transport }), client = await w.connect({ transport }), seen = notices(client);
    const peer = await w.next(), states = [];
    client.addEventListener("state", ({ detail }) => states.push(detail.state));
    peer.say(UNKEPT, notice(0, ""), notice(0xffff, "news"));
    await clock.pass(0);
    assert.deepEqual(seen, [{ code: 5, name: "unkept", reason: "the disk is full" },
      { code: 0, name: "done", reason: "" }, { code: 0xffff, name: "unknown", reason: "news" }]);
    assert.deepEqual([client.state, states], ["open", []]);
    client.close();
    await clock.pass(1000);
  });

  scene("one right behind Welcome: whoever listens once it has the client gets it", async (clock) => {
    const w = world({ transport, script: (peer) => void peer.welcome({ more: [UNKEPT] }) });
    let seen;
    const connecting = w.connect({ transport }).then((client) => {
      seen = notices(client);
      return client;
    });
    await clock.pass(0);
    const client = await connecting, events = [];
    assert.deepEqual(seen.splice(0).map(({ name }) => name), ["unkept"]);
    // In the next session it follows the state.
    for (const type of ["state", "notice"]) {
      client.addEventListener(type, ({ detail }) => events.push(detail.state ?? detail.name));
    }
    w.peers[0].break();
    await clock.pass(1000);
    assert.deepEqual(events, ["reconnecting", "open", "unkept"]);
    client.close();
    await clock.pass(1000);
  });
}

test("the page shows a notice in words, and nothing once all is well again", () => {
  assert.match(noticeText({ code: 5, name: "unkept", reason: "the disk is full" }), /cannot keep it.* The disk is full\.$/);
  assert.equal(noticeText({ code: 0xffff, name: "unknown", reason: "news" }), "The daemon says: News.");
  assert.equal(noticeText({ code: 0xffff, name: "unknown", reason: "" }), "The daemon says: Unknown.");
  assert.equal(noticeText({ code: 0, name: "done", reason: "the journal works again" }), "");
});

test("Knows counts the daemon's frames that this client decodes", () => {
  const last = codec.encode({ frame: "Authorized", request: 0, lifetime: 0, name: "" }, "client").subarray(1);
  assert.equal(last[0], 22);
  assert.equal(codec.decode(last).frame, "Authorized");
  last[0] = 23;
  assert.throws(() => codec.decode(last), { name: "malformed", message: /no such frame/ });
});
