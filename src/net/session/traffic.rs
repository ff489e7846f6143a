//! Counts of sessions by transport, and of their packets and round trips, for metrics.
//!
//! A scrape must not look at every session. So sessions are counted when they begin and end, and
//! `sampling` looks at the paths of a tenth of them each second.

use crate::histogram::Histogram;
use crate::net::transport::Transport;
use crate::net::transport::connection::Connection;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Transports with their names in metrics.
const TRANSPORTS: [Transport; 3] = [Transport::Quic, Transport::WebTransport, Transport::WebSocket];

/// Counters of sessions.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    begun: [AtomicU64; 3],
    ended: [AtomicU64; 3],
    packets: AtomicU64,
    lost_packets: AtomicU64,
    /// Round-trip times of sessions over QUIC and WebTransport: one of each in ten seconds, and at its end.
    pub(crate) rtt: Histogram,
}

/// The packets of one session that were already counted: those sent, and those lost.
#[derive(Debug, Default)]
pub(super) struct CountedPackets(AtomicU64, AtomicU64);

fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Quic => "quic",
        Transport::WebTransport => "webtransport",
        Transport::WebSocket => "websocket",
    }
}

impl Traffic {
    pub(super) fn begin(&self, transport: Transport) {
        self.begun[transport as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self, transport: Transport) {
        self.ended[transport as usize].fetch_add(1, Relaxed);
    }

    /// Returns for each transport how many sessions there are, and how many have begun.
    pub(crate) fn sessions(&self) -> [(&'static str, u64, u64); 3] {
        TRANSPORTS.map(|transport| {
            // In this order, so that there are never fewer than none.
            let ended = self.ended[transport as usize].load(Relaxed);
            let begun = self.begun[transport as usize].load(Relaxed);
            (name(transport), begun.saturating_sub(ended), begun)
        })
    }

    /// Returns the QUIC packets that were sent, and those of them that were lost.
    pub(crate) fn packets(&self) -> (u64, u64) {
        (self.packets.load(Relaxed), self.lost_packets.load(Relaxed))
    }

    /// Looks at the path of a session: adds its packets since the last call, and its round trip.
    pub(super) fn look_at(&self, connection: &Connection, counted: &CountedPackets) {
        if let Some((sent, lost)) = connection.packets_sent() {
            // Two calls may overlap, at the end of a session. Neither counts a packet twice.
            let new =
                |now: u64, before: &AtomicU64| now.saturating_sub(before.fetch_max(now, Relaxed));
            self.packets.fetch_add(new(sent, &counted.0), Relaxed);
            self.lost_packets.fetch_add(new(lost, &counted.1), Relaxed);
        }
        if let Some(rtt) = connection.rtt() {
            self.rtt.observe(rtt.as_micros() as u64);
        }
    }
}
