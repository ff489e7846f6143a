// Tokens: a text, or a function that fetches them; shown in Hello, and again before they end. Time is
// simulated.

import assert from "node:assert/strict";
import { test } from "node:test";
import { clocked, settle, world } from "./fake.mjs";

const EXPIRED = 0x43, UNAUTHORIZED = 0x40, FORBIDDEN = 0x41;
const goodbye = (code, reason, retry) => ({ frame: "Goodbye", code, reason, retry });
const authorized = (lifetime, request = 0) => ({ frame: "Authorized", request, lifetime, name: "ann" });

/** A daemon that answers pings, over each transport; `lifetime` of the first token, in ms. */
const scene = (title, options, body) => {
  for (const transport of ["webtransport", "websocket"]) {
    test(`${title} (${transport})`, { timeout: 20_000 }, () => clocked(async (clock) => {
      const daemon = { isUp: true };
      const script = (peer) => {
        peer.handle = ({ frame, request }) => {
          if (frame === "Ping") peer.say({ frame: "Pong", request, clock: 0 });
          return frame === "Ping";
        };
        if (!daemon.isUp) {
          peer.fail?.(new Error("down"));
          peer.break();
          return false;
        }
        peer.welcome({ more: options.lifetime ? [authorized(options.lifetime)] : [] });
      };
      const w = world({ transport, script });
      const connect = (more) => w.connect({ transport, ...more });
      await body({ w, clock, connect, daemon, tokens: () => w.peers.map(({ hello }) => hello?.token) });
      await clock.pass(20_000);
      assert.equal(clock.pending, 0);
    }));
  }
};

/** A function that gives "t1", "t2" and so on, and counts its calls. */
const counter = () => {
  const fetchToken = async (signal) => {
    assert.ok(signal instanceof AbortSignal);
    return `t${++fetchToken.calls}`;
  };
  fetchToken.calls = 0;
  return fetchToken;
};

/** Passes time until the client has this state. */
const until = async (clock, client, state) => {
  for (let i = 0; client.state !== state && i < 200; i++) await clock.pass(100);
  assert.equal(client.state, state);
};

// ---- A text ----

scene("a text: in every Hello, in no address, and never again in a session", { lifetime: 10_000 },
  async ({ w, clock, connect, tokens }) => {
    const client = await connect({ token: "secret" });
    await clock.pass(60_000);
    w.peers[0].break();
    await clock.pass(1000);
    assert.deepEqual(tokens(), ["secret", "secret"]);
    for (const { url, kinds, options } of w.peers) {
      assert.ok(!`${url} ${JSON.stringify(options)}`.includes("secret"));
      assert.ok(!kinds.includes("Token"));
    }
    client.close();
  });

for (const token of ["secret", undefined]) {
  for (const [code, reason] of [[EXPIRED, "the token expired"], [UNAUTHORIZED, "a token is required"]]) {
    scene(`${reason}, and ${token ?? "none"} is all there is: closed, and it says what to do`, {},
      async ({ w, clock, connect }) => {
        const client = await connect({ token }), states = [];
        client.addEventListener("state", ({ detail }) => states.push(detail));
        const next = client.subscribe("a").next(), receipt = client.publish("a", "x");
        const error = { name: code === EXPIRED ? "token_expired" : "unauthorized", code, retry: false,
          message: `${reason}: connect with a valid token, or a function that fetches one` };
        const failed = [assert.rejects(next, error), assert.rejects(receipt, error)];
        await settle();
        w.peers[0].say(goodbye(code, reason, true));
        await Promise.all(failed);
        await clock.pass(60_000);
        const { transport } = client;
        assert.deepEqual(states, [{ state: "closed", transport, reason: error.message, code }]);
        assert.equal(w.peers.length, 1);
      });
  }
}

test("a close with the code alone, and a text: closed too", { timeout: 5000 }, async () => {
  const w = world({ transport: "websocket" }), client = await w.connect({ token: "secret" });
  w.peers[0].break(4000 + EXPIRED, "");
  assert.equal(client.state, "closed");
});

