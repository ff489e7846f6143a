// Numbers, times and errors as texts of the page.

/** Returns milliseconds with three digits, fewer if the clock's `step` is coarser. */
export function milliseconds(ms, step = 0) {
  if (ms >= 100 || step >= 0.95) return String(Math.round(ms));
  if (ms >= 10 || step >= 0.095) return ms.toFixed(1);
  return ms.toFixed(2);
}

const plain = new Intl.NumberFormat("en-GB");

/** Returns a number with separators: 12,345. */
export function number(n) {
  return plain.format(n);
}

/** Returns a number and a noun: "1 message", "2 messages". */
export function several(n, one, many = `${one}s`) {
  return `${number(n)} ${n === 1 ? one : many}`;
}

/** Returns a duration of `ms` in words. */
export function duration(ms) {
  if (ms < 1000) return "less than 1 s";
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

const decoder = new TextDecoder();

/** Returns a payload as text of at most `most` characters. A text that is cut says how long it is. */
export function excerpt(payload, most = 600) {
  if (payload.length === 0) return "(empty)";
  const text = decoder.decode(payload.subarray(0, most * 4));
  const cut = [...text].slice(0, most).join("");
  if (cut.length === text.length && payload.length <= most * 4) return text;
  return `${cut}… (${several(payload.length, "byte")})`;
}

const names = { webtransport: "WebTransport", websocket: "WebSocket" };

/** Returns the proper name of a transport. */
export function transportName(transport) {
  return names[transport] ?? transport;
}

/** Returns a sentence, with a capital and a full stop. */
export function sentence(text) {
  const trimmed = String(text ?? "").trim();
  if (!trimmed) return "";
  const first = /^(web|https?:|[a-z]+[A-Z_])/.test(trimmed) ? trimmed[0] : trimmed[0].toUpperCase();
  return first + trimmed.slice(1) + (/[.!?…]$/.test(trimmed) ? "" : ".");
}

const advice = {
  unreachable: "Is the daemon running, and is this its address?",
  timed_out: "The daemon did not answer in time.",
  overloaded: "The daemon cannot take more now; wait a little.",
  version: "This page and the daemon are of different versions; reload the page.",
  unauthorized: "This daemon asks for a token: open the page with #token=… behind its address.",
  forbidden: "This daemon does not allow that here.",
  rate_limited: "That was faster than the daemon allows; wait a little.",
  payload_too_large: "Say less at a time.",
  too_many_subscriptions: "Close other pages of this daemon.",
};

/** Returns an error in words: its cause, and advice. */
export function explain(error) {
  const said = sentence(error?.message || error?.name || String(error));
  const hint = advice[error?.name];
  return hint && !said.includes(hint) ? `${said} ${hint}` : said;
}

/** Returns a notice of the daemon's in words; empty if it says that all is well again. */
export function noticeText({ code, name, reason }) {
  if (code === 0) return "";
  const said = sentence(reason || name);
  return name === "unkept"
    ? `What is said now reaches everybody, but the daemon cannot keep it: if it ends, that is lost. It said: ${said}`
    : `The daemon says: ${said}`;
}

/** Returns why WebTransport is impossible on this page; null if it is possible. */
export function whyNoWebTransport() {
  if (!globalThis.isSecureContext) {
    return "this page is not in a secure context, so the browser offers no WebTransport. " +
      "Open it with https://, or as http://localhost on the daemon's machine.";
  }
  if (!("WebTransport" in globalThis)) {
    return "this browser has no WebTransport.";
  }
  return null;
}

/** Whether the address says that the daemon is on this machine. */
export function onLoopback(hostname = location.hostname) {
  return hostname === "localhost" || hostname.endsWith(".localhost") ||
    hostname === "[::1]" || /^127\./.test(hostname);
}
