// Weir's browser client: docs/protocol.md over WebTransport or WebSocket. The API: weir.d.ts.

/** @import * as api from "./weir.js" */
/** @typedef {Record<string, any> & { frame: string }} Frame as in tests/vectors/frames.json */
/** @typedef {{ write: (value: any) => void, read: () => any }} Type */

// By the upper and the lower four bits of the code.
const CODES = [
  "done shutting_down overloaded timed_out",
  "malformed version unexpected unsupported frame_too_large",
  "bad_topic bad_filter payload_too_large reserved bad_alias bad_request too_many_subscriptions " +
    " stale",
  "not_found evicted",
  "unauthorized forbidden rate_limited",
  "lagged publisher_gone",
].map((row) => row.split(" "));
const RETRY = [0x01, 0x02, 0x03, 0x42, 0x50, 0x51];
const MALFORMED = 0x10, TOO_LARGE = 0x14;

export class WeirError extends Error {
  /** @param {number | null} code @param {string} message */
  constructor(code, message, name = CODES[code >> 4]?.[code & 15] || "unknown", retry = RETRY.includes(code)) {
    super(message || name.replaceAll("_", " "));
    this.code = code;
    this.name = name;
    this.retry = retry;
  }
}

const broken = (why) => new WeirError(null, why, "broken", true);
const closed = () => new WeirError(null, "closed by this client", "closed", false);
const defect = (why) =>
  new WeirError(MALFORMED, `the daemon broke the protocol: ${why}: update the older of the two`);
const words = (error) => error?.message || String(error);
const refused = (error) => error instanceof WeirError && error.code !== null;
const known = (error) => (error instanceof WeirError ? error : broken(words(error)));
/** @type {(...args: any[]) => any} */
const nothing = () => {};
const none = (options) => {
  for (const name in options) throw new TypeError(`no such option: ${name}`);
};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const clamp = (n, low, high) => Math.max(low, Math.min(n, high));
/** @param {Uint8Array[]} parts */
const joined = (parts) => {
  if (parts.length === 1) return parts[0];
  let size = 0;
  for (const part of parts) size += part.length;
  const whole = new Uint8Array(size);
  for (const part of parts.reverse()) whole.set(part, (size -= part.length));
  return whole;
};

// ---- Codec: postcard, from the tables of docs/protocol.md ----
// A u64 is a number up to 2^53 - 1 and a bigint above, never the other way round, so that === and
// Map keys compare values.

const utf8 = new TextEncoder(), lenient = new TextDecoder();
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @returns {never} */
const malformed = (why) => {
  throw new WeirError(MALFORMED, `malformed frame: ${why}`);
};

// What is being written, up to `end`, and read, from `at`: within one call only.
/** @type {Uint8Array} */
let out = new Uint8Array(4096), src = out;
let end = 0, at = 0;

const room = (size) => {
  if (end + size <= out.length) return;
  const old = out;
  out = new Uint8Array(2 * (end + size));
  out.set(old);
};

/** @returns {any} */
const varint = (bits) => {
  const start = at;
  let n = 0, scale = 1, byte = 0x80, big = 0n;
  for (; byte >= 0x80; scale *= 128) {
    if (at === src.length) malformed("it ends too early");
    if (at - start > bits / 7) malformed("a number too long");
    byte = src[at++];
    n += (byte & 0x7f) * scale;
  }
  if (n < 2 ** Math.min(bits, 53)) return n;
  for (let i = at; i-- > start; ) big = (big << 7n) | BigInt(src[i] & 0x7f);
  return big >> BigInt(bits) ? malformed("a number too long") : big;
};

const take = (size) => {
  if (size > src.length - at) malformed("it ends too early");
  return src.subarray(at, (at += Number(size)));
};

/** @returns {Type} */
const uint = (bits) => ({
  write(n) {
    let big = typeof n === "number" ? BigInt(n) : n;
    if (big >> BigInt(bits)) throw new RangeError(`${n} is no u${bits}`);
    room(10);
    for (; big > 127n; big >>= 7n) out[end++] = Number(big & 127n) | 128;
    out[end++] = Number(big);
  },
  read: () => varint(bits),
});
const u32 = uint(32), u64 = uint(64);

/** So many bytes, or behind their length. @returns {Type} */
const raw = (size = -1) => ({
  write(value) {
    if (size < 0) u64.write(value.length);
    else if (value.length !== size) throw new RangeError(`${value.length} bytes, not ${size}`);
    room(value.length);
    out.set(value, end);
    end += value.length;
  },
  read: () => take(size < 0 ? varint(64) : size),
});
const bytes = raw(), digest = raw(32);

/** @type {Type} */
const str = {
  write(value) {
    if (typeof value !== "string") throw new TypeError(`no text: ${value}`);
    bytes.write(utf8.encode(value));
  },
  read() {
    const view = bytes.read();
    try {
      return strict.decode(view);
    } catch {
      malformed("not UTF-8");
    }
  },
};

/** @type {Type} */
const bool = {
  write: (value) => u32.write(+value),
  read() {
    const byte = take(1)[0];
    return byte < 2 ? byte === 1 : malformed("not a bool");
  },
};

/** @returns {Type} */
const option = (item) => ({
  write(value) {
    bool.write(value !== null);
    if (value !== null) item.write(value);
  },
  read: () => (bool.read() ? item.read() : null),
});

/** @returns {Type} */
const list = (item) => ({
  write(values) {
    u64.write(values.length);
    for (const value of values) item.write(value);
  },
  read() {
    const length = varint(64);
    if (length > src.length - at) malformed("it ends too early");
    return Array.from({ length }, item.read);
  },
});

/** Also a tuple, with an array for its table. @returns {Type} */
const struct = (table) => {
  const fields = Object.entries(table);
  return {
    write(value) {
      for (const [name, type] of fields) type.write(value[name]);
    },
    read() {
      const value = Array.isArray(table) ? [] : {};
      for (const [name, type] of fields) value[name] = type.read();
      return value;
    },
  };
};

/** An enum: `"Variant"` or `{ Variant: value }`. @returns {Type} */
const choice = (table) => {
  const names = Object.keys(table);
  return {
    write(value) {
      const name = typeof value === "string" ? value : Object.keys(value)[0];
      if (!names.includes(name)) throw new TypeError(`no such value: ${name}`);
      u32.write(names.indexOf(name));
      table[name]?.write(value[name]);
    },
    read() {
      const name = names[varint(32)] ?? malformed("no such variant");
      return table[name] ? { [name]: table[name].read() } : name;
    },
  };
};

const start = choice({
  New: null, Latest: null, All: null, Last: u64, Sequence: u64,
  Resume: struct({
    since: struct({ run: u64, position: u64 }),
    topics: list(struct({ topic: str, epoch: u64, next: u64 })),
  }),
});
const delivery = choice({ Ordered: null, Unordered: null, Realtime: null });
const lag = choice({ Oldest: null, Newest: null, Disconnect: null });
const cause = choice({ Evicted: null, Skipped: null, Aborted: null, Late: null });
const which = choice({ Latest: null, Sequence: u64, Digest: digest });
const limits = struct({ payload: u64, subscriptions: u32, window: u32 });
const entries = list(struct({
  digest, count: u64, since: u64, sequence: u64, size: u64, payload: option(bytes),
}));

