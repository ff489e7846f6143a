// WebSocket: everything in order on one channel.

import { FOR, HEAD, MARK } from "../codec/frames.js";
import { BUFFER_BYTES } from "../limits.js";
import { sleep } from "../util.js";
import { handleWholeFrames } from "./incoming.js";
import { outbox } from "./outbox.js";

/** @import { Link, LinkEvents, Sink } from "./link.js" */

/** Added to a code of the protocol: the codes that an application may close a WebSocket with. */
const CLOSE_CODES = 4000;

/** Interval at which the send buffer is looked at, in ms; no event reports it. */
const POLL = 5;

/** Time for a close event after an error, in ms. */
const CLOSE_GRACE = 10;

/**
 * Opens a connection. It ends with an error through `session.end`.
 *
 * @param {string} url @param {LinkEvents} session @returns {Link}
 */
export const openWebSocket = (url, session) => {
  const ws = new WebSocket(url);
  /** @type {Sink | undefined} */
  let sink;
  ws.binaryType = "arraybuffer";
  const open = new Promise((resolve) => (ws.onopen = resolve));
  ws.onmessage = ({ data }) => {
    if (session.over) return;
    session.received();
    try {
      handleWholeFrames(new Uint8Array(data), (frame, kind) => {
        // For names the subscription or request of the frames up to the next For. Frames of its
        // stream have the numbers up to that of Head, and that of Mark.
        if (kind === FOR) sink = session.open(frame);
        else if (kind < FOR || (kind > HEAD && kind !== MARK)) session.control(frame);
        else sink?.take(frame);
      });
    } catch (error) {
      session.end(error);
    }
  };
  ws.onclose = ({ code, reason }) => session.disconnected(code - CLOSE_CODES, reason);
  // Chromium sends no close event for a connection that the page's policy blocks.
  ws.onerror = () => setTimeout(() => session.disconnected(), CLOSE_GRACE);
  const send = outbox(async (bytes) => {
    await open;
    ws.send(/** @type {Uint8Array<ArrayBuffer>} */ (bytes));
    // A buffer that shrinks shows that the daemon is alive. That of a dead connection does not.
    for (let left; (left = ws.bufferedAmount) > BUFFER_BYTES && !session.over; ) {
      await sleep(POLL);
      if (ws.bufferedAmount < left) session.received();
    }
  }, (error) => session.end(error));
  return {
    transport: "websocket",
    send,
    publish: send,
    publishAlone: (...frames) => frames.forEach(send),
    close: (code, reason) => ws.close(code ? CLOSE_CODES + code : 1000, reason),
  };
};