test("a text that the daemon does not take: connect rejects, and says what to do", { timeout: 5000 }, async () => {
  const script = async (peer) => {
    await peer.next("Hello");
    peer.say(goodbye(UNAUTHORIZED, "the signature is wrong", false));
  };
  const w = world({ transport: "websocket", script });
  await assert.rejects(w.connect({ token: "secret", wait: true }), { name: "unauthorized", code: UNAUTHORIZED,
    retry: false, message: "the signature is wrong: connect with a valid token, or a function that fetches one" });
});

// ---- A function: before each attempt ----

scene("a function is called before each attempt", {}, async ({ w, clock, connect, daemon, tokens }) => {
  const token = counter(), client = await connect({ token });
  assert.deepEqual(tokens(), ["t1"]);
  daemon.isUp = false;
  w.peers[0].break();
  await clock.pass(3000);
  const { calls } = token;
  assert.ok(calls > 2 && calls === w.peers.length, `${calls} calls, ${w.peers.length} attempts`);
  daemon.isUp = true;
  await until(clock, client, "open");
  assert.equal(tokens().at(-1), `t${token.calls}`);
  client.close();
});

test("one attempt over two transports is one call", { timeout: 5000 }, async () => {
  const script = (peer) => {
    if (peer.transport === "websocket") return peer.welcome();
    peer.fail(new Error("refused"));
    return false;
  };
  const w = world({ transport: "both", script }), token = counter();
  const client = await w.connect({ token });
  assert.deepEqual([client.transport, token.calls, w.peers[1].hello.token], ["websocket", 1, "t1"]);
  await client.close();
});

const refused = new Error("log in first");
for (const [what, token, cause] of [
  ["throws", () => { throw refused; }, refused],
  ["rejects", async () => { throw refused; }, refused],
  ["gives no text", async () => 5, { name: "TypeError", message: "no text: 5" }],
  ["gives nothing", () => {}, { name: "TypeError", message: "no text: undefined" }],
]) {
  scene(`a function that ${what}: connect rejects with that as its cause`, {}, async ({ w, connect }) => {
    await assert.rejects(connect({ token }), (error) => {
      assert.deepEqual([error.name, error.code, error.retry, error.message],
        ["unauthorized", null, true, `no token: ${cause.message}`]);
      if (cause === refused) assert.equal(error.cause, refused);
      else assert.deepEqual([error.cause.name, error.cause.message], [cause.name, cause.message]);
      return true;
    });
    assert.deepEqual(w.peers, [], "nothing is dialled");
  });
}

scene("with wait, a function that throws is called again", {}, async ({ clock, connect, tokens }) => {
  let calls = 0, client;
  const token = async () => {
    if (++calls < 4) throw refused;
    return "late";
  };
  const connecting = connect({ token, wait: true }).then((made) => (client = made));
  await clock.pass(100);
  assert.deepEqual([calls, client], [1, undefined]);
  await clock.pass(2000);
  await connecting;
  assert.deepEqual([calls, tokens()], [4, ["late"]]);
  client.close();
});

scene("a function that throws at a reconnect: again, with pauses that grow", {}, async ({ w, clock, connect, tokens }) => {
  const times = [];
  let isLoggedIn = true;
  const token = () => {
    times.push(clock.now);
    if (!isLoggedIn) throw refused;
    return `t${times.length}`;
  };
  const client = await connect({ token });
  const subscription = client.subscribe("a");
  const { request } = await w.peers[0].next("Subscribe");
  w.peers[0].say({ frame: "Subscribed", request, position: 5 });
  await subscription.ready;
  isLoggedIn = false;
  w.peers[0].break();
  await clock.pass(8000);
  assert.deepEqual([client.state, w.peers.length], ["reconnecting", 1]);
  const pauses = times.slice(2).map((time, i) => time - times[i + 1]);
  assert.ok(pauses.length >= 4 && pauses.at(-1) > 2 * pauses[0], `${pauses}`);
  isLoggedIn = true;
  await until(clock, client, "open");
  assert.equal(tokens().at(-1), `t${times.length}`);
  const { start } = await w.peers[1].next("Subscribe");
  assert.deepEqual(start.Resume.since, { run: 7, position: 5 });
  client.close();
});

