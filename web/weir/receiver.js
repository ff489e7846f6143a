// Finds the holes in the sequences of one topic. src/wire/realtime/receiver.rs does the same, and
// both pass tests/vectors/receiver.json.

import { clamp } from "./util.js";

/** @typedef {{ first: number, last: number, since: number, due: number, tries: number }} Hole */

/** Maximum holes in a repair request, and maximum sequences that a datagram requests. */
const REPAIR_HOLES = 64;

/** Maximum holes of a topic, beside one at its end. */
const TOPIC_HOLES = 1024;

/** Times that a hole is requested in a datagram before it is requested on the control stream. */
const DATAGRAM_TRIES = 2;

/** Returns how long to wait for the answer to a request in a datagram, in ms. @param {number} rtt */
export const answerTime = (rtt) => rtt * 1.25 + 10;

/** Appends a range, or extends the last one that it touches. @param {any[]} ranges @param {any} range */
const join = (ranges, range) => {
  const before = ranges.at(-1);
  if (before?.last === range.first - 1) before.last = range.last;
  else ranges.push(range);
};

/**
 * The sequences of a topic that a subscription has received: all below `end` except the holes.
 * Pure: the caller passes the time and the round trip, in ms.
 */
export class Receiver {
  /** In order, not overlapping, all below `end`. @type {Hole[]} */
  holes = [];
  /** When the message or gap arrived that is just below `end`. */
  #arrived;

  /** @param {number} next the first sequence that is wanted @param {number} now */
  constructor(next, now) {
    this.end = next;
    this.#arrived = now;
  }

  /** The lowest sequence that is missing. @returns {number} */
  get next() {
    return this.holes[0]?.first ?? this.end;
  }

  /**
   * The topic has all sequences up to this one. The message before the hole arrived at `arrived`.
   *
   * @param {number} sequence @param {number} now @param {number} rtt @param {number} [arrived]
   */
  head(sequence, now, rtt, arrived) {
    if (sequence >= this.end) this.#extend(sequence + 1, sequence, now, rtt, arrived);
  }

  /**
   * These sequences arrived, or never will. Returns the parts that are new, in order. Without room
   * for another hole, the sequences that need one stay missing, and are requested again.
   *
   * @param {number} first @param {number} last @param {number} now @param {number} rtt
   * @returns {{ first: number, last: number, tries?: number }[]}
   */
  receive(first, last, now, rtt) {
    const { holes, end } = this, fresh = [];
    // The first hole that does not end below.
    let at = first < end ? holes.findIndex((hole) => hole.last >= first) : -1;
    const hasRoom = holes.length < TOPIC_HOLES;
    while (holes[at]?.first <= last) {
      const hole = holes[at], from = Math.max(first, hole.first), to = Math.min(last, hole.last);
      const rest = [{ ...hole, last: from - 1 }, { ...hole, first: to + 1 }]
        .filter(({ first, last }) => first <= last);
      // A hole that is split, or cut off from the end, makes room for one more.
      if (!hasRoom && (rest.length > 1 || (from > hole.first && to === end - 1))) break;
      join(fresh, { ...hole, first: from, last: to });
      holes.splice(at, 1, ...rest);
      at += rest.length;
    }
    if (last >= end && this.#extend(first, last, now, rtt)) {
      join(fresh, { first: Math.max(first, end), last });
    }
    if (fresh.length && last === this.end - 1) this.#arrived = now;
    return fresh;
  }

  // All sequences up to `last` exist, and those from `received` on arrived. Returns whether they did
  // so. Without room for another hole, they join the hole at the end, for which there is always room.
  #extend(received, last, now, rtt, arrived = this.#arrived) {
    const { holes, end: first } = this, before = holes.at(-1), touches = before?.last === first - 1;
    // A repeated or reordered datagram arrives within this time, without a request.
    const due = Math.max(arrived + clamp(rtt / 8, 1, 6) + 2, now);
    const add = (last) => holes.push({ first, last, since: now, due, tries: 0 });
    this.end = last + 1;
    if (holes.length < TOPIC_HOLES || (received <= first && !touches)) {
      if (received > first) add(received - 1);
      return true;
    }
    if (touches) before.last = last;
    else add(last);
    return false;
  }

  /**
   * Returns the repairs to request now, the ranges that have passed their deadline, and when to call
   * again.
   *
   * @param {number} now @param {number} rtt @param {number} deadline 0: none
   */
  poll(now, rtt, deadline) {
    const byDatagram = [], byStream = [], late = [];
    let left = REPAIR_HOLES, wake = Infinity;
    this.holes = this.holes.filter((hole) => {
      const { first, last, since } = hole, size = last - first + 1;
      const end = deadline ? since + deadline - rtt / 2 : Infinity;
      if (now >= end) {
        join(late, { first, last });
        return false;
      }
      if (now >= hole.due) {
        hole.due = now + answerTime(rtt);
        if (hole.tries < DATAGRAM_TRIES && size <= left) {
          left -= size;
          hole.tries++;
          byDatagram.push([first, last]);
        } else if (byStream.length < REPAIR_HOLES) {
          // The control stream loses nothing.
          hole.due = now + 1000 + 4 * rtt;
          hole.tries = DATAGRAM_TRIES;
          byStream.push([first, last]);
        }
        // The daemon remembers 64 holes and drops further ones: these are requested a little later.
      }
      wake = Math.min(wake, hole.due, end);
      return true;
    });
    const repairs = [{ holes: byDatagram, reliable: false }, { holes: byStream, reliable: true }]
      .filter(({ holes }) => holes.length);
    return { repairs, late, wake };
  }
}
