// Cuts a stream of bytes into the bodies of its frames.

import { concat } from "../bytes.js";
import { FRAME_TOO_LARGE, checkSize, malformed } from "../errors.js";
import { FRAME_BYTES } from "../limits.js";
import { Reader } from "./postcard.js";

/** Cuts a stream into frames. A frame that lies in one chunk is not copied. */
export class FrameReader {
  /** Bytes that arrived and were not returned yet. @type {Uint8Array} */
  #rest = new Uint8Array();

  /** @param {number} limit maximum size of a body, in bytes */
  constructor(limit = FRAME_BYTES) {
    this.limit = limit;
  }

  /** Whether a frame has begun and is not complete. */
  get partial() {
    return this.#rest.length > 0;
  }

  /** Adds a chunk. `next` must have returned null before. @param {Uint8Array} chunk */
  push(chunk) {
    this.#rest = this.partial ? concat([this.#rest, chunk]) : chunk;
  }

  /** Returns the body of the next complete frame, or null. @returns {Uint8Array | null} */
  next() {
    const rest = this.#rest, reader = new Reader(rest);
    // The length itself is incomplete.
    if (rest.length < 5 && rest.every((byte) => byte >= 0x80)) return null;
    const size = reader.varint(32);
    if (!rest[reader.at - 1]) malformed("a bad length");
    checkSize(FRAME_TOO_LARGE, size, this.limit);
    if (reader.left < size) return null;
    const body = reader.take(size);
    this.#rest = rest.subarray(reader.at);
    return body;
  }
}
