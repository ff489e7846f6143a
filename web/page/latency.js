// The latency panel: two sessions side by side, their plot and their table.

import { Probe, WINDOW, clockStep } from "./probe.js";
import { Plot } from "./plot.js";
import { milliseconds, number, onLoopback, several, whyNoWebTransport } from "./words.js";

const DELIVERIES = {
  realtime: "WebTransport carries them in datagrams, repeats each after a few milliseconds, and repairs " +
    "the rest from the cache. WebSocket delivers in order. ",
  unordered: "WebTransport delivers them as they arrive, WebSocket in order. ",
  ordered: "Both deliver in order. ",
};
const BOTH = ["webtransport", "websocket"];

// Periods of the table and of the plot, ms. Both are primes, so that they drift against the period of
// the payloads. With a multiple of it, drawing would delay the payloads of one transport only.
const SHOW = 499;
const DRAW = 97;

export class Latency {
  #probes;
  #plot;
  #rate = 20;
  #turn = 0;
  #paused = false;
  #step = clockStep();
  #words = document.getElementById("latency-words");
  #note = document.getElementById("latency-note");
  #summary = document.getElementById("plot-summary");
  #compared = 0;
  #described = 0;
  #intervals = [];

  constructor(weir, options) {
    this.#plot = new Plot(document.getElementById("plot"), BOTH, WINDOW);
    this.#probes = BOTH.map((transport) =>
      new Probe(weir, transport, "ordered", options, (name, sample) => this.#plot.add(name, sample)));
    this.#controls();
    for (const probe of this.#probes) probe.run();
    document.addEventListener("visibilitychange", () => this.#restart());
    this.#restart();
  }

  /** The number of messages that came back, over both transports. */
  get total() {
    return this.#probes.reduce((sum, probe) => sum + probe.total, 0);
  }

  get #still() {
    return this.#paused || document.hidden;
  }

  #controls() {
    document.getElementById("latency-rate").addEventListener("change", (event) => {
      this.#rate = Number(event.target.value);
      this.#restart();
    });
    const chosen = document.querySelector("#latency-rate input:checked");
    if (chosen) this.#rate = Number(chosen.value); // a reload may have kept another choice
    const deliveries = document.getElementById("latency-delivery");
    const deliver = () => {
      this.#probes[0].delivery = deliveries.querySelector("input:checked")?.value ?? "realtime";
      this.#noteShown();
    };
    deliveries.addEventListener("change", deliver);
    deliveries.disabled = whyNoWebTransport() !== null;
    deliver();
    const pause = document.getElementById("latency-pause");
    pause.addEventListener("click", () => {
      this.#paused = !this.#paused;
      pause.setAttribute("aria-pressed", String(this.#paused));
      this.#restart();
    });
  }

  // Starts or stops all timers: a page that nobody sees does nothing. The two sessions publish in turn,
  // half a period apart, so that neither waits for the other.
  #restart() {
    for (const interval of this.#intervals.splice(0)) clearInterval(interval);
    if (this.#still) {
      for (const probe of this.#probes) probe.forget();
      this.#plot.hold();
    } else {
      this.#plot.resume();
      const publish = () => {
        this.#turn = (this.#turn + 1) % this.#probes.length;
        this.#probes[this.#turn].tick();
      };
      this.#intervals = [
        setInterval(publish, 1000 / this.#rate / this.#probes.length),
        setInterval(() => this.#show(), SHOW),
        setInterval(() => this.#draw(), DRAW),
      ];
    }
    this.#noteShown();
  }

  #noteShown() {
    if (document.hidden) {
      this.#note.textContent = "Paused while the page is hidden, because browsers slow down the timers of hidden pages.";
    } else if (this.#paused) {
      this.#note.textContent = "Paused.";
    } else {
      this.#note.textContent = `${link()} The same 50 bytes over each, ${this.#rate} times a second. ` +
        DELIVERIES[this.#probes[0].delivery] +
        "Percentiles cover the last 30\u00a0s. A payload that is not back after 2\u00a0s counts as lost, until it comes. " +
        "A session's first second is not counted. " +
        `This browser's clock has steps of ${stepWords(this.#step)}.`;
    }
  }

  #draw() {
    const now = performance.now();
    const span = Math.max(1000, 8000 / this.#rate); // ms: 8 samples or more
    this.#plot.draw(now, this.#probes.map((probe) => (probe.running ? probe.median(now, span) : null)));
  }

  #show() {
    const now = performance.now();
    const summaries = this.#probes.map((probe) => {
      const summary = probe.summary(now);
      this.#row(probe, summary);
      return summary;
    });
    const words = this.#compare(summaries);
    if (words !== this.#words.textContent && now - this.#compared > 2000) {
      this.#compared = now;
      this.#words.textContent = words;
    }
    if (now - this.#described >= 1000) {
      this.#described = now;
      const alternative = this.#alternative(summaries);
      if (alternative !== this.#summary.textContent) this.#summary.textContent = alternative;
    }
  }

  #row(probe, summary) {
    const row = document.querySelector(`#latency [data-transport="${probe.transport}"]`);
    row.dataset.state = probe.state;
    row.querySelector(".why").textContent = probe.why;
    const cell = (name, value, text) => {
      const shown = row.querySelector(`.${name}`);
      if (value === null) delete shown.dataset.value;
      else shown.dataset.value = value;
      shown.textContent = text;
    };
    for (const p of ["p50", "p95", "p99"]) {
      if (summary) cell(p, summary[p].toFixed(3), milliseconds(summary[p], this.#step));
      else cell(p, null, "–");
    }
    cell("samples", probe.counted, number(probe.counted));
    cell("lost", probe.lost, number(probe.lost));
    row.querySelector(".lost").classList.toggle("some", probe.lost > 0);
    for (const name of ["repeated", "repaired"]) {
      if (probe.stats) cell(name, probe.stats[name], number(probe.stats[name]));
      else cell(name, null, "–");
    }
  }

  #compare([webtransport, websocket]) {
    if (!webtransport || !websocket) {
      const there = this.#probes.find((_, i) => [webtransport, websocket][i]);
      const missing = this.#probes.find((probe) => probe.state === "unavailable");
      if (!missing) return "Measuring.";
      const rest = there?.state === "open" ? `; ${there.name} goes on` : "";
      return `${missing.name} is not available here, so there is nothing to compare${rest}.`;
    }
    if (Math.min(webtransport.samples, websocket.samples) < 20) return "Measuring.";
    // The clock cannot measure a difference of one of its steps.
    const ratio = (p) => Math.abs(webtransport[p] - websocket[p]) <= this.#step * 1.001
      ? "about 1×"
      : `${(webtransport[p] / websocket[p]).toFixed(2)}×`;
    return `WebTransport is ${ratio("p50")} of WebSocket at p50 here, and ${ratio("p99")} at p99.`;
  }

  #alternative(summaries) {
    const ms = (value) => `${milliseconds(value, this.#step)} ms`;
    const each = this.#probes.map((probe, i) => summaries[i]
      ? `${probe.name}: half of the payloads came back within ${ms(summaries[i].p50)}, 99 of 100 within ${ms(summaries[i].p99)}`
      : `${probe.name}: no figures`);
    const { stats } = this.#probes[0];
    if (stats) {
      each.push(`Over WebTransport, ${several(stats.repeated, "second copy", "second copies")} arrived, ` +
        `and ${several(stats.repaired, "message")} had to be repaired`);
    }
    return `${each.join(". ")}.`;
  }
}

function link() {
  return onLoopback()
    ? "Measured within one machine, without distance or loss."
    : `Measured between this browser and ${location.hostname}, over the network between them.`;
}

function stepWords(step) {
  return step >= 0.095 ? `${step.toFixed(1)} ms` : `${Math.max(1, Math.round(step * 1000))} µs`;
}

