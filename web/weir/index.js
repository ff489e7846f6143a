// The browser client of Weir: docs/protocol.md over WebTransport or WebSocket. weir.d.ts describes
// what is exported here.

import { decode, encode } from "./codec/frames.js";
import { FrameReader } from "./codec/frame_reader.js";

export { Client } from "./client.js";
export { connect } from "./connect.js";
export { WeirError } from "./errors.js";
export { Receiver } from "./receiver.js";
export const codec = { encode, decode, FrameReader };
