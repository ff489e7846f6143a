// The page's plot without a browser: its axes, their texts, its geometry, and the window of samples.

import assert from "node:assert/strict";
import { test } from "node:test";
import { History } from "../../web/page/history.js";
import { ages, bounds, columns, isDecade, labelled, latencyLabel, layout, rows, ticks } from "../../web/page/scale.js";

const area = (changed = {}) => layout({ width: 600, height: 330, ratio: 1, gutter: 42, line: 13, ...changed });

test("ticks are 1, 2, 5 of each decade, both ends included, without rounding errors", () => {
  assert.deepEqual(ticks(0.1, 10), [0.1, 0.2, 0.5, 1, 2, 5, 10]);
  assert.deepEqual(ticks(20, 200), [20, 50, 100, 200]);
  assert.deepEqual(ticks(0.02, 0.05), [0.02, 0.05]);
  assert.deepEqual(ticks(3, 4), []);
  for (const ms of ticks(0.001, 100_000)) assert.ok(String(ms).length <= 6, `${ms}`);
});

test("bounds are ticks around the data, a decade apart or more", () => {
  assert.deepEqual(bounds(50.2, 180), [20, 200]);
  assert.deepEqual(bounds(51.5, 180), [50, 500]);
  assert.deepEqual(bounds(0.9, 14), [0.5, 20]);
  assert.deepEqual(bounds(3, 3), [2, 20]);
  // The 2 % of air move an end that the data touch.
  assert.deepEqual(bounds(1, 10), [0.5, 20]);
  // Nothing to show, or only what a logarithmic axis cannot show.
  for (const none of [[NaN, NaN], [0, 0], [0, 5], [Infinity, -Infinity]]) assert.deepEqual(bounds(...none), [0.1, 10]);
  for (let low = 0.02; low < 5000; low *= 1.07) {
    for (const ratio of [1, 1.5, 4, 30, 900]) {
      const [bottom, top] = bounds(low, low * ratio);
      assert.ok(bottom < low && top > low * ratio, `${low} ${ratio}`);
      assert.ok(top / bottom >= 9.99, `${low} ${ratio}`);
      const all = ticks(bottom, top);
      assert.deepEqual([all[0], all.at(-1)], [bottom, top], `${low} ${ratio}`);
    }
  }
});

test("labels have the unit that keeps them short", () => {
  const texts = { 0.02: "20 µs", 0.05: "50 µs", 0.1: "0.1 ms", 0.5: "0.5 ms", 1: "1 ms", 200: "200 ms", 1000: "1 s", 5000: "5 s" };
  for (const [ms, text] of Object.entries(texts)) assert.equal(latencyLabel(Number(ms)), text);
  assert.deepEqual(ticks(0.01, 10_000).filter(isDecade), [0.01, 0.1, 1, 10, 100, 1000, 10_000]);
});

test("labels never run into one another, whatever the height", () => {
  for (let height = 60; height < 900; height += 7) {
    for (const range of [[0.1, 10], [0.5, 20], [20, 200], [0.02, 2000], [0.05, 0.5]]) {
      const placed = area({ height });
      const row = rows(placed, range);
      const all = ticks(...range);
      const shown = labelled(all, row, placed.room);
      assert.ok(shown.every((ms) => all.includes(ms)));
      for (let i = 1; i < shown.length; i += 1) {
        const distance = row(shown[i - 1]) - row(shown[i]);
        const crowded = isDecade(shown[i]) && isDecade(shown[i - 1]); // decades are labelled always
        assert.ok(distance >= placed.room || crowded, `${range} at ${height}: ${shown}`);
      }
    }
  }
  const roomy = area({ height: 400 });
  assert.deepEqual(labelled(ticks(0.5, 20), rows(roomy, [0.5, 20]), roomy.room), ticks(0.5, 20));
  // Four decades on a telephone: the decades, and the ends, which say how far the axis goes.
  const small = area({ height: 220 });
  assert.deepEqual(labelled(ticks(0.2, 500), rows(small, [0.2, 500]), small.room), [0.2, 1, 10, 100, 500]);
});

