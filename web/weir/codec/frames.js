// The frames of docs/protocol.md, as tables. The position of a frame in its table is its number.

import { malformed } from "../errors.js";
import {
  Reader, Writer, bool, byteArray, bytes, choice, list, option, str, struct, u32, u64,
} from "./postcard.js";

/** @import { Type } from "./postcard.js" */
/** @typedef {Record<string, any> & { frame: string }} Frame as in tests/vectors/frames.json */

const digest = byteArray(32);
const pairs = list(struct([u64, u64]));
const resume = {
  since: struct({ run: u64, position: u64 }),
  topics: list(struct({ topic: str, epoch: u64, next: u64 })),
};
const start = choice({
  New: null, Latest: null, All: null, Last: u64, Sequence: u64,
  Resume: struct(resume),
  ResumeWith: struct({ ...resume, had: list(struct({ topic: u32, ranges: pairs })) }),
});
const delivery = choice({ Ordered: null, Unordered: null, Realtime: null });
const lag = choice({ Oldest: null, Newest: null, Disconnect: null });
// A newer daemon may have more causes, and a gap is a gap.
const cause = choice({ Evicted: null, Skipped: null, Aborted: null, Late: null, Lost: null, Had: null, Expired: null }, "Unknown");
const which = choice({ Latest: null, Sequence: u64, Digest: digest });
const limits = struct({ payload: u64, subscriptions: u32, window: u32 });
const entries = list(struct({
  digest, count: u64, since: u64, sequence: u64, size: u64, payload: option(bytes),
}));

/** @param {Record<string, Record<string, Type>>} table @returns {[string[], Type[]]} */
const numbered = (table) => [Object.keys(table), Object.values(table).map(struct)];

// By receiver.
const FRAMES = {
  daemon: numbered({
    Hello: { version: u32, producer: byteArray(16), token: option(str), agent: str },
    Topic: { alias: u32, name: str },
    Publish: { alias: u32, number: u64, stamp: u64, payload: bytes },
    Begin: { alias: u32, number: u64, stamp: u64, size: u64 },
    Chunk: { bytes },
    End: { digest },
    Subscribe: { request: u32, filter: str, start, delivery, lag, deadline: u32 },
    Unsubscribe: { subscription: u32 },
    Get: { request: u32, topic: str, which },
    Top: { request: u32, topic: str, k: u32 },
    Ping: { request: u32 },
    Repair: { subscription: u32, topic: u64, holes: pairs },
    Goodbye: { code: u32, reason: str },
    Knows: { frames: u32 },
    Token: { request: u32, token: str },
  }),
  client: numbered({
    Welcome: { version: u32, session: u64, run: u64, clock: u64, limits, agent: str },
    For: { request: u32 },
    Topic: { id: u64, epoch: u64, next: u64, name: str },
    Message: { topic: u64, sequence: u64, count: u64, stamp: u64, payload: bytes },
    Begin: { topic: u64, sequence: u64, stamp: u64, size: u64 },
    Chunk: { bytes },
    End: { count: u64, digest },
    Abort: { code: u32 },
    Gap: { topic: u64, first: u64, last: u64, cause },
    Head: { topic: u64, sequence: u64 },
    Receipt: {
      alias: u32, number: u64, sequence: u64, count: u64, since: u64, digest, duplicate: bool,
    },
    Acknowledge: { alias: u32, floor: u64, seen: u64 },
    Rejected: { alias: u32, number: u64, code: u32, reason: str },
    Subscribed: { request: u32, position: u64 },
    Ended: { request: u32, code: u32, reason: str },
    Top: { request: u32, entries },
    Pong: { request: u32, clock: u64 },
    Failed: { request: u32, code: u32, reason: str },
    Drain: { within: u32, reason: str },
    Goodbye: { code: u32, reason: str, retry: bool },
    Mark: { position: u64 },
    Notice: { code: u32, reason: str },
    Authorized: { request: u32, lifetime: u64, name: str },
  }),
};

/** Numbers of frames that a client tells apart before it looks at their fields. */
export const FOR = 1, HEAD = 9, ACKNOWLEDGE = 11, MARK = 20;

/** How many frames of the daemon's this client can decode: all in the table. */
export const KNOWN_FRAMES = 23;

// Used within one call of `encode` only.
const writer = new Writer();

/** Returns a whole frame, with its length. @param {Frame} frame @param {"daemon" | "client"} [to] */
export const encode = (frame, to = "daemon") => {
  const [names, types] = FRAMES[to], index = names.indexOf(frame.frame);
  writer.begin();
  u32.write(writer, index);
  types[index].write(writer, frame);
  return writer.finish();
};

/**
 * Returns the frame of a body, which has no length in front. Bytes in the frame are views of it.
 *
 * @param {Uint8Array} body @param {"daemon" | "client"} [to] @returns {Frame}
 */
export const decode = (body, to = "client") => {
  const [names, types] = FRAMES[to], reader = new Reader(body), index = u32.read(reader);
  const frame = (types[index] ?? malformed("no such frame")).read(reader);
  frame.frame = names[index];
  if (reader.left) malformed(`${frame.frame} too long`);
  return frame;
};
