// Joins small frames into few writes.

import { concat } from "../bytes.js";
import { WRITE_BYTES } from "../limits.js";

/**
 * Returns a function that queues a frame. Frames that are queued in one microtask, or during a
 * write, go out in one write of at most 64 KiB. A larger frame is a write of its own.
 *
 * @param {(bytes: Uint8Array) => Promise<void>} write
 * @param {(error: any) => void} fail called when a write fails
 */
export const outbox = (write, fail) => {
  /** @type {Uint8Array[]} */
  const queue = [];
  let busy = false;
  const run = async () => {
    while (queue.length) {
      let count = 0, size = 0;
      do size += queue[count++].length;
      while (count < queue.length && size + queue[count].length <= WRITE_BYTES);
      await write(concat(queue.splice(0, count)));
    }
    busy = false;
  };
  return (/** @type {Uint8Array} */ frame) => {
    queue.push(frame);
    if (!busy) queueMicrotask(() => run().catch(fail));
    busy = true;
  };
};
