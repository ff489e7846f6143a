// Payloads are bytes that nobody vouches for, and pages of other sites have no business here.

import assert from "node:assert/strict";
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
  assert.deepEqual((await lines(tab)).map(({ text }) => text), evil);
  // Of late lines too, and in the list of the most said.
  await tab.reload();
  await shown(tab, evil.length);
  await tab.until((n) => document.querySelectorAll("#top [data-count]").length === n, evil.length);
  assert.equal(await tab.evaluate(() => document.title), title);
  assert.equal(await tab.evaluate(() => document.querySelectorAll("#chat-log img, #chat-log script, #top img").length), 0);
  await tab.close();

  // Typed into the address bar: kept as a file, or shown as text; never run.
  for (const i of evil.keys()) {
    const bare = await browser.stranger();
    const outcome = await bare.visit(`${daemon.url}/v1/topics/demo%2Fevil${i}`);
    assert.ok(["download", "shown"].includes(outcome), outcome);
    if (i === 0) t.diagnostic(`GET of a payload as a page: ${outcome}`);
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
  assert.deepEqual(other.errors.filter((error) => error.startsWith("dialog")), []);
  assert.deepEqual(files.called.filter((path) => path.startsWith("/ran")), []);
  await other.drop();
});

// What a page does to a daemon on another origin: each way, and whether it came through.
async function tries(tab, daemon, topic) {
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
      said.webtransport = await raw.open().then(() => (raw.session.close(), "open"), () => "refused");
      const url = `http://${http}/v1/topics/${encodeURIComponent(topic)}`;
      const outcome = (asked) => asked.then(({ ok, type }) => (type === "opaque" ? type : ok ? "open" : "refused"), () => "refused");
      said.post = await outcome(fetch(url, { method: "POST", body: "from another site" }));
      // Needs no permission from the daemon to be sent, and shows no answer.
      await outcome(fetch(url, { method: "POST", body: "blindly", mode: "no-cors" }));
      said.get = await outcome(fetch(url.replace(encodeURIComponent(topic), "demo%2Fcached")));
      said.events = await new Promise((resolve) => {
        const source = new EventSource(`http://${http}/v1/events/demo%2Fcached`);
        source.onopen = () => resolve(source.close() ?? "open");
        source.onerror = () => resolve(source.close() ?? "refused");
      });
      said.certificate = await outcome(fetch(`http://${http}/certificate.sha256`));
      said.script = await import(`http://${http}/weir.js`).then(() => "open", () => "refused");
      return said;
    },
    { http: daemon.http, listen: daemon.listen, hash: daemon.hash, topic },
  );
}

// Of no harm to anyone: they say where the daemon is, and what it runs.
const PUBLIC = { certificate: "open", script: "open" };
const all = (outcome) => ({
  websocket: outcome, webtransport: outcome, post: outcome, get: outcome, events: outcome, ...PUBLIC,
});

scenario("a page of another site cannot connect, read or publish", async (browser, t) => {
  const daemon = await t.daemon();
  const files = await t.files();
  await daemon.pub("demo/cached", "for us only");
  // It resolves to this machine, and counts as secure, but is another host than the daemon's.
  const tab = await browser.tab(files.url.replace("127.0.0.1", "evil.localhost"));
  tab.expect(/WebTransport|WebSocket|ERR_|CORS|Failed to load resource|Cross-Origin|EventSource/i);
  assert.deepEqual(await tries(tab, daemon, "demo/posted"), all("refused"));
  await assert.rejects(daemon.weir("get", ["demo/posted"]), /not_found|no such topic|nothing/i);
  await tab.close();
});

scenario("a page of a listed origin, or of the daemon's host, can", async (browser, t) => {
  const files = await t.files();
  const friend = files.url.replace("127.0.0.1", "friend.localhost");
  const daemon = await t.daemon({ env: { WEIR_HTTP__ORIGINS: JSON.stringify([friend]) } });
  await daemon.pub("demo/cached", "for friends too");
  for (const origin of [friend, files.url]) {
    const tab = await browser.tab(origin);
    assert.deepEqual(await tries(tab, daemon, "demo/posted"), all("open"), origin);
    await tab.close();
  }
});

// DNS rebinding: a site whose own name has come to mean this machine is of the host that is asked.
scenario("a name that is not the daemon's is not answered, even to a page of that name", async (browser, t) => {
  const daemon = await t.daemon();
  await daemon.pub("demo/cached", "for us only");
  const tab = await browser.stranger();
  tab.expect(/Failed to load resource/);
  const [, port] = daemon.http.split(":");
  await tab.visit(`http://rebind.test:${port}/`);
  assert.match(await tab.evaluate(() => document.body.textContent), /rebind\.test/);
  assert.equal(await tab.evaluate(() => location.hostname), "rebind.test", "the name was not resolved");
  const status = await tab.evaluate(() => fetch("/v1/topics/demo%2Fcached").then(({ status }) => status));
  assert.equal(status, 421);
  await tab.close();
});
