//! What the turns say: an object for each case of each run, a table, a plot, and whether every
//! message was accounted for.

use super::slice::Turn;
use super::{Arguments, CASES, Case, YARDSTICK};
use crate::bench::plot::{self, Line};
use crate::bench::stats::{Sorted, median};
use crate::bench::table::{self, number};
use crate::bench::units::show;
use crate::console::output::Output;
use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// Key, heading, share.
const SHARES: [(&str, &str, f64); 4] = [
    ("p50_us", "p50", 0.5),
    ("p95_us", "p95", 0.95),
    ("p99_us", "p99", 0.99),
    ("max_us", "max", 1.0),
];

/// A case in a run.
pub(super) enum Row {
    /// By round.
    Done(Vec<Turn>),
    Refused(String),
}

impl Row {
    fn turns(&self) -> &[Turn] {
        match self {
            Self::Done(turns) => turns,
            Self::Refused(_) => &[],
        }
    }

    fn latencies(&self) -> Sorted {
        Sorted::merge(self.turns().iter().map(|turn| &turn.latencies))
    }

    fn sum(&self, of: fn(&Turn) -> u64) -> u64 {
        self.turns().iter().map(of).sum()
    }
}

/// All runs so far.
pub(super) struct Report<'a> {
    arguments: &'a Arguments,
    output: Output,
    // By run, in the order of the cases.
    runs: Vec<Vec<Row>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(arguments: &'a Arguments) -> Self {
        Self { arguments, output: Output::new(arguments.json), runs: Vec::new() }
    }

    pub(super) fn add(&mut self, run: u64, rows: Vec<Row>) -> anyhow::Result<()> {
        for (case, row) in CASES.iter().zip(&rows).filter(|_| self.arguments.json) {
            let mut value = json!({
                "event": "run", "run": run, "transport": case.transport.to_string(),
                "mode": case.mode(),
            });
            if let Row::Refused(why) = row {
                value["refused"] = why.clone().into();
            } else {
                let latencies = row.latencies();
                value["sent"] = row.sum(|turn| turn.sent).into();
                for (key, _, of) in ACCOUNTS {
                    value[key] = row.sum(of).into();
                }
                value["measured"] = latencies.len().into();
                for (key, _, share) in SHARES {
                    value[key] = us(&latencies, share).into();
                }
            }
            Output::print(self.output.value(&value, ""))?;
        }
        self.runs.push(rows);
        Ok(())
    }

    pub(super) fn finish(&self) -> anyhow::Result<()> {
        if self.arguments.json {
            Output::print(self.output.value(&self.summary(), ""))?;
        } else {
            self.table()?;
        }
        if let Some(path) = &self.arguments.svg {
            let names = CASES.map(|case| case.to_string());
            let lines: Vec<_> = names
                .iter()
                .enumerate()
                .map(|(place, name)| {
                    let all: Vec<_> = self.rows(place).map(Row::latencies).collect();
                    let sorted = Sorted::merge(&all);
                    Line { name, sorted, yardstick: place == YARDSTICK }
                })
                .collect();
            if let Some(svg) = plot::svg(&self.conditions(), "µs", &lines) {
                std::fs::write(path, svg).with_context(|| path.display().to_string())?;
            }
        }
        let faults: Vec<_> = (0..CASES.len()).filter_map(|place| self.fault(place)).collect();
        if !faults.is_empty() {
            bail!("{}", faults.join("; "));
        }
        Ok(())
    }

    fn rows(&self, place: usize) -> impl Iterator<Item = &Row> {
        self.runs.iter().map(move |rows| &rows[place])
    }

    fn conditions(&self) -> String {
        let Arguments { hz, size, duration, slice, runs, .. } = self.arguments;
        let (duration, slice) = (show(*duration), show(*slice));
        format!("loopback, {hz} Hz, {} B, {duration} × {runs} in slices of {slice}", size.0)
    }

    /// µs.
    fn median(&self, place: usize, share: f64) -> Option<f64> {
        median(self.rows(place).filter_map(|row| us(&row.latencies(), share)))
    }

    /// Within each round, then the median over all.
    fn ratio(&self, place: usize, share: f64) -> Option<f64> {
        let rounds = self
            .runs
            .iter()
            .flat_map(|rows| rows[place].turns().iter().zip(rows[YARDSTICK].turns()));
        median(
            rounds.filter_map(|(one, by)| {
                Some(us(&one.latencies, share)? / us(&by.latencies, share)?)
            }),
        )
    }

    fn refused(&self, place: usize) -> Option<&str> {
        self.rows(place).find_map(|row| match row {
            Row::Refused(why) => Some(why.as_str()),
            Row::Done(_) => None,
        })
    }

    fn fault(&self, place: usize) -> Option<String> {
        let sum = |of| self.rows(place).map(|row| row.sum(of)).sum::<u64>();
        let faults = ACCOUNTS.iter().filter_map(|(_, fault, of)| Some((sum(*of), (*fault)?)));
        let faults = faults.filter(|(count, _)| *count > 0);
        let faults: Vec<_> = faults.map(|(count, fault)| format!("{count} {fault}")).collect();
        (!faults.is_empty()).then(|| format!("{}: {}", CASES[place], faults.join(", ")))
    }

    fn table(&self) -> anyhow::Result<()> {
        let mut header = vec!["case", "delivered"];
        header.extend(SHARES.iter().map(|(_, heading, _)| *heading));
        header.extend(["p50 ×", "p95 ×", "p99 ×"]);
        let mut table = table::new(1, &header);
        let mut notes = Vec::new();
        for (place, case) in CASES.iter().enumerate() {
            if let Some(why) = self.refused(place) {
                notes.push(format!("{case} refused: {why}"));
                continue;
            }
            let sum = |of| self.rows(place).map(|row| row.sum(of)).sum::<u64>();
            let delivered = sum(|turn| turn.account.delivered);
            let mut row = vec![case.to_string(), format!("{delivered}/{}", sum(|turn| turn.sent))];
            row.extend(SHARES.iter().map(|(_, _, share)| number(self.median(place, *share), 0)));
            row.extend([0.5, 0.95, 0.99].map(|share| number(self.ratio(place, share), 2)));
            table.add_row(row);
        }
        let title = self.conditions();
        let title = format!(
            "{title}; latency in µs, median over the runs; × is to WebSocket in the same round, \
             median over all rounds"
        );
        table::print(&title, &table)?;
        for note in notes {
            Output::print(self.output.value(&Value::Null, &note))?;
        }
        Ok(())
    }

    fn summary(&self) -> Value {
        let case = |(place, case): (usize, &Case)| {
            let mut value = json!({
                "transport": case.transport.to_string(), "mode": case.mode(),
                "refused": self.refused(place),
            });
            for (key, _, share) in SHARES {
                value[key] = self.median(place, share).into();
            }
            let ratio = |share| self.ratio(place, share);
            value["ratios"] = json!({ "p50": ratio(0.5), "p95": ratio(0.95), "p99": ratio(0.99) });
            value
        };
        let cases: Vec<_> = CASES.iter().enumerate().map(case).collect();
        json!({
            "event": "summary",
            "conditions": {
                "text": self.conditions(), "hz": self.arguments.hz, "size": self.arguments.size.0,
                "duration_s": self.arguments.duration.as_secs_f64(),
                "slice_s": self.arguments.slice.as_secs_f64(),
                "runs": self.arguments.runs, "seed": self.arguments.seed,
            },
            "cases": cases,
        })
    }
}

type Account = (&'static str, Option<&'static str>, fn(&Turn) -> u64);

/// Key, what to say of it if it is a fault, and the count.
const ACCOUNTS: [Account; 5] = [
    ("delivered", None, |turn| turn.account.delivered),
    ("missing", Some("lost and not told"), |turn| turn.account.missing(turn.sent)),
    ("gaps", None, |turn| turn.account.gaps),
    ("duplicates", Some("twice"), |turn| turn.account.duplicates),
    ("corrupted", Some("corrupted"), |turn| turn.account.corrupted),
];

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn us(sorted: &Sorted, share: f64) -> Option<f64> {
    sorted.percentile(share).map(|ns| ns as f64 / 1e3)
}
