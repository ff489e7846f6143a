// The browser's two transports with a scripted daemon behind them.
//
// `Peer` is the daemon's end of one session. It decodes what the client sends and says what the
// test tells it to, over either transport.

import assert from "node:assert/strict";
import { codec, connect } from "../../web/weir/index.js";

const join = (frames) => {
  const parts = frames.map((frame) => (frame instanceof Uint8Array ? frame
    : codec.encode(frame, "client")));
  return Uint8Array.from(parts.flatMap((part) => [...part]));
};

const { setTimeout, clearTimeout } = globalThis;

/** Runs `body` with a clock that stands still but for `clock.pass(ms)`, which runs the timers. */
export const clocked = async (body) => {
  const real = { setTimeout, clearTimeout, now: performance.now };
  const timers = new Map();
  // Whole milliseconds: the sums of fractions depend on their order.
  let now = Math.ceil(performance.now()), last = 0;
  globalThis.setTimeout = (call, ms = 0) => {
    timers.set(++last, { at: now + Math.max(ms || 0, 0), call });
    return last;
  };
  globalThis.clearTimeout = (id) => void timers.delete(id);
  performance.now = () => now;
  const clock = {
    get now() {
      return now;
    },
    /** How many timers have been set. */
    get set() {
      return last;
    },
    /** How many are still to run. */
    get pending() {
      return timers.size;
    },
    /** As when the machine sleeps: no timer runs. */
    jump: (ms) => void (now += ms),
    /** Of timers due at the same time the one set first runs first. */
    async pass(ms) {
      const end = now + ms;
      for (;;) {
        await settle();
        const [id, timer] = [...timers].reduce((first, one) =>
          (one[1].at < first[1].at ? one : first), [0, { at: Infinity }]);
        if (timer.at > end) break;
        timers.delete(id);
        now = Math.max(now, timer.at);
        timer.call();
      }
      now = end;
      await settle();
    },
  };
  try {
    await body(clock);
  } finally {
    Object.assign(globalThis, { setTimeout: real.setTimeout, clearTimeout: real.clearTimeout });
    performance.now = real.now;
  }
};

/** Numbers in [0, 1), the same for the same seed: mulberry32. */
export const seeded = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
};

export const tick = () => new Promise((resolve) => setImmediate(resolve));
export const settle = async () => {
  for (let i = 0; i < 20; i++) await tick();
};

class Peer {
  frames = [];
  /** The kinds of all frames, in their order. `Knows` is in here only: every session begins with it. */
  kinds = [];
  /** What each `Knows` says. */
  known = [];
  closed = null;
  #waiting = [];
  #declared = new Map();

  constructor(transport) {
    this.transport = transport;
  }

