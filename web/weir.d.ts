/** How a session is carried. */
export type Transport = "webtransport" | "websocket";

/**
 * `open`: a session stands. `reconnecting`: it broke, and the client tries again by itself; nothing
 * is lost. `closed`: over, by `close()` or for a reason that trying again cannot help.
 */
export type State = "open" | "reconnecting" | "closed";

/** Why the daemon, or this client, ended or refused something. */
export class WeirError extends Error {
  /** Number of the code: see docs/protocol.md; null if there is none, as when the network broke. */
  readonly code: number | null;
  /** Its name, such as `payload_too_large`; or `unreachable`, `timed_out`, `broken`, `closed`. */
  readonly name: string;
  /** Whether trying again, without changing anything, can help. */
  readonly retry: boolean;
}

export interface ConnectOptions {
  /** What to show a daemon that asks who is there. */
  token?: string;
  /** Default `auto`: WebTransport, and WebSocket where that does not work. */
  transport?: "auto" | Transport;
  /**
   * SHA-256 of the daemon's certificate, hex, for WebTransport. Default: the daemon is asked
   * (`/certificate.sha256`), and says whether pinning is needed at all.
   */
  certificateHashes?: string[];
  /** Port of WebTransport. Default: what the daemon says, else the port of the URL. */
  webTransportPort?: number;
  /** Milliseconds after which WebSocket is tried too. Default 1500. */
  fallbackAfter?: number;
  /** Milliseconds after which connecting is given up. Default 10,000. */
  timeout?: number;
  /** Whether to connect again when the session breaks. Default true. */
  reconnect?: boolean;
  /** Gives up connecting, with the signal's reason. It does not concern a client that stands. */
  signal?: AbortSignal;
}

export interface SubscribeOptions {
  /** Where to begin: `new` (default), `latest`, `all`, `last:N`, or a sequence. */
  from?: "new" | "latest" | "all" | `last:${number}` | number;
  /** What to do when this subscriber falls out of the cache. Default `oldest`. */
  lag?: "oldest" | "newest" | "disconnect";
  /**
   * `ordered` (default): on one stream, in order. `unordered`: each by itself, as they arrive; a
   * large payload delays no small one. `realtime`: in datagrams, sent twice and repaired, as they
   * arrive; for small payloads whose delay matters. Each message comes once in all of them. Over
   * WebSocket they are one.
   */
  delivery?: "ordered" | "unordered" | "realtime";
  /**
   * For `realtime`: milliseconds after which a message is given up, and told as a gap of cause
   * `late`. Default 0: never.
   */
  deadline?: number;
  /** Ends the subscription. */
  signal?: AbortSignal;
}

/** One publication, as a subscriber gets it. */
export interface Message {
  readonly kind: "message";
  readonly topic: string;
  readonly epoch: bigint;
  readonly sequence: number;
  /** Times this payload was published to this topic, this time included. */
  readonly count: number;
  /** The publisher's clock, milliseconds since 1970 (with fraction); null if it did not say. */
  readonly stamp: number | null;
  readonly payload: Uint8Array;
  /** The payload as UTF-8. */
  text(): string;
  /** The payload as JSON; throws if it is none. */
  json(): any;
}

/** Sequences that this subscription will never get. */
export interface Gap {
  readonly kind: "gap";
  readonly topic: string;
  readonly epoch: bigint;
  readonly first: number;
  readonly last: number;
  readonly cause: "evicted" | "skipped" | "aborted" | "late";
}

export interface PublishOptions {
  /**
   * In a datagram, where that is possible; sent twice, and once more on a stream when it is not
   * acknowledged. It is published once all the same, but may be overtaken, and may have no receipt.
   */
  realtime?: boolean;
}

export interface Receipt {
  readonly sequence: number;
  readonly count: number;
  /** Since when the payload is counted, milliseconds since 1970; null: since the topic began. */
  readonly since: number | null;
  /** BLAKE3 of the payload, hex. */
  readonly digest: string;
  /** Whether it had been accepted before, and was not counted again. */
  readonly duplicate: boolean;
}

export interface Ranking {
  readonly digest: string;
  readonly count: number;
  readonly since: number | null;
  readonly sequence: number;
  readonly size: number;
  /** Null if it has left the cache, or is above 1 KiB. */
  readonly payload: Uint8Array | null;
  /** The payload as UTF-8; null as above. */
  text(): string | null;
}

/**
 * What a subscription has counted so far. Of `ordered` delivery all are 0, but for `repeated` after a
 * filter that matches tens of thousands of topics was resumed.
 */
export interface Stats {
  /** Messages that came in datagrams, copies included. */
  readonly datagrams: number;
  /** Messages that had come before, by whatever way, and were dropped. */
  readonly repeated: number;
  /** Times that the daemon was asked for what is missing. */
  readonly asked: number;
  /** Messages that came after they had been asked for. */
  readonly repaired: number;
  /** Messages given up, here or by the daemon, because they passed the deadline. */
  readonly late: number;
}

