// Postcard, the encoding of the frames: integers, bytes, text, and what is built from them.
//
// A u64 is a number up to 2^53 - 1 and a bigint above. No value has two representations, so `===`
// and the keys of a Map compare values.

import { toUtf8 } from "../bytes.js";
import { BUFFER_BYTES } from "../limits.js";
import { malformed } from "../errors.js";

/** @typedef {{ write: (writer: Writer, value: any) => void, read: (reader: Reader) => any }} Type */

const INITIAL_BYTES = 4096;
/** Maximum size of a frame's length. */
const LENGTH_BYTES = 5;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Writes one frame after the other, each into the same buffer, which grows as needed. */
export class Writer {
  #buffer = new Uint8Array(INITIAL_BYTES);
  #end = 0;

  /** Starts a frame. Its length comes first, and is known last. */
  begin() {
    this.#end = LENGTH_BYTES;
  }

  #grow(size) {
    const needed = this.#end + size, old = this.#buffer;
    if (needed <= old.length) return;
    this.#buffer = new Uint8Array(2 * needed);
    this.#buffer.set(old);
  }

  /** Appends bytes. @param {ArrayLike<number>} bytes */
  put(bytes) {
    this.#grow(bytes.length);
    this.#buffer.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** Appends an unsigned integer of up to so many bits. @param {any} value @param {number} bits */
  varint(value, bits) {
    let n = typeof value === "number" ? BigInt(value) : value;
    if (n >> BigInt(bits)) throw new RangeError(`${value} is no u${bits}`);
    this.#grow(10);
    for (; n > 127n; n >>= 7n) this.#buffer[this.#end++] = Number(n & 127n) | 128;
    this.#buffer[this.#end++] = Number(n);
  }

  /** Returns the frame with its length in front. A large buffer is released. */
  finish() {
    const end = this.#end, buffer = this.#buffer;
    this.#end = 0;
    this.varint(end - LENGTH_BYTES, 32);
    const start = LENGTH_BYTES - this.#end;
    buffer.copyWithin(start, 0, this.#end);
    if (end > BUFFER_BYTES) this.#buffer = new Uint8Array(INITIAL_BYTES);
    return buffer.slice(start, end);
  }
}

/** Reads from the bytes of one frame, or of the part of a stream that has arrived. */
export class Reader {
  /** Position of the next byte. */
  at = 0;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
  }

  /** Bytes that were not read yet. */
  get left() {
    return this.bytes.length - this.at;
  }

  /** Throws if fewer bytes are left. @param {number | bigint} size */
  need(size) {
    if (size > this.left) malformed("too short");
  }

  /** Returns a view of the next bytes. @param {number | bigint} size */
  take(size) {
    this.need(size);
    return this.bytes.subarray(this.at, (this.at += Number(size)));
  }

  /** Returns an unsigned integer of up to so many bits. @param {number} bits @returns {any} */
  varint(bits) {
    const { bytes, at: start } = this;
    let n = 0, scale = 1, byte = 0x80;
    for (; byte >= 0x80; scale *= 128) {
      this.need(1);
      if (this.at - start > bits / 7) malformed("a number too long");
      byte = bytes[this.at++];
      n += (byte & 0x7f) * scale;
    }
    if (n < 2 ** Math.min(bits, 53)) return n;
    let big = 0n;
    for (let i = this.at; i-- > start; ) big = (big << 7n) | BigInt(bytes[i] & 0x7f);
    return big >> BigInt(bits) ? malformed("a number too long") : big;
  }
}

/** An unsigned integer. @param {number} bits @returns {Type} */
const uint = (bits) => ({
  write: (writer, value) => writer.varint(value, bits),
  read: (reader) => reader.varint(bits),
});
export const u32 = uint(32), u64 = uint(64);

/** Bytes: so many, or any number after their length. @param {number} [size] @returns {Type} */
export const byteArray = (size) => ({
  write(writer, value) {
    if (size === undefined) u64.write(writer, value.length);
    else if (value.length !== size) throw new RangeError(`${value.length} bytes, not ${size}`);
    writer.put(value);
  },
  read: (reader) => reader.take(size ?? u64.read(reader)),
});
export const bytes = byteArray();

/** Throws a TypeError for anything but text. @param {any} value */
export const checkText = (value) => {
  if (typeof value !== "string") throw new TypeError(`no text: ${value}`);
};

/** Text in UTF-8. @type {Type} */
export const str = {
  write(writer, value) {
    checkText(value);
    bytes.write(writer, toUtf8(value));
  },
  read(reader) {
    const view = bytes.read(reader);
    try {
      return utf8.decode(view);
    } catch {
      malformed("not UTF-8");
    }
  },
};

/** @type {Type} */
export const bool = {
  write: (writer, value) => writer.put([+value]),
  read(reader) {
    const [byte] = reader.take(1);
    return byte < 2 ? byte === 1 : malformed("not a bool");
  },
};

/** A value or null. @param {Type} item @returns {Type} */
export const option = (item) => ({
  write(writer, value) {
    bool.write(writer, value !== null);
    if (value !== null) item.write(writer, value);
  },
  read: (reader) => (bool.read(reader) ? item.read(reader) : null),
});

/** An array of any length. @param {Type} item @returns {Type} */
export const list = (item) => ({
  write(writer, values) {
    u64.write(writer, values.length);
    for (const value of values) item.write(writer, value);
  },
  read(reader) {
    const length = u64.read(reader);
    // Each item has at least one byte. Without this check a few bytes could demand a huge array.
    reader.need(length);
    return Array.from({ length }, () => item.read(reader));
  },
});

/**
 * An object with the fields of the table, in this order. For an array of types, a tuple.
 *
 * @param {Record<string, Type> | Type[]} table @returns {Type}
 */
export const struct = (table) => {
  const fields = Object.entries(table);
  return {
    write(writer, value) {
      for (const [name, type] of fields) type.write(writer, value[name]);
    },
    read(reader) {
      /** @type {any} */
      const value = Array.isArray(table) ? [] : {};
      for (const [name, type] of fields) value[name] = type.read(reader);
      return value;
    },
  };
};

/**
 * One of the variants of the table: `"Variant"`, or `{ Variant: value }` for one with a type.
 *
 * @param {Record<string, Type | null>} table
 * @param {string} [unknown] the value of other variants; without it they are an error
 * @returns {Type}
 */
export const choice = (table, unknown) => {
  const names = Object.keys(table);
  return {
    write(writer, value) {
      const name = typeof value === "string" ? value : Object.keys(value)[0];
      if (!names.includes(name)) throw new TypeError(`no such value: ${name}`);
      u32.write(writer, names.indexOf(name));
      table[name]?.write(writer, value[name]);
    },
    read(reader) {
      const name = names[u32.read(reader)] ?? unknown ?? malformed("no such variant"), type = table[name];
      return type ? { [name]: type.read(reader) } : name;
    },
  };
};
