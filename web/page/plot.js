// The plot: each echo a dot, the median of the last second a line; logarithmic, the newest at the right.

const STEPS = [1, 2, 5];

export class Plot {
  #frame;
  #names;
  #span;
  #uPlot = null;
  #chart = null;
  #data;
  #now = performance.now() / 1000;
  #held = false;
  #style = {};

  /** `names` are those of the two series; `span` is the width of the window, ms. */
  constructor(frame, names, span) {
    this.#frame = frame;
    this.#names = names;
    this.#span = span / 1000;
    this.#data = Array.from({ length: 1 + 2 * names.length }, () => []);
    this.#load();
  }

  // The library comes after everything else: the page works without it.
  async #load() {
    try {
      this.#uPlot = (await import("../vendor/uPlot.esm.js")).default;
    } catch {
      this.#frame.textContent = "The plot could not be loaded; the table has the figures.";
      return;
    }
    this.#colours();
    addEventListener("weir-theme", () => this.#colours());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#colours());
    this.#make();
    new ResizeObserver(() => {
      const { clientWidth: width, clientHeight: height } = this.#frame;
      if (width > 0 && height > 0) this.#chart.setSize({ width, height });
    }).observe(this.#frame);
  }

  #colours() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    this.#style = {
      axis: of("--muted"),
      grid: of("--rule"),
      lines: this.#names.map((name) => of(`--${name}`)),
      dots: this.#names.map((name) => of(`--${name}-dot`)),
    };
    this.#chart?.redraw(false);
  }

  #make() {
    const font = "11px system-ui, sans-serif";
    const of = (what, i) => () => this.#style[what][i];
    const series = [{}];
    // All dots lie below all lines.
    this.#names.forEach((_, i) => series.push({
      fill: of("dots", i), paths: dots(i === 0 ? 3 : 2.5), points: { show: false },
    }));
    this.#names.forEach((_, i) => series.push({
      stroke: of("lines", i), width: i === 0 ? 2.25 : 1.5, points: { show: false },
    }));
    const common = { stroke: () => this.#style.axis, font, ticks: { show: false }, labelFont: font };
    const options = {
      width: this.#frame.clientWidth || 320,
      height: this.#frame.clientHeight || 200,
      legend: { show: false },
      cursor: { show: false },
      select: { show: false },
      padding: [8, 12, 0, 0],
      pxAlign: 0,
      series,
      scales: {
        x: { time: false, range: () => [this.#now - this.#span, this.#now] },
        y: { distr: 3, log: 10, range: (_, low, high) => bounds(low, high) },
      },
      axes: [
        {
          ...common,
          size: 26,
          gap: 8,
          splits: () => [30, 20, 10, 0].map((ago) => this.#now - ago),
          values: () => ["30 s ago", "20", "10", "now"],
          grid: { stroke: () => this.#style.grid, width: 1 },
        },
        {
          ...common,
          size: 48,
          gap: 6,
          splits: (chart) => marks(chart.scales.y.min, chart.scales.y.max),
          filter: (_, splits) => splits,
          values: (_, splits) => {
            const few = splits.length > 7;
            return splits.map((ms, i) => (few && !decade(ms) && i > 0 && i < splits.length - 1 ? "" : `${label(ms)} ms`));
          },
          grid: { stroke: () => this.#style.grid, width: 1 },
        },
      ],
    };
    this.#frame.replaceChildren();
    this.#chart = new this.#uPlot(options, this.#data, this.#frame);
  }

  /** One echo that came back. */
  add(name, { at, ms }) {
    if (this.#held) return;
    const row = this.#row(at / 1000);
    row[1 + this.#names.indexOf(name)] = Math.max(ms, 0.02);
    this.#push(row);
  }

  #row(at) {
    const row = new Array(this.#data.length).fill(undefined);
    row[0] = Math.max(at, this.#data[0].at(-1) ?? 0); // time goes on
    return row;
  }

  #push(row) {
    row.forEach((value, i) => this.#data[i].push(value));
  }

  /** Moves on to now (ms), with the medians of this moment; null breaks the line. */
  draw(now, medians) {
    if (this.#held) return;
    this.#now = now / 1000;
    const row = this.#row(this.#now);
    medians.forEach((ms, i) => {
      row[1 + this.#names.length + i] = ms === null ? null : Math.max(ms, 0.02);
    });
    this.#push(row);
    const old = this.#data[0].findIndex((at) => at >= this.#now - this.#span - 1);
    if (old > 500) for (const column of this.#data) column.splice(0, old);
    this.#chart?.setData(this.#data, true);
  }

  /** Stands still. */
  hold() {
    this.#held = true;
  }

  /** Goes on, with a hole where it stood still. */
  resume() {
    if (!this.#held) return;
    this.#held = false;
    const row = this.#row(performance.now() / 1000);
    this.#names.forEach((_, i) => (row[1 + this.#names.length + i] = null));
    this.#push(row);
  }
}

// A path of small squares: far cheaper than circles, and there are thousands.
function dots(size) {
  return (chart, index, from, to) => {
    const fill = new Path2D();
    const [xs, ys] = [chart.data[0], chart.data[index]];
    const side = size * devicePixelRatio;
    for (let i = from; i <= to; i += 1) {
      if (ys[i] == null) continue;
      const x = chart.valToPos(xs[i], "x", true);
      const y = chart.valToPos(ys[i], "y", true);
      fill.rect(x - side / 2, y - side / 2, side, side);
    }
    return { stroke: null, fill, clip: null, flags: 1 };
  };
}

function decade(ms) {
  return Math.abs(Math.log10(ms) - Math.round(Math.log10(ms))) < 1e-9;
}

function label(ms) {
  return String(Number(ms.toPrecision(1)));
}

/** The marks 1, 2, 5, 10 … within [low, high]. */
function marks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const step of STEPS) {
      const ms = step * 10 ** power;
      if (ms >= low * 0.999 && ms <= high * 1.001) found.push(ms);
    }
  }
  return found;
}

/** The marks just outside what is shown, at least a decade apart. */
function bounds(low, high) {
  if (!(low > 0) || !(high > 0)) return [0.1, 10];
  const all = marks(low / 10, high * 100);
  const bottom = all.filter((ms) => ms <= low * 0.98).at(-1) ?? all[0];
  const top = Math.max(all.find((ms) => ms >= high * 1.02) ?? high * 2, bottom * 10);
  return [bottom, top];
}
