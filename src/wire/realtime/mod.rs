//! Reliable datagrams, for both ends: finding holes, repeating early, publishing again.
//!
//! The contract is "Datagrams" in `docs/protocol.md`. Times are µs of any monotonic clock; `rtt` is
//! the path's current round-trip time, µs. This code neither waits nor sends: `due` returns when to
//! call `poll` or `pop`, and these return what to send.

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

/// Delay between a topic's last datagram and the `Head` with its newest sequence, 25 ms.
pub const HEAD_AFTER: u64 = 25 * MILLISECOND;

/// The same delay if QUIC has acknowledged the datagram, 2 s. The `Head` is still necessary, because
/// the receiver may have dropped the datagram for lack of room, or of its topic's announcement.
pub const HEAD_AFTER_ACKNOWLEDGED: u64 = 2000 * MILLISECOND;

/// Maximum number of holes in one [`Repair`](super::ClientFrame::Repair).
pub const HOLES: usize = 64;

/// Maximum number of sequences that the repairs of one datagram may request.
pub const ASKED_BY_DATAGRAM: u64 = 64;

/// Returns the delay before a datagram is repeated, µs. Returns `None` if a repair is as fast.
pub fn repeat_after(rtt: u64) -> Option<u64> {
    (rtt > 5 * MILLISECOND).then(|| (rtt / 10).clamp(2 * MILLISECOND, 5 * MILLISECOND))
}

/// Returns how long a receiver waits for repeated or reordered datagrams before it requests a
/// repair, µs. The time counts from the last message before the hole.
pub fn grace(rtt: u64) -> u64 {
    (rtt / 8).clamp(MILLISECOND, 6 * MILLISECOND) + 2 * MILLISECOND
}

/// Returns how long to wait for the answer to a repair in a datagram, µs.
pub fn ask_again(rtt: u64) -> u64 {
    rtt.saturating_add(rtt / 4).saturating_add(10 * MILLISECOND)
}

/// Returns how long to wait for the answer to a repair on the control stream, µs. The stream loses
/// nothing.
pub fn ask_again_reliably(rtt: u64) -> u64 {
    rtt.saturating_mul(4).saturating_add(1000 * MILLISECOND)
}

/// Returns how long to wait for the acknowledgement of a publication in a datagram, µs.
pub fn acknowledged_within(rtt: u64) -> u64 {
    rtt.saturating_add(rtt / 2).saturating_add(10 * MILLISECOND)
}
