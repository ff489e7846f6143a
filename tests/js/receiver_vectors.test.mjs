// tests/vectors/receiver.json, which the receiver of the Rust client passes too.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Receiver } from "../../web/weir/index.js";

const cases = JSON.parse(readFileSync(new URL("../vectors/receiver.json", import.meta.url), "utf8"));
const LIMIT = 1024;

/** A sequence: a number, or a text such as `2L+3`, with `L` for the limit of holes. */
const sequence = (value) => String(value).split("+").reduce((sum, term) =>
  sum + (term.endsWith("L") ? parseInt(term) * LIMIT : Number(term)), 0);
const range = ([first, last]) => [sequence(first), sequence(last)];
const plain = ({ first, last }) => [first, last];

/** The value of this side, if the two sides differ for a reason. */
const own = (value) => value?.javascript ?? value;

const run = ({ next, steps, ...rest }) => {
  // The vectors are in µs.
  const rtt = rest.rtt / 1000, deadline = rest.deadline / 1000;
  const receiver = new Receiver(sequence(next), 0);
  const isMissing = (n) => n >= receiver.end ||
    receiver.holes.some(({ first, last }) => first <= n && n <= last);
  const due = () => Math.min(...receiver.holes.map(({ due, since }) =>
    deadline ? Math.min(due, since + deadline - rtt / 2) : due));
  for (const step of steps) {
    const now = step.at / 1000, text = JSON.stringify(step);
    const message = (n) => {
      const fresh = receiver.receive(n, n, now, rtt);
      assert.ok(fresh.length <= 1, text);
      assert.equal(fresh.length ? "new" : isMissing(n) ? "full" : "duplicate", step.is, `${n} in ${text}`);
    };
    if (step.message) message(sequence(step.message));
    else if (step.messages) {
      const [first, last] = range(step.messages);
      for (let n = first; n <= last; n += step.messages[2]) message(n);
    } else if (step.gap) {
      const fresh = receiver.receive(...range(step.gap), now, rtt);
      assert.deepEqual(fresh.map(plain), step.new.map(range), text);
    } else if (step.head) receiver.head(sequence(step.head), now, rtt);
    else {
      const { repairs, late, wake } = receiver.poll(now, rtt, deadline), expected = own(step.poll);
      assert.deepEqual([
        ...late.map((hole) => ({ late: plain(hole) })),
        ...repairs.map(({ holes, reliable }) => expected.some(({ count }) => count)
          ? { count: holes.length, reliable } : { holes, reliable }),
      ], expected, text);
      assert.equal(wake, due());
    }
    if ("due" in step) assert.equal(due(), step.due === null ? Infinity : step.due / 1000, text);
    if ("next" in step) assert.equal(receiver.next, sequence(step.next), text);
    if ("holes" in step) assert.deepEqual(receiver.holes.map(plain), step.holes.map(range), text);
    if ("last hole" in step) assert.deepEqual(plain(receiver.holes.at(-1)), range(step["last hole"]), text);
  }
};

for (const one of cases) {
  test(one.name, () => {
    if (one.limit) assert.equal(own(one.limit), LIMIT);
    run(one);
  });
}
