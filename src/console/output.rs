//! Standard output: one JSON object a line, flushed, or text for people.

use super::terminal;
use crate::json::{self, payload_field};
use crate::message::Receipt;
use crate::wire::{Code, Digest, Refusal};
use crate::{Gap, Message};
use serde_json::{Value, json};
use std::io::{self, IsTerminal as _, Write as _};

/// Maximum number of characters of a payload in text.
const SHOWN: usize = 120;

/// The format of standard output: JSON, or text with or without colour.
pub(crate) struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, colour }
    }

    fn line(
        &self,
        value: &Value,
        text: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        if self.json {
            terminal::write_json(&mut line, value)?;
        } else {
            text(&mut line)?;
        }
        line.push(b'\n');
        Ok(line)
    }

    /// Prints a line at once. A verb that prints many lines, and can be interrupted, uses a `Printer`.
    pub(crate) fn print(line: io::Result<Vec<u8>>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(&line?)?;
        out.flush()
    }

    // Text of others between escape sequences of our own.
    fn styled(&self, style: u8, text: &str) -> String {
        let text = terminal::line(text);
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.into_owned() }
    }

    fn dim(&self, text: &str) -> String {
        self.styled(2, text)
    }

    fn bold(&self, text: &str) -> String {
        self.styled(1, text)
    }

    pub(crate) fn message(&self, message: &Message) -> io::Result<Vec<u8>> {
        let mut value = json!({
            "topic": &*message.topic,
            "sequence": message.sequence,
            "count": message.count,
            "digest": message.digest().to_string(),
            "stamp": message.stamp,
            "size": message.payload.len(),
        });
        if let Value::Object(fields) = &mut value {
            payload_field(fields, &message.payload);
        }
        self.line(&value, |out| {
            let place = format!("{} #{} ×{}", message.topic, message.sequence, message.count);
            write!(out, "{} {}", self.dim(&place), shown(&message.payload))
        })
    }

    pub(crate) fn gap(&self, gap: &Gap) -> io::Result<Vec<u8>> {
        let Gap { topic, first, last, cause, .. } = gap;
        let cause = json::cause(*cause);
        let value = json!({
            "event": "gap", "topic": &**topic, "first": first, "last": last, "cause": cause,
        });
        self.line(&value, |out| {
            let text = format!("gap: {topic} #{first} to #{last} will not come ({cause})");
            write!(out, "{}", self.bold(&text))
        })
    }

    /// The notice that the session was lost. As text it goes to standard error, and here is nothing.
    pub(crate) fn interrupted(&self, code: Option<Code>, reason: &str) -> io::Result<Vec<u8>> {
        if !self.json {
            return Ok(Vec::new());
        }
        let code = code.map(Code::name);
        self.line(&json!({ "event": "interrupted", "code": code, "reason": reason }), |_| Ok(()))
    }

    /// The daemon's notice of its state, or the end of that. As text it goes to standard error,
    /// and here is nothing.
    pub(crate) fn notice(&self, notice: Option<&Refusal>) -> io::Result<Vec<u8>> {
        if !self.json {
            return Ok(Vec::new());
        }
        let code = notice.map_or(Code::DONE, |notice| notice.code).name();
        let reason = notice.map_or("", |notice| &notice.reason);
        self.line(&json!({ "event": "notice", "code": code, "reason": reason }), |_| Ok(()))
    }

    pub(crate) fn receipt(
        &self,
        topic: &str,
        size: usize,
        receipt: &Receipt,
    ) -> io::Result<Vec<u8>> {
        let Receipt { sequence, count, since, digest, duplicate } = receipt;
        let value = json!({
            "topic": topic, "sequence": sequence, "count": count, "since": since,
            "digest": digest.to_string(), "size": size, "duplicate": duplicate,
        });
        self.line(&value, |out| {
            let place = self.bold(&format!("{topic} #{sequence} ×{count}"));
            write!(out, "{place} {}", self.dim(&digest.to_string()))
        })
    }

    pub(crate) fn accepted(&self, topic: &str, size: usize) -> io::Result<Vec<u8>> {
        let value = json!({ "topic": topic, "size": size, "accepted": true });
        self.line(&value, |out| {
            write!(out, "{} {}", self.bold(topic), self.dim(&format!("accepted {size} bytes")))
        })
    }

    pub(crate) fn ranking(
        &self,
        topic: &str,
        rank: usize,
        entry: &crate::message::Ranking,
    ) -> io::Result<Vec<u8>> {
        let mut value = json!({
            "topic": topic, "rank": rank, "count": entry.count, "since": entry.since,
            "sequence": entry.sequence, "digest": entry.digest.to_string(), "size": entry.size,
        });
        if let (Value::Object(fields), Some(payload)) = (&mut value, &entry.payload) {
            payload_field(fields, payload);
        }
        self.line(&value, |out| {
            let count = self.bold(&format!("{:>8}", entry.count));
            match &entry.payload {
                Some(payload) => write!(out, "{count}  {}", shown(payload)),
                None => {
                    write!(out, "{count}  {}", self.dim(&identified(&entry.digest, entry.size)))
                }
            }
        })
    }

    pub(crate) fn ping(&self, sequence: u32, took: std::time::Duration) -> io::Result<Vec<u8>> {
        let ms = took.as_secs_f64() * 1e3;
        let value = json!({ "ping": sequence, "ms": ms });
        self.line(&value, |out| write!(out, "ping {sequence}: {ms:.3} ms"))
    }

    /// A value, or text of one or several lines.
    pub(crate) fn value(&self, value: &Value, text: &str) -> io::Result<Vec<u8>> {
        self.line(value, |out| write!(out, "{}", terminal::lines(text)))
    }
}

fn identified(digest: &Digest, size: u64) -> String {
    format!("{size} bytes, {digest}")
}

// Returns text on one line, without characters that a terminal obeys, cut to `SHOWN`; or the length of
// other data.
fn shown(payload: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(payload) else {
        return format!("({} bytes)", payload.len());
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", terminal::line(&text[..end])),
        None => terminal::line(text).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::console::output::shown;

    #[test]
    fn a_shown_payload_stays_on_its_line() {
        assert_eq!(shown(b"a\x1b[2Jb\n"), "a·[2Jb·");
        assert_eq!(shown(&[0xff, 0xfe]), "(2 bytes)");
        assert_eq!(shown("ä".repeat(500).as_bytes()).chars().count(), 121);
    }
}
