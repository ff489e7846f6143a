// The plot, on a canvas: each sample is a dot, the median of the last second a line. The axis of
// latencies is logarithmic, and the newest is at the right.

import { History } from "./history.js";
import { ages, bounds, columns, isDecade, labelled, latencyLabel, layout, rows, ticks } from "./scale.js";

const WIDEST = "0.5 ms, 100 ms, 200 ms, 500 ms".split(", "); // labels that the gutter has room for
const DOT = [3, 2.5]; // sides of the dots of each series, CSS pixels
const LINE = [2.25, 1.5]; // widths of the lines, CSS pixels: the series differ in more than colour
const HALO = 1.5; // width of the paper on both sides of a line, CSS pixels: it sets the line off its dots
const CALM = 1000; // ms between two pictures for readers who prefer reduced motion
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Plot {
  #frame;
  #names;
  #span;
  #history;
  #canvas = document.createElement("canvas");
  #context = this.#canvas.getContext("2d");
  #look = null; // colours and fonts, from the style sheet
  #now = performance.now(); // the moment at the right edge
  #held = false;
  #inView = true;

  /**
   * Draws into `frame`. `names` are the names of two series, for which the style sheet has colours
   * `--NAME` and `--NAME-dot`; `span` is the width of the window, ms.
   */
  constructor(frame, names, span) {
    this.#frame = frame;
    this.#names = names;
    this.#span = span;
    this.#history = new History(names.length, span);
    if (!this.#context) {
      frame.textContent = "This browser cannot draw the plot. The table has the figures.";
      return;
    }
    this.#canvas.setAttribute("aria-hidden", "true"); // the frame has the text
    frame.append(this.#canvas);
    this.#watchSize();
    this.#watchColours();
    new IntersectionObserver((entries) => {
      this.#inView = entries.at(-1).isIntersecting;
      if (this.#inView) this.#redraw();
    }).observe(frame);
  }

  /** Adds one sample of a series: `at` is when it came, on the clock of performance.now(). */
  add(name, { at, ms }) {
    if (!this.#held) this.#history.add(this.#names.indexOf(name), at, ms);
  }

  /** Moves on to `now` (ms), with the medians of this moment; null breaks the line. */
  draw(now, medians) {
    if (this.#held) return;
    this.#history.addMedians(now, medians);
    this.#history.forget(now);
    if (calm.matches && now - this.#now < CALM) return;
    this.#now = now;
    this.#redraw();
  }

  /** Stops the plot. */
  hold() {
    this.#held = true;
  }

  /** Lets the plot go on, with a gap in its lines for the time that it was stopped. */
  resume() {
    if (!this.#held) return;
    this.#held = false;
    this.#history.breakLines(performance.now());
  }

  // The canvas has as many pixels as the screen has under it. They change with the window, with the
  // zoom, and with the screen that the window is on.
  #watchSize() {
    const observer = new ResizeObserver(([entry]) => this.#resize(entry.devicePixelContentBoxSize?.[0]));
    try {
      observer.observe(this.#canvas, { box: "device-pixel-content-box" });
    } catch {
      observer.observe(this.#canvas); // Safari observes CSS pixels only
    }
    // The number of CSS pixels may stay the same when the ratio changes.
    const watchRatio = () => {
      matchMedia(`(resolution: ${devicePixelRatio}dppx)`).addEventListener("change", () => {
        this.#resize();
        watchRatio();
      }, { once: true });
    };
    watchRatio();
  }

  // Only the browser knows how it rounds to device pixels, and says so in `exact`. Chromium says CSS
  // pixels there while it emulates another screen: such a size is not used.
  #resize(exact) {
    const box = this.#canvas.getBoundingClientRect();
    const pixels = (css, said) => {
      const computed = css * devicePixelRatio;
      return Math.abs(said - computed) <= 1 ? said : Math.round(computed);
    };
    const width = pixels(box.width, exact?.inlineSize);
    const height = pixels(box.height, exact?.blockSize);
    if (width < 1 || height < 1) return;
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#look = null; // sizes of text are device pixels
    this.#paint(); // at once: a canvas with a new size is empty
  }

  #watchColours() {
    const changed = () => {
      this.#look = null;
      this.#redraw();
    };
    new MutationObserver(changed).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(forced-colors: active)").addEventListener("change", changed);
  }

  #readLook() {
    const style = getComputedStyle(this.#canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const ratio = devicePixelRatio;
    const size = parseFloat(style.fontSize) * ratio;
    const font = `${size}px ${style.fontFamily}`;
    this.#context.font = font;
    this.#look = {
      font,
      ratio,
      line: size * 1.2,
      gutter: Math.max(...WIDEST.map((text) => this.#context.measureText(text).width)),
      paper: colour("--paper"),
      text: colour("--muted"),
      grid: colour("--rule"),
      lines: this.#names.map((name) => colour(`--${name}`)),
      dots: this.#names.map((name) => colour(`--${name}-dot`)),
    };
    return this.#look;
  }

  // Paints at once. With an animation frame for each picture, Chromium was seen to take a quarter more
  // time of the page's thread, and the latencies are measured on that thread.
  #redraw() {
    if (this.#inView) this.#paint();
  }

  #paint() {
    // An emulated screen changes its ratio without an event.
    if (this.#look && this.#look.ratio !== devicePixelRatio) return this.#resize();
    const look = this.#look ?? this.#readLook();
    const { width, height } = this.#canvas;
    const area = layout({ width, height, ...look });
    const range = bounds(...this.#history.extent(this.#now));
    const row = rows(area, range);
    const column = columns(area, this.#span, this.#now);
    const context = this.#context;
    context.clearRect(0, 0, width, height);
    this.#paintAxes(area, range, row, look);
    context.save();
    context.beginPath();
    context.rect(area.left, 0, width - area.left, height);
    context.clip();
    // All dots lie below all lines.
    this.#names.forEach((_, i) => this.#paintDots(i, area, row, column, look));
    this.#names.forEach((_, i) => this.#paintLine(i, area, row, column, look));
    context.restore();
  }

  #paintAxes(area, range, row, look) {
    const context = this.#context;
    const { left, right, top, bottom, hair, gap } = area;
    const all = ticks(...range);
    context.fillStyle = look.grid;
    for (const ms of all) {
      context.globalAlpha = isDecade(ms) || ms === all[0] ? 1 : 0.6;
      context.fillRect(left, Math.round(row(ms)), right - left, hair);
    }
    context.globalAlpha = 1;
    const marks = ages(this.#span / 1000);
    const across = (age) => Math.round(right - (age * 1000 * (right - left)) / this.#span);
    for (const { age } of marks) context.fillRect(across(age), top, hair, bottom - top + hair);

    context.fillStyle = look.text;
    context.font = look.font;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const ms of labelled(all, row, area.room)) {
      context.fillText(latencyLabel(ms), left - gap, Math.round(row(ms)));
    }
    context.textBaseline = "alphabetic";
    marks.forEach(({ age, text }, i) => {
      context.textAlign = i === 0 ? "left" : age === 0 ? "right" : "center";
      context.fillText(text, across(age), area.height - Math.round(look.line * 0.25));
    });
  }

  #paintDots(series, { ratio }, row, column, look) {
    const context = this.#context;
    const { at, ms } = this.#history.samples[series];
    const side = Math.max(2, Math.round(DOT[series] * ratio));
    const half = side >> 1;
    context.fillStyle = look.dots[series];
    for (let i = this.#history.first(at, this.#now); i < at.length; i += 1) {
      context.fillRect(column(at[i]) - half, Math.round(row(ms[i])) - half, side, side);
    }
  }

  #paintLine(series, { ratio, right }, row, column, look) {
    const context = this.#context;
    const { at } = this.#history.medians;
    const medians = this.#history.medians.ms[series];
    const path = new Path2D();
    let begun = false; // whether the line goes on from the point before
    for (let i = Math.max(0, this.#history.first(at, this.#now) - 1); i < at.length; i += 1) {
      const ms = medians[i];
      if (ms !== null) begun ? path.lineTo(column(at[i]), row(ms)) : path.moveTo(column(at[i]), row(ms));
      begun = ms !== null;
    }
    const newest = medians.at(-1) ?? null;
    context.lineJoin = "round";
    context.lineCap = "round";
    context.strokeStyle = look.paper;
    context.lineWidth = (LINE[series] + 2 * HALO) * ratio;
    context.globalAlpha = 0.75;
    context.stroke(path);
    context.globalAlpha = 1;
    context.strokeStyle = context.fillStyle = look.lines[series];
    context.lineWidth = LINE[series] * ratio;
    context.stroke(path);
    if (newest === null) return;
    context.beginPath();
    context.arc(right, row(newest), (LINE[series] + 1) * ratio, 0, 2 * Math.PI);
    context.fill();
  }
}
