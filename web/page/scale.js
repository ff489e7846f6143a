// The geometry of the plot: its axes, their ticks, and the texts beside them. It needs no browser.
// Positions are device pixels, so that lines and dots begin and end between two of them.

const STEPS = [1, 2, 5]; // the ticks of each decade
const TICK_ROOM = 20; // least distance between two labelled ticks, CSS pixels
const TICK_GAP = 6; // distance between a label and the plot, CSS pixels
const AIR = 8; // room above the plot for half a label, and at its right for the newest dot, CSS pixels

/** Returns the latencies 1, 2, 5, 10, 20, 50 … ms from `low` to `high`, both included. */
export function ticks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const step of STEPS) {
      const ms = power < 0 ? step / 10 ** -power : step * 10 ** power;
      // Bounds may be off by a rounding error.
      if (ms >= low * 0.999 && ms <= high * 1.001) found.push(ms);
    }
  }
  return found;
}

/**
 * Returns the lowest and the highest latency of an axis that shows `low` to `high` ms. Both are ticks,
 * lie 2 % outside the data or further, and are at least a decade apart.
 */
export function bounds(low, high) {
  if (!(low > 0) || !(high > 0)) return [0.1, 10];
  const near = ticks(low / 10, high * 100);
  const bottom = near.filter((ms) => ms <= low * 0.98).at(-1) ?? near[0];
  const above = near.find((ms) => ms >= high * 1.02) ?? high * 2;
  const decade = near.find((ms) => ms >= bottom * 9.99) ?? bottom * 10;
  return [bottom, Math.max(above, decade)];
}

/** Whether a latency is a power of ten. */
export function isDecade(ms) {
  return Math.abs(Math.log10(ms) - Math.round(Math.log10(ms))) < 1e-9;
}

/** Returns the text of a tick: microseconds below 0.1 ms, seconds from 1,000 ms. */
export function latencyLabel(ms) {
  const short = (value) => String(Number(value.toPrecision(1)));
  if (ms < 0.0999) return `${short(ms * 1000)} µs`;
  if (ms > 999) return `${short(ms / 1000)} s`;
  return `${short(ms)} ms`;
}

/**
 * Returns the ticks that get a label, so that no two are nearer than `room` pixels. These are all ticks
 * if there is room. If not, these are the decades, and the first and the last tick where they fit.
 */
export function labelled(all, position, room) {
  const far = (a, b) => Math.abs(position(a) - position(b)) >= room;
  if (all.every((ms, i) => i === 0 || far(ms, all[i - 1]))) return all;
  const decades = all.filter(isDecade);
  return all.filter((ms, i) => isDecade(ms) ||
    ((i === 0 || i === all.length - 1) && decades.every((decade) => far(ms, decade))));
}

/** Returns the ages (seconds) that the time axis marks, oldest first, and their texts. */
export function ages(span) {
  const marks = [];
  for (let age = span; age >= 0; age -= 10) {
    marks.push({ age, text: age === 0 ? "now" : `${age} s${age === span ? " ago" : ""}` });
  }
  return marks;
}

/**
 * Places the plot on its canvas, which has `width` × `height` pixels. `ratio` is the number of device
 * pixels in a CSS pixel. `gutter` and `line` are the width and the height of labels, in device pixels.
 * The plot has at least 1 × 1 pixel.
 */
export function layout({ width, height, ratio, gutter, line }) {
  const px = (css) => Math.round(css * ratio);
  const hair = Math.max(1, Math.floor(ratio)); // the width of a rule
  const left = Math.min(Math.ceil(gutter) + px(TICK_GAP), width - 2);
  const top = Math.max(px(AIR), Math.ceil(line / 2));
  return {
    left,
    top,
    right: Math.max(left + 1, width - px(AIR)),
    bottom: Math.max(top + 1, height - Math.ceil(line) - px(TICK_GAP)),
    width,
    height,
    hair,
    ratio,
    room: px(TICK_ROOM),
    gap: px(TICK_GAP),
  };
}

/** Returns a function from a latency (ms) to its row: logarithmic, the higher the further up. */
export function rows({ top, bottom }, [low, high]) {
  const scale = (bottom - top) / Math.log(high / low);
  const zero = bottom + Math.log(low) * scale;
  return (ms) => zero - Math.log(ms) * scale;
}

/**
 * Returns a function from a moment to its column; `now` is at the right edge, `span` ms before it at
 * the left. From one `now` to the next all moments move by the same whole number of pixels. Without
 * this, dots would flicker while they move.
 */
export function columns({ left, right }, span, now) {
  const scale = (right - left) / span;
  const offset = right - Math.floor(now * scale);
  return (at) => offset + Math.floor(at * scale);
}
