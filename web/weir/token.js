// Fetches tokens: calls the function that the page gave.

import { checkText } from "./codec/postcard.js";
import { WeirError, textOf } from "./errors.js";

/** @import * as api from "../weir.js" */

/** @typedef {() => Promise<string>} NextToken */

/**
 * Returns a function that fetches a token. Calls that overlap share one call of the page's function.
 * Every failure becomes a WeirError that has it as its cause.
 *
 * @param {api.TokenFunction} fetchToken @param {number} timeout when its signal aborts, in ms
 * @returns {NextToken}
 */
export const tokenSource = (fetchToken, timeout) => {
  /** The call that has not ended. @type {Promise<string> | null} */
  let pending = null;
  return async () => {
    try {
      const token = await (pending ??= (async () => fetchToken(AbortSignal.timeout(timeout)))());
      checkText(token);
      return token;
    } catch (cause) {
      throw Object.assign(new WeirError(null, `no token: ${textOf(cause)}`, "unauthorized+"), { cause });
    } finally {
      pending = null;
    }
  };
};
