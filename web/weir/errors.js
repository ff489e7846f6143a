// Errors: every failure that a page sees is a WeirError, a TypeError or a RangeError.

// Codes of docs/protocol.md that the client itself uses.
export const OVERLOADED = 0x02, TIMED_OUT = 0x03, MALFORMED = 0x10, FRAME_TOO_LARGE = 0x14;
export const BAD_TOPIC = 0x20, PAYLOAD_TOO_LARGE = 0x22, BAD_ALIAS = 0x24, LAGGED = 0x50;
export const UNAUTHORIZED = 0x40, TOKEN_EXPIRED = 0x43;

// Names of the codes in docs/protocol.md. A row holds one value of the upper four bits; the position
// in the row is the lower four bits. A + marks failures that may pass without a change by the caller.
const NAMES = [
  "done shutting_down+ overloaded+ timed_out+ unavailable+ unkept+",
  "malformed version unexpected unsupported frame_too_large",
  "bad_topic bad_filter payload_too_large reserved bad_alias bad_request too_many_subscriptions " +
    " stale",
  "not_found evicted",
  "unauthorized forbidden rate_limited+ token_expired+",
  "lagged+ publisher_gone+ overtaken+",
].map((row) => row.split(" "));

/** A failure that the daemon reported, with its code, or one of the connection, without a code. */
export class WeirError extends Error {
  /**
   * Creates an error. Without a message, its text is its name in words.
   *
   * @param {any} code a number, or null
   * @param {string} message
   * @param {string} [name] default: the name of the code
   * @param {boolean} [retry] whether the same call may succeed later; default: whether the name has a +,
   *   which is taken off
   */
  constructor(
    code,
    message,
    name = NAMES[code >> 4]?.[code & 15] || "unknown",
    retry = name.endsWith("+"),
  ) {
    name = name.replace("+", "");
    super(message || name.replaceAll("_", " "));
    this.code = code;
    this.name = name;
    this.retry = retry;
  }
}

/** The connection failed; a new one may work. @param {string} why */
export const connectionBroken = (why) => new WeirError(null, why, "broken+");

/** The page closed the client. */
export const clientClosed = () => new WeirError(null, "closed by this client", "closed");

/** The daemon cannot be reached. @param {string} why @param {boolean} retry */
export const unreachable = (why, retry) => new WeirError(null, why, "unreachable", retry);

/** Throws: the protocol does not allow what was sent. @param {string} why @returns {never} */
export const malformed = (why) => {
  throw new WeirError(MALFORMED, `protocol error: ${why}: update the older side`);
};

/**
 * Throws an error with this code for more bytes than the limit.
 *
 * @param {number} code @param {number} size @param {number} limit
 */
export const checkSize = (code, size, limit) => {
  if (size > limit) throw new WeirError(code, `${size} bytes, above the limit ${limit}`);
};

/** Returns the text of anything that was thrown. @param {any} error @returns {string} */
export const textOf = (error) => error?.message || error;

/** Returns whether the daemon itself sent the error. @param {any} error */
export const sentByDaemon = (error) => error instanceof WeirError && error.code !== null;

/** Returns a WeirError for anything that was thrown. @param {any} error @returns {WeirError} */
export const asWeirError = (error) =>
  error instanceof WeirError ? error : connectionBroken(textOf(error));

/** Throws a TypeError unless an argument is good. @param {any} isGood @param {string} problem */
export const check = (isGood, problem) => {
  if (!isGood) throw new TypeError(problem);
};

/**
 * Throws if options remain after the known ones were taken out. Its type makes tsc find an option of
 * weir.d.ts that was forgotten.
 *
 * @param {Record<string, never>} rest
 */
export const refuseUnknown = (rest) => {
  for (const name in rest) throw new TypeError(`no such option: ${name}`);
};
