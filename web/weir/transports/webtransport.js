// WebTransport: a control stream, streams of the daemon's, a stream for publications, datagrams.

import { FrameReader } from "../codec/frame_reader.js";
import { FOR } from "../codec/frames.js";
import { WeirError } from "../errors.js";
import { BUFFER_MESSAGES, WRITE_BYTES } from "../limits.js";
import { noop, sleep } from "../util.js";
import { handleFrames, readAll } from "./incoming.js";
import { outbox } from "./outbox.js";

/** @import { Link, LinkEvents, Sink } from "./link.js" */

/** Maximum datagrams that wait to be sent. */
const QUEUED_DATAGRAMS = 64;

/** Milliseconds for the reason of a close to arrive after the control stream has ended. */
const CLOSE_GRACE = 500;

/**
 * Opens a connection. It ends with an error through `session.end`.
 *
 * @param {string} url @param {Uint8Array[]} hashes accepted certificates; none: the browser decides
 * @param {LinkEvents} session @returns {Link}
 */
export const openWebTransport = (url, hashes, session) => {
  const wt = new WebTransport(url, hashes.length ? {
    serverCertificateHashes: hashes.map((value) => ({
      algorithm: "sha-256", value: /** @type {Uint8Array<ArrayBuffer>} */ (value),
    })),
  } : {});
  /** @type {any} */
  const datagrams = wt.datagrams;
  const fail = (error) => session.end(error);
  // A stream that was reset has only ended: the control stream carries the reason.
  const failUnlessReset = (error) => error instanceof WeirError && fail(error);
  /** @type {WritableStreamDefaultWriter} */
  let datagramWriter;

  const streamOutbox = (open, stream) => outbox(async (bytes) => {
    stream ??= (await open()).getWriter();
    await stream.write(bytes);
  }, fail);

  const readFrames = (readable, handle, wait = noop) => {
    const frames = new FrameReader();
    return readAll(readable, (chunk, reader) => {
      session.received();
      handleFrames(frames, chunk, (frame, kind) => handle(frame, kind, reader));
      return wait();
    });
  };

  const accept = async (readable) => {
    /** @type {Sink | undefined} */
    let sink;
    await readFrames(readable, (frame, kind, reader) => {
      if (kind === FOR) sink = session.open(frame, () => reader.cancel().catch(noop));
      else sink?.take(frame);
    }, () => sink?.room?.()).catch(failUnlessReset);
    sink?.end?.();
  };

  const control = wt.ready.then(() => wt.createBidirectionalStream());
  control.then(async ({ readable }) => {
    await readFrames(readable, (frame) => session.control(frame));
    await sleep(CLOSE_GRACE);
    session.disconnected();
  }).catch(fail);

  const readWhenReady = (readable, handle) =>
    wt.ready.then(() => readAll(readable, handle)).catch(failUnlessReset);
  readWhenReady(wt.incomingUnidirectionalStreams, (stream) => void accept(stream));
  // By default browsers keep one datagram, and drop the others of a burst.
  datagrams.incomingHighWaterMark = BUFFER_MESSAGES;
  readWhenReady(datagrams.readable, (bytes) => session.datagram(bytes));

  wt.closed.then(({ closeCode, reason }) => session.disconnected(closeCode, reason), fail);

  return {
    transport: "webtransport",
    send: streamOutbox(async () => (await control).writable),
    publish: streamOutbox(() => wt.createUnidirectionalStream()),
    publishAlone: (...frames) => void wt.createUnidirectionalStream().then(async (writable) => {
      const stream = writable.getWriter();
      for (const frame of frames) {
        for (let at = 0; at < frame.length; at += WRITE_BYTES) {
          await stream.write(frame.subarray(at, at + WRITE_BYTES));
          // Room for more shows that the daemon is alive, also while nothing else passes.
          session.received();
        }
      }
      await stream.close();
    }).catch(fail),
    datagram(bytes, least = -QUEUED_DATAGRAMS) {
      datagramWriter ??= (datagrams.writable ?? datagrams.createWritable()).getWriter();
      // Browsers drop a datagram that is too large, without an error. An unknown maximum is NaN.
      if (!(bytes.length <= datagrams.maxDatagramSize) || /** @type {any} */ (datagramWriter.desiredSize) < least) return false;
      datagramWriter.write(bytes).catch(noop);
      return true;
    },
    close(closeCode, reason) {
      try {
        wt.close({ closeCode, reason });
      } catch {
        // The connection was not open yet.
      }
    },
  };
};
