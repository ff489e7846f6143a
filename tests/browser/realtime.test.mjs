// Delivery and publishing in datagrams, in each browser with the real daemon. The network is this
// machine, which loses nothing; where something is to be lost, the page loses it itself.

import assert from "node:assert/strict";
import { connected } from "./harness/client.mjs";
import { page } from "./harness/page.mjs";
import { scenario } from "./harness/suite.mjs";

const NOISE = /WebTransport|WebSocket|ERR_|connection/i;

// Runs in the page, before weir.js connects: datagrams get lost, both ways, by a seeded chance.
function lossy({ loss, seed }) {
  const random = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  window.lost = { in: 0, out: 0 };
  const sieve = (way) =>
    new TransformStream({
      transform(chunk, controller) {
        if (random() < loss) window.lost[way] += 1;
        else controller.enqueue(chunk);
      },
    });
  window.WebTransport = class extends WebTransport {
    constructor(...given) {
      super(...given);
      const { readable, writable } = this.datagrams;
      const out = sieve("out");
      out.readable.pipeTo(writable).catch(() => {});
      Object.defineProperty(this.datagrams, "readable", { value: readable.pipeThrough(sieve("in")) });
      Object.defineProperty(this.datagrams, "writable", { value: out.writable });
    }
  };
}

async function client(browser, daemon, t, { loss = 0, transport = "webtransport" } = {}) {
  const seed = Number(process.env.WEIR_SEED ?? Math.floor(Math.random() * 2 ** 31));
  const tab = await browser.tab(`${daemon.url}/weir.js`);
  tab.expect(/favicon\.ico/);
  if (loss) {
    t.diagnostic(`WEIR_SEED=${seed}, ${loss * 100} % of the datagrams lost`);
    await tab.evaluate(lossy, { loss, seed });
  }
  await tab.evaluate(async (transport) => {
    const weir = await import("/weir.js");
    const client = await weir.connect(undefined, { transport });
    // Everything that comes, as the test asks for it.
    const follow = (filter, options) => {
      const subscription = client.subscribe(filter, options);
      const followed = { subscription, got: [], gaps: [], failed: null };
      (async () => {
        for await (const event of subscription) {
          if (event.kind === "gap") followed.gaps.push([event.first, event.last, event.cause]);
          else followed.got.push([event.sequence, event.payload.length < 100 ? event.text() : event.payload.length]);
        }
      })().catch((error) => (followed.failed = String(error)));
      return followed;
    };
    Object.assign(window, { weir, client, follow, pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)) });
  }, transport);
  return tab;
}

const said = (tab) =>
  tab.evaluate(() => ({
    got: followed.got,
    gaps: followed.gaps,
    failed: followed.failed,
    stats: { ...followed.subscription.stats },
    lost: window.lost ?? null,
  }));

/** Waits for so many messages; says what there is when they do not come. */
const come = async (tab, count, timeout = 15_000) => {
  try {
    await tab.until((count) => followed.got.length >= count, count, { what: `${count} messages`, timeout });
  } catch (error) {
    const { got, ...rest } = await said(tab);
    const state = await tab.evaluate(() => [client.state, client.transport, client.reason]);
    error.message += `\n${got.length} came, ${JSON.stringify({ ...rest, state })}: ${got.map(([n]) => n).join(" ")}`;
    throw error;
  }
};

// By sequence; those of two topics by what they are.
const each = (got) => got.toSorted(([a, x], [b, y]) => a - b || (x < y ? -1 : 1));

