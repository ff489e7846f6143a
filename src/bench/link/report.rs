//! What the runs say: an object for each mode of each run, tables, a plot, and whether every
//! message was accounted for.

use super::figures::{Conditions, Figures};
use super::lane::Outcome;
use super::{Arguments, Mode};
use crate::bench::plot::{self, Line};
use crate::bench::stats::{Sorted, median};
use crate::bench::table::{self, number};
use crate::console::output::Output;
use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

/// What the others are measured by.
const YARDSTICKS: [Mode; 2] = [Mode::WebsocketCubic, Mode::WebsocketBbr];

type Number = fn(&Figures) -> Option<f64>;
type Count = fn(&Figures) -> Option<u64>;

/// Ratios that are formed within a run; their median over the runs is shown.
const RATIOS: [(&str, Number); 4] = [
    ("p50", |figures| figures.latency(0.5)),
    ("p99", |figures| figures.latency(0.99)),
    ("p99.9", |figures| figures.latency(0.999)),
    ("bytes", |figures| Some(figures.bytes_per_message())),
];

/// Medians over the runs: key of the summary, heading, digits.
const MEDIANS: [(&str, &str, usize, Number); 7] = [
    ("p50_ms", "p50", 1, |figures| figures.latency(0.5)),
    ("p95_ms", "p95", 1, |figures| figures.latency(0.95)),
    ("p99_ms", "p99", 1, |figures| figures.latency(0.99)),
    ("p999_ms", "p99.9", 1, |figures| figures.latency(0.999)),
    ("max_ms", "max", 1, |figures| figures.latency(1.0)),
    ("bytes_per_message", "B/msg", 0, |figures| Some(figures.bytes_per_message())),
    ("cpu_us_per_message", "CPU µs/msg", 0, Figures::cpu_per_message),
];

/// Sums over the runs: key, heading.
const SUMS: [(&str, &str, Count); 6] = [
    ("missing", "lost", |figures| Some(figures.missing)),
    ("gaps", "gaps", |figures| Some(figures.gaps)),
    ("duplicates", "dup", |figures| Some(figures.duplicates)),
    ("corrupted", "bad", |figures| Some(figures.corrupted)),
    ("repeated", "repeated", |figures| figures.repeated),
    ("repaired", "repaired", |figures| figures.repaired),
];

enum Row {
    Done(Box<Figures>),
    Refused(String),
    Failed(String),
}

