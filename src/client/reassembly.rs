//! Reassembles large messages from their chunks. The application sees only complete messages.

use crate::message::{CachedDigest, Message};
use crate::wire::{CHUNK, Code, DaemonFrame, Digest, nonzero};
use bytes::Bytes;
use std::sync::Arc;

/// A complete message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CompleteMessage {
    pub(super) topic: u64,
    pub(super) sequence: u64,
    pub(super) count: u64,
    pub(super) stamp: u64,
    pub(super) payload: Bytes,
    pub(super) digest: CachedDigest,
}

impl CompleteMessage {
    /// Converts it for the application.
    pub(super) fn of(self, topic: Arc<str>, epoch: u64) -> Message {
        let Self { sequence, count, stamp, payload, digest, .. } = self;
        let stamp = nonzero(stamp);
        Message { topic, epoch, sequence, count, stamp, payload, digest }
    }
}

/// The effect of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// None: the frame does not belong to a large message.
    Other,
    /// A message has begun: its topic and sequence.
    Begun(u64, u64),
    /// A chunk was added.
    More,
    /// The message is complete, and its digest is right.
    Complete(CompleteMessage),
    /// The message will not be completed: its topic, its sequence and the reason.
    Aborted(u64, u64, Code),
}

struct IncompleteMessage {
    topic: u64,
    sequence: u64,
    stamp: u64,
    size: usize,
    payload: Vec<u8>,
    hasher: blake3::Hasher,
}

/// Reassembles the large messages of one stream, one at a time.
pub(super) struct Reassembly {
    limit: u64,
    // Boxed, because most streams never have a large message.
    incomplete: Option<Box<IncompleteMessage>>,
}

