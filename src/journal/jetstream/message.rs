//! Entries of the log as messages of NATS: the payload is bare, and everything else is in headers. So
//! a program that knows nothing of Weir can publish, and read what was published.
//!
//! | header | of | value |
//! |---|---|---|
//! | `Weir-Producer`, `Weir-Number` | publications, and the beginning and end of large ones | producer (32 hexadecimal digits), and its number |
//! | `Weir-Key` | the same | hash of the idempotency key (32 hexadecimal digits) |
//! | `Weir-Stamp` | publications, and the beginning of large ones | the publisher's clock, µs since 1970 |
//! | `Weir-Upload` | parts of a large publication | its random name (32 hexadecimal digits) |
//! | `Weir-Size` | its beginning | length of the payload, bytes |
//! | `Weir-Offset` | its chunks | number of bytes before |
//! | `Weir-Digest` | its end | BLAKE3 of the payload, hexadecimal |
//! | `Weir-Abort` | its end, if it will never be complete | 1 |
//! | `Weir-Nothing` | entries that mean nothing | 1 |
//!
//! A message without any of them is a publication that counts each time.

use super::subject;
use crate::engine::replica::{LogChange, LogUpload};
use crate::engine::{Payload, PublicationId};
use crate::wire::{Digest, ProducerId};
use bytes::Bytes;
use std::fmt::Write as _;
use std::sync::Arc;

const PRODUCER: &str = "Weir-Producer";
const NUMBER: &str = "Weir-Number";
const KEY: &str = "Weir-Key";
const STAMP: &str = "Weir-Stamp";
const UPLOAD: &str = "Weir-Upload";
const SIZE: &str = "Weir-Size";
const OFFSET: &str = "Weir-Offset";
const DIGEST: &str = "Weir-Digest";
const ABORT: &str = "Weir-Abort";
const NOTHING: &str = "Weir-Nothing";

/// A change as a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogMessage {
    pub(crate) subject: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Bytes,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(u128::from_str_radix(text, 16).ok()?.to_be_bytes())
}

impl LogMessage {
    /// Writes a change.
    pub(crate) fn of(prefix: &str, change: &LogChange) -> Self {
        let topic = match change {
            LogChange::Publish { topic, .. }
            | LogChange::Begin { topic, .. }
            | LogChange::Chunk { topic, .. }
            | LogChange::End { topic, .. }
            | LogChange::Abort { topic, .. } => topic,
            LogChange::Nothing => "-",
        };
        let subject = subject::of_topic(prefix, topic);
        let mut headers = Vec::with_capacity(4);
        let mut payload = Bytes::new();
        match change {
            LogChange::Publish { origin, stamp, payload: whole, .. } => {
                publication(&mut headers, *origin, *stamp);
                payload = match whole.pieces().count() {
                    1 => whole.pieces().next().cloned().unwrap_or_default(),
                    _ => whole.pieces().flat_map(|piece| piece.iter().copied()).collect(),
                };
            }
            LogChange::Begin { upload, origin, stamp, size, .. } => {
                publication(&mut headers, *origin, *stamp);
                headers.push((UPLOAD, hex(&upload.0)));
                headers.push((SIZE, size.to_string()));
            }
            LogChange::Chunk { upload, offset, bytes, .. } => {
                headers.push((UPLOAD, hex(&upload.0)));
                headers.push((OFFSET, offset.to_string()));
                payload = bytes.clone();
            }
            LogChange::End { upload, origin, digest, .. } => {
                publication(&mut headers, *origin, 0);
                headers.push((UPLOAD, hex(&upload.0)));
                headers.push((DIGEST, digest.to_string()));
            }
            LogChange::Abort { upload, .. } => {
                headers.push((UPLOAD, hex(&upload.0)));
                headers.push((ABORT, "1".into()));
            }
            LogChange::Nothing => headers.push((NOTHING, "1".into())),
        }
        Self { subject, headers, payload }
    }
}

