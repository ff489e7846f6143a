//! JSON of which there is one reading: an object with the same member twice is an error.
//!
//! Parsers disagree about which of the two counts (RFC 8259, section 4). One program could check the
//! first, and another one use the second (RFC 8725, section 2.4).

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Parses an object. `None` if it is malformed, nested more than 127 deep, or has a member twice.
pub(super) fn object(text: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(text) {
        Ok(Strict(Value::Object(members))) => Some(members),
        _ => None,
    }
}

struct Strict(Value);

struct StrictVisitor;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Strict, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Strict(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Strict(all.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Strict, A::Error> {
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let Strict(value) = members.next_value()?;
            if all.insert(name, value).is_some() {
                return Err(A::Error::custom("a member twice"));
            }
        }
        Ok(Strict(all.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serde_json_reads_except_members_twice() {
        let text = br#"{"a":[1,-2,0.5,"x\u0000",null,true],"b":{"c":{}},"c":18446744073709551615}"#;
        let found = Value::Object(object(text).unwrap());
        assert_eq!(found, serde_json::from_slice::<Value>(text).unwrap());
        let twice: [&[u8]; 4] = [
            br#"{"a":1,"a":1}"#,
            br#"{"a":{"b":1,"b":2}}"#,
            br#"{"a":[{"b":1,"b":2}]}"#,
            br#"{"a":1,"\u0061":2}"#,
        ];
        for text in twice {
            assert!(serde_json::from_slice::<Value>(text).is_ok());
            assert!(object(text).is_none(), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn only_one_object() {
        let other: [&[u8]; 8] =
            [b"", b"[]", b"1", b"{} {}", b"{}x", b"{\"a\":1e999}", b"{\"a\":\"\xff\"}", b"{"];
        for text in other {
            assert!(object(text).is_none(), "{}", String::from_utf8_lossy(text));
        }
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(object(nested(127).as_bytes()).is_some());
        assert!(object(nested(128).as_bytes()).is_none());
        assert!(object("[".repeat(8000).as_bytes()).is_none());
    }
}
