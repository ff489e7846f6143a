// A daemon that serves `realtime` and `unordered`, over a network that loses, doubles and
// reorders. As simple as it can be: it is for testing what the client makes of it. All time is that
// of `clocked`, all chance comes from `random`.

import { message, topic } from "./fake.mjs";

// Messages of a subscription between two Marks.
const MARKED = 20;

export class Relay {
  #topics = new Map();
  #accepted = new Map();
  #position = 0;
  /** What was lost and what was sent, in datagrams. */
  lost = 0;
  sent = 0;
  /** Topics that were there when a subscription resumed, and those that it listed. */
  there = 0;
  listed = 0;
  peer = null;

  constructor(random, { rtt, loss, jitter = 0 }) {
    Object.assign(this, { random, rtt, loss, jitter });
  }

  topic(name) {
    if (!this.#topics.has(name)) {
      this.#topics.set(name, { id: this.#topics.size + 1, name, log: [], positions: [], epoch: 77n });
    }
    return this.#topics.get(name);
  }

  /** Serves this session from now on. */
  async attach(peer) {
    await peer.welcome();
    // Between Welcome and here nothing was lost: the handler takes over what has come.
    this.peer = peer;
    this.subscriptions = [];
    this.aliases = new Map();
    this.clocks = new Map();
    const read = peer.carry;
    peer.carry = (bytes) => {
      const copy = bytes.slice();
      this.#lossy(peer, () => read(copy));
    };
    peer.handle = (frame) => {
      if (frame.datagram) this.#serve(peer, frame);
      else this.#later(peer, this.rtt / 2, () => this.#serve(peer, frame));
      return true;
    };
    for (const frame of peer.frames.splice(0)) peer.handle(frame);
  }

