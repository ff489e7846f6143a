// The one interface of the transports. Types only.

/** @import { Frame } from "../codec/frames.js" */

/**
 * A connection to the daemon. Frames of `send` keep their order, and so do those of `publish`. All
 * methods return at once. After a failure the link calls `end` of its session.
 *
 * @typedef {object} Link
 * @property {"webtransport" | "websocket"} transport
 * @property {(frame: Uint8Array) => void} send sends a frame of the control stream
 * @property {(frame: Uint8Array) => void} publish sends a small publication, or a declaration
 * @property {(...frames: Uint8Array[]) => void} publishAlone sends a large publication, which small
 *   ones may overtake, after its declaration
 * @property {(frames: Uint8Array, least?: number) => boolean} [datagram] sends a datagram, and returns
 *   whether it was accepted. The send queue must have room for `least` more; 1 means that it must be
 *   empty. Absent if the transport has no datagrams
 * @property {(code: number, reason: string) => void} close
 */

/**
 * The session of a link, which the link calls.
 *
 * @typedef {object} LinkEvents
 * @property {() => void} received bytes arrived: the daemon is alive
 * @property {(frame: Frame) => void} control a frame of the control stream
 * @property {(frame: Frame, cancel?: () => void) => Sink | undefined} open a stream begins; returns
 *   the receiver of its frames
 * @property {(bytes: Uint8Array) => void} datagram
 * @property {(error: any) => void} end the link failed
 * @property {(code?: number, reason?: string) => void} disconnected the daemon closed it
 * @property {any} over whether the session has ended
 */

/**
 * The receiver of one stream of the daemon's.
 *
 * @typedef {object} Sink
 * @property {(frame: Frame, datagram?: boolean) => void} take
 * @property {() => Promise<void> | undefined} [room] resolves when more is wanted
 * @property {() => void} [end] the stream has ended
 */

export {};
