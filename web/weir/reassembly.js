// Large messages: Begin, Chunks and End become one Message frame.

import { malformed } from "./errors.js";

/** @import { Frame } from "./codec/frames.js" */

/** Puts the large messages of one stream together, one after the other. */
export class Reassembly {
  /** The message that is arriving. @type {Frame | null} */
  #message = null;
  /** Bytes of it that are missing. */
  #left = 0;

  /** @param {number} limit maximum size of a payload, in bytes */
  constructor(limit) {
    this.limit = limit;
  }

  /**
   * Takes the next frame of the stream. Returns the complete message for the End of one, and any
   * other frame as it is.
   *
   * @param {Frame} frame @returns {Frame}
   */
  push(frame) {
    const { frame: kind, size, bytes, digest, count } = frame, message = this.#message;
    // Begin has a size, Chunk has bytes, End has a digest.
    if (size <= this.limit) {
      this.#message = { ...frame, frame: "Message", payload: new Uint8Array(size) };
      this.#left = size;
    } else if (message && bytes?.length <= this.#left) {
      message.payload.set(bytes, message.size - this.#left);
      this.#left -= bytes.length;
    } else if (kind === "Abort" || (message && digest && !this.#left)) {
      this.#message = null;
      if (digest) return /** @type {Frame} */ ({ ...message, count });
    } else if (size ?? bytes ?? digest) malformed(`${kind} out of place`);
    return frame;
  }
}
