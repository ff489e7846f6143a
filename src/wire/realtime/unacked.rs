//! The publishing end: publications that were sent in datagrams and are not acknowledged.

use super::{acknowledged_within, grace, repeat_after};
use crate::wire::Encoded;
use std::collections::{BTreeMap, BTreeSet};

/// A publication to send again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resend {
    /// For the second time in a datagram: alias and frame.
    Datagram(u32, Encoded),
    /// On the publishing stream, which loses nothing: alias, number and frame.
    Stream(u32, u64, Encoded),
}

#[derive(Debug)]
struct Publication {
    frame: Encoded,
    sent: u64,
    repeated: bool,
    // The publication is lost if another one arrives that was sent at this time or later. One that
    // was sent earlier may merely have overtaken it.
    lost_if: u64,
    lost: bool,
    // Time of its entry in the schedule; none once it is on the stream.
    due: Option<u64>,
}

/// Publications without an answer. The caller limits their number.
#[derive(Debug, Default)]
pub struct Unacked {
    all: BTreeMap<(u32, u64), Publication>,
    schedule: BTreeSet<(u64, u32, u64)>,
}

impl Unacked {
    /// Creates an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a publication that was sent in a datagram.
    pub fn push(&mut self, now: u64, rtt: u64, alias: u32, number: u64, frame: Encoded) {
        self.settled(alias, number);
        let repeat = repeat_after(rtt);
        let due = now.saturating_add(repeat.unwrap_or_else(|| acknowledged_within(rtt)));
        self.schedule.insert((due, alias, number));
        let repeated = repeat.is_none();
        let lost_if = now.saturating_add(grace(rtt));
        let publication =
            Publication { frame, sent: now, repeated, lost_if, lost: false, due: Some(due) };
        self.all.insert((alias, number), publication);
    }

    /// Applies an [`Acknowledge`](crate::wire::DaemonFrame::Acknowledge). Calls `settled` for each
    /// publication that it acknowledges. A missing publication before one that was sent a little
    /// later is lost, and is due at once.
    pub fn acknowledged(
        &mut self,
        alias: u32,
        floor: u64,
        seen: u64,
        settled: &mut impl FnMut(u32, u64),
    ) {
        let upto = self.all.range((alias, 0)..=(alias, floor));
        let mut numbers: Vec<u64> = upto.map(|((_, number), _)| *number).collect();
        let bits = (0..64).filter(|bit| seen >> bit & 1 == 1);
        numbers.extend(bits.filter_map(|bit| floor.checked_add(bit)?.checked_add(1)));
        let highest = numbers.last().and_then(|number| self.all.get_key_value(&(alias, *number)));
        let highest = highest.map(|((_, number), publication)| (*number, publication.sent));
        for number in numbers {
            if self.settled(alias, number) {
                settled(alias, number);
            }
        }
        let Some((highest, sent)) = highest else {
            return;
        };
        for ((_, number), publication) in self.all.range_mut((alias, 0)..(alias, highest)) {
            let waits = publication.repeated && publication.lost_if <= sent;
            if let Some(due) = publication.due.filter(|_| waits && !publication.lost) {
                self.schedule.remove(&(due, alias, *number));
                self.schedule.insert((0, alias, *number));
                (publication.due, publication.lost) = (Some(0), true);
            }
        }
    }

    /// Removes a publication that has its receipt or rejection. Returns whether it was in the table.
    pub fn settled(&mut self, alias: u32, number: u64) -> bool {
        let Some(publication) = self.all.remove(&(alias, number)) else {
            return false;
        };
        if let Some(due) = publication.due {
            self.schedule.remove(&(due, alias, number));
        }
        true
    }

    /// Returns when to call [`poll`](Self::poll).
    pub fn due(&self) -> Option<u64> {
        self.schedule.first().map(|(due, ..)| *due)
    }

    /// Appends the publications that are due, in the order in which they became due. Those for the
    /// stream then wait for [`settled`](Self::settled).
    pub fn poll(&mut self, now: u64, rtt: u64, out: &mut Vec<Resend>) {
        while let Some((due, alias, number)) = self.schedule.first().copied()
            && due <= now
        {
            self.schedule.pop_first();
            let Some(publication) = self.all.get_mut(&(alias, number)) else {
                continue;
            };
            // The round-trip time may have changed since the publication was sent.
            let stream = publication.sent.saturating_add(acknowledged_within(rtt));
            publication.due = Some(stream).filter(|stream| *stream > now && !publication.lost);
            let frame = || publication.frame.clone();
            if let Some(due) = publication.due {
                self.schedule.insert((due, alias, number));
                if !publication.repeated {
                    out.push(Resend::Datagram(alias, frame()));
                    publication.repeated = true;
                    publication.lost_if = now.saturating_add(grace(rtt));
                }
            } else {
                out.push(Resend::Stream(alias, number, frame()));
            }
        }
    }

    /// Returns the number of publications without an answer.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns whether all publications have their answer.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
