// The client: its state, its reconnects, and the methods that a page calls.

import { toPayload, toSubscribe } from "./arguments.js";
import { PAYLOAD_TOO_LARGE, WeirError, asWeirError, clientClosed, refuseUnknown, textOf } from "./errors.js";
import { Publisher } from "./publisher.js";
import { Request, get, ping, top } from "./request.js";
import { encodeRequest } from "./session.js";
import { Subscription } from "./subscription.js";
import { deferred, listen, noop, sleep } from "./util.js";

/** @import * as api from "../weir.js" */
/** @import { Dial, Established } from "./dial.js" */
/** @import { Session } from "./session.js" */

/** The pause before a reconnect doubles from the first to the longest, in ms. */
const FIRST_PAUSE = 250, LONGEST_PAUSE = 10_000;

/** A session that lasted this long, in ms, resets the pause. */
const STABLE = 5000;

export class Client extends EventTarget {
  /** @type {api.State} */
  state = "reconnecting";
  // The first session sets these.
  /** @type {any} */
  transport;
  /** @type {any} */
  reason;
  /** @type {any} */
  session;
  /** @type {any} */
  maxPayload;
  /** @type {Dial} */
  #dial;
  /** How long `close` waits for receipts, in ms. */
  #timeout;
  #reconnects;
  /** @type {Session | null} */
  #session = null;
  #publisher = new Publisher();
  /** Open subscriptions and requests. @type {Set<Subscription | Request>} */
  #targets = new Set();
  #sessionBegan = 0;
  #failures = 0;
  /** @type {Promise<void> | null} */
  #closing = null;
  #skipPause = noop;

  /**
   * Created by `connect`.
   *
   * @param {Dial} dial opens another session
   * @param {Established} established the first session
   * @param {{ timeout: number, reconnect: boolean }} options
   */
  constructor(dial, established, { timeout, reconnect }) {
    super();
    this.#dial = dial;
    this.#timeout = timeout;
    this.#reconnects = reconnect;
    this.#adopt(established);
  }

  // ---- What a page calls ----

  /**
   * @param {string} topic @param {string | ArrayBuffer | ArrayBufferView} payload
   * @param {api.PublishOptions} [options] @returns {Promise<any>}
   */
  async publish(topic, payload, { realtime = false, ...rest } = {}) {
    this.#checkOpen();
    refuseUnknown(rest);
    const bytes = toPayload(payload);
    if (bytes.length > this.maxPayload) {
      throw new WeirError(PAYLOAD_TOO_LARGE, `${bytes.length} bytes, and the daemon takes ${this.maxPayload}`);
    }
    return this.#publisher.publish(topic, bytes, realtime);
  }

  /**
   * @param {string} filter @param {api.SubscribeOptions} [options]
   * @returns {api.Subscription}
   */
  subscribe(filter, options = {}) {
    this.#checkOpen();
    const { signal } = options, close = () => subscription.fail(null);
    /** @type {any} */
    let subscription;
    try {
      subscription = new Subscription(() => this.#session, toSubscribe(filter, options), () => {
        this.#targets.delete(subscription);
        signal?.removeEventListener("abort", close);
      });
      encodeRequest(subscription);
    } catch (error) {
      throw new TypeError(`cannot subscribe ${JSON.stringify([filter, options])}: ${textOf(error)}`);
    }
    this.#targets.add(subscription);
    signal?.addEventListener("abort", close);
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
    return this.state === "closed";
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
    const publisher = this.#publisher;
    if (!publisher.isIdle) await Promise.race([publisher.settled(), sleep(this.#timeout)]);
    const session = this.#session;
    this.#finish(clientClosed());
    await session?.leave();
  }

  /** @param {Established} established */
  #adopt({ session, reason }) {
    const { link, welcome } = session;
    this.#session = session;
    this.#sessionBegan = performance.now();
    this.transport = link.transport;
    this.reason = reason;
    this.session = BigInt(welcome.session);
    this.maxPayload = Number(welcome.limits.payload);
    // It may have ended right after its Welcome.
    if (session.over) return this.#lost(session.over);
    session.onend = (error) => this.#lost(error);
    this.#publisher.attach(session);
    for (const target of this.#targets) target.renew();
    this.#become("open", reason);
  }

  /** @param {WeirError} error */
  #lost(error) {
    this.#detach();
    if (this.#isClosed) return;
    if (!error.retry || !this.#reconnects) return this.#finish(error);
    // A daemon that ends each session right after its Welcome gets longer and longer pauses too.
    if (performance.now() - this.#sessionBegan > STABLE) this.#failures = 0;
    this.#become("reconnecting", error.message, error.code);
    this.#reconnect();
  }

  async #reconnect() {
    for (;;) {
      await this.#pause(Math.min(FIRST_PAUSE * 2 ** this.#failures++, LONGEST_PAUSE));
      if (this.#isClosed) return;
      try {
        const established = await this.#dial();
        return this.#isClosed ? established.session.leave() : this.#adopt(established);
      } catch (/** @type {any} */ error) {
        if (!error.retry) return this.#finish(asWeirError(error));
      }
    }
  }

  // Chance spreads the clients of a daemon that restarts. A page that comes online goes on at once.
  async #pause(longest) {
    const { promise, resolve } = deferred(), stop = listen(globalThis, "online", resolve);
    this.#skipPause = resolve;
    await Promise.race([promise, sleep(longest * (0.5 + Math.random() / 2))]);
    stop();
  }

  #detach() {
    this.#session = null;
    this.#publisher.attach(null);
  }

  #finish(error) {
    if (this.#isClosed) return;
    this.#detach();
    this.#become("closed", error.message, error.code);
    this.#skipPause();
    this.#publisher.fail(error);
    for (const target of this.#targets) target.fail(error);
  }

  /** @param {api.State} state @param {string} reason @param {number | null} [code] */
  #become(state, reason, code = null) {
    this.state = state;
    const detail = { state, transport: this.transport, reason, code };
    this.dispatchEvent(new CustomEvent("state", { detail }));
  }
}
