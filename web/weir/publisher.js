// Publishes: numbers publications, keeps them until they are answered, sends them again.

import { concat, toUtf8 } from "./bytes.js";
import { encode } from "./codec/frames.js";
import { BAD_ALIAS, BAD_TOPIC, OVERLOADED, TIMED_OUT, WeirError, checkSize } from "./errors.js";
import { WRITE_BYTES } from "./limits.js";
import { toReadable } from "./message.js";
import { clamp, noop } from "./util.js";

/** @import { Session } from "./session.js" */

/** Maximum publications without an answer. */
const IN_FLIGHT = 1024;

/** Maximum of these that have a stream of their own. */
const IN_FLIGHT_ALONE = 16;

/** Maximum publications that wait to be sent, and maximum bytes of these, beside a single one. */
const UNSENT = 1 << 14, UNSENT_BYTES = 1 << 26;

/** Maximum topics of a client, and maximum bytes of a topic. The daemon ends a session above them. */
const TOPICS = 4096, TOPIC_BYTES = 255;

/**
 * A topic that is published to. Its alias is the client's, for its whole life.
 *
 * @typedef {{ alias: number, declaration: Uint8Array, last: number, waiting: Map<number, Publication> }} Topic
 * @typedef {{ topic: Topic, number: number, bytes: Uint8Array, realtime: boolean, until: number,
 *   resolve: (receipt: any) => void, reject: (error: any) => void }} Publication
 */

export class Publisher {
  /** @type {Session | null} */
  #session = null;
  /** @type {Map<string, Topic>} */
  #topics = new Map();
  /** By alias. @type {Topic[]} */
  #aliases = [];
  // The oldest first.
  /** @type {Set<Publication>} */
  #sent = new Set();
  /** @type {Set<Publication>} */
  #unsent = new Set();
  #unsentBytes = 0;
  /** Publications in #sent that have a stream of their own. */
  #alone = 0;
  /** Topics that are declared on the session's stream. @type {Set<Topic>} */
  #declared = new Set();
  /** Aliases that the daemon has acknowledged in this session. @type {Set<number>} */
  #acknowledged = new Set();
  #settled = noop;

