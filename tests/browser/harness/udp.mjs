// A bad network in front of the daemon's UDP port: what passes is delayed, and some of it is lost.

import { createSocket } from "node:dgram";

export class Link {
  /**
   * Forwards to this port of 127.0.0.1. `delay`: milliseconds each way; `loss`: share of the packets
   * that get lost, each way, by a seeded chance, once `lossy` is true. `late` says by how much at
   * most a packet came later than it should have, because this machine was busy.
   */
  static async start(port, { delay = 0, loss = 0, seed = 1 } = {}) {
    const link = new Link();
    let state = seed;
    const random = () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
    Object.assign(link, { lossy: false, passed: 0, lost: 0, bytes: 0, late: 0, sockets: new Map() });
    const pass = (bytes, send) => {
      if (link.lossy && random() < loss) return void link.lost++;
      link.passed++;
      link.bytes += bytes.length;
      const begun = performance.now();
      setTimeout(() => {
        link.late = Math.max(link.late, performance.now() - begun - delay);
        send();
      }, delay);
    };
    link.front = createSocket("udp4");
    link.front.on("message", (bytes, { port: from }) => {
      let behind = link.sockets.get(from);
      if (!behind) {
        behind = createSocket("udp4");
        behind.on("error", () => {});
        behind.on("message", (bytes) => pass(bytes, () => !link.over && link.front.send(bytes, from, "127.0.0.1")));
        link.sockets.set(from, behind);
      }
      pass(bytes, () => !link.over && behind.send(bytes, port, "127.0.0.1"));
    });
    await new Promise((resolve) => link.front.bind(0, "127.0.0.1", resolve));
    link.front.setRecvBufferSize(1 << 20);
    link.port = link.front.address().port;
    return link;
  }

  async end() {
    this.over = true;
    for (const socket of [this.front, ...this.sockets.values()]) socket.close();
  }
}
