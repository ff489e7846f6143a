// The client: its state, its reconnects, and the methods that a page calls.

import { checkTimes, toPayload, toSubscribe } from "./arguments.js";
import {
  PAYLOAD_TOO_LARGE, WeirError, checkSize, clientClosed, refuseUnknown,
} from "./errors.js";
import { Publisher } from "./publisher.js";
import { Request, get, ping, top } from "./request.js";
import { encodeRequest } from "./session.js";
import { Subscription } from "./subscription.js";
import { backOff, listen, noop, sleep } from "./util.js";

/** @import * as api from "../weir.js" */
/** @import { Dial } from "./dial.js" */
/** @import { Session } from "./session.js" */

/**
 * @typedef {object} ClientOptions
 * @property {number} timeout how long `close` waits for receipts, in ms
 * @property {boolean} reconnect
 * @property {string} transport `auto`: WebSocket is a fallback
 */

/** A session that lasted this long, in ms, resets the pause before a reconnect. */
const STABLE = 5000;

/** Pauses before attempts to leave WebSocket, in those before a reconnect: up to 7.5 s, then up to 5 min. */
const MOVE_PAUSES = 30;

export class Client extends EventTarget {
  /** @type {api.State} */
  state = "reconnecting";
  /** @type {Dial} */
  #dial;
  /** @type {ClientOptions} */
  #options;
  #isMoving = false;
  /** @type {Session | null} */
  #session = null;
  #publisher = new Publisher();
  /** Open subscriptions and requests. @type {Set<Subscription | Request>} */
  #targets = new Set();
  #sessionBegan = 0;
  #failures = 0;
  /** @type {Promise<void> | null} */
  #closing = null;
  /** Aborts what a client that is closed waits for. */
  #end = new AbortController();

  /**
   * Created by `connect`.
   *
   * @param {Dial} dial opens another session
   * @param {Session} session the first one
   * @param {ClientOptions} options
   */
  constructor(dial, session, options) {
    super();
    this.#dial = dial;
    this.#options = options;
    this.#adopt(session);
  }

  // ---- What a page calls ----

  /**
   * @param {string} topic @param {string | ArrayBuffer | ArrayBufferView} payload
   * @param {api.PublishOptions} [options] @returns {Promise<any>}
   */
  async publish(topic, payload, { realtime, lifetime = 0, ...rest } = {}) {
    this.#checkOpen();
    refuseUnknown(rest);
    checkTimes(lifetime);
    const bytes = toPayload(payload);
    checkSize(PAYLOAD_TOO_LARGE, bytes.length, this.maxPayload);
    return this.#publisher.publish(topic, bytes, realtime, lifetime);
  }

