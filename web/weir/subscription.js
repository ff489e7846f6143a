// A subscription, through all sessions of its client.

import { Cursors } from "./cursors.js";
import { encode } from "./codec/frames.js";
import { LAGGED, asWeirError, clientClosed, malformed } from "./errors.js";
import { EventQueue } from "./event_queue.js";
import { WRITE_BYTES } from "./limits.js";
import { Message, toSafeInteger } from "./message.js";
import { Reassembly } from "./reassembly.js";
import { answerTime } from "./receiver.js";
import { deferred, noop } from "./util.js";

/** @import { Frame } from "./codec/frames.js" */
/** @import { Cursor } from "./cursors.js" */
/** @import { WeirError } from "./errors.js" */
/** @import { Session, Target } from "./session.js" */
/** @import { Sink } from "./transports/link.js" */

/**
 * When its queue is empty and it is not subscribed, it subscribes again with its cursors. So three
 * cases are one: a session that broke, a page too slow for a WebSocket, a daemon that made room.
 * Cursors move when an event is queued, and the queue outlives sessions, so nothing is sent twice.
 *
 * @implements {Target}
 */
export class Subscription extends EventQueue {
  /** Its number in this session; 0: not subscribed. */
  request = 0;
  stats = { datagrams: 0, repeated: 0, asked: 0, repaired: 0, late: 0 };
  #cursors = new Cursors();
  /** The timer of repair requests, and when it runs out. */
  #timer;
  #due = Infinity;
  /** How to cancel its open streams. @type {Set<(() => void) | undefined>} */
  #streams = new Set();
  /** Streams that wait for room. @type {((value?: any) => void)[]} */
  #waiting = [];
  /** Large messages of a channel that is shared with other subscriptions. @type {Reassembly | null} */
  #shared = null;
  /** Whether it was released before Subscribed: it waits for that, and takes nothing else. */
  #releasing = false;
  /** Why the daemon ended it: it ends with its last stream. @type {WeirError | null} */
  #ending = null;
  #ready = deferred();
  /** @type {Promise<void>} */
  ready = this.#ready.promise;

  /**
   * @param {() => Session | null} session the current one
   * @param {Record<string, any>} options fields of Subscribe
   * @param {() => void} done called once, at its end
   */
  constructor(session, options, done) {
    super();
    this.session = session;
    this.options = options;
    this.done = done;
    this.outOfOrder = options.delivery !== "Ordered";
    this.ready.catch(noop);
  }

  // An event that was taken before Subscribed could not be resumed from.
  isReady() {
    return this.#cursors.since;
  }

  // ---- Its life: subscribe, answer, end ----

  /** @param {number} request @returns {Frame} */
  frame(request) {
    const { options } = this;
    const start = this.#cursors.start(options.start, this.session()?.welcome.run);
    return { frame: "Subscribe", request, ...options, start };
  }

