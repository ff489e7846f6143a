//! The figures of one lane in one round.

use super::arguments::{Arguments, Rate};
use super::publisher::Sent;
use super::subscriber::Tally;
use crate::bench::report::{Fields, Row};
use crate::bench::stats::Sorted;
use std::time::Duration;

/// Delay of a publication above which the figures are doubtful: the publisher did not keep its
/// rate.
const LATE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Figures {
    /// ns.
    latencies: Sorted,
    pub(super) sent: u64,
    /// Messages times subscribers.
    pub(super) expected: u64,
    pub(super) delivered: u64,
    pub(super) missing: u64,
    pub(super) gaps: u64,
    pub(super) duplicates: u64,
    pub(super) corrupted: u64,
    sessions: u64,
    // From the first message to the last delivery.
    took: Duration,
    late: Duration,
    paced: bool,
    cpu: Option<Duration>,
    load: Option<Duration>,
    waits: u64,
    idle: Option<u64>,
    standing: Option<u64>,
    peak: Option<u64>,
}

/// A number of a lane in a round; `None` if the system does not report it.
pub(super) type Number = fn(&Figures) -> Option<f64>;
pub(super) type Count = fn(&Figures) -> u64;

/// Key and number.
pub(super) const NUMBERS: [(&str, Number); 15] = [
    ("p50_us", |figures| figures.latency(0.5)),
    ("p99_us", |figures| figures.latency(0.99)),
    ("p999_us", |figures| figures.latency(0.999)),
    ("max_us", |figures| figures.latency(1.0)),
    ("deliveries_per_second", |figures| {
        Some(float(figures.delivered) / figures.took.as_secs_f64())
    }),
    ("cpu_us_per_delivery", |figures| per(figures.cpu?, figures.delivered)),
    ("cpu_us_per_message", |figures| per(figures.cpu?, figures.sent)),
    ("deliveries_per_cpu_second", |figures| Some(1e6 / per(figures.cpu?, figures.delivered)?)),
    ("waits_per_message", |figures| Some(float(figures.waits) / float(figures.sent.max(1)))),
    ("load_us_per_delivery", |figures| per(figures.load?, figures.delivered)),
    ("rss_idle_mib", |figures| figures.idle.map(mib)),
    ("rss_sessions_mib", |figures| figures.standing.map(mib)),
    ("rss_peak_mib", |figures| figures.peak.map(mib)),
    ("rss_kib_per_session", |figures| {
        let all = figures.standing?.saturating_sub(figures.idle?);
        Some(float(all) / 1024.0 / float(figures.sessions))
    }),
    ("late_ms", |figures| figures.paced.then_some(figures.late.as_secs_f64() * 1e3)),
];

/// Key and count.
pub(super) const COUNTS: [(&str, Count); 7] = [
    ("sent", |figures| figures.sent),
    ("expected", |figures| figures.expected),
    ("delivered", |figures| figures.delivered),
    ("missing", |figures| figures.missing),
    ("gaps", |figures| figures.gaps),
    ("duplicates", |figures| figures.duplicates),
    ("corrupted", |figures| figures.corrupted),
];

/// Returns the number with this key.
pub(super) fn number(key: &str) -> Number {
    NUMBERS.iter().find(|(name, _)| *name == key).map_or(|_| None, |(_, number)| *number)
}

impl Figures {
    pub(super) fn new(arguments: &Arguments, tallies: Vec<Tally>, sent: Sent, begun: u64) -> Self {
        let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
        let last = tallies.iter().map(|one| one.last).max().unwrap_or(begun);
        let missing = tallies.iter().map(|one| one.account.missing(sent.messages)).sum();
        Self {
            sent: sent.messages,
            expected: sent.messages * tallies.len() as u64,
            delivered: sum(|one| one.account.delivered),
            missing,
            gaps: sum(|one| one.account.gaps),
            duplicates: sum(|one| one.account.duplicates),
            corrupted: sum(|one| one.account.corrupted),
            latencies: Sorted::new(tallies.into_iter().flat_map(|one| one.latencies).collect()),
            sessions: arguments.sessions(),
            took: Duration::from_nanos(last.saturating_sub(begun).max(1)),
            late: sent.late,
            paced: arguments.rate != Rate::Max,
            cpu: None,
            load: None,
            waits: 0,
            idle: None,
            standing: None,
            peak: None,
        }
    }

    /// Adds the CPU time and the waits of the server, from before the first message to after the
    /// last.
    pub(super) fn cost(self, cpu: Option<Duration>, waits: u64) -> Self {
        Self { cpu, waits, ..self }
    }

    /// Adds the CPU time of this process over the same interval.
    pub(super) fn load(self, load: Option<Duration>) -> Self {
        Self { load, ..self }
    }

    /// Adds the memory of the server: without sessions, with them, and its peak. Bytes.
    pub(super) fn memory(
        self,
        idle: Option<u64>,
        standing: Option<u64>,
        peak: Option<u64>,
    ) -> Self {
        Self { idle, standing, peak, ..self }
    }

    /// µs.
    fn latency(&self, share: f64) -> Option<f64> {
        self.latencies.percentile(share).map(|ns| float(ns) / 1e3)
    }

    /// The reason to doubt the figures, if the machine was too slow.
    pub(super) fn doubt(&self) -> Option<String> {
        (self.paced && self.late > LATE).then(|| {
            let late = self.late.as_millis();
            format!("a message was sent {late} ms late: this machine is busy, or it is too much")
        })
    }
}

impl Row for Figures {
    fn latencies(&self) -> &Sorted {
        &self.latencies
    }

    fn faults(&self) -> [u64; 3] {
        [self.missing, self.duplicates, self.corrupted]
    }

    fn describe(&self, fields: &mut Fields) {
        for (key, count) in COUNTS {
            fields.insert(key.into(), count(self).into());
        }
        fields.insert("measured".into(), self.latencies.len().into());
        for (key, number) in NUMBERS {
            fields.insert(key.into(), number(self).into());
        }
    }
}

// µs.
fn per(time: Duration, count: u64) -> Option<f64> {
    (count > 0).then(|| time.as_secs_f64() * 1e6 / float(count))
}

fn mib(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}
