// The real daemon, and the command-line client beside it. The binary is WEIR_BIN.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";
import { start, within } from "./process.mjs";

export const binary = process.env.WEIR_BIN ?? new URL("../../../target/debug/weir", import.meta.url).pathname;

// Whoever tests has settings of their own; the tests are to be about the defaults.
function environment(home) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("WEIR_")));
  return { ...env, XDG_STATE_HOME: home, RUST_BACKTRACE: "1" };
}

export class Daemon {
  /**
   * Starts a daemon on free ports. `env`: configuration, such as WEIR_CACHE__BYTES. It stops, and
   * its state is removed, by `end()`, which fails when it does not stop in time: whatever the test
   * did to it, TERM ends it.
   */
  static async start({ env = {}, args = [] } = {}) {
    const daemon = new Daemon();
    daemon.home = mkdtempSync(join(tmpdir(), "weir-browser-"));
    daemon.state = join(daemon.home, "weir");
    daemon.env = env;
    daemon.args = args;
    await daemon.up("127.0.0.1:0", "127.0.0.1:0");
    return daemon;
  }

  async up(listen, http) {
    const args = ["serve", "--listen", listen, "--http", http, "--state", this.state, "--json"];
    this.child = start(binary, [...args, ...this.args], { env: { ...environment(this.home), ...this.env } });
    const lines = createInterface({ input: this.child.stdout });
    const gone = this.child.exited.then(() => Promise.reject(new Error(`weir serve: ${this.child.said}`)));
    gone.catch(() => {});
    const first = new Promise((resolve) => lines.once("line", resolve));
    const ready = JSON.parse(await within(15_000, "weir serve is ready", Promise.race([first, gone])));
    this.listen = ready.listen;
    this.port = Number(ready.listen.split(":").pop());
    this.http = ready.http;
    /** The address of the page; what the API and the WebSocket are under. */
    this.url = `http://${ready.http}`;
    this.secureUrl = `https://${ready.listen}`;
    this.hash = ready.certificate_sha256;
  }

  /** Stops it as systemd does, or as the kernel does when memory is short. */
  async stop(signal = "SIGTERM") {
    this.child.kill(signal);
    return within(10_000, `weir serve ends after ${signal}`, this.child.exited);
  }

  /** Starts it again on the same ports, with the same state. */
  async again() {
    await this.up(this.listen, this.http);
  }

  async end() {
    try {
      if (this.child?.exitCode === null && this.child.signalCode === null) await this.stop();
    } finally {
      this.child?.kill("SIGKILL");
      if (this.home) rmSync(this.home, { recursive: true, force: true });
    }
  }

  /** Everything it has logged. */
  get log() {
    return this.child.said;
  }

  /** Runs `weir VERB …` against it. `input`: a string or an iterable of them. Gives the output. */
  async weir(verb, args, { input, timeout = 30_000 } = {}) {
    const child = start(binary, [verb, ...args, "--server", this.listen, "--state", this.state], {
      env: environment(this.home),
      stdin: input === undefined ? "ignore" : "pipe",
    });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
    const closed = new Promise((resolve) => child.stdout.once("close", resolve));
    const fed = input === undefined ? null : pipeline(Readable.from(input), child.stdin).catch(() => {});
    try {
      const { code } = await within(timeout, `weir ${verb}`, child.exited);
      await closed;
      await fed;
      if (code !== 0) throw new Error(`weir ${verb} ${args.join(" ")}: exit code ${code}: ${child.said}`);
    } finally {
      child.kill("SIGKILL");
    }
    return output;
  }

  pub(topic, payload) {
    return this.weir("pub", [topic, payload]);
  }

  /** Publishes each string, in this order, as fast as it goes. */
  lines(topic, lines, options) {
    const input = (function* () {
      for (const line of lines) yield line + "\n";
    })();
    return this.weir("pub", [topic, "--lines"], { ...options, input });
  }

  /** What `weir top --json` says: a list of objects. */
  async top(topic, k = 100) {
    const output = await this.weir("top", [topic, "-k", String(k), "--json"]);
    return output
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  }
}
