// Opens a session: WebTransport, and WebSocket where that fails or takes long.

import { fromHex } from "./bytes.js";
import { fetchFacts, hashesToPin, pinningProblem } from "./certificate.js";
import {
  WeirError, clientClosed, connectionBroken, sentByDaemon, textOf, unreachable,
} from "./errors.js";
import { Session } from "./session.js";
import { openWebSocket } from "./transports/websocket.js";
import { openWebTransport } from "./transports/webtransport.js";
import { deferred, listen, noop, sleep } from "./util.js";

/** @import { Frame } from "./codec/frames.js" */
/** @import { Link, LinkEvents } from "./transports/link.js" */

/**
 * @typedef {{ session: Session, reason: string }} Established a session, and why its transport
 * @typedef {(signal?: AbortSignal) => Promise<Established>} Dial
 *
 * @typedef {object} DialOptions those of `connect`, all given
 * @property {URL} base
 * @property {Frame} hello
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

/** One attempt over all transports. The first session that is welcomed wins, and ends the others. */
class Race {
  #options;
  #cache;
  /** Ends what it listens to. @type {(() => void)[]} */
  #stops;
  /** @type {Session[]} */
  #sessions = [];
  /** @type {string[]} */
  #failures = [];
  #timers = [];
  /** Transports that are being tried. */
  #running = 0;
  #over = false;
  #fellBack = false;
  /** Whether the page's policy forbids the connection. */
  #blocked = false;
  #settled = deferred();
  /** @type {Promise<Established>} */
  established = this.#settled.promise;

