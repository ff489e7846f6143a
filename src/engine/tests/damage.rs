//! Peers that send nonsense.

use super::peer::{Peer, decode, hello, said, subscribe, topic};
use super::{engine, small};
use crate::engine::Channel;
use crate::wire::{ClientFrame, Code, DaemonFrame, Digest, Start, Which};
use proptest::prelude::*;

proptest! {
    /// The others notice nothing, whatever one peer sends.
    #[test]
    fn damaged_frames_end_their_own_session_at_most(
        damage in proptest::collection::vec(
            (0_usize..16, any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..60),
        noise in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..20),
    ) {
        let digest = Digest([1; 32]);
        let frames = [
            hello(2), topic(1, "a"), said(1, b"abc"), said(1 << 40, b"abc"),
            ClientFrame::Begin { alias: 1, number: 3, stamp: 0, size: 9 },
            ClientFrame::Chunk { bytes: b"abc" }, ClientFrame::End { digest },
            subscribe(1, "**", Start::All), subscribe(2, "a", Start::Sequence(u64::MAX)),
            subscribe(3, "a", Start::Last(u64::MAX)),
            ClientFrame::Unsubscribe { subscription: 1 },
            ClientFrame::Get { request: 1, topic: "a", which: Which::Sequence(u64::MAX) },
            ClientFrame::Top { request: 1, topic: "a", k: u32::MAX },
            ClientFrame::Ping { request: 1 },
            ClientFrame::Repair { subscription: 1, topic: 1, holes: vec![(5, 1)] },
            ClientFrame::Goodbye { code: Code::DONE, reason: "x" },
        ];
        let engine = &mut engine(small());
        let mut good = Peer::open(engine, 1);
        good.say(engine, &topic(1, "good")).unwrap();
        good.say(engine, &subscribe(1, "good", Start::New)).unwrap();
        good.reply();
        let mut bad = Peer::open(engine, 2);
        bad.say(engine, &topic(1, "a")).unwrap();
        let damaged = damage.into_iter().map(|(kind, at, bits, whole)| {
            let mut bytes = Vec::new();
            frames[kind].encode(&mut bytes);
            let prefix = 1 + usize::from(bytes[0] >= 0x80);
            let at = prefix + at.index(bytes.len() - prefix);
            if whole { bytes[at] ^= bits } else { bytes.truncate(at) }
            bytes.split_off(prefix)
        });
        for (number, bytes) in damaged.chain(noise).enumerate() {
            while bad.replies.next_frame().unwrap().is_some() {}
            if bad.take(engine, Channel::Control, &bytes.into()).is_err() {
                prop_assert!(bad.session.close(engine) < 60);
                bad = Peer::open(engine, 2);
            }
            good.say(engine, &said(number as u64 + 1, b"still here")).unwrap();
            let reply = good.reply();
            let received = matches!(
                decode(&reply),
                DaemonFrame::Receipt { sequence, count, duplicate: false, .. }
                    if sequence == number as u64 + 1 && count == sequence
            );
            prop_assert!(received, "{:?}", reply);
            engine.audit();
        }
    }
}
