// The demo page: chat between browsers, counts, latecomers, and a daemon that goes and comes.

import assert from "node:assert/strict";
import { lines, page, say, shown, state, text } from "./harness/page.mjs";
import { pause } from "./harness/process.mjs";
import { scenario, together } from "./harness/suite.mjs";

// What browsers write on the console when a connection ends or is refused, whoever caught it.
const NOISE = /WebTransport|WebSocket|ERR_|connection|Failed to load resource/i;

together("the browsers chat with one another, and all agree on the counts", async (browsers, t) => {
  const daemon = await t.daemon();
  const room = { room: "chat" };
  // One tab in each browser, and one more: two tabs of one browser.
  const tabs = [];
  for (const browser of [...browsers, browsers[0]]) tabs.push(await page(browser, daemon, room));
  for (const tab of tabs) {
    assert.equal(await tab.evaluate(() => document.body.dataset.transport), "webtransport");
    assert.equal((await text(tab, "#transport")).toLowerCase(), "webtransport");
  }
  t.diagnostic(await text(tabs[0], "#reason"));

  // One after the other, so that the order is known; some of it said before.
  const all = ["grüß dich 👋", "one", "two", "one", "one", "two"];
  const told = all.map((text, i) => [tabs[i % tabs.length], text]);
  for (const [i, [tab, text]] of told.entries()) {
    await say(tab, text);
    for (const other of tabs) await shown(other, i + 1);
  }
  const counts = { "grüß dich 👋": [1], one: [1, 2, 3], two: [1, 2] };
  const wanted = all.map((text, i) => ({ sequence: i + 1, count: counts[text].shift(), text }));
  for (const tab of tabs) assert.deepEqual(await lines(tab), wanted, tab.browser.name);

  // The daemon's own ranking, asked for by the native client, agrees with the lines and the page.
  const top = await daemon.top("demo/chat");
  assert.deepEqual(
    top.map(({ count }) => count),
    [3, 2, 1],
  );
  for (const { sequence, count } of top) {
    assert.equal(wanted.find((line) => line.sequence === sequence).count, count);
  }
  for (const tab of tabs) {
    await tab.until(
      (wanted) =>
        JSON.stringify(
          [...document.querySelectorAll("#top [data-count]")].map((item) => Number(item.dataset.count)),
        ) === wanted,
      "[3,2,1]",
      { what: "the list of the most said has the counts 3, 2, 1" },
    );
  }

  // From outside, and for whoever comes late: the same lines.
  await daemon.pub("demo/chat", "one");
  wanted.push({ sequence: 7, count: 4, text: "one" });
  for (const browser of browsers) tabs.push(await page(browser, daemon, room));
  for (const tab of tabs) {
    await shown(tab, 7);
    assert.deepEqual(await lines(tab), wanted, tab.browser.name);
  }
  for (const tab of tabs) await tab.close();
});

for (const transport of ["webtransport", "websocket"]) {
  scenario(`?transport=${transport} is what carries the chat`, async (browser, t) => {
    const daemon = await t.daemon();
    const tab = await page(browser, daemon, { room: "a", transport });
    assert.equal(await tab.evaluate(() => document.body.dataset.transport), transport);
    assert.equal(await tab.evaluate(() => weirPage.client.transport), transport);
    await say(tab, "hello");
    await shown(tab, "hello");
    t.diagnostic(await text(tab, "#reason"));
    await tab.close();
  });
}

scenario("both transports are measured side by side", async (browser, t) => {
  const daemon = await t.daemon();
  const tab = await page(browser, daemon);
  const figures = (transport) =>
    tab.until(
      (transport) => {
        const row = document.querySelector(`#latency [data-transport="${transport}"]`);
        const value = (name) => Number(row.querySelector(name).dataset.value);
        const [p50, p95, p99, lost, samples] = [".p50", ".p95", ".p99", ".lost", ".samples"].map(value);
        return samples >= 40 && { p50, p95, p99, lost, samples };
      },
      transport,
      { timeout: 15_000, what: `40 samples over ${transport}` },
    );
  for (const transport of ["webtransport", "websocket"]) {
    const { p50, p95, p99, lost, samples } = await figures(transport);
    assert.ok(p50 >= 0 && p50 <= p95 && p95 <= p99, `${p50} ${p95} ${p99}`);
    assert.equal(lost, 0);
    t.diagnostic(`${transport}: p50 ${p50} ms, p95 ${p95} ms, p99 ${p99} ms of ${samples}`);
  }
  await tab.close();
});

for (const ratio of [1, 2]) {
  scenario(`the plot is sharp with ${ratio} device pixels in a CSS pixel`, async (browser, t) => {
    const daemon = await t.daemon();
    const size = { width: 1000, height: 900, ratio };
    const tab = await browser.stranger(daemon.url, size);
    assert.equal(await tab.evaluate(() => devicePixelRatio), ratio);
    const sides = await tab.until(
      () => {
        const { width, height, clientWidth, clientHeight } = document.querySelector("#plot canvas") ?? {};
        return clientWidth > 300 && width !== 300 && [width, height, clientWidth, clientHeight];
      },
      null,
      { what: "the plot is there" },
    );
    const [width, height, clientWidth, clientHeight] = sides;
    assert.ok(Math.abs(width - clientWidth * ratio) <= ratio && Math.abs(height - clientHeight * ratio) <= ratio, `${sides}`);
    await tab.close();
  });
}

