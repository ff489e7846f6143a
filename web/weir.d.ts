/** The protocol that carries a session. */
export type Transport = "webtransport" | "websocket";

/**
 * State of a client. `open`: it has a session. `reconnecting`: its session broke, and it connects
 * again by itself; nothing is lost. `closed`: it has ended, by `close()` or by an error that another
 * attempt cannot help.
 */
export type State = "open" | "reconnecting" | "closed";

/** An error of the daemon, or of this client. */
export class WeirError extends Error {
  /** Without a message, the text is the name in words. Default of `name` and `retry`: by the code. */
  constructor(code: number | null, message: string, name?: string, retry?: boolean);
  /** Number of the code, see docs/protocol.md; null for an error without one, such as a broken network. */
  readonly code: number | null;
  /**
   * Name of the code, such as `payload_too_large`. Without a code: `unreachable`, `timed_out`, `broken`,
   * `closed`, or `unauthorized` if the token function failed.
   */
  readonly name: string;
  /** Whether the same call may succeed later, without a change. */
  readonly retry: boolean;
  /** What the token function threw, if that is why. */
  readonly cause?: unknown;
}

/** Fetches a token. `signal` aborts after `timeout` of `ConnectOptions`. */
export type TokenFunction = (signal: AbortSignal) => string | Promise<string>;

export interface ConnectOptions {
  /**
   * Token for a daemon that requires one, or a function that fetches one. The client calls the function
   * before each attempt to connect, and again at about three quarters of the token's lifetime, to show
   * the new one in the open session. It calls it once at a time. If it throws, `connect` rejects with
   * an error whose `cause` that is; a connected client calls it again, with pauses that grow.
   */
  token?: string | TokenFunction;
  /** Default `auto`: WebTransport, and WebSocket if WebTransport does not work. */
  transport?: "auto" | Transport;
  /**
   * SHA-256 of the daemon's certificates, in hexadecimal, for WebTransport. Default: the client asks
   * the daemon (`/certificate.sha256`), which also says whether pinning is needed.
   */
  certificateHashes?: string[];
  /** UDP port of WebTransport. Default: the port that the daemon names, else the port of the URL. */
  webTransportPort?: number;
  /** Time after which WebSocket is tried too, in milliseconds. Default 1500. */
  fallbackAfter?: number;
  /** Time after which `connect` fails, or with `wait` one attempt, in milliseconds. Default 10,000. */
  timeout?: number;
  /**
   * Whether `connect` waits for a daemon that cannot be reached yet. It tries again until it has a
   * session, `signal` aborts, or an error says that trying again does not help. Default false.
   */
  wait?: boolean;
  /** Whether to connect again when the session breaks. Default true. */
  reconnect?: boolean;
  /** Aborts `connect`, which rejects with the signal's reason. A connected client ignores it. */
  signal?: AbortSignal;
}

export interface SubscribeOptions {
  /** Start: `new` (default), `latest`, `all`, `last:N`, or a sequence. */
  from?: "new" | "latest" | "all" | `last:${number}` | number;
  /** Action if messages are evicted before this subscriber reads them. Default `oldest`. */
  lag?: "oldest" | "newest" | "disconnect";
  /**
   * Delivery mode. Each message arrives once in every mode. Over WebSocket all modes are `ordered`.
   * - `ordered` (default): in order, on one stream.
   * - `unordered`: as messages arrive. A large payload does not delay a small one.
   * - `realtime`: in datagrams, repeated and repaired, as they arrive. For small payloads whose delay
   *   matters.
   */
  delivery?: "ordered" | "unordered" | "realtime";
  /**
   * For `realtime`: milliseconds after which a missing message becomes a gap of cause `late`.
   * Default 0: never.
   */
  deadline?: number;
  /** Ends the subscription. */
  signal?: AbortSignal;
}

/** One publication, as a subscriber receives it. */
export interface Message {
  readonly kind: "message";
  readonly topic: string;
  readonly epoch: bigint;
  readonly sequence: number;
  /** Number of times that this payload was published to this topic, with this publication. */
  readonly count: number;
  /** The publisher's clock, in milliseconds since 1970, with fraction; null if it sent none. */
  readonly stamp: number | null;
  readonly payload: Uint8Array;
  /** Returns the payload as UTF-8 text. */
  text(): string;
  /** Returns the payload as JSON; throws if it is not JSON. */
  json(): any;
}