const frames = (table) => [Object.keys(table), Object.values(table).map(struct)];
const FRAMES = {
  daemon: frames({
    Hello: { version: u32, producer: raw(16), token: option(str), agent: str },
    Topic: { alias: u32, name: str },
    Publish: { alias: u32, number: u64, stamp: u64, payload: bytes },
    Begin: { alias: u32, number: u64, stamp: u64, size: u64 },
    Chunk: { bytes },
    End: { digest },
    Subscribe: { request: u32, filter: str, start, delivery, lag, deadline: u32 },
    Unsubscribe: { subscription: u32 },
    Get: { request: u32, topic: str, which },
    Top: { request: u32, topic: str, k: u32 },
    Ping: { request: u32 },
    Repair: { subscription: u32, topic: u64, holes: list(struct([u64, u64])) },
    Goodbye: { code: u32, reason: str },
  }),
  client: frames({
    Welcome: { version: u32, session: u64, run: u64, clock: u64, limits, agent: str },
    For: { request: u32 },
    Topic: { id: u64, epoch: u64, next: u64, name: str },
    Message: { topic: u64, sequence: u64, count: u64, stamp: u64, payload: bytes },
    Begin: { topic: u64, sequence: u64, stamp: u64, size: u64 },
    Chunk: { bytes },
    End: { count: u64, digest },
    Abort: { code: u32 },
    Gap: { topic: u64, first: u64, last: u64, cause },
    Head: { topic: u64, sequence: u64 },
    Receipt: {
      alias: u32, number: u64, sequence: u64, count: u64, since: u64, digest, duplicate: bool,
    },
    Acknowledge: { alias: u32, floor: u64, seen: u64 },
    Rejected: { alias: u32, number: u64, code: u32, reason: str },
    Subscribed: { request: u32, position: u64 },
    Ended: { request: u32, code: u32, reason: str },
    Top: { request: u32, entries },
    Pong: { request: u32, clock: u64 },
    Failed: { request: u32, code: u32, reason: str },
    Drain: { within: u32, reason: str },
    Goodbye: { code: u32, reason: str, retry: bool },
    Mark: { position: u64 },
  }),
};

/** A whole frame, with its length. @param {Frame} frame */
const encode = (frame, to = "daemon") => {
  const [names, types] = FRAMES[to], index = names.indexOf(frame.frame);
  // Where a length has room before it.
  end = 5;
  u32.write(index);
  types[index].write(frame);
  const stop = end;
  end = 0;
  u32.write(stop - 5);
  out.copyWithin(5 - end, 0, end);
  const whole = out.slice(5 - end, stop);
  if (stop > BUFFER) out = new Uint8Array(4096);
  return whole;
};

/** A frame without its length; its bytes are views. @param {Uint8Array} body @returns {Frame} */
const decode = (body, to = "client") => {
  src = body;
  at = 0;
  const [names, types] = FRAMES[to], index = varint(32);
  const frame = (types[index] ?? malformed("no such frame")).read();
  frame.frame = names[index];
  if (at < body.length) malformed(`${frame.frame} with bytes after its end`);
  return frame;
};

/** Cuts a stream into frames. One that lies whole in a chunk is not copied. */
class FrameReader {
  /** What came and was not given. @type {Uint8Array} */
  #rest = new Uint8Array();

  /** @param {number} limit largest body */
  constructor(limit = 1 << 20) {
    this.limit = limit;
  }

  /** Whether a frame has begun and is not complete. */
  get partial() {
    return this.#rest.length > 0;
  }

  /** @param {Uint8Array} chunk */
  push(chunk) {
    this.#rest = this.partial ? joined([this.#rest, chunk]) : chunk;
  }

  /** All frames that are whole with this chunk. @param {Uint8Array} chunk */
  each(chunk, take) {
    this.push(chunk);
    for (let body; (body = this.next()); taken++) take(decode(body), body[0]);
  }

  /** The body of the next whole frame. @returns {Uint8Array | null} */
  next() {
    src = this.#rest;
    at = 0;
    // Not even the length is whole.
    if (src.length < 5 && src.every((byte) => byte >= 0x80)) return null;
    const size = varint(32);
    if (!src[at - 1]) malformed("a length of 0, or padded");
    if (size > this.limit) {
      throw new WeirError(TOO_LARGE, `a frame of ${size} bytes, above the limit ${this.limit}`);
    }
    if (src.length < at + size) return null;
    const body = take(size);
    this.#rest = src.subarray(at);
    return body;
  }
}

export const codec = { encode, decode, FrameReader };

// ---- What the consumer sees ----

const safe = (n) => (typeof n === "number" ? n : malformed("a number above 2^53 - 1"));
const millis = (micros) => (micros ? Number(micros) / 1000 : null);
const hex = (view) => Array.from(view, (byte) => byte.toString(16).padStart(2, "0")).join("");
const unhex = (text) => {
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw new TypeError(`not hex: ${text}`);
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
};

/**
 * A view keeps its whole chunk alive: 64 KiB, perhaps, for a payload of ten bytes. So what is less
 * than a quarter of its chunk is copied. A message that arrives alone is not.
 */
const own = (view) => (view.length * 4 < view.buffer.byteLength ? view.slice() : view);

class Message {
  /** @param {{ topic: string, epoch: bigint }} topic @param {any} frame */
  constructor({ topic, epoch }, { sequence, count, stamp, payload }) {
    /** @type {"message"} */
    this.kind = "message";
    this.topic = topic;
    this.epoch = epoch;
    this.sequence = safe(sequence);
    this.count = safe(count);
    this.stamp = millis(stamp);
    this.payload = own(payload);
  }
  text() {
    return lenient.decode(this.payload);
  }
  json() {
    return JSON.parse(this.text());
  }
}

// ---- Transports ----
// A link is { transport, send, publish, alone, datagram, close }: control frames, publications and
// large ones, each kind in its order. It tells its session heard, control, open, datagram and end.

// Bytes in one write. A publication above goes alone.
const JOIN = 1 << 16;
// Bytes that may wait for a consumer, or in a WebSocket,
const BUFFER = 1 << 20;
// and messages that may wait for one who is sent datagrams.
const WAITING = 1024;

/** What is queued in one microtask, or while a write is under way, goes out in one write. */
const outbox = (write, fail) => {
  const queue = [];
  let busy = false;
  const run = async () => {
    while (queue.length) {
      let count = 0, size = 0;
      do size += queue[count++].length;
      while (count < queue.length && size + queue[count].length <= JOIN);
      await write(joined(queue.splice(0, count)));
    }
    busy = false;
  };
  return (frame) => {
    queue.push(frame);
    if (!busy) queueMicrotask(() => run().catch(fail));
    busy = true;
  };
};

/** The frame; for the End of a large message all of it. `keeper` has what came of it. */
const whole = (keeper, frame, { welcome }) => {
  const { frame: kind, size, bytes, digest, count } = frame, { message, left } = keeper;
  // A Begin, a Chunk, an End.
  if (size <= welcome.limits.payload) {
    keeper.message = { ...frame, frame: "Message", payload: new Uint8Array(size) };
    keeper.left = size;
  } else if (message && bytes?.length <= left) {
    message.payload.set(bytes, message.size - left);
    keeper.left -= bytes.length;
  } else if (kind === "Abort" || message && digest && !left) {
    keeper.message = null;
    if (digest) return { ...message, count };
  } else if (size ?? bytes ?? digest) throw defect(`${kind} out of place`);
  return frame;
};

// Frames taken since the page could last do something else, and how many that may be: some ms.
let taken = 0;
const TURN = 256;
const turn = () => new Promise((resolve) => {
  // A timer would wait for 4 ms, and in a hidden page for a second.
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    resolve((taken = 0));
  };
  port2.postMessage(0);
});