scenario("the plot shows both transports, in the colours of the theme, and in words", async (browser, t) => {
  const daemon = await t.daemon();
  const tab = await page(browser, daemon);
  // The plot is not drawn while it is out of view, and a click may scroll to what is clicked.
  const show = () => tab.evaluate(() => document.getElementById("plot").scrollIntoView());
  await show();
  // How many pixels have exactly the colour of a transport's name: its line has, its dots have not.
  const plotted = () =>
    tab.evaluate(() => {
      const canvas = document.querySelector("#plot canvas");
      const { width, height } = canvas;
      const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
      const all = new Uint32Array(data.buffer);
      const lines = Object.fromEntries(
        ["webtransport", "websocket"].map((name) => {
          const { color } = getComputedStyle(document.querySelector(`.key.${name}`));
          const wanted = new Uint32Array(Uint8Array.of(...color.match(/\d+/g).map(Number), 255).buffer)[0];
          return [name, all.filter((pixel) => pixel === wanted).length];
        }),
      );
      return lines;
    });
  const both = async (what) => {
    for (let tries = 0; ; tries += 1) {
      const lines = await plotted();
      if (Object.values(lines).every((pixels) => pixels > 20)) return lines;
      assert.ok(tries < 50, `${what}: ${JSON.stringify(lines)}`);
      await pause(200);
    }
  };
  t.diagnostic(JSON.stringify(await both("both lines are drawn")));
  const colour = () => tab.evaluate(() => getComputedStyle(document.querySelector(".key.websocket")).color);
  const before = await colour();
  await tab.click("#theme");
  assert.notEqual(await colour(), before);
  await show();
  t.diagnostic(JSON.stringify(await both("both lines have the colours of the other theme")));

  const words = await tab.until(
    () => {
      const { textContent } = document.getElementById("plot-summary");
      return /WebTransport: half .* WebSocket: half /.test(textContent) && textContent;
    },
    null,
    { what: "the plot is described" },
  );
  assert.match(words, /half of the payloads came back within [\d.]+ ms, 99 of 100 within [\d.]+ ms/);
  t.diagnostic(words);
  const [role, label, described] = await tab.evaluate(() =>
    ["role", "aria-label", "aria-describedby"].map((name) => document.getElementById("plot").getAttribute(name)),
  );
  assert.deepEqual([role, described], ["img", "plot-summary"]);
  assert.match(label, /^Latency of both transports/);

  // Paused, it stands still.
  await tab.click("#latency-pause");
  await show();
  await pause(300);
  const picture = () => tab.evaluate(() => document.querySelector("#plot canvas").toDataURL());
  const still = await picture();
  await pause(500);
  assert.equal(await picture(), still);
  await tab.click("#latency-pause");
  await show();
  await pause(500);
  assert.notEqual(await picture(), still);
  await tab.close();
});

scenario("a daemon that stops and starts again", async (browser, t) => {
  const daemon = await t.daemon();
  const room = { room: "restart" };
  const tab = await page(browser, daemon, room);
  tab.expect(NOISE);
  await daemon.lines("demo/restart", ["old 1", "old 2", "old 3"]);
  await shown(tab, 3);

  const stopped = performance.now();
  await daemon.stop();
  await state(tab, "reconnecting", 5000);
  t.diagnostic(
    `the page knows after ${(performance.now() - stopped).toFixed(0)} ms: ${await text(tab, "#banner")}`,
  );
  assert.match(await text(tab, "#banner"), /daemon is gone/);
  assert.match(await text(tab, "#banner"), /is stopping/, "what the daemon said last is told");
  // Said while there is nobody to hear it: waits, and is sent once.
  await say(tab, "said meanwhile");

  await daemon.again();
  const started = performance.now();
  const meanwhile = Array.from({ length: 20 }, (_, i) => `meanwhile ${i}`);
  await daemon.lines("demo/restart", meanwhile);
  await state(tab, "open", 15_000);
  t.diagnostic(`the page is back ${(performance.now() - started).toFixed(0)} ms after the daemon`);
  await shown(tab, "meanwhile 19");
  await shown(tab, "said meanwhile");
  await say(tab, "afterwards");
  await shown(tab, "afterwards");
  const back = await text(tab, "#banner");
  assert.match(back, /^Back after/);
  t.diagnostic(back);

  // Everything since the restart stands there once and in order; what was before is not there twice.
  const all = await lines(tab);
  const once = (text) => all.filter((line) => line.text === text).length;
  for (const text of [...meanwhile, "said meanwhile", "afterwards", "old 1", "old 2", "old 3"]) {
    assert.equal(once(text), 1, `${text}: ${JSON.stringify(all)}`);
  }
  assert.deepEqual(
    all.map(({ text }) => text).filter((text) => meanwhile.includes(text)),
    meanwhile,
  );
  // A page that comes now has what the daemon has: the two agree on sequences and counts.
  const late = await page(browser, daemon, room);
  await shown(late, "afterwards");
  const fresh = await lines(late);
  assert.deepEqual(all.slice(-fresh.length), fresh);
  await late.close();
  await tab.close();
});
