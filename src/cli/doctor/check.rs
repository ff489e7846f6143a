//! One check, and what it found.

use serde_json::Value;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    // It works, and something is not as it should be.
    Warning,
    Failed,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One check, ready to be printed.
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) status: Status,
    pub(super) text: String,
    // The advice, if there is something to do.
    pub(super) advice: Option<String>,
    pub(super) facts: Value,
}

impl Check {
    pub(super) fn good(name: &'static str, text: impl Into<String>, facts: Value) -> Self {
        Self { name, status: Status::Good, text: text.into(), advice: None, facts }
    }

    pub(super) fn not(self, status: Status, advice: impl Into<String>) -> Self {
        Self { status, advice: Some(advice.into()), ..self }
    }
}