/** Sequences that this subscription will never receive. */
export interface Gap {
  readonly kind: "gap";
  readonly topic: string;
  readonly epoch: bigint;
  readonly first: number;
  readonly last: number;
  /** `unknown`: a cause that only a newer daemon has. */
  readonly cause: "evicted" | "skipped" | "aborted" | "late" | "lost" | "expired" | "unknown";
}

export interface PublishOptions {
  /**
   * Publishes in a datagram if possible. The client repeats it, and sends it on a stream if no
   * acknowledgement arrives. It is published once, but may be overtaken, and may have no receipt.
   */
  realtime?: boolean;
  /**
   * Milliseconds after which the publication is of no use. If the daemon has not acknowledged it by
   * then, it is not sent again, and the promise rejects with `timed_out` (0x03). It may have been
   * published. Default 0: no limit.
   */
  lifetime?: number;
}

export interface Receipt {
  readonly sequence: number;
  readonly count: number;
  /** Start of the count, in milliseconds since 1970; null: the beginning of the topic. */
  readonly since: number | null;
  /** BLAKE3 of the payload, in hexadecimal. */
  readonly digest: string;
  /** Whether the daemon had accepted the publication before, and did not count it again. */
  readonly duplicate: boolean;
}

/** A payload that was published often. */
export interface Ranking {
  readonly digest: string;
  readonly count: number;
  readonly since: number | null;
  /** Sequence of the newest message with the payload. */
  readonly sequence: number;
  /** Bytes of the payload. */
  readonly size: number;
  /** Null if it was evicted, or has more than 1 KiB. */
  readonly payload: Uint8Array | null;
  /** Returns the payload as UTF-8 text; null if `payload` is null. */
  text(): string | null;
}

/**
 * Counters of a subscription. With `ordered` delivery all are 0, except that `repeated` may count
 * after a subscription to tens of thousands of topics resumed.
 */
export interface Stats {
  /** Messages that arrived in datagrams, with copies. */
  readonly datagrams: number;
  /** Messages that had arrived before, and were dropped. */
  readonly repeated: number;
  /** Repair requests for missing messages. */
  readonly asked: number;
  /** Messages that arrived after a repair request. */
  readonly repaired: number;
  /** Messages that passed the deadline, as this client or the daemon found. */
  readonly late: number;
}

/**
 * Messages and gaps, each once, also across reconnects; in order if `delivery` is `ordered`. A slow
 * reader delays the daemon, and holds at most about 1 MiB here, beside a message that is arriving.
 * Leaving the loop ends the subscription. An error ends it, and is thrown.
 */
export interface Subscription extends AsyncIterable<Message | Gap> {
  /** Current counters. */
  readonly stats: Stats;
  /** Resolves when the daemon has confirmed the subscription; rejects if the daemon refuses it. */
  readonly ready: Promise<void>;
  /** Returns the next event. Several calls are answered in their order. */
  next(): Promise<IteratorResult<Message | Gap, undefined>>;
  /** Ends the subscription. */
  close(): void;
  [Symbol.asyncIterator](): AsyncIterator<Message | Gap, undefined>;
}

export interface StateDetail {
  readonly state: State;
  /** Transport of the current session, or of the last one. */
  readonly transport: Transport;
  /** Reason in words: for the choice of the transport, or for the end of the session. */
  readonly reason: string;
  /** Code of the daemon's goodbye, if it sent one. */
  readonly code: number | null;
}

/**
 * The state of the daemon has changed; the session goes on. A new session starts without a notice, and
 * the daemon repeats one that lasts.
 */
export interface NoticeDetail {
  /**
   * Code of docs/protocol.md. 0x05: the daemon accepts publications and does not keep them, because its
   * journal cannot be written. 0x00: it keeps them again. Show others to the user too.
   */
  readonly code: number;
  /** Name of the code: `unkept`, `done`, or `unknown`. */
  readonly name: string;
  /** A line of English; may be empty. */
  readonly reason: string;
}

/**
 * Client of a daemon. Dispatches `state` events (`CustomEvent<StateDetail>`) and `notice` events
 * (`CustomEvent<NoticeDetail>`). Each call checks its arguments at once, in every state. A TypeError or a RangeError, also for an unknown option, refuses
 * that call alone.
 */
export class Client extends EventTarget {
  /** `connect()` creates clients. */
  private constructor();
  readonly state: State;
  /** Transport of the session. */
  readonly transport: Transport;
  /** Reason for this transport, in words. */
  readonly reason: string;
  /** Number of the current session, or of the last one, as in the daemon's logs. */
  readonly session: bigint;
  /** Maximum payload that the daemon accepts, in bytes. */
  readonly maxPayload: number;