  /**
   * @param {string} filter @param {api.SubscribeOptions} [options]
   * @returns {api.Subscription}
   */
  subscribe(filter, options = {}) {
    this.#checkOpen();
    const { signal } = options, close = () => subscription.fail(null);
    const subscription = new Subscription(() => this.#session, toSubscribe(filter, options), () => {
      this.#targets.delete(subscription);
      stop();
    });
    encodeRequest(subscription);
    this.#targets.add(subscription);
    const stop = listen(signal, "abort", close);
    if (signal?.aborted) close();
    subscription.renew();
    const { ready, stats } = subscription, next = () => subscription.next();
    return {
      ready, stats, next, close,
      [Symbol.asyncIterator]: () => ({
        next,
        async return() {
          close();
          return { value: undefined, done: true };
        },
      }),
    };
  }

  /**
   * @param {string} topic @param {{ sequence?: number, digest?: string }} [which]
   * @returns {Promise<api.Message>}
   */
  async get(topic, which) {
    return this.#ask(get(topic, which));
  }

  /** @param {string} topic @returns {Promise<api.Ranking[]>} */
  top(topic, k = 10) {
    return this.#ask(top(topic, k));
  }

  /** @returns {Promise<number>} */
  ping() {
    return this.#ask(ping());
  }

  close() {
    return (this.#closing ??= this.#leave());
  }

  // ---- How it is done ----

  get #isClosed() {
    return this.#end.signal.aborted;
  }

  #checkOpen() {
    if (this.#closing || this.#isClosed) throw clientClosed();
  }

  async #ask(question) {
    this.#checkOpen();
    const request = new Request(() => this.#session, question);
    encodeRequest(request);
    try {
      this.#targets.add(request);
      request.renew();
      return await request.answered;
    } finally {
      this.#targets.delete(request);
      this.#session?.targets.delete(request.request);
    }
  }

  async #leave() {
    for (const target of this.#targets) if (target instanceof Subscription) target.fail(null);
    if (!this.#publisher.isIdle) await Promise.race([this.#publisher.settled(), sleep(this.#options.timeout)]);
    const session = this.#session;
    this.#finish(clientClosed());
    await session?.leave();
  }

  /** @param {Session} session */
  #adopt(session) {
    const { link, welcome, reason } = session;
    this.#session = session;
    this.#sessionBegan = performance.now();
    /** @type {any} */
    this.transport = link.transport;
    /** @type {any} */
    this.reason = reason;
    /** @type {any} */
    this.session = BigInt(welcome.session);
    /** @type {any} */
    this.maxPayload = Number(welcome.limits.payload);
    // It may have ended right after its Welcome.
    if (session.over) return this.#lost(session.over);
    session.onend = (error) => this.#lost(error);
    session.onnotice = ({ code, reason }) =>
      this.#dispatch("notice", { code, name: new WeirError(code, reason).name, reason });
    this.#publisher.attach(session);
    for (const target of this.#targets) target.renew();
    this.#become("open", reason);
    if (this.#options.transport === "auto" && globalThis.WebTransport && !this.#isMoving) this.#moveOver();
  }

  /** @param {WeirError} error */
  #lost(error) {
    this.#detach();
    if (this.#isClosed) return;
    if (!error.retry || !this.#options.reconnect) return this.#finish(error);
    // A daemon that ends each session right after its Welcome gets longer and longer pauses too.
    if (performance.now() - this.#sessionBegan > STABLE) this.#failures = 0;
    this.#become("reconnecting", error.message, error.code);
    this.#reconnect();
  }

  async #reconnect() {
    for (;;) {
      await backOff(this.#failures++, this.#end.signal);
      if (this.#isClosed) return;
      try {
        return this.#adopt(await this.#dial(this.#end.signal));
      } catch (/** @type {any} */ error) {
        if (!error.retry) return this.#finish(error);
      }
    }
  }

  // While the session is one over WebSocket, tries WebTransport. The new session takes the place of
  // the old one as after a break: subscriptions resume, and publications without an answer are sent
  // again.
  async #moveOver() {
    this.#isMoving = true;
    const { signal } = this.#end;
    for (let attempts = 0; this.transport === "websocket" && !this.#isClosed; ) {
      await backOff(attempts++, signal, MOVE_PAUSES);
      const session = this.#session;
      if (!session) continue;
      try {
        const other = await this.#dial(signal, "webtransport");
        // The old one may have ended meanwhile, and another one replaces it.
        if (session !== this.#session) other.leave();
        else {
          session.onend = noop;
          session.end(clientClosed());
          this.#adopt(other);
        }
      } catch (/** @type {any} */ error) {
        if (!error.retry) break;
      }
    }
    this.#isMoving = false;
  }

  #detach() {
    this.#session = null;
    this.#publisher.attach(null);
  }

  #finish(error) {
    if (this.#isClosed) return;
    this.#detach();
    this.#end.abort(error);
    this.#become("closed", error.message, error.code);
    this.#publisher.fail(error);
    for (const target of this.#targets) target.fail(error);
  }

  /** @param {api.State} state @param {string} reason @param {number | null} [code] */
  #become(state, reason, code = null) {
    this.state = state;
    this.#dispatch("state", { state, transport: this.transport, reason, code });
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
