// The daemon's own description of its certificate and its WebTransport, at /certificate.sha256.

import { WeirError, sentByDaemon } from "./errors.js";

/**
 * @typedef {object} Facts
 * @property {boolean} pinning whether browsers must pin the certificate
 * @property {string} current SHA-256 of the certificate, in hexadecimal
 * @property {string | null} next the same of the next certificate, if there is one
 * @property {number} port of WebTransport
 * @property {string} path of WebTransport
 */

/**
 * Asks the daemon. Returns null if it does not answer, and throws its error if it refuses this page.
 *
 * @param {URL} base @returns {Promise<Facts | null>}
 */
export const fetchFacts = async (base) => {
  try {
    const answer = await fetch(new URL("/certificate.sha256", base));
    const { code, detail, ...facts } = await answer.json();
    if (code) throw new WeirError(code, detail);
    return facts;
  } catch (error) {
    if (sentByDaemon(error)) throw error;
    return null;
  }
};

/** Returns the hashes to pin, in hexadecimal; none where the certificate is trusted. @param {Facts | null} facts */
export const hashesToPin = (facts) =>
  facts?.pinning ? [facts.current, facts.next ?? []].flat() : [];

/**
 * Returns what is wrong with the hashes that the page gave, if the daemon says so.
 *
 * @param {Facts | null} facts @param {string[] | undefined} pinned
 */
export const pinningProblem = (facts, pinned) =>
  pinned && facts?.pinning && !pinned.some((hash) => hashesToPin(facts).includes(hash.toLowerCase())) &&
    `certificateHashes do not name the daemon's certificate, which is ${facts.current}`;
