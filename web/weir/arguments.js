// Checks and converts the arguments of a client's methods.

import { toUtf8 } from "./bytes.js";
import { check, refuseUnknown } from "./errors.js";

/** @import * as api from "../weir.js" */

/** Returns the bytes of a payload, without a copy. @param {any} payload */
export const toPayload = (payload) => {
  const given = typeof payload === "string" ? toUtf8(payload) : payload;
  const { buffer = given, byteOffset, byteLength } = given ?? {};
  // An ArrayBuffer of another frame of the page is not an instance of this frame's class.
  check(ArrayBuffer.isView(given) || /ArrayBuffer]$/.test({}.toString.call(given)),
    "a payload is a string, an ArrayBuffer or a view");
  return new Uint8Array(buffer, byteOffset, byteLength);
};

// Option "latest" is variant "Latest".
const toVariant = (/** @type {any} */ option) => String(option).replace(/^./, (first) => first.toUpperCase());

/**
 * Returns the fields of a Subscribe. Its encoding checks them.
 *
 * @param {string} filter @param {api.SubscribeOptions} options
 */
export const toSubscribe = (filter, options) => {
  const { from = "new", lag = "oldest", delivery = "ordered", deadline = 0, signal, ...rest } = options;
  refuseUnknown(rest);
  const last = /^last:(\d+)$/.exec(String(from));
  return {
    filter,
    start: Number.isSafeInteger(from) ? { Sequence: from }
      : last ? { Last: +last[1] } : toVariant(from),
    lag: toVariant(lag),
    delivery: toVariant(delivery),
    deadline: delivery === "realtime" ? deadline : 0,
  };
};

/** Throws a TypeError for a time that a timer does not take. @param {number[]} times */
export const checkTimes = (...times) =>
  check(times.every((ms) => ms >= 0 && ms < 2 ** 31), "times are in ms, below 2^31");
