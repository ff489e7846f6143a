// Reads what arrives, in portions that leave the page responsive.

import { FrameReader } from "../codec/frame_reader.js";
import { decode } from "../codec/frames.js";
import { malformed } from "../errors.js";

/** @import { Frame } from "../codec/frames.js" */

/** Maximum frames that are handled before the page gets a turn. They take a few milliseconds. */
const TURN_FRAMES = 256;

/** Frames handled since the page had a turn, over all sessions. */
let handled = 0;

/** Gives the page a turn. A timer would take 4 ms, and a second in a hidden page. */
const yieldToPage = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    resolve((handled = 0));
  };
  port2.postMessage(0);
});

/**
 * Calls `handle` with each frame that is complete with this chunk, and with the number of its kind.
 *
 * @param {FrameReader} frames @param {Uint8Array} chunk
 * @param {(frame: Frame, kind: number) => void} handle
 */
export const handleFrames = (frames, chunk, handle) => {
  frames.push(chunk);
  for (let body; (body = frames.next()); handled++) handle(decode(body), body[0]);
};

/**
 * Does the same for bytes that hold complete frames only, as a datagram and a WebSocket message do.
 *
 * @param {Uint8Array} bytes @param {(frame: Frame, kind: number) => void} handle
 */
export const handleWholeFrames = (bytes, handle) => {
  const frames = new FrameReader();
  handleFrames(frames, bytes, handle);
  if (frames.partial) malformed("too short");
};

/**
 * Reads a stream to its end. `handle` may return a promise, to delay the next read.
 *
 * @param {ReadableStream} readable
 * @param {(value: any, reader: ReadableStreamDefaultReader) => any} handle
 */
export const readAll = async (readable, handle) => {
  const reader = readable.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    await handle(value, reader);
    if (handled > TURN_FRAMES) await yieldToPage();
  }
};
