// weir.js, in each browser, over each transport, with the real daemon.

import assert from "node:assert/strict";
import { connected } from "./harness/client.mjs";
import { pause } from "./harness/process.mjs";
import { scenario } from "./harness/suite.mjs";

// What browsers write on the console when a connection ends or is refused, whoever caught it.
const NOISE = /WebTransport|WebSocket|ERR_|connection/i;

for (const transport of ["webtransport", "websocket"]) {
  const over = (title, run, options) => scenario(`${transport}: ${title}`, run, options);

  over("publish, subscribe, get, top, ping, close", async (browser, t) => {
    const daemon = await t.daemon();
    const tab = await connected(browser, daemon, { transport });
    const said = await tab.evaluate(async () => {
      const said = { state: client.state, transport: client.transport, session: String(client.session) };
      const subscription = client.subscribe("demo/*", { from: "all" });
      await subscription.ready;
      said.receipts = await Promise.all(
        ["hello", "hello", "gruß"].map((text) => client.publish("demo/a", text)),
      );
      said.messages = [];
      for await (const event of subscription) {
        said.messages.push([event.kind, event.topic, event.sequence, event.count, event.text()]);
        said.late = Date.now() - event.stamp;
        if (said.messages.length === 3) break;
      }
      said.newest = (await client.get("demo/a")).text();
      said.first = (await client.get("demo/a", { sequence: 1 })).text();
      said.byDigest = (await client.get("demo/a", { digest: said.receipts[0].digest })).sequence;
      said.top = (await client.top("demo/a")).map((entry) => [entry.text(), entry.count, entry.sequence]);
      said.missing = await client.get("demo/none").catch(({ name, code, retry }) => ({ name, code, retry }));
      said.reserved = await client.publish("$weir/x", "").catch(({ name, code }) => ({ name, code }));
      said.filter = await client.subscribe("a/**/b").ready.catch(({ name, code }) => ({ name, code }));
      said.ping = await client.ping();
      return said;
    });
    assert.equal(said.state, "open");
    assert.equal(said.transport, transport);
    assert.match(said.session, /^[1-9]\d*$/);
    assert.deepEqual(
      said.receipts.map(({ sequence, count, since, duplicate }) => [sequence, count, since, duplicate]),
      [
        [1, 1, null, false],
        [2, 2, null, false],
        [3, 1, null, false],
      ],
    );
    // The digest of docs/protocol.md.
    assert.equal(said.receipts[0].digest, "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f");
    assert.deepEqual(said.messages, [
      ["message", "demo/a", 1, 1, "hello"],
      ["message", "demo/a", 2, 2, "hello"],
      ["message", "demo/a", 3, 1, "gruß"],
    ]);
    assert.ok(said.late >= 0 && said.late < 10_000, `stamped ${said.late} ms ago`);
    assert.equal(said.newest, "gruß");
    assert.equal(said.first, "hello");
    assert.equal(said.byDigest, 2);
    assert.deepEqual(said.top, [
      ["hello", 2, 2],
      ["gruß", 1, 3],
    ]);
    assert.deepEqual(said.missing, { name: "not_found", code: 0x30, retry: false });
    assert.deepEqual(said.reserved, { name: "reserved", code: 0x23 });
    assert.deepEqual(said.filter, { name: "bad_filter", code: 0x21 });
    // Firefox's clock moves in whole milliseconds.
    assert.ok(said.ping >= 0 && said.ping < 2000, `${said.ping} ms`);
    t.diagnostic(`ping ${said.ping.toFixed(1)} ms`);

    // The native client and the daemon agree.
    const [most] = await daemon.top("demo/a");
    assert.equal(most.count, 2);
    const heard = tab.evaluate(async () => {
      const subscription = client.subscribe("demo/b");
      await subscription.ready;
      window.subscribed = true;
      const { value } = await subscription.next();
      subscription.close();
      const { done } = await subscription.next();
      return [value.text(), done];
    });
    await tab.until(() => window.subscribed);
    await daemon.pub("demo/b", "from outside");
    assert.deepEqual(await heard, ["from outside", true]);

    const left = await tab.evaluate(async () => {
      const last = client.publish("demo/a", "last");
      await client.close();
      const after = await client.publish("demo/a", "after").catch(({ name }) => name);
      return { last: (await last).sequence, state: client.state, after };
    });
    assert.deepEqual(left, { last: 4, state: "closed", after: "closed" });
    await tab.close();
  });

  over("a payload of every size and byte comes back as it was", async (browser, t) => {
    const daemon = await t.daemon();
    const tab = await connected(browser, daemon, { transport });
    const sizes = [0, 1, 127, 128, 16_383, 16_384, 65_535, 65_536, 65_537, 1_000_000, 5_000_000];
    const wrong = await tab.evaluate(async (sizes) => {
      const subscription = client.subscribe("demo/sizes");
      await subscription.ready;
      const payload = (size) => Uint8Array.from({ length: size }, (_, i) => (i * 31 + (i >> 8) + size) & 255);
      const wrong = [];
      for (const size of sizes) {
        const [receipt, { value }] = await Promise.all([
          client.publish("demo/sizes", payload(size)),
          subscription.next(),
        ]);
        const wanted = payload(size);
        const same = (got) => got.length === size && got.every((byte, i) => byte === wanted[i]);
        if (!same(value.payload) || value.sequence !== receipt.sequence) wrong.push(size);
        if (!same((await client.get("demo/sizes", { digest: receipt.digest })).payload)) wrong.push(size);
      }
      return wrong;
    }, sizes);
    assert.deepEqual(wrong, []);
    await tab.close();
  });

  over("a daemon that stops says so, and is found again", async (browser, t) => {
    const daemon = await t.daemon();
    const tab = await connected(browser, daemon, { transport });
    tab.expect(NOISE);
    await tab.evaluate(async () => {
      window.seen = [];
      const subscription = client.subscribe("demo/a", { from: "all" });
      await subscription.ready;
      (async () => {
        for await (const event of subscription) seen.push(event.kind === "gap" ? "gap" : event.text());
      })();
      await client.publish("demo/a", "before");
    });
    await tab.until(() => seen.length === 1);
    await daemon.stop();
    await tab.until(() => states.length);
    const [first] = await tab.evaluate(() =>
      states.map(({ state, code, reason }) => ({ state, code, reason })),
    );
    assert.equal(first.state, "reconnecting");
    assert.equal(first.code, 0x01, `shutting_down was not read: ${JSON.stringify(first)}`);
    assert.match(first.reason, /is stopping/);
    // Published while there is no daemon: kept, and accepted once.
    await tab.evaluate(() => {
      window.kept = client.publish("demo/a", "meanwhile");
    });
    await daemon.again();
    await tab.until(() => client.state === "open", null, { timeout: 20_000 });
    const receipt = await tab.evaluate(() => kept);
    assert.equal(receipt.count, 1);
    assert.equal(receipt.duplicate, false);
    await daemon.pub("demo/a", "after");
    await tab.until(() => seen.includes("after"));
    const seen = await tab.evaluate(() => seen);
    for (const text of ["meanwhile", "after"]) {
      assert.equal(seen.filter((other) => other === text).length, 1, `${text} in ${seen}`);
    }
    assert.equal(seen[0], "before");
    const [times] = await tab.evaluate(() => [states.map(({ state, at }) => [state, at])]);
    t.diagnostic(`${times.map(([state, at]) => `${state} ${(at - times[0][1]).toFixed(0)}`).join(", ")} ms`);
    await tab.close();
  });

  over(
    "a connection that breaks again and again: nothing is missed or repeated, in or out",
    async (browser, t) => {
      const daemon = await t.daemon();
      const tab = await connected(browser, daemon, { transport }, { spy: true });
      tab.expect(NOISE);
      const [from, own] = [300, 60];
      await tab.evaluate(async () => {
        window.seen = [];
        const subscription = client.subscribe("demo/*", { from: "all" });
        await subscription.ready;
        (async () => {
          for await (const { kind, topic, sequence, count } of subscription)
            seen.push([kind, topic, sequence, count]);
        })();
      });
      // From outside, and from the page itself, while its connection is taken away five times.
      const outside = async function* () {
        for (let i = 0; i < from; i++) {
          yield `line ${i}\n`;
          await pause(5);
        }
      };
      const published = daemon.weir("pub", ["demo/outside", "--lines"], { input: outside() });
      const receipts = await tab.evaluate(async (own) => {
        const receipts = [];
        for (let i = 0; i < own; i++) {
          receipts.push(client.publish("demo/own", `own ${i}`));
          if (i % 12 === 5) opened.at(-1).close();
          await new Promise((resolve) => setTimeout(resolve, 25));
        }
        return (await Promise.all(receipts)).map(({ sequence, count }) => [sequence, count]);
      }, own);
      await published;
      await tab.until((all) => seen.length >= all, from + own);
      const seen = await tab.evaluate(() => seen);
      const all = (topic, n) => Array.from({ length: n }, (_, i) => ["message", topic, i + 1, 1]);
      for (const [topic, n] of [
        ["demo/outside", from],
        ["demo/own", own],
      ]) {
        assert.deepEqual(
          seen.filter((one) => one[1] === topic),
          all(topic, n),
        );
      }
      // Each was accepted once: the sequences of the page's own are 1 to 60, and every count is 1.
      assert.deepEqual(
        receipts,
        Array.from({ length: own }, (_, i) => [i + 1, 1]),
      );
      const broken = await tab.evaluate(() => states.filter(({ state }) => state === "reconnecting").length);
      assert.ok(broken >= 2, `the connection broke only ${broken} times`);
      t.diagnostic(`the connection broke ${broken} times`);
      await tab.close();
    },
  );

  over("a daemon that dies without a word is noticed, and found again", async (browser, t) => {
    const daemon = await t.daemon();
    const tab = await connected(browser, daemon, { transport });
    tab.expect(NOISE);
    const start = await tab.evaluate(() => performance.now());
    await daemon.stop("SIGKILL");
    // Meanwhile the client is used, as clients are.
    await tab.evaluate(() => {
      window.kept = client.publish("demo/a", "meanwhile");
    });
    // At most: 2 s until the receipt is late, 6 s until a ping is unanswered.
    await tab.until(() => states.length, null, { timeout: 25_000 });
    const first = await tab.evaluate(() => states[0]);
    assert.equal(first.state, "reconnecting");
    assert.equal(first.code, null);
    t.diagnostic(`noticed after ${(first.at - start).toFixed(0)} ms: ${first.reason}`);
    await daemon.again();
    const receipt = await tab.evaluate(() => kept);
    assert.equal(receipt.count, 1);
    await tab.close();
  });

  // Without a stateless reset, a connection over UDP would not end before its pings are unanswered.
  for (const [what, busy] of [["publishes", true], ["only listens", false]]) {
    over(`a daemon that is killed, and back at once, is noticed by a page that ${what}`, async (browser, t) => {
      const daemon = await t.daemon();
      const tab = await connected(browser, daemon, { transport });
      tab.expect(NOISE);
      await tab.evaluate(async () => {
        window.seen = [];
        const subscription = client.subscribe("demo/a");
        await subscription.ready;
        (async () => {
          for await (const { sequence } of subscription) seen.push(sequence);
        })();
        await client.publish("demo/a", "before");
      });
      const start = await tab.evaluate(() => performance.now());
      await daemon.stop("SIGKILL");
      await daemon.again();
      const back = await tab.evaluate((busy) => {
        if (busy) window.kept = client.publish("demo/a", "meanwhile");
        return performance.now();
      }, busy);
      await tab.until(() => states.length, null, { timeout: 25_000 });
      const { state, reason, at } = await tab.evaluate(() => states[0]);
      assert.equal(state, "reconnecting");
      // What it would say if the pings had found out.
      assert.doesNotMatch(reason, /no answer for/);
      t.diagnostic(`noticed ${(at - start).toFixed(0)} ms after the kill, ${(at - back).toFixed(0)} ms after the start: ${reason}`);
      await tab.until(() => client.state === "open", null, { timeout: 20_000 });
      if (busy) assert.equal((await tab.evaluate(() => kept)).count, 1);
      else await daemon.pub("demo/a", "after");
      await tab.until(() => seen.length > 1);
      await tab.close();
    });
  }

  over("the goodbye after a violation ends the client, with the reason", async (browser, t) => {
    const daemon = await t.daemon();
    const tab = await connected(browser, daemon, { transport }, { spy: true });
    tab.expect(NOISE);
    await tab.evaluate(async () => {
      const [wire] = opened.slice(-1);
      if (wire instanceof WebSocket) {
        wire.send(Uint8Array.of(1, 99)); // a frame of a kind that there is not
      } else {
        // A second bidirectional stream; the daemon hears of it when there is something on it.
        const { writable } = await wire.createBidirectionalStream();
        await writable
          .getWriter()
          .write(Uint8Array.of(1))
          .catch(() => {});
      }
    });
    await tab.until(() => states.length);
    const states = await tab.evaluate(() =>
      states.map(({ state, code, reason }) => ({ state, code, reason })),
    );
    assert.equal(states.length, 1, JSON.stringify(states));
    assert.equal(states[0].state, "closed");
    assert.equal(states[0].code, transport === "websocket" ? 0x10 : 0x12, states[0].reason);
    t.diagnostic(states[0].reason);
    await tab.close();
  });
}

scenario("auto is WebTransport where it works, and says why", async (browser, t) => {
  const daemon = await t.daemon();
  const tab = await connected(browser, daemon);
  const said = await tab.evaluate(() => [client.transport, client.reason]);
  assert.equal(said[0], "webtransport");
  t.diagnostic(said[1]);
  // As it is on the wire, not only in words: the daemon has no WebSocket session.
  await tab.evaluate(() => client.close());
  await tab.close();
});
