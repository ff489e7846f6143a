// The chat: the messages of one topic, each with its count.

import { excerpt, explain, number, several } from "./words.js";

const KEPT = 200; // maximum number of lines on the page
const LONGEST = 250; // maximum characters of a line: 1,000 bytes or less, so that `top` shows all of it
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const whole = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "medium" });

const because = {
  evicted: "they had left the daemon's cache before this page could read them",
  skipped: "this page asked to go on from the newest",
  aborted: "their publisher went away half-way",
  late: "they would have come too late",
  lost: "the daemon was killed before it had kept them",
  expired: "this topic keeps messages for a limited time",
};

export class Chat extends EventTarget {
  received = 0;
  missed = 0;
  epoch = null;
  sequence = null;

  #client = null;
  #queue = [];
  #flushing = false;
  #unread = 0;
  #following = true; // the reader is at the bottom
  #pending = 0;
  #own = new Set();
  #log = document.getElementById("chat-log");
  #new = document.getElementById("chat-new");
  #empty = document.getElementById("chat-empty");
  #input = document.getElementById("chat-input");
  #send = document.getElementById("chat-send");
  #status = document.getElementById("chat-status");

  constructor(topic) {
    super();
    this.topic = topic;
    document.getElementById("chat-topic").textContent = topic;
    document.getElementById("chat-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener("input", () => this.#check(false));
    this.#log.addEventListener("scroll", () => {
      this.#following = this.#atBottom();
      if (this.#following) this.#read();
    }, { passive: true });
    this.#new.addEventListener("click", () => {
      this.#toBottom();
      this.#read();
      this.#log.focus({ preventScroll: true });
    });
    this.#send.disabled = true;
    new ResizeObserver(() => this.#following && this.#toBottom()).observe(this.#log);
  }

  /** Shows the topic, first the last 50 messages of the cache, until the client's session ends. */
  async attach(client) {
    this.#client = client;
    this.#send.disabled = false;
    this.#log.replaceChildren();
    this.#queue = [];
    this.#own.clear();
    this.epoch = this.sequence = null;
    try {
      const subscription = client.subscribe(this.topic, { from: "last:50" });
      await subscription.ready;
      this.#empty.hidden = this.#log.childElementCount > 0 || this.#queue.length > 0;
      for await (const event of subscription) this.#take(event);
    } catch (error) {
      if (this.#client === client && client.state !== "closed") {
        this.#say(`The chat stopped: ${explain(error)}`, "bad");
      }
    }
  }

  /** Leaves the session, which has ended for good. Lines can be written, but not sent. */
  detach() {
    this.#client = null;
    this.#send.disabled = true;
    if (this.#pending > 0) this.#say("What was not confirmed may not have arrived.", "bad");
  }

  /** Publishes a line, and returns its receipt. The button and the list of the most published use it. */
  async say(text) {
    const client = this.#client;
    if (!client) throw new Error("There is no session with the daemon");
    this.#pending += 1;
    this.#showPending();
    try {
      const receipt = await client.publish(this.topic, text);
      this.#pending -= 1;
      this.#own.add(receipt.sequence);
      this.#markOwn(receipt.sequence);
      this.#say(`Accepted as #${number(receipt.sequence)}, said ${times(receipt.count)}` +
        `${receipt.since === null ? "" : ` since ${whole.format(receipt.since)}`}.`, "good");
      if (this.#pending > 0) this.#showPending();
      return receipt;
    } catch (error) {
      this.#pending -= 1;
      this.#say(`Not sent: ${explain(error)}`, "bad");
      throw error;
    }
  }

  /** Tells the reader whether lines wait, after the session's state has changed. */
  stateChanged() {
    if (this.#pending > 0) this.#showPending();
  }

  async #submit() {
    const text = this.#input.value;
    if (!this.#check(true)) return this.#input.focus();
    this.#input.value = "";
    this.#toBottom();
    try {
      await this.say(text);
    } catch {
      if (!this.#input.value) this.#input.value = text; // the reader's line stays, unless there is a new one
    }
  }

  #check(sending) {
    const text = this.#input.value;
    const length = [...text].length;
    let wrong = "";
    if (length > LONGEST) {
      wrong = `At most ${LONGEST} characters; this has ${number(length)}.`;
    } else if (sending && !text.trim()) {
      wrong = "There is nothing to say yet.";
    } else if (sending && !this.#client) {
      wrong = "There is no session with the daemon; your line stays here.";
    }
    this.#input.removeAttribute("aria-invalid");
    if (wrong) {
      this.#input.setAttribute("aria-invalid", "true");
      this.#say(wrong, "bad");
    } else if (this.#status.dataset.tone === "bad") {
      this.#say("");
    }
    return !wrong;
  }

  #showPending() {
    const open = this.#client?.state === "open";
    const lines = several(this.#pending, "line");
    const verb = this.#pending === 1 ? "waits" : "wait";
    this.#say(open ? `Sending ${lines}…` : `${lines} ${verb} here and will be sent when the daemon is back.`, "pending");
  }

  #say(text, tone = "") {
    this.#status.textContent = text;
    this.#status.dataset.tone = tone;
  }

  #take(event) {
    if (event.epoch !== this.epoch) {
      if (this.epoch !== null) this.#queue.push({ kind: "anew" });
      this.epoch = event.epoch;
      this.#own.clear();
    }
    if (event.kind === "gap") {
      this.missed += event.last - event.first + 1;
      this.sequence = event.last;
    } else {
      this.received += 1;
      this.sequence = event.sequence;
    }
    this.#queue.push(event);
    this.dispatchEvent(new Event(event.kind));
    if (this.#flushing) return;
    this.#flushing = true;
    // Many messages at once cause one layout. A hidden page gets no animation frames.
    if (document.hidden) setTimeout(() => this.#flush(), 250);
    else requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    this.#flushing = false;
    const follow = this.#following && !document.hidden;
    const lines = this.#queue.slice(-KEPT);
    this.#queue = [];
    const fragment = document.createDocumentFragment();
    for (const event of lines) fragment.append(this.#line(event));
    this.#log.append(fragment);
    for (let extra = this.#log.childElementCount - KEPT; extra > 0; extra -= 1) {
      this.#log.firstElementChild.remove();
    }
    this.#empty.hidden = true;
    if (follow) {
      this.#toBottom();
    } else if (!this.#atBottom()) {
      this.#following = false;
      this.#unread += lines.length;
      this.#new.textContent = `${this.#unread > KEPT ? `more than ${KEPT}` : this.#unread} new ↓`;
      this.#new.hidden = false;
    }
  }

  #line(event) {
    if (event.kind === "anew") {
      return element("div", "notice", "The topic begins anew: sequences and counts start again from 1.");
    }
    if (event.kind === "gap") {
      const lost = event.last - event.first + 1;
      const which = lost === 1 ? `#${number(event.first)}` : `#${number(event.first)} to #${number(event.last)}`;
      const why = because[event.cause] ?? event.cause;
      const line = element("div", "notice gap", `${several(lost, "message")} missing (${which}): ${why}.`);
      line.dataset.first = event.first;
      line.dataset.last = event.last;
      return line;
    }
    const line = element("div", "line");
    line.dataset.sequence = event.sequence;
    line.dataset.count = event.count;
    const time = element("time", "when", event.stamp === null ? "–" : clock.format(event.stamp));
    if (event.stamp !== null) {
      time.dateTime = new Date(event.stamp).toISOString();
      time.title = whole.format(event.stamp);
    }
    const text = element("bdi", "text", excerpt(event.payload));
    text.dir = "auto";
    const count = element("span", event.count > 1 ? "count again" : "count", `×${number(event.count)}`);
    count.title = `said ${times(event.count)}`;
    const sequence = element("span", "sequence", `#${number(event.sequence)}`);
    line.append(time, " ", text, " ", count, " ", sequence);
    if (this.#own.delete(event.sequence)) line.classList.add("own");
    return line;
  }

  #markOwn(sequence) {
    // The last such line, because an earlier epoch may have had the same sequence.
    const line = [...this.#log.querySelectorAll(`[data-sequence="${sequence}"]`)].pop();
    if (!line) return; // the message comes after its receipt
    line.classList.add("own");
    this.#own.delete(sequence);
  }

  #atBottom() {
    return this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 24;
  }

  #toBottom() {
    this.#following = true;
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  #read() {
    this.#unread = 0;
    this.#new.hidden = true;
  }
}

function times(count) {
  return count === 1 ? "once" : count === 2 ? "twice" : `${number(count)} times`;
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
