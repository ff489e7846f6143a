//! JSON objects, as `--json` prints them and HTTP sends them. Objects of messages are written in
//! pieces.

use crate::wire::{Digest, GapCause};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::io::Write as _;
use std::ops::Range;

/// Adds a payload to an object: as text, or as base64 if it is not UTF-8.
pub(crate) fn payload_field(fields: &mut Map<String, Value>, payload: &[u8]) {
    match std::str::from_utf8(payload) {
        Ok(text) => fields.insert("payload".into(), text.into()),
        Err(_) => fields.insert("payload_base64".into(), STANDARD.encode(payload).into()),
    };
}

pub(crate) fn cause(cause: GapCause) -> &'static str {
    match cause {
        GapCause::Evicted => "evicted",
        GapCause::Skipped => "skipped",
        GapCause::Aborted => "aborted",
        GapCause::Late => "late",
        GapCause::Lost => "lost",
        GapCause::Had => "had",
        GapCause::Expired => "expired",
        GapCause::Unknown(_) => "unknown",
    }
}

/// Appends a JSON string.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escape(out, text);
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, text: &str) {
    for piece in text.split_inclusive(|c: char| c < ' ' || c == '"' || c == '\\') {
        let mut clean = piece.chars();
        match clean.next_back() {
            Some(c) if c < ' ' || c == '"' || c == '\\' => {
                out.extend_from_slice(clean.as_str().as_bytes());
                match c {
                    '\n' => out.extend_from_slice(b"\\n"),
                    '\r' => out.extend_from_slice(b"\\r"),
                    '\t' => out.extend_from_slice(b"\\t"),
                    '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                    c => {
                        let _ = write!(out, "\\u{:04x}", c as u32);
                    }
                }
            }
            _ => out.extend_from_slice(piece.as_bytes()),
        }
    }
}

/// The fields of a message's object, except the payload's bytes.
pub(crate) struct Head<'a> {
    pub(crate) topic: &'a str,
    pub(crate) sequence: u64,
    pub(crate) count: u64,
    pub(crate) digest: Digest,
    pub(crate) stamp: u64,
}

impl Head<'_> {
    /// Appends the object up to the payload; [`Payload::write`] appends the rest.
    pub(crate) fn write(&self, out: &mut Vec<u8>, payload: Bytes) -> Payload {
        let text = std::str::from_utf8(&payload).is_ok();
        self.begin(out, payload.len(), text);
        Payload::part(payload, text, true)
    }

    /// Appends the object up to a payload that is written in [parts](Payload::part). `text` is
    /// whether the whole payload is UTF-8.
    pub(crate) fn begin(&self, out: &mut Vec<u8>, size: usize, text: bool) {
        let Self { topic, sequence, count, digest, stamp } = self;
        out.extend_from_slice(b"{\"topic\":");
        string(out, topic);
        let _ = write!(out, ",\"sequence\":{sequence},\"count\":{count},\"digest\":\"{digest}\"");
        let _ = match stamp {
            0 => write!(out, ",\"stamp\":null"),
            stamp => write!(out, ",\"stamp\":{stamp}"),
        };
        let field = if text { "payload" } else { "payload_base64" };
        let _ = write!(out, ",\"size\":{size},\"{field}\":\"");
    }
}

/// The rest of a message's object, or a part of it.
pub(crate) struct Payload {
    bytes: Bytes,
    at: usize,
    text: bool,
    last: bool,
}

/// Payload bytes encoded at once: a multiple of three, so that base64 needs no padding in between.
/// Escapes may make the text six times as long.
const PIECE: usize = 6 << 10;

impl Payload {
    /// Creates a part of a payload. A part of text ends between characters; a part of other bytes has
    /// a multiple of three. The last part ends the object.
    pub(crate) fn part(bytes: Bytes, text: bool, last: bool) -> Self {
        Self { bytes, at: 0, text, last }
    }

    /// Returns the maximum length of a part that begins these bytes.
    pub(crate) fn end_of_part(bytes: &[u8], text: bool) -> usize {
        if !text {
            return bytes.len() - bytes.len() % 3;
        }
        std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len)
    }

    /// Appends the next piece. Returns whether it was the last one of the part. After the last part,
    /// ends the object.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) -> bool {
        let piece = self.piece();
        self.at = piece.end;
        let bytes = &self.bytes[piece];
        if self.text {
            escape(out, &String::from_utf8_lossy(bytes));
        } else {
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
        }
        let ended = self.at == self.bytes.len();
        if ended && self.last {
            out.extend_from_slice(b"\"}");
        }
        ended
    }

    fn piece(&self) -> Range<usize> {
        let mut end = self.bytes.len().min(self.at + PIECE);
        // Moves back to the start of a character, which has at most four bytes.
        while self.text && self.bytes.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
            end -= 1;
        }
        self.at..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(topic: &str, stamp: u64, payload: &Bytes) -> (Value, usize) {
        let digest = Digest::of(payload);
        let head = Head { topic, sequence: 7, count: 2, digest, stamp };
        let mut out = Vec::new();
        let mut rest = head.write(&mut out, payload.clone());
        let mut pieces = 1;
        while !rest.write(&mut out) {
            pieces += 1;
        }
        assert!(!out.contains(&b'\n') && !out.contains(&b'\r'));
        (serde_json::from_slice(&out).unwrap(), pieces)
    }

    fn expected(topic: &str, stamp: Option<u64>, payload: &Bytes) -> Value {
        let mut value = json!({
            "topic": topic, "sequence": 7, "count": 2,
            "digest": Digest::of(payload).to_string(), "stamp": stamp, "size": payload.len(),
        });
        payload_field(value.as_object_mut().unwrap(), payload);
        value
    }

    proptest! {
        #[test]
        fn any_text_and_any_bytes(topic: String, text: String, bytes: Vec<u8>, stamp in 1_u64..) {
            for payload in [Bytes::from(text.clone()), Bytes::from(bytes.clone())] {
                let (value, _) = object(&topic, stamp, &payload);
                prop_assert_eq!(value, expected(&topic, Some(stamp), &payload));
            }
        }
    }

    #[test]
    fn large_payloads_come_in_pieces_that_fit_together() {
        let control: String = (0..32_u8).map(char::from).chain("\"\\/ü日🦀".chars()).collect();
        let text = control.repeat(4000);
        for shift in 0..4 {
            let text = Bytes::from(format!("{}{text}", &"xxxx"[..shift]));
            let (value, pieces) = object("a", 0, &text);
            assert!(pieces > 5 && value == expected("a", None, &text));
        }
        let binary = Bytes::from((0..100_001_u32).map(|n| n as u8).collect::<Vec<_>>());
        let (value, pieces) = object("a", 0, &binary);
        assert!(pieces > 4 && value == expected("a", None, &binary));
        let (value, _) = object("a", 0, &Bytes::new());
        assert_eq!(value["payload"], "");
    }
}
