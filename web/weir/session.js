// A session: one connection, from Hello to Goodbye.

import { ACKNOWLEDGE, FOR, KNOWN_FRAMES, encode } from "./codec/frames.js";
import {
  FRAME_TOO_LARGE, MALFORMED, TOKEN_EXPIRED, UNAUTHORIZED, WeirError, asWeirError, checkSize,
  clientClosed, connectionBroken,
} from "./errors.js";
import { FRAME_BYTES } from "./limits.js";
import { handleWholeFrames } from "./transports/incoming.js";
import { backOff, deferred, noop, sleep } from "./util.js";

/** @import { Frame } from "./codec/frames.js" */
/** @import { NextToken } from "./token.js" */
/** @import { Link, LinkEvents, Sink } from "./transports/link.js" */

/**
 * A subscription, or a request: it receives what the daemon sends for its number.
 *
 * @typedef {object} Target
 * @property {number} request its number in this session; 0: none
 * @property {boolean} [outOfOrder] whether datagrams arrive for it
 * @property {boolean} [full] whether it holds streams up
 * @property {(request: number) => Frame} frame returns the frame that opens it
 * @property {(frame: Frame, session: Session) => void} answer
 * @property {(cancel?: () => void) => Sink | undefined} open
 * @property {(frame: Frame, datagram?: boolean) => void} take
 * @property {(error: WeirError) => void} ended the daemon ended it
 * @property {(error: WeirError) => void} fail
 * @property {() => void} sessionLost the session ended
 * @property {() => void} [shed] releases its streams
 */

/** Silence after which the daemon is pinged, in ms. */
const SILENCE = 5_000;

/** The same while a full subscription holds streams up, which may cause the silence, in ms. */
const SILENCE_WHEN_FULL = 2_000;

/** Time after which an answer is late, in ms: the daemon is pinged. */
const LATE = 1_000;

/** Time after which the answer to a ping is late, in ms. The next check ends the session. */
const PONG_LATE = 4_000;

/** Interval of the round-trip measurements, and of the checks for silence, in ms. */
const MEASURE_EVERY = 5_000, CHECK_EVERY = 1_000;

/** Maximum characters of an error that are sent to the daemon. */
const REASON_CHARACTERS = 40;

/** Returns the encoded request of a target; throws if it is too large. @param {Target} target */
export const encodeRequest = (target, request = 0) => {
  const frame = encode(target.frame(request));
  checkSize(FRAME_TOO_LARGE, frame.length, FRAME_BYTES);
  return frame;
};

/** @implements {LinkEvents} */
export class Session {
  /** Why its transport, in words. */
  reason = "";
  /** Why it ended. @type {WeirError | null} */
  over = null;
  /** @type {any} */
  welcome = null;
  /** Subscriptions and requests, by number. @type {Map<number, Target>} */
  targets = new Map();
  /** Called with each Receipt, Acknowledge and Rejected. */
  onanswer = noop;
  /** Called with each Notice. */
  onnotice = noop;
  onend = noop;
  /** Round trip in ms; an assumption until it is measured. */
  rtt = 50;
  #measuring = false;
  #samples = 0;
  /** Numbers that datagrams arrive for. A datagram without For belongs to the first. @type {Set<number>} */
  #unordered = new Set();
  #lastRequest = 0;
  #receivedAt = performance.now();
  /** When something was sent that the daemon answers, and that nothing followed; 0: never. */
  #askedAt = 0;
  /** Whether the answer to the ping is late. */
  #isOverdue = false;
  /** When the ping was sent that nothing followed; 0: none. */
  #silentSince = 0;
  #pingedAt = 0;
  /** Number of the last ping. */
  #ping = 0;
  #timer;
  /** Fetches a token; false without a function of the page's. @type {any} */
  #nextToken;
  /** When to show a new token. */
  #renewAt = Infinity;
  #welcomed = deferred();
  /** @type {Promise<Session>} */
  welcomed = this.#welcomed.promise;

  /**
   * @param {(session: LinkEvents) => Link} openLink @param {Frame} hello
   * @param {NextToken | false} nextToken
   */
  constructor(openLink, hello, nextToken) {
    this.link = openLink(this);
    this.#nextToken = nextToken;
    this.send(hello);
    this.send({ frame: "Knows", frames: KNOWN_FRAMES });
  }

  /** @param {Frame} frame */
  send(frame) {
    this.link.send(encode(frame));
    this.expectAnswer();
  }

  /** Something was sent that the daemon answers. */
  expectAnswer() {
    this.#askedAt ||= performance.now();
  }

  received() {
    this.#receivedAt = performance.now();
    this.#silentSince = this.#askedAt = 0;
    this.#isOverdue = false;
  }

