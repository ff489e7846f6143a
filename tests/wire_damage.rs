//! For any bytes, the codec of `weir/1` returns frames or errors and never panics. It can encode
//! whatever it decodes. The result does not depend on how the bytes are split.
#![allow(clippy::unwrap_used)]

#[path = "vectors/arbitrary.rs"]
mod arbitrary;
#[path = "vectors/frames.rs"]
mod frames;

use arbitrary::{CLIENT_FRAMES, DAEMON_FRAMES, parts};
use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::Index};
use std::sync::LazyLock;
use weir::wire::{ClientFrame, DaemonFrame, FrameError, FrameReader};

const LIMIT: usize = 4096;

// Every golden frame of both directions, with its length in front.
static GOLDEN: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let client = frames::client().into_iter().map(|(_, frame)| client_bytes(&frame));
    let daemon = frames::daemon().into_iter().map(|(_, frame)| frame.to_bytes().to_vec());
    client.chain(daemon).collect()
});

fn client_bytes(frame: &ClientFrame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    out
}

// Splits a stream into frames, until its end or its first error. It arrives in pieces.
fn cut<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, Result<bool, FrameError>) {
    let mut reader = FrameReader::new(LIMIT);
    let mut got = Vec::new();
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece));
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => got.push(frame),
                Ok(None) => break,
                Err(error) => return (got, Err(error)),
            }
        }
    }
    (got, Ok(reader.is_partial()))
}

// Returns the one frame in `stream`, without its length.
fn body(stream: &[u8]) -> Bytes {
    let (mut frames, end) = cut(std::iter::once(stream));
    assert_eq!((frames.len(), end), (1, Ok(false)));
    frames.remove(0)
}

// Decodes as both directions. A frame that decodes must encode, in its shortest form, to bytes that
// decode to the same frame.
fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(frame) = ClientFrame::decode(bytes) {
        let again = client_bytes(&frame);
        let body = body(&again);
        prop_assert!(body.len() <= bytes.len());
        prop_assert_eq!(ClientFrame::decode(&body), Ok(frame));
    }
    if let Ok(frame) = DaemonFrame::decode(bytes) {
        let body = body(&frame.to_bytes());
        prop_assert!(body.len() <= bytes.len());
        prop_assert_eq!(DaemonFrame::decode(&body), Ok(frame));
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Set(Index, u8),
    Truncate(Index),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    // The rest is replaced by that of another frame.
    Splice(Index, Index, Index),
}

impl Damage {
    fn to(&self, bytes: &mut Vec<u8>) {
        let place = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
        match self {
            Self::Flip(index, bit) if !bytes.is_empty() => {
                let at = index.index(bytes.len());
                bytes[at] ^= 1 << (bit % 8);
            }
            Self::Set(index, value) if !bytes.is_empty() => {
                let at = index.index(bytes.len());
                bytes[at] = *value;
            }
            Self::Flip(..) | Self::Set(..) => {}
            Self::Truncate(index) => bytes.truncate(place(index, bytes)),
            Self::Remove(index, size) => {
                let at = place(index, bytes);
                let end = bytes.len().min(at + size);
                bytes.drain(at..end);
            }
            Self::Insert(index, more) => {
                let at = place(index, bytes);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Splice(index, which, from) => {
                let other = which.get(&GOLDEN[..]);
                bytes.truncate(place(index, bytes));
                bytes.extend_from_slice(&other[place(from, other)..]);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    // Bytes that often have a meaning in a varint, a bool or an option.
    let byte =
        prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 2, 0x0f, 0x10, 0x7f, 0x80, 0xff])];
    let index = any::<Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (index(), byte.clone()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        index().prop_map(Damage::Truncate),
        (index(), 1_usize..8).prop_map(|(at, size)| Damage::Remove(at, size)),
        (index(), vec(byte, 1..12)).prop_map(|(at, more)| Damage::Insert(at, more)),
        (index(), index(), index()).prop_map(|(at, which, from)| Damage::Splice(at, which, from)),
    ]
}

proptest! {
    #[test]
    fn every_frame_comes_back(parts in parts()) {
        for index in 0..CLIENT_FRAMES {
            let frame = parts.client(index);
            let body = body(&client_bytes(&frame));
            prop_assert_eq!(usize::from(body[0]), index);
            prop_assert_eq!(ClientFrame::decode(&body), Ok(frame));
        }
        for index in 0..DAEMON_FRAMES {
            let frame = parts.daemon(index);
            let body = body(&frame.to_bytes());
            prop_assert_eq!(usize::from(body[0]), index);
            prop_assert_eq!(DaemonFrame::decode(&body), Ok(frame));
        }
    }

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..200), kind in 0_u8..24) {
        survives(&bytes)?;
        // The same after an index that is valid, most of the time.
        survives(&[&[kind], &bytes[..]].concat())?;
    }

    #[test]
    fn damaged_frames(which: Index, damages in vec(damage(), 1..4)) {
        let mut bytes = body(&GOLDEN[which.index(GOLDEN.len())]).to_vec();
        for damage in &damages {
            damage.to(&mut bytes);
        }
        survives(&bytes)?;
    }

    #[test]
    fn damaged_streams_in_any_pieces(
        which in vec(any::<Index>(), 0..8),
        damages in vec(damage(), 0..4),
        sizes in vec(1_usize..64, 1..20),
    ) {
        let mut stream: Vec<u8> =
            which.iter().flat_map(|which| which.get(&GOLDEN[..])).copied().collect();
        for damage in &damages {
            damage.to(&mut stream);
        }
        let whole = cut(std::iter::once(&stream[..]));
        for frame in &whole.0 {
            prop_assert!((1..=LIMIT).contains(&frame.len()));
            survives(frame)?;
        }
        let mut rest = &stream[..];
        let mut sizes = sizes.iter().cycle();
        let pieces = std::iter::from_fn(|| {
            let (piece, tail) = rest.split_at(rest.len().min(*sizes.next()?));
            rest = tail;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(cut(pieces), whole);
    }
}

// Systematic damage: each golden frame is cut short at every place, lengthened, and has each bit
// flipped.
#[test]
fn golden_frames_with_every_small_damage() {
    for stream in GOLDEN.iter() {
        let body = body(stream);
        for end in 0..stream.len() {
            assert_eq!(cut(std::iter::once(&stream[..end])), (vec![], Ok(end > 0)));
        }
        // No frame is a prefix of another.
        let client = ClientFrame::decode(&body).is_ok();
        let daemon = DaemonFrame::decode(&body).is_ok();
        assert!(client || daemon);
        for end in 0..body.len() {
            assert!(!client || ClientFrame::decode(&body[..end]).is_err());
            assert!(!daemon || DaemonFrame::decode(&body[..end]).is_err());
        }
        survives(&[&body[..], &[0]].concat()).unwrap();
        for bit in 0..body.len() * 8 {
            let mut damaged = body.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            survives(&damaged).unwrap();
        }
    }
}
