// The receiver's state machine alone, over a network that loses, doubles and reorders. Time is
// simulated, chance is seeded: WEIR_SEED=n runs that seed only.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Receiver } from "../../web/weir/index.js";
import { seeded } from "./fake.mjs";

const SEEDS = process.env.WEIR_SEED ? [Number(process.env.WEIR_SEED)]
  : [1, 2, 3, ...Array.from({ length: 150 }, () => Math.floor(Math.random() * 2 ** 31))];

/** Everything that is to happen, by its time. */
class Agenda {
  #list = [];
  at(time, call) {
    let i = this.#list.length;
    while (i > 0 && this.#list[i - 1].time > time) i--;
    this.#list.splice(i, 0, { time, call });
  }
  run(end) {
    for (let next; (next = this.#list.shift()) && next.time <= end; ) next.call(next.time);
  }
}

// One topic, its daemon and its network, until everything has come. Gives what happened.
const simulate = (seed, { deadline = 0 } = {}) => {
  const random = seeded(seed), between = (low, high) => low + random() * (high - low);
  const rtt = between(2, 120), loss = between(0, 0.4), jitter = between(0, 20);
  const begin = 1 + Math.floor(between(0, 50)), count = 200;
  const evicted = new Set(), sent = new Map(), agenda = new Agenda();
  const receiver = new Receiver(begin, 0);
  const had = new Map(), log = { delivered: 0, copies: 0, late: 0, gone: 0, asks: 0 };
  const asked = new Map();

  const fresh = (parts, what, now) => {
    let before = 0;
    for (const { first, last } of parts) {
      assert.ok(first <= last && first > before, "in order, not overlapping");
      before = last;
      for (let n = first; n <= last; n++) {
        assert.ok(!had.has(n), `${n} twice: ${had.get(n)}, ${what}`);
        had.set(n, what);
        if (what !== "gone") assert.ok(sent.get(n) <= now);
      }
    }
  };
  const act = (now) => {
    const { repairs, late, wake } = receiver.poll(now, rtt, deadline);
    assert.ok(wake > now || !receiver.holes.length && !late.length, `${wake} at ${now}`);
    for (const { holes, reliable } of repairs) {
      assert.ok(holes.length > 0 && holes.length <= 64);
      let size = 0, before = 0;
      for (const [first, last] of holes) {
        assert.ok(before < first && first <= last, "in order, not overlapping");
        before = last;
        size += last - first + 1;
        for (let n = first; n <= last; n++) {
          assert.ok(!had.has(n), "asked for what it has had");
          const { at = -Infinity, tries = 0, reliably } = asked.get(n) ?? {};
          const wait = reliably ? 1000 + 4 * rtt : rtt * 1.25 + 10;
          assert.ok(now - at >= wait - 1e-6, `asked for ${n} again after ${now - at} ms`);
          if (!reliable) assert.ok(tries < 2 && !reliably, "by datagram twice only");
          asked.set(n, { at: now, tries: tries + 1, reliably: reliable });
        }
      }
      if (size) log.asks++;
      if (!reliable) assert.ok(size <= 64, "64 sequences in a datagram");
      if (size && (reliable || random() >= loss)) {
        const arrives = now + rtt / 2;
        agenda.at(arrives, () => answer(holes, reliable, arrives));
      }
    }
    for (const { first, last } of late) {
      log.late += last - first + 1;
      fresh([{ first, last }], "late", now);
    }
    if (wake < Infinity && receiver.holes.length) agenda.at(wake, act);
  };
  const arrive = (n, now) => {
    const next = receiver.next;
    const parts = receiver.receive(n, n, now, rtt);
    assert.ok(parts.length <= 1);
    if (parts.length) log.delivered++;
    else log.copies++;
    fresh(parts, "delivered", now);
    assert.ok(receiver.next >= next);
    assert.ok(had.has(n) || receiver.holes.some(({ first, last }) => first <= n && n <= last));
    act(now);
  };
  const transmit = (n, now, reliably = false) => {
    if (!reliably && random() < loss) return;
    const copies = !reliably && random() < 0.1 ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      agenda.at(now + rtt / 2 + between(0, jitter), (now) => arrive(n, now));
    }
  };
  const gone = (n, now) => agenda.at(now + rtt / 2, (now) => {
    const parts = receiver.receive(n, n, now, rtt);
    log.gone += parts.length;
    fresh(parts, "gone", now);
    act(now);
  });
  const answer = (holes, reliably, now) => {
    for (const [first, last] of holes) {
      for (let n = first; n <= last; n++) {
        if (evicted.has(n)) gone(n, now);
        else transmit(n, now, reliably);
      }
    }
  };

  let now = 0;
  for (let n = begin; n < begin + count; n++) {
    now += random() < 0.7 ? between(0, 3) : between(3, 80);
    sent.set(n, now);
    const at = now, newest = n;
    if (random() < 0.05) evicted.add(n);
    agenda.at(at, () => {
      transmit(n, at);
      if (random() < 0.7) transmit(n, at + between(2, 6));
    });
    // The head, reliably.
    agenda.at(at + 25 + rtt / 2, (now) => {
      receiver.head(newest, now, rtt);
      act(now);
    });
  }
  agenda.run(now + 60_000);
  const missing = Array.from({ length: count }, (_, i) => begin + i).filter((n) => !had.has(n));
  assert.deepEqual(missing, []);
  assert.equal(receiver.next, begin + count);
  assert.deepEqual(receiver.holes, []);
  return { ...log, loss, rtt };
};

const each = (title, run) => test(title, () => {
  const sums = {};
  for (const seed of SEEDS) {
    try {
      for (const [name, n] of Object.entries(run(seed))) sums[name] = (sums[name] ?? 0) + n;
    } catch (error) {
      error.message = `WEIR_SEED=${seed}: ${error.message}`;
      throw error;
    }
  }
  console.log(title, `${SEEDS.length} seeds:`, JSON.stringify(sums));
  return sums;
});

each("each sequence once, or told", (seed) => {
  const said = simulate(seed);
  assert.equal(said.late, 0);
  return said;
});

each("with a deadline: once, or late, or gone", (seed) =>
  simulate(seed, { deadline: 20 + (seed % 300) }));

test("when it asks, and how often", () => {
  const rtt = 40, receiver = new Receiver(1, 0);
  const due = (now) => {
    const { repairs, late, wake } = receiver.poll(now, rtt, 0);
    assert.deepEqual(late, []);
    return [...repairs.map(({ holes, reliable }) => [reliable ? "reliable" : "datagram", ...holes]), wake];
  };
  receiver.receive(1, 1, 100, rtt);
  receiver.receive(3, 3, 101, rtt);
  assert.deepEqual(receiver.holes.map(({ first, last, due }) => [first, last, due]), [[2, 2, 107]]);
  assert.deepEqual(due(106), [107]);
  assert.deepEqual(due(107), [["datagram", [2, 2]], 167]);
  assert.deepEqual(due(166), [167]);
  assert.deepEqual(due(167), [["datagram", [2, 2]], 227]);
  assert.deepEqual(due(227), [["reliable", [2, 2]], 1387]);
  assert.deepEqual(due(1387), [["reliable", [2, 2]], 2547]);
  // The grace is over when the hole is seen.
  receiver.receive(5, 5, 2000, rtt);
  assert.deepEqual(due(2000), [["datagram", [4, 4]], 2060]);
  // Deadline, less half a round trip.
  const late = (now) => receiver.poll(now, rtt, 100).late.map(({ first, last }) => [first, last]);
  assert.deepEqual(late(2079), [[2, 2]]);
  assert.deepEqual(late(2080), [[4, 4]]);
  assert.equal(receiver.next, 6);
});

test("many at once: 64 in the datagram, the rest reliably", () => {
  const receiver = new Receiver(1, 0);
  for (let n = 2; n <= 200; n += 2) receiver.receive(n, n, 0, 50);
  receiver.receive(1000, 1000, 0, 50);
  const { repairs } = receiver.poll(500, 50, 0);
  assert.deepEqual(repairs.map(({ holes, reliable }) => [holes.length, reliable]), [[64, false], [37, true]]);
  assert.deepEqual(repairs[1].holes.at(-1), [201, 999]);
  receiver.head(2000, 500, 50);
  assert.deepEqual(receiver.poll(600, 50, 0).repairs.at(-1), { holes: [[1001, 2000]], reliable: true });
});

test("a gap tells what had not come", () => {
  const receiver = new Receiver(1, 0), ranges = (parts) => parts.map(({ first, last }) => [first, last]);
  for (const n of [1, 3, 6]) receiver.receive(n, n, 0, 50);
  assert.deepEqual(ranges(receiver.receive(1, 8, 0, 50)), [[2, 2], [4, 5], [7, 8]]);
  assert.deepEqual([receiver.next, receiver.end], [9, 9]);
  assert.deepEqual(ranges(receiver.receive(2, 9, 0, 50)), [[9, 9]]);
  assert.deepEqual(receiver.receive(4, 5, 0, 50), []);
  assert.deepEqual(ranges(receiver.receive(12, 20, 0, 50)), [[12, 20]]);
  assert.deepEqual(ranges(receiver.receive(10, 10, 0, 50)), [[10, 10]]);
  assert.deepEqual(ranges(receiver.holes), [[11, 11]]);
});

test("a thousand holes and one at the end: the rest has not come, and comes again", () => {
  const receiver = new Receiver(1, 0), room = 1024;
  const last = () => [receiver.holes.length, receiver.holes.at(-1).first, receiver.holes.at(-1).last];
  for (let n = 2; n <= 4000; n += 2) {
    assert.equal(receiver.receive(n, n, 0, 50).length, n <= 2 * room ? 1 : 0);
  }
  assert.deepEqual([...last(), receiver.end], [room + 1, 2 * room + 1, 4000, 4001]);
  receiver.head(5000, 0, 50);
  assert.deepEqual(receiver.receive(5000, 5000, 0, 50), []);
  assert.deepEqual([...last(), receiver.end], [room + 1, 2 * room + 1, 5000, 5001]);
  // All of it is asked for.
  const all = receiver.poll(10, 0, 5).late;
  assert.deepEqual([receiver.holes, all.at(-1)], [[], { first: 2 * room + 1, last: 5000 }]);
});

test("when a thousand holes are fewer there is room again", () => {
  const receiver = new Receiver(1, 0), room = 1024;
  for (let n = 2; n <= 4000; n += 2) receiver.receive(n, n, 0, 50);
  for (const n of [1, 3]) assert.equal(receiver.receive(n, n, 0, 50).length, 1);
  receiver.head(6000, 0, 50);
  assert.deepEqual([receiver.holes.length, receiver.holes.at(-1).last], [room, 6000]);
  // Nor are there more when they are split.
  for (const n of [5010, 5020, 5030]) receiver.receive(n, n, 0, 50);
  assert.ok(receiver.holes.length <= room + 1);
  // At their beginnings they still shrink.
  const { first } = receiver.holes.at(-1);
  assert.equal(receiver.receive(first, first, 0, 50).length, 1);
});
