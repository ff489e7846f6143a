//! The part of JSON Schema that `web/openapi.json` uses. Any other keyword is an error.

use serde_json::Value;

pub(super) struct Document(Value);

impl Document {
    pub(super) fn load() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/web/openapi.json");
        Self(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    }

    pub(super) fn root(&self) -> &Value {
        &self.0
    }

    pub(super) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(path) => {
                let found = self.0.pointer(path.strip_prefix('#').unwrap());
                self.resolve(found.unwrap_or_else(|| panic!("nothing at {path}")))
            }
            None => value,
        }
    }

    /// Returns how a value violates its schema.
    pub(super) fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolve(schema);
        let fail = |what: &str| Err(format!("{what}: {value} by {schema}"));
        for (keyword, rule) in schema.as_object().into_iter().flatten() {
            let good = match &**keyword {
                "description" | "default" | "example" | "format" => true,
                "type" => match rule {
                    Value::String(one) => is(one, value),
                    _ => {
                        rule.as_array().unwrap().iter().any(|one| is(one.as_str().unwrap(), value))
                    }
                },
                "const" => value == rule,
                "enum" => rule.as_array().unwrap().contains(value),
                "pattern" => value.as_str().is_none_or(|text| fits(rule.as_str().unwrap(), text)),
                "minimum" => value.as_u64() >= rule.as_u64() || value.is_null(),
                "maximum" => value.as_u64() <= rule.as_u64(),
                "minLength" => !value.as_str().unwrap().is_empty(),
                "maxItems" => value.as_array().unwrap().len() as u64 <= rule.as_u64().unwrap(),
                "required" => rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|key| value.get(key.as_str().unwrap()).is_some()),
                "additionalProperties" => value
                    .as_object()
                    .unwrap()
                    .keys()
                    .all(|key| schema["properties"].get(key).is_some()),
                "properties" => {
                    for (key, schema) in rule.as_object().unwrap() {
                        value.get(key).map_or(Ok(()), |value| self.check(schema, value))?;
                    }
                    true
                }
                "items" => {
                    value
                        .as_array()
                        .unwrap()
                        .iter()
                        .try_for_each(|value| self.check(rule, value))?;
                    true
                }
                other => panic!("the test does not know {other}"),
            };
            if !good {
                return fail(keyword);
            }
        }
        Ok(())
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the test does not know the type {other}"),
    }
}

// The patterns in use: hexadecimal digits, quoted or not, and decimal digits.
fn fits(pattern: &str, text: &str) -> bool {
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match pattern {
        "^[0-9a-f]{64}$" => hex(text),
        "^\"[0-9a-f]{64}\"$" => text.len() > 2 && hex(text.trim_matches('"')),
        "^[0-9]{1,20}$" => text.parse::<u64>().is_ok(),
        other => panic!("the test does not know the pattern {other}"),
    }
}
