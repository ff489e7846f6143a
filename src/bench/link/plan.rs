//! The plan of a lane: its task, and the times at which its messages are due.

use super::mode::Mode;
use super::model::Spec;
use crate::Transport;
use crate::wire::Delivery;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Messages of the first second are not measured, because congestion windows are still opening.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);

/// The task of a lane.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    pub(super) delivery: Delivery,
    pub(super) transport: Transport,
    /// The number of the run, from 1. Payloads carry it, and the seed of the link depends on it.
    pub(super) number: u64,
    pub(super) seed: u64,
    pub(super) link: Spec,
    /// Whether the publisher is on the far side too.
    pub(super) both_legs: bool,
    pub(super) messages: u64,
    pub(super) period: Duration,
    /// The time from the start to the first message. Lanes take turns within a period, so that
    /// they do not disturb one another.
    pub(super) offset: Duration,
    pub(super) size: usize,
    pub(super) bulk: Option<usize>,
    pub(super) topic: String,
    pub(super) bulk_topic: String,
}

/// The phase of a run, the same for all its lanes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    Preparing,
    /// Schedules start at this time.
    Running(Instant),
    Stopping,
}

/// The times at which the messages of a lane are due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) start: Instant,
    first: Instant,
    period: Duration,
}

impl Clock {
    /// Waits for the start. Returns `None` if the run ends before it.
    pub(super) async fn wait(phase: &mut watch::Receiver<Phase>, plan: &Plan) -> Option<Self> {
        let begun = phase.wait_for(|phase| !matches!(phase, Phase::Preparing)).await.ok()?;
        let Phase::Running(start) = *begun else { return None };
        Some(Self { start, first: start + plan.offset, period: plan.period })
    }

    pub(super) fn due(&self, index: u64) -> Instant {
        self.first + Duration::from_nanos(self.period.as_nanos() as u64 * index)
    }
}
