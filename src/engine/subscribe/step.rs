//! One step of a replay: what one topic hands out from a cursor.

use super::read_budget::{BudgetedSink, ChunkProgress};
use super::replay::{LargePayloads, ReadOptions};
use super::start::After;
use super::table::{Arrives, Cursor, Open, Why};
use crate::engine::topic::Topic;
use crate::engine::topic::body::Body;
use crate::engine::topic::log::Entry;
use crate::engine::{Item, MessageRef};
use crate::wire::{Code, GapCause, Lag};

/// Messages that one read passes over, because they are late or aborted: 10 ns each.
const PASSED: usize = 4096;

/// What stands next for a cursor.
pub(crate) enum Next {
    // A message at this position, to be read after others, or in another read.
    More(u64),
    // Nothing.
    Head,
    // A message that has given up what it had, and who reads is to be ended.
    Lost,
    // More of a message that has not come yet.
    Stalled,
    // A large message, while another is open.
    Waits,
    // A large message that is complete, while one is open of which nothing more has come.
    Overtakes,
}

impl Next {
    /// For what a cursor waits that is not handed out now.
    pub(crate) fn why(&self) -> Why {
        if matches!(self, Self::Waits) { Why::Blocked } else { Why::Stalled }
    }
}

/// A cursor's turn.
pub(crate) struct Step<'a> {
    pub(crate) slot: u32,
    pub(crate) open: &'a mut Option<Open>,
    // Whether others wait for what is open.
    pub(crate) others: bool,
    // Nothing more has come of that.
    pub(crate) stalled: bool,
    pub(crate) lag: Lag,
    pub(crate) wanted: &'a ReadOptions,
    pub(crate) until: u64,
    pub(crate) upto: u64,
}