  get isIdle() {
    return !(this.#sent.size + this.#unsent.size);
  }

  /** Resolves when everything sent is answered. */
  settled() {
    return new Promise((resolve) => (this.#settled = resolve));
  }

  /** Publications are numbered and encoded now, so that each attempt sends the same bytes. */
  publish(name, payload, realtime, lifetime) {
    return new Promise((resolve, reject) => {
      const { size } = this.#unsent;
      if (size && (size === UNSENT || this.#unsentBytes + payload.length > UNSENT_BYTES)) {
        throw new WeirError(OVERLOADED, "too many publications wait");
      }
      const topic = this.#topic(name), number = ++topic.last, now = performance.now();
      const stamp = Math.floor((performance.timeOrigin + now) * 1000);
      const bytes = encode({ frame: "Publish", alias: topic.alias, number, stamp, payload });
      const publication = {
        topic, number, bytes, realtime, until: now + (lifetime || Infinity), resolve, reject,
      };
      this.#unsent.add(publication);
      this.#unsentBytes += bytes.length;
      if (lifetime) setTimeout(() => (this.#expire(publication), this.#pump()), lifetime);
      this.#pump();
    });
  }

  // Its number stays unused, if it was never sent.
  #expire(publication) {
    this.#remove(publication);
    publication.reject(new WeirError(TIMED_OUT, "no receipt within its lifetime"));
  }

  /** Forgets it. @param {Publication} publication */
  #remove(publication) {
    const { topic: { waiting }, number, bytes: { length } } = publication;
    if (this.#unsent.delete(publication)) this.#unsentBytes -= length;
    if (!this.#sent.delete(publication)) return;
    waiting.delete(number);
    if (length > WRITE_BYTES) this.#alone--;
  }

  /** @param {string} name @returns {Topic} */
  #topic(name) {
    const known = this.#topics.get(name);
    if (known) return known;
    checkSize(BAD_TOPIC, toUtf8(name).length, TOPIC_BYTES);
    const alias = this.#aliases.length;
    if (alias === TOPICS) {
      throw new WeirError(BAD_ALIAS, `topics above ${TOPICS}: connect another client`);
    }
    const topic = {
      alias, declaration: encode({ frame: "Topic", alias, name }), last: 0, waiting: new Map(),
    };
    this.#topics.set(name, topic);
    this.#aliases.push(topic);
    return topic;
  }

  /** The client has a session, or lost it. Unanswered publications are sent again. @param {Session | null} session */
  attach(session) {
    this.#session = session;
    if (!session) return;
    this.#declared.clear();
    this.#acknowledged.clear();
    session.onanswer = (frame) => this.#answered(frame);
    // The numbers are the same, so the daemon counts nothing twice.
    for (const publication of this.#sent) this.#send(publication);
    this.#pump();
  }

  // Sends what the window allows.
  #pump() {
    if (this.isIdle) this.#settled();
    const session = this.#session;
    if (!session) return;
    for (const publication of this.#unsent) {
      const { topic: { waiting }, number, bytes } = publication, alone = bytes.length > WRITE_BYTES;
      // Numbers without an answer are in order: the first is the lowest.
      const lowest = waiting.keys().next().value ?? number;
      if (this.#sent.size === IN_FLIGHT || number >= lowest + session.welcome.limits.window) return;
      if (alone && this.#alone === IN_FLIGHT_ALONE) return;
      this.#remove(publication);
      if (alone) this.#alone++;
      this.#sent.add(publication);
      waiting.set(number, publication);
      this.#send(publication);
    }
  }

  /** @param {Publication} publication */
  #send(publication) {
    const { topic: { alias, declaration, waiting }, topic, number, bytes, realtime } = publication;
    const session = /** @type {Session} */ (this.#session), { link, rtt } = session;
    // The timer of a page that slept may be late.
    if (publication.until < performance.now()) return this.#expire(publication);
    session.expectAnswer();
    if (bytes.length > WRITE_BYTES) return link.publishAlone(declaration, bytes);
    if (!this.#declared.has(topic)) link.publish(declaration);
    this.#declared.add(topic);
    const sendDatagram = (least) => link.datagram?.(
      this.#acknowledged.has(alias) ? bytes : concat([declaration, bytes]), least);
    if (!realtime || !sendDatagram()) return link.publish(bytes);
    session.measure();
    const unlessAnswered = (ms, act) =>
      setTimeout(() => session.over || waiting.has(number) && act(), ms);
    // Below 5 ms a repair is as fast as a repetition.
    if (rtt > 5) unlessAnswered(clamp(rtt / 10, 2, 5), () => sendDatagram(1));
    unlessAnswered(rtt * 1.5 + 10, () => link.publish(bytes));
  }

  #answered({ frame, alias, number, floor, seen, code, reason, ...receipt }) {
    const waiting = this.#aliases[alias]?.waiting ?? new Map();
    const ofDatagrams = frame === "Acknowledge";
    if (ofDatagrams) this.#acknowledged.add(alias);
    // One Acknowledge answers all datagrams; other publications wait for their receipts.
    const answered = !ofDatagrams ? [waiting.get(number)]
      : [...waiting.values()].filter(({ realtime, number }) => realtime &&
        (number <= floor || BigInt(seen) >> BigInt(number - floor - 1) & 1n));
    for (const publication of answered) {
      if (!publication) return;
      this.#remove(publication);
      if (frame === "Rejected") publication.reject(new WeirError(code, reason));
      else publication.resolve(ofDatagrams ? null : toReadable(receipt));
    }
    this.#pump();
  }

  /** Rejects everything without an answer. @param {WeirError} error */
  fail(error) {
    for (const { reject } of [...this.#sent, ...this.#unsent]) reject(error);
    this.#sent.clear();
    this.#unsent.clear();
    this.#unsentBytes = 0;
    this.#settled();
  }
}
