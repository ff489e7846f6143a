// Every function, option, event and error of web/weir.d.ts, used as the documents say; and wrong
// uses, which tsc refuses. tsc reads this file; nothing runs it.

import { Client, Receiver, WeirError, codec, connect } from "../../../web/weir.js";
import type {
  ConnectOptions, Gap, Message, NoticeDetail, PublishOptions, Ranking, Receipt, State, StateDetail, Stats,
  SubscribeOptions, Subscription, TokenFunction, Transport,
} from "../../../web/weir.js";

// ---- connect ----

const all: Required<ConnectOptions> = {
  token: "secret", transport: "auto", certificateHashes: ["ab".repeat(32)], webTransportPort: 4433,
  fallbackAfter: 1500, timeout: 10_000, reconnect: true, wait: true,
  signal: AbortSignal.timeout(1000),
};
export const client: Client = await connect("https://host:4433", all);
await connect();
await connect(new URL("http://localhost:8080"));
for (const transport of ["auto", "webtransport", "websocket"] as const) await connect("", { transport });

const fetchToken: TokenFunction = async (signal) => (await fetch("/token", { signal })).text();
for (const token of ["secret", () => "secret", fetchToken]) await connect("", { token });

// @ts-expect-error: a token is text
await connect("", { token: 5 });
// @ts-expect-error: a function too gives text
await connect("", { token: async () => null });
// @ts-expect-error: not a transport
await connect("", { transport: "udp" });
// @ts-expect-error: not an option
await connect("", { fallback: 5 });
// @ts-expect-error: one hash is a list too
await connect("", { certificateHashes: "ab" });
// @ts-expect-error: milliseconds are numbers
await connect("", { timeout: "10s" });
// @ts-expect-error: an address is a text or a URL
await connect(8080);
// @ts-expect-error: connect() makes clients
new Client();

// ---- publish ----

const receipt: Receipt = await client.publish("demo/chat", "hello");
await client.publish("demo/chat", new ArrayBuffer(3), {});
await client.publish("demo/chat", new DataView(new ArrayBuffer(3)), { realtime: false });
const acknowledged: Receipt | null = await client.publish("demo/chat", new Uint8Array(3), { realtime: true });
const options: PublishOptions = { realtime: true };
await client.publish("demo/chat", "", options);
const digest: string = receipt.digest, since: number | null = receipt.since;
const numbers: number = receipt.sequence + receipt.count, duplicate: boolean = receipt.duplicate;

// @ts-expect-error: with realtime there may be no receipt
acknowledged.sequence;
// @ts-expect-error: a payload is bytes or text
await client.publish("demo/chat", { x: 1 });
// @ts-expect-error: nor a number
await client.publish("demo/chat", 5);
// @ts-expect-error: a payload is needed
await client.publish("demo/chat");
// @ts-expect-error: not an option
await client.publish("demo/chat", "", { realTime: true });
// @ts-expect-error: a receipt does not change
receipt.count = 1;

// ---- subscribe ----

const every: Required<SubscribeOptions> = {
  from: "last:10", lag: "oldest", delivery: "realtime", deadline: 500, signal: new AbortController().signal,
};
const subscription: Subscription = client.subscribe("demo/**", every);
client.subscribe("demo/*");
for (const from of ["new", "latest", "all", "last:5", 7] as const) client.subscribe("a", { from });
for (const lag of ["oldest", "newest", "disconnect"] as const) client.subscribe("a", { lag });
for (const delivery of ["ordered", "unordered", "realtime"] as const) client.subscribe("a", { delivery });

// @ts-expect-error: not a start
client.subscribe("a", { from: "noon" });
// @ts-expect-error: not a number of messages
client.subscribe("a", { from: "last:x" });
// @ts-expect-error: not a delivery mode
client.subscribe("a", { delivery: "fast" });
// @ts-expect-error: not an option
client.subscribe("a", { dedline: 1 });
// @ts-expect-error: a filter is a text
client.subscribe(5);

await subscription.ready;
const counted: Stats = subscription.stats;
const sum: number = counted.datagrams + counted.repeated + counted.asked + counted.repaired + counted.late;
// @ts-expect-error: the subscription counts
counted.late = 0;