for (const [delivery, transport, loss] of [
  ["realtime", "webtransport", 0],
  ["realtime", "webtransport", 0.2],
  ["unordered", "webtransport", 0.2],
  ["realtime", "websocket", 0],
  ["unordered", "websocket", 0],
]) {
  scenario(`${delivery} over ${transport}, ${loss * 100} % lost: each message once`, async (browser, t) => {
    const daemon = await t.daemon();
    const tab = await client(browser, daemon, t, { loss, transport });
    await tab.evaluate(async (delivery) => {
      window.followed = follow("demo/state", { delivery });
      await followed.subscription.ready;
    }, delivery);
    // A burst, from outside; then a steady flow, from the page itself.
    const burst = Array.from({ length: 300 }, (_, i) => `burst ${i}`);
    await daemon.lines("demo/state", burst);
    await tab.evaluate(async () => {
      for (let i = 0; i < 200; i++) {
        client.publish("demo/state", `flow ${i}`);
        await pause(5);
      }
    });
    const wanted = [...burst, ...Array.from({ length: 200 }, (_, i) => `flow ${i}`)];
    await come(tab, wanted.length);
    // What is still on its way would be too much.
    await tab.evaluate(() => pause(300));
    const { got, gaps, failed, stats, lost } = await said(tab);
    t.diagnostic(JSON.stringify({ ...stats, lost }));
    assert.deepEqual({ gaps, failed }, { gaps: [], failed: null });
    assert.deepEqual(
      each(got),
      wanted.map((text, i) => [i + 1, text]),
    );
    if (transport === "webtransport") assert.ok(stats.datagrams > 100, `${stats.datagrams} in datagrams`);
    else assert.deepEqual(stats, { datagrams: 0, repeated: 0, asked: 0, repaired: 0, late: 0 });
    if (loss) assert.ok(stats.asked > 0 && stats.repaired > 0);
    await tab.close();
  });
}

for (const loss of [0, 0.3]) {
  scenario(`published in datagrams, ${loss * 100} % lost: accepted once, acknowledged all`, async (browser, t) => {
    const daemon = await t.daemon();
    const tab = await client(browser, daemon, t, { loss });
    const answers = await tab.evaluate(async () => {
      const promises = [];
      for (let i = 0; i < 400; i++) {
        promises.push(client.publish("demo/mouse", `at ${i}`, { realtime: true }));
        if (i % 4 === 0) await pause(5);
      }
      return (await Promise.all(promises)).map((receipt) => receipt && receipt.duplicate);
    });
    const acknowledged = answers.filter((answer) => answer === null).length;
    t.diagnostic(`${acknowledged} of 400 acknowledged in datagrams`);
    assert.ok(acknowledged > 100);
    // The daemon has each of them once.
    await tab.evaluate(async () => {
      window.followed = follow("demo/mouse", { from: "all" });
      await followed.subscription.ready;
    });
    await come(tab, 400);
    const { got } = await said(tab);
    assert.deepEqual(got.map(([, text]) => text).sort(), Array.from({ length: 400 }, (_, i) => `at ${i}`).sort());
    const top = await tab.evaluate(async () => (await client.top("demo/mouse")).map(({ count }) => count));
    assert.ok(top.every((count) => count === 1));
    await tab.close();
  });
}

for (const delivery of ["unordered", "realtime"]) {
  scenario(`${delivery}: large and small, and two subscriptions`, async (browser, t) => {
    const daemon = await t.daemon();
    const tab = await client(browser, daemon, t);
    const sizes = [0, 1, 900, 1100, 1300, 20_000, 65_536, 65_537, 300_000, 3_000_000, 10, 20, 30];
    const got = await tab.evaluate(
      async ({ delivery, sizes }) => {
        const both = [follow("demo/*", { delivery }), follow("demo/a", { delivery })];
        for (const { subscription } of both) await subscription.ready;
        await Promise.all(sizes.map((size) => client.publish("demo/a", new Uint8Array(size).fill(size))));
        await client.publish("demo/b", "another");
        while (both[0].got.length < sizes.length + 1 || both[1].got.length < sizes.length) {
          await pause(20);
          for (const { failed } of both) if (failed) throw new Error(failed);
        }
        await pause(200);
        const receipts = await Promise.all(sizes.map((_, i) => client.get("demo/a", { sequence: i + 1 })));
        return {
          sizes: receipts.map(({ payload }) => payload.length),
          seen: both.map(({ got }) => got.map(([sequence, what]) => [sequence, typeof what === "string" ? what.length : what])),
        };
      },
      { delivery, sizes },
    );
    const wanted = got.sizes.map((size, i) => [i + 1, size]);
    assert.deepEqual(got.sizes.toSorted((a, b) => a - b), sizes.toSorted((a, b) => a - b));
    assert.deepEqual(each(got.seen[1]), wanted);
    assert.deepEqual(each(got.seen[0]), each([...wanted, [1, "another".length]]));
    await tab.close();
  });
}

