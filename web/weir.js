// Weir's browser client: docs/protocol.md over WebTransport or WebSocket. Types: weir.d.ts.

/** @typedef {Record<string, any> & { frame: string }} Frame */
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
const MALFORMED = 0x10, LAGGED = 0x50;

export class WeirError extends Error {
  /**
   * @param {number | null} code as in docs/protocol.md; null where the daemon did not say it
   * @param {string} message @param {string} [name] @param {boolean} [retry]
   */
  constructor(code, message, name, retry) {
    super(message);
    this.code = code;
    this.name = name ?? CODES[/** @type {keyof CODES} */ (code)] ?? "unknown";
    this.retry = retry ?? RETRY.includes(/** @type {number} */ (code));
  }
}

/** @param {number} code @param {string} reason @param {boolean} [retry] */
const told = (code, reason, retry) => {
  const error = new WeirError(code, reason, undefined, retry);
  error.message ||= error.name.replaceAll("_", " ");
  return error;
};
/** @param {string} why */
const broken = (why) => new WeirError(null, why, "broken", true);
/** @param {string} why */
const defect = (why) =>
  new WeirError(MALFORMED, `the daemon broke the protocol: ${why}: update the older of the two`);
const closed = () => new WeirError(null, "closed by this client", "closed", false);
/** @param {unknown} error */
const words = (error) => (error instanceof Error && error.message) || String(error);
/** @param {unknown} error */
const asBroken = (error) => (error instanceof WeirError ? error : broken(words(error)));

// ---- Codec: postcard, from tables that are those of docs/protocol.md ----
// A u64 is a number up to 2^53 - 1 and a bigint above, never the other way round: so === and Map
// keys compare values. Frames and enums are objects and strings as in tests/vectors/frames.json.

const utf8 = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder();
const EMPTY = new Uint8Array(0);

/** @param {string} why @returns {never} */
const malformed = (why) => {
  throw new WeirError(MALFORMED, `malformed frame: ${why}`);
};

// What is being written: `out` up to `end`. And read: `src` from `at`. Neither survives a call
// from outside.
let out = new Uint8Array(4096), end = 0;
let src = EMPTY, at = 0;

/** @param {number} size */
const room = (size) => {
  if (end + size <= out.length) return;
  const old = out;
  out = new Uint8Array(Math.max(2 * old.length, end + size));
  out.set(old);
};

/** LEB128. @param {Uint8Array} to @param {number} i @param {number | bigint} n */
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

/** Bytes that `n` takes. @param {number} n */
const width = (n) => {
  let size = 1;
  for (; n >= 0x80; n = Math.floor(n / 128)) size++;
  return size;
};

