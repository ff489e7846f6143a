//! `[log]`: what the log has, and how it looks.

use super::{WrongValue, schema_types};
use crate::daemon::otlp;
use schemars::JsonSchema;
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::net::IpAddr;
use tracing_subscriber::EnvFilter;

/// `[log]`: what the log has, and how it looks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LogConfig {
    /// Its form. Default `auto`.
    pub format: LogFormat,
    /// A level, or a filter of `tracing-subscriber`. Default `info`. The variable `RUST_LOG` takes
    /// precedence.
    pub level: String,
    /// The address whose next connection over QUIC is recorded, once after the start and after each HUP.
    /// Default none.
    pub qlog: Option<IpAddr>,
    /// The address of a collector of OpenTelemetry, to which traces are exported. Default none.
    pub otlp: Option<String>,
    /// The part of the sessions and requests that are traced. Default 1.
    #[schemars(with = "schema_types::Part")]
    pub otlp_ratio: Part,
}

/// A number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part(f64);

// It is a number.
impl Eq for Part {}

impl Part {
    /// Returns it, if the number is from 0 to 1.
    #[must_use]
    pub fn new(part: f64) -> Option<Self> {
        (0.0..=1.0).contains(&part).then_some(Self(part))
    }

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfNumber;

        impl Visitor<'_> for OfNumber {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 to 1")
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Part, E> {
                Part::new(number).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Part, E> {
                let small = i32::try_from(number).ok().map(f64::from).and_then(Part::new);
                small.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
            }

            // A variable of the environment has text.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Part, E> {
                let part = text.parse().ok().and_then(Part::new);
                part.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(OfNumber)
    }
}

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `journal` if standard error goes to the journal of systemd, and else `text`.
    #[default]
    Auto,
    /// Lines of text on standard error, in colours if that is a terminal.
    Text,
    /// A JSON object on each line of standard error.
    Json,
    /// Records of the journal of systemd, with fields.
    Journal,
}

/// The level of Weir's own records.
const LEVEL: &str = "info";

impl Default for LogConfig {
    fn default() -> Self {
        let (format, level) = (LogFormat::default(), LEVEL.into());
        Self { format, level, qlog: None, otlp: None, otlp_ratio: Part(1.0) }
    }
}

impl LogConfig {
    pub(super) fn check(&self) -> Result<(), WrongValue> {
        if let Err(reason) = self.filter() {
            return Err(WrongValue { keys: &["log.level"], reason });
        }
        let Some(collector) = &self.otlp else { return Ok(()) };
        let wrong = |reason| Err(WrongValue { keys: &["log.otlp"], reason });
        if let Err(error) = otlp::check(collector) {
            return wrong(error.to_string());
        }
        if !cfg!(feature = "otel") {
            let reason = "this weir was built without the feature otel, which exports traces: build it \
                          with --features otel, or remove the key";
            return wrong(reason.into());
        }
        Ok(())
    }

    /// Returns the collector of traces, if there is one.
    #[cfg(feature = "otel")]
    pub(crate) fn collector(&self) -> Option<crate::daemon::Otlp> {
        let collector = self.otlp.as_ref().map(crate::daemon::Otlp::new)?;
        Some(collector.with_ratio(self.otlp_ratio.get()))
    }

    /// Returns the filter that `level` describes.
    ///
    /// # Errors
    ///
    /// It is neither a level nor a filter. The text says so.
    pub fn filter(&self) -> Result<EnvFilter, String> {
        let is_level =
            |text: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&text);
        let level = &*self.level;
        let wrong = |why: String| {
            format!(
                "{level:?} is neither off, error, warn, info, debug or trace, nor a filter such as \
                 \"warn,weir::net=debug\"{why}"
            )
        };
        if is_level(level) {
            // Peers cause the warnings of `h2`, as many as they like.
            return Ok(EnvFilter::new(format!("warn,h2=error,weir={level}")));
        }
        // A single word would be the name of a module, of which everything is logged: a level with a typing
        // error would then log nothing else.
        if level.split(',').any(|part| !is_level(part) && !part.contains('=')) {
            return Err(wrong(String::new()));
        }
        EnvFilter::builder().parse(level).map_err(|error| wrong(format!(": {error}")))
    }
}