test("the time axis marks every ten seconds", () => {
  assert.deepEqual(ages(30).map(({ text }) => text), ["30 s ago", "20 s", "10 s", "now"]);
  assert.deepEqual(ages(30).map(({ age }) => age), [30, 20, 10, 0]);
});

test("the layout scales with the ratio, and survives a canvas of any size", () => {
  const [one, two] = [area(), area({ width: 1200, height: 660, ratio: 2, gutter: 84, line: 26 })];
  for (const edge of ["left", "right", "top", "bottom", "room", "gap", "hair"]) assert.equal(two[edge], 2 * one[edge], edge);
  assert.equal(area({ ratio: 1.5 }).hair, 1);
  for (const size of [1, 2, 10, 40, 100, 3000]) {
    for (const ratio of [0.5, 1, 1.25, 3]) {
      const { left, right, top, bottom, hair } = area({ width: size, height: size, ratio, gutter: 42 * ratio, line: 13 * ratio });
      assert.ok(right > left && bottom > top && hair >= 1, `${size} ${ratio}`);
      for (const edge of [left, right, top, bottom]) assert.ok(Number.isInteger(edge), `${size} ${ratio}`);
    }
  }
});

test("rows are logarithmic from the bottom to the top", () => {
  const placed = area();
  const row = rows(placed, [0.1, 10]);
  const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-6, `${a} ${b}`);
  near(row(0.1), placed.bottom);
  near(row(10), placed.top);
  near(row(1), (placed.bottom + placed.top) / 2);
});

test("moments move by whole pixels, all by the same number", () => {
  const placed = area();
  const start = 1_234_567.89;
  const moments = Array.from({ length: 200 }, (_, i) => start - i * 151.3);
  let before = moments.map(columns(placed, 30_000, start));
  assert.equal(before[0], placed.right);
  assert.ok(Math.abs(columns(placed, 30_000, start)(start - 30_000) - placed.left) <= 1);
  for (let now = start; now < start + 3000; now += 16.7) {
    const after = moments.map(columns(placed, 30_000, now));
    const moved = new Set(after.map((column, i) => before[i] - column));
    assert.equal(moved.size, 1);
    assert.ok([0, 1].includes([...moved][0]));
    before = after;
  }
});

test("the window: the extent is that of what is shown, and old entries go", () => {
  const history = new History(2, 1000);
  assert.deepEqual(history.extent(0), [NaN, NaN]);
  history.add(0, 0, 500);
  history.add(1, 600, 0); // a coarse clock
  history.addMedians(600, [4, null]);
  assert.deepEqual(history.extent(600), [0.02, 500]);
  assert.deepEqual(history.extent(1001), [0.02, 4]);
  assert.deepEqual(history.extent(5000), [NaN, NaN]);

  const long = new History(1, 1000);
  for (let at = 0; at < 100_000; at += 1) {
    long.add(0, at, 1);
    if (at % 10 === 0) long.addMedians(at, [1]);
    long.forget(at);
    assert.ok(long.samples[0].at.length < 1000 + 600 && long.medians.at.length < 100 + 600);
  }
  assert.equal(long.samples[0].at.length, long.samples[0].ms.length);
  assert.equal(long.medians.at.length, long.medians.ms[0].length);
  const first = long.first(long.samples[0].at, 99_999);
  assert.equal(long.samples[0].at[first], 98_999);
  // The line comes in from one entry before the window.
  assert.ok(long.medians.at[long.first(long.medians.at, 99_999) - 1] < 98_999);
});

test("a break ends all lines", () => {
  const history = new History(2, 1000);
  history.addMedians(0, [1, 2]);
  history.breakLines(10);
  history.addMedians(20, [3, 4]);
  assert.deepEqual(history.medians, { at: [0, 10, 20], ms: [[1, null, 3], [2, null, 4]] });
});
