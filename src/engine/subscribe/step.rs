//! One step of a replay: what one topic yields from a cursor.

use super::cursor::{Cursor, IfArriving, OpenMessage};
use super::had::Had;
use super::item::{Item, MessageRef};
use super::read_budget::{BudgetedSink, ChunkProgress};
use super::read_options::{LargePayloads, ReadOptions};
use super::skips::Skips;
use super::start::Lost;
use crate::engine::topic::Topic;
use crate::engine::topic::after::After;
use crate::engine::topic::body::Body;
use crate::engine::topic::log::Entry;
use crate::wire::{Code, GapCause, Lag};

/// Maximum number of messages that one read skips, because they are late, aborted or evicted: 10 ns
/// each.
const SKIPPED: usize = 4096;

/// The outcome of a step: what comes next for its cursor.
pub(super) enum Next {
    /// A message at this position, after messages of other topics or in another read.
    More(u64),
    /// Nothing: the cursor is at the head of its topic.
    Head,
    /// An evicted message, and the subscription is to end instead of having a gap.
    Evicted,
    /// More of a message that has not arrived yet.
    Stalled,
    /// A large message, while another one is open.
    Blocked,
    /// A large message that is complete, while the open one has stalled.
    Overtakes,
}

/// The step of one cursor.
pub(super) struct Step<'a> {
    pub(super) slot: u32,
    pub(super) open: &'a mut Option<OpenMessage>,
    /// Whether cursors are aside, which may wait for the open message.
    pub(super) others_wait: bool,
    /// Whether the open message has stalled.
    pub(super) open_stalled: bool,
    pub(super) lag: Lag,
    pub(super) options: &'a ReadOptions,
    /// Position of the last message that this step may yield.
    pub(super) until: u64,
    pub(super) window_end: u64,
    /// The time, to which messages may have expired.
    pub(super) now: u64,
    /// The engine's position when the subscription began.
    pub(super) began_at: u64,
    /// Messages of an earlier run that were shown and not kept.
    pub(super) lost: Option<Lost>,
    /// The sequences of the topic that the client has received.
    pub(super) had: Had<'a>,
}