scenario("realtime goes on over a daemon that stops and starts again", async (browser, t) => {
  const daemon = await t.daemon();
  const tab = await client(browser, daemon, t, { loss: 0.1 });
  tab.expect(NOISE);
  await tab.evaluate(async () => {
    window.followed = follow("demo/state", { delivery: "realtime" });
    await followed.subscription.ready;
  });
  await daemon.lines(
    "demo/state",
    Array.from({ length: 50 }, (_, i) => `before ${i}`),
  );
  await come(tab, 50);
  await daemon.stop();
  await daemon.again();
  await daemon.lines(
    "demo/state",
    Array.from({ length: 50 }, (_, i) => `after ${i}`),
  );
  await come(tab, 100);
  await tab.evaluate(() => pause(300));
  const { got, gaps, failed } = await said(tab);
  assert.deepEqual({ gaps, failed }, { gaps: [], failed: null });
  // The topic may have begun anew, with sequences from 1: what was in it comes once all the same.
  const texts = got.map(([, text]) => text);
  for (const when of ["before", "after"]) {
    assert.deepEqual(
      texts.filter((text) => text.startsWith(when)).sort(),
      Array.from({ length: 50 }, (_, i) => `${when} ${i}`).sort(),
    );
  }
  await tab.close();
});

scenario("who reads slowly is sent the rest when there is room", async (browser, t) => {
  const daemon = await t.daemon();
  const tab = await client(browser, daemon, t);
  await tab.evaluate(async () => {
    window.slow = client.subscribe("demo/state", { delivery: "realtime" });
    await slow.ready;
  });
  // Ten times what may wait.
  await daemon.lines(
    "demo/state",
    Array.from({ length: 10_000 }, (_, i) => `${i} `.padEnd(50, ".")),
  );
  await tab.evaluate(() => pause(500));
  const sequences = await tab.evaluate(async () => {
    const sequences = new Set();
    while (sequences.size < 10_000) {
      const { value } = await slow.next();
      if (value.kind === "gap" || sequences.has(value.sequence)) throw new Error(JSON.stringify(value));
      sequences.add(value.sequence);
    }
    return { size: sequences.size, stats: { ...slow.stats } };
  });
  t.diagnostic(JSON.stringify(sequences.stats));
  assert.equal(sequences.size, 10_000);
  await tab.close();
});

// ---- The page ----

const row = (tab) =>
  tab.evaluate(() => {
    const value = (transport, name) =>
      document.querySelector(`#latency [data-transport="${transport}"] .${name}`).dataset.value;
    const names = ["p50", "p95", "p99", "samples", "lost", "repeated", "repaired"];
    return {
      delivery: document.querySelector("#latency-delivery input:checked").value,
      webtransport: Object.fromEntries(names.map((name) => [name, Number(value("webtransport", name))])),
      websocket: Object.fromEntries(names.map((name) => [name, value("websocket", name)])),
      note: document.getElementById("latency-note").textContent,
    };
  });