fn publication(
    headers: &mut Vec<(&'static str, String)>,
    origin: Option<PublicationId>,
    stamp: u64,
) {
    match origin {
        Some(origin) if origin.is_key() => headers.push((KEY, hex(&origin.producer.0))),
        Some(PublicationId { producer, number }) => {
            headers.push((PRODUCER, hex(&producer.0)));
            headers.push((NUMBER, number.to_string()));
        }
        None => {}
    }
    if stamp > 0 {
        headers.push((STAMP, stamp.to_string()));
    }
}

/// Reads a message. None if its subject is not that of a topic, or a header is malformed. Each replica
/// reads the same.
pub(crate) fn read<'a>(
    prefix: &str,
    subject: &str,
    header: &dyn Fn(&str) -> Option<&'a str>,
    payload: Bytes,
) -> Option<LogChange> {
    let number = |name: &str| match header(name) {
        Some(text) => text.parse::<u64>().ok().map(Some),
        None => Some(None),
    };
    if header(NOTHING).is_some() {
        return Some(LogChange::Nothing);
    }
    let topic: Arc<str> = subject::topic_of(prefix, subject)?.into();
    let upload = match header(UPLOAD) {
        Some(text) => Some(LogUpload(unhex(text)?)),
        None => None,
    };
    let origin = match (header(PRODUCER), header(KEY)) {
        (Some(producer), _) => Some(PublicationId {
            producer: ProducerId(unhex(producer)?),
            number: number(NUMBER)?.filter(|number| *number > 0)?,
        }),
        (None, Some(key)) => Some(PublicationId { producer: ProducerId(unhex(key)?), number: 0 }),
        (None, None) => None,
    };
    if let Some(upload) = upload {
        if header(ABORT).is_some() {
            return Some(LogChange::Abort { upload, topic });
        }
        if let Some(digest) = header(DIGEST) {
            let digest = digest.parse().ok()?;
            return Some(LogChange::End { upload, topic, origin, digest });
        }
        if let Some(offset) = number(OFFSET)? {
            return Some(LogChange::Chunk { upload, topic, offset, bytes: payload });
        }
    }
    let stamp = number(STAMP)?.unwrap_or(0);
    Some(match upload {
        Some(upload) => LogChange::Begin { upload, topic, origin, stamp, size: number(SIZE)?? },
        None => {
            let digest = Digest::of(&payload);
            LogChange::Publish { topic, origin, stamp, digest, payload: Payload::from(payload) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(message: &LogMessage) -> Option<LogChange> {
        let header = |name: &str| {
            let found = message.headers.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.as_str())
        };
        read("weir", &message.subject, &header, message.payload.clone())
    }

    fn publish(origin: Option<PublicationId>, stamp: u64, payload: &'static [u8]) -> LogChange {
        let digest = Digest::of(payload);
        let payload = Payload::from(Bytes::from_static(payload));
        LogChange::Publish { topic: "demo/a".into(), origin, stamp, digest, payload }
    }

    // Programs that know nothing of Weir depend on these names.
    #[test]
    fn what_is_written_is_readable_and_is_read_back() {
        let producer = ProducerId([0xab; 16]);
        let numbered = Some(PublicationId { producer, number: 7 });
        let keyed = Some(PublicationId { producer, number: 0 });
        let upload = LogUpload([3; 16]);
        let topic: Arc<str> = "demo/a".into();
        let hex = "ab".repeat(16);
        let name = || ("03".repeat(16), topic.clone());
        let cases: [(LogChange, Vec<(&str, String)>); 9] = [
            (publish(None, 0, b"hello"), vec![]),
            (publish(None, 0, b""), vec![]),
            (
                publish(numbered, 9, b"hello"),
                vec![(PRODUCER, hex.clone()), (NUMBER, "7".into()), (STAMP, "9".into())],
            ),
            (publish(keyed, 0, b"hello"), vec![(KEY, hex.clone())]),
            (
                LogChange::Begin { upload, topic: name().1, origin: None, stamp: 0, size: 70_000 },
                vec![(UPLOAD, name().0), (SIZE, "70000".into())],
            ),
            (
                LogChange::Chunk {
                    upload,
                    topic: name().1,
                    offset: 0,
                    bytes: Bytes::from_static(b"abc"),
                },
                vec![(UPLOAD, name().0), (OFFSET, "0".into())],
            ),
            (
                LogChange::End {
                    upload,
                    topic: name().1,
                    origin: numbered,
                    digest: Digest::of(b"abc"),
                },
                vec![
                    (PRODUCER, hex),
                    (NUMBER, "7".into()),
                    (UPLOAD, name().0),
                    (DIGEST, Digest::of(b"abc").to_string()),
                ],
            ),
            (
                LogChange::Abort { upload, topic: name().1 },
                vec![(UPLOAD, name().0), (ABORT, "1".into())],
            ),
            (LogChange::Nothing, vec![(NOTHING, "1".into())]),
        ];
        for (change, headers) in cases {
            let message = LogMessage::of("weir", &change);
            let nothing = matches!(change, LogChange::Nothing);
            assert_eq!(&*message.subject, if nothing { "weir.-" } else { "weir.demo.a" });
            assert_eq!(message.headers, headers);
            assert_eq!(format!("{:?}", back(&message)), format!("{:?}", Some(change)));
        }
    }

    #[test]
    fn malformed_headers_are_no_entry() {
        for headers in [
            vec![(PRODUCER, "ab".repeat(16))],
            vec![(PRODUCER, "ab".repeat(16)), (NUMBER, "0".into())],
            vec![(PRODUCER, "x".repeat(32)), (NUMBER, "1".into())],
            vec![(PRODUCER, "+b".repeat(16)), (NUMBER, "1".into())],
            vec![(KEY, "ab".into())],
            vec![(STAMP, "-1".into())],
            vec![(UPLOAD, "03".repeat(16))],
            vec![(UPLOAD, "03".repeat(16)), (DIGEST, "zz".into())],
        ] {
            let payload = Bytes::from_static(b"x");
            let message = LogMessage { subject: "weir.demo.a".into(), headers, payload };
            assert!(back(&message).is_none(), "{message:?}");
        }
    }
}
