//! The datagrams of a realtime delivery: messages, their repeats, and heads that are due.

use super::{Delivery, DeliveryEnd};
use crate::broker::owned_item::OwnedMessage;
use crate::net::error::ConnectionLost;
use crate::wire::DaemonFrame;
use bytes::Bytes;

/// Repeats that are late by more than this are skipped, 5 ms in µs. The daemon is overloaded then,
/// and a receiver that misses a message requests it.
const LATE: u64 = 5_000;

impl Delivery {
    // Sends a small message in a datagram of at most `size` bytes, or gathers it for the stream if
    // it does not fit.
    pub(super) async fn send_message(
        &mut self,
        now: u64,
        size: usize,
        message: OwnedMessage,
    ) -> Result<(), ConnectionLost> {
        let OwnedMessage { topic, sequence, ref encoded } = message;
        let recent = self.recent_topics.iter().find(|recent| recent.id == topic);
        let announcement = recent.map(|recent| &recent.announcement);
        let for_request = (!self.implicit_subscription).then_some(&self.for_request);
        let head = for_request.map_or(0, Bytes::len) + announcement.map_or(0, Bytes::len);
        if head + encoded.wire_len() > size {
            self.stream_message(now, &message);
            return Ok(());
        }
        let announced = announcement.is_none();
        let (frame, _) = encoded.pieces();
        let mut pieces = [Bytes::new(), Bytes::new(), Bytes::new()];
        let mut count = 0;
        for piece in for_request.into_iter().chain(announcement).chain([frame]) {
            pieces[count] = piece.clone();
            count += 1;
        }
        self.context.connection.send_datagram(&pieces[..count]).await?;
        if self.monitor.path.is_long() {
            self.repeats.push(now, self.monitor.path.rtt, topic, frame.clone());
        }
        self.head_notices.sent(now, topic, sequence, announced, &self.monitor.path);
        Ok(())
    }

    // Sends the repeats and heads that are due.
    pub(super) async fn send_due(&mut self) -> Result<(), DeliveryEnd> {
        let now = self.monitor.now();
        if let Some(due) = self.repeats.due().filter(|due| *due <= now) {
            self.monitor.sample(&self.context.connection, now);
            if self.monitor.congested
                || now - due > LATE
                || self.context.connection.datagrams_blocked()
            {
                self.repeats.skip_due(now);
            } else {
                self.repeat(now).await?;
            }
        }
        let Self { context, monitor, pieces, .. } = self;
        self.head_notices.take_due(
            now,
            || monitor.read_acks(&context.connection, now),
            |topic, sequence| {
                pieces.push(DaemonFrame::Head { topic, sequence }.to_bytes());
            },
        );
        self.flush().await?;
        Ok(())
    }

    async fn repeat(&mut self, now: u64) -> Result<(), ConnectionLost> {
        let size = self.monitor.datagram_size;
        let head = if self.implicit_subscription { 0 } else { self.for_request.len() };
        let announcements = self.recent_topics.iter().map(|recent| &recent.announcement);
        let announced: usize = announcements.clone().map(Bytes::len).sum();
        let mut pieces = Vec::new();
        if !self.implicit_subscription {
            pieces.push(self.for_request.clone());
        }
        // Recent topics are announced again if that leaves room.
        let head = if head + announced < size / 2 {
            pieces.extend(announcements.cloned());
            head + announced
        } else {
            head
        };
        let room = size.saturating_sub(head);
        if self.repeats.pop(now, room, &mut pieces) {
            self.context.connection.send_datagram(&pieces).await?;
            self.context.broker.counters().repeats.add(1);
        }
        Ok(())
    }
}
