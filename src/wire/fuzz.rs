//! Fuzz targets: frames, the cutting of streams, names, and the receiver of datagrams.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "targets for a fuzzer, not a part of the daemon"
)]

use super::realtime::{Arrival, Due, Receiver};
use super::{
    ClientFrame, DaemonFrame, Filter, FrameError, FrameReader, MAX_NAME, MAX_SEGMENTS, NameError,
    check_topic, frame_span,
};
use crate::fuzz::Script;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

// Returns a frame without its length.
fn body(frame: &[u8]) -> &[u8] {
    let span = frame_span(frame).unwrap().unwrap();
    assert_eq!(span, frame.len(), "the length is wrong");
    let width = frame.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    &frame[width..]
}

/// A frame that is decoded is encoded in at most as many bytes, and decoded to the same.
pub(crate) fn client_frames(data: &[u8]) {
    let (_, _) = (ClientFrame::may_get(data), ClientFrame::may_show_token(data));
    let publication = ClientFrame::publication(data);
    let Ok(frame) = ClientFrame::decode(data) else { return };
    if let ClientFrame::Publish { alias, number, .. } = frame
        && data[0] & 0x80 == 0
    {
        assert_eq!(publication, Some((alias, number)));
    }
    let mut out = Vec::new();
    frame.encode(&mut out);
    let encoded = body(&out);
    assert!(encoded.len() <= data.len(), "longer than what was decoded");
    assert_eq!(ClientFrame::decode(encoded).as_ref(), Ok(&frame));
    if let ClientFrame::Subscribe { start: super::Start::ResumeWith { topics, had, .. }, .. } =
        &frame
    {
        for had in had {
            let Some(topic) = topics.get(had.topic as usize) else { continue };
            let mut least = topic.next;
            for (first, last) in had.sequences(topic.next) {
                assert!(least <= first && first <= last, "{had:?} of {topic:?}");
                least = last;
            }
        }
    }
}

/// The same of the frames that a client receives; and receipts are taken out of any bytes.
pub(crate) fn daemon_frames(data: &[u8]) {
    #[cfg(feature = "daemon")]
    if let Some((1, frames)) = data.split_first().map(|(first, rest)| (first & 1, rest)) {
        take_receipts(frames);
    }
    let Ok(frame) = DaemonFrame::decode(data) else { return };
    let mut out = Vec::new();
    frame.encode(&mut out);
    assert_eq!(frame.to_bytes(), out);
    let encoded = body(&out);
    assert!(encoded.len() <= data.len(), "longer than what was decoded");
    assert_eq!(DaemonFrame::decode(encoded), Ok(frame));
}

// Frames of the daemon's own, some of them receipts: none is lost, and their order stays.
#[cfg(feature = "daemon")]
fn take_receipts(data: &[u8]) {
    let (mut script, mut frames, mut receipts, mut others) =
        (Script::new(data), Vec::new(), Vec::new(), Vec::new());
    while !script.is_empty() {
        let mut frame = Vec::new();
        let bytes = script.bytes();
        match DaemonFrame::decode(bytes) {
            Ok(decoded) => decoded.encode(&mut frame),
            Err(_) => DaemonFrame::Chunk { bytes }.encode(&mut frame),
        }
        frames.extend_from_slice(&frame);
        let receipt = matches!(DaemonFrame::decode(body(&frame)), Ok(DaemonFrame::Receipt { .. }));
        if receipt { &mut receipts } else { &mut others }.extend_from_slice(&frame);
    }
    let taken = super::take_receipts(&mut frames);
    assert_eq!((taken, frames), (receipts, others));
}

// All frames of a stream that arrives in these pieces, and how it ends.
fn frames(mut reader: FrameReader, pieces: &[&[u8]]) -> (Vec<Bytes>, Result<bool, FrameError>) {
    let mut all = Vec::new();
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece));
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => all.push(frame),
                Ok(None) => break,
                Err(error) => return (all, Err(error)),
            }
        }
        let received = all.iter().map(Bytes::len).sum::<usize>();
        let most = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        assert!(received <= most && reader.held() <= 4 * most.max(64), "memory for nothing");
    }
    let partial = reader.is_partial();
    (all, Ok(partial))
}

