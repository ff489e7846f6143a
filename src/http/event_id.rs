//! The ids of events, and where a stream begins.

use super::Problem;
use crate::wire::{Filter, Position, Resume, Start};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The id of an event. The stream has sent everything up to this point.
///
/// It is `RUN-POSITION`, or `RUN-POSITION-EPOCH-SEQUENCE` if the filter is one topic. If the filter
/// has wildcards, up to 32 parts `~TOPIC.SEQUENCE` may follow. Each names a topic by its id; the
/// stream has not sent what the topic has from that sequence on. If more topics were overtaken, it is
/// `RUN-POSITION-FURTHEST` and these parts: the stream has sent messages up to the position `FURTHEST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventId {
    pub(super) since: Position,
    /// The highest position of a message that the stream may have sent. It counts only if it is above
    /// that of `since`.
    pub(super) furthest: u64,
    /// Epoch and sequence, if the filter is one topic.
    pub(super) topic: Option<(u64, u64)>,
    /// Topics whose slowly arriving messages were overtaken, and the next sequence of each.
    pub(super) overtaken: Vec<(u64, u64)>,
}

/// Maximum number of topics that an id names. An id has to be short, because it is a header of a
/// request and a part of every event.
pub(super) const OVERTAKEN: usize = 32;

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.since.run, self.since.position)?;
        if let Some((epoch, sequence)) = self.topic {
            write!(f, "-{epoch}-{sequence}")?;
        } else if self.furthest > self.since.position {
            write!(f, "-{}", self.furthest)?;
        }
        self.overtaken.iter().try_for_each(|(topic, next)| write!(f, "~{topic}.{next}"))
    }
}

impl FromStr for EventId {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let bad = || {
            Problem::bad_request(format!(
                "{text:?} is not the id of an event: send the last id unchanged, or none"
            ))
        };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits)
        };
        let mut parts = text.splitn(OVERTAKEN + 2, '~');
        let numbers = parts.next().unwrap_or_default().splitn(5, '-').map(number);
        let numbers: Option<Vec<u64>> = numbers.collect();
        let (run, position, furthest, topic) = match numbers.as_deref() {
            Some([run, position]) => (*run, *position, 0, None),
            Some([run, position, furthest]) if furthest > position => {
                (*run, *position, *furthest, None)
            }
            Some([run, position, epoch, sequence]) => {
                (*run, *position, 0, Some((*epoch, *sequence)))
            }
            _ => return Err(bad()),
        };
        let overtaken = parts.map(|part| {
            let (topic, next) = part.split_once('.')?;
            Some((number(topic)?, number(next)?))
        });
        let overtaken: Vec<_> = overtaken.collect::<Option<_>>().ok_or_else(bad)?;
        if overtaken.len() > OVERTAKEN {
            return Err(bad());
        }
        Ok(Self { since: Position { run, position }, furthest, topic, overtaken })
    }
}

impl EventId {
    /// Returns the highest position of a message that the stream may have sent.
    pub(super) fn reached(&self) -> u64 {
        self.furthest.max(self.since.position)
    }

    /// Returns the start after this event. `named` are the topics that were overtaken: name, epoch and
    /// next sequence.
    pub(super) fn start<'a>(
        &self,
        filter: &'a Filter,
        named: &'a [(Arc<str>, u64, u64)],
    ) -> Start<'a> {
        let topics = match self.topic.filter(|_| filter.is_exact()) {
            Some((epoch, sequence)) => {
                let next = sequence.saturating_add(1);
                vec![Resume { topic: filter.as_str(), epoch, next }]
            }
            None => {
                let named = named.iter();
                let named =
                    named.map(|(topic, epoch, next)| Resume { topic, epoch: *epoch, next: *next });
                named.collect()
            }
        };
        Start::Resume { since: self.since, topics }
    }
}

/// Parses the parameter `from`: the start of a stream without an id.
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
        for text in [
            "1-2",
            "1-2~7.8~9.1",
            "1-2-3",
            "1-2-3~7.8",
            "1-2-3-4",
            "18446744073709551615-0",
            "0-0-0-0",
        ] {
            assert_eq!(text.parse::<EventId>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "1",
            "1-2-2",
            "1-2-3-4-5",
            "a-b",
            "+1-2",
            "-1-2",
            "1--2",
            " 1-2",
            "1-2~",
            "1-2~3",
            "1-2~3.x",
            "1-2~3.4.5",
        ] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
        let most = |count| format!("1-2{}", "~3.4".repeat(count)).parse::<EventId>();
        assert!(most(OVERTAKEN).is_ok() && most(OVERTAKEN + 1).is_err());
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
