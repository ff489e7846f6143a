//! What a session answers to those who look things up.

use super::action::{Action, GetReply};
use super::frames::encode_item;
use crate::engine::Engine;
use crate::wire::{self, DaemonFrame, Refusal, TopEntry, Which};

pub(crate) fn fail(out: &mut Vec<u8>, request: u32, refusal: &Refusal) {
    DaemonFrame::Failed { request, code: refusal.code, reason: &refusal.reason }.encode(out);
}

pub(crate) fn answer(
    engine: &mut Engine,
    request: u32,
    topic: &str,
    which: Which,
    out: &mut Vec<u8>,
) -> Option<Action> {
    match engine.get(topic, which) {
        Ok(found) => {
            let whose = DaemonFrame::For { request }.to_bytes();
            let mut topic = Vec::with_capacity(wire::FRAME_OVERHEAD);
            encode_item(&found.announcement(), &mut topic);
            let head = [whose, topic.into()];
            let message = match found.encoded() {
                Some(encoded) => GetReply::Small(encoded.clone()),
                None => GetReply::Large { topic: found.topic_id(), sequence: found.sequence() },
            };
            Some(Action::Answer { request, head, message })
        }
        Err(refusal) => {
            fail(out, request, &refusal);
            None
        }
    }
}

/// Work for one of the highest counts: its payload is looked up and copied. Each look is
/// somewhere else in memory.
const RANKED: usize = 16;

pub(crate) fn top(engine: &mut Engine, request: u32, topic: &str, k: u32, out: &mut Vec<u8>) {
    match engine.top(topic, k as usize) {
        Ok(ranking) => {
            engine.work += RANKED * ranking.len();
            let entries = ranking
                .iter()
                .map(|ranked| TopEntry {
                    digest: ranked.digest,
                    count: ranked.count,
                    since: ranked.since,
                    sequence: ranked.sequence,
                    size: ranked.size,
                    payload: ranked.payload.as_deref(),
                })
                .collect();
            DaemonFrame::Top { request, entries }.encode(out);
        }
        Err(refusal) => fail(out, request, &refusal),
    }
}
