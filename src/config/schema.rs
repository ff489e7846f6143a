//! The JSON schema of the configuration, made from its types: editors complete and check with it.

use super::limits::NetworkText;
use super::tls::DirectoryConfig;
use super::topics::{FilterText, KeepConfig};
use super::{Config, Plain, Span};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// Returns the JSON schema of a configuration file, as text.
///
/// It knows keys, types and forms. That values fit to each other, only the daemon checks.
pub fn schema() -> String {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>();
    schema.insert("title".into(), "weir.toml".into());
    format!("{:#}\n", schema.as_value())
}

macro_rules! text {
    ($($type:ident, $description:literal, $pattern:expr;)*) => {
        $(impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description, "pattern": $pattern })
            }
        })*
    };
}

text! {
    Span, "A duration, such as 10s or 500ms.", "^[0-9.]+(us|µs|ms|s|m|min|h|d)$";
    Plain, "An address, such as 127.0.0.1:8080, or off.", "^(off|.+:[0-9]+)$";
    NetworkText, "A network, such as 127.0.0.0/8.", "^[0-9A-Fa-f.:]+(/[0-9]+)?$";
    FilterText, "A filter, such as cursors/**.", "^.+$";
    DirectoryConfig, "production, staging, or an https address.", "^(production|staging|https://.+)$";
}

impl JsonSchema for KeepConfig {
    fn schema_name() -> Cow<'static, str> {
        "Keep".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "all, latest, none, or a number of messages.",
            "anyOf": [
                { "type": "integer", "minimum": 1 },
                { "enum": ["all", "latest", "none"] }
            ]
        })
    }
}
