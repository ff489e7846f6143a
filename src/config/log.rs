//! `[log]`: what the log has, and how it looks.

use super::WrongValue;
use schemars::JsonSchema;
use serde::Deserialize;
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
        Self { format: LogFormat::default(), level: LEVEL.into(), qlog: None }
    }
}

impl LogConfig {
    pub(super) fn check(&self) -> Result<(), WrongValue> {
        match self.filter() {
            Ok(_) => Ok(()),
            Err(reason) => Err(WrongValue { keys: &["log.level"], reason }),
        }
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
