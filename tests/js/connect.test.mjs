// Which transport carries the session, and why.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../../web/weir/index.js";
import { clocked, settle, world } from "./fake.mjs";

const certificate = {
  pinning: true, current: "ab".repeat(32), next: "cd".repeat(32), port: 5000, path: "/weir",
};

test("WebTransport, pinned as the daemon says", async () => {
  const w = world({ transport: "both", certificate });
  const client = await w.connect({ token: "t" });
  const peer = await w.next();
  assert.deepEqual([client.transport, client.reason, client.state, client.session,
    client.maxPayload], ["webtransport", "WebTransport", "open", 9n, 1 << 24]);
  assert.equal(peer.url, "https://weir.test:5000/weir");
  assert.deepEqual(peer.options.serverCertificateHashes.map(({ value }) => value[0]), [0xab, 0xcd]);
  const { version, token, producer } = peer.hello;
  assert.deepEqual([version, token, producer.length], [1, "t", 16]);
  await client.close();
});

test("no answer about the certificate, or no pinning: the usual authorities", async () => {
  for (const certificate of [null, { pinning: false, current: "ab", next: null, port: 4433 }]) {
    const w = world({ transport: "both", certificate });
    const client = await w.connect();
    const peer = await w.next();
    assert.deepEqual([peer.url, peer.options], ["https://weir.test:4433/weir", {}]);
    await client.close();
  }
});

test("no WebTransport: WebSocket at the address given", async () => {
  for (const [secure, why] of [[true, "this browser has no WebTransport"],
    [false, "WebTransport needs a page from https or localhost"]]) {
    globalThis.isSecureContext = secure;
    const w = world({ transport: "websocket" });
    const client = await connect("http://weir.test:8080");
    assert.deepEqual([client.transport, client.reason], ["websocket", `WebSocket: ${why}`]);
    assert.equal((await w.next()).url, "ws://weir.test:8080/weir");
    await client.close();
    delete globalThis.isSecureContext;
  }
});

test("behind a proxy the daemon is below a path; WebTransport passes by", async () => {
  for (const url of ["https://weir.test/relay", "https://weir.test/relay/"]) {
    const script = (peer) => {
      if (peer.transport === "websocket") return peer.welcome();
      peer.fail(new Error("refused"));
      return false;
    };
    const w = world({ transport: "both", script });
    const client = await connect(url);
    assert.deepEqual(w.peers.map((peer) => String(peer.url)),
      ["https://weir.test/weir", "wss://weir.test/relay/weir"]);
    assert.deepEqual(w.asked, ["https://weir.test/relay/certificate.sha256"]);
    await client.close();
  }
});

test("WebTransport fails: WebSocket at once", async () => {
  const script = (peer) => {
    if (peer.transport === "websocket") return peer.welcome();
    peer.fail(new Error("refused"));
    return false;
  };
  const w = world({ transport: "both", script });
  const began = performance.now();
  const client = await w.connect();
  assert.equal(client.reason, "WebSocket: WebTransport failed: refused");
  assert.ok(performance.now() - began < 500);
  await client.close();
});

test("WebTransport silent: WebSocket after a while, and the loser is closed", async () => {
  const script = (peer) => (peer.transport === "websocket" ? peer.welcome() : false);
  const w = world({ transport: "both", script });
  const began = performance.now();
  const client = await w.connect();
  assert.equal(client.reason, "WebSocket: no answer over UDP within 1.5 s");
  assert.ok(performance.now() - began < 2000);
  assert.ok(w.peers[0].closed);
  // Too late: it changes nothing.
  w.peers[0].welcome();
  w.peers[0].open();
  await settle();
  assert.equal(client.transport, "websocket");
  await client.close();
});

test("WebTransport welcomed while WebSocket still tries: it wins", async () => {
  const script = (peer) => {
    if (peer.transport === "websocket") return false;
    setTimeout(() => (peer.welcome(), peer.open()), 200);
    return false;
  };
  const w = world({ transport: "both", script });
  const client = await w.connect({ fallbackAfter: 50 });
  assert.equal(client.reason, "WebTransport");
  assert.ok(w.peers[1].closed);
  await client.close();
});

test("both fail: what was tried is told", async () => {
  const script = (peer) => {
    if (peer.transport === "websocket") peer.break();
    else peer.fail(new Error("refused"));
    return false;
  };
  const w = world({ transport: "both", script });
  await assert.rejects(w.connect(), (error) => {
    assert.deepEqual([error.name, error.code, error.retry], ["unreachable", null, true]);
    assert.match(error.message,
      /4433\/: WebTransport failed: refused; no connection; nothing answers there, or its certificate is not trusted/);
    return true;
  });
});

test("nothing answers: given up in time", async () => {
  const w = world({ transport: "both", script: () => false });
  await assert.rejects(w.connect({ timeout: 200, fallbackAfter: 50 }), { name: "timed_out" });
  assert.ok(w.peers.every(({ closed }) => closed));
});

test("the daemon refuses: told at once, not tried over the other", async () => {
  const script = async (peer) => {
    await peer.next("Hello");
    peer.say({ frame: "Goodbye", code: 0x40, reason: "say the token", retry: false });
  };
  const w = world({ transport: "both", script });
  await assert.rejects(w.connect(), { name: "unauthorized", code: 0x40,
    message: "say the token: connect with a valid token, or a function that fetches one" });
  assert.deepEqual(w.peers.map(({ transport }) => transport), ["webtransport"]);
});