/** @param {32 | 64} bits @returns {any} */
const varint = (bits) => {
  const first = src[at];
  if (first < 0x80) {
    at++;
    return first;
  }
  const start = at;
  let n = 0, scale = 1, byte;
  do {
    if (at >= src.length) malformed("it ends inside a number");
    if (at - start >= (bits === 32 ? 5 : 10)) malformed("a number too long");
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

/** @param {number | bigint} size @returns {Uint8Array} a view, not a copy */
const take = (size) => {
  if (size > src.length - at) malformed("it ends too early");
  return src.subarray(at, (at += Number(size)));
};

/** @param {32 | 64} bits @returns {Type} */
const uint = (bits) => ({
  write(n) {
    const ok = typeof n === "bigint" ? n >= 0 && !(n >> BigInt(bits)) : Number.isSafeInteger(n);
    if (!ok || n < 0 || (bits === 32 && n > 0xffffffff)) throw new RangeError(`no u${bits}: ${n}`);
    room(10);
    end = put(out, end, n);
  },
  read: () => varint(bits),
});
const u32 = uint(32), u64 = uint(64);

/** @param {number} [size] fixed, else behind its length @returns {Type} */
const raw = (size) => ({
  write(value) {
    if (size === undefined) u64.write(value.length);
    else if (value.length !== size) throw new RangeError(`${value.length} bytes, not ${size}`);
    room(value.length);
    out.set(value, end);
    end += value.length;
  },
  read: () => take(size ?? varint(64)),
});
const bytes = raw();

/** @type {Type} */
const str = {
  write: (value) => bytes.write(utf8.encode(value)),
  read() {
    const view = bytes.read();
    try {
      return strict.decode(view);
    } catch {
      return malformed("not UTF-8");
    }
  },
};

/** @type {Type} */
const bool = {
  write(value) {
    room(1);
    out[end++] = value ? 1 : 0;
  },
  read() {
    const byte = take(1)[0];
    return byte < 2 ? byte === 1 : malformed("not a bool");
  },
};

/** @param {Type} item @returns {Type} */
const option = (item) => ({
  write(value) {
    bool.write(value !== null);
    if (value !== null) item.write(value);
  },
  read: () => (bool.read() ? item.read() : null),
});

/** @param {Type} item @returns {Type} */
const list = (item) => ({
  write(values) {
    u64.write(values.length);
    for (const value of values) item.write(value);
  },
  read() {
    const size = varint(64);
    if (size > src.length - at) malformed("a list longer than itself");
    return Array.from({ length: size }, item.read);
  },
});

/** @type {Type} */
const hole = {
  write([first, last]) {
    u64.write(first);
    u64.write(last);
  },
  read: () => [varint(64), varint(64)],
};

/** @param {Record<string, Type>} table @returns {Type} */
const struct = (table) => {
  const fields = Object.entries(table);
  return {
    write(value) {
      for (const [name, type] of fields) type.write(value[name]);
    },
    read() {
      /** @type {Record<string, any>} */
      const value = {};
      for (const [name, type] of fields) value[name] = type.read();
      return value;
    },
  };
};

/** Written `"Variant"` or `{ Variant: value }`. @param {Record<string, Type | null>} table */
const choice = (table) => {
  const names = Object.keys(table);
  return {
    /** @param {any} value */
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

const position = struct({ run: u64, position: u64 });
const start = choice({
  New: null, Latest: null, All: null, Last: u64, Sequence: u64,
  Resume: struct({
    since: position,
    topics: list(struct({ topic: str, epoch: u64, next: u64 })),
  }),
});
const delivery = choice({ Ordered: null, Unordered: null, Realtime: null });
const lag = choice({ Oldest: null, Newest: null, Disconnect: null });
const cause = choice({ Evicted: null, Skipped: null, Aborted: null, Late: null });
const digest = raw(32);

/** By receiver. @type {Record<string, Record<string, Record<string, Type>>>} */
const TABLES = {
  daemon: {
    Hello: { version: u32, producer: raw(16), token: option(str), agent: str },
    Topic: { alias: u32, name: str },
    Publish: { alias: u32, number: u64, stamp: u64, payload: bytes },
    Begin: { alias: u32, number: u64, stamp: u64, size: u64 },
    Chunk: { bytes },
    End: { digest },
    Subscribe: { request: u32, filter: str, start, delivery, lag, deadline: u32 },
    Unsubscribe: { subscription: u32 },
    Get: {
      request: u32, topic: str, which: choice({ Latest: null, Sequence: u64, Digest: digest }),
    },
    Top: { request: u32, topic: str, k: u32 },
    Ping: { request: u32 },
    Repair: { subscription: u32, topic: u64, holes: list(hole) },
    Goodbye: { code: u32, reason: str },
  },
  client: {
    Welcome: {
      version: u32, session: u64, run: u64, clock: u64,
      limits: struct({ payload: u64, subscriptions: u32, window: u32 }), agent: str,
    },
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
    Top: {
      request: u32,
      entries: list(struct({
        digest, count: u64, since: u64, sequence: u64, size: u64, payload: option(bytes),
      })),
    },
    Pong: { request: u32, clock: u64 },
    Failed: { request: u32, code: u32, reason: str },
    Drain: { within: u32, reason: str },
    Goodbye: { code: u32, reason: str, retry: bool },
  },
};
const FRAMES = Object.fromEntries(
  Object.entries(TABLES).map(([to, table]) => {
    const names = Object.keys(table);
    return [to, { names, types: names.map((name) => struct(table[name])) }];
  }),
);

/** A whole frame, with its length. @param {Frame} frame */
const encode = (frame, to = "daemon") => {
  const { names, types } = FRAMES[to];
  const index = names.indexOf(frame.frame);
  end = 5;
  u32.write(index);
  types[index].write(frame);
  const size = end - 5, begin = 5 - width(size);
  put(out, begin, size);
  return out.slice(begin, end);
};

// The two that are counted in millions, by hand. tests/js holds them against the tables.

/**
 * @param {number} alias @param {number} number @param {number} stamp @param {Uint8Array} payload
 */
const encodePublish = (alias, number, stamp, payload) => {
  const size = 1 + width(alias) + width(number) + width(stamp) + width(payload.length);
  const frame = new Uint8Array(width(size + payload.length) + size + payload.length);
  let i = put(frame, 0, size + payload.length);
  frame[i++] = 2;
  i = put(frame, put(frame, put(frame, put(frame, i, alias), number), stamp), payload.length);
  frame.set(payload, i);
  return frame;
};

/** @param {Uint8Array} body a frame without its length @returns {Frame} views into `body` */
const decode = (body, to = "client") => {
  src = body;
  at = 0;
  let frame;
  if (body[0] === 3 && to === "client") {
    at = 1;
    frame = {
      frame: "Message", topic: varint(64), sequence: varint(64), count: varint(64),
      stamp: varint(64), payload: take(varint(64)),
    };
  } else {
    const { names, types } = FRAMES[to], index = varint(32);
    if (!(index in names)) malformed(`there is none of number ${index}`);
    frame = types[index].read();
    frame.frame = names[index];
  }
  if (at !== body.length) malformed(`${frame.frame} with bytes after its end`);
  return /** @type {Frame} */ (frame);
};

/** Cuts a stream into frames. What lies whole in one chunk is not copied. */
class FrameReader {
  #chunk = EMPTY;
  #at = 0;
  // Of the frame that has begun: its length, so far or whole, and what of it came in chunks before.
  #size = 0;
  #shift = 0;
  /** @type {Uint8Array | null} */
  #body = null;
  #have = 0;

  /** @param {number} limit largest body */
  constructor(limit = 1 << 20) {
    this.limit = limit;
  }

  /** Whether the stream would end inside a frame if it ended here. */
  get partial() {
    return this.#shift > 0 || this.#body !== null || this.#at < this.#chunk.length;
  }

  /** @param {Uint8Array} chunk only once next() has given null; not reused by the caller */
  push(chunk) {
    this.#chunk = chunk;
    this.#at = 0;
  }

  /** The body of the next whole frame. @returns {Uint8Array | null} */
  next() {
    const chunk = this.#chunk;
    if (!this.#body) {
      for (;;) {
        if (this.#at >= chunk.length) return null;
        const byte = chunk[this.#at++];
        // Up to 2^35: beyond what << can do.
        this.#size += (byte & 0x7f) * 2 ** this.#shift;
        this.#shift += 7;
        if (byte < 0x80) {
          if (byte === 0 || this.#size > 0xffffffff) malformed("a length that is none");
          break;
        }
        if (this.#shift === 35) malformed("a length that is none");
      }
      this.#shift = 0;
      const size = this.#size;
      this.#size = 0;
      if (size > this.limit) {
        throw new WeirError(0x14, `a frame of ${size} bytes, above the limit of ${this.limit}`);
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

export const codec = { encode, decode, encodePublish, FrameReader };

// ---- What a subscriber sees ----

/** @param {number | bigint} n @returns {number} */
const safe = (n) => (typeof n === "number" ? n : malformed("a number above 2^53 - 1"));
/** @param {number | bigint} micros */
const millis = (micros) => (micros ? Number(micros) / 1000 : null);
const HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));
/** @param {Uint8Array} view */
const hex = (view) => {
  let text = "";
  for (const byte of view) text += HEX[byte];
  return text;
};

/**
 * A view keeps the whole chunk that it lies in alive, up to 64 KiB for a payload of ten bytes. So
 * what is less than a quarter of its chunk is copied; a message that arrives alone is not.
 * @param {Uint8Array} view
 */
const own = (view) => {
  const whole = view.buffer.byteLength;
  return whole > 1024 && view.length * 4 < whole ? view.slice() : view;
};

class Message {
  kind = "message";
  /** @param {{ topic: string, epoch: bigint }} topic @param {Frame} frame */
  constructor(topic, frame) {
    this.topic = topic.topic;
    this.epoch = topic.epoch;
    this.sequence = safe(frame.sequence);
    this.count = safe(frame.count);
    this.stamp = millis(frame.stamp);
    this.payload = own(frame.payload);
  }
  text() {
    return lenient.decode(this.payload);
  }
  json() {
    return JSON.parse(this.text());
  }
}

// ---- Transports ----
// A link sends frames (send), publications (publish) and large ones (alone), in the order given
// for each of the three, and hands its session what comes: heard, control, attach, end. A session
// is told of its end once, whatever happens later.

const JOIN = 65536; // Frames written at a time, bytes. Also: a larger publication goes alone.
const BUFFER = 1 << 20; // What may wait for a consumer or for a WebSocket, bytes.

/** What is queued in one microtask, or while a write is under way, goes out in one write. */
class Outbox {
  /** @type {Uint8Array[]} */
  #queue = [];
  #busy = false;
  #write;
  #fail;

  /**
   * @param {(chunk: Uint8Array) => Promise<unknown> | void} write
   * @param {(error: unknown) => void} fail
   */
  constructor(write, fail) {
    this.#write = write;
    this.#fail = fail;
  }

  /** @param {Uint8Array} frame */
  push(frame) {
    this.#queue.push(frame);
    if (this.#busy) return;
    this.#busy = true;
    queueMicrotask(() => this.#run().catch(this.#fail));
  }

  async #run() {
    while (this.#queue.length) {
      const queue = this.#queue;
      this.#queue = [];
      for (let i = 0; i < queue.length; ) {
        const first = i;
        let size = 0;
        do size += queue[i++].length;
        while (i < queue.length && size + queue[i].length <= JOIN);
        await this.#write(i === first + 1 ? queue[first] : concat(queue.slice(first, i), size));
      }
    }
    this.#busy = false;
  }
}

/** @param {Uint8Array[]} parts @param {number} size */
const concat = (parts, size) => {
  const whole = new Uint8Array(size);
  let i = 0;
  for (const part of parts) {
    whole.set(part, i);
    i += part.length;
  }
  return whole;
};

/**
 * Frames for one reader: pulled from a stream when the reader wants more, or pushed by a
 * WebSocket, which cannot be held up.
 */
class Source {
  /** @type {(Uint8Array | undefined)[]} */
  #queue = [];
  #head = 0;
  #pull;
  /** @type {(() => void) | null} */
  #wake = null;
  #cancel;
  size = 0;
  ended = false;
  /** Called when more is here than may wait. */
  onfull = () => {};

  /** @param {(() => Promise<unknown>) | null} pull @param {() => void} [cancel] */
  constructor(pull, cancel) {
    this.#pull = pull;
    this.#cancel = cancel;
  }

  /** Whether it waits to be read. */
  get pulled() {
    return this.#pull !== null;
  }

  get empty() {
    return this.#head === this.#queue.length;
  }

  /** @param {Uint8Array} body */
  push(body) {
    if (this.ended) return;
    this.#queue.push(body);
    this.size += body.length + 64;
    this.#wake?.();
    // One message may be larger than all that may wait.
    if (this.size > BUFFER && this.#queue.length - this.#head > 1) this.onfull();
  }

  take() {
    if (this.empty) return null;
    const body = /** @type {Uint8Array} */ (this.#queue[this.#head]);
    this.#queue[this.#head++] = undefined;
    this.size -= body.length + 64;
    if (this.empty) this.#queue.length = this.#head = 0;
    return body;
  }

  /** Waits for a frame to take, or the end. */
  async more() {
    while (this.empty && !this.ended) {
      if (this.#pull) await this.#pull();
      else await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
    }
  }

  /** Nothing more will come; what is here stays. */
  end() {
    if (this.ended) return;
    this.ended = true;
    this.#cancel?.();
    this.#wake?.();
  }
}

class WebTransportLink {
  transport = /** @type {const} */ ("webtransport");
  #wt;
  #control;
  #publications;
  #session;

  /** @param {string} url @param {Uint8Array[]} hashes @param {Session} session */
  constructor(url, hashes, session) {
    const options = { serverCertificateHashes: hashes.map((value) => ({
      algorithm: "sha-256", value: /** @type {BufferSource} */ (value),
    })) };
    const wt = (this.#wt = new WebTransport(url, hashes.length ? options : {}));
    this.#session = session;
    const fail = /** @param {unknown} error */ (error) => session.end(asBroken(error));
    const control = wt.ready.then(() => wt.createBidirectionalStream());
    this.#control = new Outbox(writer(() => control.then((stream) => stream.writable)), fail);
    this.#publications = new Outbox(writer(() => wt.createUnidirectionalStream()), fail);
    control.then((stream) => this.#read(stream.readable)).catch(fail);
    wt.ready.then(() => this.#accept()).catch(fail);
    wt.ready.then(() => drain(wt.datagrams.readable)).catch(() => {});
    wt.closed.then((info) => {
      const { closeCode, reason } = info ?? {};
      session.end(closeCode ? told(closeCode, reason ?? "") : broken("the connection closed"));
    }, fail);
  }

  /** @param {Uint8Array} frame */
  send(frame) {
    this.#control.push(frame);
  }

  /** @param {Uint8Array} frame */
  publish(frame) {
    this.#publications.push(frame);
  }

  /** On a stream of its own, and so behind no other. @param {Uint8Array[]} frames */
  async alone(frames) {
    try {
      const stream = (await this.#wt.createUnidirectionalStream()).getWriter();
      for (const frame of frames) await stream.write(frame);
      await stream.close();
    } catch (error) {
      this.#session.end(asBroken(error));
    }
  }

  /** @param {number} closeCode @param {string} reason */
  close(closeCode, reason) {
    // Before it is ready there is nothing to close, which some browsers say by throwing.
    try {
      this.#wt.close({ closeCode, reason });
    } catch {}
  }

  /** @param {ReadableStream<Uint8Array>} readable */
  async #read(readable) {
    const source = this.#source(readable);
    for (;;) {
      await source.more();
      const body = source.take();
      if (!body) break;
      this.#session.control(decode(body));
    }
    // Most likely the connection has closed, which knows better why.
    setTimeout(() => this.#session.end(broken("the daemon closed the control stream")), 500);
  }

  async #accept() {
    const streams = this.#wt.incomingUnidirectionalStreams.getReader();
    for (;;) {
      const { value, done } = await streams.read();
      if (done) return;
      this.#begin(this.#source(value)).catch((error) => this.#session.end(asBroken(error)));
    }
  }

  // Which subscription or answer a stream is for, only its first frame says.
  /** @param {Source} source */
  async #begin(source) {
    await source.more();
    const body = source.take();
    if (!body) return;
    const frame = decode(body);
    if (frame.frame !== "For") throw defect(`a stream that begins with ${frame.frame}`);
    this.#session.attach(frame.request, source);
  }

  /** @param {ReadableStream<Uint8Array>} readable */
  #source(readable) {
    const reader = readable.getReader();
    const frames = new FrameReader(this.#session.limit);
    const source = new Source(
      async () => {
        // A reset is an end: the control stream says why.
        const { value } = await reader.read().catch(() => ({ value: undefined }));
        if (!value) return source.end();
        this.#session.heard();
        frames.push(value);
        try {
          for (let body; (body = frames.next()); ) source.push(body);
        } catch (error) {
          this.#session.end(asBroken(error));
          source.end();
        }
      },
      () => reader.cancel().catch(() => {}),
    );
    return source;
  }
}

/** @param {() => Promise<WritableStream>} open at the first write */
const writer = (open) => {
  /** @type {WritableStreamDefaultWriter | undefined} */
  let stream;
  return async (/** @type {Uint8Array} */ chunk) => {
    stream ??= (await open()).getWriter();
    await stream.write(chunk);
  };
};

// Datagrams are not asked for; left unread they would pile up.
/** @param {ReadableStream} readable */
const drain = async (readable) => {
  const reader = readable.getReader();
  while (!(await reader.read()).done);
};

class WebSocketLink {
  transport = /** @type {const} */ ("websocket");
  #ws;
  #outbox;

  /** @param {string} url @param {Session} session */
  constructor(url, session) {
    const ws = (this.#ws = new WebSocket(url));
    ws.binaryType = "arraybuffer";
    const open = new Promise((resolve) => (ws.onopen = resolve));
    let opened = false;
    open.then(() => (opened = true));
    const write = async (/** @type {Uint8Array} */ chunk) => {
      if (!opened) await open;
      ws.send(chunk);
      // There is no event for this.
      while (ws.bufferedAmount > BUFFER) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    this.#outbox = new Outbox(write, (error) => session.end(asBroken(error)));
    const frames = new FrameReader();
    /** Whose Topic, Message and Gap come now. @type {Source | null} */
    let target = null;
    ws.onmessage = ({ data }) => {
      if (session.over) return;
      session.heard();
      try {
        if (typeof data === "string") throw defect("a text message");
        frames.limit = session.limit;
        frames.push(new Uint8Array(data));
        for (let body; (body = frames.next()); ) {
          // For, then what may follow it on a stream.
          if (body[0] === 1) target = session.open(decode(body).request);
          else if (body[0] >= 2 && body[0] <= 9) target?.push(own(body));
          else session.control(decode(body));
        }
        if (frames.partial) throw defect("a message that ends inside a frame");
      } catch (error) {
        session.end(asBroken(error));
      }
    };
    ws.onclose = ({ code, reason }) => {
      const why = opened ? "the connection broke" : `nothing answered at ${url}, or the browser ` +
        "does not trust its certificate";
      session.end(code >= 4000 ? told(code - 4000, reason) : broken(reason || why));
    };
  }

  /** @param {Uint8Array} frame */
  send(frame) {
    this.#outbox.push(frame);
  }

  /** @param {Uint8Array} frame */
  publish(frame) {
    this.#outbox.push(frame);
  }

  /** @param {Uint8Array[]} frames */
  alone(frames) {
    for (const frame of frames) this.#outbox.push(frame);
  }

  /** @param {number} code @param {string} reason */
  close(code, reason) {
    this.#ws.close(code ? 4000 + code : 1000, reason.slice(0, 40));
  }
}

// ---- Session: from a hello to its end ----

const QUIET = 10_000; // After so long without a sound the daemon is pinged,
const PATIENCE = 10_000; // and after so much longer the session counts as broken.

class Session {
  /** Of the stream that a link makes frames from. */
  limit = 1 << 20;
  /** Why it ended. @type {WeirError | null} */
  over = null;
  run = /** @type {any} */ (0);
  window = 0;
  welcome = /** @type {Frame} */ ({ frame: "" });
  /** @type {Map<number, Feed>} */
  feeds = new Map();
  /** Get, Top and Ping. @type {Map<number, Question>} */
  questions = new Map();
  /** Topics declared on the link's stream of publications. @type {Set<Topic>} */
  declared = new Set();
  onreceipt = (/** @type {Frame} */ frame) => {};
  onend = (/** @type {WeirError} */ error) => {};
  since = performance.now();
  #request = 0;
  #heard = performance.now();
  #pinged = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #resolve = () => {};
  #reject = (/** @type {WeirError} */ error) => {};

  /** @param {(session: Session) => WebTransportLink | WebSocketLink} open @param {Frame} hello */
  constructor(open, hello) {
    /** @type {Promise<void>} */
    this.welcomed = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.link = open(this);
    this.send(hello);
  }

  /** @param {Frame} frame */
  send(frame) {
    this.link.send(encode(frame));
  }

  next() {
    return ++this.#request;
  }

  heard() {
    this.#heard = performance.now();
    this.#pinged = 0;
  }

  #watch() {
    const now = performance.now();
    // Timers may be late by any time, as in a laptop that slept: only an unanswered ping counts.
    if (this.#pinged && now - this.#pinged >= PATIENCE) {
      return this.end(broken(`nothing was heard of the daemon for ${QUIET + PATIENCE} ms`));
    }
    if (!this.#pinged && now - this.#heard >= QUIET) {
      this.#pinged = now;
      this.send({ frame: "Ping", request: this.next() });
    }
    this.#timer = setTimeout(() => this.#watch(), 1000);
  }

  /** @param {Frame} frame */
  control(frame) {
    const { request } = frame;
    switch (frame.frame) {
      case "Welcome":
        this.welcome = frame;
        this.run = frame.run;
        this.window = Math.min(frame.limits.window, 1024);
        this.limit = Math.max(Number(frame.limits.payload) + 96, this.limit);
        this.#watch();
        return this.#resolve();
      case "Receipt":
      case "Rejected":
        return this.onreceipt(frame);
      case "Subscribed":
        return this.feeds.get(request)?.subscribed({ run: this.run, position: frame.position });
      case "Top":
      case "Pong":
        return this.#answer(request)?.answer(frame);
      case "Failed":
      case "Ended": {
        this.#answer(request)?.reject(told(frame.code, frame.reason));
        const feed = this.feeds.get(request);
        this.feeds.delete(request);
        return feed?.ended(told(frame.code, frame.reason));
      }
      case "Goodbye":
        return this.end(told(frame.code, frame.reason, frame.retry));
      case "Acknowledge":
      case "Drain":
        return;
      default:
        throw defect(`${frame.frame} on the control stream`);
    }
  }

  /** @param {number} request */
  #answer(request) {
    const question = this.questions.get(request);
    this.questions.delete(request);
    return question;
  }

  /** A stream has come. @param {number} request @param {Source} source */
  attach(request, source) {
    const reader = this.feeds.get(request) ?? this.questions.get(request);
    if (reader) reader.attach(source);
    else source.end(); // Of a subscription that was given up.
  }

  /** The same on a channel that carries everything. @param {number} request */
  open(request) {
    const reader = this.feeds.get(request) ?? this.questions.get(request);
    if (!reader) return null;
    if (!reader.source) reader.attach(new Source(null));
    return reader.source;
  }

  /** @param {Question} question */
  ask(question) {
    const request = this.next();
    this.questions.set(request, question);
    question.asked = performance.now();
    question.source = null;
    this.send(question.frame(request));
  }

  /** @param {Feed} feed */
  subscribe(feed) {
    const request = this.next();
    const frame = encode(feed.frame(request));
    if (frame.length > 1 << 20) {
      throw new WeirError(0x14, `too many topics to resume ${feed.filter}: split the filter`);
    }
    // Before it is asked for: the stream may overtake the answer.
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

  /** @param {Publication} publication */
  publish({ topic, bytes: frame }) {
    if (frame.length > JOIN) return void this.link.alone([topic.declaration, frame]);
    if (!this.declared.has(topic)) {
      this.declared.add(topic);
      this.link.publish(topic.declaration);
    }
    this.link.publish(frame);
  }

  /** @param {WeirError} error */
  end(error) {
    if (this.over) return;
    this.over = error;
    clearTimeout(this.#timer);
    // The daemon is told of what is its fault, and of leaving.
    const code = error.code === MALFORMED || error.code === 0x14 ? error.code : 0;
    this.link.close(code, code ? error.message : "");
    for (const feed of this.feeds.values()) feed.lost();
    this.#reject(error);
    this.onend(error);
  }

  async leave() {
    this.send({ frame: "Goodbye", code: 0, reason: "" });
    // Written first: what is queued when a connection closes is lost.
    await new Promise((resolve) => setTimeout(resolve));
    this.end(closed());
  }
}

/** A Get, Top or Ping: asked again when the session breaks before the answer. */
class Question {
  asked = 0;
  /** @type {Source | null} */
  source = null;
  resolve = (/** @type {any} */ value) => {};
  reject = (/** @type {WeirError} */ error) => {};

  /** @param {(request: number) => Frame} frame @param {(frame: Frame) => any} value */
  constructor(frame, value) {
    this.frame = frame;
    this.value = value;
    /** @type {Promise<any>} */
    this.answered = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  /** @param {Frame} frame */
  answer(frame) {
    try {
      this.resolve(this.value(frame));
    } catch (error) {
      this.reject(asBroken(error));
    }
  }

  /** Without an answer on it the session is about to end. @param {Source} source */
  async attach(source) {
    this.source = source;
    let topic = { topic: "", epoch: 0n };
    try {
      for (;;) {
        await source.more();
        const body = source.take();
        if (!body) return;
        const frame = decode(body);
        if (frame.frame === "Topic") topic = { topic: frame.name, epoch: BigInt(frame.epoch) };
        if (frame.frame === "Message") return this.answer({ ...frame, topic });
      }
    } catch (error) {
      this.reject(asBroken(error));
    }
  }
}

// ---- Subscription ----

/**
 * A subscription through all sessions. It has at most one source, and renews itself (subscribes
 * with the cursors it keeps) whenever it has none and is not subscribed: after a session broke,
 * after the consumer has drained what a WebSocket pushed too fast, after the daemon made room.
 * Cursors move with what the consumer is handed, so whatever is dropped before is asked for again.
 */
class Feed {
  /** In the session that stands; 0: not subscribed there. */
  request = 0;
  /** @type {Source | null} */
  source = null;
  /** Where it first began, for life. @type {{ run: number | bigint, position: any } | null} */
  #since = null;
  /** Cursors by name, and by id on this source. */
  #known = new Map();
  #ids = new Map();
  /** @type {WeirError | null} */
  #ending = null;
  /** @type {WeirError | null} */
  #error = null;
  #over = false;
  #wake = () => {};
  /** @type {Promise<any> | null} */
  #reading = null;
  #ready = () => {};
  #refuse = (/** @type {WeirError} */ error) => {};

  /**
   * @param {() => Session | null} session that stands @param {string} filter @param {any} start
   * @param {string} lag @param {() => void} done
   */
  constructor(session, filter, start, lag, done) {
    this.session = session;
    this.filter = filter;
    this.start = start;
    this.lag = lag;
    this.done = done;
    /** @type {Promise<void>} */
    this.ready = new Promise((resolve, reject) => {
      this.#ready = resolve;
      this.#refuse = reject;
    });
    this.ready.catch(() => {});
  }

  /** @param {number} request @returns {Frame} */
  frame(request) {
    // Latest, Last and Sequence with nothing heard of yet: nothing to resume from.
    const anew = !this.#known.size && this.start !== "New" && this.start !== "All";
    const topics = [...this.#known.values()];
    return {
      frame: "Subscribe", request, filter: this.filter, delivery: "Ordered", deadline: 0,
      start: !this.#since || anew ? this.start : { Resume: { since: this.#since, topics } },
      lag: this.lag,
    };
  }

  /** Subscribes, if there is a session and nothing left of the one before. */
  renew() {
    const session = this.session();
    if (this.source?.ended && this.source.empty) this.source = null;
    if (this.#over || !session || this.request || this.source) return;
    this.#ids.clear();
    try {
      session.subscribe(this);
    } catch (error) {
      this.fail(asBroken(error));
    }
  }

  /** @param {{ run: any, position: any }} since */
  subscribed(since) {
    // No run is named 0: all there is of topics not heard of.
    this.#since ??= this.start === "All" ? { run: 0, position: 0 } : since;
    this.#ready();
    this.#wake();
  }

  /** @param {Source} source */
  attach(source) {
    this.source = source;
    // Over a WebSocket nothing holds the daemon up. Leave, and resume when this has been read.
    source.onfull = () => {
      this.session()?.unsubscribe(this);
      source.end();
    };
    this.#wake();
  }

  /** By the daemon. @param {WeirError} error */
  ended(error) {
    this.request = 0;
    this.#ending = error.code === LAGGED && this.lag !== "Disconnect" ? null : error;
    // What a stream still holds comes first: its own end tells when.
    if (!this.source?.pulled) this.source?.end();
    if (!this.source || (this.source.ended && this.source.empty)) this.#drained();
  }

  /** With the session. What is queued stays: it is handed out before the rest is asked for. */
  lost() {
    this.request = 0;
    this.source?.end();
  }

  #drained() {
    this.source = null;
    const error = this.#ending;
    if (error) this.fail(error);
    else this.renew();
  }

  /** @param {WeirError | null} error null: it was closed */
  fail(error) {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.session()?.unsubscribe(this);
    this.source?.end();
    if (!error) this.source = null;
    this.#refuse(error ?? closed());
    this.done();
    this.#wake();
  }

  /** The next event among the frames that are here. */
  #take() {
    // Until it is known where it began, nothing is handed out: it could not be resumed from there.
    if (!this.source || !this.#since) return null;
    for (let body; (body = this.source.take()); ) {
      const frame = decode(body);
      switch (frame.frame) {
        case "Topic": {
          const { id, name } = frame;
          // A topic that was forgotten and comes back has another id and epoch.
          this.#ids.delete(this.#known.get(name)?.id);
          const cursor = {
            id, topic: name, epoch: BigInt(frame.epoch), next: safe(frame.next),
          };
          this.#known.set(name, cursor);
          this.#ids.set(id, cursor);
          break;
        }
        case "Message":
        case "Gap": {
          const cursor = this.#ids.get(frame.topic);
          const first = frame.sequence ?? frame.first, last = frame.sequence ?? frame.last;
          if (first !== cursor?.next || last < first) {
            throw defect(`sequence ${first} where ${cursor?.next ?? "no topic"} was due`);
          }
          cursor.next = safe(last) + 1;
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

  /** As of an async iterator. @returns {Promise<any>} */
  next() {
    if (this.#reading) {
      const again = () => this.next();
      return this.#reading.then(again, again);
    }
    return (this.#reading = this.#read());
  }

  async #read() {
    try {
      for (;;) {
        let value;
        try {
          value = this.#take();
        } catch (error) {
          this.fail(asBroken(error));
          this.source = null;
        }
        if (value) return { value, done: false };
        const { source } = this;
        if (this.#over) {
          const error = this.#error;
          this.#error = null;
          if (error) throw error;
          return { value: undefined, done: true };
        }
        if (!source || !this.#since) {
          await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
        } else if (source.ended) this.#drained();
        else await source.more();
      }
    } finally {
      // In this order even if nothing was waited for: next() sets it when this has returned.
      queueMicrotask(() => (this.#reading = null));
    }
  }
}

// ---- Client ----

/**
 * @typedef {object} Topic
 * @property {number} alias for the client's life @property {Uint8Array} declaration
 * @property {number} last number given
 * @property {Map<number | bigint, Publication>} waiting sent without an answer, by number
 *
 * @typedef {object} Publication
 * @property {Topic} topic @property {number} number @property {Uint8Array} bytes the frame
 * @property {(receipt: any) => void} resolve @property {(error: WeirError) => void} reject
 */

const IN_FLIGHT = 1024, ALONE = 16; // Publications without an answer; of them on their own streams.
const ALIASES = 4096;

export class Client extends EventTarget {
  #target;
  /** @type {Session | null} */
  #session = null;
  /** The latest that stood. @type {Session} */
  #latest = /** @type {any} */ (null);
  #state = "reconnecting";
  #reason = "";
  /** By name, and by alias. @type {Map<string, Topic>} */
  #topics = new Map();
  /** @type {Topic[]} */
  #aliases = [];
  /** Without an answer, and not sent yet, oldest first. @type {Set<Publication>} */
  #sent = new Set();
  /** @type {Set<Publication>} */
  #unsent = new Set();
  #alone = 0;
  /** @type {Set<Question>} */
  #questions = new Set();
  /** @type {Set<Feed>} */
  #feeds = new Set();
  #failures = 0;
  /** @type {Promise<void> | null} */
  #closing = null;
  // Called when nothing is without an answer, and when connecting again should not wait.
  #settled = () => {};
  #hurry = () => {};

  /** @param {Target} target @param {Won} won */
  constructor(target, won) {
    super();
    this.#target = target;
    this.#adopt(won);
    globalThis.addEventListener?.("online", () => this.#hurry());
  }

  get state() {
    return this.#state;
  }
  get transport() {
    return this.#latest.link.transport;
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

  /** @param {string} name @param {string | ArrayBuffer | ArrayBufferView} payload */
  publish(name, payload) {
    return new Promise((resolve, reject) => {
      if (this.#closing || this.#state === "closed") throw closed();
      const content = typeof payload === "string" ? utf8.encode(payload)
        : ArrayBuffer.isView(payload)
          ? new Uint8Array(payload.buffer, payload.byteOffset, payload.byteLength)
          : payload instanceof ArrayBuffer ? new Uint8Array(payload) : null;
      if (!content) throw new TypeError("a payload is a string, an ArrayBuffer or a view of one");
      if (content.length > this.maxPayload) {
        throw new WeirError(0x22, `a payload of ${content.length} bytes, above the daemon's ` +
          `limit of ${this.maxPayload}: split it`);
      }
      const topic = this.#topic(name), number = ++topic.last;
      const stamp = Math.floor((performance.timeOrigin + performance.now()) * 1000);
      const frame = encodePublish(topic.alias, number, stamp, content);
      this.#unsent.add({ topic, number, bytes: frame, resolve, reject });
      this.#pump();
    });
  }

  /** @param {string} name */
  #topic(name) {
    let topic = this.#topics.get(name);
    if (topic) return topic;
    // Either would cost the session.
    if (utf8.encode(name).length > 255) throw new WeirError(0x20, "a topic above 255 bytes");
    if (this.#aliases.length === ALIASES) {
      throw new WeirError(0x24, `a client publishes to ${ALIASES} topics at most: connect another`);
    }
    const alias = this.#aliases.length, declaration = encode({ frame: "Topic", alias, name });
    topic = { alias, declaration, last: 0, waiting: new Map() };
    this.#topics.set(name, topic);
    this.#aliases.push(topic);
    return topic;
  }

  // Sends what may be sent: never a number a window above the lowest without an answer.
  #pump() {
    const session = this.#session;
    if (!session) return;
    for (const publication of this.#unsent) {
      const { topic, number, bytes: { length } } = publication;
      const lowest = topic.waiting.keys().next().value ?? number;
      if (this.#sent.size >= IN_FLIGHT || number >= lowest + session.window) return;
      if (length > JOIN && ++this.#alone > ALONE) return void this.#alone--;
      this.#unsent.delete(publication);
      this.#sent.add(publication);
      topic.waiting.set(number, publication);
      session.publish(publication);
    }
  }

  /** @param {Frame} frame Receipt or Rejected */
  #answered(frame) {
    const topic = this.#aliases[frame.alias];
    const publication = topic?.waiting.get(frame.number);
    if (!publication) return;
    topic.waiting.delete(frame.number);
    this.#sent.delete(publication);
    if (publication.bytes.length > JOIN) this.#alone--;
    if (frame.frame === "Rejected") publication.reject(told(frame.code, frame.reason));
    else {
      publication.resolve({
        sequence: safe(frame.sequence), count: safe(frame.count), since: millis(frame.since),
        digest: hex(frame.digest), duplicate: frame.duplicate,
      });
    }
    this.#pump();
    if (!this.#sent.size && !this.#unsent.size) this.#settled();
  }

  /** @param {string} filter @param {any} options */
  subscribe(filter, { from = "new", lag = "oldest", signal } = {}) {
    const named = { new: "New", latest: "Latest", all: "All" };
    const last = /^last:(\d+)$/.exec(from);
    const start = typeof from === "number" ? { Sequence: from } : last ? { Last: +last[1] }
      : named[/** @type {keyof typeof named} */ (from)];
    const lags = { oldest: "Oldest", newest: "Newest", disconnect: "Disconnect" };
    const lagged = lags[/** @type {keyof typeof lags} */ (lag)];
    if (!start || !lagged) throw new TypeError(`no such option: from ${from}, lag ${lag}`);
    const close = () => feed.fail(null);
    const done = () => {
      this.#feeds.delete(feed);
      signal?.removeEventListener("abort", close);
    };
    const feed = new Feed(() => this.#session, filter, start, lagged, done);
    this.#feeds.add(feed);
    if (signal?.aborted || this.#closing || this.#state === "closed") close();
    signal?.addEventListener("abort", close);
    feed.renew();
    return {
      ready: feed.ready,
      next: () => feed.next(),
      close,
      async return() {
        close();
        return { value: undefined, done: true };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /** @param {(request: number) => Frame} frame @param {(frame: Frame) => any} value */
  async #ask(frame, value) {
    if (this.#closing || this.#state === "closed") throw closed();
    const question = new Question(frame, value);
    this.#questions.add(question);
    this.#session?.ask(question);
    try {
      return await question.answered;
    } finally {
      this.#questions.delete(question);
    }
  }

  /** @param {string} topic @param {{ sequence?: number, digest?: string }} which */
  get(topic, { sequence, digest: hash } = {}) {
    const which = hash !== undefined ? { Digest: unhex(hash) }
      : sequence !== undefined ? { Sequence: sequence } : "Latest";
    return this.#ask(
      (request) => ({ frame: "Get", request, topic, which }),
      (frame) => new Message(frame.topic, frame),
    );
  }

  /** @param {string} topic */
  top(topic, k = 10) {
    return this.#ask(
      (request) => ({ frame: "Top", request, topic, k }),
      ({ entries }) => entries.map((/** @type {any} */ entry) => ({
        digest: hex(entry.digest), count: safe(entry.count), since: millis(entry.since),
        sequence: safe(entry.sequence), size: safe(entry.size),
        payload: entry.payload?.slice() ?? null,
        text() {
          return this.payload && lenient.decode(this.payload);
        },
      })),
    );
  }

  ping() {
    let asked = 0;
    return this.#ask(
      (request) => {
        asked = performance.now();
        return { frame: "Ping", request };
      },
      () => performance.now() - asked,
    );
  }

  close() {
    return (this.#closing ??= this.#leave());
  }

  async #leave() {
    for (const feed of [...this.#feeds]) feed.fail(null);
    if (this.#sent.size || this.#unsent.size) {
      await within(this.#target.timeout, new Promise((resolve) => {
        this.#settled = () => resolve(undefined);
      })).catch(() => {});
    }
    const session = this.#session;
    this.#finish(closed());
    await session?.leave();
  }

  /** @param {Won} won */
  #adopt({ session, reason }) {
    this.#session = this.#latest = session;
    this.#reason = reason;
    session.onreceipt = (frame) => this.#answered(frame);
    session.onend = (error) => this.#lost(error);
    // With their numbers of before: the daemon counts none twice.
    for (const publication of this.#sent) session.publish(publication);
    this.#pump();
    for (const question of this.#questions) session.ask(question);
    for (const feed of this.#feeds) feed.renew();
    this.#become("open", reason, null);
    if (session.over) this.#lost(session.over);
  }

  /** @param {WeirError} error */
  #lost(error) {
    const { since } = this.#latest;
    this.#session = null;
    if (this.#state === "closed") return;
    if (!error.retry || !this.#target.reconnect) return this.#finish(error);
    if (performance.now() - since > 5000) this.#failures = 0;
    this.#become("reconnecting", error.message, error.code);
    this.#reconnect();
  }

  async #reconnect() {
    while (this.#state === "reconnecting") {
      const longest = Math.min(250 * 2 ** this.#failures++, 10_000);
      const hurry = new Promise((resolve) => (this.#hurry = () => resolve(undefined)));
      await within(longest * (0.5 + Math.random() / 2), hurry).catch(() => {});
      if (this.#state !== "reconnecting") return;
      try {
        const won = await race(this.#target);
        if (this.#state !== "reconnecting") return void won.session.leave();
        return this.#adopt(won);
      } catch (error) {
        if (!(error instanceof WeirError && error.retry)) return this.#finish(asBroken(error));
      }
    }
  }

  /** @param {WeirError} error */
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
    for (const feed of [...this.#feeds]) feed.fail(error);
  }

  /** @param {string} state @param {string} reason @param {number | null} code */
  #become(state, reason, code) {
    this.#state = state;
    const detail = { state, transport: this.transport, reason, code };
    this.dispatchEvent(new CustomEvent("state", { detail }));
  }
}

// ---- Connecting ----

/**
 * @typedef {object} Target what to connect to, and how
 * @property {URL} base @property {Frame} hello @property {string} transport
 * @property {{ hashes: Uint8Array[], port?: number, path?: string } | null} certificate
 * @property {string[] | undefined} pinned @property {number | undefined} port
 * @property {number} fallbackAfter @property {number} timeout @property {boolean} reconnect
 *
 * @typedef {{ session: Session, reason: string }} Won
 */

/** @param {string} text */
const unhex = (text) => {
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw new TypeError(`not hex: ${text}`);
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
};

/** @template T @param {number} ms @param {Promise<T>} promise @returns {Promise<T>} */
const within = (ms, promise) => {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new WeirError(null, `no answer within ${ms} ms`, "timed_out",
      true)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

// What the daemon says of its WebTransport; nothing if it cannot be asked.
/** @param {Target} target */
const ask = async ({ base, pinned }) => {
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
 * @param {Target} target @returns {Promise<Won>}
 */
const race = (target) => new Promise((resolve, reject) => {
  const { base, transport, fallbackAfter, timeout } = target;
  /** @type {Set<Session>} */
  const sessions = new Set();
  /** @type {string[]} */
  const failures = [];
  let running = 0, over = false, socket = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let fallback;

  /** @param {WeirError | null} error @param {Won} [won] */
  const settle = (error, won) => {
    if (over) return;
    over = true;
    clearTimeout(fallback);
    clearTimeout(deadline);
    for (const session of sessions) if (session !== won?.session) session.end(closed());
    if (won) resolve(won);
    else reject(error);
  };

  /** @param {(session: Session) => any} open */
  const greet = async (open) => {
    const session = new Session(open, target.hello);
    sessions.add(session);
    if (over) session.end(closed());
    await session.welcomed;
    return session;
  };

  /**
   * @param {() => Promise<Session>} dial @param {string} reason
   * @param {(why: string) => void} [next]
   */
  const attempt = async (dial, reason, next) => {
    running++;
    try {
      settle(null, { session: await dial(), reason });
    } catch (error) {
      running--;
      if (over) return;
      // The daemon has spoken: it would say the same over the other.
      if (error instanceof WeirError && error.code !== null) return settle(error);
      failures.push(words(error));
      next?.(words(error));
      if (!running) {
        settle(new WeirError(null, `cannot reach ${base.origin}: ${failures.join("; ")}`,
          "unreachable", true));
      }
    }
  };

  /** @returns {Promise<Session>} */
  const webTransport = async () => {
    if (!("WebTransport" in globalThis)) {
      throw broken(globalThis.isSecureContext === false
        ? "browsers offer WebTransport only to pages from https or localhost"
        : "this browser has no WebTransport");
    }
    const known = target.certificate;
    const { hashes, port, path } = (target.certificate ??= await ask(target));
    const url = new URL(path ?? "/weir", base);
    url.protocol = "https:";
    url.port = String(target.port ?? port ?? url.port);
    try {
      return await greet((session) => new WebTransportLink(url.href, hashes, session));
    } catch (error) {
      if (error instanceof WeirError && error.code !== null) throw error;
      // The certificate may have changed since it was asked for.
      target.certificate = null;
      if (known?.hashes.length && !target.pinned && !over) return webTransport();
      throw broken(`WebTransport failed: ${words(error)}`);
    }
  };

  const webSocket = (/** @type {string} */ reason) => {
    if (socket || over) return;
    socket = true;
    const url = new URL("/weir", base);
    url.protocol = base.protocol.replace("http", "ws");
    attempt(() => greet((session) => new WebSocketLink(url.href, session)), `WebSocket: ${reason}`);
  };

  const deadline = setTimeout(() => settle(new WeirError(null,
    `${base.origin} did not answer within ${timeout} ms`, "timed_out", true)), timeout);
  if (transport === "websocket") return webSocket("as asked for");
  const auto = transport === "auto";
  if (auto) {
    fallback = setTimeout(() => webSocket(`no answer over UDP within ${fallbackAfter / 1000} s`),
      fallbackAfter);
  }
  attempt(webTransport, "WebTransport", auto ? webSocket : undefined);
});

/**
 * @param {string | URL} [url] @param {any} [options]
 * @returns {Promise<Client>}
 */
export const connect = async (url = new URL(import.meta.url).origin, options = {}) => {
  const base = URL.canParse?.(url) === false ? null : new URL(url);
  if (!base || !/^https?:$/.test(base.protocol)) {
    throw new WeirError(null, `not an address: ${url}: it begins with https:// or http://`,
      "unreachable", false);
  }
  /** @type {Target} */
  const target = {
    base, certificate: null, pinned: options.certificateHashes, port: options.webTransportPort,
    transport: options.transport ?? "auto", fallbackAfter: options.fallbackAfter ?? 1500,
    timeout: options.timeout ?? 10_000, reconnect: options.reconnect ?? true,
    hello: {
      frame: "Hello", version: 1, producer: crypto.getRandomValues(new Uint8Array(16)),
      token: options.token ?? null, agent: "weir-js/0.1.0",
    },
  };
  return new Client(target, await race(target));
};
