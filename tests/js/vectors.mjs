// The golden vectors, in node and in pages alike.

import { codec, WeirError } from "../../web/weir/index.js";

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const unhex = (text) =>
  Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));

// What is given in the vectors' JSON, in the types of what was decoded. JSON writes a u64 and
// bytes as strings; only the types are taken from the decoded frame, never a value.
const typed = (json, like) => {
  if (like instanceof Uint8Array) return unhex(json);
  if (typeof like === "number" && typeof json === "string") {
    return Number.isSafeInteger(Number(json)) ? Number(json) : BigInt(json);
  }
  if (typeof like === "bigint" && typeof json === "string") {
    return Number.isSafeInteger(Number(json)) ? Number(json) : BigInt(json);
  }
  if (Array.isArray(json)) return json.map((item, i) => typed(item, like?.[i]));
  if (json && typeof json === "object") {
    return Object.fromEntries(Object.entries(json).map(([k, v]) => [k, typed(v, like?.[k])]));
  }
  return json;
};

// In the notation of the vectors, but all numbers as strings.
const plain = (value) => {
  if (value instanceof Uint8Array) return hex(value);
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  }
  return value;
};

/** The frames in `chunks` of a stream that ends after them. */
export const read = (chunks, to, limit) => {
  const reader = new codec.FrameReader(limit);
  const frames = [];
  for (const chunk of chunks) {
    reader.push(chunk);
    for (let body; (body = reader.next()); ) frames.push(codec.decode(body, to));
  }
  if (reader.partial) throw new WeirError(0x10, "the stream ends inside a frame");
  return frames;
};

const valid = ({ to, frame, fields, hex: text }) => {
  const wire = unhex(text), bytewise = Array.from(wire, (byte) => Uint8Array.of(byte));
  for (const chunks of [[wire], bytewise]) {
    const frames = read(chunks, to, 2 ** 32);
    if (frames.length !== 1) return `${frames.length} frames`;
    const { frame: name, ...decoded } = frames[0];
    if (name !== frame) return `decoded as ${name}`;
    const got = JSON.stringify(plain(decoded)), want = JSON.stringify(plain(fields));
    if (got !== want) return `decoded as ${got}, not ${want}`;
    const encoded = hex(codec.encode({ frame, ...typed(fields, decoded) }, to));
    if (encoded !== text) return `encoded as ${encoded}, not ${text}`;
  }
  return null;
};

const invalid = ({ to, limit, hex: text }) => {
  const wire = unhex(text), bytewise = Array.from(wire, (byte) => Uint8Array.of(byte));
  for (const chunks of [[wire], bytewise]) {
    try {
      return `taken as ${JSON.stringify(plain(read(chunks, to, limit)))}`;
    } catch (error) {
      if (!(error instanceof WeirError)) return `${error}`;
    }
  }
  return null;
};

/**
 * `vectors` is the parsed tests/vectors/frames.json or invalid.json.
 * @returns {{ passed: number, failed: { name: string, why: string }[] }}
 */
export const run = (vectors) => {
  const failed = [];
  for (const vector of vectors) {
    let why;
    try {
      why = vector.kind ? invalid(vector) : valid(vector);
    } catch (error) {
      why = String(error);
    }
    if (why) failed.push({ name: vector.name, why });
  }
  return { passed: vectors.length - failed.length, failed };
};