  /**
   * @param {DialOptions} options @param {{ endpoint: Endpoint | null }} cache
   * @param {AbortSignal} [signal]
   */
  constructor(options, cache, signal) {
    this.#options = options;
    this.#cache = cache;
    const { base, transport, fallbackAfter, timeout } = options;
    this.#stops = [
      listen(globalThis, "securitypolicyviolation", ({ effectiveDirective, blockedURI: uri }) => {
        // For a WebSocket, some browsers name the scheme only.
        this.#blocked ||= effectiveDirective === "connect-src" &&
          (uri.includes(base.hostname) || /^wss?$/.test(uri));
      }),
      listen(signal, "abort", () => this.#settle(signal?.reason)),
    ];
    this.#after(timeout, () => this.#settle(new WeirError(null,
      `${base.origin} did not answer within ${timeout} ms`, "timed_out", true)));
    if (transport === "websocket") this.#tryWebSocket("as asked for");
    else {
      this.#after(fallbackAfter, () => this.#fallBack());
      this.#try(() => this.#webTransport(), "WebTransport",
        transport === "auto" ? (why) => this.#tryWebSocket(why) : noop);
    }
  }

  #after(ms, act) {
    this.#timers.push(setTimeout(act, ms));
  }

  // The first call decides.
  #settle(error, established) {
    if (this.#over) return;
    this.#over = true;
    this.#timers.forEach(clearTimeout);
    for (const stop of this.#stops) stop();
    for (const session of this.#sessions) if (session !== established?.session) session.end(clientClosed());
    if (established) this.#settled.resolve(established);
    else this.#settled.reject(error);
  }

  #fail(why, retry) {
    this.#settle(unreachable(`cannot reach ${this.#options.base.origin}: ${why}`, retry));
  }

  /** @param {(session: LinkEvents) => Link} openLink */
  #greet(openLink) {
    if (this.#over) throw clientClosed();
    const session = new Session(openLink, this.#options.hello);
    this.#sessions.push(session);
    return session.welcomed;
  }

  async #try(open, reason, onFailure) {
    this.#running++;
    try {
      this.#settle(null, { session: await open(), reason });
    } catch (error) {
      this.#running--;
      if (this.#over) return;
      // The daemon itself refuses: it would refuse over the other transport too.
      if (sentByDaemon(error)) return this.#settle(error);
      const why = textOf(error);
      this.#failures.push(why);
      onFailure(why);
      if (!this.#running) this.#explain();
    }
  }

  // Asks the daemon again, because its answer of before may be old.
  async #inquire() {
    const facts = await fetchFacts(this.#options.base);
    return { facts, problem: pinningProblem(facts, this.#options.certificateHashes) };
  }

  // Every transport failed: finds the reason.
  async #explain() {
    try {
      const { facts, problem } = await this.#inquire();
      await sleep(VIOLATION_GRACE);
      if (this.#blocked) {
        return this.#fail("this page's Content-Security-Policy blocks it: " +
          `allow ${this.#options.base.host} in connect-src`, false);
      }
      if (problem) return this.#fail(problem, false);
      this.#failures.push(facts
        ? "the daemon answers over HTTP: it may be full, or something blocks the rest"
        : "nothing answers there, or this browser does not trust its certificate");
      this.#fail(this.#failures.join("; "), true);
    } catch (error) {
      this.#settle(error);
    }
  }

  /** @returns {Promise<Endpoint>} */
  async #findEndpoint() {
    const { base, certificateHashes } = this.#options;
    if (certificateHashes) return { hashes: certificateHashes };
    const facts = await fetchFacts(base);
    return { hashes: hashesToPin(facts), port: facts?.port, path: facts?.path };
  }

  async #webTransport() {
    if (!globalThis.WebTransport) {
      throw connectionBroken(globalThis.isSecureContext === false
        ? "WebTransport needs a page from https or localhost"
        : "this browser has no WebTransport");
    }
    const { base, certificateHashes, webTransportPort } = this.#options, cache = this.#cache;
    const cached = cache.endpoint, { hashes, port, path } = (cache.endpoint ??= await this.#findEndpoint());
    const url = new URL(path ?? "/weir", base);
    url.protocol = "https:";
    url.port = String(webTransportPort ?? port ?? base.port);
    // Chromium resolves localhost to ::1 alone, and the daemon may have IPv4 only.
    if (hashes.length && url.hostname === "localhost") url.hostname = "127.0.0.1";
    try {
      return await this.#greet((session) => openWebTransport(url.href, hashes.map(fromHex), session));
    } catch (error) {
      if (this.#over || sentByDaemon(error)) throw error;
      // The certificate may have changed since the daemon was asked.
      cache.endpoint = null;
      if (cached?.hashes.length && !certificateHashes) return this.#webTransport();
      const { problem } = certificateHashes ? await this.#inquire() : {};
      throw connectionBroken(problem || `WebTransport failed: ${textOf(error)}`);
    }
  }

  #tryWebSocket(why) {
    if (this.#fellBack || this.#over) return;
    this.#fellBack = true;
    const { base, fallbackAfter } = this.#options, began = performance.now();
    const url = new URL("/weir", base);
    url.protocol = base.protocol.replace("http", "ws");
    // After TCP has failed, UDP gets as long again, and time for its round trips. Firefox would
    // wait without an end.
    this.#try(() => this.#greet((session) => openWebSocket(url.href, session)), `WebSocket: ${why}`,
      () => this.#after(
        this.#blocked ? 0 : Math.max(fallbackAfter, 4 * (performance.now() - began)),
        () => this.#explain(),
      ));
  }

  // WebTransport takes long.
  async #fallBack() {
    const { transport, certificateHashes, fallbackAfter } = this.#options;
    // Firefox does not report that a hash is wrong.
    const { problem } = (certificateHashes &&
      await Promise.race([this.#inquire().catch(noop), sleep(fallbackAfter)])) ?? {};
    if (transport === "auto") {
      this.#tryWebSocket(problem || `no answer over UDP within ${fallbackAfter / 1000} s`);
    } else if (problem) this.#fail(problem, false);
  }
}

/** Returns a function that opens a session, as often as it is called. @param {DialOptions} options @returns {Dial} */
export const dialer = (options) => {
  const cache = { endpoint: null };
  return (signal) => new Race(options, cache, signal).established;
};