impl Reassembly {
    /// Rejects messages of more than `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, incomplete: None }
    }

    /// Returns topic and sequence of the message that is still arriving.
    pub(super) fn arriving(&self) -> Option<(u64, u64)> {
        self.incomplete.as_ref().map(|message| (message.topic, message.sequence))
    }

    /// Takes a frame, without its length. An error means that the daemon broke the protocol.
    pub(super) fn take(&mut self, frame: &[u8]) -> Result<Step, &'static str> {
        // Looks at the index only, because most frames are of other kinds, and are decoded elsewhere.
        if !matches!(frame.first(), Some(4..=7)) {
            return Ok(Step::Other);
        }
        match DaemonFrame::decode(frame).map_err(|_| "bytes that are not a frame")? {
            DaemonFrame::Begin { topic, sequence, stamp, size } => {
                if self.incomplete.is_some() {
                    return Err("a message began inside another");
                }
                if size > self.limit {
                    return Err("a message above the daemon's own limit");
                }
                // The memory is reserved but not written, so that the system does not allocate pages
                // for bytes that never arrive.
                let size = size as usize;
                let payload = Vec::with_capacity(size);
                let hasher = blake3::Hasher::new();
                self.incomplete = Some(Box::new(IncompleteMessage {
                    topic,
                    sequence,
                    stamp,
                    size,
                    payload,
                    hasher,
                }));
                Ok(Step::Begun(topic, sequence))
            }
            DaemonFrame::Chunk { bytes } => {
                let message = self.incomplete.as_mut().ok_or("a chunk outside a message")?;
                if bytes.is_empty() || bytes.len() > CHUNK {
                    return Err("a chunk that is empty or too long");
                }
                if bytes.len() > message.size - message.payload.len() {
                    return Err("a message longer than announced");
                }
                message.payload.extend_from_slice(bytes);
                message.hasher.update(bytes);
                Ok(Step::More)
            }
            DaemonFrame::End { count, digest } => {
                let message = self.incomplete.take().ok_or("an end outside a message")?;
                let IncompleteMessage { topic, sequence, stamp, size, payload, hasher } = *message;
                if payload.len() != size {
                    return Err("a message shorter than announced");
                }
                if Digest(*hasher.finalize().as_bytes()) != digest {
                    return Err("a message with another digest than announced");
                }
                let (payload, digest) = (payload.into(), CachedDigest(Some(digest)));
                Ok(Step::Complete(CompleteMessage {
                    topic,
                    sequence,
                    count,
                    stamp,
                    payload,
                    digest,
                }))
            }
            DaemonFrame::Abort { code } => {
                let message = self.incomplete.take().ok_or("an end outside a message")?;
                Ok(Step::Aborted(message.topic, message.sequence, code))
            }
            _ => Ok(Step::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(reassembly: &mut Reassembly, frame: &DaemonFrame<'_>) -> Result<Step, &'static str> {
        let mut out = Vec::new();
        frame.encode(&mut out);
        let body = out.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        reassembly.take(&out[body..])
    }

    fn begin(size: u64) -> DaemonFrame<'static> {
        DaemonFrame::Begin { topic: 1, sequence: 2, stamp: 3, size }
    }

    fn chunk(bytes: &[u8]) -> DaemonFrame<'_> {
        DaemonFrame::Chunk { bytes }
    }

    fn end(payload: &[u8]) -> DaemonFrame<'static> {
        DaemonFrame::End { count: 4, digest: Digest::of(payload) }
    }

    proptest! {
        #[test]
        fn pieces_make_the_whole(
            payload in proptest::collection::vec(any::<u8>(), 1..2000),
            cuts in proptest::collection::vec(1_usize..500, 1..20),
        ) {
            let mut reassembly = Reassembly::new(2000);
            let begun = take(&mut reassembly, &begin(payload.len() as u64));
            prop_assert_eq!(begun, Ok(Step::Begun(1, 2)));
            let (mut rest, mut cuts) = (&payload[..], cuts.iter().cycle());
            while !rest.is_empty() {
                prop_assert_eq!(reassembly.arriving(), Some((1, 2)));
                let (part, left) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                prop_assert_eq!(take(&mut reassembly, &chunk(part)), Ok(Step::More));
                // Other frames in between have no effect.
                prop_assert_eq!(take(&mut reassembly, &DaemonFrame::For { request: 9 }), Ok(Step::Other));
                rest = left;
            }
            let Ok(Step::Complete(complete)) = take(&mut reassembly, &end(&payload)) else {
                panic!("not complete");
            };
            prop_assert_eq!(complete.digest.0, Some(Digest::of(&payload)));
            let message = complete.of("a".into(), 5);
            prop_assert_eq!((message.sequence, message.count, message.stamp), (2, 4, Some(3)));
            prop_assert_eq!(message.payload, payload);
            prop_assert_eq!(reassembly.arriving(), None);
        }

        #[test]
        fn damaged_bytes_never_panic(frames: Vec<Vec<u8>>) {
            let mut reassembly = Reassembly::new(100);
            for frame in frames {
                let _ = reassembly.take(&frame);
            }
        }
    }

    #[test]
    fn every_broken_promise_is_noticed() {
        let long = vec![7; CHUNK + 1];
        let violation: &[(&str, &[DaemonFrame<'_>])] = &[
            ("begun twice", &[begin(5), begin(5)]),
            ("above the limit", &[begin((1 << 20) + 1)]),
            ("no size at all", &[begin(u64::MAX)]),
            ("a chunk of nothing", &[chunk(b"hello")]),
            ("an end of nothing", &[end(b"hello")]),
            ("an abort of nothing", &[DaemonFrame::Abort { code: Code::PUBLISHER_GONE }]),
            ("an empty chunk", &[begin(5), chunk(b"")]),
            ("a long chunk", &[begin(1 << 20), chunk(&long)]),
            ("too many bytes", &[begin(5), chunk(b"hell"), chunk(b"of")]),
            ("too few bytes", &[begin(5), chunk(b"hell"), end(b"hell")]),
            ("other bytes", &[begin(5), chunk(b"jello"), end(b"hello")]),
            ("an end twice", &[begin(5), chunk(b"hello"), end(b"hello"), end(b"hello")]),
        ];
        for (what, frames) in violation {
            let mut reassembly = Reassembly::new(1 << 20);
            let (last, before) = frames.split_last().unwrap();
            for frame in before {
                take(&mut reassembly, frame).unwrap_or_else(|why| panic!("{what}: {why}"));
            }
            assert!(take(&mut reassembly, last).is_err(), "{what}");
        }
    }

    #[test]
    fn after_an_abort_the_next_one_begins() {
        let mut reassembly = Reassembly::new(5);
        let abort = DaemonFrame::Abort { code: Code::EVICTED };
        for frame in [begin(5), chunk(b"half")] {
            take(&mut reassembly, &frame).unwrap();
        }
        assert_eq!(take(&mut reassembly, &abort), Ok(Step::Aborted(1, 2, Code::EVICTED)));
        for frame in [begin(5), chunk(b"hello")] {
            take(&mut reassembly, &frame).unwrap();
        }
        assert!(matches!(take(&mut reassembly, &end(b"hello")), Ok(Step::Complete(_))));
    }

    #[test]
    fn one_buffer_of_exactly_the_size() {
        let mut reassembly = Reassembly::new(1 << 20);
        take(&mut reassembly, &begin(100_000)).unwrap();
        let message = reassembly.incomplete.as_ref().unwrap();
        assert_eq!((message.payload.capacity(), message.payload.len()), (100_000, 0));
    }
}