/// A stream that is cut anywhere has the frames of the stream in one piece, which are those that its
/// lengths say.
pub(crate) fn frame_reader(data: &[u8]) {
    let mut script = Script::new(data);
    let limit = script.choose(&[0, 1, 100, 70_000, 1 << 24]);
    let client = script.chance(2);
    let reader = || if client { FrameReader::of_client(limit) } else { FrameReader::new(limit) };
    let cuts = script.bytes();
    let stream = script.rest();
    let (mut pieces, mut left) = (Vec::new(), stream);
    for cut in cuts {
        let (piece, rest) = left.split_at(usize::from(*cut).min(left.len()));
        pieces.push(piece);
        left = rest;
    }
    pieces.push(left);
    let whole = frames(reader(), &[stream]);
    assert_eq!(frames(reader(), &pieces), whole);
    let (mut at, mut expected) = (0, whole.0.iter());
    while let Ok(Some(span)) = frame_span(&stream[at..]) {
        let Some(frame) = expected.next() else { break };
        assert!(stream[at..at + span].ends_with(frame) && !frame.is_empty());
        at += span;
    }
    assert_eq!(expected.next(), None, "more frames than there are");
    if whole.1 == Ok(true) {
        skip(reader(), stream, at);
    }
}

// An incomplete frame, which begins at `at`, is skipped, and the frame after it is read.
fn skip(mut reader: FrameReader, stream: &[u8], at: usize) {
    reader.push(Bytes::copy_from_slice(stream));
    while let Ok(Some(_)) = reader.next_frame() {}
    let Ok(Some(span)) = frame_span(&stream[at..]) else { return };
    reader.skip();
    assert_eq!(reader.held(), 0);
    let missing = at + span - stream.len();
    if missing > 1 << 20 {
        return;
    }
    let rest = [vec![7; missing], vec![1, 9]].concat();
    let (before, after) = rest.split_at(missing / 2);
    reader.push(before.to_vec().into());
    assert_eq!(reader.next_frame(), Ok(None), "a skipped frame was read");
    reader.push(after.to_vec().into());
    assert_eq!(reader.next_frame(), Ok(Some(Bytes::from_static(&[9]))));
}

// The definition in docs/protocol.md, segment by segment.
fn shape(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.split('/').count() <= MAX_SEGMENTS
        && name.split('/').all(|segment| !["", ".", ".."].contains(&segment))
        && !name.chars().any(char::is_control)
}

fn is_topic(name: &str) -> bool {
    shape(name) && !name.contains('*') && name.split('/').next() != Some("$weir")
}

fn is_filter(name: &str) -> bool {
    let segments: Vec<_> = name.split('/').collect();
    let last = segments.len() - 1;
    let good = |(at, segment): (usize, &&str)| {
        !segment.contains('*') || *segment == "*" || (*segment == "**" && at == last)
    };
    shape(name) && segments.iter().enumerate().all(good)
}

fn matches(filter: &str, topic: &str) -> bool {
    let (mut filters, mut names) = (filter.split('/'), topic.split('/'));
    if topic.split('/').next() == Some("$weir") && filter.starts_with('*') {
        return false;
    }
    loop {
        match (filters.next(), names.next()) {
            (Some("**"), _) | (None, None) => return true,
            (Some(filter), Some(name)) if filter == "*" || filter == name => {}
            _ => return false,
        }
    }
}

// Topics that a filter matches, of all lengths, with a segment that no other filter names.
fn witnesses(filter: &Filter, others: &[&str]) -> Vec<String> {
    let mut fresh = "w".to_owned();
    while others.iter().any(|other| other.split('/').any(|segment| segment == fresh)) {
        fresh.push('w');
    }
    let segments: Vec<_> = filter.segments().map(|s| if s == "*" { &fresh } else { s }).collect();
    let mut all = Vec::new();
    if segments.last() == Some(&"**") {
        let mut topic = segments[..segments.len() - 1].to_vec();
        while topic.len() <= MAX_SEGMENTS {
            all.push(topic.join("/"));
            topic.push(&fresh);
        }
    } else {
        all.push(segments.join("/"));
    }
    all.retain(|topic| shape(topic));
    all
}

/// Names are what the documents say; a filter matches segment by segment; and it covers another one
/// exactly if it matches all topics that the other matches.
pub(crate) fn names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let texts: Vec<&str> = text.split('\n').take(3).collect();
    let mut filters = Vec::new();
    for text in &texts {
        assert_eq!(check_topic(text).is_ok(), is_topic(text), "{text:?}");
        let filter = Filter::new(text);
        assert_eq!(filter.is_ok(), is_filter(text), "{text:?}");
        if let Err(NameError::TooLong(size)) = filter {
            assert_eq!(size, text.len());
        }
        filters.extend(filter);
    }
    for filter in &filters {
        for text in texts.iter().filter(|text| shape(text) && !text.contains('*')) {
            let expected = matches(filter.as_str(), text);
            assert_eq!(filter.matches(text), expected, "{filter} and {text}");
            let prefix = filter.literal_prefix();
            assert!(!expected || text.starts_with(prefix), "{filter} has not the prefix {prefix}");
        }
        for other in &filters {
            let all = witnesses(other, &texts);
            // Almost as long as a name may be, the topics that would show it are too long.
            let shown = other.as_str().len() < MAX_NAME - 2 * texts.join("").len().min(100) - 50;
            assert!(all.iter().all(|topic| other.matches(topic)), "{other} and {all:?}");
            let missed = all.iter().find(|topic| !filter.matches(topic));
            if filter.covers(other) {
                assert_eq!(missed, None, "{filter} covers {other}");
            } else if shown && !all.is_empty() {
                assert!(missed.is_some(), "{filter} does not cover {other}, and matches {all:?}");
            }
        }
    }
}