  // A timer can be late, for example after a laptop slept, and then the answer may have arrived and
  // wait behind it. So only a ping is a sign that is unanswered at two checks.
  #checkSilence() {
    const now = performance.now(), waited = this.#silentSince && now - this.#silentSince;
    // Streams that nothing reads use up the window of the whole connection, so that not even a Pong
    // arrives. Their subscriptions release them, and resume later.
    const full = [...this.targets.values()].filter((target) => target.full);
    if (waited >= SILENCE_WHEN_FULL) for (const target of full) target.shed?.();
    if (waited >= PONG_LATE) {
      if (this.#isOverdue) {
        return this.end(connectionBroken(`no answer for ${now - this.#receivedAt | 0} ms`));
      }
      this.#isOverdue = true;
    }
    if (!waited && (now - this.#receivedAt >= (full.length ? SILENCE_WHEN_FULL : SILENCE) ||
      this.#askedAt && now - this.#askedAt >= LATE ||
      this.#measuring && now - this.#pingedAt >= MEASURE_EVERY)) this.#sendPing();
    if (now + CHECK_EVERY > this.#renewAt) this.#renewToken();
    this.#timer = setTimeout(() => this.#checkSilence(), CHECK_EVERY);
  }

  #sendPing() {
    this.#silentSince = this.#pingedAt = performance.now();
    this.send({ frame: "Ping", request: (this.#ping = ++this.#lastRequest) });
  }

  /** Starts to measure the round trip. */
  measure() {
    if (!this.link.datagram || this.#measuring) return;
    this.#measuring = true;
    this.#sendPing();
  }

  // Shows new tokens until the daemon accepts one.
  async #renewToken() {
    this.#renewAt = Infinity;
    for (let attempts = 0; !this.over; await backOff(attempts++)) {
      try {
        const token = await this.#nextToken();
        return await new Promise((answer, fail) => this.begin(/** @type {any} */ ({
          frame: (request) => ({ frame: "Token", request, token }), answer, fail, ended: fail, sessionLost: noop,
        })));
      } catch {
        // The page's function failed, or the daemon refused the token: the session goes on.
      }
    }
  }

  /** A frame of the control stream. @param {Frame} frame */
  control(frame) {
    const { request, code, reason } = frame, target = this.targets.get(request);
    switch (frame.frame) {
      case "Welcome":
        this.welcome = frame;
        this.#checkSilence();
        return this.#welcomed.resolve(this);
      case "Acknowledge": case "Receipt": case "Rejected":
        return this.onanswer(frame);
      case "Pong":
        if (request === this.#ping) {
          const more = performance.now() - this.#pingedAt - this.rtt;
          // Upwards slowly, except for the first: a late answer may have waited for this page.
          this.rtt += more / (more > 0 && this.#samples++ ? 8 : 1);
        }
      // A request may wait for it too.
      case "Subscribed": case "Top":
        return target?.answer(frame, this);
      case "Authorized":
        // 0: without an end. Chance spreads the clients of a daemon that restarted.
        if (this.#nextToken && frame.lifetime) {
          this.#renewAt = performance.now() + Number(frame.lifetime) * (0.75 + Math.random() / 20);
        }
        this.targets.delete(request);
        return target?.answer(frame, this);
      case "Failed":
        // Without a target it answers an Unsubscribe.
        if (target) this.#unordered.delete(request);
      // Ended and Failed both end the target.
      case "Ended":
        this.targets.delete(request);
        return target?.ended(new WeirError(code, reason));
      case "Notice":
        // In a task of its own: by then the client has the session, and the page the client.
        return setTimeout(() => this.onnotice(frame));
      case "Goodbye":
        return this.end(new WeirError(code, reason, undefined, frame.retry));
    }
  }

  /**
   * A stream begins, or on a WebSocket the frames of another target. Without a target the
   * subscription was closed, and the stream is not wanted.
   *
   * @param {Frame} frame a For @param {() => void} [cancel]
   */
  open({ request }, cancel) {
    const target = this.targets.get(request);
    if (!target) cancel?.();
    return target?.open(cancel);
  }

  /** @param {Uint8Array} bytes */
  datagram(bytes) {
    let [to] = this.#unordered;
    this.received();
    handleWholeFrames(bytes, (frame, kind) => {
      if (kind === FOR) to = frame.request;
      else if (kind === ACKNOWLEDGE) this.control(frame);
      else this.targets.get(to)?.take(frame, true);
    });
  }

  /** Sends a request, or subscribes. @param {Target} target */
  begin(target) {
    const request = ++this.#lastRequest;
    let frame;
    try {
      frame = encodeRequest(target, request);
    } catch (error) {
      return target.fail(asWeirError(error));
    }
    // Before the answer, because a stream may overtake it.
    this.targets.set(request, target);
    target.request = request;
    this.link.send(frame);
    this.expectAnswer();
    if (!target.outOfOrder) return;
    this.#unordered.add(request);
    this.measure();
  }

  /** @param {Target} target @param {boolean} keep whether to wait for its Subscribed */
  unsubscribe(target, keep) {
    if (!target.request) return;
    this.send({ frame: "Unsubscribe", subscription: target.request });
    if (!keep) this.forget(target);
  }

  /** @param {Target} target */
  forget(target) {
    this.targets.delete(target.request);
    target.request = 0;
  }

  /** The connection closed, with a code of the protocol or without. @param {number} [code] */
  disconnected(code = 0, reason = "") {
    this.end(code > 0 ? new WeirError(code, reason)
      : connectionBroken(reason || (this.welcome ? "the connection closed" : "no connection")));
  }

  /** Ends the session. Only the first error counts. @param {any} reason */
  end(reason) {
    if (this.over) return;
    const error = this.over = asWeirError(reason), { code } = error;
    if (!this.#nextToken && (code === UNAUTHORIZED || code === TOKEN_EXPIRED)) {
      error.message += ": connect with a valid token, or a function that fetches one";
      error.retry = false;
    }
    clearTimeout(this.#timer);
    // The daemon learns of its own errors.
    this.link.close(code === MALFORMED || code === FRAME_TOO_LARGE ? code : 0,
      error.message.slice(0, REASON_CHARACTERS));
    for (const target of this.targets.values()) target.sessionLost();
    this.#welcomed.reject(error);
    this.onend(error);
  }

  /** Says goodbye, and ends. */
  async leave() {
    this.send({ frame: "Goodbye", code: 0, reason: "" });
    // A connection that closes discards its queue. The queue is written in a microtask.
    await sleep(0);
    this.end(clientClosed());
  }
}
