// A WebTransport session without weir.js, for what weir.js would never do, and to see what arrives
// with eyes of our own. Only as much of the protocol as that takes.

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
export const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));

/** The example of docs/protocol.md. */
export const hello = unhex("1d0001000102030405060708090a0b0c0d0e0f00096578616d706c652f31");

export class Raw {
  constructor(address, hash) {
    const serverCertificateHashes = [{ algorithm: "sha-256", value: unhex(hash) }];
    this.session = new WebTransport(`https://${address}/weir`, { serverCertificateHashes });
    this.closed = this.session.closed.then(
      (info) => ({ clean: true, code: info?.closeCode, reason: info?.reason }),
      (error) => ({ clean: false, error: String(error), source: error.source, code: error.streamErrorCode }),
    );
  }

  /** Opens the control stream and says hello; frames are collected from then on. */
  async open() {
    await this.session.ready;
    const { readable, writable } = await this.session.createBidirectionalStream();
    this.writer = writable.getWriter();
    this.frames = [];
    this.ended = this.#read(readable.getReader());
    await this.writer.write(hello);
    await this.frame(0);
  }

  async #read(reader) {
    let rest = new Uint8Array();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return "finished";
        const all = new Uint8Array(rest.length + value.length);
        all.set(rest);
        all.set(value, rest.length);
        rest = this.#take(all);
      }
    } catch (error) {
      return String(error);
    } finally {
      this.arrived?.();
    }
  }

  #take(bytes) {
    for (;;) {
      let length = 0;
      let at = 0;
      do {
        if (at === bytes.length) return bytes;
        length += (bytes[at] & 0x7f) * 2 ** (7 * at);
      } while (bytes[at++] & 0x80);
      if (bytes.length < at + length) return bytes;
      this.frames.push(bytes.slice(at, at + length));
      this.arrived?.();
      bytes = bytes.slice(at + length);
    }
  }

  /** The first frame of this kind; waits for it until the stream ends. */
  async frame(kind) {
    let over = false;
    this.ended.then(() => (over = true));
    for (;;) {
      const found = this.frames.find((frame) => frame[0] === kind);
      if (found) return found;
      if (over) throw new Error(`no frame ${kind}; there were ${this.frames.map(hex).join(" ") || "none"}`);
      await Promise.race([this.ended, new Promise((resolve) => (this.arrived = resolve))]);
    }
  }

  /** The daemon's goodbye: code and reason. */
  async goodbye() {
    const frame = await this.frame(19);
    const reason = new TextDecoder().decode(frame.slice(3, 3 + frame[2]));
    return { code: frame[1], reason, retry: frame.at(-1) === 1 };
  }
}