for await (const event of subscription) {
  const topic: string = event.topic, epoch: bigint = event.epoch;
  if (event.kind === "gap") {
    const gap: Gap = event;
    const cause: "evicted" | "skipped" | "aborted" | "late" | "lost" | "expired" | "unknown" = event.cause;
    const missing: number = gap.last - gap.first + 1;
    // @ts-expect-error: a gap has no payload
    event.payload;
    console.log(topic, epoch, cause, missing);
  } else {
    const message: Message = event, payload: Uint8Array = event.payload, text: string = event.text();
    const stamp: number | null = message.stamp, { x } = message.json();
    console.log(message.sequence + message.count, payload.length, text, stamp, x);
    // @ts-expect-error: a message has one sequence
    event.first;
  }
}
const { value, done } = await subscription.next();
if (!done) console.log(value.kind);
// @ts-expect-error: at the end there is no value
value.kind;
subscription.close();

// ---- get, top, ping ----

const newest: Message = await client.get("demo/chat");
await client.get("demo/chat", { sequence: newest.sequence });
await client.get("demo/chat", { digest: "ab".repeat(32) });
// @ts-expect-error: not an option
await client.get("demo/chat", { seq: 1 });
const ranking: Ranking[] = await client.top("demo/chat");
for (const entry of await client.top("demo/chat", 3)) {
  const { digest, count, since, sequence, size, payload } = entry;
  const bytes: Uint8Array | null = payload, words: string | null = entry.text();
  console.log(digest, count, since, sequence, size, bytes, words);
  // @ts-expect-error: the payload may have been evicted
  payload.length;
}
const milliseconds: number = await client.ping();
// @ts-expect-error: a number
await client.top("demo/chat", "ten");

// ---- the client and its events ----

const state: State = client.state, transport: Transport = client.transport;
const reason: string = client.reason, session: bigint = client.session, most: number = client.maxPayload;
// @ts-expect-error: the client changes its state
client.state = "open";
client.addEventListener("state", ({ detail }) => {
  const now: StateDetail = detail, code: number | null = now.code;
  if (now.state === "reconnecting") console.log(now.transport, now.reason, code);
  // @ts-expect-error: not a state
  if (now.state === "connecting") return;
});
client.addEventListener("notice", ({ detail }) => {
  const notice: NoticeDetail = detail, code: number = notice.code;
  console.log(notice.name, notice.reason, code);
  // @ts-expect-error: a notice changes no state
  notice.state;
});
// @ts-expect-error: not in the detail
client.addEventListener("state", ({ detail }) => detail.name);
const closed: Promise<void> = client.close();

// ---- errors ----

try {
  await closed;
} catch (error) {
  if (error instanceof WeirError) {
    const code: number | null = error.code, again: boolean = error.retry;
    console.log(error.name, error.message, code, again, error.cause);
    // @ts-expect-error: an error does not change
    error.retry = true;
  }
}
new WeirError(0x22, "too large");
new WeirError(null, "no network", "broken", true);
// @ts-expect-error: a code is a number
new WeirError("0x22", "too large");

// ---- for tests ----

const receiver = new Receiver(1, 0);
receiver.head(5, 0, 50);
for (const { first, last } of receiver.receive(1, 3, 0, 50)) console.log(last - first);
const { repairs, late, wake } = receiver.poll(0, 50, 0);
for (const { holes: [[first, last]], reliable } of repairs) console.log(first + last, reliable);
console.log(late.length, wake, receiver.end, receiver.next, receiver.holes.map(({ due }) => due));

const reader = new codec.FrameReader(1 << 20);
reader.push(codec.encode({ frame: "Ping", request: 1 }, "daemon"));
for (let body; (body = reader.next()); ) console.log(codec.decode(body, "daemon").frame);
// @ts-expect-error: a frame has a name
codec.encode({ request: 1 });
// @ts-expect-error: not a receiver
codec.encode({ frame: "Ping" }, "server");

console.log(digest, since, numbers, duplicate, acknowledged, sum, ranking, milliseconds);
console.log(state, transport, reason, session, most, reader.partial, reader.limit);
