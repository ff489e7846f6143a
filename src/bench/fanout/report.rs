//! The tables and the summary of `weir bench fanout`.

use super::arguments::{Arguments, Rate};
use super::figures::{COUNTS, Count, Figures, NUMBERS, Number, number as numbered};
use super::lane::{Lane, Subject};
use crate::bench::report::{Benchmark, Fields, Rounds};
use crate::bench::table::{self, number};
use crate::bench::units::show;
use serde_json::{Value, json};

/// The lanes that the others are compared with, on as many cores, in the same round.
const YARDSTICKS: [Subject; 3] =
    [Subject::WEBSOCKET, Subject::Nats { tls: false }, Subject::Nats { tls: true }];

/// Key, heading, digits.
type Column = (&'static str, &'static str, usize);

const LATENCY: [Column; 4] =
    [("p50_us", "p50", 0), ("p99_us", "p99", 0), ("p999_us", "p99.9", 0), ("max_us", "max", 0)];

const COST: [Column; 9] = [
    ("deliveries_per_second", "deliv./s", 0),
    ("deliveries_per_cpu_second", "deliv./CPU s", 0),
    ("cpu_us_per_delivery", "CPU µs/deliv.", 2),
    ("cpu_us_per_message", "CPU µs/msg", 0),
    ("waits_per_message", "waits/msg", 1),
    ("rss_idle_mib", "RSS idle", 1),
    ("rss_sessions_mib", "with sessions", 1),
    ("rss_peak_mib", "peak MiB", 1),
    ("load_us_per_delivery", "load µs/deliv.", 2),
];

const RATIOS: [Column; 6] = [
    ("p50_us", "p50 ×", 2),
    ("p99_us", "p99 ×", 2),
    ("p999_us", "p99.9 ×", 2),
    ("cpu_us_per_delivery", "CPU ×", 2),
    ("deliveries_per_second", "deliv./s ×", 2),
    ("rss_peak_mib", "peak RSS ×", 2),
];

/// A benchmark of these lanes.
pub(super) struct Fanout<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) lanes: Vec<Lane>,
}

impl Fanout<'_> {
    /// The yardsticks of a lane, if it is one of Weir's.
    fn yardsticks(&self, place: usize) -> impl Iterator<Item = (usize, &Lane)> {
        let lane = self.lanes[place];
        let is = move |other: &Lane| {
            let weir = matches!(lane.subject, Subject::Weir(..));
            weir && other.cores == lane.cores
                && *other != lane
                && YARDSTICKS.contains(&other.subject)
        };
        self.lanes.iter().enumerate().filter(move |(_, other)| is(other))
    }
}

