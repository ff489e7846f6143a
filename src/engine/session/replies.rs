//! Frames that answer a peer, on its control stream.

use super::action::{Action, GetReply};
use super::frames::encode_item;
use crate::engine::Engine;
use crate::engine::publication::Receipt;
use crate::wire::{self, Code, DaemonFrame, Refusal, TopEntry, Which};

/// Work of one entry of a ranking: its payload is looked up and copied. Each look is elsewhere in
/// memory.
const RANKED: usize = 16;

/// Answers a request that is refused.
pub(super) fn fail(request: u32, refusal: &Refusal, out: &mut Vec<u8>) -> Action {
    let Refusal { code, reason } = refusal;
    DaemonFrame::Failed { request, code: *code, reason }.encode(out);
    Action::Refused { code: *code }
}

/// Answers a publication that was accepted.
pub(super) fn receive(alias: u32, number: u64, receipt: &Receipt, out: &mut Vec<u8>) {
    let Receipt { sequence, count, since, digest, duplicate } = *receipt;
    DaemonFrame::Receipt { alias, number, sequence, count, since, digest, duplicate }.encode(out);
}

/// Answers a publication that is refused.
pub(super) fn reject(alias: u32, number: u64, refusal: &Refusal, out: &mut Vec<u8>) -> Action {
    let Refusal { code, reason } = refusal;
    DaemonFrame::Rejected { alias, number, code: *code, reason }.encode(out);
    Action::Refused { code: *code }
}

/// For the engine, number 0 is an idempotency key. A peer has none.
pub(super) fn unnumbered() -> Refusal {
    Refusal::new(Code::STALE, "publications are numbered from 1")
}

/// Answers a `Get`.
pub(super) fn answer(
    engine: &mut Engine,
    request: u32,
    topic: &str,
    which: Which,
    out: &mut Vec<u8>,
) -> Action {
    match engine.get(topic, which) {
        Ok(found) => {
            let number = DaemonFrame::For { request }.to_bytes();
            let mut topic = Vec::with_capacity(wire::FRAME_OVERHEAD);
            encode_item(&found.announcement(), &mut topic);
            let head = [number, topic.into()];
            let message = match found.encoded() {
                Some(encoded) => GetReply::Small(encoded.clone()),
                None => GetReply::Large { topic: found.topic_id(), sequence: found.sequence() },
            };
            Action::Answer { request, head, message }
        }
        Err(refusal) => fail(request, &refusal, out),
    }
}

/// Answers a `Top`.
pub(super) fn top(
    engine: &mut Engine,
    request: u32,
    topic: &str,
    k: u32,
    out: &mut Vec<u8>,
) -> Option<Action> {
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
            None
        }
        Err(refusal) => Some(fail(request, &refusal, out)),
    }
}
