//! Reads `docs/protocol.md`. Its tables are a schema, complete enough to encode every vector from
//! its JSON fields, without serde and without `src/wire`. Its examples are vectors.

use super::json::unhex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Fields in order: name and type. A field of a variant such as `Last(u64)` has no name.
pub(crate) type Fields = Vec<(Option<String>, String)>;

#[derive(Debug)]
pub(crate) enum Shape {
    Enum(Vec<(String, Fields)>),
    Struct(Fields),
}

/// Every type that the document defines in a table under a heading ``### `Name` ``.
pub(crate) struct Schema(pub(crate) BTreeMap<String, Shape>);

fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split('|').map(str::trim).collect()
}

impl Schema {
    pub(crate) fn read(document: &str) -> Self {
        let mut types = BTreeMap::new();
        let mut heading = None;
        for line in document.lines() {
            if line.starts_with('#') {
                let name = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`'));
                heading = name.map(str::to_owned);
                continue;
            }
            let (Some(name), true) = (&heading, line.starts_with('|')) else {
                continue;
            };
            let cells = cells(line);
            if let Ok(index) = cells[0].parse::<usize>() {
                let fields =
                    quoted(cells[2]).into_iter().map(|field| match field.split_once(": ") {
                        Some((name, kind)) => (Some(name.to_owned()), kind.to_owned()),
                        None => (None, field.to_owned()),
                    });
                let shape = types.entry(name.clone()).or_insert(Shape::Enum(vec![]));
                let Shape::Enum(variants) = shape else { panic!("{name} is two things") };
                assert_eq!(variants.len(), index, "{name}: the indices do not count up from 0");
                variants.push((quoted(cells[1])[0].to_owned(), fields.collect()));
            } else if cells[0].starts_with('`') {
                let shape = types.entry(name.clone()).or_insert(Shape::Struct(vec![]));
                let Shape::Struct(fields) = shape else { panic!("{name} is two things") };
                fields.push((Some(quoted(cells[0])[0].to_owned()), quoted(cells[1])[0].to_owned()));
            }
        }
        Self(types)
    }

    /// The names of an enum's variants, in order.
    pub(crate) fn variants(&self, name: &str) -> Vec<&str> {
        match self.0.get(name) {
            Some(Shape::Enum(variants)) => variants.iter().map(|(name, _)| &name[..]).collect(),
            other => panic!("docs/protocol.md has no table of the enum {name}: {other:?}"),
        }
    }

    /// Encodes a frame, with its length, from its JSON fields. Records the variants in it.
    pub(crate) fn encode(&self, kind: &str, frame: &str, fields: &Value, met: &mut Met) -> Vec<u8> {
        let mut body = Vec::new();
        let value = Value::Object([(frame.to_owned(), fields.clone())].into_iter().collect());
        self.put(kind, &value, &mut body, met);
        let mut out = Vec::new();
        varint(body.len() as u64, &mut out);
        out.extend(body);
        out
    }

    fn put(&self, kind: &str, value: &Value, out: &mut Vec<u8>, met: &mut Met) {
        if let Some(inner) = inside(kind, "Option<", ">") {
            out.push(u8::from(!value.is_null()));
            if !value.is_null() {
                self.put(inner, value, out, met);
            }
        } else if let Some(inner) = inside(kind, "Vec<", ">") {
            let items = value.as_array().expect("a list");
            varint(items.len() as u64, out);
            for item in items {
                self.put(inner, item, out, met);
            }
        } else if let Some(inner) = inside(kind, "(", ")") {
            let items = value.as_array().expect("a tuple");
            let kinds: Vec<_> = inner.split(", ").collect();
            assert_eq!(items.len(), kinds.len(), "{kind}");
            for (item, kind) in items.iter().zip(kinds) {
                self.put(kind, item, out, met);
            }
        } else if let Some(size) = inside(kind, "[u8; ", "]") {
            let bytes = unhex(value.as_str().expect("hex"));
            assert_eq!(Ok(bytes.len()), size.parse(), "{kind}");
            out.extend(bytes);
        } else {
            self.put_simple(kind, value, out, met);
        }
    }

    fn put_simple(&self, kind: &str, value: &Value, out: &mut Vec<u8>, met: &mut Met) {
        match kind {
            "bool" => out.push(u8::from(value.as_bool().expect("a bool"))),
            "u32" => {
                let number = value.as_u64().expect("a number");
                varint(u32::try_from(number).expect("32 bits").into(), out);
            }
            "u64" => varint(value.as_str().and_then(|text| text.parse().ok()).expect("u64"), out),
            "str" => put_bytes(value.as_str().expect("a string").as_bytes(), out),
            "bytes" => put_bytes(&unhex(value.as_str().expect("hex")), out),
            name => match self.0.get(name) {
                Some(Shape::Struct(fields)) => self.put_fields(fields, value, out, met),
                Some(Shape::Enum(variants)) => {
                    let (variant, fields) = match value {
                        Value::String(variant) => (variant, &Value::Null),
                        Value::Object(map) if map.len() == 1 => map.iter().next().expect("one"),
                        other => panic!("not a {name}: {other}"),
                    };
                    let index = variants.iter().position(|(known, _)| known == variant);
                    let index = index.unwrap_or_else(|| panic!("no {variant} in {name}"));
                    met.insert((name.to_owned(), variant.clone()));
                    varint(index as u64, out);
                    self.put_fields(&variants[index].1, fields, out, met);
                }
                None => panic!("docs/protocol.md does not say what {name} is"),
            },
        }
    }

    fn put_fields(&self, fields: &Fields, value: &Value, out: &mut Vec<u8>, met: &mut Met) {
        if let [(None, kind)] = &fields[..] {
            return self.put(kind, value, out, met);
        }
        let given = value.as_object().map_or(0, serde_json::Map::len);
        assert_eq!(given, fields.len(), "fields {fields:?} and {value}");
        for (name, kind) in fields {
            let name = name.as_ref().expect("a named field");
            self.put(kind, &value[name], out, met);
        }
    }
}

/// Pairs of enum and variant.
pub(crate) type Met = BTreeSet<(String, String)>;

fn inside<'a>(kind: &'a str, before: &str, after: &str) -> Option<&'a str> {
    kind.strip_prefix(before)?.strip_suffix(after)
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Returns the examples. In a fence ```` ```hex ````, each paragraph without its `# comments` is a
/// frame.
pub(crate) fn examples(document: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut inside = false;
    for line in document.lines() {
        if line.starts_with("```") {
            inside = line == "```hex";
            all.push(String::new());
        } else if inside && line.trim().is_empty() {
            all.push(String::new());
        } else if inside {
            let digits = line.split('#').next().unwrap_or_default().replace(' ', "");
            all.last_mut().expect("one at least").push_str(&digits);
        }
    }
    all.retain(|example| !example.is_empty());
    all
}

/// Returns the rows of the code table: number, name, and whether to retry.
pub(crate) fn codes(document: &str) -> Vec<(u32, String, bool)> {
    let rows = document.lines().filter(|line| line.starts_with("| 0x"));
    rows.map(|line| {
        let cells = cells(line);
        let number = u32::from_str_radix(&cells[0][2..], 16).expect("a hex number");
        (number, quoted(cells[1])[0].to_owned(), cells[2] == "yes")
    })
    .collect()
}
