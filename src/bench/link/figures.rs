//! The figures of one mode in one run, and the conditions that they were measured under.

use super::arguments::{Arguments, Legs, Quic};
use super::lane::Measured;
use super::plan::WARM_UP;
use super::receiver::{Bulk, Sample};
use crate::bench::report::{Fields, Row};
use crate::bench::stats::Sorted;
use crate::bench::units::show;
use serde_json::{Value, json};
use std::time::Duration;

/// One late packet in this many changes p99.9.
const LATE_OF: u64 = 1000;

/// The figures of one mode in one run.
#[derive(Debug)]
pub(in crate::bench) struct Figures {
    /// Latencies, µs.
    all: Sorted,
    /// Latencies of the messages that were due after the loss ended, with `--loss-until`; µs.
    after_loss: Option<Sorted>,
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) missing: u64,
    pub(super) gaps: u64,
    pub(super) duplicates: u64,
    pub(super) corrupted: u64,
    pub(super) repeated: Option<u64>,
    pub(super) repaired: Option<u64>,
    dropped: u64,
    packets: u64,
    bytes: u64,
    lost: u64,
    overflowed: u64,
    late: u64,
    cpu: Option<Duration>,
    bulk: Option<Bulk>,
}

impl Figures {
    pub(super) fn new(arguments: &Arguments, measured: &Measured) -> Self {
        let Measured { received, sent, carried, cpu, dropped } = measured;
        let end = received.bulk.and_then(|bulk| bulk.arrived).unwrap_or(Duration::MAX);
        let measured = |from: Duration| {
            let of = |sample: &&Sample| sample.due >= from && sample.due <= end;
            let samples = received.samples.iter().filter(of);
            Sorted::new(samples.map(|sample| sample.latency.as_micros() as u64).collect())
        };
        let account = &received.account;
        Self {
            all: measured(WARM_UP),
            after_loss: arguments.loss_until.map(|until| measured(until.max(WARM_UP))),
            sent: *sent,
            delivered: account.delivered,
            missing: account.missing(*sent),
            gaps: account.gaps,
            duplicates: account.duplicates,
            corrupted: account.corrupted,
            repeated: received.repeated,
            repaired: received.repaired,
            dropped: *dropped,
            packets: carried.packets,
            bytes: carried.bytes,
            lost: carried.lost,
            overflowed: carried.overflowed,
            late: carried.late,
            cpu: *cpu,
            bulk: received.bulk,
        }
    }

    /// ms.
    pub(super) fn latency(&self, share: f64) -> Option<f64> {
        at(&self.all, share)
    }