impl Step<'_> {
    /// Hands out a topic's items from the cursor up to a position, and moves the cursor. Gives what
    /// stands next, what is left of the budget, and whether there was anything.
    pub(crate) fn run(
        &mut self,
        topic: &Topic,
        cursor: &mut Cursor,
        sink: &mut impl FnMut(Item<'_>),
    ) -> (Next, usize, bool) {
        let mut out = BudgetedSink {
            topic,
            begin: cursor.begin,
            announced: cursor.announced,
            left: self.wanted.budget,
            given: false,
            sink,
        };
        let next = self.topic(topic, cursor, &mut out);
        cursor.announced = out.announced;
        (next, out.left, out.given)
    }

    fn topic<S: FnMut(Item<'_>)>(
        &mut self,
        topic: &Topic,
        cursor: &mut Cursor,
        out: &mut BudgetedSink<'_, S>,
    ) -> Next {
        let first = topic.log.first();
        if cursor.next < first {
            // No further than the window goes: what lies beyond is told with the next.
            let edge = match topic.after(self.upto) {
                After::Exactly(edge, _) => edge,
                After::AtLeast(_) => {
                    cursor.lasts = true;
                    first
                }
            };
            let (to, cause) = match self.lag {
                Lag::Newest => (topic.begin_latest_before(edge).max(first), GapCause::Skipped),
                _ => (first, GapCause::Evicted),
            };
            let to = to.min(edge);
            if cursor.next >= to {
                return Next::Head;
            }
            self.abort(Code::EVICTED, out);
            out.skip(cursor.next, to - 1, cause);
            cursor.go_to(to);
            if to < first {
                return Next::Head;
            }
        }
        while let Some(entry) = topic.log.get(cursor.next) {
            if entry.position > self.until || out.is_full() {
                return Next::More(entry.position);
            }
            let message = MessageRef::new(topic, cursor.next, entry).since(cursor.begin);
            if self.is_passed(entry) && !self.is_open() {
                self.pass(cursor, |entry| self.is_passed(entry), GapCause::Late, out);
                continue;
            }
            match &entry.body {
                Body::Small(encoded) => out.give(Item::Message(message), encoded.wire_len()),
                Body::Aborted { .. } => {
                    self.abort(Code::PUBLISHER_GONE, out);
                    let is_aborted = |entry: &Entry| matches!(entry.body, Body::Aborted { .. });
                    self.pass(cursor, is_aborted, GapCause::Aborted, out);
                    continue;
                }
                Body::Evicted { .. } if self.lag == Lag::Disconnect => return Next::Lost,
                Body::Evicted { .. } if self.lag == Lag::Newest => {
                    // As with what has left the log. It was not the newest, when it made room.
                    let (After::Exactly(edge, _) | After::AtLeast(edge)) = topic.after(self.upto);
                    let to = topic.begin_latest_before(edge).min(edge).max(cursor.next + 1);
                    self.abort(Code::EVICTED, out);
                    out.skip(cursor.next, to - 1, GapCause::Skipped);
                    cursor.go_to(to);
                    continue;
                }
                Body::Evicted { .. } => {
                    self.abort(Code::EVICTED, out);
                    let is_evicted = |entry: &Entry| matches!(entry.body, Body::Evicted { .. });
                    self.pass(cursor, is_evicted, GapCause::Evicted, out);
                    continue;
                }
                Body::Arriving(_) if cursor.arrives == Arrives::Passed => {
                    self.abort(Code::OVERTAKEN, out);
                    out.skip(cursor.next, cursor.next, GapCause::Skipped);
                    cursor.go_to(cursor.next + 1);
                    continue;
                }
                Body::Large { .. } | Body::Arriving(_) => {
                    if let Err(next) = self.large(message, cursor.arrives, out) {
                        return next;
                    }
                }
            }
            cursor.go_to(cursor.next + 1);
            if self.others && self.open.is_none() {
                break;
            }
        }
        topic.log.get(cursor.next).map_or(Next::Head, |entry| Next::More(entry.position))
    }

    // Hands out a large message; what stands next, if it was not handed out to its end.
    fn large<S: FnMut(Item<'_>)>(
        &mut self,
        message: MessageRef<'_>,
        arrives: Arrives,
        out: &mut BudgetedSink<'_, S>,
    ) -> Result<(), Next> {
        let complete = message.is_complete();
        match self.wanted.large {
            LargePayloads::AnnounceOnly => out.notice(Item::Large(message)),
            LargePayloads::WhenComplete if complete => {
                out.give(Item::Message(message), message.wire_len())
            }
            LargePayloads::WhenComplete => return Err(Next::Stalled),
            LargePayloads::InChunks => {
                if self.open.is_none() {
                    if arrives == Arrives::Patient && !complete {
                        return Err(Next::Stalled);
                    }
                    *self.open = Some(Open { slot: self.slot, offset: 0 });
                    out.notice(Item::Begin(message));
                }
                let slot = self.slot;
                let Some(open) = self.open.as_mut().filter(|open| open.slot == slot) else {
                    let overtakes = complete && self.stalled;
                    return Err(if overtakes { Next::Overtakes } else { Next::Waits });
                };
                match out.chunks(message, &mut open.offset) {
                    ChunkProgress::Complete => *self.open = None,
                    ChunkProgress::CaughtUp => return Err(Next::Stalled),
                    ChunkProgress::BudgetSpent => return Err(Next::More(message.position())),
                }
            }
        }
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.open.is_some_and(|open| open.slot == self.slot)
    }

    // What was begun will not be completed.
    fn abort<S: FnMut(Item<'_>)>(&mut self, code: Code, out: &mut BudgetedSink<'_, S>) {
        if self.is_open() {
            *self.open = None;
            out.notice(Item::Abort { code });
        }
    }

    fn is_passed(&self, entry: &Entry) -> bool {
        entry.accepted < self.wanted.accepted_since && !matches!(entry.body, Body::Aborted { .. })
    }

    // Passes over messages of a kind, and tells the gap.
    fn pass<S: FnMut(Item<'_>)>(
        &self,
        cursor: &mut Cursor,
        kind: impl Fn(&Entry) -> bool,
        cause: GapCause,
        out: &mut BudgetedSink<'_, S>,
    ) {
        let log = &out.topic.log;
        let passed = (cursor.next..log.next())
            .map_while(|sequence| log.get(sequence))
            .take_while(|entry| entry.position <= self.until && kind(entry))
            .take(PASSED)
            .count();
        out.skip(cursor.next, cursor.next + passed as u64 - 1, cause);
        cursor.go_to(cursor.next + passed as u64);
        if passed == PASSED {
            // That was enough for one read.
            out.left = 0;
        }
    }
}
