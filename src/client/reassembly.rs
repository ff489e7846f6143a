//! A large message, put together from its pieces. Nobody sees it before its end, and nothing
//! remains of one that has none.

use crate::message::{CachedDigest, Message};
use crate::wire::{CHUNK, Code, DaemonFrame, Digest};
use bytes::Bytes;
use std::sync::Arc;

/// A message that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CompleteMessage {
    pub(super) topic: u64,
    pub(super) sequence: u64,
    pub(super) count: u64,
    pub(super) stamp: u64,
    pub(super) payload: Bytes,
    pub(super) known: CachedDigest,
}

impl CompleteMessage {
    /// As the application gets it.
    pub(super) fn of(self, topic: Arc<str>, epoch: u64) -> Message {
        let Self { sequence, count, stamp, payload, known, .. } = self;
        let stamp = Some(stamp).filter(|stamp| *stamp > 0);
        Message { topic, epoch, sequence, count, stamp, payload, known }
    }
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It has nothing to do with a large message.
    Other,
    /// One has begun: its topic and sequence.
    Begun(u64, u64),
    /// More of it has come.
    More,
    /// It is complete, and what its digest says.
    CompleteMessage(CompleteMessage),
    /// It will not be completed: its topic and sequence, and why.
    Aborted(u64, u64, Code),
}

struct Open {
    topic: u64,
    sequence: u64,
    stamp: u64,
    size: usize,
    payload: Vec<u8>,
    hasher: blake3::Hasher,
}

/// Takes the large messages of one stream, one at a time.
pub(super) struct Assembly {
    limit: u64,
    // Small beside what it holds, and most streams never have one.
    open: Option<Box<Open>>,
}

impl Assembly {
    /// None larger than `limit` bytes is begun.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, open: None }
    }

    /// Topic and sequence of the message that is still arriving.
    pub(super) fn arriving(&self) -> Option<(u64, u64)> {
        self.open.as_ref().map(|open| (open.topic, open.sequence))
    }

    /// Takes a frame, without its length. An error is the daemon's.
    pub(super) fn take(&mut self, frame: &[u8]) -> Result<Step, &'static str> {
        // By the index alone: most frames are others, and those are not decoded twice.
        if !matches!(frame.first(), Some(4..=7)) {
            return Ok(Step::Other);
        }
        match DaemonFrame::decode(frame).map_err(|_| "bytes that are not a frame")? {
            DaemonFrame::Begin { topic, sequence, stamp, size } => {
                if self.open.is_some() {
                    return Err("a message began inside another");
                }
                if size > self.limit {
                    return Err("a message above its own limit");
                }
                // Reserved, not touched: what never comes costs no memory.
                let size = size as usize;
                let payload = Vec::with_capacity(size);
                let hasher = blake3::Hasher::new();
                self.open = Some(Box::new(Open { topic, sequence, stamp, size, payload, hasher }));
                Ok(Step::Begun(topic, sequence))
            }
            DaemonFrame::Chunk { bytes } => {
                let open = self.open.as_mut().ok_or("a part of no message")?;
                if bytes.is_empty() || bytes.len() > CHUNK {
                    return Err("a part that is empty or too long");
                }
                if bytes.len() > open.size - open.payload.len() {
                    return Err("a message longer than it said");
                }
                open.payload.extend_from_slice(bytes);
                open.hasher.update(bytes);
                Ok(Step::More)
            }
            DaemonFrame::End { count, digest } => {
                let open = self.open.take().ok_or("the end of no message")?;
                let Open { topic, sequence, stamp, size, payload, hasher } = *open;
                if payload.len() != size {
                    return Err("a message shorter than it said");
                }
                if Digest(*hasher.finalize().as_bytes()) != digest {
                    return Err("a message with another digest than it said");
                }
                let (payload, known) = (payload.into(), CachedDigest(Some(digest)));
                Ok(Step::CompleteMessage(CompleteMessage {
                    topic,
                    sequence,
                    count,
                    stamp,
                    payload,
                    known,
                }))
            }
            DaemonFrame::Abort { code } => {
                let open = self.open.take().ok_or("the end of no message")?;
                Ok(Step::Aborted(open.topic, open.sequence, code))
            }
            _ => Ok(Step::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(assembly: &mut Assembly, frame: &DaemonFrame<'_>) -> Result<Step, &'static str> {
        let mut out = Vec::new();
        frame.encode(&mut out);
        let body = out.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        assembly.take(&out[body..])
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
            let mut assembly = Assembly::new(2000);
            let begun = take(&mut assembly, &begin(payload.len() as u64));
            prop_assert_eq!(begun, Ok(Step::Begun(1, 2)));
            let (mut rest, mut cuts) = (&payload[..], cuts.iter().cycle());
            while !rest.is_empty() {
                prop_assert_eq!(assembly.arriving(), Some((1, 2)));
                let (part, left) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                prop_assert_eq!(take(&mut assembly, &chunk(part)), Ok(Step::More));
                // What stands between is none of its business.
                prop_assert_eq!(take(&mut assembly, &DaemonFrame::For { request: 9 }), Ok(Step::Other));
                rest = left;
            }
            let Ok(Step::CompleteMessage(whole)) = take(&mut assembly, &end(&payload)) else {
                panic!("no whole");
            };
            prop_assert_eq!(whole.known.0, Some(Digest::of(&payload)));
            let message = whole.of("a".into(), 5);
            prop_assert_eq!((message.sequence, message.count, message.stamp), (2, 4, Some(3)));
            prop_assert_eq!(message.payload, payload);
            prop_assert_eq!(assembly.arriving(), None);
        }

        #[test]
        fn damaged_bytes_never_panic(frames: Vec<Vec<u8>>) {
            let mut assembly = Assembly::new(100);
            for frame in frames {
                let _ = assembly.take(&frame);
            }
        }
    }

    #[test]
    fn every_broken_promise_is_noticed() {
        let long = vec![7; CHUNK + 1];
        let broken: &[(&str, &[DaemonFrame<'_>])] = &[
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
        for (what, frames) in broken {
            let mut assembly = Assembly::new(1 << 20);
            let (last, before) = frames.split_last().unwrap();
            for frame in before {
                take(&mut assembly, frame).unwrap_or_else(|why| panic!("{what}: {why}"));
            }
            assert!(take(&mut assembly, last).is_err(), "{what}");
        }
    }

    #[test]
    fn after_an_abort_the_next_one_begins() {
        let mut assembly = Assembly::new(5);
        let abort = DaemonFrame::Abort { code: Code::EVICTED };
        for frame in [begin(5), chunk(b"half")] {
            take(&mut assembly, &frame).unwrap();
        }
        assert_eq!(take(&mut assembly, &abort), Ok(Step::Aborted(1, 2, Code::EVICTED)));
        for frame in [begin(5), chunk(b"hello")] {
            take(&mut assembly, &frame).unwrap();
        }
        assert!(matches!(take(&mut assembly, &end(b"hello")), Ok(Step::CompleteMessage(_))));
    }

    #[test]
    fn one_buffer_of_exactly_the_size() {
        let mut assembly = Assembly::new(1 << 20);
        take(&mut assembly, &begin(100_000)).unwrap();
        let open = assembly.open.as_ref().unwrap();
        assert_eq!((open.payload.capacity(), open.payload.len()), (100_000, 0));
    }
}
