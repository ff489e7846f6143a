// Messages as a page receives them, and the numbers in them.

import { detach, fromUtf8, toHex } from "./bytes.js";
import { malformed } from "./errors.js";

/** Returns a u64 as a number; throws above 2^53 - 1. @param {number | bigint} n @returns {number} */
export const toSafeInteger = (n) =>
  typeof n === "number" ? n : malformed("a number above 2^53 - 1");

/** Returns µs as ms, with fraction; null for 0, which stands for unknown. @param {number | bigint} micros */
export const toMilliseconds = (micros) => (micros ? Number(micros) / 1000 : null);

/** Returns the fields that a receipt and a ranking share, as a page reads them. @param {any} fields */
export const toReadable = ({ sequence, count, since, digest, ...rest }) => ({
  ...rest,
  sequence: toSafeInteger(sequence),
  count: toSafeInteger(count),
  since: toMilliseconds(since),
  digest: toHex(digest),
});

/** One publication. weir.d.ts describes the fields. */
export class Message {
  /** @param {{ topic: string, epoch: bigint }} topic @param {any} frame a `Message` frame */
  constructor({ topic, epoch }, { sequence, count, stamp, payload }) {
    /** @type {"message"} */
    this.kind = "message";
    this.topic = topic;
    this.epoch = epoch;
    this.sequence = toSafeInteger(sequence);
    this.count = toSafeInteger(count);
    this.stamp = toMilliseconds(stamp);
    this.payload = /** @type {Uint8Array} */ (detach(payload));
  }
  text() {
    return fromUtf8(this.payload);
  }
  json() {
    return JSON.parse(this.text());
  }
}