  renew() {
    const session = this.session();
    if (this.isOver || !session || this.request || this.#streams.size || !this.isEmpty) return;
    this.#releasing = false;
    this.#cursors.startSession();
    session.begin(this);
  }

  /** Subscribed. @param {Frame} frame @param {Session} session */
  answer({ position }, session) {
    const { run } = session.welcome;
    // No run has the number 0: it stands for everything of topics that were not seen.
    this.#cursors.since ??= this.options.start === "All" ? { run: 0, position: 0 } : { run, position };
    if (this.#releasing) session.forget(this);
    this.#ready.resolve();
    this.lookAgain();
  }

  /** The daemon ended it. @param {WeirError} error */
  ended(error) {
    this.request = 0;
    this.#ending = error.code === LAGGED && this.options.lag !== "Disconnect" ? null : error;
    // A stream may still hold messages, and ends by itself. A shared channel holds no more.
    this.#streams.delete(undefined);
    this.#settle();
  }

  #settle() {
    if (this.#streams.size) return;
    if (this.#ending) this.fail(this.#ending);
    else this.renew();
  }

  /** Its session ended. */
  sessionLost() {
    this.request = 0;
    this.#cut();
    // Events that could not be taken are sent again.
    if (!this.#cursors.since) {
      this.clear();
      this.#cursors = new Cursors();
    }
    if (this.#ending) this.fail(this.#ending);
  }

  /** Ends it for good: with an error, or with null by the page. @param {WeirError | null} error */
  fail(error) {
    if (this.isOver) return;
    this.end(error);
    this.shed();
    this.#ready.reject(error ?? clientClosed());
    this.done();
  }

  // ---- Its streams ----

  /**
   * A stream begins. Without `cancel` it is a channel that is shared, and cannot be held up.
   *
   * @param {() => void} [cancel] @returns {Sink | undefined}
   */
  open(cancel) {
    if (this.#releasing) return void cancel?.();
    const streams = this.#streams, limit = this.session()?.welcome.limits.payload;
    const reassembly = cancel ? new Reassembly(limit) : (this.#shared ??= new Reassembly(limit));
    streams.add(cancel);
    return {
      take: (frame) => {
        if (streams !== this.#streams) return;
        this.take(reassembly.push(frame));
        if (!cancel && this.full) this.shed();
      },
      room: () => streams === this.#streams && this.full
        ? new Promise((resolve) => this.#waiting.push(resolve)) : undefined,
      end: () => {
        if (streams.delete(cancel) && !this.request) this.#settle();
      },
    };
  }

  // Nothing more is taken from its streams.
  #cut() {
    for (const cancel of this.#streams) cancel?.();
    this.#streams = new Set();
    this.#shared = null;
    this.#resume();
  }

  #resume() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Unsubscribes. The queue stays; once the page has emptied it, the rest is requested. */
  shed() {
    const { isOver } = this;
    if (this.#releasing && !isOver) return;
    // Without a beginning there is nothing to resume from: Subscribed must arrive first.
    this.#releasing = !this.#cursors.since && !isOver;
    this.session()?.unsubscribe(this, this.#releasing);
    this.#cut();
  }

  taken() {
    if (!this.full) this.#resume();
    // The timer ran out while too much was queued.
    if (this.#due === Infinity && this.#cursors.withHoles.size) this.#requestRepairs();
  }

  // ---- Its messages ----

  /** @param {Frame} frame */
  take(frame, datagram = false) {
    try {
      this.#take(frame, datagram);
    } catch (error) {
      this.fail(asWeirError(error));
    }
  }

  #take(frame, datagram) {
    const { frame: kind, first = frame.sequence, last = first } = frame, now = performance.now();
    // A session that just ended is null, and its last frames need no round trip.
    const session = /** @type {Session} */ (this.session()), rtt = session?.rtt;
    const cursors = this.#cursors, { stats } = this;
    if (kind === "Mark" && cursors.since) cursors.mark(session.welcome.run, frame.position);
    if (kind === "Topic") {
      const announced = cursors.announce(frame, !this.outOfOrder, now);
      if (!announced) return;
      // The Subscribe has requested its holes.
      for (const hole of announced.holes) hole.due = now + answerTime(rtt);
      return this.#planRepair(announced);
    }
    // Chunk, Abort and Mark have no sequence.
    if (kind === "Begin" || last === undefined) return;
    const cursor = cursors.byId.get(frame.topic);
    // Sequences of an earlier epoch, which are used again.
    if (frame.cause === "Lost") return cursor && this.#gap(cursor, first, last, frame.cause);
    toSafeInteger(last);
    if (!this.outOfOrder) {
      if (kind === "Head") return;
      if (!cursor || first !== cursor.expected || last < first) {
        malformed(`sequence ${first} out of place`);
      }
      cursor.expected = last + 1;
    }
    if (datagram) {
      stats.datagrams++;
      if (this.exceeds(1)) return;
    }
    // A message of an unknown topic becomes a hole once the topic is announced.
    if (!cursor) return;
    cursors.moved(cursor, last, datagram || frame.payload?.length > WRITE_BYTES);
    // A Head may overtake datagrams that wait in a busy page: the grace begins now.
    if (kind === "Head") cursor.head(last, now, rtt, now);
    else {
      const fresh = cursor.receive(first, last, now, rtt);
      if (kind === "Gap") {
        for (const { first, last } of fresh) this.#gap(cursor, first, last, frame.cause);
      } else if (!fresh.length) stats.repeated++;
      else {
        if (fresh[0].tries) stats.repaired++;
        this.push(new Message(cursor, frame));
      }
    }
    this.#planRepair(cursor);
  }

  #gap({ topic, epoch }, first, last, cause) {
    if (cause === "Late") this.stats.late += last - first + 1;
    // An earlier session has received these.
    if (cause === "Had") return;
    this.push({ kind: "gap", topic, epoch, first, last, cause: cause.toLowerCase() });
  }

  // ---- Its holes: one timer for all topics ----

  /** @param {Cursor} cursor */
  #planRepair(cursor) {
    const hole = cursor.holes.at(-1), { deadline } = this.options;
    if (!hole) return;
    this.#cursors.withHoles.add(cursor);
    const { due, since } = hole;
    this.#arm(deadline ? Math.min(due, since + deadline - /** @type {Session} */ (this.session()).rtt / 2) : due);
  }

  #arm(due) {
    if (due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#requestRepairs(), due - performance.now());
  }

  // Requests what is missing, at most as fast as the page reads.
  #requestRepairs() {
    this.#due = Infinity;
    if (!this.request || this.exceeds(0.5)) return;
    const session = /** @type {Session} */ (this.session());
    const now = performance.now(), { withHoles } = this.#cursors;
    let soonest = Infinity;
    for (const cursor of withHoles) {
      const { repairs, late, wake } = cursor.poll(now, session.rtt, this.options.deadline);
      for (const { holes, reliable } of repairs) {
        this.stats.asked++;
        const frame = { frame: "Repair", subscription: this.request, topic: cursor.id, holes };
        if (reliable || !session.link.datagram?.(encode(frame))) session.send(frame);
      }
      for (const { first, last } of late) this.#gap(cursor, first, last, "Late");
      if (!cursor.holes.length) withHoles.delete(cursor);
      soonest = Math.min(soonest, wake);
    }
    this.#arm(soonest);
  }
}
