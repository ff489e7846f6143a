// Helpers that every module may use.

/** Does nothing. @type {(...args: any[]) => any} */
export const noop = () => {};

/** Resolves after a time. @param {number} ms @returns {Promise<void>} */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Returns `n`, or the bound that it exceeds. @param {number} n @param {number} low @param {number} high */
export const clamp = (n, low, high) => Math.max(low, Math.min(n, high));
