// The latencies that the plot shows: single samples, and medians from moment to moment. Times are
// milliseconds of performance.now().

const LEAST = 0.02; // ms: a coarse clock says 0, and a logarithmic axis has no 0
const SPARE = 500; // entries that may be outdated, so that not every call moves all the others

export class History {
  #span;

  /** Keeps `series` series for `span` milliseconds. */
  constructor(series, span) {
    this.#span = span;
    /** Of each series: the times and the latencies of its samples, oldest first. */
    this.samples = Array.from({ length: series }, () => ({ at: [], ms: [] }));
    /** The moments, oldest first, and the median of each series at them. Null breaks its line. */
    this.medians = { at: [], ms: Array.from({ length: series }, () => []) };
  }

  /** Adds one sample. */
  add(series, at, ms) {
    this.samples[series].at.push(at);
    this.samples[series].ms.push(Math.max(ms, LEAST));
  }

  /** Adds the medians of all series at a moment, null where there is none. */
  addMedians(at, medians) {
    this.medians.at.push(at);
    this.medians.ms.forEach((column, i) => {
      column.push(medians[i] === null ? null : Math.max(medians[i], LEAST));
    });
  }

  /** Breaks all lines at a moment. */
  breakLines(at) {
    this.addMedians(at, this.medians.ms.map(() => null));
  }

  /** Returns the index of the first entry of `times` that is shown when it is `now`. */
  first(times, now) {
    let [low, high] = [0, times.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < now - this.#span) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Removes entries that are no longer shown, many at once. */
  forget(now) {
    for (const { at, ms } of this.samples) this.#cut(at, [ms], now);
    this.#cut(this.medians.at, this.medians.ms, now);
  }

  #cut(times, others, now) {
    // One entry before the window stays: a line comes in from there.
    const outdated = this.first(times, now) - 1;
    if (outdated > SPARE) for (const column of [times, ...others]) column.splice(0, outdated);
  }

  /** Returns the lowest and the highest latency that are shown when it is `now`; NaN without any. */
  extent(now) {
    let [low, high] = [Infinity, -Infinity];
    const look = (times, column) => {
      for (let i = this.first(times, now); i < column.length; i += 1) {
        const ms = column[i];
        if (ms === null) continue;
        if (ms < low) low = ms;
        if (ms > high) high = ms;
      }
    };
    for (const { at, ms } of this.samples) look(at, ms);
    for (const column of this.medians.ms) look(this.medians.at, column);
    return low === Infinity ? [NaN, NaN] : [low, high];
  }
}