impl Benchmark for Fanout<'_> {
    type Row = Figures;

    const ROUND: &'static str = "round";
    const LANES: &'static str = "lanes";
    const UNIT: &'static str = "µs";

    fn lanes(&self) -> Vec<String> {
        self.lanes.iter().map(Lane::to_string).collect()
    }

    fn is_yardstick(&self, lane: usize) -> bool {
        YARDSTICKS.contains(&self.lanes[lane].subject)
    }

    fn title(&self) -> String {
        let Arguments { size, duration, rounds, .. } = self.arguments;
        let (from, to) = (self.arguments.senders(), self.arguments.subscribers);
        let rate = match self.arguments.rate {
            Rate::Hz(hz) => format!("{hz} Hz each"),
            Rate::Max => format!("as fast as it goes, window {}", self.arguments.window),
        };
        let who =
            if self.arguments.chat { format!("chat of {to}") } else { format!("{from} → {to}") };
        format!("loopback, {who}, {rate}, {} B, {} × {rounds}", size.0, show(*duration))
    }

    fn conditions(&self) -> Value {
        let arguments = self.arguments;
        let hz = match arguments.rate {
            Rate::Hz(hz) => Some(hz),
            Rate::Max => None,
        };
        json!({
            "text": self.title(), "publishers": arguments.senders(),
            "subscribers": arguments.subscribers, "chat": arguments.chat, "hz": hz,
            "window": arguments.window, "size": arguments.size.0,
            "duration_s": arguments.duration.as_secs_f64(), "rounds": arguments.rounds,
        })
    }

    fn describe(&self, lane: usize, fields: &mut Fields) {
        let lane = self.lanes[lane];
        let (transport, mode) = match lane.subject {
            Subject::Weir(transport, mode) => {
                (transport.to_string(), format!("{mode:?}").to_lowercase())
            }
            Subject::Nats { tls } => (if tls { "nats-tls" } else { "nats" }.into(), "nats".into()),
        };
        fields.insert("lane".into(), lane.to_string().into());
        fields.insert("transport".into(), transport.into());
        fields.insert("mode".into(), mode.into());
        fields.insert("cores".into(), lane.cores.into());
    }

    fn summarise(&self, lane: usize, rounds: &Rounds<Figures>, fields: &mut Fields) {
        fields.insert("rounds".into(), rounds.done(lane).count().into());
        for (key, of) in COUNTS {
            fields.insert(key.into(), rounds.sum(lane, of).into());
        }
        for (key, of) in NUMBERS {
            fields.insert(key.into(), rounds.median(lane, of).into());
        }
        let ratios = self.yardsticks(lane).map(|(by, yardstick)| {
            let of =
                |(key, of): &(&str, Number)| ((*key).to_owned(), rounds.ratio(lane, by, of).into());
            let ratios = NUMBERS.iter().map(of).collect();
            (yardstick.subject.to_string(), Value::Object(ratios))
        });
        fields.insert("ratios".into(), Value::Object(ratios.collect()));
    }

    fn tables(&self, rounds: &Rounds<Figures>) -> anyhow::Result<()> {
        let headings = |columns: &'static [Column]| columns.iter().map(|(_, heading, _)| *heading);
        let header = ["lane", "delivered", "of", "gaps", "dup", "bad"].into_iter();
        let mut latency = table::new(1, &header.chain(headings(&LATENCY)).collect::<Vec<_>>());
        let header = ["lane"].into_iter().chain(headings(&COST));
        let mut cost = table::new(1, &header.collect::<Vec<_>>());
        let header = ["lane", "by"].into_iter().chain(headings(&RATIOS));
        let mut ratios = table::new(2, &header.collect::<Vec<_>>());
        for (place, lane) in self.lanes.iter().enumerate() {
            if rounds.done(place).next().is_none() {
                continue;
            }
            let medians = |columns: &'static [Column]| {
                let cell = |(key, _, digits): &Column| {
                    number(rounds.median(place, numbered(key)), *digits)
                };
                columns.iter().map(cell).collect::<Vec<_>>()
            };
            let counts: [Count; 5] = [
                |figures| figures.delivered,
                |figures| figures.expected,
                |figures| figures.gaps,
                |figures| figures.duplicates,
                |figures| figures.corrupted,
            ];
            let mut row = vec![lane.to_string()];
            row.extend(counts.map(|of| rounds.sum(place, of).to_string()));
            row.extend(medians(&LATENCY));
            latency.add_row(row);
            cost.add_row([vec![lane.to_string()], medians(&COST)].concat());
            for (by, yardstick) in self.yardsticks(place) {
                let mut row = vec![lane.to_string(), yardstick.subject.to_string()];
                let ratio =
                    |(key, _, digits)| number(rounds.ratio(place, by, numbered(key)), digits);
                row.extend(RATIOS.map(ratio));
                ratios.add_row(row);
            }
        }
        let title = self.title();
        let waiting = match self.arguments.rate {
            Rate::Hz(_) => "",
            Rate::Max => ", most of it waiting behind the window",
        };
        let title = format!("{title}; latency in µs, median over the rounds{waiting}");
        if latency.row_count() == 0 {
            return Ok(());
        }
        table::print(&title, &latency)?;
        let title = "CPU time and memory of the server's process; load: CPU time of this one, with \
                     which it shares the machine; medians over the rounds";
        table::print(title, &cost)?;
        if ratios.row_count() > 0 {
            table::print("Ratios within a round, median over the rounds", &ratios)?;
        }
        Ok(())
    }
}