scenario("the page: the delivery mode is chosen with the keyboard", async (browser, t) => {
  const daemon = await t.daemon();
  const tab = await page(browser, daemon);
  const measured = (least) =>
    tab.until(
      (least) =>
        [...document.querySelectorAll("#latency .samples")].every((cell) => Number(cell.dataset.value) >= least) ||
        null,
      least,
      { timeout: 20_000, what: `${least} samples over both` },
    );
  await measured(40);
  let now = await row(tab);
  assert.equal(now.delivery, "realtime");
  assert.match(now.note, /datagrams/);
  assert.equal(now.webtransport.lost, 0);
  assert.ok(now.webtransport.repeated >= 0 && now.webtransport.repaired >= 0);
  assert.deepEqual([now.websocket.repeated, now.websocket.repaired], [undefined, undefined]);
  assert.ok(now.webtransport.p50 <= now.webtransport.p95 && now.webtransport.p95 <= now.webtransport.p99);
  t.diagnostic(JSON.stringify(now.webtransport));
  for (const [key, delivery, note] of [
    ["ArrowRight", "unordered", /as they arrive/],
    ["ArrowRight", "ordered", /Both deliver in order/],
    ["ArrowRight", "realtime", /datagrams/],
  ]) {
    await tab.press("#latency-delivery input:checked", key);
    const before = await row(tab);
    assert.equal(before.delivery, delivery);
    assert.match(before.note, note);
    // The figures begin anew: those of two modes are never mixed.
    await tab.until(
      () => Number(document.querySelector('#latency [data-transport="webtransport"] .samples').dataset.value) < 20,
      null,
      { what: "the samples begin anew" },
    );
    await measured(20);
    now = await row(tab);
    assert.equal(now.webtransport.lost, 0);
    assert.equal(Number.isNaN(now.webtransport.repeated), delivery === "ordered");
    t.diagnostic(`${delivery}: ${JSON.stringify(now.webtransport)}`);
  }
  // What a screen reader is told of the switch.
  const group = await tab.evaluate(() => {
    const fieldset = document.getElementById("latency-delivery");
    return [fieldset.querySelector("legend").textContent, fieldset.getAttribute("aria-describedby")];
  });
  assert.deepEqual(group, ["Delivery over WebTransport", "latency-note"]);
  await tab.close();
});

for (const width of [320, 390, 900, 1280]) {
  scenario(`the page is ${width} pixels wide, and nothing sticks out`, async (browser, t) => {
    const daemon = await t.daemon();
    const size = { width, height: 800 };
    const tab = await page(browser, daemon, {}, {
      open: async (url) => {
        const tab = await browser.stranger(undefined, size);
        await tab.goto(url);
        return tab;
      },
    });
    await tab.until(() => document.querySelector("#latency .p50").dataset.value, null, { what: "figures" });
    const out = await tab.evaluate(() => {
      // Large figures, as after an hour.
      const large = { p50: "123.4", p95: "123.4", p99: "123.4", samples: "99,999", lost: "999", repeated: "99,999", repaired: "9,999" };
      for (const cell of document.querySelectorAll("#latency tbody td")) cell.textContent = large[cell.classList[0]];
      const out = [...document.querySelectorAll("#latency *, .controls *")]
        .filter((element) => element.matches("td, th, label, button, abbr") && element.getClientRects().length)
        .filter((element) => {
          const { left, right } = element.getBoundingClientRect();
          return left < -0.5 || right > innerWidth + 0.5 || element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0;
        })
        .map((element) => `${element.tagName}.${element.className} ${element.textContent.trim()}`);
      const end = (selector) => document.querySelector(selector).getBoundingClientRect().bottom;
      return { out, wide: document.documentElement.scrollWidth > innerWidth, over: end("#latency-note") > end(".latency") + 0.5 };
    });
    assert.deepEqual(out, { out: [], wide: false, over: false });
    if (process.env.WEIR_PICTURES) await tab.screenshot(`${process.env.WEIR_PICTURES}/${browser.name}-${width}.png`, { whole: true });
    await tab.close();
  });
}
