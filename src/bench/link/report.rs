//! The tables and the summary of `weir bench link`.

use super::arguments::Arguments;
use super::figures::{Conditions, Figures};
use super::mode::Mode;
use crate::bench::report::{Benchmark, Fields, Outcome, Rounds};
use crate::bench::table::{self, number};
use serde_json::Value;

/// The modes that the others are compared with.
const YARDSTICKS: [Mode; 2] = [Mode::WebsocketCubic, Mode::WebsocketBbr];

type Number = fn(&Figures) -> Option<f64>;
type Count = fn(&Figures) -> Option<u64>;

/// Ratios within a run; the median over the runs is shown.
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

/// The sum over the runs; `None` if no run has the number.
fn sum(rounds: &Rounds<Figures>, lane: usize, of: Count) -> Option<u64> {
    rounds.done(lane).filter_map(of).fold(None, |sum, one| Some(sum.unwrap_or(0) + one))
}

/// The reason why a mode was not measured, of the first run in which it was not.
fn why_not(rounds: &Rounds<Figures>, lane: usize) -> Option<String> {
    rounds.outcomes(lane).find_map(|outcome| match outcome {
        Outcome::Refused(why) => Some(format!("refused: {why}")),
        Outcome::Failed(why) => Some(format!("failed: {why}")),
        Outcome::Done(_) => None,
    })
}

impl Arguments {
    /// The ratios of a mode to each other yardstick that was measured with it.
    fn ratios(&self, rounds: &Rounds<Figures>, lane: usize) -> Vec<(Mode, [Option<f64>; 4])> {
        let others = YARDSTICKS.into_iter().filter(|by| *by != self.modes[lane]);
        let ratios = others.filter_map(|by| {
            let place = self.modes.iter().position(|mode| *mode == by)?;
            let ratios = RATIOS.map(|(_, of)| rounds.ratio(lane, place, of));
            ratios.iter().any(Option::is_some).then_some((by, ratios))
        });
        ratios.collect()
    }
}

impl Benchmark for Arguments {
    type Row = Figures;

    const ROUND: &'static str = "run";
    const LANES: &'static str = "modes";
    const UNIT: &'static str = "ms";

    fn lanes(&self) -> Vec<String> {
        self.modes.iter().map(Mode::to_string).collect()
    }

    fn is_yardstick(&self, lane: usize) -> bool {
        YARDSTICKS.contains(&self.modes[lane])
    }

    fn title(&self) -> String {
        Conditions(self).to_string()
    }

    fn conditions(&self) -> Value {
        Conditions(self).to_json()
    }

    fn describe(&self, lane: usize, fields: &mut Fields) {
        fields.insert("mode".into(), self.modes[lane].name().into());
    }

    fn summarise(&self, lane: usize, rounds: &Rounds<Figures>, fields: &mut Fields) {
        if let Some(why) = why_not(rounds, lane) {
            fields.insert("why_not".into(), why.into());
        }
        fields.insert("runs".into(), rounds.done(lane).count().into());
        for (key, _, _, of) in MEDIANS {
            fields.insert(key.into(), rounds.median(lane, of).into());
        }
        for (key, _, of) in SUMS {
            fields.insert(key.into(), sum(rounds, lane, of).into());
        }
        let ratios = self.ratios(rounds, lane).into_iter().map(|(by, ratios)| {
            let keys = RATIOS.map(|(key, _)| key.to_owned());
            let ratios = keys.into_iter().zip(ratios.map(Value::from));
            (by.name().to_owned(), Value::Object(ratios.collect()))
        });
        fields.insert("ratios".into(), Value::Object(ratios.collect()));
    }

    fn tables(&self, rounds: &Rounds<Figures>) -> anyhow::Result<()> {
        let mut header = vec!["mode", "delivered"];
        header.extend(MEDIANS.iter().map(|(_, heading, ..)| *heading));
        header.extend(SUMS.iter().map(|(_, heading, _)| *heading));
        let mut main = table::new(1, &header);
        let mut ratios = table::new(2, &["mode", "by", "p50 ×", "p99 ×", "p99.9 ×", "bytes ×"]);
        let mut notes = Vec::new();
        for (lane, mode) in self.modes.iter().enumerate() {
            notes.extend(why_not(rounds, lane).map(|why| format!("{mode} {why}")));
            if rounds.done(lane).next().is_none() {
                continue;
            }
            let delivered = rounds.sum(lane, |figures| figures.delivered);
            let sent = rounds.sum(lane, |figures| figures.sent);
            let mut row = vec![mode.to_string(), format!("{delivered}/{sent}")];
            row.extend(
                MEDIANS.iter().map(|(_, _, digits, of)| number(rounds.median(lane, of), *digits)),
            );
            row.extend(SUMS.iter().map(|(_, _, of)| {
                sum(rounds, lane, *of).map_or_else(|| "–".into(), |sum| sum.to_string())
            }));
            main.add_row(row);
            for (by, columns) in self.ratios(rounds, lane) {
                let mut row = vec![mode.to_string(), by.to_string()];
                row.extend(columns.map(|ratio| number(ratio, 2)));
                ratios.add_row(row);
            }
            notes.extend(rounds.done(lane).enumerate().filter_map(|(run, figures)| {
                figures.note().map(|note| format!("{mode}, run {}: {note}", run + 1))
            }));
        }
        let title = self.title();
        if main.row_count() > 0 {
            table::print(&format!("{title}; latency in ms, median over the runs"), &main)?;
        }
        if ratios.row_count() > 0 {
            table::print("Ratios within a run, median over the runs", &ratios)?;
        }
        table::notes(&notes)
    }
}
