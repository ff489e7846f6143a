// The list of the most published payloads, and the figures of this page's session.

import { excerpt, explain, number, several } from "./words.js";

/** The most published payloads. A new message makes it ask the daemon, at most once a second. */
export class Top {
  #client = null;
  #chat;
  #list = document.getElementById("top");
  #empty = document.getElementById("top-empty");
  #due = 0;
  #timer = 0;

  constructor(chat) {
    this.#chat = chat;
    chat.addEventListener("message", () => this.#soon());
    document.addEventListener("visibilitychange", () => this.#soon());
    this.#list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.#chat.say(button.weirText).catch(() => {}); // the chat says why
    });
  }

  attach(client) {
    this.#client = client;
    this.#soon();
  }

  #soon() {
    if (this.#timer || !this.#client || document.hidden) return;
    this.#timer = setTimeout(() => this.#ask(), Math.max(0, this.#due - performance.now()));
  }

  async #ask() {
    this.#due = performance.now() + 1000;
    const client = this.#client;
    try {
      this.#show(await client.top(this.#chat.topic, 10));
    } catch (error) {
      if (error.name === "not_found") this.#show([]);
      else if (client.state === "open") this.#nothing(explain(error));
    } finally {
      this.#timer = 0;
    }
  }

  #nothing(words) {
    this.#list.replaceChildren();
    this.#empty.textContent = words;
    this.#empty.hidden = false;
  }

  // Rows are reused, so that a button in them keeps the focus.
  #show(rankings) {
    if (rankings.length === 0) return this.#nothing("Nothing is counted yet.");
    this.#empty.hidden = true;
    const highest = rankings[0].count;
    while (this.#list.childElementCount > rankings.length) this.#list.lastElementChild.remove();
    rankings.forEach((ranking, i) => {
      const item = this.#list.children[i] ?? this.#list.appendChild(this.#row());
      const [text, bar, count, again] = item.children;
      item.dataset.count = ranking.count;
      const said = ranking.payload === null ? null : excerpt(ranking.payload, 120);
      text.textContent = said ?? `${several(ranking.size, "byte")}, digest ${ranking.digest.slice(0, 12)}…`;
      text.title = ranking.payload === null ? ranking.digest : "";
      bar.firstElementChild.style.inlineSize = `${(100 * ranking.count) / highest}%`;
      count.textContent = `×${number(ranking.count)}`;
      count.title = ranking.since === null ? "" : `counted since ${new Date(ranking.since).toLocaleString("en-GB")}`;
      again.hidden = ranking.payload === null || ranking.size > 1000;
      again.weirText = again.hidden ? "" : ranking.text();
      again.setAttribute("aria-label", `+1: say again ${said ?? ""}`);
    });
  }

  #row() {
    const item = document.createElement("li");
    const text = document.createElement("bdi");
    text.className = "text";
    text.dir = "auto";
    const bar = document.createElement("span");
    bar.className = "bar";
    bar.append(document.createElement("i"));
    const count = document.createElement("span");
    count.className = "count";
    const again = document.createElement("button");
    again.className = "quiet again";
    again.type = "button";
    again.textContent = "+1";
    item.append(text, bar, count, again);
    return item;
  }
}

/** The figures of the session. */
export class Facts {
  #client = null;
  #chat;
  #relayed;
  #last = null;
  #level = document.getElementById("level");
  #rtt = document.getElementById("rtt");
  reconnects = 0;

  /** `relayed` returns the number of messages that the latency panel has received. */
  constructor(chat, relayed) {
    this.#chat = chat;
    this.#relayed = relayed;
    setInterval(() => this.show(), 1000);
    setInterval(() => this.#ping(), 3000);
  }

  attach(client) {
    this.#client = client;
    this.show();
    this.#ping();
  }

  async #ping() {
    if (document.hidden || this.#client?.state !== "open") return;
    try {
      const ms = await this.#client.ping();
      this.#rtt.textContent = `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
      this.#rtt.dataset.value = ms;
    } catch {
      this.#rtt.textContent = "–"; // the state says more
    }
  }

  show() {
    const client = this.#client;
    const set = (name, value) => {
      const shown = document.querySelector(`#facts [data-fact="${name}"]`);
      if (shown.textContent !== value) shown.textContent = value;
    };
    if (client) {
      set("session", String(client.session));
      set("rtt", this.#rtt.textContent);
    }
    set("sequence", this.#chat.sequence === null ? "–" : `#${number(this.#chat.sequence)}`);
    set("received", number(this.#chat.received));
    set("gaps", number(this.#chat.missed));
    set("reconnects", this.reconnects === 0 ? "never" : several(this.reconnects, "time"));
    this.#gauge(set);
  }

  // The water level in the notch shows the rate: 0, or 1 to 1,000 messages a second, logarithmic.
  #gauge(set) {
    const now = performance.now();
    const total = this.#chat.received + this.#relayed();
    if (this.#last) {
      const rate = ((total - this.#last.total) * 1000) / Math.max(1, now - this.#last.at);
      set("rate", `${rate < 10 ? rate.toFixed(1) : number(Math.round(rate))}/s`);
      const height = rate <= 0 ? 0 : Math.min(1, 0.3 + (0.7 * Math.log10(1 + rate)) / 3);
      this.#level.style.transform = `translateY(${(28 * (1 - height)).toFixed(1)}px)`;
    }
    this.#last = { at: now, total };
  }
}
