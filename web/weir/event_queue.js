// The events of a subscription that the page has not taken yet.

import { BUFFER_BYTES, BUFFER_MESSAGES } from "./limits.js";
import { noop } from "./util.js";

/** Memory of an event without a payload, in bytes: an estimate. */
const EVENT_BYTES = 64;

const sizeOf = ({ payload = "" }) => EVENT_BYTES + payload.length;

/**
 * A queue that an async iterator reads. Its limits are soft: the subscription, which extends it,
 * observes them.
 */
export class EventQueue {
  #events = [];
  #bytes = 0;
  /** Makes a waiting read look again. */
  lookAgain = noop;
  /** The error that ended it, or null if the page did; undefined while it is open. */
  #end;
  /** The last read; the next one waits for it. @type {Promise<any>} */
  #reading = Promise.resolve();

  get isEmpty() {
    return !this.#events.length;
  }

  get isOver() {
    return this.#end !== undefined;
  }

  /** Whether streams must wait. A single message may be larger than the whole buffer. */
  get full() {
    return this.#bytes > BUFFER_BYTES && this.#events.length > 1;
  }

  /** Whether the queue holds more than this share of its limits. @param {number} share */
  exceeds(share) {
    return this.#bytes > BUFFER_BYTES * share || this.#events.length >= BUFFER_MESSAGES * share;
  }

  push(event) {
    this.#events.push(event);
    this.#bytes += sizeOf(event);
    this.lookAgain();
  }

  clear() {
    this.#events = [];
    this.#bytes = 0;
  }

  /** Ends the queue. With an error, its events can still be read; with null they are discarded. */
  end(error) {
    this.#end = error;
    if (!error) this.clear();
    this.lookAgain();
  }

  /** Returns the next event. Calls are answered in their order. @returns {Promise<any>} */
  next() {
    const read = () => this.#read();
    return (this.#reading = this.#reading.then(read, read));
  }

  /** @this {any} A subscription: it has `isReady`, `taken` and `renew`. */
  async #read() {
    for (;;) {
      const value = this.isReady() && this.#events.shift();
      if (value) {
        this.#bytes -= sizeOf(value);
        this.taken();
        return { value, done: false };
      }
      if (this.isOver) {
        const error = this.#end;
        // It is thrown once.
        this.#end = null;
        if (error) throw error;
        return { value: undefined, done: true };
      }
      this.renew();
      await new Promise((resolve) => (this.lookAgain = resolve));
    }
  }
}
