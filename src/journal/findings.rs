//! The damage that recovery finds.

use super::format::header::HeaderError;
use std::ops::Range;

/// The numbers of records that were not there when those after them were read.
#[derive(Debug, Default)]
pub(super) struct Holes {
    // At most `MOST`: what is missing beyond is in the last one.
    pub(super) ranges: Vec<Range<u64>>,
    pub(super) records: u64,
}

/// Maximum number of holes that are told apart.
const MOST: usize = 1024;

impl Holes {
    pub(super) fn push(&mut self, range: Range<u64>) {
        self.records = self.records.saturating_add(range.end - range.start);
        let is_full = self.ranges.len() == MOST;
        match self.ranges.last_mut().filter(|_| is_full) {
            Some(last) => last.end = range.end,
            None => self.ranges.push(range),
        }
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.ranges.iter().any(|range| range.contains(&number))
    }
}

/// The parts of a file that are of no use.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) header: Option<HeaderError>,
    pub(super) malformed: u64,
    pub(super) unfit: u64,
    pub(super) late: u64,
    pub(super) incomplete: bool,
}

impl Faults {
    pub(super) fn reasons(&self, damage: Option<(u64, u64)>) -> Vec<String> {
        let mut reasons: Vec<String> = self.header.iter().map(ToString::to_string).collect();
        if let Some((bytes, at)) = damage {
            reasons.push(format!("{bytes} bytes from byte {at} on are damaged"));
        }
        let counted = [
            (self.malformed, "blocks have another meaning here"),
            (self.unfit, "parts or records do not fit"),
            (self.late, "records come after later ones"),
        ];
        let counted = counted.iter().filter(|(number, _)| *number > 0);
        reasons.extend(counted.map(|(number, what)| format!("{number} of its {what}")));
        if self.incomplete {
            reasons.push("some of its parts are missing".into());
        }
        reasons
    }
}
