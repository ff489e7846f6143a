// The position of a subscription in each of its topics, from which it resumes.

import { toUtf8 } from "./bytes.js";
import { FRAME_TOO_LARGE, WeirError } from "./errors.js";
import { toSafeInteger } from "./message.js";
import { Receiver } from "./receiver.js";

/** @import { Frame } from "./codec/frames.js" */

/** Maximum bytes of the topics in a Subscribe: 48 KB less than a frame, for a filter and the ranges. */
const TOPICS_BYTES = 1_000_000;

/** Maximum ranges above holes that a Subscribe shows of a topic, and maximum topics with such. */
const RANGES = 64, TOPICS_WITH_RANGES = 16;

/** Bytes of a topic in a Subscribe beside its name, at most. */
const TOPIC_BYTES = 24;

/** One topic of a subscription. */
export class Cursor extends Receiver {
  /** Its number in this session. @type {any} */
  id;
  /** The next sequence of ordered delivery. @type {any} */
  expected;
  /** How many Marks there had been when the topic was last seen. @type {any} */
  mark;

  /** @param {string} topic @param {bigint} epoch @param {number} next @param {number} now */
  constructor(topic, epoch, next, now) {
    super(next, now);
    this.topic = topic;
    this.epoch = epoch;
  }
}

/** The cursors of one subscription, through all its sessions. */
export class Cursors {
  /** The position at its beginning, or of its last Mark. @type {{ run: any, position: any } | null} */
  since = null;
  /** Cursors with holes, in this session. @type {Set<Cursor>} */
  withHoles = new Set();
  /** @type {Map<string, Cursor>} */
  #byName = new Map();
  /** By number in this session: null for a topic that the daemon has forgotten. @type {Map<any, Cursor | null>} */
  byId = new Map();
  #marks = 0;
  /** Cursors with a message that may stand after the next Mark, and its sequence. @type {Map<Cursor, number>} */
  #ahead = new Map();

  /** A new session begins: numbers of topics are its own. */
  startSession() {
    this.byId.clear();
    this.withHoles.clear();
  }

  /** Everything up to this position has arrived, except what cursors name. */
  mark(run, position) {
    this.since = { run, position };
    this.#marks++;
    for (const cursor of this.#ahead.keys()) cursor.mark = this.#marks;
  }

  /**
   * A topic was announced. Returns its cursor, or null if it was known in this session.
   *
   * @param {Frame} frame a Topic @param {boolean} ordered @param {number} now
   */
  announce({ id, name, epoch: number, next: first }, ordered, now) {
    if (this.byId.has(id)) return null;
    const epoch = BigInt(number);
    let cursor = this.#byName.get(name);
    // A topic that was forgotten returns with another number and another epoch.
    if (cursor && this.byId.get(cursor.id) === cursor) {
      this.byId.set(cursor.id, null);
      this.withHoles.delete(cursor);
    }
    const next = toSafeInteger(first);
    // In the same epoch the cursor goes on, and drops what it has received.
    if (cursor?.epoch !== epoch || (ordered && next > cursor.end)) {
      cursor = new Cursor(name, epoch, next, now);
      this.#byName.set(name, cursor);
    }
    cursor.id = id;
    cursor.expected = next;
    cursor.mark = this.#marks;
    this.byId.set(id, cursor);
    return cursor;
  }

  /**
   * A topic moved to a sequence. `unordered`: by another way than the subscription's stream, so
   * that the message may stand after the next Mark.
   *
   * @param {Cursor} cursor @param {number} sequence @param {boolean} unordered
   */
  moved(cursor, sequence, unordered) {
    cursor.mark = this.#marks;
    if (unordered) this.#ahead.set(cursor, sequence);
    else if (!((this.#ahead.get(cursor) ?? 0) > sequence)) this.#ahead.delete(cursor);
  }

  /**
   * Returns where a Subscribe starts: at the option, or where the subscription stopped.
   *
   * @param {any} option the choice of the page @param {any} run the run of the daemon
   */
  start(option, run) {
    const { since } = this, bounded = !this.#marks && option !== "New" && option !== "All";
    // With Latest, Last or a sequence, the topics to resume are those that have arrived.
    if (!since || (bounded && !this.#byName.size)) return option;
    const otherRun = since.run !== run;
    // Messages of these would be lost without an entry. Those of others would arrive twice.
    const need = ({ holes }) => +bounded || holes.length;
    const topics = [...this.#byName.values()]
      .filter((cursor) => otherRun || cursor.mark === this.#marks || need(cursor))
      .sort((a, b) => need(b) - need(a));
    let left = TOPICS_BYTES;
    const listed = topics.filter(({ topic }) => (left -= toUtf8(topic).length + TOPIC_BYTES) > 0);
    if (listed.length < topics.length && need(topics[listed.length])) {
      throw new WeirError(FRAME_TOO_LARGE, `${topics.length} topics are too many to resume: ` +
        "split the filter");
    }
    // Of each hole, how many sequences are missing, and how many arrived after them.
    const had = listed.map(({ holes, end }, topic) => ({
      topic,
      ranges: holes.slice(0, RANGES).map(({ first, last }, at) =>
        [last - first + 1, (holes[at + 1]?.first ?? end) - last - 1]),
    })).filter(({ ranges }) => ranges.length).slice(0, TOPICS_WITH_RANGES);
    return { [had.length ? "ResumeWith" : "Resume"]: { since, topics: listed, had } };
  }
}
