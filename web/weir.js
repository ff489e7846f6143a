// Weir's browser client: docs/protocol.md over WebTransport or WebSocket. The API: weir.d.ts.

/** @import * as api from "./weir.js" */
/** @typedef {Record<string, any> & { frame: string }} Frame as in tests/vectors/frames.json */
/** @typedef {{ write: (value: any) => void, read: () => any }} Type */

const CODES = {
  0x00: "done", 0x01: "shutting_down", 0x02: "overloaded", 0x03: "timed_out", 0x10: "malformed",
  0x11: "version", 0x12: "unexpected", 0x13: "unsupported", 0x14: "frame_too_large",
  0x20: "bad_topic", 0x21: "bad_filter", 0x22: "payload_too_large", 0x23: "reserved",
  0x24: "bad_alias", 0x25: "bad_request", 0x26: "too_many_subscriptions", 0x28: "stale",
  0x30: "not_found", 0x31: "evicted", 0x40: "unauthorized", 0x41: "forbidden",
  0x42: "rate_limited", 0x50: "lagged", 0x51: "publisher_gone",
};
const RETRY = [0x01, 0x02, 0x03, 0x42, 0x50, 0x51];
const MALFORMED = 0x10, TOO_LARGE = 0x14, LAGGED = 0x50;

export class WeirError extends Error {
  /** @param {number | null} code @param {string} message */
  constructor(code, message, name = CODES[code] ?? "unknown", retry = RETRY.includes(code)) {
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
const known = (error) => (error instanceof WeirError ? error : broken(words(error)));
const nothing = () => {};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// ---- Codec: postcard, from the tables of docs/protocol.md ----
// A u64 is a number up to 2^53 - 1 and a bigint above, never the other way round, so that === and
// Map keys compare values.

const utf8 = new TextEncoder(), lenient = new TextDecoder();
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @returns {never} */
const malformed = (why) => {
  throw new WeirError(MALFORMED, `malformed frame: ${why}`);
};

// What is being written, `out` up to `end`, and read, `src` from `at`: within one call only.
let out = new Uint8Array(4096), end = 0;
let src = out, at = 0;

const room = (size) => {
  if (end + size <= out.length) return;
  const old = out;
  out = new Uint8Array(2 * (end + size));
  out.set(old);
};

/** LEB128; returns where it ends. @param {Uint8Array} to @param {number | bigint} n */
const put = (to, i, n) => {
  if (typeof n === "bigint") {
    for (; n >= 0x80n; n >>= 7n) to[i++] = Number(n & 0x7fn) | 0x80;
    n = Number(n);
  }
  for (; n > 0x7fffffff; n = Math.floor(n / 128)) to[i++] = (n % 128) | 0x80;
  for (; n >= 0x80; n >>>= 7) to[i++] = (n & 0x7f) | 0x80;
  to[i++] = n;
  return i;
};

const width = (n) => {
  let size = 1;
  for (; n >= 0x80; n = Math.floor(n / 128)) size++;
  return size;
};

const varint = (bits) => {
  const start = at;
  if (src[at] < 0x80) return src[at++];
  let n = 0, scale = 1, byte;
  do {
    if (at === src.length) malformed("it ends inside a number");
    if (at - start === (bits === 32 ? 5 : 10)) malformed("a number too long");
    byte = src[at++];
    n += (byte & 0x7f) * scale;
    scale *= 128;
  } while (byte >= 0x80);
  if (n <= (bits === 32 ? 0xffffffff : Number.MAX_SAFE_INTEGER)) return n;
  let big = 0n;
  for (let i = at; i-- > start; ) big = (big << 7n) | BigInt(src[i] & 0x7f);
  if (big >> BigInt(bits)) malformed(`a number above ${bits} bits`);
  return big;
};

const take = (size) => {
  if (size > src.length - at) malformed("it ends too early");
  return src.subarray(at, (at += Number(size)));
};

/** @returns {Type} */
const uint = (bits) => ({
  write(n) {
    const fits = typeof n === "bigint" ? !(n >> BigInt(bits))
      : n >= 0 && Number.isSafeInteger(n) && (bits === 64 || n <= 0xffffffff);
    if (!fits) throw new RangeError(`${n} is no u${bits}`);
    room(10);
    end = put(out, end, n);
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
  write: (value) => bytes.write(utf8.encode(value)),
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
  write: (value) => u32.write(value ? 1 : 0),
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
  }),
};

/** A whole frame, with its length. @param {Frame} frame */
const encode = (frame, to = "daemon") => {
  const [names, types] = FRAMES[to], index = names.indexOf(frame.frame);
  end = 5; // Where a length has room before it.
  u32.write(index);
  types[index].write(frame);
  const size = end - 5, begin = 5 - width(size);
  put(out, begin, size);
  return out.slice(begin, end);
};

/** The same for a Publish, by hand: one of the two frames that come by the thousands. */
const encodePublish = (alias, number, stamp, payload) => {
  const size = 1 + width(alias) + width(number) + width(stamp) + width(payload.length) +
    payload.length;
  const frame = new Uint8Array(width(size) + size);
  let i = put(frame, 0, size);
  frame[i] = 2;
  i = put(frame, put(frame, put(frame, i + 1, alias), number), stamp);
  frame.set(payload, put(frame, i, payload.length));
  return frame;
};

/** A frame without its length; its bytes are views. @param {Uint8Array} body @returns {Frame} */
const decode = (body, to = "client") => {
  src = body;
  at = 0;
  let frame;
  if (body[0] === 3 && to === "client") {
    at = 1; // By hand: the other.
    frame = {
      frame: "Message", topic: varint(64), sequence: varint(64), count: varint(64),
      stamp: varint(64), payload: bytes.read(),
    };
  } else {
    const [names, types] = FRAMES[to], index = varint(32);
    frame = (types[index] ?? malformed(`there is none of number ${index}`)).read();
    frame.frame = names[index];
  }
  if (at < body.length) malformed(`${frame.frame} with bytes after its end`);
  return frame;
};

/** Cuts a stream into frames. One that lies whole in a chunk is not copied. */
class FrameReader {
  #chunk = new Uint8Array(0);
  #at = 0;
  // Of the frame that has begun: the length so far, then the body so far.
  #size = 0;
  #shift = 0;
  /** @type {Uint8Array | null} */
  #body = null;
  #have = 0;

  /** @param {number} limit largest body */
  constructor(limit = 1 << 20) {
    this.limit = limit;
  }

  /** Whether a frame has begun and is not complete. */
  get partial() {
    return this.#shift > 0 || this.#body !== null || this.#at < this.#chunk.length;
  }

  /** Only once next() has given null. @param {Uint8Array} chunk */
  push(chunk) {
    this.#chunk = chunk;
    this.#at = 0;
  }

  next() {
    const chunk = this.#chunk;
    if (!this.#body) {
      for (let more = true; more; ) {
        if (this.#at === chunk.length) return null;
        const byte = chunk[this.#at++];
        more = byte >= 0x80;
        this.#size += (byte & 0x7f) * 2 ** this.#shift;
        this.#shift += 7;
        if (more ? this.#shift === 35 : byte === 0 || this.#size > 0xffffffff) {
          malformed("a length of 0, padded, or above 32 bits");
        }
      }
      const size = this.#size;
      this.#size = this.#shift = 0;
      if (size > this.limit) {
        throw new WeirError(TOO_LARGE, `a frame of ${size} bytes, above the limit ${this.limit}`);
      }
      if (this.#at + size <= chunk.length) return chunk.subarray(this.#at, (this.#at += size));
      this.#body = new Uint8Array(size);
      this.#have = 0;
    }
    const body = this.#body;
    const part = chunk.subarray(this.#at, this.#at + body.length - this.#have);
    body.set(part, this.#have);
    this.#at += part.length;
    this.#have += part.length;
    if (this.#have < body.length) return null;
    this.#body = null;
    return body;
  }
}

export const codec = { encode, encodePublish, decode, FrameReader };

// ---- What the consumer sees ----

const safe = (n) => (typeof n === "number" ? n : malformed("a number above 2^53 - 1"));
const millis = (micros) => (micros ? Number(micros) / 1000 : null);
const HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));
const hex = (view) => Array.from(view, (byte) => HEX[byte]).join("");
const unhex = (text) => {
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw new TypeError(`not hex: ${text}`);
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
};

/**
 * A view keeps its whole chunk alive: 64 KiB, perhaps, for a payload of ten bytes. So what is less
 * than a quarter of its chunk is copied. A message that arrives alone is not.
 */
const own = (view) => {
  const whole = view.buffer.byteLength;
  return whole > 1024 && view.length * 4 < whole ? view.slice() : view;
};

class Message {
  constructor({ topic, epoch }, { sequence, count, stamp, payload }) {
    this.kind = /** @type {const} */ ("message");
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
// A link is { transport, send, publish, alone, close }: control frames, publications and large
// ones, each kind in its order. It tells its session heard, control, open and end.

const JOIN = 1 << 16; // Bytes in one write. A publication above goes alone.
const BUFFER = 1 << 20; // Bytes that may wait for a consumer, or in a WebSocket.

/** What is queued in one microtask, or while a write is under way, goes out in one write. */
const outbox = (write, fail) => {
  const queue = [];
  let busy = false;
  const run = async () => {
    while (queue.length) {
      let count = 0, size = 0;
      do size += queue[count++].length;
      while (count < queue.length && size + queue[count].length <= JOIN);
      let chunk = queue[0];
      if (count > 1) {
        chunk = new Uint8Array(size);
        for (let i = 0, to = 0; i < count; to += queue[i++].length) chunk.set(queue[i], to);
      }
      queue.splice(0, count);
      await write(chunk);
    }
    busy = false;
  };
  return (frame) => {
    queue.push(frame);
    if (!busy) queueMicrotask(() => run().catch(fail));
    busy = true;
  };
};

/** Frames that wait for one consumer. */
class Source {
  #queue = [];
  #head = 0;
  #size = 0;
  #more = nothing;
  #room = nothing;
  ended = false;
  shed = nothing;

  /** @param {() => void} [cancel] of the stream; none: what pushes cannot be held up */
  constructor(cancel) {
    this.cancel = cancel;
  }

  get empty() {
    return this.#head === this.#queue.length;
  }

  get full() {
    // One message may be larger than all that may wait.
    return this.#size > BUFFER && this.#queue.length - this.#head > 1;
  }

  push(body) {
    if (this.ended) return;
    this.#queue.push(body);
    this.#size += body.length + 64;
    this.#more();
  }

  take() {
    if (this.empty) return null;
    const body = this.#queue[this.#head];
    this.#queue[this.#head++] = null;
    this.#size -= body.length + 64;
    if (this.empty) this.#queue.length = this.#head = 0;
    if (!this.full) this.#room();
    return body;
  }

  /** Nothing more comes; what is here stays. */
  end() {
    if (this.ended) return;
    this.ended = true;
    this.cancel?.();
    this.#more();
    this.#room();
  }

  /** For the consumer: there is something, or it has ended. */
  more() {
    return this.empty && !this.ended && new Promise((resolve) => (this.#more = resolve));
  }

  /** For a stream's reader: it is not full, or has ended. */
  room() {
    return this.full && !this.ended && new Promise((resolve) => (this.#room = resolve));
  }
}

const NOBODY = new Source();
NOBODY.end();

const each = async (readable, take) => {
  const reader = readable.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    await take(value, reader);
  }
};

const overWebTransport = (url, hashes, session) => {
  const serverCertificateHashes = hashes.map((value) => ({ algorithm: "sha-256", value }));
  const wt = new WebTransport(url, hashes.length ? { serverCertificateHashes } : {});
  const fail = (error) => session.end(known(error));

  const writer = (open) => {
    let stream;
    return outbox(async (chunk) => {
      stream ??= (await open()).getWriter();
      await stream.write(chunk);
    }, fail);
  };

  const read = (readable, take, wait = nothing) => {
    const frames = new FrameReader(session.limit);
    return each(readable, (chunk, reader) => {
      session.heard();
      frames.push(chunk);
      for (let body; (body = frames.next()); ) take(body, reader);
      return wait();
    });
  };

  const accept = async (readable) => {
    let source;
    try {
      await read(readable, (body, reader) => {
        if (source) source.push(body);
        else source = session.open(decode(body), () => reader.cancel().catch(nothing));
      }, () => source?.room());
    } catch (error) {
      // A reset is an end: the control stream says why.
      if (error instanceof WeirError) fail(error);
    }
    source?.end();
  };

  const control = wt.ready.then(() => wt.createBidirectionalStream());
  control.then(async ({ readable }) => {
    await read(readable, (body) => session.control(decode(body)));
    // The connection is closing, and knows better why.
    await sleep(500);
    throw broken("the daemon closed the control stream");
  }).catch(fail);
  wt.ready.then(() => each(wt.incomingUnidirectionalStreams, (stream) => void accept(stream)))
    .catch(nothing);
  // Datagrams are not asked for; unread they would pile up.
  wt.ready.then(() => each(wt.datagrams.readable, nothing)).catch(nothing);
  wt.closed.then(({ closeCode, reason }) => {
    fail(closeCode ? new WeirError(closeCode, reason) : broken("the connection closed"));
  }, fail);

  return {
    transport: "webtransport",
    send: writer(async () => (await control).writable),
    publish: writer(() => wt.createUnidirectionalStream()),
    async alone(declaration, frame) {
      try {
        const stream = (await wt.createUnidirectionalStream()).getWriter();
        await stream.write(declaration);
        await stream.write(frame);
        await stream.close();
      } catch (error) {
        fail(error);
      }
    },
    close(closeCode, reason) {
      try {
        wt.close({ closeCode, reason });
      } catch {} // Not open yet.
    },
  };
};

const overWebSocket = (url, session) => {
  const ws = new WebSocket(url), frames = new FrameReader();
  let opened = false, target = NOBODY;
  ws.binaryType = "arraybuffer";
  const open = new Promise((resolve) => (ws.onopen = resolve)).then(() => (opened = true));
  ws.onmessage = ({ data }) => {
    if (session.over) return;
    session.heard();
    try {
      if (typeof data === "string") throw defect("a text message");
      frames.limit = session.limit;
      frames.push(new Uint8Array(data));
      for (let body; (body = frames.next()); ) {
        // For, and what may follow it: it says whose that is, until the next.
        if (body[0] === 1) target = session.open(decode(body));
        else if (body[0] < 1 || body[0] > 9) session.control(decode(body));
        else {
          target.push(own(body));
          if (target.full) target.shed();
        }
      }
      if (frames.partial) throw defect("a message that ends inside a frame");
    } catch (error) {
      session.end(known(error));
    }
  };
  ws.onclose = ({ code, reason }) => {
    const why = opened ? "the connection closed"
      : `nothing answers at ${url}, or this browser does not trust its certificate`;
    session.end(code >= 4000 ? new WeirError(code - 4000, reason) : broken(reason || why));
  };
  const send = outbox(async (chunk) => {
    if (!opened) await open;
    ws.send(chunk);
    // There is no event for this. What moves shows that the daemon is there.
    for (let left; (left = ws.bufferedAmount) > BUFFER; ) {
      await sleep(5);
      if (ws.bufferedAmount < left) session.heard();
    }
  }, (error) => session.end(known(error)));
  return {
    transport: "websocket",
    send,
    publish: send,
    alone(declaration, frame) {
      send(declaration);
      send(frame);
    },
    close: (code, reason) => ws.close(code ? 4000 + code : 1000, reason),
  };
};

// ---- Session: one connection, from hello to goodbye ----

const QUIET = 10_000; // After so many ms without a sound the daemon is pinged,
const PATIENCE = 10_000; // and so many later the session is broken.
const HELD = 2_000; // Both, where streams are held up that may be what keeps the daemon silent.

class Session {
  limit = 1 << 20; // Of a frame.
  /** Why it ended. @type {WeirError | null} */
  over = null;
  /** @type {Frame} */
  welcome = null;
  began = performance.now();
  /** Subscriptions by request. @type {Map<number, Feed>} */
  feeds = new Map();
  /** Get, Top and Ping by request. @type {Map<number, Question>} */
  questions = new Map();
  onanswer = nothing;
  onend = nothing;
  #declared = new Set();
  #request = 0;
  #heard = performance.now();
  #pinged = 0;
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
    const held = [...this.feeds.values()].filter((feed) => feed.source?.full);
    if (waited >= HELD) for (const feed of held) feed.shed();
    if (waited >= PATIENCE) {
      return this.end(broken(`nothing was heard of the daemon for ${now - this.#heard | 0} ms`));
    }
    if (!waited && now - this.#heard >= (held.length ? HELD : QUIET)) {
      this.#pinged = now;
      this.send({ frame: "Ping", request: ++this.#request });
    }
    this.#timer = setTimeout(() => this.#watch(), 1000);
  }

  /** A frame of the control stream. @param {Frame} frame */
  control(frame) {
    const { request, code, reason } = frame;
    const feed = this.feeds.get(request), question = this.questions.get(request);
    switch (frame.frame) {
      case "Welcome":
        this.welcome = frame;
        this.limit = Math.max(Number(frame.limits.payload) + 96, this.limit);
        this.#watch();
        return this.#settle.resolve(this);
      case "Receipt": case "Rejected":
        return this.onanswer(frame);
      case "Subscribed":
        return feed?.subscribed({ run: this.welcome.run, position: frame.position });
      case "Top": case "Pong":
        return question?.answer(frame);
      case "Failed": case "Ended":
        question?.reject(new WeirError(code, reason));
        this.feeds.delete(request);
        return feed?.ended(new WeirError(code, reason));
      case "Goodbye":
        return this.end(new WeirError(code, reason, undefined, frame.retry));
      case "Acknowledge": case "Drain":
        return;
      default:
        throw defect(`${frame.frame} on the control stream`);
    }
  }

  /** What follows a For goes to this. @param {Frame} frame @param {() => void} [cancel] */
  open({ frame, request }, cancel) {
    if (frame !== "For") throw defect(`a stream that begins with ${frame}`);
    const reader = this.feeds.get(request) ?? this.questions.get(request);
    if (!reader) {
      cancel?.(); // Of a subscription that was given up.
      return NOBODY;
    }
    if (!reader.source) reader.attach(new Source(cancel));
    return reader.source;
  }

  /** @param {Question} question */
  ask(question) {
    const request = ++this.#request;
    question.source = null;
    this.send(question.frame(request));
    this.questions.set(request, question);
    question.done = () => this.questions.delete(request);
  }

  /** @param {Feed} feed */
  subscribe(feed) {
    const request = ++this.#request, frame = encode(feed.frame(request));
    if (frame.length > 1 << 20) {
      throw new WeirError(TOO_LARGE, "more topics than can be resumed: split the filter");
    }
    // Before the daemon answers: the stream may overtake the answer.
    this.feeds.set(request, feed);
    feed.request = request;
    this.link.send(frame);
  }

  /** @param {Feed} feed */
  unsubscribe(feed) {
    if (!this.feeds.delete(feed.request)) return;
    this.send({ frame: "Unsubscribe", subscription: feed.request });
    feed.request = 0;
  }

  publish({ topic, bytes }) {
    const { declaration } = topic;
    if (bytes.length > JOIN) return this.link.alone(declaration, bytes);
    if (!this.#declared.has(topic)) this.link.publish(declaration);
    this.#declared.add(topic);
    this.link.publish(bytes);
  }

  /** Once; what comes later changes nothing. @param {WeirError} error */
  end(error) {
    if (this.over) return;
    this.over = error;
    clearTimeout(this.#timer);
    // The daemon hears of what is its own fault.
    const fault = error.code === MALFORMED || error.code === TOO_LARGE;
    this.link.close(fault ? error.code : 0, fault ? error.message.slice(0, 40) : "");
    for (const feed of this.feeds.values()) feed.lost();
    this.#settle.reject(error);
    this.onend(error);
  }

  async leave() {
    this.send({ frame: "Goodbye", code: 0, reason: "" });
    await sleep(0); // What is queued when a connection closes is not sent.
    this.end(closed());
  }
}

/** A Get, Top or Ping. Asked again in the next session if this one breaks before the answer. */
class Question {
  /** @type {Source | null} */
  source = null;
  done = nothing;

  constructor(frame, value) {
    this.frame = frame;
    this.value = value;
    /** @type {Promise<any>} */
    this.answered = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    }).finally(() => this.done());
  }

  answer(frame) {
    this.resolve(this.value(frame));
  }

  async attach(source) {
    this.source = source;
    let topic;
    try {
      for (;;) {
        await source.more();
        const body = source.take();
        if (!body) return; // The session is about to end.
        const frame = decode(body);
        if (frame.frame === "Topic") topic = { topic: frame.name, epoch: BigInt(frame.epoch) };
        else if (frame.frame === "Message") return this.answer({ ...frame, topic });
      }
    } catch (error) {
      this.reject(known(error));
    }
  }
}

/**
 * A subscription, through all sessions. Whenever it has no source and is not subscribed, it renews
 * itself: it subscribes again with its cursors. So a session that broke, a consumer too slow for a
 * WebSocket, and a daemon that made room are one case. Cursors move with what the consumer is
 * handed: what is dropped before that is asked for again.
 */
class Feed {
  request = 0; // In the session that stands; 0: not subscribed there.
  /** @type {Source | null} */
  source = null;
  /** Where it began the first time. @type {{ run: any, position: any } | null} */
  #since = null;
  #cursors = new Map(); // By topic name, for life.
  #ids = new Map(); // The same by topic id, on this source.
  /** Once the source is drained, or at once. @type {WeirError | null} */
  #ending = null;
  #error = null;
  #over = false;
  #wake = nothing;
  #settle;
  #last = Promise.resolve();

  constructor(session, options, done) {
    this.session = session;
    this.options = options;
    this.done = done;
    /** @type {Promise<void>} */
    this.ready = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.ready.catch(nothing);
  }

  frame(request) {
    const { start } = this.options, topics = [...this.#cursors.values()], since = this.#since;
    // Latest, Last or Sequence, and nothing heard of yet: there is nothing to resume from.
    const anew = !topics.length && start !== "New" && start !== "All";
    return {
      frame: "Subscribe", request, delivery: "Ordered", deadline: 0, ...this.options,
      start: !since || anew ? start : { Resume: { since, topics } },
    };
  }

  renew() {
    const session = this.session();
    if (this.source?.ended && this.source.empty) this.source = null;
    if (this.#over || !session || this.request || this.source) return;
    this.#ids.clear();
    try {
      session.subscribe(this);
    } catch (error) {
      this.fail(known(error));
    }
  }

  subscribed(since) {
    // No run is named 0: all there is of topics not heard of.
    this.#since ??= this.options.start === "All" ? { run: 0, position: 0 } : since;
    this.#settle.resolve();
    this.#wake();
  }

  attach(source) {
    this.source = source;
    source.shed = () => this.shed();
    this.#wake();
  }

  /** What is queued stays. When the consumer has drained it, the rest is asked for. */
  shed() {
    this.session()?.unsubscribe(this);
    this.source.end();
  }

  /** By the daemon. */
  ended(error) {
    this.request = 0;
    const again = error.code === LAGGED && this.options.lag !== "Disconnect";
    this.#ending = again ? null : error;
    // A stream may still hold messages. It ends by itself.
    if (!this.source?.cancel) this.source?.end();
    if (!this.source || (this.source.ended && this.source.empty)) this.#drained();
  }

  /** With its session. */
  lost() {
    this.request = 0;
    this.source?.end();
  }

  #drained() {
    this.source = null;
    if (this.#ending) this.fail(this.#ending);
    else this.renew();
  }

  /** For good: by an error, or, with null, by the consumer. */
  fail(error) {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.session()?.unsubscribe(this);
    this.source?.end();
    if (!error) this.source = null;
    this.#settle.reject(error ?? closed());
    this.done();
    this.#wake();
  }

  /** The next event among the frames that are here. */
  #take() {
    // Not before it is known where it began: what was handed out could not be resumed from.
    if (!this.#since) return null;
    for (let body; (body = this.source?.take()); ) {
      const frame = decode(body);
      switch (frame.frame) {
        case "Topic": {
          const { id, name, epoch, next } = frame;
          // One that was forgotten comes back with another id and epoch.
          this.#ids.delete(this.#cursors.get(name)?.id);
          const cursor = { id, topic: name, epoch: BigInt(epoch), next: safe(next) };
          this.#cursors.set(name, cursor);
          this.#ids.set(id, cursor);
          break;
        }
        case "Message": case "Gap": {
          const cursor = this.#ids.get(frame.topic);
          const first = frame.first ?? frame.sequence, last = safe(frame.last ?? first);
          if (first !== cursor?.next || last < first) {
            throw defect(`sequence ${first} where ${cursor?.next ?? "no topic"} was due`);
          }
          cursor.next = last + 1;
          if (frame.frame === "Message") return new Message(cursor, frame);
          const { topic, epoch } = cursor;
          return { kind: "gap", topic, epoch, first, last, cause: frame.cause.toLowerCase() };
        }
        case "Begin": case "Chunk": case "End": case "Abort": case "Head":
          break;
        default:
          throw defect(`${frame.frame} on a subscription's stream`);
      }
    }
    return null;
  }

  /** One after the other, in the order of the calls. @returns {Promise<any>} */
  next() {
    const read = () => this.#read();
    return (this.#last = this.#last.then(read, read));
  }

  async #read() {
    for (;;) {
      let value = null;
      try {
        value = this.#take();
      } catch (error) {
        this.fail(known(error));
        this.source = null;
      }
      if (value) return { value, done: false };
      if (this.#over) {
        const error = this.#error;
        this.#error = null;
        if (error) throw error;
        return { value: undefined, done: true };
      }
      if (!this.source || !this.#since) {
        await new Promise((resolve) => (this.#wake = resolve));
      } else if (this.source.ended) this.#drained();
      else await this.source.more();
    }
  }
}

// ---- Client ----

const IN_FLIGHT = 1024; // Publications without an answer,
const ALONE = 16; // and such of them as have a stream of their own.
const ALIASES = 4096;
const STARTS = { new: "New", latest: "Latest", all: "All" };
const LAGS = { oldest: "Oldest", newest: "Newest", disconnect: "Disconnect" };

export class Client extends EventTarget {
  #target;
  /** The one that stands. @type {Session | null} */
  #session = null;
  /** The same, or the one that stood last. @type {Session} */
  #latest;
  /** @type {api.State} */
  #state = "reconnecting";
  #reason = "";
  // Topics published to, by name and by alias; an alias is for the client's life.
  #topics = new Map();
  #aliases = [];
  // Publications without an answer, and those not sent yet; the oldest first.
  #sent = new Set();
  #unsent = new Set();
  #alone = 0;
  /** @type {Set<Question>} */
  #questions = new Set();
  /** @type {Set<Feed>} */
  #feeds = new Set();
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

  get state() {
    return this.#state;
  }
  get transport() {
    return /** @type {api.Transport} */ (this.#latest.link.transport);
  }
  get reason() {
    return this.#reason;
  }
  get session() {
    return BigInt(this.#latest.welcome.session);
  }
  get maxPayload() {
    return Number(this.#latest.welcome.limits.payload);
  }

  /**
   * @param {string} name @param {string | ArrayBuffer | ArrayBufferView} payload
   * @returns {Promise<api.Receipt>}
   */
  publish(name, payload) {
    return new Promise((resolve, reject) => {
      this.#open();
      const content = typeof payload === "string" ? utf8.encode(payload)
        : ArrayBuffer.isView(payload)
          ? new Uint8Array(payload.buffer, payload.byteOffset, payload.byteLength)
          : payload instanceof ArrayBuffer ? new Uint8Array(payload) : null;
      if (!content) throw new TypeError("a payload is a string, an ArrayBuffer or a view");
      const size = content.length, most = this.maxPayload;
      if (size > most) throw new WeirError(0x22, `${size} bytes, and the daemon takes ${most}`);
      const topic = this.#topic(name), number = ++topic.last;
      const stamp = Math.floor((performance.timeOrigin + performance.now()) * 1000);
      // Numbered and copied now: sent, and sent again, as it is.
      const bytes = encodePublish(topic.alias, number, stamp, content);
      this.#unsent.add({ topic, number, bytes, resolve, reject });
      this.#pump();
    });
  }

  #open() {
    if (this.#closing || this.#state === "closed") throw closed();
  }

  #topic(name) {
    const there = this.#topics.get(name);
    if (there) return there;
    // Either would cost the session.
    if (utf8.encode(name).length > 255) throw new WeirError(0x20, "a topic above 255 bytes");
    const alias = this.#aliases.length;
    if (alias === ALIASES) {
      throw new WeirError(0x24, `a client publishes to ${ALIASES} topics at most: connect another`);
    }
    const declaration = encode({ frame: "Topic", alias, name });
    const topic = { alias, declaration, last: 0, waiting: new Map() };
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

  #answered({ frame, alias, number, code, reason, sequence, count, since, digest, duplicate }) {
    const waiting = this.#aliases[alias]?.waiting, publication = waiting?.get(number);
    if (!publication) return;
    waiting.delete(number);
    this.#sent.delete(publication);
    if (publication.bytes.length > JOIN) this.#alone--;
    if (frame === "Rejected") publication.reject(new WeirError(code, reason));
    else {
      publication.resolve({
        sequence: safe(sequence), count: safe(count), since: millis(since), digest: hex(digest),
        duplicate,
      });
    }
    this.#pump();
    if (!this.#sent.size) this.#settled();
  }

  /**
   * @param {string} filter @param {api.SubscribeOptions} [options]
   * @returns {api.Subscription}
   */
  subscribe(filter, { from = "new", lag = "oldest", signal } = {}) {
    const last = /^last:(\d+)$/.exec(String(from));
    const start = Number.isSafeInteger(from) && +from >= 0 ? { Sequence: from }
      : last ? { Last: +last[1] } : STARTS[from];
    if (!start || !LAGS[lag]) throw new TypeError(`no such options: from ${from}, lag ${lag}`);
    const close = () => feed.fail(null);
    const feed = new Feed(() => this.#session, { filter, start, lag: LAGS[lag] }, () => {
      this.#feeds.delete(feed);
      signal?.removeEventListener("abort", close);
    });
    this.#feeds.add(feed);
    signal?.addEventListener("abort", close);
    if (signal?.aborted || this.#closing || this.#state === "closed") close();
    feed.renew();
    return {
      ready: feed.ready,
      next: () => feed.next(),
      close,
      [Symbol.asyncIterator]: () => ({
        next: () => feed.next(),
        async return() {
          close();
          return { value: undefined, done: true };
        },
      }),
    };
  }

  async #ask(frame, value) {
    this.#open();
    const question = new Question(frame, value);
    try {
      this.#questions.add(question);
      this.#session?.ask(question);
      return await question.answered;
    } finally {
      this.#questions.delete(question);
    }
  }

  /**
   * @param {string} topic @param {{ sequence?: number, digest?: string }} [which]
   * @returns {Promise<api.Message>}
   */
  get(topic, { sequence, digest } = {}) {
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
    for (const feed of this.#feeds) feed.fail(null);
    if (this.#sent.size + this.#unsent.size) {
      const settled = new Promise((resolve) => (this.#settled = resolve));
      await Promise.race([settled, sleep(this.#target.timeout)]);
    }
    const session = this.#session;
    this.#finish(closed());
    await session?.leave();
  }

  #adopt({ session, reason }) {
    this.#session = this.#latest = session;
    this.#reason = reason;
    session.onanswer = (frame) => this.#answered(frame);
    session.onend = (error) => this.#lost(error);
    // With their numbers of before: the daemon counts none twice.
    for (const publication of this.#sent) session.publish(publication);
    this.#pump();
    for (const question of this.#questions) session.ask(question);
    for (const feed of this.#feeds) feed.renew();
    this.#become("open", reason);
    if (session.over) this.#lost(session.over);
  }

  /** @param {WeirError} error */
  #lost(error) {
    this.#session = null;
    if (this.#state === "closed") return;
    if (!error.retry || !this.#target.reconnect) return this.#finish(error);
    // A daemon that welcomes and ends sessions at once is not asked ever faster.
    if (performance.now() - this.#latest.began > 5000) this.#failures = 0;
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
      if (this.#state === "closed") return;
      try {
        const won = await race(this.#target);
        if (this.#state === "closed") won.session.leave();
        else this.#adopt(won);
        return;
      } catch (error) {
        if (!error.retry) return this.#finish(known(error));
      }
    }
  }

  #finish(error) {
    if (this.#state === "closed") return;
    this.#session = null;
    this.#become("closed", error.message, error.code);
    this.#hurry();
    for (const { reject } of [...this.#sent, ...this.#unsent]) reject(error);
    this.#sent.clear();
    this.#unsent.clear();
    this.#settled();
    for (const question of this.#questions) question.reject(error);
    for (const feed of this.#feeds) feed.fail(error);
  }

  #become(state, reason, code = null) {
    this.#state = state;
    const detail = { state, transport: this.transport, reason, code };
    this.dispatchEvent(new CustomEvent("state", { detail }));
  }
}

// ---- Connecting ----

/** What the daemon says of its WebTransport; nothing if it cannot be asked. */
const about = async ({ base, pinned }) => {
  if (pinned) return { hashes: pinned.map(unhex) };
  try {
    const answer = await fetch(new URL("/certificate.sha256", base), { cache: "no-store" });
    const { pinning, current, next, port, path } = await answer.json();
    return { hashes: pinning ? [current, next].filter(Boolean).map(unhex) : [], port, path };
  } catch {
    return { hashes: [] };
  }
};

/**
 * WebTransport, and WebSocket where that fails or takes long: the first to be welcomed wins.
 * @returns {Promise<{ session: Session, reason: string }>}
 */
const race = (target) => new Promise((resolve, reject) => {
  const { base, transport, fallbackAfter, timeout } = target;
  const sessions = [], failures = [], auto = transport === "auto";
  let running = 0, over = false, fallen = false;

  const settle = (error, won) => {
    if (over) return;
    over = true;
    timers.forEach(clearTimeout);
    for (const session of sessions) if (session !== won?.session) session.end(closed());
    if (won) resolve(won);
    else reject(error);
  };

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
      if (error.code !== null && error instanceof WeirError) return settle(error);
      failures.push(words(error));
      failed(words(error));
      const why = `cannot reach ${base.origin}: ${failures.join("; ")}`;
      if (!running) settle(new WeirError(null, why, "unreachable", true));
    }
  };

  const webTransport = async () => {
    if (!globalThis.WebTransport) {
      throw broken(globalThis.isSecureContext === false
        ? "browsers have WebTransport only in pages from https or localhost"
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
      if (over || (error.code !== null && error instanceof WeirError)) throw error;
      // The certificate may have changed since the daemon was asked.
      target.about = null;
      if (before?.hashes.length && !target.pinned) return webTransport();
      throw broken(`WebTransport failed: ${words(error)}`);
    }
  };

  const webSocket = (why) => {
    if (fallen || over) return;
    fallen = true;
    const url = new URL("/weir", base);
    url.protocol = base.protocol.replace("http", "ws");
    attempt(async () => greet((session) => overWebSocket(url.href, session)), `WebSocket: ${why}`);
  };

  const late = new WeirError(null, `${base.origin} did not answer within ${timeout} ms`,
    "timed_out", true);
  const timers = [setTimeout(() => settle(late), timeout)];
  if (transport === "websocket") return webSocket("as asked for");
  const silent = `no answer over UDP within ${fallbackAfter / 1000} s`;
  if (auto) timers.push(setTimeout(() => webSocket(silent), fallbackAfter));
  attempt(webTransport, "WebTransport", auto ? webSocket : nothing);
});

/**
 * @param {string | URL} [url] @param {api.ConnectOptions} [options]
 * @returns {Promise<Client>}
 */
export const connect = async (url = new URL(import.meta.url).origin, options = {}) => {
  const { token = null, transport = "auto", certificateHashes: pinned, webTransportPort: port,
    fallbackAfter = 1500, timeout = 10_000, reconnect = true } = options;
  let base;
  try {
    base = new URL(url);
  } catch {}
  if (!/^https?:$/.test(base?.protocol)) {
    const why = `not a daemon's address: ${url}: say https://host:port or http://localhost:port`;
    throw new WeirError(null, why, "unreachable", false);
  }
  const producer = crypto.getRandomValues(new Uint8Array(16));
  const hello = { frame: "Hello", version: 1, producer, token, agent: "weir-js/0.1.0" };
  const target = {
    base, hello, transport, pinned, port, fallbackAfter, timeout, reconnect, about: null,
  };
  return new Client(target, await race(target));
};