  #later(peer, ms, act) {
    setTimeout(() => !peer.closed && act(), ms);
  }

  #lossy(peer, act) {
    this.sent++;
    if (this.random() < this.loss) return void this.lost++;
    for (let copies = this.random() < 0.05 ? 2 : 1; copies > 0; copies--) {
      this.#later(peer, this.rtt / 2 + this.random() * this.jitter, act);
    }
  }

  // Reliable and in order: what was lost holds up what follows.
  #stream(peer, key, act) {
    const late = this.random() < this.loss ? this.rtt : 0, { now } = performance;
    const at = Math.max(this.clocks.get(key) ?? 0, now.call(performance) + this.rtt / 2 + late);
    this.clocks.set(key, at);
    this.#later(peer, at - performance.now(), act);
  }

  #say(peer, frame) {
    this.#stream(peer, "control", () => peer.say(frame));
  }

  #write(peer, request, ...frames) {
    if (!peer.stream) return;
    this.#stream(peer, request, () => peer.stream(request).say(...frames));
  }

  #serve(peer, frame) {
    const { request } = frame;
    switch (frame.frame) {
      case "Ping":
        return this.#say(peer, { frame: "Pong", request, clock: 0 });
      case "Subscribe":
        return this.#subscribe(peer, frame);
      case "Unsubscribe":
        this.subscriptions.find((one) => one.request === frame.subscription).over = true;
        return this.#say(peer, { frame: "Ended", request: frame.subscription, code: 0, reason: "" });
      case "Repair":
        return this.#repair(peer, frame);
      case "Publish":
        return this.#publish(peer, frame);
      case "Goodbye":
        return;
      default:
        throw new Error(`${frame.frame} is nothing for it`);
    }
  }

  #subscribe(peer, { request, filter, delivery, start }) {
    const subscription = {
      request, filter, delivery, announced: new Map(), heads: new Map(), unmarked: 0,
    };
    this.subscriptions.push(subscription);
    this.#say(peer, { frame: "Subscribed", request, position: this.#position });
    for (const one of this.#topics.values()) {
      if (!this.#matches(filter, one.name)) continue;
      const known = start.Resume?.topics.find(({ topic }) => topic === one.name);
      // Not listed, same run: what was accepted after the position.
      const since = start.Resume?.since.position ?? this.#position;
      const next = known?.next ?? one.positions.filter((position) => position <= since).length + 1;
      if (start.Resume) this.there++;
      if (known) this.listed++;
      if (next > one.log.length) continue;
      subscription.announced.set(one, { next, until: performance.now() + 3 * this.rtt });
      this.#write(peer, request, topic(one.id, one.name, next, one.epoch));
      for (let n = next; n <= one.log.length; n++) {
        this.#write(peer, request, message(one.id, n, one.log[n - 1]));
      }
    }
    this.#mark(subscription, MARKED);
  }

  // All that it gets of what was accepted so far has been written, or is told by its head.
  #mark(subscription, more) {
    const { request, delivery, announced } = subscription;
    if ((subscription.unmarked += more) < MARKED) return;
    subscription.unmarked = 0;
    if (delivery !== "Ordered") {
      for (const { id, log } of announced.keys()) {
        this.#write(this.peer, request, { frame: "Head", topic: id, sequence: log.length });
      }
    }
    this.#write(this.peer, request, { frame: "Mark", position: this.#position });
  }

  #matches(filter, name) {
    return filter === name || (filter.endsWith("/*") && name.startsWith(filter.slice(0, -1)));
  }

  /** Accepts a message, and sends it to whoever subscribed. */
  accept(name, payload) {
    const one = this.topic(name), sequence = one.log.push(payload);
    one.positions.push(++this.#position);
    for (const subscription of this.subscriptions) {
      if (subscription.over || !this.#matches(subscription.filter, name)) continue;
      const now = performance.now(), { request } = subscription;
      if (!subscription.announced.has(one)) {
        subscription.announced.set(one, { next: sequence, until: now + 3 * this.rtt + 100 });
        this.#write(this.peer, request, topic(one.id, name, sequence, one.epoch));
      }
      if (subscription.delivery === "Ordered" || this.peer.transport === "websocket") {
        this.#write(this.peer, request, message(one.id, sequence, payload));
      } else this.#send(subscription, one, sequence);
      this.#mark(subscription, 1);
    }
    return sequence;
  }

  #send(subscription, one, sequence) {
    const { request } = subscription, { peer } = this, chance = this.random();
    const payload = message(one.id, sequence, one.log[sequence - 1]);
    const { next, until } = subscription.announced.get(one);
    const name = topic(one.id, one.name, next, one.epoch);
    if (chance < 0.05) return this.#write(peer, request, payload);
    if (chance < 0.1) {
      return this.#stream(peer, `${request} ${one.id} ${sequence}`, () => {
        const stream = peer.own(request);
        stream.say(name, payload);
        stream.end();
      });
    }
    this.datagram(subscription, performance.now() < until ? [name, payload] : [payload]);
    if (this.random() < 0.7) setTimeout(() => this.datagram(subscription, [payload]), 4);
    clearTimeout(subscription.heads.get(one));
    subscription.heads.set(one, setTimeout(() => {
      if (!peer.closed && !subscription.over) {
        this.#write(peer, request, { frame: "Head", topic: one.id, sequence });
      }
    }, 25));
  }

  datagram(subscription, frames) {
    const { peer } = this, { request } = subscription;
    if (peer.closed || subscription.over) return;
    const lowest = this.subscriptions.find(({ delivery }) => delivery !== "Ordered");
    const whose = subscription === lowest ? [] : [{ frame: "For", request }];
    this.#lossy(peer, () => peer.datagram(...whose, ...frames));
  }

  #repair(peer, { subscription: request, topic: id, holes, datagram }) {
    const subscription = this.subscriptions.find((one) => one.request === request);
    const one = [...this.#topics.values()].find((topic) => topic.id === id);
    if (subscription.over) return;
    for (const [first, last] of holes) {
      for (let n = first; n <= last; n++) {
        const payload = message(id, n, one.log[n - 1]);
        if (datagram) this.datagram(subscription, [payload]);
        else this.#write(peer, request, payload);
      }
    }
  }

  #publish(peer, { topic: name, alias, number, payload, datagram }) {
    const accepted = this.#accepted.get(name) ?? new Map();
    this.#accepted.set(name, accepted);
    const duplicate = accepted.has(number);
    if (!duplicate) accepted.set(number, this.accept(name, payload.slice()));
    if (!datagram) {
      return this.#say(peer, { frame: "Receipt", alias, number, sequence: accepted.get(number),
        count: 1, since: 0, digest: new Uint8Array(32), duplicate });
    }
    this.#later(peer, 5, () => {
      let floor = 0, seen = 0n;
      while (accepted.has(floor + 1)) floor++;
      for (let i = 0; i < 64; i++) if (accepted.has(floor + 1 + i)) seen |= 1n << BigInt(i);
      seen = seen > Number.MAX_SAFE_INTEGER ? seen : Number(seen);
      this.#lossy(peer, () => peer.datagram({ frame: "Acknowledge", alias, floor, seen }));
    });
  }
}
