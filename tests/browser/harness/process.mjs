// Processes that these tests start: each is written down, so that run.sh can end what a test that
// died has left behind, by its id and the time it began, and nothing else.

import { spawn } from "node:child_process";
import { appendFileSync, readFileSync, readdirSync } from "node:fs";

function stat(pid) {
  let line;
  try {
    line = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return null;
  }
  // The name stands in brackets and may hold anything; the fields after it begin with the state.
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
  return { parent: Number(fields[1]), began: fields[19] };
}

/** Notes that the process is ours. */
export function own(pid) {
  const list = process.env.WEIR_BROWSER_PIDS;
  const found = stat(pid);
  if (list && found) appendFileSync(list, `${pid} ${found.began}\n`);
}

// This one too: a test that hangs is ended with what it has started.
own(process.pid);

/** The process and all below it. */
export function tree(root) {
  const parents = new Map();
  for (const name of readdirSync("/proc")) {
    const found = /^\d+$/.test(name) && stat(name);
    if (found) parents.set(Number(name), found.parent);
  }
  const found = [root];
  for (const at of found) for (const [pid, parent] of parents) if (parent === at) found.push(pid);
  return found;
}

/** Bytes of memory of a process and all below it; what they share is counted once. */
export function memory(root) {
  let bytes = 0;
  for (const pid of tree(root)) {
    try {
      bytes += 1024 * Number(/^Pss: +(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"))[1]);
    } catch {
      // Gone meanwhile.
    }
  }
  return bytes;
}

/** The promise's result, or an error that names what took longer than so many milliseconds. */
export function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Milliseconds from now. For polling, never for luck. */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Calls until the result is true in JavaScript's sense, and gives it back. */
export async function until(call, { timeout = 10_000, every = 25, what = String(call) } = {}) {
  const end = performance.now() + timeout;
  for (;;) {
    const result = await call();
    if (result) return result;
    if (performance.now() > end) throw new Error(`not within ${timeout} ms: ${what}`);
    await pause(every);
  }
}

/** Starts a program of ours; its standard error is kept, and shown when something goes wrong. */
export function start(program, args, { env = process.env, stdin = "ignore" } = {}) {
  const child = spawn(program, args, { env, stdio: [stdin, "pipe", "pipe"] });
  child.said = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (child.said = (child.said + text).slice(-20_000)));
  child.exited = new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => resolve({ code, signal }));
  });
  child.exited.catch(() => {});
  if (child.pid) own(child.pid);
  return child;
}
