// The daemon's own description of its certificate and its WebTransport, at certificate.sha256.

import { WeirError } from "./errors.js";

/**
 * @typedef {object} Facts empty hashes, and nothing else, if the daemon does not answer
 * @property {string[]} hashes SHA-256 of the certificates to pin, in hexadecimal; none where browsers
 *   trust the certificate
 * @property {string} [current] the same of the current certificate
 * @property {number} [port] of WebTransport
 * @property {string} [path] of WebTransport
 * @property {any} problem the problem with the hashes that the page gave; falsy: none
 */

/**
 * Asks the daemon. Throws its error if it refuses this page.
 *
 * @param {URL} base @param {string[]} [pinned] the hashes that the page gave @returns {Promise<Facts>}
 */
export const fetchFacts = async (base, pinned) => {
  /** @type {any} */
  let facts;
  try {
    facts = await (await fetch(new URL("certificate.sha256", base))).json();
  } catch {
    // It does not answer.
  }
  const { code, detail, pinning, current, next } = facts ?? {};
  if (code) throw new WeirError(code, detail);
  const hashes = pinning ? next ? [current, next] : [current] : [];
  const problem = pinned && hashes.length && !pinned.some((hash) => hashes.includes(hash.toLowerCase())) &&
    `certificateHashes do not name the daemon's: ${current}`;
  return { ...facts, hashes, problem };
};
