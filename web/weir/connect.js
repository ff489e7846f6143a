// `connect`: checks the options, dials, and returns a client.

import { checkTimes } from "./arguments.js";
import { fromHex } from "./bytes.js";
import { Client } from "./client.js";
import { encode } from "./codec/frames.js";
import { dialer } from "./dial.js";
import { check, refuseUnknown, unreachable } from "./errors.js";
import { tokenSource } from "./token.js";
import { backOff } from "./util.js";

/** @import * as api from "../weir.js" */

const AGENT = "weir-js/0.1.0";
const PROTOCOL_VERSION = 1;

/**
 * @param {string | URL} [url] @param {api.ConnectOptions} [options]
 * @returns {Promise<Client>}
 */
export const connect = async (url = new URL(".", import.meta.url), options = {}) => {
  const { token = null, transport = "auto", certificateHashes, webTransportPort,
    fallbackAfter = 1500, timeout = 10_000, reconnect = true, wait, signal, ...rest } = options;
  if (!/^https?:/.test(/** @type {any} */ (url))) throw unreachable(`not https://host:port: ${url}`, false);
  // Behind a proxy the daemon may be below a path.
  const base = new URL(`${url}`.replace(/\/?$/, "/"));
  refuseUnknown(rest);
  check(["auto", "webtransport", "websocket"].includes(transport), `no such transport: ${transport}`);
  // Throws for what is not a hash.
  for (const hash of certificateHashes ?? []) fromHex(hash);
  check(webTransportPort === undefined || (webTransportPort > 0 && webTransportPort < 65536),
    `no port: ${webTransportPort}`);
  checkTimes(fallbackAfter, timeout);
  const producer = crypto.getRandomValues(new Uint8Array(16));
  const nextToken = typeof token === "function" && tokenSource(token, timeout);
  const hello = {
    frame: "Hello", version: PROTOCOL_VERSION, producer, token: nextToken ? null : token, agent: AGENT,
  };
  // Throws for a token that is not text.
  encode(hello);
  const dial = dialer({
    base, hello, nextToken, transport, certificateHashes, webTransportPort, fallbackAfter, timeout,
  });
  for (let attempts = 0; ; await backOff(attempts++, signal)) {
    signal?.throwIfAborted();
    try {
      return new Client(dial, await dial(signal), { timeout, reconnect, transport });
    } catch (/** @type {any} */ error) {
      if (!wait || !error.retry) throw error;
    }
  }
};
