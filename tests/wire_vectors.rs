//! The bytes of `weir/1` match `tests/vectors/` and `docs/protocol.md`.
//!
//! `WEIR_BLESS=1 cargo test --no-default-features --test wire_vectors` writes `frames.json` from
//! `frames.rs`. Only additions are harmless: a changed line is a changed protocol.
#![allow(clippy::unwrap_used)]

#[path = "vectors/doc.rs"]
mod doc;
#[path = "vectors/frames.rs"]
mod frames;
#[path = "vectors/json.rs"]
mod json;

use bytes::Bytes;
use doc::{Met, Schema, Shape};
use json::{hex, unhex};
use serde::de::{self, Deserialize, Visitor};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::PathBuf, sync::OnceLock};
use weir::wire::{
    ClientFrame, Code, DaemonFrame, Delivery, Filter, FrameReader, GapCause, Lag, Start, Which,
    check_topic, encode_message, encode_publish,
};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    let path = path(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn vectors(name: &str) -> Value {
    let text =
        if name == "frames.json" { frames_json() } else { &read(&format!("tests/vectors/{name}")) };
    serde_json::from_str(text).unwrap()
}

// Returns `frames.json`, and writes it first if `WEIR_BLESS` is set.
fn frames_json() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        if std::env::var_os("WEIR_BLESS").is_some() {
            fs::write(path("tests/vectors/frames.json"), golden()).unwrap();
        }
        read("tests/vectors/frames.json")
    })
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let items = value[key].as_array().unwrap();
    assert!(!items.is_empty(), "{key} is empty");
    items
}

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}"))
}

// Returns the one frame of a stream, without its length.
fn body(stream: &[u8]) -> Bytes {
    let mut reader = FrameReader::new(1 << 20);
    reader.push(Bytes::copy_from_slice(stream));
    let frame = reader.next_frame().unwrap().expect("a whole frame");
    assert!(!reader.is_partial(), "more than one frame");
    frame
}

// Returns what `frames.json` must contain: one line for each vector.
fn golden() -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, to: &str, (frame, fields): (&str, String), bytes: &[u8]| {
        let hex = hex(bytes);
        lines.push(format!(
            r#"  {{"name": "{name}", "to": "{to}", "frame": "{frame}", "fields": {fields}, "hex": "{hex}"}}"#
        ));
    };
    for (name, frame) in frames::client() {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        assert_eq!(ClientFrame::decode(&body(&bytes)).unwrap(), frame, "{name}");
        line(name, "daemon", json::client(&frame), &bytes);
    }
    for (name, frame) in frames::daemon() {
        let bytes = frame.to_bytes();
        assert_eq!(DaemonFrame::decode(&body(&bytes)).unwrap(), frame, "{name}");
        line(name, "client", json::daemon(&frame), &bytes);
    }
    format!("[\n{}\n]\n", lines.join(",\n"))
}

#[test]
fn frames_are_the_golden_bytes() {
    let want = golden();
    let have = frames_json();
    for (have, want) in have.lines().zip(want.lines()) {
        assert_eq!(have, want, "frames.json differs: see the head of tests/wire_vectors.rs");
    }
    assert_eq!(have.len(), want.len(), "frames.json is longer or shorter than frames.rs");
}

// Starts from the file: its bytes decode to the frame that encodes to them, independent of the text
// of the file. Publications and messages are also decoded with shared payloads.
#[test]
fn golden_bytes_are_the_frames() {
    let mut names = BTreeSet::new();
    for vector in vectors("frames.json").as_array().unwrap() {
        let name = string(vector, "name");
        assert!(names.insert(name.to_owned()), "{name} stands twice");
        let stream = unhex(string(vector, "hex"));
        let body = body(&stream);
        let mut again = Vec::new();
        let (frame, fields) = match string(vector, "to") {
            "daemon" => {
                let frame = ClientFrame::decode(&body).unwrap();
                frame.encode(&mut again);
                if let ClientFrame::Publish { alias, number, stamp, payload } = frame {
                    let payload = Bytes::copy_from_slice(payload);
                    let shared = encode_publish(alias, number, stamp, &payload);
                    assert_eq!([&shared.pieces().0[..], shared.pieces().1].concat(), stream);
                }
                json::client(&frame)
            }
            "client" => {
                let frame = DaemonFrame::decode(&body).unwrap();
                frame.encode(&mut again);
                if let DaemonFrame::Message { topic, sequence, count, stamp, payload } = frame {
                    let payload = Bytes::copy_from_slice(payload);
                    let shared = encode_message(topic, sequence, count, stamp, &payload);
                    assert_eq!([&shared.pieces().0[..], shared.pieces().1].concat(), stream);
                }
                json::daemon(&frame)
            }
            other => panic!("{name}: to {other}"),
        };
        assert_eq!(hex(&again), string(vector, "hex"), "{name}");
        assert_eq!(frame, string(vector, "frame"), "{name}");
        assert_eq!(serde_json::from_str::<Value>(&fields).unwrap(), vector["fields"], "{name}");
    }
}

// serde names the variants of an enum to its deserializer. This one only records them.
struct Listen<'a>(&'a mut &'static [&'static str]);

