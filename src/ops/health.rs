//! Whether the daemon lives, and whether it should get work.

use crate::broker::admission::Admission;
use crate::broker::stop::{STOPPING, Stage};
use crate::journal::queue::JournalQueue;
use serde_json::{Value, json};
use std::borrow::Cow;

/// Why the daemon is not ready: a word for programs, and a line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotReady {
    pub(super) reason: &'static str,
    pub(super) detail: Cow<'static, str>,
}

impl NotReady {
    fn new(reason: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(super) fn json(&self) -> Value {
        json!({ "ready": false, "reason": self.reason, "detail": self.detail })
    }
}

/// Returns whether the process can do its work. It cannot after a panic of the engine.
pub(super) fn lives(admission: Option<&Admission>) -> bool {
    admission.is_none_or(|admission| !admission.broker().has_failed())
}

/// Returns whether the daemon should get sessions and publications. A daemon that admits nothing does
/// not serve yet.
pub(super) fn readiness(admission: Option<&Admission>) -> Result<(), NotReady> {
    let Some(admission) = admission else {
        return Err(NotReady::new("recovering", "the daemon reads its journal"));
    };
    if admission.broker().has_failed() {
        return Err(NotReady::new("failed", "the engine panicked, and the daemon stops"));
    }
    if *admission.stage().borrow() >= Stage::Draining {
        return Err(NotReady::new("draining", STOPPING));
    }
    let refusal = admission.broker().journal().and_then(JournalQueue::refusal);
    let refusal = refusal.or_else(|| admission.broker().proposals().and_then(|log| log.refusal()));
    refusal.map_or(Ok(()), |refusal| Err(NotReady::new("journal", refusal.reason)))
}
