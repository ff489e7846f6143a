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

/** Returns `n`, or the bound that it exceeds. @param {number} n @param {number} low @param {number} high */
export const clamp = (n, low, high) => Math.max(low, Math.min(n, high));
