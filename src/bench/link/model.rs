//! The model of a link: it loses a packet, drops it because the queue is full, or delivers it at a
//! time. Pure: time is an argument, and chance comes from a seed.

use crate::bench::prng::Random;
use std::time::Duration;

/// The settings of one direction of a link.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::bench) struct Spec {
    /// One-way delay.
    pub(in crate::bench) delay: Duration,
    /// Share of packets that are lost, from 0 to below 1.
    pub(in crate::bench) loss: f64,
    /// Mean number of packets lost in a row. Up to 1, each loss is independent.
    pub(in crate::bench) burst: f64,
    /// Mean length of outages in which everything is lost, in place of `burst`.
    pub(in crate::bench) outage: Option<Duration>,
    /// How long packets are lost, from [`Model::begin`]. `None`: to the end.
    pub(in crate::bench) loss_for: Option<Duration>,
    /// Rate of the bottleneck, bits per second.
    pub(in crate::bench) rate: Option<f64>,
    /// Length of the queue before the bottleneck, in time.
    pub(in crate::bench) queue: Duration,
}

impl Spec {
    /// Whether bursts of this length can make up this share of losses.
    pub(in crate::bench) fn possible(&self) -> bool {
        self.burst <= 1.0 || self.loss / (1.0 - self.loss) <= self.burst
    }
}

/// The fate of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Verdict {
    /// Lost on the way.
    Lost,
    /// The queue was full.
    Overflow,
    /// The packet leaves at this time, which is never before that of an earlier packet.
    Due(Duration),
}

/// The state of one direction.
#[derive(Debug)]
pub(in crate::bench) struct Model {
    spec: Spec,
    random: Random,
    // True during a burst of losses or an outage.
    losing: bool,
    // The time at which the next outage begins or the current one ends.
    change: Option<Duration>,
    began: Option<Duration>,
    // The time at which the bottleneck will have sent everything in its queue.
    free: Duration,
}

impl Model {
    pub(in crate::bench) fn new(spec: Spec, random: Random) -> Self {
        Self { spec, random, losing: false, change: None, began: None, free: Duration::ZERO }
    }

    /// Starts to lose packets. Before this call every packet gets through.
    pub(in crate::bench) fn begin(&mut self, now: Duration) {
        self.began = Some(now);
    }

    /// Decides about the next packet. `now` must not decrease.
    pub(in crate::bench) fn admit(&mut self, now: Duration, bytes: usize) -> Verdict {
        if self.lossy(now) && self.loses(now) {
            return Verdict::Lost;
        }
        let sent = match self.spec.rate {
            None => now,
            Some(rate) => {
                let begin = self.free.max(now);
                if begin.saturating_sub(now) > self.spec.queue {
                    return Verdict::Overflow;
                }
                #[expect(clippy::cast_precision_loss, reason = "a packet is small")]
                let sent = begin + Duration::from_secs_f64(bytes as f64 * 8.0 / rate);
                self.free = sent;
                sent
            }
        };
        Verdict::Due(sent + self.spec.delay)
    }

    fn lossy(&self, now: Duration) -> bool {
        let Some(began) = self.began else { return false };
        self.spec.loss_for.is_none_or(|lasts| now < began + lasts)
    }

    // Gilbert–Elliott: the good state loses nothing, the bad one everything. The bad state is left
    // with probability 1/burst, so bursts have that mean. It is entered with the probability that
    // makes its share of the time the loss.
    fn loses(&mut self, now: Duration) -> bool {
        let Spec { loss, burst, .. } = self.spec;
        if let Some(outage) = self.spec.outage {
            return loss > 0.0 && self.is_out(now, loss, outage.as_secs_f64());
        }
        if burst <= 1.0 {
            return self.random.chance(loss);
        }
        let leave = 1.0 / burst;
        let enter = leave * loss / (1.0 - loss);
        let change = if self.losing { leave } else { enter };
        self.losing ^= self.random.chance(change);
        self.losing
    }

