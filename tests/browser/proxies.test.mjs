// Behind nginx and Caddy, below a path, with the configuration that docs/proxy.md gives: the page,
// weir.js, WebSocket, events and requests, all of it longer than nginx waits for a silent side.

import assert from "node:assert/strict";
import { createServer } from "node:net";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { page, say, shown } from "./harness/page.mjs";
import { pause, start, until } from "./harness/process.mjs";
import { together } from "./harness/suite.mjs";

/** nginx ends what is silent for 60 s. */
const SILENCE = 65_000;

const document = readFileSync(new URL("../../docs/proxy.md", import.meta.url), "utf8");
const block = (language) => new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, "m").exec(document)[1];

const proxies = {
  nginx: {
    program: "/usr/sbin/nginx",
    args: (home) => ["-e", "stderr", "-p", home, "-c", join(home, "conf")],
    // What a configuration needs around the block, for one process that owns nothing of the system's.
    conf: (port, daemon, home) => `
      daemon off; master_process off; pid ${home}/pid; error_log stderr;
      events {}
      http {
        access_log off;
        ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${home}/${name};`).join(" ")}
        server {
          listen 127.0.0.1:${port};
          ${block("nginx").replace("127.0.0.1:8080", daemon.http)}
        }
      }`,
  },
  caddy: {
    program: "/usr/bin/caddy",
    args: (home) => ["run", "--adapter", "caddyfile", "--config", join(home, "conf")],
    conf: (port, daemon) => `{
  admin off
  auto_https off
}
${block("caddyfile").replace("relay.example", `http://127.0.0.1:${port}`).replace("127.0.0.1:8080", daemon.http)}`,
  },
};

/** A proxy before the daemon. `url`: where the daemon is, through it. */
async function proxy(name, daemon) {
  const { program, args, conf } = proxies[name];
  const home = mkdtempSync(join(tmpdir(), "weir-proxy-"));
  const env = { ...process.env, HOME: home, XDG_DATA_HOME: home, XDG_CONFIG_HOME: home };
  for (;;) {
    // Neither can be given a socket, nor says which port the system chose.
    const port = await freePort();
    writeFileSync(join(home, "conf"), conf(port, daemon, home));
    const child = start(program, args(home), { env });
    const url = `http://127.0.0.1:${port}/relay`;
    const gone = () => child.exitCode !== null;
    const answers = () => fetch(`${url}/certificate.sha256`).then((answer) => answer.ok, () => false);
    await until(async () => gone() || (await answers()), { what: `${name} answers` });
    if (gone()) {
      assert.match(child.said, /in use/i, `${name}: ${child.said}`);
      continue;
    }
    return {
      name,
      url,
      get log() {
        return child.said;
      },
      async end() {
        child.kill("SIGTERM");
        await child.exited;
        rmSync(home, { recursive: true, force: true });
      },
    };
  }
}

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

async function works(browser, behind) {
  // WebTransport passes by the proxy.
  const tab = await page(browser, behind, { room: behind.name });
  assert.equal(await tab.evaluate(() => document.body.dataset.transport), "webtransport");
  await say(tab, "through the page");
  await shown(tab, "through the page");

  // What is silent for a minute goes on: a WebSocket, and a stream of events.
  await tab.evaluate(async (filter) => {
    const { connect } = await import("./weir.js");
    const client = await connect(undefined, { transport: "websocket" });
    const changes = [], arrived = [], events = [];
    client.addEventListener("state", ({ detail }) => changes.push(detail.state));
    const subscription = client.subscribe(filter);
    (async () => {
      for await (const message of subscription) arrived.push(message.text());
    })();
    await subscription.ready;
    const stream = new EventSource(`./v1/events/${filter}`);
    await new Promise((resolve) => (stream.onopen = resolve));
    stream.onmessage = ({ data }) => events.push(data);
    stream.onerror = () => changes.push("events broke");
    Object.assign(window, { client, changes, arrived, events });
  }, `quiet/${behind.name}`);
  assert.equal(await tab.evaluate(() => client.transport), "websocket");
  await pause(SILENCE);
  assert.deepEqual(await tab.evaluate(() => [arrived, events, changes]), [[], [], []]);
  return tab;
}

/** The largest payload is larger than nginx takes by default. */
async function carries(behind) {
  const large = Buffer.alloc(16 << 20, "weir ");
  const at = `${behind.url}/v1/topics/large/${behind.name}`;
  const published = await fetch(at, { method: "POST", body: large });
  assert.equal(published.status, 200, await published.text());
  const got = Buffer.from(await (await fetch(at)).arrayBuffer());
  assert.ok(got.equals(large), `${got.length} bytes`);
}

together("below a path of nginx and of Caddy: the page, WebSocket, events and requests", async (browsers, t) => {
  const daemon = await t.daemon();
  const both = [];
  for (const name of Object.keys(proxies)) both.push(t.keep(await proxy(name, daemon)));
  const tabs = both.flatMap((behind) => browsers.map((browser) => works(browser, behind)));
  await Promise.all([...tabs, ...both.map(carries)]);
  for (const { name, url } of both) {
    await fetch(`${url}/v1/topics/quiet/${name}`, { method: "POST", body: "after a minute" });
  }
  for (const tab of await Promise.all(tabs)) {
    await tab.until(() => arrived.length && events.length, null, { what: "both receive it" });
    const [arrived, events, changes] = await tab.evaluate(() => [window.arrived, window.events, window.changes]);
    assert.deepEqual([arrived, events.length], [["after a minute"], 1]);
    assert.match(events[0], /after a minute|YWZ0ZXIgYSBtaW51dGU/);
    assert.deepEqual(changes, [], "nothing broke meanwhile");
    await tab.close();
  }
}, { timeout: 180_000 });
