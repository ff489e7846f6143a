//! The report of `weir bench idle`: a table, or an object for each transport.

use super::arguments::Arguments;
use crate::Transport;
use crate::bench::report::{self, Fields};
use crate::bench::stats::Sorted;
use crate::bench::table::{self, number};
use crate::bench::units::show;
use std::time::Duration;

/// The figures of one transport.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) transport: Transport,
    pub(super) sessions: u64,
    /// Time from the first handshake to the end of the last.
    pub(super) opening: Duration,
    pub(super) opening_cpu: Option<Duration>,
    /// Memory of the daemon, bytes: without sessions, with all of them, after they were idle, and
    /// its peak.
    pub(super) empty: Option<u64>,
    pub(super) opened: Option<u64>,
    pub(super) idled: Option<u64>,
    pub(super) peak: Option<u64>,
    pub(super) idle: Duration,
    pub(super) idle_cpu: Option<Duration>,
    pub(super) waits: u64,
    /// Times of scrapes of the metrics, ns.
    pub(super) scrapes: Sorted,
    /// Time to each session's answer after all were pinged at once, ns.
    pub(super) answers: Sorted,
    /// Errors of the sessions without an answer.
    pub(super) lost: Vec<String>,
}

type Number = fn(&Figures) -> Option<f64>;

/// Key, heading, digits.
const NUMBERS: [(&str, &str, usize, Number); 15] = [
    ("opened_per_second", "opened/s", 0, |figures| {
        Some(float(figures.sessions) / figures.opening.as_secs_f64())
    }),
    ("opening_cpu_us_per_session", "CPU µs each", 0, |figures| {
        Some(figures.opening_cpu?.as_secs_f64() * 1e6 / float(figures.sessions))
    }),
    ("rss_empty_mib", "RSS without", 1, |figures| figures.empty.map(mib)),
    ("rss_sessions_mib", "with", 1, |figures| figures.opened.map(mib)),
    ("rss_idle_mib", "after idling", 1, |figures| figures.idled.map(mib)),
    ("rss_peak_mib", "peak MiB", 1, |figures| figures.peak.map(mib)),
    ("rss_kib_per_session", "KiB/session", 1, |figures| {
        let all = figures.idled?.saturating_sub(figures.empty?);
        Some(float(all) / 1024.0 / float(figures.sessions))
    }),
    ("idle_cpu_percent", "idle CPU %", 2, |figures| {
        Some(figures.idle_cpu?.as_secs_f64() * 100.0 / figures.idle.as_secs_f64())
    }),
    ("idle_cpu_us_per_session_second", "µs/session/s", 2, |figures| {
        let each = figures.idle_cpu?.as_secs_f64() * 1e6 / float(figures.sessions);
        Some(each / figures.idle.as_secs_f64())
    }),
    ("idle_waits_per_second", "waits/s", 0, |figures| {
        Some(float(figures.waits) / figures.idle.as_secs_f64())
    }),
    ("scrape_p50_ms", "scrape p50", 2, |figures| ms(&figures.scrapes, 0.5)),
    ("scrape_max_ms", "max ms", 2, |figures| ms(&figures.scrapes, 1.0)),
    ("served_p50_ms", "served p50", 1, |figures| figures.served(0.5)),
    ("served_p99_ms", "p99", 1, |figures| figures.served(0.99)),
    ("served_max_ms", "all, ms", 1, |figures| figures.served(1.0)),
];

impl Figures {
    fn served(&self, share: f64) -> Option<f64> {
        ms(&self.answers, share)
    }

    fn served_of(&self) -> String {
        format!("{}/{}", self.answers.len(), self.sessions)
    }
}

pub(super) struct Report<'a> {
    arguments: &'a Arguments,
    all: Vec<Figures>,
}

impl<'a> Report<'a> {
    pub(super) fn new(arguments: &'a Arguments) -> Self {
        Self { arguments, all: Vec::new() }
    }

    /// Takes the figures of the next transport.
    pub(super) fn add(&mut self, figures: Figures) -> anyhow::Result<()> {
        if self.arguments.json {
            let mut fields = Fields::new();
            fields.insert("event".into(), "idle".into());
            fields.insert("transport".into(), figures.transport.to_string().into());
            fields.insert("subscribed".into(), self.arguments.subscribe.into());
            fields.insert("sessions".into(), figures.sessions.into());
            fields.insert("served".into(), figures.answers.len().into());
            fields.insert("idle_s".into(), figures.idle.as_secs_f64().into());
            for (key, _, _, of) in NUMBERS {
                fields.insert(key.into(), of(&figures).into());
            }
            report::print(&fields.into())?;
        }
        self.all.push(figures);
        Ok(())
    }

    /// Prints the table. Fails if a session was not served.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        let Arguments { sessions, duration, subscribe, .. } = self.arguments;
        if !self.arguments.json {
            let header = ["transport"].into_iter().chain(NUMBERS.map(|(_, heading, ..)| heading));
            let mut table = table::new(1, &header.chain(["served"]).collect::<Vec<_>>());
            for figures in &self.all {
                let mut row = vec![figures.transport.to_string()];
                row.extend(NUMBERS.map(|(_, _, digits, of)| number(of(figures), digits)));
                row.push(figures.served_of());
                table.add_row(row);
            }
            let with = if *subscribe { ", a subscription each" } else { "" };
            let idle = show(*duration);
            let title = format!("loopback, {sessions} sessions{with}, idle for {idle}");
            table::print(&title, &table)?;
        }
        let lost = self.all.iter().filter_map(|figures| {
            let why = figures.lost.first()?;
            Some(format!("{}: {} served, {why}", figures.transport, figures.served_of()))
        });
        report::fail(lost)
    }
}

fn ms(times: &Sorted, share: f64) -> Option<f64> {
    times.percentile(share).map(|ns| float(ns) / 1e6)
}

fn mib(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_by_session() {
        let figures = Figures {
            transport: Transport::Quic,
            sessions: 100,
            opening: Duration::from_secs(2),
            opening_cpu: Some(Duration::from_millis(50)),
            empty: Some(10 << 20),
            opened: Some(12 << 20),
            idled: Some(15 << 20),
            peak: None,
            idle: Duration::from_secs(10),
            idle_cpu: Some(Duration::from_millis(500)),
            waits: 20,
            scrapes: Sorted::new(vec![500_000; 3]),
            answers: Sorted::new(vec![1_000_000; 99]),
            lost: vec!["no answer".into()],
        };
        let expected = [
            ("opened_per_second", Some(50.0)),
            ("opening_cpu_us_per_session", Some(500.0)),
            ("rss_peak_mib", None),
            ("rss_kib_per_session", Some(51.2)),
            ("idle_cpu_percent", Some(5.0)),
            ("idle_cpu_us_per_session_second", Some(500.0)),
            ("idle_waits_per_second", Some(2.0)),
            ("scrape_p50_ms", Some(0.5)),
            ("served_max_ms", Some(1.0)),
        ];
        for (key, value) in expected {
            let of = NUMBERS.iter().find(|(name, ..)| *name == key).unwrap().3;
            let found = of(&figures);
            let same = found.zip(value).map_or(found == value, |(a, b)| (a - b).abs() < 1e-9);
            assert!(same, "{key}: {found:?}");
        }
        assert_eq!(figures.served_of(), "99/100");
    }
}
