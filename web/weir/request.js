// Get, Top and Ping.

import { fromHex, fromUtf8 } from "./bytes.js";
import { WeirError, refuseUnknown } from "./errors.js";
import { Message, toReadable, toSafeInteger } from "./message.js";
import { Reassembly } from "./reassembly.js";
import { deferred, noop } from "./util.js";

/** @import * as api from "../weir.js" */
/** @import { Frame } from "./codec/frames.js" */
/** @import { Session, Target } from "./session.js" */

/**
 * A frame that asks, and the value of its answer.
 *
 * @template T
 * @typedef {{ frame: (request: number) => Frame, value: (answer: any) => T }} Question
 */

/**
 * One message from the cache.
 *
 * @param {string} topic @param {{ sequence?: number, digest?: string }} [which]
 * @returns {Question<api.Message>}
 */
export const get = (topic, { sequence, digest, ...rest } = {}) => {
  refuseUnknown(rest);
  const which = digest !== undefined ? { Digest: fromHex(digest) }
    : sequence !== undefined ? { Sequence: sequence } : "Latest";
  return {
    frame: (request) => ({ frame: "Get", request, topic, which }),
    value: (answer) => new Message(answer.topic, answer),
  };
};

/** The payloads published most. @param {string} topic @param {number} k @returns {Question<api.Ranking[]>} */
export const top = (topic, k) => ({
  frame: (request) => ({ frame: "Top", request, topic, k }),
  value: ({ entries }) => entries.map(({ size, payload, ...entry }) => ({
    ...toReadable(entry),
    size: toSafeInteger(size),
    payload: payload && payload.slice(),
    text() {
      return this.payload && fromUtf8(this.payload);
    },
  })),
});

/** The round trip, in ms. @returns {Question<number>} */
export const ping = () => {
  let sent = 0;
  return {
    frame(request) {
      sent = performance.now();
      return { frame: "Ping", request };
    },
    value: () => performance.now() - sent,
  };
};

/**
 * A question that waits for its answer. If the session breaks before, the next one repeats it.
 *
 * @implements {Target}
 */
export class Request {
  request = 0;
  sessionLost = noop;
  /** The message that is arriving, and its topic. @type {any} */
  #reassembly;
  #topic;
  #answer = deferred();
  /** @type {Promise<any>} */
  answered = this.#answer.promise;
  /** @type {(error: any) => void} */
  fail = this.#answer.reject;
  ended = this.fail;

  /** @param {() => Session | null} session @param {Question<any>} question */
  constructor(session, { frame, value }) {
    this.session = session;
    this.frame = frame;
    this.value = value;
  }

  renew() {
    const session = this.session();
    if (!session) return;
    this.#reassembly = new Reassembly(session.welcome.limits.payload);
    session.begin(this);
  }

  answer(answer) {
    this.#answer.resolve(this.value(answer));
  }

  open() {
    return this;
  }

  /** @param {Frame} part */
  take(part) {
    const frame = this.#reassembly.push(part), { name, epoch, payload, code } = frame;
    if (name) this.#topic = { topic: name, epoch: BigInt(epoch) };
    else if (payload) this.answer({ ...frame, topic: this.#topic });
    else if (code) this.fail(new WeirError(code, ""));
  }
}
