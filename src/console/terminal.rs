//! Text of others on a terminal, which obeys control characters.
//!
//! Payloads, topics, names and reasons come from peers. Escape sequences in them could recolour or
//! clear the screen, change its title, fill the clipboard, or, in some terminals, answer as if
//! somebody had typed. Characters that change the direction of writing could make a line read
//! otherwise than it is. So each of these is replaced in text, and escaped in JSON.

use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};
use std::borrow::Cow;
use std::io::{self, Write};
use tracing_subscriber::fmt::MakeWriter;

/// The replacement of a character that is not shown.
const REPLACEMENT: char = '·';

// Whether a terminal obeys the character. Control characters are C0, DEL and C1, of which U+009B begins
// an escape sequence as ESC [ does. There are also line and paragraph separators, and characters that
// change the direction of writing (UAX #9, section 2).
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Returns the text on one line, without characters that a terminal obeys.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    replaced(text, is_obeyed)
}

/// The same, but lines stay lines, and tabs stay tabs.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| is_obeyed(c) && c != '\n' && c != '\t')
}

fn replaced(text: &str, obeyed: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.contains(&obeyed) {
        text.chars().map(|c| if obeyed(c) { REPLACEMENT } else { c }).collect::<String>().into()
    } else {
        text.into()
    }
}

/// Prints a line on standard error. Without a standard error, nobody reads it.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{}", line(text));
}

/// Appends JSON in which the characters that a terminal obeys are escaped. JSON itself asks for that
/// only below U+0020.
pub(crate) fn write_json(out: &mut Vec<u8>, value: &Value) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Escaping))?;
    Ok(())
}

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for piece in fragment.split_inclusive(is_obeyed) {
            match piece.chars().next_back().filter(|c| is_obeyed(*c)) {
                // All of them have 16 bits.
                Some(c) => {
                    writer.write_all(&piece.as_bytes()[..piece.len() - c.len_utf8()])?;
                    write!(writer, "\\u{:04x}", u32::from(c))?;
                }
                None => writer.write_all(piece.as_bytes())?,
            }
        }
        Ok(())
    }
}

/// Standard error for the log: each record is one line. The formatter has escaped what begins escape
/// sequences, and its own colours are such sequences.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogLines;

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl Write for LogLines {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(&one_line(record))?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn one_line(record: &[u8]) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(record) else { return record.into() };
    let inner = text.strip_suffix('\n').unwrap_or(text);
    let obeyed = |c: char| is_obeyed(c) && c != '\x1b';
    match replaced(inner, obeyed) {
        Cow::Borrowed(_) => record.into(),
        Cow::Owned(mut inner) => {
            inner.push('\n');
            inner.into_bytes().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ATTACKS: [&str; 8] = [
        "\x1b[2J\x1b[H",
        "\x1b]0;title\x07",
        "\x1b]52;c;bGlzdA==\x07",
        "\u{9b}2J",
        "over\rwritten",
        "two\nlines",
        "gone\x08\x7f",
        "\u{202e}desrever\u{2066}",
    ];

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for attack in ATTACKS {
            assert!(!line(attack).contains(is_obeyed), "{attack:?}");
            let kept = lines(attack).into_owned();
            assert!(!kept.contains(|c| is_obeyed(c) && c != '\n'), "{attack:?}");
        }
        assert_eq!(line("a\x1b[2Jb\n"), "a·[2Jb·");
        assert_eq!(lines("a\tb\nc\r"), "a\tb\nc·");
        assert!(matches!(line("größe 日本 👋"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_is_the_same_value_in_other_letters() {
        for attack in ATTACKS {
            let value = json!({ "topic": attack, attack: [attack, 1, null] });
            let mut out = Vec::new();
            write_json(&mut out, &value).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(!text.contains(is_obeyed), "{text:?}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
        let mut out = Vec::new();
        write_json(&mut out, &json!({ "a": "größe\u{9b}" })).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a":"größe\u009b"}"#);
    }

    #[test]
    fn a_record_of_the_log_is_one_line() {
        assert_eq!(&*one_line(b"2027 INFO a\nb\r\n"), "2027 INFO a·b·\n".as_bytes());
        assert_eq!(&*one_line(b"\x1b[2m2027\x1b[0m fine\n"), b"\x1b[2m2027\x1b[0m fine\n");
    }
}
