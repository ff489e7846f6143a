// Bytes: joining, text, hexadecimal, and which memory a view keeps alive.

import { check } from "./errors.js";

const encoder = new TextEncoder(), decoder = new TextDecoder();

/** Returns the UTF-8 of a text. @param {string} text */
export const toUtf8 = (text) => encoder.encode(text);

/** Returns the text of UTF-8 bytes; each malformed sequence becomes U+FFFD. @param {Uint8Array} bytes */
export const fromUtf8 = (bytes) => decoder.decode(bytes);

/**
 * Returns all parts as one array. A single part is returned as it is, without a copy.
 *
 * @param {Uint8Array[]} parts
 */
export const concat = (parts) => {
  if (parts.length === 1) return parts[0];
  let at = 0;
  for (const part of parts) at += part.length;
  const all = new Uint8Array(at);
  for (const part of parts.reverse()) all.set(part, (at -= part.length));
  return all;
};

/** Returns bytes in lower-case hexadecimal. @param {Uint8Array} bytes */
export const toHex = (bytes) =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Returns the 32 bytes of a hash in hexadecimal; throws a TypeError for anything else. @param {string} text */
export const fromHex = (text) => {
  check(/^[\da-f]{64}$/i.test(text), `not 64 hex digits: ${text}`);
  return Uint8Array.from(/** @type {string[]} */ (text.match(/../g)), (pair) => parseInt(pair, 16));
};

/**
 * Returns bytes that keep at most four times their size alive. A view keeps its whole buffer alive,
 * which can be 64 KiB for a payload of 10 bytes, so a small view is copied.
 *
 * @param {Uint8Array} view
 */
export const detach = (view) => (view.length * 4 < view.buffer.byteLength ? view.slice() : view);
