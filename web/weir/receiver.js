// Finds the holes in the sequences of one topic. src/wire/realtime/receiver.rs does the same; both
// pass tests/vectors/receiver.json.

import { clamp } from "./util.js";

/** Maximum holes in one repair request, and maximum sequences that one datagram asks for. */
const REQUEST_HOLES = 64;

/** Maximum holes of a topic. A message that would make one more is dropped, and requested again. */
const TOPIC_HOLES = 1024;

/** Times that a hole is requested in a datagram before it is requested on the control stream. */
const DATAGRAM_TRIES = 2;

/** Returns how long to wait for the answer to a datagram, in ms. @param {number} rtt */
export const answerTime = (rtt) => rtt * 1.25 + 10;

/**
 * What a subscription has received of one topic: everything below `top` except the holes, which are
 * in order. Pure: the caller passes the time and the round trip, in ms.
 */
export class Receiver {
  holes = [];
  /** When the last message in order arrived. */
  #arrived;

  /** @param {number} next the first sequence that is wanted @param {number} now */
  constructor(next, now) {
    this.top = next;
    this.#arrived = now;
  }

  /** The lowest sequence that is missing. @returns {number} */
  get next() {
    return this.holes[0]?.first ?? this.top;
  }

  /** All sequences below `end` exist; the message before the hole arrived at `at`. */
  told(end, now, rtt, at = this.#arrived) {
    if (end <= this.top || this.holes.length > TOPIC_HOLES) return;
    // A repeated or reordered datagram needs this long, and no request.
    const due = at + clamp(rtt / 8, 1, 6) + 2;
    this.holes.push({ first: this.top, last: end - 1, seen: now, due, tries: 0 });
    this.top = end;
  }

  /** These sequences arrived, or never will. Returns the parts that are new. */
  take(first, last, now, rtt) {
    const fresh = [];
    if (first === this.top && !this.holes.length) {
      this.top = last + 1;
      this.#arrived = now;
      return [{ first, last }];
    }
    this.told(last + 1, now, rtt);
    const { holes } = this, full = holes.length > TOPIC_HOLES;
    // Binary search for the first hole that does not end below.
    let at = 0;
    for (let end = holes.length; at < end; ) {
      const middle = (at + end) >> 1;
      if (holes[middle].last < first) at = middle + 1;
      else end = middle;
    }
    while (holes[at]?.first <= last) {
      const hole = holes[at], from = Math.max(first, hole.first), to = Math.min(last, hole.last);
      const rest = [{ ...hole, last: from - 1 }, { ...hole, first: to + 1 }]
        .filter(({ first, last }) => first <= last);
      if (full && rest.length > 1) break;
      fresh.push({ ...hole, first: from, last: to });
      holes.splice(at, 1, ...rest);
      at += rest.length;
    }
    if (fresh.length && last + 1 === this.top) this.#arrived = now;
    return fresh;
  }

  /** Returns what to request in a datagram and on the control stream, and what is given up. */
  due(now, rtt, deadline) {
    const quick = [], sure = [], late = [];
    let left = REQUEST_HOLES, wake = Infinity;
    this.holes = this.holes.filter((hole) => {
      const { first, last } = hole, size = last - first + 1;
      const end = deadline ? hole.seen + deadline - rtt / 2 : Infinity;
      if (now >= end) {
        late.push(hole);
        return false;
      }
      if (now >= hole.due) {
        hole.due = now + answerTime(rtt);
        if (hole.tries < DATAGRAM_TRIES && size <= left) {
          left -= size;
          hole.tries++;
          quick.push([first, last]);
        } else if (sure.length < REQUEST_HOLES) {
          // The control stream loses nothing.
          hole.due = now + 1000 + 4 * rtt;
          hole.tries = DATAGRAM_TRIES;
          sure.push([first, last]);
        }
      }
      wake = Math.min(wake, hole.due, end);
      return true;
    });
    return { quick, sure, late, wake };
  }
}