/// A receiver accepts each sequence once, and asks only for what it does not have.
pub(crate) fn receiver(data: &[u8]) {
    let mut script = Script::new(data);
    // Times are of a clock that has not run for 10,000 years.
    const LATE: u64 = 1 << 58;
    let time = |script: &mut Script<'_>| script.number() % LATE;
    let deadline = time(&mut script);
    let mut receiver = Receiver::new(script.chance(2), deadline);
    let (mut now, mut rtt) = (0_u64, 1000);
    // The sequences that are final, of each topic.
    let mut known: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    // The model keeps sequences up to this one.
    const SMALL: u64 = 2000;
    let small = |first: u64, last: u64| (first..=last.min(SMALL)).filter(|s| *s <= SMALL);
    while !script.is_empty() {
        let (step, id) = (script.below(8), script.below(3) as u64);
        match step {
            0 => {
                let next = script.number();
                let ranges: Vec<_> =
                    (0..script.below(4)).map(|_| (script.number(), script.number())).collect();
                let fresh = !receiver.knows(id);
                receiver.topic(now, rtt, id, next, ranges.iter().copied());
                if fresh {
                    // Ranges that touch `next`, which nobody shows, move it.
                    let next = receiver.next(id).unwrap();
                    let has = known.entry(id).or_default();
                    has.extend(small(0, next.saturating_sub(1)).filter(|s| *s < next));
                    for (first, last) in receiver.had(id) {
                        has.extend(small(first, last));
                    }
                }
            }
            1 | 2 => {
                let sequence = script.number();
                let is_known = known.get(&id).map(|has| has.contains(&sequence));
                match receiver.message(now, rtt, id, sequence) {
                    Arrival::New => {
                        assert_ne!(is_known, Some(true), "{sequence} was final");
                        assert!(is_known.is_some(), "its topic is not known");
                        known.entry(id).or_default().extend(small(sequence, sequence));
                    }
                    Arrival::Duplicate => {
                        assert!(is_known == Some(true) || sequence > SMALL, "{sequence} was not");
                    }
                    Arrival::Unknown => assert!(is_known.is_none() || sequence == u64::MAX),
                    Arrival::Full => {}
                }
            }
            3 => {
                let (first, last) = (script.number(), script.number());
                for (first, last) in receiver.gap(now, rtt, id, first, last) {
                    let has = known.get_mut(&id).expect("a gap in a topic that is not known");
                    for sequence in small(first, last) {
                        assert!(has.insert(sequence), "{sequence} was final");
                    }
                }
            }
            4 => receiver.head(now, rtt, id, script.number()),
            5 => {
                receiver.forget(id);
                known.remove(&id);
            }
            6 => (now, rtt) = (now.max(time(&mut script)), time(&mut script)),
            _ => {
                let mut due = Vec::new();
                now = now.max(receiver.due().filter(|due| *due < LATE).unwrap_or(now));
                receiver.poll(now, rtt, &mut due);
                assert!(receiver.due().is_none_or(|due| due > now));
                for due in due {
                    match due {
                        Due::Late { topic, first, last } => {
                            for sequence in small(first, last) {
                                let has = known.get_mut(&topic).expect("its topic is not known");
                                assert!(has.insert(sequence), "{sequence} was final");
                            }
                        }
                        Due::Ask { topic, holes, .. } => {
                            assert!(!holes.is_empty() && holes.len() <= super::realtime::HOLES);
                            for (first, last) in holes {
                                let mut asked = small(first, last);
                                assert!(first <= last);
                                assert!(!asked.any(|s| known[&topic].contains(&s)), "it has that");
                            }
                        }
                    }
                }
            }
        }
        receiver.audit();
        for (id, has) in &known {
            let next = receiver.next(*id).expect("a topic is lost");
            assert!(next > SMALL || !has.contains(&next), "{next} is final");
            assert!(small(0, next.saturating_sub(1)).all(|s| s >= next || has.contains(&s)));
        }
    }
}
