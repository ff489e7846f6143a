// Errors: every failure that a page sees is a WeirError, a TypeError or a RangeError.

// Codes of docs/protocol.md that the client itself uses.
export const OVERLOADED = 0x02, TIMED_OUT = 0x03, MALFORMED = 0x10, FRAME_TOO_LARGE = 0x14;
export const BAD_TOPIC = 0x20, PAYLOAD_TOO_LARGE = 0x22, BAD_ALIAS = 0x24, LAGGED = 0x50;

// Names of the codes in docs/protocol.md. A row holds one value of the upper four bits; the position
// in the row is the lower four bits.
const NAMES = [
  "done shutting_down overloaded timed_out unavailable",
  "malformed version unexpected unsupported frame_too_large",
  "bad_topic bad_filter payload_too_large reserved bad_alias bad_request too_many_subscriptions " +
    " stale",
  "not_found evicted",
  "unauthorized forbidden rate_limited",
  "lagged publisher_gone overtaken",
].map((row) => row.split(" "));

/** Codes of failures that may pass without a change by the caller. */
const RETRYABLE = [0x01, 0x02, 0x03, 0x04, 0x42, 0x50, 0x51, 0x52];

/** A failure that the daemon reported, with its code, or one of the connection, without a code. */
export class WeirError extends Error {
  /**
   * Creates an error. Without a message, its text is its name in words.
   *
   * @param {number | null} code
   * @param {string} message
   * @param {string} [name] default: the name of the code
   * @param {boolean} [retry] whether the same call may succeed later; default: depends on the code
   */
  constructor(
    code,
    message,
    name = NAMES[Number(code) >> 4]?.[Number(code) & 15] || "unknown",
    retry = RETRYABLE.includes(Number(code)),
  ) {
    super(message || name.replaceAll("_", " "));
    this.code = code;
    this.name = name;
    this.retry = retry;
  }
}

/** The connection failed; a new one may work. @param {string} why */
export const connectionBroken = (why) => new WeirError(null, why, "broken", true);

/** The page closed the client. */
export const clientClosed = () => new WeirError(null, "closed by this client", "closed", false);

/** The daemon cannot be reached. @param {string} why @param {boolean} retry */
export const unreachable = (why, retry) => new WeirError(null, why, "unreachable", retry);

/** The daemon sent something that the protocol does not allow. @param {string} why */
export const protocolViolation = (why) =>
  new WeirError(MALFORMED, `protocol error: ${why}: update the older side`);

/** Returns the text of anything that was thrown. @param {any} error @returns {string} */
export const textOf = (error) => error?.message || String(error);

/** Returns whether the daemon itself sent the error. @param {any} error */
export const sentByDaemon = (error) => error instanceof WeirError && error.code !== null;

/** Returns a WeirError for anything that was thrown. @param {any} error @returns {WeirError} */
export const asWeirError = (error) =>
  error instanceof WeirError ? error : connectionBroken(textOf(error));

/**
 * Throws if options remain after the known ones were taken out. Its type makes tsc find an option of
 * weir.d.ts that was forgotten.
 *
 * @param {Record<string, never>} rest
 */
export const refuseUnknown = (rest) => {
  for (const name in rest) throw new TypeError(`no such option: ${name}`);
};
