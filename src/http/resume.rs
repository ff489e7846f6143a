//! Where a stream of events begins, and the ids by which it is resumed.

use super::Problem;
use crate::wire::{Filter, Position, Resume, Start};
use std::fmt;
use std::str::FromStr;

/// The id of an event, `RUN-POSITION`, or `RUN-POSITION-EPOCH-SEQUENCE` where the filter is one
/// topic: everything up to here has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventId {
    pub(super) since: Position,
    // Epoch and sequence of the one topic.
    pub(super) topic: Option<(u64, u64)>,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.since.run, self.since.position)?;
        match self.topic {
            Some((epoch, sequence)) => write!(f, "-{epoch}-{sequence}"),
            None => Ok(()),
        }
    }
}

impl FromStr for EventId {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let bad = || {
            Problem::bad_request(format!(
                "{text:?} is no id of an event here: send back the last one as it came, or none"
            ))
        };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits)
        };
        let numbers: Option<Vec<u64>> = text.splitn(5, '-').map(number).collect();
        let (run, position, topic) = match numbers.as_deref() {
            Some([run, position]) => (*run, *position, None),
            Some([run, position, epoch, sequence]) => (*run, *position, Some((*epoch, *sequence))),
            _ => return Err(bad()),
        };
        Ok(Self { since: Position { run, position }, topic })
    }
}

impl EventId {
    /// Goes on after the event.
    pub(super) fn start<'a>(&self, filter: &'a Filter) -> Start<'a> {
        let topics = match self.topic.filter(|_| filter.is_exact()) {
            Some((epoch, sequence)) => {
                let next = sequence.saturating_add(1);
                vec![Resume { topic: filter.as_str(), epoch, next }]
            }
            None => Vec::new(),
        };
        Start::Resume { since: self.since, topics }
    }
}

/// `from`: where to begin without an id.
pub(super) fn from(text: &str) -> Result<Start<'static>, Problem> {
    let number = |text: &str| text.parse().ok();
    match text {
        "new" => Some(Start::New),
        "latest" => Some(Start::Latest),
        "all" => Some(Start::All),
        _ => match text.strip_prefix("last:") {
            Some(n) => number(n).map(Start::Last),
            None => number(text).map(Start::Sequence),
        },
    }
    .ok_or_else(|| {
        Problem::bad_request(format!(
            "from is one of new, latest, all, last:N, or a sequence, not {text:?}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_nothing_else_is_one() {
        for text in ["1-2", "1-2-3-4", "18446744073709551615-0", "0-0-0-0"] {
            assert_eq!(text.parse::<EventId>().unwrap().to_string(), text);
        }
        for bad in ["", "1", "1-2-3", "1-2-3-4-5", "a-b", "+1-2", "-1-2", "1--2", " 1-2"] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
        assert!("18446744073709551616-0".parse::<EventId>().is_err());
    }

    #[test]
    fn starts_are_written_as_on_the_command_line() {
        assert_eq!(from("last:3"), Ok(Start::Last(3)));
        assert_eq!(from("42"), Ok(Start::Sequence(42)));
        for bad in ["", "last:", "last:x", "-1", "New"] {
            assert!(from(bad).is_err(), "{bad}");
        }
    }
}