impl<'de> de::Deserializer<'de> for Listen<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("not an enum"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = variants;
        Err(de::Error::custom("the names are known"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

fn variants<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &[&str] = &[];
    assert!(T::deserialize(Listen(&mut names)).is_err());
    assert!(!names.is_empty());
    names
}

#[test]
fn the_document_has_every_variant_and_describes_every_byte() {
    let schema = Schema::read(&read("docs/protocol.md"));
    for (name, known) in [
        ("ClientFrame", variants::<ClientFrame<'_>>()),
        ("DaemonFrame", variants::<DaemonFrame<'_>>()),
        ("Start", variants::<Start<'_>>()),
        ("Delivery", variants::<Delivery>()),
        ("Lag", variants::<Lag>()),
        ("GapCause", variants::<GapCause>()),
        ("Which", variants::<Which>()),
    ] {
        assert_eq!(schema.variants(name), known, "docs/protocol.md: {name}");
    }

    // The tables alone encode the JSON fields of every vector to its bytes.
    let mut met = Met::new();
    for vector in vectors("frames.json").as_array().unwrap() {
        let kind = if vector["to"] == "daemon" { "ClientFrame" } else { "DaemonFrame" };
        let bytes = schema.encode(kind, string(vector, "frame"), &vector["fields"], &mut met);
        assert_eq!(hex(&bytes), string(vector, "hex"), "{}", vector["name"]);
    }

    // Every variant of every enum has a vector.
    for (name, shape) in &schema.0 {
        let Shape::Enum(variants) = shape else {
            continue;
        };
        for (variant, _) in variants {
            assert!(met.contains(&(name.clone(), variant.clone())), "no vector: {name}::{variant}");
        }
    }
}

#[test]
fn the_examples_of_the_document_are_vectors() {
    let known = vectors("frames.json");
    let known: BTreeSet<_> =
        known.as_array().unwrap().iter().map(|vector| string(vector, "hex")).collect();
    let examples = doc::examples(&read("docs/protocol.md"));
    assert!(examples.len() >= 8, "{} examples are too few", examples.len());
    for example in examples {
        assert!(known.contains(&example[..]), "docs/protocol.md: {example} is not in frames.json");
    }
}

#[test]
fn the_document_has_the_codes() {
    let want: Vec<_> =
        Code::ALL.iter().map(|code| (code.0, code.name().to_owned(), code.retry())).collect();
    assert_eq!(doc::codes(&read("docs/protocol.md")), want);
}

#[test]
fn names() {
    let names = vectors("names.json");
    let outcome = |value: &Value, result: Result<(), weir::wire::NameError>, topic: bool| {
        let name = string(value, "name");
        let Err(error) = result else { panic!("{name:?} is bad: {}", value["why"]) };
        let variant = format!("{error:?}");
        let refusal = if topic { error.of_topic() } else { error.of_filter() };
        assert!(variant.starts_with(string(value, "why")), "{name:?}: {variant}");
        assert_eq!(u64::from(refusal.code.0), value["code"].as_u64().unwrap(), "{name:?}");
    };
    for good in list(&names["topics"], "good") {
        let good = good.as_str().unwrap();
        assert_eq!(check_topic(good), Ok(()), "{good:?}");
        // Every topic is also a filter that matches it.
        assert!(Filter::new(good).unwrap().matches(good), "{good:?}");
    }
    for bad in list(&names["topics"], "bad") {
        outcome(bad, check_topic(string(bad, "name")), true);
    }
    for good in list(&names["filters"], "good") {
        let good = good.as_str().unwrap();
        assert!(Filter::new(good).is_ok(), "{good:?}");
    }
    for bad in list(&names["filters"], "bad") {
        outcome(bad, Filter::new(string(bad, "name")).map(drop), false);
    }
    for row in list(&names, "matches") {
        let filter = Filter::new(string(row, "filter")).unwrap();
        assert_eq!(
            filter.matches(string(row, "topic")),
            row["matches"].as_bool().unwrap(),
            "{row}"
        );
    }
}

#[test]
fn invalid_bytes_are_refused() {
    let mut kinds = BTreeSet::new();
    for vector in vectors("invalid.json").as_array().unwrap() {
        let (kind, to) = (string(vector, "kind"), string(vector, "to"));
        kinds.insert(kind.to_owned());
        let limit = vector["limit"].as_u64().map_or(1 << 20, |limit| limit as usize);
        let mut reader = FrameReader::new(limit);
        reader.push(unhex(string(vector, "hex")).into());
        let frame = reader.next_frame();
        let refused = match kind {
            "prefix" | "limit" => frame.is_err(),
            "end" => frame == Ok(None) && reader.is_partial(),
            "frame" => {
                let frame = frame.unwrap().expect("a whole frame");
                assert!(!reader.is_partial(), "{vector}: more than one frame");
                match to {
                    "daemon" => ClientFrame::decode(&frame).is_err(),
                    "client" => DaemonFrame::decode(&frame).is_err(),
                    other => panic!("to {other}"),
                }
            }
            other => panic!("kind {other}"),
        };
        assert!(refused, "was not refused: {vector}");
        assert!(!string(vector, "why").is_empty());
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
}
