// The page: a client of the daemon that served it, and panels that show the messages it relays.

import { Chat } from "./page/chat.js";
import { Latency } from "./page/latency.js";
import { Facts, Top } from "./page/aside.js";
import { fill, wire } from "./page/code.js";
import { duration, explain, noticeText, sentence, several, transportName, whyNoWebTransport } from "./page/words.js";

const asked = new URLSearchParams(location.search);
const topic = `demo/${asked.get("room") || "chat"}`;
const transport = ["webtransport", "websocket"].includes(asked.get("transport")) ? asked.get("transport") : "auto";
const port = Number(asked.get("port")) || undefined;
// Behind the hash, which browsers send to nobody: /#token=… It does not stay in the address.
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? undefined;
if (token) history.replaceState(null, "", location.pathname + location.search);

const state = document.getElementById("state");
const carrier = document.getElementById("transport");
const reason = document.getElementById("reason");
const banner = document.getElementById("banner");
const notice = document.getElementById("notice");

const chat = new Chat(topic);
let latency = null;
const top = new Top(chat);
const facts = new Facts(chat, () => latency?.total ?? 0);
let gone = null; // when the session broke, on performance.now()'s clock
let ticking = 0;

wire();
fill(topic, { native: `${location.hostname}:${port ?? 4433}` });
start();

async function start() {
  let weir;
  try {
    weir = await import("./weir.js");
  } catch {
    showState("closed");
    say("bad", "The client, weir.js, could not be loaded from this daemon.", reload());
    return;
  }
  latency = new Latency(weir, { ...(port && { webTransportPort: port }), ...(token && { token }) });
  addresses();
  await session(weir);
}

/** Runs one session. weir.js reconnects within it; only the reader begins another one. */
async function session(weir) {
  const client = await open(weir);
  if (!client) return;
  globalThis.weirPage = { client, latency };
  client.addEventListener("notice", (event) => noticed(event.detail));
  client.addEventListener("state", (event) => changed(weir, client, event.detail));
  carried(client);
  showState(client.state);
  chat.attach(client);
  top.attach(client);
  facts.attach(client);
}

async function open(weir) {
  const since = performance.now();
  for (let pause = 1000; ; pause = Math.min(pause * 1.6, 10_000)) {
    showState("connecting");
    try {
      const client = await weir.connect(undefined, { transport, webTransportPort: port, token });
      if (gone !== null) {
        say("good", `Connected, after ${duration(performance.now() - since)}.`);
        later();
      }
      gone = null;
      return client;
    } catch (error) {
      showState("closed");
      gone ??= since;
      const words = explain(error);
      reason.textContent = words;
      if (error.retry === false) {
        say("bad", `No session: ${words}`, again(weir));
        return null;
      }
      say("bad", `No session yet; trying again. ${words}`);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

async function changed(weir, client, detail) {
  showState(detail.state);
  carried(client);
  chat.stateChanged();
  // A new session starts without a notice: the daemon repeats one that lasts.
  if (detail.state !== "reconnecting") notice.replaceChildren();
  if (detail.state === "reconnecting") {
    gone ??= performance.now();
    lost(detail);
  } else if (detail.state === "open") {
    if (gone === null) return;
    const away = performance.now() - gone;
    gone = null;
    facts.reconnects += 1;
    top.attach(client);
    facts.show();
    const missedBefore = chat.missed;
    const seen = { epoch: chat.epoch, sequence: chat.sequence };
    say("good", `Back after ${duration(away)}; looking at what was missed.`);
    const words = await verdict(client, seen, missedBefore);
    if (client.state !== "open") return;
    say("good", `Back after ${duration(away)}${words}`);
    later();
  } else {
    chat.detach();
    say("bad", `The session is over. ${sentence(detail.reason)}`, again(weir));
  }
}

/**
 * Says in words how much was missed. The daemon knows: its newest message is compared with the last
 * one that this page has seen.
 */
async function verdict(client, seen, missedBefore) {
  if (seen.sequence === null) return ".";
  let newest;
  try {
    newest = await client.get(topic);
  } catch (error) {
    if (error.name === "not_found") return ". The daemon began anew, with an empty cache; its counts start again.";
    return ".";
  }
  if (newest.epoch !== seen.epoch) return ". The topic began anew; its sequences start again from 1.";
  for (let tries = 0; tries < 30 && chat.sequence < newest.sequence; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const missed = chat.missed - missedBefore;
  if (missed > 0) return `; ${several(missed, "message")} had left the cache by then.`;
  if (chat.sequence < newest.sequence) return "; still catching up.";
  const caught = newest.sequence - seen.sequence;
  return `; nothing was missed${caught > 0 ? `, ${several(caught, "message")} came from the cache` : ""}.`;
}

function lost(detail) {
  const seconds = document.createElement("span");
  seconds.setAttribute("aria-hidden", "true"); // screen readers read the rest once; this changes every second
  const why = detail.code === null || detail.code === undefined ? "" : ` It said: ${sentence(detail.reason)}`;
  say("bad", "The daemon is gone; trying again…", seconds,
    `${why} What you say meanwhile waits here, and is sent once.`);
  const tick = () => (seconds.textContent = ` ${Math.round((performance.now() - gone) / 1000)} s.`);
  tick();
  ticking = setInterval(tick, 1000);
}

/** Shows a notice of the daemon's until the next one. */
function noticed(detail) {
  const line = document.createElement("p");
  line.textContent = noticeText(detail);
  notice.replaceChildren(...(line.textContent ? [line] : []));
}

// Shows text and elements in the banner. Text is never parsed as markup.
function say(tone, ...parts) {
  clearInterval(ticking);
  clearTimeout(later.timer);
  banner.dataset.tone = tone;
  const line = document.createElement("p");
  line.append(...parts.flatMap((part) => [part, " "]));
  banner.replaceChildren(line);
}

function later() {
  later.timer = setTimeout(() => banner.replaceChildren(), 10_000);
}

function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

function again(weir) {
  return button("Connect again", () => {
    banner.replaceChildren();
    session(weir);
  });
}

function reload() {
  return button("Reload", () => location.reload());
}

function showState(now) {
  state.dataset.state = now;
  state.textContent = now;
}

function carried(client) {
  carrier.textContent = client.transport;
  document.body.dataset.transport = client.transport;
  const never = client.transport === "websocket" && transport === "auto" ? whyNoWebTransport() : null;
  const name = transportName(client.transport);
  const words = never ?? client.reason.replace(name, "").replace(/^:\s*/, "");
  reason.textContent = sentence(`You are connected over ${name}${words ? `: ${words}` : ""}`);
  if (client.transport === "websocket" && transport === "auto" && !never) {
    reason.textContent += /no answer over UDP/.test(words)
      ? " A firewall on the way may hold UDP back."
      : " UDP may be held back on the way, or the daemon's certificate has changed: reload to try again.";
  }
}

/** Asks the daemon for its UDP port, and for the hash of a certificate that clients must pin. */
async function addresses() {
  try {
    const answer = await fetch("./certificate.sha256");
    if (!answer.ok) return;
    const said = await answer.json();
    const udp = Number.isInteger(said.port) ? said.port : port ?? 4433;
    const far = !["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
    fill(topic, {
      native: `${location.hostname}:${udp}`,
      pinned: said.pinning && far && /^[0-9a-f]{64}$/i.test(said.current) ? said.current : null,
    });
  } catch {
    // The code keeps the default port.
  }
}