  /**
   * Publishes once, also across reconnects; resolves when the daemon has accepted it. Text is sent as
   * UTF-8. Publications to a topic keep their order, except that small ones may overtake those above
   * 64 KiB. At most 1,024 are sent without a receipt; further ones wait here. At most 16,384 wait, and at most
   * 64 MiB unless a single one is larger; beyond that it rejects with `overloaded`. At most 4,096 topics.
   */
  publish(
    topic: string,
    payload: string | ArrayBuffer | ArrayBufferView,
    options?: PublishOptions & { realtime?: false },
  ): Promise<Receipt>;
  /** With `realtime` the daemon may acknowledge without a receipt: null. */
  publish(
    topic: string,
    payload: string | ArrayBuffer | ArrayBufferView,
    options?: PublishOptions,
  ): Promise<Receipt | null>;
  /** Subscribes. Throws a WeirError `closed` if the client is closing or closed. */
  subscribe(filter: string, options?: SubscribeOptions): Subscription;
  /** Returns one message from the cache: the newest, or by sequence, or by digest in hexadecimal. */
  get(topic: string, which?: { sequence?: number; digest?: string }): Promise<Message>;
  /** Returns the payloads that were published most. Default 10, maximum 100. */
  top(topic: string, k?: number): Promise<Ranking[]>;
  /** Returns the round-trip time to the daemon, in milliseconds. */
  ping(): Promise<number>;
  /**
   * Ends all subscriptions, waits for outstanding receipts, at most for `timeout`, and leaves.
   * Publications without a receipt by then are rejected.
   */
  close(): Promise<void>;
  addEventListener(
    type: "state",
    listener: (event: CustomEvent<StateDetail>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: "notice",
    listener: (event: CustomEvent<NoticeDetail>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/**
 * Connects to a daemon: `https://host:4433`, `http://localhost:8080` on the same machine, or with a path
 * behind a proxy, `https://host/relay`. Default: the daemon that serves this module. Rejects with a WeirError that says what to do:
 * - `unreachable`, `retry` false: the page's Content-Security-Policy blocks the daemon, or
 *   `certificateHashes` are not the daemon's.
 * - `unreachable`, `retry` true: nothing answers.
 * - `timed_out`: no answer within `timeout`.
 * - `forbidden`: the daemon does not serve the page's origin.
 * - `unauthorized`: the daemon requires another token; without a code: the token function failed.
 */
export function connect(url?: string | URL, options?: ConnectOptions): Promise<Client>;

/** Sequences of one topic that a subscription has received, for tests. Times are milliseconds. */
export class Receiver {
  constructor(next: number, now: number);
  /** One above the highest sequence that is known to exist. */
  end: number;
  /** Missing sequences below `end`, in order. */
  holes: { first: number; last: number; since: number; due: number; tries: number }[];
  /** The lowest sequence that is missing. */
  readonly next: number;
  /** The topic has all sequences up to this one; the message before the hole arrived at `arrived`. */
  head(sequence: number, now: number, rtt: number, arrived?: number): void;
  /** These sequences arrived, or never will. Returns the parts that are new. */
  receive(
    first: number,
    last: number,
    now: number,
    rtt: number,
  ): { first: number; last: number; tries?: number }[];
  /** Returns the repairs to request now, the ranges past the deadline, and when to call again. */
  poll(
    now: number,
    rtt: number,
    deadline: number,
  ): {
    /** `reliable`: on the control stream; else in a datagram. */
    repairs: { holes: [number, number][]; reliable: boolean }[];
    late: { first: number; last: number }[];
    wake: number;
  };
}

/** Frames as in tests/vectors/frames.json, for tests. A u64 is a bigint only above 2^53 - 1. */
export const codec: {
  /** Returns a whole frame, with its length; `to` is its receiver. */
  encode(frame: { frame: string } & Record<string, any>, to?: "daemon" | "client"): Uint8Array;
  /** Returns the frame of a body without its length. Bytes in it are views. */
  decode(body: Uint8Array, to?: "daemon" | "client"): { frame: string } & Record<string, any>;
  FrameReader: new (limit?: number) => {
    /** Maximum size of a body, in bytes. */
    limit: number;
    /** Whether a frame has begun and is not complete. */
    readonly partial: boolean;
    /** Adds a chunk. `next()` must have returned null before. */
    push(chunk: Uint8Array): void;
    /** Returns the body of the next complete frame, or null. */
    next(): Uint8Array | null;
  };
};