    /// Bytes on the link for each message sent, in both directions together, with IP headers.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(super) fn bytes_per_message(&self) -> f64 {
        self.bytes as f64 / self.sent.max(1) as f64
    }

    /// CPU time of the daemon for each message sent, µs.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(super) fn cpu_per_message(&self) -> Option<f64> {
        Some(self.cpu?.as_micros() as f64 / self.sent.max(1) as f64)
    }

    /// The reason to doubt the figures, if the machine was too slow.
    pub(super) fn doubt(&self) -> Option<String> {
        if self.dropped > 0 {
            let dropped = self.dropped;
            return Some(format!(
                "this machine lost {dropped} packets beside what the link was to lose"
            ));
        }
        (self.late * LATE_OF > self.packets).then(|| {
            let Self { late, packets, .. } = self;
            format!(
                "{late} of {packets} packets left the link more than 1 ms late: this machine is \
                 busy; repeat it when it is not, or as root with `chrt -r 10`"
            )
        })
    }

    /// The figures that have no column in the table.
    pub(super) fn note(&self) -> Option<String> {
        let mut notes = Vec::new();
        if let Some(after) = &self.after_loss {
            let [p50, p99, max] =
                [0.5, 0.99, 1.0].map(|share| at(after, share).unwrap_or(f64::NAN));
            notes.push(format!("after the loss p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms"));
        }
        if let Some(Bulk { delivery, arrived }) = self.bulk {
            let delivery = format!("{delivery:?}").to_lowercase();
            notes.push(match arrived {
                Some(arrived) => {
                    format!("large payload ({delivery}) there after {:.1} s", arrived.as_secs_f64())
                }
                None => format!("large payload ({delivery}) still under way at the end"),
            });
        }
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

impl Row for Figures {
    fn latencies(&self) -> &Sorted {
        &self.all
    }

    fn faults(&self) -> [u64; 3] {
        [self.missing, self.duplicates, self.corrupted]
    }

    fn describe(&self, fields: &mut Fields) {
        let ms = |sorted: &Sorted| {
            json!({
                "measured": sorted.len(),
                "p50_ms": at(sorted, 0.5), "p95_ms": at(sorted, 0.95), "p99_ms": at(sorted, 0.99),
                "p999_ms": at(sorted, 0.999), "max_ms": at(sorted, 1.0),
                "min_ms": at(sorted, 0.0),
            })
        };
        let mut more = json!({
            "sent": self.sent, "delivered": self.delivered, "missing": self.missing,
            "gaps": self.gaps, "duplicates": self.duplicates, "corrupted": self.corrupted,
            "repeated": self.repeated, "repaired": self.repaired,
            "packets": self.packets, "bytes": self.bytes, "packets_lost": self.lost,
            "packets_overflowed": self.overflowed, "packets_late": self.late,
            "packets_dropped_by_machine": self.dropped,
            "bytes_per_message": self.bytes_per_message(),
            "cpu_us_per_message": self.cpu_per_message(),
        });
        if let Some(after) = &self.after_loss {
            more["after_loss"] = ms(after);
        }
        if let Some(Bulk { delivery, arrived }) = self.bulk {
            let arrived = arrived.map(|arrived| arrived.as_secs_f64());
            more["bulk"] =
                json!({ "delivery": format!("{delivery:?}").to_lowercase(), "came_s": arrived });
        }
        for object in [ms(&self.all), more] {
            if let Value::Object(object) = object {
                fields.extend(object);
            }
        }
    }
}

fn at(sorted: &Sorted, share: f64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    sorted.percentile(share).map(|us| us as f64 / 1e3)
}

/// The conditions of a measurement: as text for titles, and as JSON.
pub(super) struct Conditions<'a>(pub(super) &'a Arguments);

impl std::fmt::Display for Conditions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Arguments { delay, loss, burst, hz, size, runs, .. } = self.0;
        write!(f, "{} one way, {} % loss", show(*delay), round(loss * 100.0))?;
        if *burst > 1.0 {
            write!(f, " in bursts of {burst}")?;
        }
        if let Some(outage) = self.0.outage {
            write!(f, " in outages of {}", show(outage))?;
        }
        if let Some(until) = self.0.loss_until {
            write!(f, " for {}", show(until))?;
        }
        if let Some(rate) = self.0.rate.0 {
            write!(f, ", {} Mbit/s with {} of queue", rate / 1e6, show(self.0.queue))?;
        }
        f.write_str(match self.0.legs {
            Legs::Subscriber => " to the subscriber",
            Legs::Both => " on both legs",
        })?;
        write!(f, ", {hz} Hz, {} B", size.0)?;
        if let Some(bulk) = self.0.bulk {
            write!(f, " beside {}", bulk.display().si())?;
        }
        if self.0.transport == Quic::WebTransport {
            f.write_str(", over WebTransport")?;
        }
        write!(f, ", {} × {runs}", show(self.0.duration))
    }
}

impl Conditions<'_> {
    pub(super) fn to_json(&self) -> Value {
        let Arguments { loss, burst, hz, size, runs, seed, .. } = self.0;
        json!({
            "text": self.to_string(),
            "delay_ms": self.0.delay.as_secs_f64() * 1e3,
            "loss": loss, "burst": burst,
            "outage_ms": self.0.outage.map(|outage| outage.as_secs_f64() * 1e3),
            "loss_for_s": self.0.loss_until.map(|until| until.as_secs_f64()),
            "rate_bits": self.0.rate.0, "queue_ms": self.0.queue.as_secs_f64() * 1e3,
            "both_legs": self.0.legs == Legs::Both,
            "hz": hz, "size": size.0, "bulk": self.0.bulk.map(|bulk| bulk.0),
            "duration_s": self.0.duration.as_secs_f64(), "runs": runs, "seed": seed,
        })
    }
}

// Removes the rounding error of binary fractions.
fn round(percent: f64) -> f64 {
    (percent * 1e6).round() / 1e6
}
