//! The sequences that a subscription has missed.

use crate::wire::GapCause;

/// Numbers of sequences that were given as gaps, by their [causes](GapCause).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skips {
    /// They have left the cache.
    pub evicted: u64,
    /// The subscription wanted the newest, or would have waited for too many.
    pub skipped: u64,
    /// They did not arrive completely.
    pub aborted: u64,
    /// They were too old.
    pub late: u64,
    /// They were shown in an earlier run, and not kept.
    pub lost: u64,
    /// Their time had passed.
    pub expired: u64,
}

impl Skips {
    /// The number of all.
    pub fn total(&self) -> u64 {
        let Self { evicted, skipped, aborted, late, lost, expired } = *self;
        [evicted, skipped, aborted, late, lost, expired].into_iter().fold(0, u64::saturating_add)
    }

    pub(in crate::engine) fn add(&mut self, other: &Self) {
        let Self { evicted, skipped, aborted, late, lost, expired } = *other;
        for (cause, sequences) in [
            (GapCause::Evicted, evicted),
            (GapCause::Skipped, skipped),
            (GapCause::Aborted, aborted),
            (GapCause::Late, late),
            (GapCause::Lost, lost),
            (GapCause::Expired, expired),
        ] {
            self.count(cause, sequences);
        }
    }

    /// Counts `sequences` that were given as a gap. A client claims how many of them are lost: any number.
    pub(super) fn count(&mut self, cause: GapCause, sequences: u64) {
        let number = match cause {
            GapCause::Evicted => &mut self.evicted,
            GapCause::Skipped => &mut self.skipped,
            GapCause::Aborted => &mut self.aborted,
            GapCause::Late => &mut self.late,
            GapCause::Lost => &mut self.lost,
            GapCause::Expired => &mut self.expired,
            // The subscription has not missed them.
            GapCause::Had | GapCause::Unknown(_) => return,
        };
        *number = number.saturating_add(sequences);
    }
}