/// All runs so far.
pub(super) struct Report<'a> {
    arguments: &'a Arguments,
    output: Output,
    // By run, in the order of the modes.
    runs: Vec<Vec<Row>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(arguments: &'a Arguments) -> Self {
        Self { arguments, output: Output::new(arguments.json), runs: Vec::new() }
    }

    /// Takes the outcomes of a run, in the order of the modes.
    pub(super) fn add(&mut self, run: u64, outcomes: Vec<(Mode, Outcome)>) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for (mode, outcome) in outcomes {
            let mut value = json!({ "event": "run", "run": run, "mode": mode.name() });
            let row = match outcome {
                Outcome::Refused(why) => {
                    value["refused"] = why.clone().into();
                    Row::Refused(why)
                }
                Outcome::Failed(why) => {
                    value["failed"] = why.clone().into();
                    Row::Failed(why)
                }
                Outcome::Done(measured) => {
                    let figures = Figures::new(self.arguments, &measured);
                    figures.describe(&mut value);
                    if let Some(doubt) = figures.doubt() {
                        tracing::warn!("{mode}, run {run}: {doubt}");
                    }
                    Row::Done(Box::new(figures))
                }
            };
            if self.arguments.json {
                Output::print(self.output.value(&value, ""))?;
            }
            rows.push(row);
        }
        self.runs.push(rows);
        Ok(())
    }

    /// Says what there is to say, and whether it is bad.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        if self.arguments.json {
            Output::print(self.output.value(&self.summary(), ""))?;
        } else {
            self.tables()?;
        }
        if let Some(path) = &self.arguments.svg {
            let lines: Vec<_> = self
                .modes()
                .map(|(place, mode)| Line {
                    name: mode.name(),
                    sorted: Sorted::merge(self.done(place).map(Figures::all)),
                    yardstick: YARDSTICKS.contains(&mode),
                })
                .collect();
            if let Some(svg) = plot::svg(&Conditions(self.arguments).to_string(), "ms", &lines) {
                std::fs::write(path, svg).with_context(|| path.display().to_string())?;
            }
        }
        let faults: Vec<_> =
            self.modes().filter_map(|(place, mode)| self.fault(place, mode)).collect();
        if !faults.is_empty() {
            bail!("{}", faults.join("; "));
        }
        Ok(())
    }

    fn modes(&self) -> impl Iterator<Item = (usize, Mode)> {
        self.arguments.modes.iter().copied().enumerate()
    }

    fn done(&self, place: usize) -> impl Iterator<Item = &Figures> {
        self.runs.iter().filter_map(move |rows| match &rows[place] {
            Row::Done(figures) => Some(&**figures),
            _ => None,
        })
    }

    fn median(&self, place: usize, of: Number) -> Option<f64> {
        median(self.done(place).filter_map(of))
    }

    // None if no run says.
    fn sum(&self, place: usize, of: Count) -> Option<u64> {
        self.done(place).filter_map(of).fold(None, |sum, one| Some(sum.unwrap_or(0) + one))
    }

    fn ratio(&self, place: usize, by: Mode, of: Number) -> Option<f64> {
        let (yardstick, _) = self.modes().find(|(_, mode)| *mode == by)?;
        let ratios = self.runs.iter().filter_map(|rows| match (&rows[place], &rows[yardstick]) {
            (Row::Done(one), Row::Done(by)) => Some(of(one)? / of(by)?),
            _ => None,
        });
        median(ratios)
    }

    fn fault(&self, place: usize, mode: Mode) -> Option<String> {
        for rows in &self.runs {
            if let Row::Failed(why) = &rows[place] {
                return Some(format!("{mode} failed: {why}"));
            }
        }
        let sum = |of: fn(&Figures) -> u64| self.done(place).map(of).sum::<u64>();
        let counts = [
            (sum(|figures| figures.missing), "lost and not told"),
            (sum(|figures| figures.duplicates), "twice"),
            (sum(|figures| figures.corrupted), "corrupted"),
        ];
        let wrong: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!wrong.is_empty()).then(|| format!("{mode}: {}", wrong.join(", ")))
    }

    fn why_not(&self, place: usize) -> Option<String> {
        self.runs.iter().find_map(|rows| match &rows[place] {
            Row::Refused(why) => Some(format!("refused: {why}")),
            Row::Failed(why) => Some(format!("failed: {why}")),
            Row::Done(_) => None,
        })
    }

    fn tables(&self) -> anyhow::Result<()> {
        let mut header = vec!["mode", "delivered"];
        header.extend(MEDIANS.iter().map(|(_, heading, ..)| *heading));
        header.extend(SUMS.iter().map(|(_, heading, _)| *heading));
        let mut main = table::new(1, &header);
        let mut ratios = table::new(2, &["mode", "by", "p50 ×", "p99 ×", "p99.9 ×", "bytes ×"]);
        let mut notes = Vec::new();
        for (place, mode) in self.modes() {
            notes.extend(self.why_not(place).map(|why| format!("{mode} {why}")));
            if self.done(place).next().is_none() {
                continue;
            }
            let (delivered, sent) = self.done(place).fold((0, 0), |(delivered, sent), figures| {
                (delivered + figures.delivered, sent + figures.sent)
            });
            let mut row = vec![mode.name().to_owned(), format!("{delivered}/{sent}")];
            row.extend(
                MEDIANS.iter().map(|(_, _, digits, of)| number(self.median(place, *of), *digits)),
            );
            row.extend(SUMS.iter().map(|(_, _, of)| {
                self.sum(place, *of).map_or_else(|| "–".into(), |sum| sum.to_string())
            }));
            main.add_row(row);
            for by in YARDSTICKS.into_iter().filter(|by| *by != mode) {
                let columns = RATIOS.map(|(_, of)| self.ratio(place, by, of));
                if columns.iter().any(Option::is_some) {
                    let mut row = vec![mode.name().to_owned(), by.name().to_owned()];
                    row.extend(columns.map(|ratio| number(ratio, 2)));
                    ratios.add_row(row);
                }
            }
            notes.extend(self.done(place).enumerate().filter_map(|(run, figures)| {
                figures.note().map(|note| format!("{mode}, run {}: {note}", run + 1))
            }));
        }
        let title = Conditions(self.arguments).to_string();
        if main.row_count() > 0 {
            table::print(&format!("{title}; latency in ms, median over the runs"), &main)?;
        }
        if ratios.row_count() > 0 {
            table::print("Ratios within a run, median over the runs", &ratios)?;
        }
        for note in notes {
            Output::print(self.output.value(&Value::Null, &note))?;
        }
        Ok(())
    }

    fn summary(&self) -> Value {
        let mut modes = Vec::new();
        for (place, mode) in self.modes() {
            let mut value = Map::new();
            value.insert("mode".into(), mode.name().into());
            if let Some(why) = self.why_not(place) {
                value.insert("why_not".into(), why.into());
            }
            value.insert("runs".into(), self.done(place).count().into());
            for (key, _, _, of) in MEDIANS {
                value.insert(key.into(), self.median(place, of).into());
            }
            for (key, _, of) in SUMS {
                value.insert(key.into(), self.sum(place, of).into());
            }
            let mut ratios = Map::new();
            for by in YARDSTICKS.into_iter().filter(|by| *by != mode) {
                let columns = RATIOS.map(|(key, of)| (key.to_owned(), self.ratio(place, by, of)));
                if columns.iter().any(|(_, ratio)| ratio.is_some()) {
                    let columns = columns.into_iter().map(|(key, ratio)| (key, ratio.into()));
                    ratios.insert(by.name().into(), Value::Object(columns.collect()));
                }
            }
            value.insert("ratios".into(), ratios.into());
            modes.push(Value::Object(value));
        }
        json!({
            "event": "summary", "conditions": Conditions(self.arguments).to_json(), "modes": modes,
        })
    }
}
