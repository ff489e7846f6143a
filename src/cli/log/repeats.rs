//! A limit of repeats: peers can cause many warnings, and the log may be on the disk that is full.
//!
//! Records of one place in the code count together. So the memory of it is bounded by the code, and not
//! by what peers send.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The time for which records are counted, one minute.
const MINUTE: Duration = Duration::from_secs(60);

/// Maximum number of warnings and errors of one place in a minute, 20: enough to see who causes them.
const WARNINGS: u64 = 20;

/// Maximum number of other records of one place in a minute, 6,000. A session that ends is one, and a
/// peer can open and end a hundred in a second.
const OTHERS: u64 = 6_000;

/// Maximum number of characters of a message that is told with the number left out.
const SHOWN: usize = 120;

/// The records of one place since it began.
struct Place {
    began: Instant,
    count: u64,
    left_out: u64,
    // Of the first record that was left out.
    message: String,
}

/// The places that have logged.
#[derive(Default)]
pub(super) struct Repeats(Mutex<HashMap<Identifier, Place>>);

/// The layer that leaves out what is too much.
pub(super) struct Limit(pub(super) Arc<Repeats>);

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let most = match *metadata.level() {
            Level::ERROR | Level::WARN => WARNINGS,
            Level::INFO => OTHERS,
            // They are logged only on demand, and then all of them.
            _ => return true,
        };
        let message = || {
            let mut message = Message(String::new());
            event.record(&mut message);
            message.0.chars().take(SHOWN).collect()
        };
        self.0.count(metadata.callsite(), most, Instant::now(), message)
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Repeats {
    // Counts a record. Returns whether it is logged.
    fn count(
        &self,
        of: Identifier,
        most: u64,
        now: Instant,
        message: impl FnOnce() -> String,
    ) -> bool {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Place { began: now, count: 0, left_out: 0, message: String::new() };
        let place = places.entry(of).or_insert_with(new);
        if now.duration_since(place.began) >= MINUTE {
            (place.began, place.count) = (now, 0);
        }
        place.count += 1;
        if place.count <= most {
            return true;
        }
        if place.left_out == 0 {
            place.message = message();
        }
        place.left_out += 1;
        false
    }

    // Takes the number that was left out at each place, with a message of it, once the minute is over.
    fn take(&self, now: Instant, ends: bool) -> Vec<(u64, String)> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |place: &&mut Place| {
            place.left_out > 0 && (ends || now.duration_since(place.began) >= MINUTE)
        };
        let due = places.values_mut().filter(over);
        let take = |place: &mut Place| {
            (std::mem::take(&mut place.left_out), std::mem::take(&mut place.message))
        };
        due.map(take).collect()
    }

    /// Logs how many records were left out.
    pub(super) fn tell(&self, ends: bool) {
        // Without the lock, because these are records too.
        for (left_out, like) in self.take(Instant::now(), ends) {
            tracing::warn!(
                left_out,
                like,
                "more records of one kind in a minute than the log takes"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_warning_stands_in_the_log_twenty_times_and_then_as_a_number() {
        let (lines, repeats) = (Lines::default(), Arc::new(Repeats::default()));
        let writer = lines.clone();
        let output = tracing_subscriber::fmt::layer().with_ansi(false);
        let output = output.with_writer(move || writer.clone());
        let layers = tracing_subscriber::registry().with(Limit(repeats.clone())).with(output);
        tracing::subscriber::with_default(layers, || {
            for peer in 0..120 {
                tracing::warn!(peer, "a peer does it again");
            }
            tracing::warn!("another warning");
            repeats.tell(false);
            repeats.tell(true);
            repeats.tell(true);
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("a peer does it again peer=").count(), 20, "{text}");
        assert_eq!(text.matches("another warning").count(), 1, "{text}");
        let sums: Vec<_> = text.lines().filter(|line| line.contains("left_out=")).collect();
        assert!(sums.len() == 1 && sums[0].contains("left_out=100"), "{text}");
        assert!(sums[0].contains("like=\"a peer does it again\""), "{text}");
    }

    #[test]
    fn after_a_minute_a_place_may_log_again_and_what_was_left_out_is_told_once() {
        struct Callsite;
        impl tracing::Callsite for Callsite {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                unimplemented!("it only has a name")
            }
        }
        static CALLSITE: Callsite = Callsite;
        let (repeats, begun) = (Repeats::default(), Instant::now());
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let log = |seconds| {
            repeats.count(Identifier(&CALLSITE), 2, at(seconds), || format!("at {seconds}"))
        };
        assert!(log(0) && log(1) && !log(2) && !log(59));
        assert_eq!(repeats.take(at(59), false), []);
        assert!(log(60) && log(61) && !log(62));
        assert_eq!(repeats.take(at(119), false), []);
        assert_eq!(repeats.take(at(120), false), [(3, "at 2".into())]);
        assert_eq!(repeats.take(at(500), true), []);
    }
}