const each = async (readable, take) => {
  const reader = readable.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    await take(value, reader);
    if (taken > TURN) await turn();
  }
};

const overWebTransport = (url, hashes, session) => {
  const wt = new WebTransport(url, hashes.length
    ? { serverCertificateHashes: hashes.map((value) => ({ algorithm: "sha-256", value })) } : {});
  /** @type {any} */
  const datagrams = wt.datagrams;
  const fail = (error) => session.end(error);
  let quick;

  const writer = (open, stream) => outbox(async (chunk) => {
    stream ??= (await open()).getWriter();
    await stream.write(chunk);
  }, fail);

  const read = (readable, take, wait = nothing) => {
    const frames = new FrameReader();
    return each(readable, (chunk, reader) => {
      session.heard();
      frames.each(chunk, (frame, kind) => take(frame, kind, reader));
      return wait();
    });
  };

  // A reset is an end: the control stream says why.
  const ours = (error) => error instanceof WeirError && fail(error);

  const accept = async (readable) => {
    /** @type {any} */
    let sink;
    await read(readable, (frame, kind, reader) => {
      if (kind === 1) sink = session.open(frame, () => reader.cancel().catch(nothing));
      else sink?.take(frame);
    }, () => sink?.room?.()).catch(ours);
    sink?.end?.();
  };

  const control = wt.ready.then(() => wt.createBidirectionalStream());
  control.then(async ({ readable }) => {
    await read(readable, (frame) => session.control(frame));
    // The connection is closing, and knows better why.
    await sleep(500);
    throw broken("the control stream closed");
  }).catch(fail);
  const loop = (readable, take) => wt.ready.then(() => each(readable, take)).catch(ours);
  loop(wt.incomingUnidirectionalStreams, (stream) => void accept(stream));
  // The browsers would keep one, and drop the others of a burst.
  datagrams.incomingHighWaterMark = WAITING;
  loop(datagrams.readable, (bytes) => session.datagram(bytes));
  wt.closed.then(({ closeCode, reason }) => {
    fail(closeCode ? new WeirError(closeCode, reason) : broken("the connection closed"));
  }, fail);

  return {
    transport: "webtransport",
    send: writer(async () => (await control).writable),
    publish: writer(() => wt.createUnidirectionalStream()),
    alone: (...parts) => wt.createUnidirectionalStream().then(async (writable) => {
      const stream = writable.getWriter();
      for (const part of parts) await stream.write(part);
      await stream.close();
    }).catch(fail),
    /** Whether it goes out; nobody knows whether it arrives. With `least` 1: if none waits. */
    datagram(bytes, least = -64) {
      quick ??= (datagrams.writable ?? datagrams.createWritable()).getWriter();
      // What is too large the browsers drop, and say nothing.
      if (!(bytes.length <= datagrams.maxDatagramSize) || quick.desiredSize < least) return false;
      quick.write(bytes).catch(nothing);
      return true;
    },
    close(closeCode, reason) {
      try {
        wt.close({ closeCode, reason });
        // Not open yet.
      } catch {}
    },
  };
};

const overWebSocket = (url, session) => {
  const ws = new WebSocket(url), frames = new FrameReader();
  let sink;
  ws.binaryType = "arraybuffer";
  const open = new Promise((resolve) => (ws.onopen = resolve));
  ws.onmessage = ({ data }) => {
    if (session.over) return;
    session.heard();
    try {
      frames.each(new Uint8Array(data), (frame, kind) => {
        // For, and what may follow it: it says whose that is, until the next.
        if (kind === 1) sink = session.open(frame);
        else if (kind < 1 || kind > 9 && kind < 20) session.control(frame);
        else sink?.take(frame);
      });
      if (frames.partial) throw defect("it ends inside a frame");
    } catch (error) {
      session.end(error);
    }
  };
  ws.onclose = ({ code, reason }) => {
    session.end(code >= 4000 ? new WeirError(code - 4000, reason)
      : broken(reason || (session.welcome ? "the connection closed" : "no WebSocket")));
  };
  // What a page's policy blocks, Chromium never closes.
  ws.onerror = () => setTimeout(() => ws.onclose({ code: 1006, reason: "" }), 10);
  const send = outbox(async (chunk) => {
    await open;
    ws.send(chunk);
    // There is no event for this. What moves shows that the daemon is there.
    // A socket that is dead keeps its figure.
    for (let left; (left = ws.bufferedAmount) > BUFFER && !session.over; ) {
      await sleep(5);
      if (ws.bufferedAmount < left) session.heard();
    }
  }, (error) => session.end(error));
  return {
    transport: "websocket",
    send,
    publish: send,
    alone: (...parts) => parts.forEach(send),
    close: (code, reason) => ws.close(code ? 4000 + code : 1000, reason),
  };
};

// ---- Session: one connection, from hello to goodbye ----

// After so many ms without a sound the daemon is pinged,
// and so many later the session is broken.
const QUIET = 10_000;
// Both, where streams are held up that may be what keeps the daemon silent.
const HELD = 2_000;

// Bytes of a frame without a payload.
const LARGEST = 1 << 20;
/** What a Feed or a Question asks. */
const framed = (reader, request = 0) => {
  const frame = encode(reader.frame(request));
  if (frame.length > LARGEST) throw new WeirError(TOO_LARGE, "a request above 1 MiB");
  return frame;
};

class Session {
  /** Why it ended. @type {WeirError | null} */
  over = null;
  /** @type {Frame} */
  welcome = null;
  /** Feeds and Questions, by request. @type {Map<number, any>} */
  readers = new Map();
  onanswer = nothing;
  onend = nothing;
  /** Round trip, ms: a guess until it is measured. */
  rtt = 50;
  #measured = 0;
  #samples = 0;
  /** Requests that datagrams come for. Whose they are that do not say: the first one's. */
  #scattered = new Set();
  #declared = new Set();
  /** Aliases that the daemon knows. */
  #known = new Set();
  #request = 0;
  #heard = performance.now();
  // When, and the request.
  #pinged = 0;
  #asked = 0;
  #ping = 0;
  #timer;
  #settle;

  constructor(open, hello) {
    /** @type {Promise<Session>} */
    this.welcomed = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.link = open(this);
    this.send(hello);
  }

  send(frame) {
    this.link.send(encode(frame));
  }

  heard() {
    this.#heard = performance.now();
    this.#pinged = 0;
  }