scene("a function that never answers is one attempt that timed out", {}, async ({ w, clock, connect }) => {
  const signals = [];
  const failed = assert.rejects(connect({ timeout: 500, token: (signal) => new Promise(() => signals.push(signal)) }),
    { name: "timed_out", code: null, retry: true });
  await clock.pass(499);
  assert.equal(w.peers.length, 0);
  await clock.pass(1);
  await failed;
  // Its own timer is not simulated.
  while (!signals[0].aborted) await settle();
  assert.equal(signals.length, 1);
});

scene("a signal that aborts does not wait for the function", {}, async ({ w, clock, connect }) => {
  const controller = new AbortController();
  let give;
  const token = () => new Promise((resolve) => (give = resolve));
  const failed = assert.rejects(connect({ signal: controller.signal, token }), /enough/);
  await clock.pass(10);
  controller.abort(new Error("enough"));
  await failed;
  // Too late: nothing is dialled.
  give("t1");
  await settle();
  assert.deepEqual([w.peers.length, clock.pending], [0, 0]);
});

// ---- A function: again in the session ----

scene("a new token is shown after three quarters of the lifetime, and after those of its own", { lifetime: 60_000 },
  async ({ w, clock, connect }) => {
    const token = counter(), client = await connect({ token }), [peer] = w.peers;
    // The lifetime of the last one is longer than a timer can wait.
    for (const [n, lifetime] of [[2, 60_000], [3, 60_000], [4, 2n ** 64n - 1n]]) {
      await clock.pass(43_900);
      assert.ok(!peer.frames.some(({ frame }) => frame === "Token"), `token ${n} is early`);
      await clock.pass(4200);
      const shown = peer.frames.splice(0);
      assert.deepEqual(shown.map((frame) => [frame.frame, frame.token]), [["Token", `t${n}`]]);
      peer.say(authorized(lifetime, shown[0].request));
      await clock.pass(0);
    }
    await clock.pass(600_000);
    assert.deepEqual([token.calls, peer.frames, w.peers.length, client.state], [4, [], 1, "open"]);
    client.close();
  });

scene("rights without an end: the function is not called again", { lifetime: 0 }, async ({ w, clock, connect }) => {
  const token = counter(), client = await connect({ token });
  w.peers[0].say(authorized(0));
  await clock.pass(600_000);
  assert.equal(token.calls, 1);
  client.close();
});

scene("a renewal that fails is tried again, and the session goes on", { lifetime: 60_000 },
  async ({ w, clock, connect }) => {
    const times = [], states = [];
    const token = async () => {
      times.push(clock.now);
      if (times.length > 1 && times.length < 5) throw refused;
      return `t${times.length}`;
    };
    const client = await connect({ token }), [peer] = w.peers;
    client.addEventListener("state", ({ detail }) => states.push(detail.state));
    await clock.pass(50_000);
    // The function failed three times. The daemon does not take the first token either.
    const fifth = await peer.next("Token");
    assert.equal(fifth.token, "t5");
    const pauses = times.slice(2).map((time, i) => time - times[i + 1]);
    assert.ok(pauses[2] > pauses[0], `${pauses}`);
    peer.say({ frame: "Failed", request: fifth.request, code: FORBIDDEN, reason: "the name is another" });
    await clock.pass(5000);
    const sixth = await peer.next("Token");
    assert.ok(sixth.request > fifth.request);
    assert.equal(sixth.token, "t6");
    peer.say(authorized(60_000, sixth.request));
    // It has been answered.
    peer.say({ frame: "Failed", request: sixth.request, code: FORBIDDEN, reason: "" });
    await clock.pass(40_000);
    assert.deepEqual([times.length, peer.frames, states], [6, [], []]);
    client.close();
  });

scene("a session that ends while its renewal fails: no more of it", { lifetime: 60_000 },
  async ({ w, clock, connect }) => {
    let calls = 0;
    const token = () => {
      if (++calls > 1) throw refused;
      return "t1";
    };
    const client = await connect({ token });
    await clock.pass(52_000);
    assert.ok(calls > 3);
    client.close();
    await clock.pass(10_000);
    const before = calls;
    await clock.pass(60_000);
    assert.deepEqual([calls, w.peers.length], [before, 1]);
  });

