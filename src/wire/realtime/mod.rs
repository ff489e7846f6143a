//! What makes datagrams reliable, on either end: finding holes, repeating early, publishing again.
//!
//! "Datagrams" in `docs/protocol.md` is the contract. Times are µs of any clock that only goes
//! forward; `rtt` is the path's round-trip time as it is now, µs. Nothing here waits or sends:
//! `due` says when to call `poll` or `pop`, and these say what to send.

mod holes;
mod receiver;
mod repeats;
mod unacked;

#[cfg(test)]
mod tests;

pub use receiver::{Arrival, Due, Receiver, Stats};
pub use repeats::{Congestion, Repeats};
pub use unacked::{Resend, Unacked};

const MILLISECOND: u64 = 1000;

/// How long after a topic's last datagram its newest sequence is told. 25 ms.
pub const HEAD_AFTER: u64 = 25 * MILLISECOND;

/// The same for a datagram that QUIC has acknowledged: what a receiver had no room for, or could
/// make nothing of yet, it has lost all the same. 2 s.
pub const HEAD_AFTER_ACKNOWLEDGED: u64 = 2000 * MILLISECOND;

/// Most holes in one [`Repair`](super::ClientFrame::Repair).
pub const HOLES: usize = 64;

/// Most sequences that one datagram may ask for.
pub const ASKED_BY_DATAGRAM: u64 = 64;

/// How long after a datagram it is sent again; none where asking for it is as fast.
pub fn repeat_after(rtt: u64) -> Option<u64> {
    (rtt > 5 * MILLISECOND).then(|| (rtt / 10).clamp(2 * MILLISECOND, 5 * MILLISECOND))
}

/// How long what is merely repeated or reordered may take, counted from the last message before
/// the hole.
pub fn grace(rtt: u64) -> u64 {
    (rtt / 8).clamp(MILLISECOND, 6 * MILLISECOND) + 2 * MILLISECOND
}

/// How long to wait for the answer to a datagram that asks.
pub fn ask_again(rtt: u64) -> u64 {
    rtt.saturating_add(rtt / 4).saturating_add(10 * MILLISECOND)
}

/// How long to wait after asking on the control stream, where nothing is lost.
pub fn ask_again_reliably(rtt: u64) -> u64 {
    rtt.saturating_mul(4).saturating_add(1000 * MILLISECOND)
}

/// How long a publication in a datagram may go without an acknowledgement.
pub fn acknowledged_within(rtt: u64) -> u64 {
    rtt.saturating_add(rtt / 2).saturating_add(10 * MILLISECOND)
}