  // Timers may be late, as in a laptop that slept: only an unanswered ping is a sign.
  #watch() {
    const now = performance.now(), waited = this.#pinged && now - this.#pinged;
    // Streams that nobody reads use up the window of the whole connection, and nothing else gets
    // through either. They are given up, and resumed later.
    const held = [...this.readers.values()].filter((reader) => reader.full);
    if (waited >= HELD) for (const reader of held) reader.shed();
    if (waited >= QUIET) {
      return this.end(broken(`nothing was heard of the daemon for ${now - this.#heard | 0} ms`));
    }
    if (!waited && (now - this.#heard >= (held.length ? HELD : QUIET) ||
      this.#measured && now - this.#asked >= 5000)) this.#sound();
    this.#timer = setTimeout(() => this.#watch(), 1000);
  }

  #sound() {
    this.#pinged = this.#asked = performance.now();
    this.send({ frame: "Ping", request: (this.#ping = ++this.#request) });
  }

  /** From now on the round trip matters. */
  measure() {
    if (this.link.datagram && !this.#measured++) this.#sound();
  }

  /** A frame of the control stream. @param {Frame} frame */
  control(frame) {
    const { request, code, reason } = frame;
    const reader = this.readers.get(request);
    switch (frame.frame) {
      case "Welcome":
        this.welcome = frame;
        this.#watch();
        return this.#settle.resolve(this);
      case "Acknowledge":
        this.#known.add(frame.alias);
      case "Receipt": case "Rejected":
        return this.onanswer(frame);
      case "Pong":
        if (request === this.#ping) {
          const more = performance.now() - this.#asked - this.rtt;
          // Up slowly, but for the first: what comes late may have waited for this page.
          this.rtt += more / (more > 0 && this.#samples++ ? 8 : 1);
        }
      case "Subscribed": case "Top":
        return reader?.answer(frame, this);
      case "Failed":
        // Else it is about an Unsubscribe.
        if (reader) this.#scattered.delete(request);
      case "Ended":
        this.readers.delete(request);
        return reader?.ended(new WeirError(code, reason));
      case "Goodbye":
        return this.end(new WeirError(code, reason, undefined, frame.retry));
    }
  }

  /** What follows a For goes to this. @param {Frame} frame @param {() => void} [cancel] */
  open({ request }, cancel) {
    const reader = this.readers.get(request);
    // On the one channel it is said again and again.
    // A subscription that was given up.
    if (!reader) cancel?.();
    return reader?.open(cancel);
  }

  /** @param {Uint8Array} bytes */
  datagram(bytes) {
    const frames = new FrameReader();
    let [to] = this.#scattered;
    this.heard();
    frames.each(bytes, (frame, kind) => {
      if (kind === 1) to = frame.request;
      else if (kind === 11) this.control(frame);
      else this.readers.get(to)?.take(frame, true);
    });
    if (frames.partial) throw defect("it ends inside a frame");
  }

  /** @param {any} reader */
  begin(reader) {
    const request = ++this.#request;
    let frame;
    try {
      frame = framed(reader, request);
    } catch (error) {
      return reader.fail(known(error));
    }
    // Before the daemon answers: the stream may overtake the answer.
    this.readers.set(request, reader);
    reader.request = request;
    this.link.send(frame);
    if (!reader.scattered) return;
    this.#scattered.add(request);
    this.measure();
  }

  /** @param {Feed} feed */
  unsubscribe(feed, waits) {
    if (!feed.request) return;
    this.send({ frame: "Unsubscribe", subscription: feed.request });
    if (!waits) this.forget(feed);
  }

  /** @param {Feed} feed */
  forget(feed) {
    this.readers.delete(feed.request);
    feed.request = 0;
  }

  publish({ topic, number, bytes, realtime }) {
    const { declaration, waiting } = topic, { link, rtt } = this;
    if (bytes.length > JOIN) return link.alone(declaration, bytes);
    if (!this.#declared.has(topic)) link.publish(declaration);
    this.#declared.add(topic);
    const datagram = (least) =>
      link.datagram?.(this.#known.has(topic.alias) ? bytes : joined([declaration, bytes]), least);
    if (!realtime || !datagram()) return link.publish(bytes);
    this.measure();
    const later = (ms, act) => setTimeout(() => this.over || waiting.has(number) && act(), ms);
    if (rtt > 5) later(clamp(rtt / 10, 2, 5), () => datagram(1));
    later(rtt * 1.5 + 10, () => link.publish(bytes));
  }

  /** Once; what comes later changes nothing. */
  end(error) {
    if (this.over) return;
    error = this.over = known(error);
    clearTimeout(this.#timer);
    // The daemon hears of what is its own fault.
    if ([MALFORMED, TOO_LARGE].includes(error.code)) {
      this.link.close(error.code, error.message.slice(0, 40));
    } else this.link.close(0, "");
    for (const reader of this.readers.values()) reader.lost();
    this.#settle.reject(error);
    this.onend(error);
  }

  async leave() {
    this.send({ frame: "Goodbye", code: 0, reason: "" });
    // What is queued when a connection closes is not sent.
    await sleep(0);
    this.end(closed());
  }
}

/** A Get, Top or Ping. Asked again in the next session if this one breaks before the answer. */
class Question {
  /** @type {number} */
  request;
  lost = nothing;

  constructor(session, frame, value) {
    this.session = session;
    this.frame = frame;
    this.value = value;
    /** @type {Promise<any>} */
    this.answered = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.fail = this.ended = reject;
    });
  }

  renew() {
    this.session()?.begin(this);
  }

  answer(frame) {
    this.resolve(this.value(frame));
  }

  open() {
    return this;
  }

  take(frame) {
    const { name, epoch, payload, code } = (frame = whole(this, frame, this.session()));
    if (name) this.topic = { topic: name, epoch: BigInt(epoch) };
    else if (payload) this.answer({ ...frame, topic: this.topic });
    else if (code) this.fail(new WeirError(code, ""));
  }
}

// Holes asked for at once, and sequences in one datagram's;
const ASKED = 64;
// holes in a topic: what would make one more is not taken, and comes again.
const HOLES = 1024;

/**
 * What a subscription has had of a topic: all below `top` but for the holes, which are in order.
 * Pure: it is told the time and the round trip, in ms.
 */
export class Receiver {
  holes = [];
  #at;

  constructor(next, now) {
    this.top = next;
    this.#at = now;
  }

  /** The lowest that it needs. */
  get next() {
    return this.holes[0]?.first ?? this.top;
  }

  /** All below `end` exists; the one before the hole came at `at`. */
  told(end, now, rtt, at = this.#at) {
    if (end <= this.top || this.holes.length > HOLES) return;
    // What is merely on its way, for the first or the second time, need not be asked for.
    const due = at + clamp(rtt / 8, 1, 6) + 2;
    this.holes.push({ first: this.top, last: end - 1, seen: now, due, tries: 0 });
    this.top = end;
  }

  /** These are here, or never will be. Gives the parts that are new. */
  take(first, last, now, rtt) {
    const fresh = [];
    if (first === this.top && !this.holes.length) {
      this.top = last + 1;
      this.#at = now;
      return [{ first, last }];
    }
    this.told(last + 1, now, rtt);
    const { holes } = this, full = holes.length > HOLES;
    // The first that does not end below.
    let at = 0;
    for (let end = holes.length; at < end; ) {
      const middle = (at + end) >> 1;
      if (holes[middle].last < first) at = middle + 1;
      else end = middle;
    }
    while (holes[at]?.first <= last) {
      const hole = holes[at], from = Math.max(first, hole.first), to = Math.min(last, hole.last);
      const rest = [{ ...hole, last: from - 1 }, { ...hole, first: to + 1 }]
        .filter(({ first, last }) => first <= last);
      if (full && rest.length > 1) break;
      fresh.push({ ...hole, first: from, last: to });
      holes.splice(at, 1, ...rest);
      at += rest.length;
    }
    if (fresh.length && last + 1 === this.top) this.#at = now;
    return fresh;
  }

  /** What is to be asked for in a datagram and on the control stream, and given up. */
  due(now, rtt, deadline) {
    const quick = [], sure = [], late = [];
    let left = ASKED, wake = Infinity;
    this.holes = this.holes.filter((hole) => {
      const { first, last } = hole, size = last - first + 1;
      const end = deadline ? hole.seen + deadline - rtt / 2 : Infinity;
      if (now >= end) {
        late.push(hole);
        return false;
      }
      if (now >= hole.due) {
        hole.due = now + patience(rtt);
        if (hole.tries < 2 && size <= left) {
          left -= size;
          hole.tries++;
          quick.push([first, last]);
        } else if (sure.length < ASKED) {
          // Nothing is lost there.
          hole.due = now + 1000 + 4 * rtt;
          hole.tries = 2;
          sure.push([first, last]);
        }
      }
      wake = Math.min(wake, hole.due, end);
      return true;
    });
    return { quick, sure, late, wake };
  }
}

const patience = (rtt) => rtt * 1.25 + 10;

const weight = ({ payload = "" }) => 64 + payload.length;

/**
 * A subscription, through all sessions. Whenever nothing is queued and it is not subscribed, it
 * renews itself: it subscribes again with its cursors. So a session that broke, a consumer too slow
 * for a WebSocket, and a daemon that made room are one case. Cursors move with what is queued, and
 * the queue outlives sessions: nothing in it is asked for again.
 */
class Feed {
  // In the session that stands; 0: not subscribed there.
  request = 0;
  stats = { datagrams: 0, repeated: 0, asked: 0, repaired: 0, late: 0 };
  /** Where it began the first time, or its last Mark. @type {{ run: any, position: any } | null} */
  #since = null;
  /** How many Marks there were. A cursor was heard of since the last if its `heard` is this. */
  #marks = 0;
  #ahead = new Map();
  // Receivers, by topic name, for life;
  #cursors = new Map();
  // the same by topic id, while subscribed: null for one that was forgotten;
  #ids = new Map();
  // and those with holes.
  #holed = new Set();
  // The one timer, and when it runs out.
  #timer;
  #due = Infinity;
  #queue = [];
  #size = 0;
  /** Streams that are open: how to cancel them. @type {Set<(() => void) | undefined>} */
  #streams = new Set();
  /** What reads them, where it waits. @type {((value?: any) => void)[]} */
  #held = [];
  /** Given up before Subscribed: that is waited for, and nothing else taken. */
  #waits = false;
  /** Once its streams are at their ends. @type {WeirError | null} */
  #ending = null;
  #error = null;
  #over = false;
  #wake = nothing;
  #settle;
  /** @type {Promise<any>} */
  #last = Promise.resolve();

  constructor(session, options, done) {
    this.session = session;
    this.options = options;
    this.done = done;
    /** Not in order. */
    this.scattered = options.delivery !== "Ordered";
    /** @type {Promise<void>} */
    this.ready = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.ready.catch(nothing);
  }

  get full() {
    // One message may be larger than all that may wait.
    return this.#size > BUFFER && this.#queue.length > 1;
  }

  #crowded(share) {
    return this.#size > BUFFER * share || this.#queue.length >= WAITING * share;
  }

  frame(request) {
    const { start } = this.options, since = this.#since, frame = { frame: "Subscribe", request, ...this.options };
    const bounded = !this.#marks && start !== "New" && start !== "All";
    // Latest, Last or Sequence, and nothing heard of yet: there is nothing to resume from.
    if (!since || bounded && !this.#cursors.size) return frame;
    const other = since.run !== this.session().welcome.run;
    // These would lose messages if they were not listed; others would have them sent again.
    const needed = ({ holes }) => bounded || holes.length > 0;
    const topics = [...this.#cursors.values()]
      .filter((cursor) => other || cursor.heard === this.#marks || needed(cursor))
      .sort((a, b) => +needed(b) - +needed(a));
    // A name has up to 255 bytes, as has the filter; what stands beside it, up to 24.
    let left = LARGEST - 512;
    const listed = topics.filter(({ topic }) => (left -= utf8.encode(topic).length + 24) > 0);
    if (listed.length < topics.length && needed(topics[listed.length])) {
      throw new WeirError(TOO_LARGE, `${topics.length} topics are too many to resume: ` +
        "subscribe to parts of the filter instead");
    }
    return { ...frame, start: { Resume: { since, topics: listed } } };
  }

  renew() {
    const session = this.session();
    if (this.#over || !session || this.request || this.#streams.size || this.#queue.length) return;
    this.#waits = false;
    this.#ids.clear();
    this.#holed.clear();
    session.begin(this);
  }

  /** Subscribed. */
  answer({ position }, session) {
    const { run } = session.welcome;
    // No run is named 0: all there is of topics not heard of.
    this.#since ??= this.options.start === "All" ? { run: 0, position: 0 } : { run, position };
    if (this.#waits) session.forget(this);
    this.#settle.resolve();
    this.#wake();
  }

  /** A stream begins; without a way to cancel it: it cannot be held up. @param {() => void} [cancel] */
  open(cancel) {
    if (this.#waits) return cancel?.();
    const streams = this.#streams, keeper = cancel ? {} : this;
    streams.add(cancel);
    return {
      take: (frame) => {
        if (streams !== this.#streams) return;
        this.take(whole(keeper, frame, this.session()));
        if (!cancel && this.full) this.shed();
      },
      room: () => streams === this.#streams && this.full &&
        new Promise((resolve) => this.#held.push(resolve)),
      end: () => {
        if (streams.delete(cancel) && !this.request) this.#rest();
      },
    };
  }

  /** Lets go of its streams: nothing more is taken from them. */
  #cut() {
    for (const cancel of this.#streams) cancel?.();
    this.#streams = new Set();
    this.#free();
  }

  #free() {
    for (const go of this.#held.splice(0)) go();
  }

  /** What is queued stays. When the consumer has drained it, the rest is asked for. */
  shed() {
    if (this.#waits && !this.#over) return;
    // Nothing can be resumed, or handed out, before it is known where it began.
    this.#waits = !this.#since && !this.#over;
    this.session()?.unsubscribe(this, this.#waits);
    this.#cut();
  }

  /** By the daemon. */
  ended(error) {
    this.request = 0;
    // Lagged, and wants to go on.
    this.#ending = error.code === 0x50 && this.options.lag !== "Disconnect" ? null : error;
    // A stream may still hold messages, and ends by itself; a WebSocket has had them all.
    this.#streams.delete(undefined);
    this.#rest();
  }

  #rest() {
    if (this.#streams.size) return;
    if (this.#ending) this.fail(this.#ending);
    else this.renew();
  }

  /** With its session. */
  lost() {
    this.request = 0;
    this.#cut();
    // What nobody was handed comes again.
    if (!this.#since) {
      this.#queue = [];
      this.#size = 0;
      this.#cursors.clear();
    }
    if (this.#ending) this.fail(this.#ending);
  }

  /** For good: by an error, or, with null, by the consumer. */
  fail(error) {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.shed();
    if (!error) this.#queue = [];
    this.#settle.reject(error ?? closed());
    this.done();
    this.#wake();
  }

  /** @param {Frame} frame */
  take(frame, datagram = false) {
    try {
      this.#take(frame, datagram);
    } catch (error) {
      this.fail(known(error));
    }
  }

  #take(frame, datagram) {
    const { frame: kind, first = frame.sequence, last = first } = frame, now = performance.now();
    const rtt = this.session()?.rtt, cursor = this.#ids.get(frame.topic);
    if (kind === "Mark" && this.#since) {
      this.#since = { run: this.session().welcome.run, position: frame.position };
      this.#marks++;
      for (const cursor of this.#ahead.keys()) cursor.heard = this.#marks;
    }
    if (kind === "Topic") {
      const { id, name } = frame, epoch = BigInt(frame.epoch);
      // Said again.
      if (this.#ids.has(id)) return;
      let cursor = this.#cursors.get(name);
      // One that was forgotten comes back with another id and epoch.
      if (cursor && this.#ids.get(cursor.id) === cursor) {
        this.#ids.set(cursor.id, null);
        this.#holed.delete(cursor);
      }
      const next = safe(frame.next);
      // Of an epoch that it knows it drops what it has had.
      if (cursor?.epoch !== epoch || !this.scattered && next > cursor.top) {
        cursor = new Receiver(next, now);
        this.#cursors.set(name, Object.assign(cursor, { topic: name, epoch }));
      }
      Object.assign(cursor, { id, follows: next, heard: this.#marks });
      // Its holes are under way, as if they had been asked for.
      for (const hole of cursor.holes) hole.due = now + patience(rtt);
      this.#ids.set(id, cursor);
      return this.#repair(cursor);
    }
    if (!["Message", "Gap", "Head"].includes(kind)) return;
    if (!this.scattered) {
      if (kind === "Head") return;
      if (first !== cursor?.follows || last < first) {
        throw defect(`sequence ${first} where ${cursor?.follows ?? "no topic"} was due`);
      }
      cursor.follows = safe(last) + 1;
    }
    safe(last);
    if (datagram) {
      this.stats.datagrams++;
      if (this.#crowded(1)) return;
    }
    // It is a hole once the topic is known.
    if (!cursor) return;
    cursor.heard = this.#marks;
    // What came in another way than on the subscription's stream may stand after the next Mark.
    if (datagram || frame.payload?.length > JOIN) this.#ahead.set(cursor, last);
    else if (!(this.#ahead.get(cursor) > last)) this.#ahead.delete(cursor);
    // On a page that was busy it overtakes datagrams that are here already.
    if (kind === "Head") cursor.told(last + 1, now, rtt, now);
    else {
      const fresh = cursor.take(first, last, now, rtt);
      if (kind === "Gap") for (const { first, last } of fresh) this.#gap(cursor, first, last, frame.cause);
      else if (!fresh.length) this.stats.repeated++;
      else {
        if (fresh[0].tries) this.stats.repaired++;
        this.#push(new Message(cursor, frame));
      }
    }
    this.#repair(cursor);
  }

  #push(event) {
    this.#queue.push(event);
    this.#size += weight(event);
    this.#wake();
  }

  #gap({ topic, epoch }, first, last, cause) {
    cause = cause.toLowerCase();
    if (cause === "late") this.stats.late += last - first + 1;
    this.#push({ kind: "gap", topic, epoch, first, last, cause });
  }

  /** Its holes are asked for when they are due: with each message there is no more to do. */
  #repair(cursor) {
    if (!cursor.holes.length) return;
    const { seen, due } = cursor.holes.at(-1), { deadline } = this.options;
    this.#holed.add(cursor);
    this.#arm(deadline ? Math.min(due, seen + deadline - this.session().rtt / 2) : due);
  }

  #arm(due) {
    if (due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#ask(), due - performance.now());
  }

  /** Asks for what is missing, but not faster than it is read. */
  #ask() {
    this.#due = Infinity;
    if (!this.request || this.#crowded(0.5)) return;
    const session = this.session(), now = performance.now();
    let soonest = Infinity;
    for (const cursor of this.#holed) {
      const { quick, sure, late, wake } = cursor.due(now, session.rtt, this.options.deadline);
      for (const holes of [quick, sure]) {
        if (!holes.length) continue;
        this.stats.asked++;
        const frame = { frame: "Repair", subscription: this.request, topic: cursor.id, holes };
        if (holes === sure || !session.link.datagram?.(encode(frame))) session.send(frame);
      }
      for (const { first, last } of late) this.#gap(cursor, first, last, "Late");
      if (!cursor.holes.length) this.#holed.delete(cursor);
      soonest = Math.min(soonest, wake);
    }
    this.#arm(soonest);
  }

  /** One after the other, in the order of the calls. @returns {Promise<any>} */
  next() {
    const read = () => this.#read();
    return (this.#last = this.#last.then(read, read));
  }

  async #read() {
    for (;;) {
      // Not before it is known where it began: what was handed out could not be resumed from.
      const value = this.#since && this.#queue.shift();
      if (value) {
        this.#size -= weight(value);
        if (!this.full) this.#free();
        // The timer ran out while too much was waiting here.
        if (this.#due === Infinity && this.#holed.size) this.#ask();
        return { value, done: false };
      }
      if (this.#over) {
        const error = this.#error;
        this.#error = null;
        if (error) throw error;
        return { value: undefined, done: true };
      }
      this.renew();
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }
}

// ---- Client ----

// Publications without an answer,
const IN_FLIGHT = 1024;
// and such of them as have a stream of their own.
const ALONE = 16;
const variant = (word) => word[0].toUpperCase() + word.slice(1);

export class Client extends EventTarget {
  #target;
  /** The one that stands. @type {Session | null} */
  #session = null;
  /** @type {api.State} */
  state = "reconnecting";
  // Topics published to, by name and by alias; an alias is for the client's life.
  #topics = new Map();
  #aliases = [];
  // Publications without an answer, and those not sent yet; the oldest first.
  #sent = new Set();
  #unsent = new Set();
  #alone = 0;
  /** Feeds and Questions. @type {Set<any>} */
  #readers = new Set();
  #began = 0;
  #failures = 0;
  /** @type {Promise<void> | null} */
  #closing = null;
  #settled = nothing;
  #hurry = nothing;

  /** By connect(). */
  constructor(target, won) {
    super();
    this.#target = target;
    this.#adopt(won);
  }

  get #over() {
    return this.state === "closed";
  }

  /**
   * @param {string} name @param {string | ArrayBuffer | ArrayBufferView} payload
   * @param {{ realtime?: boolean }} [options] @returns {Promise<any>}
   */
  publish(name, payload, { realtime = false, ...rest } = {}) {
    return new Promise((resolve, reject) => {
      this.#open();
      none(rest);
      /** @type {any} */
      const given = typeof payload === "string" ? utf8.encode(payload) : payload;
      const { buffer = given, byteOffset, byteLength } = given ?? {};
      // A buffer of another frame of the page is none of this one's.
      if (!ArrayBuffer.isView(given) && !/ArrayBuffer]$/.test({}.toString.call(given))) {
        throw new TypeError("a payload is a string, an ArrayBuffer or a view");
      }
      if (byteLength > this.maxPayload) {
        throw new WeirError(0x22, `${byteLength} bytes, and the daemon takes ${this.maxPayload}`);
      }
      const topic = this.#topic(name), number = ++topic.last;
      const stamp = Math.floor((performance.timeOrigin + performance.now()) * 1000);
      // Numbered and copied now: sent, and sent again, as it is.
      const bytes = encode({ frame: "Publish", alias: topic.alias, number, stamp,
        payload: new Uint8Array(buffer, byteOffset, byteLength) });
      this.#unsent.add({ topic, number, bytes, realtime, resolve, reject });
      this.#pump();
    });
  }

  #open() {
    if (this.#closing || this.#over) throw closed();
  }

  #topic(name) {
    const there = this.#topics.get(name);
    if (there) return there;
    // Either would cost the session.
    if (utf8.encode(name).length > 255) throw new WeirError(0x20, "a topic above 255 bytes");
    const alias = this.#aliases.length;
    if (alias === 4096) {
      throw new WeirError(0x24, "4096 topics are the most: connect another client");
    }
    const topic = {
      alias, declaration: encode({ frame: "Topic", alias, name }), last: 0, waiting: new Map(),
    };
    this.#topics.set(name, topic);
    this.#aliases.push(topic);
    return topic;
  }

  // Sends what may be sent now.
  #pump() {
    const session = this.#session;
    if (!session) return;
    for (const publication of this.#unsent) {
      const { topic, number, bytes: { length } } = publication;
      // Numbers without an answer are in their order: the first is the lowest.
      const lowest = topic.waiting.keys().next().value ?? number;
      if (this.#sent.size === IN_FLIGHT || number >= lowest + session.welcome.limits.window) return;
      if (length > JOIN && this.#alone === ALONE) return;
      if (length > JOIN) this.#alone++;
      this.#unsent.delete(publication);
      this.#sent.add(publication);
      topic.waiting.set(number, publication);
      session.publish(publication);
    }
  }

  #answered({ frame, alias, number, floor, seen, code, reason, ...receipt }) {
    const waiting = this.#aliases[alias]?.waiting ?? new Map();
    // One for all in datagrams; who else waits is told more.
    const answered = frame !== "Acknowledge" ? [waiting.get(number)]
      : [...waiting.values()].filter(({ realtime, number }) => realtime &&
        (number <= floor || BigInt(seen) >> BigInt(number - floor - 1) & 1n));
    for (const publication of answered) {
      if (!publication) return;
      waiting.delete(publication.number);
      this.#sent.delete(publication);
      if (publication.bytes.length > JOIN) this.#alone--;
      if (frame === "Rejected") publication.reject(new WeirError(code, reason));
      else if (frame === "Acknowledge") publication.resolve(null);
      else {
        const { sequence, count, since, digest } = receipt;
        publication.resolve({
          ...receipt, sequence: safe(sequence), count: safe(count), since: millis(since),
          digest: hex(digest),
        });
      }
    }
    this.#pump();
    if (!this.#sent.size) this.#settled();
  }

  /**
   * @param {string} filter @param {api.SubscribeOptions} [options]
   * @returns {api.Subscription}
   */
  subscribe(filter, options = {}) {
    const { from = "new", lag = "oldest", delivery = "ordered", deadline = 0, signal, ...rest } =
      options;
    const close = () => feed.fail(null);
    this.#open();
    none(rest);
    let feed;
    try {
      const last = /^last:(\d+)$/.exec(String(from));
      const start = Number.isSafeInteger(from) ? { Sequence: from }
        : last ? { Last: +last[1] } : variant(from);
      feed = new Feed(() => this.#session, {
        filter, start, lag: variant(lag), delivery: variant(delivery),
        deadline: delivery === "realtime" ? deadline : 0,
      }, () => {
        this.#readers.delete(feed);
        signal?.removeEventListener("abort", close);
      });
      framed(feed);
    } catch (error) {
      throw new TypeError(`cannot subscribe ${JSON.stringify([filter, options])}: ${words(error)}`);
    }
    this.#readers.add(feed);
    signal?.addEventListener("abort", close);
    if (signal?.aborted) close();
    feed.renew();
    const { ready, stats } = feed, next = () => feed.next();
    return {
      ready, stats, next, close,
      [Symbol.asyncIterator]: () => ({
        next,
        async return() {
          close();
          return { value: undefined, done: true };
        },
      }),
    };
  }

  async #ask(frame, value) {
    this.#open();
    const question = new Question(() => this.#session, frame, value);
    framed(question);
    try {
      this.#readers.add(question);
      question.renew();
      return await question.answered;
    } finally {
      this.#readers.delete(question);
      this.#session?.readers.delete(question.request);
    }
  }

  /**
   * @param {string} topic @param {{ sequence?: number, digest?: string }} [which]
   * @returns {Promise<api.Message>}
   */
  async get(topic, { sequence, digest, ...rest } = {}) {
    none(rest);
    return this.#ask((request) => ({
      frame: "Get", request, topic,
      which: digest !== undefined ? { Digest: unhex(digest) }
        : sequence !== undefined ? { Sequence: sequence } : "Latest",
    }), (frame) => new Message(frame.topic, frame));
  }

  /** @param {string} topic @returns {Promise<api.Ranking[]>} */
  top(topic, k = 10) {
    return this.#ask((request) => ({ frame: "Top", request, topic, k }), ({ entries }) =>
      entries.map(({ digest, count, since, sequence, size, payload }) => ({
        digest: hex(digest), count: safe(count), since: millis(since), sequence: safe(sequence),
        size: safe(size), payload: payload?.slice() ?? null,
        text() {
          return this.payload && lenient.decode(this.payload);
        },
      })));
  }

  /** @returns {Promise<number>} */
  ping() {
    let asked = 0;
    return this.#ask((request) => {
      asked = performance.now();
      return { frame: "Ping", request };
    }, () => performance.now() - asked);
  }

  close() {
    return (this.#closing ??= this.#leave());
  }

  async #leave() {
    for (const reader of this.#readers) if (reader instanceof Feed) reader.fail(null);
    if (this.#sent.size + this.#unsent.size) {
      await Promise.race([
        new Promise((resolve) => (this.#settled = resolve)), sleep(this.#target.timeout),
      ]);
    }
    const session = this.#session;
    this.#finish(closed());
    await session?.leave();
  }

  #adopt({ session, reason }) {
    const { link, welcome } = session;
    this.#session = session;
    this.#began = performance.now();
    this.transport = link.transport;
    this.reason = reason;
    this.session = BigInt(welcome.session);
    this.maxPayload = Number(welcome.limits.payload);
    // As soon as it was welcomed.
    if (session.over) return this.#lost(session.over);
    session.onanswer = (frame) => this.#answered(frame);
    session.onend = (error) => this.#lost(error);
    // With their numbers of before: the daemon counts none twice.
    for (const publication of this.#sent) session.publish(publication);
    this.#pump();
    for (const reader of this.#readers) reader.renew();
    this.#become("open", reason);
  }

  /** @param {WeirError} error */
  #lost(error) {
    this.#session = null;
    if (this.#over) return;
    if (!error.retry || !this.#target.reconnect) return this.#finish(error);
    // A daemon that welcomes and ends sessions at once is not asked ever faster.
    if (performance.now() - this.#began > 5000) this.#failures = 0;
    this.#become("reconnecting", error.message, error.code);
    this.#reconnect();
  }

  async #reconnect() {
    for (;;) {
      const longest = Math.min(250 * 2 ** this.#failures++, 10_000);
      const hurried = new Promise((resolve) => (this.#hurry = resolve));
      globalThis.addEventListener?.("online", this.#hurry);
      await Promise.race([hurried, sleep(longest * (0.5 + Math.random() / 2))]);
      globalThis.removeEventListener?.("online", this.#hurry);
      if (this.#over) return;
      try {
        const won = await race(this.#target);
        return this.#over ? won.session.leave() : this.#adopt(won);
      } catch (error) {
        if (!error.retry) return this.#finish(known(error));
      }
    }
  }

  #finish(error) {
    if (this.#over) return;
    this.#session = null;
    this.#become("closed", error.message, error.code);
    this.#hurry();
    for (const { reject } of [...this.#sent, ...this.#unsent]) reject(error);
    this.#sent.clear();
    this.#unsent.clear();
    this.#settled();
    for (const reader of this.#readers) reader.fail(error);
  }

  #become(state, reason, code = null) {
    this.state = state;
    const detail = { state, transport: this.transport, reason, code };
    this.dispatchEvent(new CustomEvent("state", { detail }));
  }
}

// ---- Connecting ----

/** What the daemon says of its WebTransport; null if it cannot be asked. It may refuse. */
const ask = async (base) => {
  try {
    const answer = await fetch(new URL("/certificate.sha256", base));
    const { code, detail, ...facts } = await answer.json();
    if (code) throw new WeirError(code, detail);
    return facts;
  } catch (error) {
    if (refused(error)) throw error;
    return null;
  }
};

const about = async ({ base, pinned }) => {
  if (pinned) return { hashes: pinned.map(unhex) };
  const { pinning, current, next, port, path } = (await ask(base)) ?? {};
  return { hashes: pinning ? [current, next].filter(Boolean).map(unhex) : [], port, path };
};

/**
 * WebTransport, and WebSocket where that fails or takes long: the first to be welcomed wins.
 * @returns {Promise<{ session: Session, reason: string }>}
 */
const race = (target, signal) => new Promise((resolve, reject) => {
  const { base, transport, fallbackAfter, timeout, pinned } = target;
  const sessions = [], failures = [], auto = transport === "auto";
  let running = 0, over = false, fallen = false, blocked = false;

  const violated = ({ effectiveDirective, blockedURI: uri }) => {
    // Of a WebSocket the browser may name the scheme only.
    blocked ||= effectiveDirective === "connect-src" && (uri.includes(base.hostname) || /^wss?$/.test(uri));
  };
  globalThis.addEventListener?.("securitypolicyviolation", violated);

  const settle = (error, won) => {
    if (over) return;
    over = true;
    timers.forEach(clearTimeout);
    signal?.removeEventListener("abort", aborted);
    globalThis.removeEventListener?.("securitypolicyviolation", violated);
    for (const session of sessions) if (session !== won?.session) session.end(closed());
    if (won) resolve(won);
    else reject(error);
  };

  const aborted = () => settle(signal.reason);
  signal?.addEventListener("abort", aborted);

  const greet = (open) => {
    if (over) throw closed();
    const session = new Session(open, target.hello);
    sessions.push(session);
    return session.welcomed;
  };

  const attempt = async (dial, reason, failed = nothing) => {
    running++;
    try {
      settle(null, { session: await dial(), reason });
    } catch (error) {
      running--;
      if (over) return;
      // The daemon itself refuses, and would over the other too.
      if (refused(error)) return settle(error);
      failures.push(words(error));
      failed(words(error));
      if (!running) giveUp();
    }
  };

  /** What the daemon says of itself, and so if the hashes given are not its. */
  const inquire = async () => {
    const facts = await ask(base), { pinning, current, next } = facts ?? {};
    return { facts, wrong: pinned && pinning &&
      !pinned.some((hash) => [current, next].includes(hash.toLowerCase())) &&
      `certificateHashes do not name the daemon's certificate, which is ${current}` };
  };

  const unreachable = (why, retry) =>
    settle(new WeirError(null, `cannot reach ${base.origin}: ${why}`, "unreachable", retry));

  /** Nothing came of it: looks for the cause. */
  const giveUp = async () => {
    try {
      const { facts, wrong } = await inquire();
      // The event of a violation comes a little later than what it is about.
      await sleep(10);
      if (blocked) {
        return unreachable("this page's Content-Security-Policy blocks it: " +
          `allow ${base.host} in connect-src`, false);
      }
      if (wrong) return unreachable(wrong, false);
      failures.push(facts
        ? "the daemon answers over HTTP: it may be full, or something between blocks the rest"
        : "nothing answers there, or this browser does not trust its certificate");
      unreachable(failures.join("; "), true);
    } catch (error) {
      settle(error);
    }
  };

  const webTransport = async () => {
    if (!globalThis.WebTransport) {
      throw broken(globalThis.isSecureContext === false
        ? "WebTransport needs a page from https or localhost"
        : "this browser has no WebTransport");
    }
    const before = target.about;
    const { hashes, port, path } = (target.about ??= await about(target));
    const url = new URL(path ?? "/weir", base);
    url.protocol = "https:";
    url.port = target.port ?? port ?? base.port;
    // Chromium takes ::1 for localhost and looks no further; the daemon may have IPv4 only.
    if (hashes.length && url.hostname === "localhost") url.hostname = "127.0.0.1";
    try {
      return await greet((session) => overWebTransport(url.href, hashes, session));
    } catch (error) {
      if (over || refused(error)) throw error;
      // The certificate may have changed since the daemon was asked.
      target.about = null;
      if (before?.hashes.length && !target.pinned) return webTransport();
      const { wrong } = pinned ? await inquire() : {};
      throw broken(wrong || `WebTransport failed: ${words(error)}`);
    }
  };

  const webSocket = (why) => {
    if (fallen || over) return;
    fallen = true;
    const url = new URL("/weir", base);
    url.protocol = base.protocol.replace("http", "ws");
    const began = performance.now();
    // Where TCP fails, UDP has as long again, and time for its round trips: Firefox waits for ever.
    attempt(async () => greet((session) => overWebSocket(url.href, session)), `WebSocket: ${why}`,
      () => timers.push(setTimeout(giveUp,
        blocked ? 0 : Math.max(fallbackAfter, 4 * (performance.now() - began)))));
  };

  const timers = [setTimeout(() => settle(new WeirError(null,
    `${base.origin} did not answer within ${timeout} ms`, "timed_out", true)), timeout)];
  if (transport === "websocket") return webSocket("as asked for");
  timers.push(setTimeout(async () => {
    // Firefox does not say that a hash is wrong.
    const { wrong } = (pinned &&
      await Promise.race([inquire().catch(nothing), sleep(fallbackAfter)])) ?? {};
    if (auto) webSocket(wrong || `no answer over UDP within ${fallbackAfter / 1000} s`);
    else if (wrong) unreachable(wrong, false);
  }, fallbackAfter));
  attempt(webTransport, "WebTransport", auto ? webSocket : nothing);
});

/**
 * @param {string | URL} [url] @param {api.ConnectOptions} [options]
 * @returns {Promise<Client>}
 */
export const connect = async (url = new URL(import.meta.url).origin, options = {}) => {
  const { token = null, transport = "auto", certificateHashes: pinned, webTransportPort: port,
    fallbackAfter = 1500, timeout = 10_000, reconnect = true, signal, ...rest } = options;
  /** @type {any} */
  let base;
  try {
    base = new URL(url);
  } catch {}
  if (!/^https?:/.test(base)) {
    throw new WeirError(null, `not a daemon's address: ${url}: say https://host:port`, "unreachable",
      false);
  }
  none(rest);
  for (const [good, what] of [
    [["auto", "webtransport", "websocket"].includes(transport), `no such transport: ${transport}`],
    [!pinned || Array.isArray(pinned) && pinned.every((hash) => /^[\da-f]{64}$/i.test(hash)),
      "certificateHashes are SHA-256: 64 hex digits each"],
    [port === undefined || port > 0 && port < 65536, `no port: ${port}`],
    [[fallbackAfter, timeout].every((ms) => ms >= 0 && ms < 2 ** 31), "times are in ms, below 2^31"],
  ]) if (!good) throw new TypeError(what);
  signal?.throwIfAborted();
  const producer = crypto.getRandomValues(new Uint8Array(16));
  const hello = { frame: "Hello", version: 1, producer, token, agent: "weir-js/0.1.0" };
  const target = {
    base, hello, transport, pinned, port, fallbackAfter, timeout, reconnect, about: null,
  };
  encode(hello);
  return new Client(target, await race(target, signal));
};
