// One session that times its own echo, over one transport and in one delivery mode. It publishes small
// payloads to a topic that only it reads, and each comes back as a message. Both times are taken from
// this page's clock.

import { explain, sentence, transportName, whyNoWebTransport } from "./words.js";

export const WINDOW = 30_000; // ms that percentiles cover
const GIVEN_UP = 2_000; // ms after which a payload counts as lost
const WARM_UP = 1_000; // ms at the beginning of a session that are not counted, while caches and compilers are cold
const PAYLOADS = 4096; // distinct payloads, few enough to fill neither the cache nor the counts
const SIZE = 50; // bytes of a payload

export class Probe {
  state = "connecting";
  why = "connecting";
  sent = 0;
  lost = 0;
  total = 0;

  #weir;
  #options;
  #delivery;
  #turn = 0; // the number of changes of the delivery mode
  #client = null;
  #echoes = null; // the subscription
  #before = 0; // messages that came back before the last change of the mode
  #topic = `demo/echo/${random()}`;
  #number = 0;
  #away = new Map(); // number → when it was published
  #late = new Map(); // the same, of payloads that count as lost
  #samples = []; // { at, ms }, the oldest first
  #ready = 0; // when the subscription became ready; 0 while there is none
  #begun = 0; // index of the oldest sample within the window
  #onSample;

  constructor(weir, transport, delivery, options, onSample) {
    this.#weir = weir;
    this.#delivery = delivery;
    this.transport = transport;
    this.#options = { ...options, transport };
    this.#onSample = onSample;
  }

  /** Connects, and reconnects until an error says that this cannot help. */
  async run() {
    for (let pause = 2000; ; pause = Math.min(pause * 2, 30_000)) {
      const never = this.transport === "webtransport" ? whyNoWebTransport() : null;
      if (never) return this.#set("unavailable", sentence(never));
      try {
        this.#client = await this.#weir.connect(undefined, this.#options);
        this.#watch(this.#client);
        await this.#echo(this.#client);
        if (this.state !== "unavailable") this.#set("unavailable", "The session is over.");
      } catch (error) {
        this.#set("unavailable", this.#whyNot(error));
        if (error.retry === false) return this.#client?.close();
      }
      this.#client?.close().catch(() => {});
      this.#client = null;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  #whyNot(error) {
    if (error.name !== "unreachable" && error.name !== "timed_out") return explain(error);
    const said = sentence(error.message.replace(/^cannot reach \S+: /, ""));
    return this.transport === "webtransport"
      ? `${said} Is UDP let through on the way? If the certificate has changed, reload the page.`
      : said;
  }

  #watch(client) {
    const told = ({ state, reason }) => {
      if (state === "open") this.#set("open", "");
      else if (state === "reconnecting") this.#set("reconnecting", "reconnecting");
      else this.#set("unavailable", reason || "The session is over.");
    };
    client.addEventListener("state", (event) => told(event.detail));
    told({ state: client.state, reason: client.reason });
  }

  async #echo(client) {
    for (let turn = null; turn !== this.#turn;) {
      turn = this.#turn;
      const echoes = client.subscribe(this.#topic, { from: "new", delivery: this.#delivery });
      this.#echoes = echoes;
      try {
        await echoes.ready;
        this.#ready = performance.now();
        for (;;) {
          const { done, value } = await echoes.next();
          const now = performance.now();
          if (done) break;
          if (value.kind === "message") this.#back(Number(value.text().slice(10, 14)), now);
        }
      } catch (error) {
        if (turn === this.#turn) throw error;
      } finally {
        this.#ready = 0;
        echoes.close();
      }
    }
  }

  get delivery() {
    return this.#delivery;
  }

  /** Changes the delivery mode, and starts its figures again from 0. */
  set delivery(delivery) {
    if (delivery === this.#delivery) return;
    this.#delivery = delivery;
    this.#turn += 1;
    this.forget();
    this.#late.clear();
    this.#samples.length = this.#begun = 0;
    this.lost = this.sent = 0;
    this.#before = this.total;
    this.#ready = 0;
    this.#echoes?.close();
  }

  /** The number of messages that came back in this delivery mode. */
  get counted() {
    return this.total - this.#before;
  }

  /** The subscription's counts of repeated and repaired datagrams; null for a mode without datagrams. */
  get stats() {
    const without = this.#delivery === "ordered" || this.transport === "websocket";
    return without ? null : this.#echoes?.stats ?? null;
  }

  /** Publishes one payload, if the subscription is ready. */
  tick() {
    if (!this.running) return;
    this.#number = (this.#number + 1) % PAYLOADS;
    const number = this.#number;
    const payload = `weir echo ${String(number).padStart(4, "0")} `.padEnd(SIZE, ".");
    this.#late.delete(number);
    this.#away.delete(number);
    const now = performance.now();
    if (now - this.#ready >= WARM_UP) {
      this.sent += 1;
      this.#away.set(number, now);
    }
    this.#client.publish(this.#topic, payload, { realtime: this.#delivery === "realtime" }).catch((error) => {
      this.why = explain(error); // the payload will count as lost
    });
  }

  #back(number, now) {
    let published = this.#away.get(number);
    if (published !== undefined) {
      this.#away.delete(number);
    } else {
      published = this.#late.get(number);
      if (published === undefined) return; // published before a pause or during the warm-up
      this.#late.delete(number);
      this.lost -= 1;
    }
    const sample = { at: now, ms: now - published };
    this.#samples.push(sample);
    this.total += 1;
    this.#onSample(this.transport, sample);
  }

  /** Stops counting payloads that are under way, because this page's timers are about to stop. */
  forget() {
    this.sent -= this.#away.size;
    this.#away.clear();
  }

  /** Counts overdue payloads as lost, and returns the percentiles of the window; null without samples. */
  summary(now) {
    for (const [number, published] of this.#away) {
      if (now - published < GIVEN_UP) break;
      this.#away.delete(number);
      this.#late.set(number, published);
      this.lost += 1;
    }
    const samples = this.#samples;
    while (this.#begun < samples.length && samples[this.#begun].at < now - WINDOW) this.#begun += 1;
    if (this.#begun > 2000) {
      samples.splice(0, this.#begun);
      this.#begun = 0;
    }
    return percentiles(samples.slice(this.#begun).map((sample) => sample.ms));
  }

  /** Returns the median of the last `span` milliseconds; null for less than 4 samples. */
  median(now, span) {
    const recent = [];
    for (let i = this.#samples.length - 1; i >= 0 && this.#samples[i].at > now - span; i -= 1) {
      recent.push(this.#samples[i].ms);
    }
    return recent.length < 4 ? null : percentiles(recent).p50;
  }

  #set(state, why) {
    this.state = state;
    this.why = why;
  }

  /** Whether payloads are published and come back. */
  get running() {
    return this.state === "open" && this.#ready > 0;
  }

  get name() {
    return transportName(this.transport);
  }
}

/** Returns percentiles by nearest rank; null if there are no samples. */
export function percentiles(samples) {
  if (samples.length === 0) return null;
  const sorted = Float64Array.from(samples).sort();
  const at = (p) => sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)];
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), samples: sorted.length };
}

/** Returns the smallest step of this browser's clock, milliseconds. Takes 5 ms. */
export function clockStep() {
  let step = Infinity;
  const end = performance.now() + 5;
  for (let last = performance.now(); last < end;) {
    const now = performance.now();
    if (now > last) step = Math.min(step, now - last);
    last = now;
  }
  return step === Infinity ? 1 : step;
}

function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
