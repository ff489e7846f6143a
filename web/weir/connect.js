// `connect`: checks the options, dials, and returns a client.

import { checkConnect } from "./arguments.js";
import { Client } from "./client.js";
import { encode } from "./codec/frames.js";
import { dialer } from "./dial.js";
import { refuseUnknown, unreachable } from "./errors.js";
import { backOff } from "./util.js";

/** @import * as api from "../weir.js" */

const AGENT = "weir-js/0.1.0";
const PROTOCOL_VERSION = 1;

/**
 * @param {string | URL} [url] @param {api.ConnectOptions} [options]
 * @returns {Promise<Client>}
 */
export const connect = async (url = new URL(import.meta.url).origin, options = {}) => {
  const { token = null, transport = "auto", certificateHashes, webTransportPort,
    fallbackAfter = 1500, timeout = 10_000, reconnect = true, wait = false, signal, ...rest } = options;
  /** @type {any} */
  let base;
  try {
    base = new URL(url);
  } catch {
    // The error below names it.
  }
  if (!/^https?:/.test(base)) {
    throw unreachable(`not a daemon's address: ${url}: say https://host:port`, false);
  }
  refuseUnknown(rest);
  checkConnect({ transport, certificateHashes, webTransportPort, times: [fallbackAfter, timeout] });
  const producer = crypto.getRandomValues(new Uint8Array(16));
  const hello = { frame: "Hello", version: PROTOCOL_VERSION, producer, token, agent: AGENT };
  // Throws for a token that is not text.
  encode(hello);
  const dial = dialer({
    base, hello, transport, certificateHashes, webTransportPort, fallbackAfter, timeout,
  });
  for (let attempts = 0; ; ) {
    signal?.throwIfAborted();
    try {
      return new Client(dial, await dial(signal), { timeout, reconnect, auto: transport === "auto" });
    } catch (/** @type {any} */ error) {
      if (!wait || !error.retry) throw error;
    }
    await backOff(attempts++, signal);
  }
};