test("a transport asked for is the only one", async () => {
  const w = world({ transport: "both" });
  const client = await w.connect({ transport: "websocket" });
  assert.deepEqual(w.peers.map(({ transport }) => transport), ["websocket"]);
  await client.close();
  const without = world({ transport: "websocket" });
  await assert.rejects(without.connect({ transport: "webtransport" }), { name: "unreachable" });
  assert.deepEqual(without.peers, []);
});

test("a certificate that changed is asked for again, once", async () => {
  let current = "ab".repeat(32), asked = 0;
  const script = (peer) => {
    if (peer.options.serverCertificateHashes[0].value[0] !== parseInt(current.slice(0, 2), 16)) {
      peer.fail(new Error("certificate"));
      return false;
    }
    return peer.welcome();
  };
  const w = world({ transport: "both", script,
    certificate: () => (asked++, { ...certificate, current, next: null }) });
  const client = await w.connect();
  current = "ef".repeat(32);
  (await w.next()).break();
  await w.next();
  await w.next();
  await settle();
  assert.deepEqual([client.state, client.reason, asked], ["open", "WebTransport", 2]);
  await client.close();
});

test("reconnecting goes on until there is a daemon again", async () => {
  let up = true;
  const script = (peer) => {
    if (up) return peer.welcome();
    peer.break();
    return false;
  };
  const w = world({ transport: "websocket", script });
  const client = await w.connect();
  up = false;
  w.peers[0].break();
  while (w.peers.length < 4) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(client.state, "reconnecting");
  up = true;
  // The backoff has grown; the network's return cuts it short.
  while (client.state !== "open") await new Promise((resolve) => setTimeout(resolve, 20));
  await client.close();

  const once = world({ transport: "websocket" });
  const other = await once.connect({ reconnect: false });
  once.peers[0].break(4001, "the daemon stops");
  assert.equal(other.state, "closed");
  await assert.rejects(other.ping(), { name: "closed" });
});

test("a session that ends as soon as it is welcomed is one more that broke", async () => {
  for (const transport of ["webtransport", "websocket"]) {
    const w = world({ transport, script: async (peer, n) => {
      await peer.welcome();
      if (n === 1) peer.say({ frame: "Goodbye", code: 1, reason: "", retry: true });
    } });
    const client = await w.connect();
    const subscription = client.subscribe("a");
    (await w.next()).break();
    await w.next();
    const third = await w.next();
    const { request } = await third.next("Subscribe");
    third.say({ frame: "Subscribed", request, position: 1 });
    await subscription.ready;
    await client.close();
  }
});

test("not an address", async () => {
  for (const url of ["localhost:4433", "ftp://a", "", "wss://a"]) {
    await assert.rejects(connect(url), { name: "unreachable", retry: false });
  }
});

// ---- A daemon that is not up yet ----

/** A world whose daemon is up when `daemon.isUp`. */
const down = (transport, daemon = { isUp: false }) => {
  const script = (peer) => {
    if (daemon.isUp) return peer.welcome();
    peer.fail?.(new Error("down"));
    peer.break();
    return false;
  };
  return { daemon, ...world({ transport, script }) };
};

for (const transport of ["auto", "webtransport", "websocket"]) {
  test(`wait: connects when the daemon is up (${transport})`, { timeout: 10_000 }, () => clocked(async (clock) => {
    const w = down(transport === "websocket" ? transport : "both");
    let client;
    const connecting = w.connect({ transport, wait: true }).then((made) => (client = made));
    await clock.pass(60_000);
    assert.equal(client, undefined);
    const tries = w.peers.length;
    assert.ok(tries > 4 && tries < 100, `${tries}`);
    w.daemon.isUp = true;
    // The longest pause, and the time that a failed attempt takes.
    for (let half = 0; !client && half < 24; half++) await clock.pass(500);
    await connecting;
    assert.equal(client.state, "open");
    client.close();
    await clock.pass(20_000);
    assert.equal(clock.pending, 0);
  }));
}

test("without wait a daemon that is not up is an error", { timeout: 10_000 }, () => clocked(async (clock) => {
  const w = down("both");
  const failed = assert.rejects(w.connect(), { name: "unreachable", retry: true });
  await clock.pass(10_000);
  await failed;
}));

test("wait: a signal ends it at once, with its reason", { timeout: 10_000 }, () => clocked(async (clock) => {
  // In a pause, and in an attempt.
  for (const ms of [60_000, 60_000.5, 3]) {
    const w = down("both"), controller = new AbortController(), reason = new Error("enough");
    const failed = assert.rejects(w.connect({ wait: true, signal: controller.signal }), reason);
    await clock.pass(ms);
    controller.abort(reason);
    await settle();
    await failed;
    const tries = w.peers.length;
    await clock.pass(60_000);
    assert.deepEqual([w.peers.length, clock.pending], [tries, 0]);
  }
  const w = down("both");
  await assert.rejects(w.connect({ wait: true, signal: AbortSignal.abort(new Error("before")) }), { message: "before" });
  assert.equal(w.peers.length, 0);
}));

test("wait: what a retry cannot help is an error at once", { timeout: 10_000 }, async () => {
  const script = async (peer) => {
    await peer.next("Hello");
    peer.say({ frame: "Goodbye", code: 0x41, reason: "not for you", retry: false });
  };
  const w = world({ transport: "websocket", script });
  await assert.rejects(w.connect({ wait: true }), { name: "forbidden" });
  assert.equal(w.peers.length, 1);
});
