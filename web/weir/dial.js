// Opens a session: WebTransport, and WebSocket where that fails or takes long.

import { fromHex } from "./bytes.js";
import { fetchFacts } from "./certificate.js";
import {
  WeirError, clientClosed, connectionBroken, sentByDaemon, textOf, unreachable,
} from "./errors.js";
import { Session } from "./session.js";
import { openWebSocket } from "./transports/websocket.js";
import { openWebTransport } from "./transports/webtransport.js";
import { deferred, listen, noop, sleep } from "./util.js";

/** @import { Frame } from "./codec/frames.js" */
/** @import { NextToken } from "./token.js" */
/** @import { Link, LinkEvents } from "./transports/link.js" */

/**
 * @typedef {(signal?: AbortSignal, transport?: string) => Promise<Session>} Dial over this transport,
 *   or over that of the options
 *
 * @typedef {object} DialOptions those of `connect`, all given
 * @property {URL} base
 * @property {Frame} hello
 * @property {NextToken | false} nextToken fetches a token for each attempt
 * @property {string} transport
 * @property {string[]} [certificateHashes]
 * @property {number} [webTransportPort]
 * @property {number} fallbackAfter
 * @property {number} timeout
 *
 * @typedef {{ hashes: string[], port?: number, path?: string }} Endpoint of WebTransport
 */

/** Time for a violation of the page's policy to be reported, in ms: its event follows the failure. */
const VIOLATION_GRACE = 10;

/**
 * Returns a function that opens a session, as often as it is called. One call is one attempt over all
 * transports. The first session that is welcomed wins, and ends the others.
 *
 * @param {DialOptions} options @returns {Dial}
 */
export const dialer = ({
  base, hello, nextToken, transport: preferred, certificateHashes, webTransportPort, fallbackAfter, timeout,
}) => {
  /** WebTransport, as the daemon described it. @type {Endpoint | null} */
  let endpoint = null;
  // Asks the daemon, each time again: its answer of before may be old.
  const inquire = () => fetchFacts(base, certificateHashes);

  return (signal, transport = preferred) => {
    const { promise, resolve, reject } = deferred();
    /** @type {Session[]} */
    const sessions = [];
    /** @type {string[]} */
    const failures = [];
    const timers = [];
    /** Transports that are being tried. */
    let running = 0;
    let isOver = false, fellBack = false;
    /** Whether the page's policy forbids the connection. */
    let isBlocked = false;

    const after = (ms, act) => timers.push(setTimeout(act, ms));

    // The first call decides.
    const settle = (error, winner) => {
      if (isOver) return;
      isOver = true;
      timers.forEach(clearTimeout);
      for (const stop of stops) stop();
      for (const session of sessions) if (session !== winner) session.end(clientClosed());
      if (winner) resolve(winner);
      else reject(error);
    };

    const fail = (why, retry = false) => settle(unreachable(`cannot reach ${base}: ${why}`, retry));

    /** @param {(session: LinkEvents) => Link} openLink */
    const greet = (openLink) => {
      if (isOver) throw clientClosed();
      const session = new Session(openLink, hello, nextToken);
      sessions.push(session);
      return session.welcomed;
    };

    const attempt = async (open, reason, onFailure) => {
      running++;
      try {
        const session = await open();
        session.reason = reason;
        settle(null, session);
      } catch (error) {
        running--;
        if (isOver) return;
        // The daemon itself refuses: it would refuse over the other transport too.
        if (sentByDaemon(error)) return settle(error);
        const why = textOf(error);
        failures.push(why);
        onFailure(why);
        if (!running) explain();
      }
    };

    // Every transport failed: finds the reason.
    const explain = async () => {
      try {
        const { current, problem } = await inquire();
        await sleep(VIOLATION_GRACE);
        const cause = isBlocked ? "this page's Content-Security-Policy blocks it: " +
          `allow ${base.host} in connect-src` : problem;
        if (cause) return fail(cause);
        failures.push(current
          ? "the daemon answers over HTTP: it may be full, or the rest blocked"
          : "nothing answers there, or its certificate is not trusted");
        fail(failures.join("; "), true);
      } catch (error) {
        settle(error);
      }
    };

    const webTransport = async () => {
      if (!globalThis.WebTransport) {
        throw connectionBroken(globalThis.isSecureContext === false
          ? "WebTransport needs a page from https or localhost"
          : "this browser has no WebTransport");
      }
      const cached = endpoint, { hashes, port, path } = (endpoint ??=
        certificateHashes ? { hashes: certificateHashes } : await inquire());
      const url = new URL(path ?? "/weir", `https://${base.hostname}:${webTransportPort ?? port ?? base.port}`);
      // Chromium resolves localhost to ::1 alone, and the daemon may have IPv4 only.
      if (hashes.length && url.hostname === "localhost") url.hostname = "127.0.0.1";
      try {
        return await greet((session) => openWebTransport(url.href, hashes.map(fromHex), session));
      } catch (error) {
        // The certificate may have changed since the daemon was asked, or it did not answer.
        endpoint = null;
        if (isOver || sentByDaemon(error)) throw error;
        if (cached?.hashes.length && !certificateHashes) return webTransport();
        const { problem } = certificateHashes ? await inquire() : {};
        throw connectionBroken(problem || `WebTransport failed: ${textOf(error)}`);
      }
    };

    const tryWebSocket = (why) => {
      if (fellBack || isOver) return;
      fellBack = true;
      const began = performance.now(), url = new URL("weir", base);
      url.protocol = base.protocol.replace("http", "ws");
      // After TCP has failed, UDP gets as long again, and time for its round trips. Firefox would
      // wait without an end.
      attempt(() => greet((session) => openWebSocket(url.href, session)), `WebSocket: ${why}`,
        () => after(isBlocked ? 0 : Math.max(fallbackAfter, 4 * (performance.now() - began)), explain));
    };

    // WebTransport takes long.
    const fallBack = async () => {
      // Firefox does not report that a hash is wrong.
      const { problem } = (certificateHashes &&
        await Promise.race([inquire().catch(noop), sleep(fallbackAfter)])) ?? {};
      if (transport === "auto") {
        tryWebSocket(problem || `no answer over UDP within ${fallbackAfter / 1000} s`);
      } else if (problem) fail(problem);
    };

    const stops = [
      listen(globalThis, "securitypolicyviolation", ({ effectiveDirective, blockedURI: uri }) => {
        // For a WebSocket, some browsers name the scheme only.
        isBlocked ||= effectiveDirective === "connect-src" &&
          (uri.includes(base.hostname) || /^wss?$/.test(uri));
      }),
      listen(signal, "abort", () => settle(signal?.reason)),
    ];
    after(timeout, () => settle(new WeirError(null,
      `no session with ${base} within ${timeout} ms`, "timed_out+")));
    const start = (token = hello.token) => {
      if (isOver) return;
      // The newest token is good for every attempt.
      hello = { ...hello, token };
      if (transport === "websocket") return tryWebSocket("as asked for");
      after(fallbackAfter, fallBack);
      attempt(webTransport, "WebTransport", transport === "auto" ? tryWebSocket : noop);
    };
    if (nextToken) nextToken().then(start, settle);
    else start();
    return promise;
  };
};
