// Payloads are bytes that nobody vouches for, and pages of other sites have no business here.

import assert from "node:assert/strict";
import { launch } from "./harness/browsers.mjs";
import { lines, page, shown } from "./harness/page.mjs";
import { pause } from "./harness/process.mjs";
import { scenario } from "./harness/suite.mjs";

scenario("a payload of HTML is text in the chat, and no page at its address", async (browser, t) => {
  const daemon = await t.daemon();
  const files = await t.files();
  // Whatever runs calls home, sets the title, and says so in a dialog.
  const mark = (i) => `new Image().src='${files.url}/ran/${i}';document.title='ran';alert(${i})`;
  const evil = [
    `<script>${mark(0)}</script>`,
    `<!doctype html><html><body onload="${mark(1)}"><img src=x onerror="${mark(2)}"></body></html>`,
    `<svg xmlns="http://www.w3.org/2000/svg" onload="${mark(3)}"/>`,
    `"><img src=x onerror="${mark(4)}">`,
    `javascript:${mark(5)}`,
  ];
  const tab = await page(browser, daemon, { room: "evil" });
  const title = await tab.evaluate(() => document.title);
  for (const [i, payload] of evil.entries()) {
    await daemon.pub("demo/evil", payload);
    await daemon.pub(`demo/evil${i}`, payload);
  }
  await shown(tab, evil.length);
  assert.deepEqual(
    (await lines(tab)).map(({ text }) => text),
    evil,
  );
  // Of late lines too, and in the list of the most said.
  await tab.reload();
  await shown(tab, evil.length);
  await tab.until((n) => document.querySelectorAll("#top [data-count]").length === n, evil.length);
  assert.equal(await tab.evaluate(() => document.title), title);
  assert.equal(
    await tab.evaluate(() => document.querySelectorAll("#chat-log img, #chat-log script, #top img").length),
    0,
  );
  await tab.close();

  // Typed into the address bar: kept as a file, not shown.
  for (const i of evil.keys()) {
    const bare = await browser.stranger();
    const outcome = await bare.visit(`${daemon.url}/v1/topics/demo%2Fevil${i}`);
    assert.equal(outcome, "download");
    await bare.close();
  }
  // And in a frame of another site's page, or as its script.
  const other = await browser.tab(files.url.replace("127.0.0.1", "other.localhost"));
  other.expect(/./);
  await other.evaluate((url) => {
    for (const i of [0, 1, 2, 3, 4]) {
      const frame = document.createElement("iframe");
      frame.src = `${url}/v1/topics/demo%2Fevil${i}`;
      const script = document.createElement("script");
      script.src = `${url}/v1/topics/demo%2Fevil${i}`;
      document.body.append(frame, script);
    }
  }, daemon.url);
  // There is no event for what does not happen: a second is long for a script.
  await pause(1000);
  assert.deepEqual(
    other.errors.filter((error) => error.startsWith("dialog")),
    [],
  );
  assert.deepEqual(
    files.called.filter((path) => path.startsWith("/ran")),
    [],
  );
  await other.drop();
});

// What a page does to a daemon on another origin: each way, and whether it came through.
async function tries(tab, { http, listen, hash }, topic) {
  return tab.evaluate(
    async ({ http, listen, hash, topic }) => {
      const { Raw } = await import("/tests/browser/pages/raw.mjs");
      const said = {};
      said.websocket = await new Promise((resolve) => {
        const socket = new WebSocket(`ws://${http}/weir`);
        socket.onopen = () => resolve(socket.close() ?? "open");
        socket.onerror = () => resolve("refused");
      });
      const raw = new Raw(listen, hash);
      said.webtransport = await raw.open().then(
        () => (raw.session.close(), "open"),
        () => "refused",
      );
      const outcome = (asked) =>
        asked.then(
          ({ ok }) => (ok ? "open" : "refused"),
          () => "refused",
        );
      const topics = `http://${http}/v1/topics`;
      const url = `${topics}/${encodeURIComponent(topic)}`;
      said.post = await outcome(fetch(url, { method: "POST", body: "from another site" }));
      // Is sent whatever the daemon says of it beforehand, and shows no answer.
      await outcome(fetch(url, { method: "POST", body: "blindly", mode: "no-cors" }));
      said.get = await outcome(fetch(`${topics}/demo%2Fcached`));
      said.events = await new Promise((resolve) => {
        const source = new EventSource(`http://${http}/v1/events/demo%2Fcached`);
        source.onopen = () => resolve(source.close() ?? "open");
        source.onerror = () => resolve(source.close() ?? "refused");
      });
      said.certificate = await outcome(fetch(`http://${http}/certificate.sha256`));
      said.script = await import(`http://${http}/weir.js`).then(
        () => "open",
        () => "refused",
      );
      return said;
    },
    { http, listen, hash, topic },
  );
}