scene("the function is never called twice at once", { lifetime: 60_000 }, async ({ w, clock, connect, tokens }) => {
  const waiting = [];
  let calls = 0, atOnce = 0;
  const token = async () => {
    assert.equal(++atOnce, 1);
    calls++;
    if (calls > 1) await new Promise((resolve) => waiting.push(resolve));
    atOnce--;
    return `t${calls}`;
  };
  const client = await connect({ token });
  await clock.pass(50_000);
  assert.equal(waiting.length, 1, "a renewal waits");
  w.peers[0].break();
  await clock.pass(5000);
  assert.equal(waiting.length, 1, "the reconnect waits for the same call");
  waiting.shift()();
  await until(clock, client, "open");
  assert.deepEqual([calls, tokens()], [2, ["t1", "t2"]]);
  assert.ok(!w.peers[1].kinds.includes("Token"));
  // Afterwards it is called again.
  await clock.pass(50_000);
  assert.equal(waiting.length, 1);
  waiting.shift()();
  assert.equal((await w.peers[1].next("Token")).token, "t3");
  client.close();
});

scene("rights that ended: the client connects again with another token", {}, async ({ w, clock, connect, tokens }) => {
  const client = await connect({ token: counter() }), states = [];
  client.addEventListener("state", ({ detail: { state, code, reason } }) => states.push([state, code, reason]));
  const receipt = client.publish("a", "x");
  await settle();
  w.peers[0].say(goodbye(EXPIRED, "the token expired", true));
  await clock.pass(1000);
  assert.deepEqual(tokens(), ["t1", "t2"]);
  assert.deepEqual(states.map(([state, code]) => [state, code]), [["reconnecting", EXPIRED], ["open", null]]);
  assert.equal(states[0][2], "the token expired");
  w.peers[1].receipt(await w.peers[1].next("Publish"));
  await receipt;
  client.close();
});

scene("the goodbye says whether another token helps", {}, async ({ w, clock, connect }) => {
  const client = await connect({ token: counter() });
  const next = client.subscribe("a").next();
  const failed = assert.rejects(next, { name: "unauthorized", retry: false, message: "locked out" });
  w.peers[0].say(goodbye(UNAUTHORIZED, "locked out", false));
  await failed;
  await clock.pass(60_000);
  assert.deepEqual([client.state, w.peers.length], ["closed", 1]);
});

// ---- What the rights do not cover ----

scene("what the rights do not cover ends alone, with the daemon's words", { lifetime: 60_000 },
  async ({ w, clock, connect }) => {
    const client = await connect({ token: counter() }), [peer] = w.peers;
    const refusal = (code, reason) => ({ name: code === FORBIDDEN ? "forbidden" : "unauthorized", code, retry: false,
      message: reason });
    const ended = client.subscribe("a"), refusedAtOnce = client.subscribe("b"), kept = client.subscribe("c");
    const [a, b, c] = [await peer.next("Subscribe"), await peer.next("Subscribe"), await peer.next("Subscribe")];
    peer.say({ frame: "Subscribed", request: a.request, position: 1 },
      { frame: "Failed", request: b.request, code: UNAUTHORIZED, reason: "a token is required" },
      { frame: "Subscribed", request: c.request, position: 1 });
    await assert.rejects(refusedAtOnce.ready, refusal(UNAUTHORIZED, "a token is required"));
    await assert.rejects(refusedAtOnce.next(), refusal(UNAUTHORIZED, "a token is required"));
    await ended.ready;
    // A new token covers less.
    peer.say({ frame: "Ended", request: a.request, code: FORBIDDEN, reason: "the token does not allow to read a" });
    await assert.rejects(ended.next(), refusal(FORBIDDEN, "the token does not allow to read a"));
    const receipt = client.publish("a", "x"), { alias, number } = await peer.next("Publish");
    peer.say({ frame: "Rejected", alias, number, code: FORBIDDEN, reason: "the token does not allow to write a" });
    await assert.rejects(receipt, refusal(FORBIDDEN, "the token does not allow to write a"));
    const got = client.get("a"), { request } = await peer.next("Get");
    peer.say({ frame: "Failed", request, code: FORBIDDEN, reason: "" });
    await assert.rejects(got, refusal(FORBIDDEN, "forbidden"));
    await kept.ready;
    assert.deepEqual([client.state, w.peers.length], ["open", 1]);
    client.close();
    await clock.pass(1);
  });
