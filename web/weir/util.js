// Helpers that every module may use.

/** Does nothing. @type {(...args: any[]) => any} */
export const noop = () => {};

/** Resolves after a time. @param {number} ms @returns {Promise<void>} */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Returns a promise, and the functions that settle it. */
export const deferred = () => {
  /** @type {any} */
  let settle;
  const promise = new Promise((resolve, reject) => (settle = { resolve, reject }));
  return { promise, ...settle };
};

/**
 * Listens to events, and returns a function that stops it. Without a target it does nothing; the
 * global object of a program outside a browser has no events.
 *
 * @param {any} target @param {string} type @param {(event: any) => void} listener
 */
export const listen = (target, type, listener) => {
  target?.addEventListener?.(type, listener);
  return () => target?.removeEventListener?.(type, listener);
};

/**
 * Waits before attempt `n`, from 0: about 200 ms at first, then twice as long each time, up to 10 s;
 * or a multiple of that. Chance spreads the clients of a daemon that restarts. A page that comes
 * online goes on at once, and so does a signal that aborts.
 *
 * @param {number} n @param {AbortSignal} [signal]
 */
export const backOff = async (n, signal, scale = 1) => {
  const { promise, resolve } = deferred();
  const timer = setTimeout(resolve, scale * Math.min(250 * 2 ** n, 10_000) * (0.5 + Math.random() / 2));
  const stops = [listen(globalThis, "online", resolve), listen(signal, "abort", resolve)];
  await promise;
  clearTimeout(timer);
  for (const stop of stops) stop();
};

/** Returns `n`, or the bound that it exceeds. @param {number} n @param {number} low @param {number} high */
export const clamp = (n, low, high) => Math.max(low, Math.min(n, high));
