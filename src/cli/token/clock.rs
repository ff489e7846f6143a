//! The time, and how it is shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;

/// Microseconds since 1970.
pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    now.as_micros() as u64
}

/// Formats microseconds since 1970 as in RFC 3339, to the second.
pub(super) fn date(at: u64) -> String {
    let seconds = i64::try_from(at / 1_000_000).unwrap_or(i64::MAX);
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => {
            let (date, time) = (at.date(), at.time());
            let month = u8::from(date.month());
            let (hour, minute, second) = time.as_hms();
            let (year, day) = (date.year(), date.day());
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
        }
        Err(_) => "after the year 9999".to_owned(),
    }
}