/**
 * Messages and gaps, each once, also across reconnects; in order, if `delivery` is `ordered`.
 * Whoever reads slowly holds the daemon up, and no more than about 1 MiB here, beside a message that
 * is arriving. Leaving the loop ends the subscription. An error ends it, and is thrown.
 */
export interface Subscription extends AsyncIterable<Message | Gap> {
  /** Counts on. */
  readonly stats: Stats;
  /** Resolves when the daemon has confirmed it, whether it is read or not; rejects if it refuses. */
  readonly ready: Promise<void>;
  next(): Promise<IteratorResult<Message | Gap, undefined>>;
  /** Ends it. */
  close(): void;
  [Symbol.asyncIterator](): AsyncIterator<Message | Gap, undefined>;
}

export interface StateDetail {
  readonly state: State;
  /** Of the session that stands, or stood last. */
  readonly transport: Transport;
  /** In words: why this transport, or why the session broke. */
  readonly reason: string;
  /** Code of the goodbye, if there was one. */
  readonly code: number | null;
}

/**
 * A daemon's client. Dispatches `state` events (`CustomEvent<StateDetail>`). Arguments are checked
 * when they are given, whatever the state: a TypeError or a RangeError, also for an option that does
 * not exist, refuses that one call.
 */
export class Client extends EventTarget {
  /** By `connect()`. */
  private constructor();
  readonly state: State;
  /** What carries the session. */
  readonly transport: Transport;
  /** Why it is that, in words. */
  readonly reason: string;
  /** The daemon's name for the session that stands, or stood last, as its logs have it. */
  readonly session: bigint;
  /** Largest payload that the daemon takes, bytes. */
  readonly maxPayload: number;

  /**
   * Publishes, once, also across reconnects; resolves when the daemon has accepted it. Text is sent
   * as UTF-8. Publications to a topic keep their order, except that small ones may overtake those
   * above 64 KiB. Beyond 1,024 without a receipt the rest wait here: await some of them. At most
   * 4,096 topics for one client.
   */
  publish(
    topic: string,
    payload: string | ArrayBuffer | ArrayBufferView,
    options?: { realtime?: false },
  ): Promise<Receipt>;
  /** With `realtime` the daemon may say no more than that it has it: null. */
  publish(
    topic: string,
    payload: string | ArrayBuffer | ArrayBufferView,
    options?: PublishOptions,
  ): Promise<Receipt | null>;
  /** Throws a `closed` WeirError on a client that is closing or closed. */
  subscribe(filter: string, options?: SubscribeOptions): Subscription;
  /** One message from the cache: the newest, or by sequence or digest (hex). */
  get(topic: string, which?: { sequence?: number; digest?: string }): Promise<Message>;
  /** The payloads published most. Default 10, at most 100. */
  top(topic: string, k?: number): Promise<Ranking[]>;
  /** Round-trip time to the daemon, milliseconds. */
  ping(): Promise<number>;
  /**
   * Ends the subscriptions, waits for the receipts of everything published, though no longer than
   * `timeout`, then leaves. What has no receipt by then is rejected.
   */
  close(): Promise<void>;
}

/**
 * Connects to a daemon: `https://host:4433`, or `http://localhost:8080` on the same machine.
 * Default: where this module came from. Rejects with a WeirError that says what to do: `unreachable`
 * with `retry` false where the page's Content-Security-Policy blocks it or `certificateHashes` are not
 * the daemon's, with `retry` true where nothing answers; `forbidden` where the daemon does not serve
 * this page's origin.
 */
export function connect(url?: string | URL, options?: ConnectOptions): Promise<Client>;

/** What a subscription has had of one topic, for tests. */
export class Receiver {
  constructor(next: number, now: number);
  /** One above the highest sequence known of. */
  top: number;
  /** What is missing below that, in order. */
  holes: { first: number; last: number; seen: number; due: number; tries: number }[];
  /** The lowest sequence that it needs. */
  readonly next: number;
  /** All below `end` exists; the message before the hole came at `at`. */
  told(end: number, now: number, rtt: number, at?: number): void;
  /** These are here, or never will be. Gives the parts that are new. */
  take(
    first: number,
    last: number,
    now: number,
    rtt: number,
  ): { first: number; last: number; tries: number }[];
  /** What to ask for, in a datagram and on the control stream; what to give up; when to call again. */
  due(
    now: number,
    rtt: number,
    deadline: number,
  ): {
    quick: [number, number][];
    sure: [number, number][];
    late: { first: number; last: number }[];
    wake: number;
  };
}

/** Frames as in tests/vectors/frames.json, for tests. A u64 is a bigint only above 2^53 - 1. */
export const codec: {
  /** A whole frame, with its length; `to` is who receives it. */
  encode(frame: { frame: string }, to?: "daemon" | "client"): Uint8Array;
  /** A frame without its length. What is bytes in it are views. */
  decode(body: Uint8Array, to?: "daemon" | "client"): { frame: string } & Record<string, any>;
  FrameReader: new (limit?: number) => {
    limit: number;
    /** Whether a frame has begun and is not complete. */
    readonly partial: boolean;
    /** Only once `next()` has given null. */
    push(chunk: Uint8Array): void;
    next(): Uint8Array | null;
  };
};
