//! The parts of a snapshot, one in each block.

use super::{Malformed, put};
use crate::engine::{
    EngineState, Part, Payload, Place, SavedBody, SavedCount, SavedMessage, TopicState, Total,
};
use crate::wire::INLINE;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A part, as it is written. After `Messages` follow as many [`Message`]s.
#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    Engine(EngineState),
    Topic(Box<TopicState>),
    Messages { topic: u64 },
    Counts(Vec<SavedCount>),
    End { records_from: u64, dropped_at: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
struct Message {
    sequence: u64,
    place: Place,
    body: Body,
}

#[derive(Debug, Serialize, Deserialize)]
enum Body {
    /// So many bytes of the payload follow.
    Complete(Total, u64),
    /// So many bytes in all. So many of them follow.
    Arriving(u64, u64),
    Aborted,
    Evicted,
}

/// Appends a part.
pub(crate) fn encode(out: &mut Vec<u8>, part: Part) {
    match part {
        Part::Engine(state) => put(out, &Entry::Engine(state)),
        Part::Topic(state) => put(out, &Entry::Topic(state)),
        Part::Counts(counts) => put(out, &Entry::Counts(counts)),
        Part::End { records_from, dropped_at } => {
            put(out, &Entry::End { records_from, dropped_at });
        }
        Part::Messages { topic, messages } => {
            put(out, &Entry::Messages { topic });
            for SavedMessage { sequence, place, body } in messages {
                let (body, payload) = match body {
                    SavedBody::Complete(total, payload) => {
                        (Body::Complete(total, payload.len() as u64), Some(payload))
                    }
                    SavedBody::Arriving(size, had) => {
                        (Body::Arriving(size, had.len() as u64), Some(had))
                    }
                    SavedBody::Aborted => (Body::Aborted, None),
                    SavedBody::Evicted => (Body::Evicted, None),
                };
                put(out, &Message { sequence, place, body });
                let pieces = payload.iter().flat_map(Payload::pieces);
                pieces.for_each(|piece| out.extend_from_slice(piece));
            }
        }
    }
}

/// Decodes the body of a block.
pub(crate) fn decode(block: &Bytes) -> Result<Part, Malformed> {
    let (entry, mut rest) = postcard::take_from_bytes(block)?;
    let part = match entry {
        Entry::Engine(state) => Part::Engine(state),
        Entry::Topic(state) => Part::Topic(state),
        Entry::Counts(counts) => Part::Counts(counts),
        Entry::End { records_from, dropped_at } => Part::End { records_from, dropped_at },
        Entry::Messages { topic } => {
            let mut messages = Vec::new();
            while !rest.is_empty() {
                let (message, after) = postcard::take_from_bytes::<Message>(rest)?;
                rest = after;
                let Message { sequence, place, body } = message;
                let body = match body {
                    Body::Complete(total, size) => {
                        let size = usize::try_from(size).map_err(|_| Malformed)?;
                        let (bytes, after) = rest.split_at_checked(size).ok_or(Malformed)?;
                        rest = after;
                        let bytes = if size <= INLINE {
                            block.slice_ref(bytes)
                        } else {
                            Bytes::copy_from_slice(bytes)
                        };
                        SavedBody::Complete(total, bytes.into())
                    }
                    Body::Arriving(size, had) => {
                        let had = usize::try_from(had).map_err(|_| Malformed)?;
                        let (bytes, after) = rest.split_at_checked(had).ok_or(Malformed)?;
                        rest = after;
                        SavedBody::Arriving(size, Bytes::copy_from_slice(bytes).into())
                    }
                    Body::Aborted => SavedBody::Aborted,
                    Body::Evicted => SavedBody::Evicted,
                };
                messages.push(SavedMessage { sequence, place, body });
            }
            Part::Messages { topic, messages }
        }
    };
    if rest.is_empty() { Ok(part) } else { Err(Malformed) }
}
