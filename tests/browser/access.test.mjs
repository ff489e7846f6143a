// Tokens in browsers: what a page may read and publish, streams of events with tickets, and a session
// that goes on with a new token.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connected } from "./harness/client.mjs";
import { binary } from "./harness/daemon.mjs";
import { pause } from "./harness/process.mjs";
import { scenario } from "./harness/suite.mjs";

const NOISE = /WebTransport|WebSocket|ERR_|connection|401|403|status of/i;

/** A key, and the daemon that accepts what it signs. */
class Issuer {
  constructor() {
    this.home = mkdtempSync(join(tmpdir(), "weir-browser-"));
    this.run("keygen", "--out", this.key, "--public", this.keys);
  }

  get key() {
    return join(this.home, "key.jwk");
  }

  get keys() {
    return join(this.home, "keys.json");
  }

  run(...args) {
    return execFileSync(binary, ["token", ...args], { encoding: "utf8" }).trim();
  }

  /** A token that may read demo/** and publish to demo/chat. */
  token(expires) {
    const rights = ["--subscribe", "demo/**", "--publish", "demo/chat"];
    return this.run("new", "--key", this.key, "--sub", "ada", ...rights, "--expires", expires);
  }

  get env() {
    return { WEIR_ACCESS__KEYS: this.keys, WEIR_ACCESS__LEEWAY: "0s" };
  }

  async end() {
    rmSync(this.home, { recursive: true, force: true });
  }
}

for (const transport of ["webtransport", "websocket"]) {
  const over = (title, run, options) => scenario(`${transport}: ${title}`, run, options);

  over("a page may do what its token says, and nothing else", async (browser, t) => {
    const issuer = t.keep(new Issuer());
    const daemon = await t.daemon({ env: issuer.env });
    const tab = await connected(browser, daemon, { transport, token: issuer.token("1h") });
    tab.expect(NOISE);
    const said = await tab.evaluate(async () => {
      const code = (promise) => promise.then(() => "done", ({ name }) => name);
      const subscription = client.subscribe("demo/**");
      await subscription.ready;
      const said = { chat: (await client.publish("demo/chat", "hello")).sequence };
      said.heard = (await subscription.next()).value.text();
      said.other = await code(client.publish("demo/other", "x"));
      said.secret = await code(client.subscribe("secret").ready);
      said.all = await code(client.subscribe("**").ready);
      said.get = await code(client.get("secret"));
      said.top = await code(client.top("secret"));
      said.again = (await client.publish("demo/chat", "hello")).count;
      return said;
    });
    const refused = "forbidden";
    assert.deepEqual(said, {
      chat: 1, heard: "hello", other: refused, secret: refused, all: refused, get: refused, top: refused, again: 2,
    });
    // Without a token, and with a wrong one.
    const others = await tab.evaluate(async (transport) => {
      const nobody = await weir.connect(location.origin, { transport });
      const publish = await nobody.publish("demo/chat", "x").catch(({ name }) => name);
      nobody.close();
      const wrong = await weir.connect(location.origin, { transport, token: "x.y.z" }).catch(({ name }) => name);
      return { publish, wrong };
    }, transport);
    assert.deepEqual(others, { publish: "unauthorized", wrong: "unauthorized" });
    await tab.close();
  });

  over("a session goes on with a new token, and ends without one", async (browser, t) => {
    const issuer = t.keep(new Issuer());
    const daemon = await t.daemon({ env: issuer.env });
    const tab = await browser.tab(`${daemon.url}/weir.js`);
    tab.expect(/favicon\.ico/);
    tab.expect(NOISE);
    const tokens = [issuer.token("5s"), issuer.token("1h")];
    await tab.evaluate(
      async ({ transport, tokens }) => {
        const weir = await import("/weir.js");
        window.fetched = 0;
        const token = async () => tokens[Math.min(fetched++, 1)];
        window.client = await weir.connect(location.origin, { transport, token });
        window.states = [];
        client.addEventListener("state", ({ detail }) => states.push(detail.state));
        window.session = client.session;
      },
      { transport, tokens },
    );
    await pause(7000);
    const after = await tab.evaluate(async () => {
      const { count } = await client.publish("demo/chat", "late");
      return { count, fetched, states, same: client.session === session };
    });
    assert.deepEqual(after, { count: 1, fetched: 2, states: [], same: true });
    const ended = await tab.evaluate(async (args) => {
      const weir = await import("/weir.js");
      const client = await weir.connect(location.origin, args);
      const closed = new Promise((resolve) => {
        client.addEventListener("state", ({ detail }) => detail.state === "closed" && resolve(detail.code));
      });
      return closed;
    }, { transport, token: issuer.token("2s") });
    assert.equal(ended, 0x43);
    await tab.close();
  });
}

scenario("EventSource follows with a ticket, and not without", async (browser, t) => {
  const issuer = t.keep(new Issuer());
  const daemon = await t.daemon({ env: issuer.env });
  const tab = await browser.tab(`${daemon.url}/weir.js`);
  tab.expect(/favicon\.ico/);
  tab.expect(NOISE);
  const said = await tab.evaluate(async (token) => {
    const headers = { authorization: `Bearer ${token}` };
    const { ticket } = await (await fetch("/v1/tickets", { method: "POST", headers })).json();
    const follow = (query) =>
      new Promise((resolve) => {
        const events = new EventSource(`/v1/events/demo%2Fchat?from=all${query}`);
        const done = (what) => (events.close(), resolve(what));
        events.onmessage = ({ data }) => done(JSON.parse(data).payload);
        events.onerror = () => done("error");
      });
    const posted = await fetch("/v1/topics/demo%2Fchat", { method: "POST", headers, body: "over http" });
    const bare = await fetch("/v1/topics/demo%2Fchat", { method: "POST", body: "nobody" });
    return {
      posted: posted.status, bare: bare.status,
      with: await follow(`&ticket=${ticket}`), without: await follow(""),
    };
  }, issuer.token("1h"));
  assert.deepEqual(said, { posted: 200, bare: 401, with: "over http", without: "error" });
  await tab.close();
});