  /** What comes in a datagram is marked, and what cannot be understood yet is ignored. */
  datagramReader() {
    const take = (frame) => this.#take({ ...frame, datagram: true });
    return (bytes) => {
      const reader = new codec.FrameReader();
      reader.push(bytes.slice());
      for (let body; (body = reader.next()); ) {
        const frame = codec.decode(body, "daemon");
        assert.ok(["Topic", "Publish", "Repair"].includes(frame.frame), frame.frame);
        if (frame.frame === "Topic") this.#declare(new Set(), frame);
        else if (frame.frame === "Repair") take(frame);
        else if (this.#declared.has(frame.alias)) {
          take({ ...frame, topic: this.#declared.get(frame.alias) });
        }
      }
      assert.ok(!reader.partial);
    };
  }

  // Frames of one stream of the client's, in pieces.
  reader(stream) {
    const reader = new codec.FrameReader(1 << 25);
    return (bytes) => {
      reader.push(bytes.slice());
      for (let body; (body = reader.next()); ) {
        const frame = codec.decode(body, "daemon");
        if (frame.frame === "Topic") this.#declare(stream, frame);
        else if (frame.frame === "Publish") {
          assert.ok(stream.has(frame.alias), "declared on its stream");
          this.#take({ ...frame, topic: this.#declared.get(frame.alias) });
        } else this.#take(frame);
      }
    };
  }

  #declare(stream, { alias, name }) {
    assert.ok([undefined, name].includes(this.#declared.get(alias)), "an alias is for one topic");
    this.#declared.set(alias, name);
    stream.add(alias);
  }

  /** Instead of `next`: gets what the client sends, and says whether that was for it. */
  handle = () => false;

  #take(frame) {
    this.kinds.push(frame.frame);
    if (frame.frame === "Knows") return void this.known.push(frame.frames);
    if (this.handle(frame)) return;
    const i = this.#waiting.findIndex(({ kind }) => kind === frame.frame);
    if (i < 0) this.frames.push(frame);
    else this.#waiting.splice(i, 1)[0].resolve(frame);
  }

  /** The next frame of a kind that the client sends, or has sent. */
  next(kind) {
    const i = this.frames.findIndex(({ frame }) => frame === kind);
    if (i >= 0) return Promise.resolve(this.frames.splice(i, 1)[0]);
    return new Promise((resolve, reject) => {
      const late = () => reject(new Error(`no ${kind}; there is ${JSON.stringify(this.frames
        .map(({ frame }) => frame))}`));
      const timer = setTimeout(late, 3000);
      this.#waiting.push({ kind, resolve: (frame) => (clearTimeout(timer), resolve(frame)) });
    });
  }

  /** `more`: frames right behind `Welcome`, in one message with it. */
  async welcome({ run = 7n, payload = 1 << 24, window = 1024, more = [] } = {}) {
    this.hello = await this.next("Hello");
    this.say({ frame: "Welcome", version: 1, session: 9, run, clock: 0,
      limits: { payload, subscriptions: 256, window }, agent: "fake" }, ...more);
    return this;
  }

  receipt({ alias, number }, sequence = number) {
    this.say({ frame: "Receipt", alias, number, sequence, count: 1, since: 0,
      digest: new Uint8Array(32), duplicate: false });
  }
}

class FakeWebSocket {
  static script;
  bufferedAmount = 0;
  constructor(url) {
    this.url = url;
    const peer = (this.peer = new Peer("websocket"));
    peer.link = this;
    const read = peer.reader(new Set());
    this.read = read;
    const emit = (bytes) => {
      assert.ok(!peer.closed, "said after the end");
      this.onmessage({ data: bytes.buffer });
    };
    let target = 0;
    peer.say = (...frames) => emit(join(frames));
    peer.stream = (request) => ({
      say(...frames) {
        const begin = target === request ? [] : [{ frame: "For", request }];
        target = request;
        emit(join([...begin, ...frames]));
      },
      end() {},
    });
    peer.raw = emit;
    peer.break = (code = 1006, reason = "") => {
      peer.closed ??= { code, reason };
      this.onclose({ code, reason });
    };
    peer.open = () => this.onopen();
    // As Chromium where the page's policy blocks it: no close follows.
    peer.error = () => this.onerror({});
    FakeWebSocket.script(peer, url);
  }
  send(bytes) {
    this.read(bytes);
  }
  close(code = 1005, reason = "") {
    if (this.peer.closed) return;
    this.peer.closed = { code, reason };
    queueMicrotask(() => this.onclose({ code, reason }));
  }
}

class FakeWebTransport {
  static script;
  constructor(url, options) {
    const peer = (this.peer = new Peer("webtransport"));
    peer.options = options;
    this.ready = new Promise((resolve, reject) => {
      peer.open = resolve;
      peer.fail = reject;
    });
    this.closed = new Promise((resolve, reject) => {
      peer.gone = reject;
      this.resolve = resolve;
    });
    this.closed.catch(() => {});
    this.ready.catch(peer.gone);
    const streams = [];
    const incoming = () => {
      let controller, pulled = () => {};
      const state = { read: 0, cancelled: false };
      // As in browsers: nothing is taken from the connection before it is asked for.
      const readable = new ReadableStream({
        start: (c) => void (controller = c),
        pull: () => void state.read++,
        cancel: () => void (state.cancelled = true),
      }, { highWaterMark: 0 });
      streams.push(controller);
      return Object.assign(state, { readable, controller });
    };
    const control = incoming();
    this.control = control;
    peer.say = (...frames) => control.controller.enqueue(join(frames));
    peer.raw = (bytes) => control.controller.enqueue(bytes);
    const uni = incoming();
    this.incomingUnidirectionalStreams = uni.readable;
    const datagrams = incoming(), read = peer.datagramReader();
    /** What becomes of a datagram of the client's. */
    peer.carry = (bytes) => read(bytes);
    peer.datagram = (...frames) => datagrams.controller.enqueue(join(frames));
    this.datagrams = {
      readable: datagrams.readable, maxDatagramSize: 1200, incomingHighWaterMark: 1,
      writable: new WritableStream({ write: (bytes) => {
        assert.ok(bytes.length <= this.datagrams.maxDatagramSize);
        peer.carry(bytes);
      } }),
    };
    peer.link = this;
    peer.streams = new Map();
    peer.stream = (request) => {
      if (!peer.streams.has(request)) peer.streams.set(request, peer.own(request));
      return peer.streams.get(request);
    };
    /** One more stream for it. */
    peer.own = (request) => {
      const { readable, controller } = incoming();
      uni.controller.enqueue(readable);
      controller.enqueue(join([{ frame: "For", request }]));
      const stream = {
        say: (...frames) => controller.enqueue(join(frames)),
        end: () => controller.close(),
        reset: () => controller.error(new Error("the stream was reset")),
        get waiting() {
          return -controller.desiredSize;
        },
      };
      return stream;
    };
    peer.break = () => {
      peer.closed ??= { code: null };
      const error = new Error("Connection lost.");
      for (const stream of streams) try { stream.error(error); } catch {}
      peer.gone(error);
    };
    peer.alone = 0;
    FakeWebTransport.script(peer, url);
  }
  #writable() {
    const read = this.peer.reader(new Set());
    let bytes = 0;
    return new WritableStream({
      write: (chunk) => {
        bytes += chunk.length;
        read(chunk);
      },
      close: () => void this.peer.alone++,
    });
  }
  async createBidirectionalStream() {
    return { readable: this.control.readable, writable: this.#writable() };
  }
  async createUnidirectionalStream() {
    return this.#writable();
  }
  close(info) {
    if (this.peer.closed) return;
    this.peer.closed = { code: info.closeCode, reason: info.reason };
    this.resolve(info);
  }
}

/**
 * A client with a scripted daemon. `script(peer, n)` is called for each connection; it welcomes
 * by default. What `next()` gives are the peers, in their order.
 */
export const world = ({ transport, script = (peer) => peer.welcome(), certificate = null }) => {
  const peers = [], waiting = [], asked = [];
  const begin = (peer, url) => {
    peer.url = url;
    peer.number = peers.length;
    peers.push(peer);
    if (script(peer, peer.number) !== false) peer.open?.();
    waiting.shift()?.(peer);
  };
  let at = 0;
  FakeWebSocket.script = (peer, url) => queueMicrotask(() => begin(peer, url));
  FakeWebTransport.script = begin;
  globalThis.WebSocket = FakeWebSocket;
  if (transport === "websocket") delete globalThis.WebTransport;
  else globalThis.WebTransport = FakeWebTransport;
  globalThis.fetch = async (url) => {
    asked.push(String(url));
    const answer = await (typeof certificate === "function" ? certificate() : certificate);
    if (!answer) throw new TypeError("fetch failed");
    return { json: async () => answer };
  };
  return {
    peers,
    /** Where the page asked for the certificate. */
    asked,
    async next() {
      while (peers.length <= at) await new Promise((resolve) => waiting.push(resolve));
      return peers[at++];
    },
    connect: (options) => connect("https://weir.test:4433", options),
  };
};

export const topic = (id, name, next = 1, epoch = 100n + BigInt(id)) =>
  ({ frame: "Topic", id, epoch, next, name });
export const message = (id, sequence, payload = `${id}:${sequence}`) => ({
  frame: "Message", topic: id, sequence, count: 1, stamp: 0,
  payload: typeof payload === "string" ? new TextEncoder().encode(payload) : payload,
});
const CHUNK = 1 << 16;
export const noise = (size) => Uint8Array.from({ length: size }, (_, n) => (n * n) >> 7);
export const begin = (id, sequence, size) =>
  ({ frame: "Begin", topic: id, sequence, stamp: 2000, size });
export const chunks = (payload) => Array.from({ length: Math.ceil(payload.length / CHUNK) },
  (_, n) => ({ frame: "Chunk", bytes: payload.subarray(n * CHUNK, (n + 1) * CHUNK) }));
export const end = { frame: "End", count: 3, digest: new Uint8Array(32) };
