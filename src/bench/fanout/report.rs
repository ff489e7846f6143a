//! What the turns say: an object for each lane of each round, tables, a plot, and whether every
//! message was accounted for.

use super::figures::{COUNTS, Count, Figures, NUMBERS, Number, number as numbered};
use super::{Arguments, Lane, Rate, Subject};
use crate::bench::plot::{self, Line};
use crate::bench::stats::{Sorted, median};
use crate::bench::table::{self, number};
use crate::bench::units::show;
use crate::console::output::Output;
use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

/// What the others are measured by, on as many cores, in the same round.
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

/// A lane in a round.
pub(super) enum Row {
    Done(Box<Figures>),
    Failed(String),
}

impl Row {
    pub(super) fn done(figures: Figures) -> Self {
        Self::Done(Box::new(figures))
    }

    fn figures(&self) -> Option<&Figures> {
        match self {
            Self::Done(figures) => Some(figures),
            Self::Failed(_) => None,
        }
    }
}

/// All rounds so far.
pub(super) struct Report<'a> {
    arguments: &'a Arguments,
    lanes: &'a [Lane],
    output: Output,
    // By round, in the order of the lanes.
    rounds: Vec<Vec<Row>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(arguments: &'a Arguments, lanes: &'a [Lane]) -> Self {
        Self { arguments, lanes, output: Output::new(arguments.json), rounds: Vec::new() }
    }

    pub(super) fn add(&mut self, round: u64, rows: Vec<Row>) -> anyhow::Result<()> {
        for (lane, row) in self.lanes.iter().zip(&rows).filter(|_| self.arguments.json) {
            let mut fields = Map::new();
            fields.insert("event".into(), "round".into());
            fields.insert("round".into(), round.into());
            describe(lane, &mut fields);
            match row {
                Row::Done(figures) => figures.describe(&mut fields),
                Row::Failed(why) => drop(fields.insert("failed".into(), why.clone().into())),
            }
            Output::print(self.output.value(&fields.into(), ""))?;
        }
        self.rounds.push(rows);
        Ok(())
    }

    pub(super) fn finish(&self) -> anyhow::Result<()> {
        if self.arguments.json {
            Output::print(self.output.value(&self.summary(), ""))?;
        } else {
            self.tables()?;
        }
        if let Some(path) = &self.arguments.svg {
            let names: Vec<_> = self.lanes.iter().map(Lane::to_string).collect();
            let line = |(place, name)| {
                let sorted = Sorted::merge(self.done(place).map(|figures| &figures.latencies));
                Line { name, sorted, yardstick: YARDSTICKS.contains(&self.lanes[place].subject) }
            };
            let lines: Vec<_> = names.iter().map(String::as_str).enumerate().map(line).collect();
            if let Some(svg) = plot::svg(&self.conditions(), "µs", &lines) {
                std::fs::write(path, svg).with_context(|| path.display().to_string())?;
            }
        }
        let faults: Vec<_> = (0..self.lanes.len()).filter_map(|place| self.fault(place)).collect();
        if !faults.is_empty() {
            bail!("{}", faults.join("; "));
        }
        Ok(())
    }

    fn done(&self, place: usize) -> impl Iterator<Item = &Figures> {
        self.rounds.iter().filter_map(move |rows| rows.get(place)?.figures())
    }

    fn sum(&self, place: usize, of: Count) -> u64 {
        self.done(place).map(of).sum()
    }

    fn median(&self, place: usize, of: Number) -> Option<f64> {
        median(self.done(place).filter_map(of))
    }

    /// Within each round, then the median over all.
    fn ratio(&self, place: usize, by: usize, of: Number) -> Option<f64> {
        let ratios = self.rounds.iter().filter_map(|rows| {
            Some(of(rows.get(place)?.figures()?)? / of(rows.get(by)?.figures()?)?)
        });
        median(ratios)
    }

    /// Where the yardsticks of a lane are, if it is Weir's.
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

    fn fault(&self, place: usize) -> Option<String> {
        let lane = self.lanes[place];
        let failed = self.rounds.iter().find_map(|rows| match rows.get(place)? {
            Row::Failed(why) => Some(format!("{lane} failed: {why}")),
            Row::Done(_) => None,
        });
        let faults =
            COUNTS.iter().filter_map(|(_, fault, of)| Some((self.sum(place, *of), (*fault)?)));
        let faults = faults.filter(|(count, _)| *count > 0);
        let faults: Vec<_> = faults.map(|(count, fault)| format!("{count} {fault}")).collect();
        failed.or_else(|| (!faults.is_empty()).then(|| format!("{lane}: {}", faults.join(", "))))
    }

    fn conditions(&self) -> String {
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

    fn tables(&self) -> anyhow::Result<()> {
        let headings = |columns: &'static [Column]| columns.iter().map(|(_, heading, _)| *heading);
        let header = ["lane", "delivered", "of", "gaps", "dup", "bad"].into_iter();
        let mut latency = table::new(1, &header.chain(headings(&LATENCY)).collect::<Vec<_>>());
        let header = ["lane"].into_iter().chain(headings(&COST));
        let mut cost = table::new(1, &header.collect::<Vec<_>>());
        let header = ["lane", "by"].into_iter().chain(headings(&RATIOS));
        let mut ratios = table::new(2, &header.collect::<Vec<_>>());
        for (place, lane) in self.lanes.iter().enumerate() {
            if self.done(place).next().is_none() {
                continue;
            }
            let medians = |columns: &'static [Column]| {
                let cell =
                    |(key, _, digits): &Column| number(self.median(place, numbered(key)), *digits);
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
            row.extend(counts.map(|of| self.sum(place, of).to_string()));
            row.extend(medians(&LATENCY));
            latency.add_row(row);
            cost.add_row([vec![lane.to_string()], medians(&COST)].concat());
            for (by, yardstick) in self.yardsticks(place) {
                let mut row = vec![lane.to_string(), yardstick.subject.to_string()];
                row.extend(
                    RATIOS.map(|(key, _, digits)| {
                        number(self.ratio(place, by, numbered(key)), digits)
                    }),
                );
                ratios.add_row(row);
            }
        }
        let title = self.conditions();
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

    fn summary(&self) -> Value {
        let lane = |(place, lane): (usize, &Lane)| {
            let mut fields = Map::new();
            describe(lane, &mut fields);
            fields.insert("rounds".into(), self.done(place).count().into());
            for (key, _, of) in COUNTS {
                fields.insert(key.into(), self.sum(place, of).into());
            }
            for (key, of) in NUMBERS {
                fields.insert(key.into(), self.median(place, of).into());
            }
            let ratios = self.yardsticks(place).map(|(by, yardstick)| {
                let of = |(key, of): &(&str, Number)| {
                    ((*key).to_owned(), self.ratio(place, by, *of).into())
                };
                let ratios = NUMBERS.iter().map(of).collect();
                (yardstick.subject.to_string(), Value::Object(ratios))
            });
            fields.insert("ratios".into(), Value::Object(ratios.collect()));
            Value::Object(fields)
        };
        let lanes: Vec<_> = self.lanes.iter().enumerate().map(lane).collect();
        let arguments = self.arguments;
        let hz = match arguments.rate {
            Rate::Hz(hz) => Some(hz),
            Rate::Max => None,
        };
        json!({
            "event": "summary",
            "conditions": {
                "text": self.conditions(), "publishers": arguments.senders(),
                "subscribers": arguments.subscribers, "chat": arguments.chat, "hz": hz,
                "window": arguments.window, "size": arguments.size.0,
                "duration_s": arguments.duration.as_secs_f64(), "rounds": arguments.rounds,
            },
            "lanes": lanes,
        })
    }
}

fn describe(lane: &Lane, fields: &mut Map<String, Value>) {
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
