//! Each attack by itself, beside honest pairs, against one daemon in a process of its own.
//!
//! While an attack runs, the honest pairs lose nothing, and the memory of the daemon stays within its
//! bound. Both are asserted, and so is what becomes of the attack. Latencies are only printed, because
//! they depend on other work of the machine. `docs/limits.md` has the table, and the command.
//!
//! Each attack takes `WEIR_ATTACK_SECONDS`, by default 3. `WEIR_BIN` names the release build.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]
// Megabytes and milliseconds, only for printing.
#![allow(clippy::cast_precision_loss, clippy::cast_sign_loss)]

mod arena;
#[path = "../common/mod.rs"]
mod common;
mod floods;
mod frames;
#[path = "../common/h2.rs"]
mod h2;
mod handshakes;
// The siege uses all of it.
#[path = "../siege/honest.rs"]
#[allow(dead_code)]
mod honest;
mod http2;
mod peers;
mod publications;
#[path = "../common/raw.rs"]
mod raw;
mod slow;

use arena::Arena;

#[test]
fn each_attack_by_itself_beside_honest_pairs() {
    let mut arena = Arena::start();
    arena.attack("10,000 half-done handshakes over UDP, from as many addresses", handshakes::udp);
    arena.attack(
        "10,000 halves of a ClientHello over TCP, from as many addresses",
        handshakes::client_hellos,
    );
    arena.attack("complete handshakes over QUIC of one address", handshakes::complete);
    arena.attack("connections over TLS of one address", handshakes::connections);
    arena.attack("sessions of one address", handshakes::sessions);
    // These wait for the daemon's deadlines while the others run. Floods of half-done handshakes would
    // displace them.
    let patient = slow::begin(&arena);
    arena.attack("damaged, truncated and oversized frames over QUIC", frames::quic);
    arena.attack("the same over WebSocket", frames::websocket);
    arena.attack("huge headers over HTTP/1.1", frames::huge_headers);
    arena.attack("huge headers over HTTP/3", frames::http3);
    arena.attack("rapid reset over HTTP/2 (CVE-2023-44487)", http2::rapid_reset);
    arena.attack("the same with resets that the daemon is made to send", http2::made_resets);
    arena.attack("CONTINUATION frames without end", http2::continuations);
    arena.attack("header lists above 16 KiB over HTTP/2", http2::header_list);
    arena.attack("pings and settings over HTTP/2, unread", http2::pings);
    arena.attack("empty DATA and PRIORITY frames", http2::empty_frames);
    arena.attack("window updates of 0, and beyond the limit", http2::windows);
    arena.attack("10,000 streams over HTTP/2", http2::streams);
    arena.attack("a flood of distinct payloads", floods::payloads);
    arena.attack("a flood of datagrams", floods::datagrams);
    arena.attack("a flood of topics", floods::topics);
    arena.attack("a flood of subscriptions", floods::subscriptions);
    arena.attack("replays of the whole cache, again and again", floods::replays);
    arena.attack("the same as streams of events", floods::events);
    arena.attack("gets of large payloads", floods::gets);
    arena.attack("gets and rankings over HTTP", floods::http_gets);
    arena.attack("rankings", floods::rankings);
    arena.attack("repairs of the same messages", floods::repairs);
    arena.attack("1,000 large payloads that are begun and not ended", publications::unended);
    arena.attack("publications over HTTP", publications::posts);
    slow::end(&mut arena, patient);
    arena.finish();
}
