//! Fuzz target: what a daemon sends to a client on a stream.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "targets for a fuzzer, not a part of the daemon"
)]

use super::reassembly::{Reassembly, Step};
use crate::fuzz::Script;
use crate::wire::{CHUNK, DaemonFrame, Digest, FrameReader, MAX_CONTROL_FRAME};
use bytes::Bytes;

/// A stream of frames, of which some are made of the input, and others are the input. A message that is
/// complete is what was sent, of the size and the digest that were announced.
pub(crate) fn stream(data: &[u8]) {
    let mut script = Script::new(data);
    let limit = script.choose(&[0, 100, 200_000]);
    let mut reassembly = Reassembly::new(limit);
    let mut reader = FrameReader::new(MAX_CONTROL_FRAME);
    let (mut sent, mut open) = (Vec::new(), None);
    while !script.is_empty() {
        let fill = vec![script.byte(); script.choose(&[0, 1, 50, 100, 3000, CHUNK, CHUNK + 1])];
        let mut bytes = Vec::new();
        match script.below(6) {
            0 => {
                let size = script.choose(&[0, 1, 50, 51, 100, 101, 65_536, 200_000, u64::MAX]);
                DaemonFrame::Begin { topic: 1, sequence: 2, stamp: 3, size }.encode(&mut bytes);
            }
            1 | 2 => DaemonFrame::Chunk { bytes: &fill }.encode(&mut bytes),
            3 => DaemonFrame::End { count: 1, digest: Digest::of(&sent) }.encode(&mut bytes),
            4 => DaemonFrame::Abort { code: crate::wire::Code::EVICTED }.encode(&mut bytes),
            _ => bytes.extend_from_slice(script.bytes()),
        }
        reader.push(Bytes::from(bytes));
        loop {
            let frame = match reader.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                // The session ends.
                Err(_) => return,
            };
            let Ok(step) = reassembly.take(&frame) else { return };
            match (step, DaemonFrame::decode(&frame)) {
                (Step::Begun(topic, sequence), Ok(DaemonFrame::Begin { size, .. })) => {
                    assert!(size <= limit && open.is_none());
                    (sent, open) = (Vec::new(), Some((topic, sequence, size)));
                }
                (Step::More, Ok(DaemonFrame::Chunk { bytes })) => {
                    sent.extend_from_slice(bytes);
                    assert!(open.is_some_and(|(.., size)| sent.len() as u64 <= size));
                }
                (Step::Complete(message), Ok(DaemonFrame::End { digest, .. })) => {
                    assert_eq!(
                        open.take(),
                        Some((message.topic, message.sequence, sent.len() as u64))
                    );
                    assert!(message.payload == sent && Digest::of(&sent) == digest);
                    assert_eq!(message.digest.0, Some(digest));
                }
                (Step::Aborted(topic, sequence, _), Ok(DaemonFrame::Abort { .. })) => {
                    assert!(open.take().is_some_and(|one| (one.0, one.1) == (topic, sequence)));
                }
                (Step::Other, Ok(DaemonFrame::Begin { .. } | DaemonFrame::Chunk { .. })) => {
                    // Such an index has a longer form too, which nobody sends.
                    assert!(
                        frame[0] & 0x80 != 0,
                        "a part of a message was taken for another frame"
                    );
                }
                (Step::Other, _) => {}
                (step, frame) => panic!("{step:?} of {frame:?}"),
            }
            assert_eq!(reassembly.arriving(), open.map(|(topic, sequence, _)| (topic, sequence)));
        }
    }
}