impl Step<'_> {
    /// Yields a topic's items from the cursor up to a position, and moves the cursor. Returns what
    /// comes next, what is left of the budget, and whether there was an item.
    pub(super) fn run(
        &mut self,
        topic: &Topic,
        cursor: &mut Cursor,
        skips: &mut Option<Box<Skips>>,
        sink: &mut impl FnMut(Item<'_>),
    ) -> (Next, usize, bool) {
        let mut out = BudgetedSink {
            topic,
            begin: cursor.begin,
            announced: cursor.announced,
            left: self.options.budget,
            given: false,
            skips,
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
        if let Some(lost) = self.lost.take() {
            // These are sequences of an earlier epoch, so that the cursor stays where it is.
            out.gap(lost.first, lost.last, GapCause::Lost);
            cursor.lost = false;
        }
        let first = self.first(topic, cursor);
        if cursor.next < first
            && let Some(next) = self.skip_gone(topic, cursor, first, out)
        {
            return next;
        }
        while let Some(entry) = topic.entry(cursor.next) {
            if entry.position > self.until || out.is_full() {
                return Next::More(entry.position);
            }
            if self.had.next(cursor.next) == cursor.next {
                // The window's end is in the log.
                let (After::Exactly(edge, _) | After::AtLeast(edge)) = topic.after(self.window_end);
                self.skip_had(cursor, edge, out);
                continue;
            }
            let message = MessageRef::new(topic, cursor.next, entry).since(cursor.begin);
            // A message that is being read while its time passes is read to its end.
            if self.has_expired(topic, entry) && !(self.is_open() && entry.body.is_complete()) {
                self.abort(Code::EVICTED, out);
                let has_expired = |entry: &Entry| self.has_expired(topic, entry);
                self.skip(cursor, has_expired, GapCause::Expired, out);
                continue;
            }
            if self.is_late(entry) && !self.is_open() {
                let is_late =
                    |entry: &Entry| self.is_late(entry) && !self.has_expired(topic, entry);
                self.skip(cursor, is_late, GapCause::Late, out);
                continue;
            }
            match &entry.body {
                Body::Small(encoded) => out.give(Item::Message(message), encoded.wire_len()),
                Body::Aborted { .. } => {
                    self.abort(Code::PUBLISHER_GONE, out);
                    let is_aborted = |entry: &Entry| matches!(entry.body, Body::Aborted { .. });
                    self.skip(cursor, is_aborted, GapCause::Aborted, out);
                    continue;
                }
                Body::Evicted { .. } if self.lag == Lag::Disconnect => return Next::Evicted,
                Body::Evicted { .. } if self.lag == Lag::Newest => {
                    // The same as for messages that have left the log. This message was not the
                    // newest when it was evicted.
                    let (After::Exactly(edge, _) | After::AtLeast(edge)) =
                        topic.after(self.window_end);
                    let to = topic.begin_latest_before(edge).min(edge).max(cursor.next + 1);
                    self.abort(Code::EVICTED, out);
                    self.gap(cursor, to, GapCause::Skipped, out);
                    continue;
                }
                Body::Evicted { .. } => {
                    self.abort(Code::EVICTED, out);
                    let is_evicted = |entry: &Entry| matches!(entry.body, Body::Evicted { .. });
                    self.skip(cursor, is_evicted, GapCause::Evicted, out);
                    continue;
                }
                Body::Arriving(_) if cursor.if_arriving == IfArriving::Skip => {
                    self.abort(Code::OVERTAKEN, out);
                    out.gap(cursor.next, cursor.next, GapCause::Skipped);
                    cursor.go_to(cursor.next + 1);
                    continue;
                }
                Body::Large { .. } | Body::Arriving(_) => {
                    if let Err(next) = self.large(message, cursor.if_arriving, out) {
                        return next;
                    }
                }
            }
            cursor.go_to(cursor.next + 1);
            if self.others_wait && self.open.is_none() {
                break;
            }
        }
        topic.entry(cursor.next).map_or(Next::Head, |entry| Next::More(entry.position))
    }

    // Moves the cursor past messages that have left the log, up to the first one that it may read, and
    // yields the gap. Returns what comes next, if that is not this message.
    fn skip_gone<S: FnMut(Item<'_>)>(
        &mut self,
        topic: &Topic,
        cursor: &mut Cursor,
        first: u64,
        out: &mut BudgetedSink<'_, S>,
    ) -> Option<Next> {
        // The gap ends with the window: the rest of it belongs to the next one.
        let edge = match topic.after(self.window_end) {
            After::Exactly(edge, _) => edge,
            After::AtLeast(_) => {
                cursor.carry_over = true;
                first
            }
        };
        let expired = (topic.expired_through() + 1).min(first).min(edge);
        if cursor.next < expired {
            self.abort(Code::EVICTED, out);
            self.gap(cursor, expired, GapCause::Expired, out);
        }
        if cursor.next >= first {
            return None;
        }
        let (to, cause) = match self.lag {
            Lag::Newest => (topic.begin_latest_before(edge).max(first), GapCause::Skipped),
            _ => (first, GapCause::Evicted),
        };
        let to = to.min(edge);
        if cursor.next >= to {
            return Some(Next::Head);
        }
        if self.lag == Lag::Disconnect {
            self.skip_had(cursor, to, out);
            if cursor.next < to {
                return Some(Next::Evicted);
            }
        }
        self.abort(Code::EVICTED, out);
        self.gap(cursor, to, cause, out);
        (to < first).then_some(Next::Head)
    }

    // Yields a large message. An error says what comes next, if that is not the message after it.
    fn large<S: FnMut(Item<'_>)>(
        &mut self,
        message: MessageRef<'_>,
        if_arriving: IfArriving,
        out: &mut BudgetedSink<'_, S>,
    ) -> Result<(), Next> {
        let complete = message.is_complete();
        match self.options.large {
            LargePayloads::AnnounceOnly => out.notice(Item::Large(message)),
            LargePayloads::WhenComplete if complete => {
                out.give(Item::Message(message), message.wire_len());
            }
            LargePayloads::WhenComplete => return Err(Next::Stalled),
            LargePayloads::InChunks => {
                if self.open.is_none() {
                    if if_arriving == IfArriving::AwaitCompletion && !complete {
                        return Err(Next::Stalled);
                    }
                    *self.open = Some(OpenMessage { slot: self.slot, offset: 0 });
                    out.notice(Item::Begin(message));
                }
                let slot = self.slot;
                let Some(open) = self.open.as_mut().filter(|open| open.slot == slot) else {
                    let overtakes = complete && self.open_stalled;
                    return Err(if overtakes { Next::Overtakes } else { Next::Blocked });
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

    // Returns the first sequence that the cursor may read. To a new subscription, messages are evicted
    // that its topic does not keep.
    fn first(&self, topic: &Topic, cursor: &mut Cursor) -> u64 {
        let first = topic.first_sequence();
        if !cursor.kept_only {
            return first;
        }
        let (After::Exactly(edge, _) | After::AtLeast(edge)) = topic.after(self.began_at);
        let kept = first.max(topic.kept_from().min(edge));
        cursor.kept_only = cursor.next < kept;
        kept
    }

    fn has_expired(&self, topic: &Topic, entry: &Entry) -> bool {
        topic.has_expired(entry, self.now)
    }

    fn is_open(&self) -> bool {
        self.open.is_some_and(|open| open.slot == self.slot)
    }

    // Aborts the open message, if it is this topic's.
    fn abort<S: FnMut(Item<'_>)>(&mut self, code: Code, out: &mut BudgetedSink<'_, S>) {
        if self.is_open() {
            *self.open = None;
            out.notice(Item::Abort { code });
        }
    }

    fn is_late(&self, entry: &Entry) -> bool {
        entry.accepted < self.options.accepted_since && !matches!(entry.body, Body::Aborted { .. })
    }

    // Moves the cursor past sequences that the client has received, but not beyond `to`. A gap stands
    // for them, so that the client knows that they will not come.
    fn skip_had<S: FnMut(Item<'_>)>(
        &self,
        cursor: &mut Cursor,
        to: u64,
        out: &mut BudgetedSink<'_, S>,
    ) {
        while let Some((first, last)) = self.had.at(cursor.next)
            && first <= cursor.next
            && cursor.next < to
        {
            let last = last.min(to - 1);
            out.gap(cursor.next, last, GapCause::Had);
            cursor.go_to(last + 1);
        }
    }

    // Moves the cursor to a sequence, and yields the gap. It is cut around the sequences that the
    // client has received.
    fn gap<S: FnMut(Item<'_>)>(
        &self,
        cursor: &mut Cursor,
        to: u64,
        cause: GapCause,
        out: &mut BudgetedSink<'_, S>,
    ) {
        while cursor.next < to {
            let had = self.had.next(cursor.next).min(to);
            if had > cursor.next {
                out.gap(cursor.next, had - 1, cause);
                cursor.go_to(had);
            }
            self.skip_had(cursor, to, out);
        }
    }

    // Skips messages of a kind, and yields the gap.
    fn skip<S: FnMut(Item<'_>)>(
        &self,
        cursor: &mut Cursor,
        kind: impl Fn(&Entry) -> bool,
        cause: GapCause,
        out: &mut BudgetedSink<'_, S>,
    ) {
        let topic = out.topic;
        let end = topic.next_sequence().min(self.had.next(cursor.next));
        let skipped = (cursor.next..end)
            .map_while(|sequence| topic.entry(sequence))
            .take_while(|entry| entry.position <= self.until && kind(entry))
            .take(SKIPPED)
            .count();
        out.gap(cursor.next, cursor.next + skipped as u64 - 1, cause);
        cursor.go_to(cursor.next + skipped as u64);
        if skipped == SKIPPED {
            // That is enough work for one read.
            out.left = 0;
        }
    }
}
