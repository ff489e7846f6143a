// Limits that several modules share.

/** Maximum bytes of one write. A larger publication is sent on a stream of its own. */
export const WRITE_BYTES = 1 << 16;

/** Maximum bytes that wait for a slow consumer, or in the send buffer of a WebSocket. */
export const BUFFER_BYTES = 1 << 20;

/** Maximum messages that wait for a slow consumer of datagrams. */
export const BUFFER_MESSAGES = 1024;

/** Maximum bytes of a frame without a payload. */
export const FRAME_BYTES = 1 << 20;