    // The same in time: both states last for exponentially distributed times. `outage` is in seconds.
    fn is_out(&mut self, now: Duration, loss: f64, outage: f64) -> bool {
        let between = outage * (1.0 - loss) / loss;
        let mut change = match self.change {
            Some(change) => change,
            None => now + Duration::from_secs_f64(self.random.wait(between)),
        };
        while change <= now {
            self.losing = !self.losing;
            let mean = if self.losing { outage } else { between };
            // At least 1 ns, so that the loop ends.
            change += Duration::from_secs_f64(self.random.wait(mean)).max(Duration::from_nanos(1));
        }
        self.change = Some(change);
        self.losing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: usize = 250;

    fn spec() -> Spec {
        Spec {
            delay: Duration::from_millis(25),
            loss: 0.01,
            burst: 1.0,
            outage: None,
            loss_for: None,
            rate: None,
            queue: Duration::from_millis(200),
        }
    }

    fn model(spec: Spec, seed: u64) -> Model {
        let mut model = Model::new(spec, Random::new(seed, &[1]));
        model.begin(Duration::ZERO);
        model
    }

    fn losses(spec: Spec, seed: u64, packets: u32) -> Vec<bool> {
        let mut model = model(spec, seed);
        (0..packets)
            .map(|n| model.admit(Duration::from_millis(n.into()), PACKET) == Verdict::Lost)
            .collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn rate_and_burst(losses: &[bool]) -> (f64, f64) {
        let lost = losses.iter().filter(|lost| **lost).count() as f64;
        let bursts = losses.chunk_by(|a, b| a == b).filter(|run| run[0]).count() as f64;
        (lost / losses.len() as f64, lost / bursts)
    }

    #[test]
    fn outages_have_the_requested_length() {
        let outage = Some(Duration::from_millis(30));
        // A packet each millisecond.
        let (rate, mean) =
            rate_and_burst(&losses(Spec { loss: 0.02, outage, ..spec() }, 7, 4_000_000));
        assert!((rate / 0.02 - 1.0).abs() < 0.1, "{rate}");
        assert!((mean / 30.0 - 1.0).abs() < 0.1, "{mean}");
        assert!(losses(Spec { loss: 0.0, outage, ..spec() }, 7, 1000).iter().all(|lost| !lost));
    }

    #[test]
    fn loss_and_bursts_have_the_requested_values() {
        for (loss, burst) in [(0.01, 1.0), (0.03, 1.0), (0.01, 3.0), (0.03, 3.0), (0.3, 1.0)] {
            let (rate, mean) =
                rate_and_burst(&losses(Spec { loss, burst, ..spec() }, 7, 4_000_000));
            assert!((rate / loss - 1.0).abs() < 0.05, "{loss} {burst}: {rate}");
            // Independent losses come in a row by chance.
            let expected = if burst > 1.0 { burst } else { 1.0 / (1.0 - loss) };
            assert!((mean / expected - 1.0).abs() < 0.05, "{loss} {burst}: {mean}");
        }
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(losses(spec(), 1, 10_000), losses(spec(), 1, 10_000));
        assert_ne!(losses(spec(), 1, 10_000), losses(spec(), 2, 10_000));
    }

    #[test]
    fn nothing_is_lost_before_the_beginning_and_after_the_end() {
        let lasts = Duration::from_secs(1);
        let spec = Spec { loss: 0.5, loss_for: Some(lasts), ..spec() };
        let mut model = Model::new(spec, Random::new(1, &[]));
        let lost = |model: &mut Model, ms| {
            let at = Duration::from_millis(ms);
            (0..1000).filter(|_| model.admit(at, PACKET) == Verdict::Lost).count()
        };
        assert_eq!(lost(&mut model, 0), 0);
        model.begin(Duration::from_millis(10));
        assert!(lost(&mut model, 10) > 400);
        assert!(lost(&mut model, 1009) > 400);
        assert_eq!(lost(&mut model, 1010), 0);
    }

    #[test]
    fn the_bottleneck_spaces_packets_and_drops_when_its_queue_is_full() {
        // 250 B at 1 Mbit/s take 2 ms; 200 ms hold a hundred, and one more is being sent.
        let mut model = model(Spec { loss: 0.0, rate: Some(1e6), ..spec() }, 1);
        let now = Duration::from_secs(1);
        for n in 1..=101 {
            let due = now + Duration::from_millis(25 + 2 * n);
            assert_eq!(model.admit(now, PACKET), Verdict::Due(due));
        }
        assert_eq!(model.admit(now, PACKET), Verdict::Overflow);
        let later = now + Duration::from_millis(2);
        let due = now + Duration::from_millis(25 + 2 * 102);
        assert_eq!(model.admit(later, PACKET), Verdict::Due(due));
        assert_eq!(model.admit(later, PACKET), Verdict::Overflow);
    }

    #[test]
    fn without_a_bottleneck_there_is_only_the_delay() {
        let mut model = model(Spec { loss: 0.0, ..spec() }, 1);
        for ms in [0, 0, 1, 7] {
            let now = Duration::from_millis(ms);
            let due = now + Duration::from_millis(25);
            assert_eq!(model.admit(now, 1500), Verdict::Due(due));
        }
    }
}
