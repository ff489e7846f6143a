// A daemon that is newer than the client: causes and codes that this client does not know.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { WeirError, codec } from "../../web/weir/index.js";
import { message, settle, topic, world } from "./fake.mjs";

for (const transport of ["webtransport", "websocket"]) {
  test(`a gap of any cause is a gap (${transport})`, { timeout: 10_000 }, async () => {
    const w = world({ transport }), client = await w.connect(), peer = await w.next();
    const subscription = client.subscribe("a", { from: "all" });
    const { request } = await peer.next("Subscribe");
    peer.say({ frame: "Subscribed", request, position: 1 });
    const gap = (first, cause) => {
      const frame = codec.encode({ frame: "Gap", topic: 1, first, last: first, cause: "Lost" }, "client");
      frame[frame.length - 1] = cause;
      return frame;
    };
    peer.stream(request).say(topic(1, "a"), gap(1, 4), gap(1, 126), gap(2, 127), message(1, 3));
    const seen = [];
    for (let i = 0; i < 4; i++) {
      const { value } = await subscription.next();
      seen.push(`${value.sequence ?? value.first} ${value.cause ?? value.text()}`);
    }
    assert.deepEqual(seen, ["1 lost", "1 unknown", "2 unknown", "3 1:3"]);
    await client.close();
  });

  test(`an unknown code refuses that alone (${transport})`, { timeout: 10_000 }, async () => {
    const w = world({ transport }), client = await w.connect(), peer = await w.next();
    for (const code of [0x06, 0x1f, 0x60, 0xffff]) {
      const unknown = { name: "unknown", code, retry: false, message: "new" };
      const published = client.publish("a", "x");
      const { alias, number } = await peer.next("Publish");
      peer.say({ frame: "Rejected", alias, number, code, reason: "new" });
      await assert.rejects(published, unknown);
      const subscription = client.subscribe("a");
      const { request } = await peer.next("Subscribe");
      peer.say({ frame: "Failed", request, code, reason: "new" });
      await assert.rejects(subscription.ready, unknown);
      const asked = client.get("a");
      peer.stream((await peer.next("Get")).request).say({ frame: "Abort", code });
      await assert.rejects(asked, { name: "unknown", code });
      assert.equal(client.state, "open");
    }
    // The goodbye says itself whether to come again.
    peer.say({ frame: "Goodbye", code: 0xffff, reason: "new", retry: true });
    await w.next();
    while (client.state !== "open") await settle();
    await client.close();
  });
}

test("names and retries are those of docs/protocol.md", () => {
  const page = readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf8");
  const rows = [...page.matchAll(/^\| 0x(\w\w) \| `(\w+)` \| (yes|no) \|/gm)];
  assert.ok(rows.length > 20);
  for (const [, digits, name, retry] of rows) {
    const error = new WeirError(parseInt(digits, 16), "");
    assert.deepEqual([error.name, error.retry], [name, retry === "yes"], name);
  }
});