const NOISE =
  /WebTransport|WebSocket|ERR_|CORS|Failed to load resource|Cross-Origin|EventSource|connection|ws:|blocked/i;
const ways = (outcome) => ({
  websocket: outcome,
  webtransport: outcome,
  post: outcome,
  get: outcome,
  events: outcome,
  certificate: outcome,
  // Of no harm to anyone: its client.
  script: "open",
});

scenario(
  "pages of other sites cannot connect, read or publish; those of listed origins can",
  async (browser, t) => {
    const files = await t.files();
    const site = (name) => files.url.replace("127.0.0.1", name);
    const friend = site("friend.test");
    const daemon = await t.daemon({ env: { WEIR_HTTP__ORIGINS: JSON.stringify([friend]) } });
    await daemon.pub("demo/cached", "for us only");
    // A browser of its own, in which these sites count as secure: others have no WebTransport anyway.
    const own = await launch(browser.name, { secure: [site("evil.test"), friend] });
    t.keep({ end: () => own.close() });

    const evil = await own.tab(site("evil.test"));
    evil.expect(NOISE);
    assert.equal(await evil.evaluate(() => isSecureContext && "WebTransport" in window), true);
    assert.deepEqual(await tries(evil, daemon, "demo/evil"), ways("refused"));
    await assert.rejects(daemon.weir("get", ["demo/evil"]), /exit code 1/);
    await evil.close();

    // The names of this machine are one host, whatever the port.
    for (const origin of [friend, files.url, site("localhost"), site("other.localhost")]) {
      const tab = await own.tab(origin);
      assert.deepEqual(await tries(tab, daemon, "demo/friends"), ways("open"), origin);
      await tab.close();
    }
    // From four origins, once with an answer and once blindly.
    assert.deepEqual(
      (await daemon.top("demo/friends")).map(({ count }) => count),
      [4, 4],
    );
  },
);

// DNS rebinding: a site whose own name has come to mean this machine is of the host that is asked.
scenario("under a name that is not its own, the daemon answers nobody", async (browser, t) => {
  const files = await t.files();
  const daemon = await t.daemon();
  await daemon.pub("demo/cached", "for us only");
  const name = (address) => address.replace("127.0.0.1", "rebind.test");
  const own = await launch(browser.name, { secure: [name(files.url)] });
  t.keep({ end: () => own.close() });
  const tab = await own.tab(name(files.url));
  tab.expect(NOISE);
  assert.equal(await tab.evaluate(() => location.hostname), "rebind.test");
  const rebound = { http: name(daemon.http), listen: name(daemon.listen), hash: daemon.hash };
  const said = await tries(tab, rebound, "demo/evil");
  assert.deepEqual(new Set(Object.values(said)), new Set(["refused"]), JSON.stringify(said));
  await assert.rejects(daemon.weir("get", ["demo/evil"]), /exit code 1/);
  // Its own page neither, where the browser sends no Origin.
  await tab.visit(`${name(daemon.url)}/`);
  assert.equal(await tab.evaluate(() => document.querySelector("#chat-input")), null);
  await tab.close();
});
