//! The report of a benchmark whose lanes take turns: an object for each lane of each round, then
//! tables or a summary, a plot, and the faults.

use super::plot::{self, Line};
use super::stats::{Sorted, median};
use crate::console::output::Output;
use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The fields of a JSON object, in the order in which they are printed.
pub(super) type Fields = Map<String, Value>;

/// The words for [`Row::faults`].
const FAULTS: [&str; 3] = ["lost and not told", "twice", "corrupted"];

/// The result of one lane in one round.
#[derive(Debug)]
pub(super) enum Outcome<R> {
    Done(Box<R>),
    /// The daemon or the kernel does not offer the lane. The benchmark succeeds without it.
    Refused(String),
    /// The lane broke. The benchmark fails.
    Failed(String),
}

impl<R> Outcome<R> {
    pub(super) fn map<T>(self, to: impl FnOnce(R) -> T) -> Outcome<T> {
        match self {
            Self::Done(row) => Outcome::Done(Box::new(to(*row))),
            Self::Refused(why) => Outcome::Refused(why),
            Self::Failed(why) => Outcome::Failed(why),
        }
    }

    pub(super) fn row(&self) -> Option<&R> {
        match self {
            Self::Done(row) => Some(row),
            Self::Refused(_) | Self::Failed(_) => None,
        }
    }
}

/// The figures of one lane in one round.
pub(super) trait Row {
    /// Latencies in thousandths of [`Benchmark::UNIT`].
    fn latencies(&self) -> &Sorted;

    /// Numbers of messages: neither delivered nor reported as a gap, delivered twice, corrupted.
    fn faults(&self) -> [u64; 3];

    /// Adds the figures to the object of the lane.
    fn describe(&self, fields: &mut Fields);
}

/// The parts of a report that differ between benchmarks. Lanes are numbered from 0.
pub(super) trait Benchmark {
    type Row: Row;

    /// The word for a round in the objects, which is also their `event`.
    const ROUND: &'static str;
    /// The key of the lanes in the summary.
    const LANES: &'static str;
    /// The unit of latency in the plot.
    const UNIT: &'static str;

    /// The names of the lanes.
    fn lanes(&self) -> Vec<String>;

    /// Whether the others are compared with this lane. It is dashed in the plot.
    fn is_yardstick(&self, lane: usize) -> bool;

    /// The conditions in words.
    fn title(&self) -> String;

    /// The conditions as an object.
    fn conditions(&self) -> Value;

    /// Adds what identifies a lane to its object.
    fn describe(&self, lane: usize, fields: &mut Fields);

    /// Adds the figures over all rounds to the object of a lane in the summary.
    fn summarise(&self, lane: usize, rounds: &Rounds<Self::Row>, fields: &mut Fields);

    /// Prints the tables.
    fn tables(&self, rounds: &Rounds<Self::Row>) -> anyhow::Result<()>;
}

/// The outcomes of all rounds so far, each in the order of the lanes.
pub(super) struct Rounds<R>(Vec<Vec<Outcome<R>>>);

impl<R> Rounds<R> {
    pub(super) fn outcomes(&self, lane: usize) -> impl Iterator<Item = &Outcome<R>> {
        self.0.iter().filter_map(move |round| round.get(lane))
    }

    pub(super) fn done(&self, lane: usize) -> impl Iterator<Item = &R> {
        self.outcomes(lane).filter_map(Outcome::row)
    }

    /// The rows of two lanes, from the rounds in which both were measured.
    pub(super) fn pairs(&self, lane: usize, by: usize) -> impl Iterator<Item = (&R, &R)> {
        self.0
            .iter()
            .filter_map(move |round| Some((round.get(lane)?.row()?, round.get(by)?.row()?)))
    }

    pub(super) fn sum(&self, lane: usize, of: impl Fn(&R) -> u64) -> u64 {
        self.done(lane).map(of).sum()
    }

    pub(super) fn median(&self, lane: usize, of: impl Fn(&R) -> Option<f64>) -> Option<f64> {
        median(self.done(lane).filter_map(of))
    }

    /// The median over the rounds of the ratio within each.
    pub(super) fn ratio(
        &self,
        lane: usize,
        by: usize,
        of: impl Fn(&R) -> Option<f64>,
    ) -> Option<f64> {
        median(self.pairs(lane, by).filter_map(|(one, by)| Some(of(one)? / of(by)?)))
    }
}

impl<R: Row> Rounds<R> {
    fn fault(&self, lane: usize, name: &str) -> Option<String> {
        let failed = self.outcomes(lane).find_map(|outcome| match outcome {
            Outcome::Failed(why) => Some(format!("{name} failed: {why}")),
            Outcome::Done(_) | Outcome::Refused(_) => None,
        });
        let count = |fault: usize| self.sum(lane, |row| row.faults()[fault]);
        let faults = FAULTS.iter().enumerate().map(|(fault, text)| (count(fault), text));
        let faults = faults.filter(|(count, _)| *count > 0);
        let faults: Vec<_> = faults.map(|(count, text)| format!("{count} {text}")).collect();
        failed.or_else(|| (!faults.is_empty()).then(|| format!("{name}: {}", faults.join(", "))))
    }
}

/// Collects the rounds of a benchmark, and prints them.
pub(super) struct Report<'a, B: Benchmark> {
    benchmark: &'a B,
    json: bool,
    svg: Option<&'a Path>,
    rounds: Rounds<B::Row>,
}

impl<'a, B: Benchmark> Report<'a, B> {
    pub(super) fn new(benchmark: &'a B, json: bool, svg: Option<&'a Path>) -> Self {
        Self { benchmark, json, svg, rounds: Rounds(Vec::new()) }
    }

    /// Takes the outcomes of a round, in the order of the lanes.
    pub(super) fn add(&mut self, number: u64, round: Vec<Outcome<B::Row>>) -> anyhow::Result<()> {
        for (lane, outcome) in round.iter().enumerate().filter(|_| self.json) {
            let mut fields = Fields::new();
            fields.insert("event".into(), B::ROUND.into());
            fields.insert(B::ROUND.into(), number.into());
            self.benchmark.describe(lane, &mut fields);
            match outcome {
                Outcome::Done(row) => row.describe(&mut fields),
                Outcome::Refused(why) => drop(fields.insert("refused".into(), why.clone().into())),
                Outcome::Failed(why) => drop(fields.insert("failed".into(), why.clone().into())),
            }
            print(&fields.into())?;
        }
        self.rounds.0.push(round);
        Ok(())
    }

    /// Prints the tables or the summary, and writes the plot. Fails if a lane failed or if the
    /// messages of one were not all accounted for.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        let Self { benchmark, rounds, .. } = self;
        if self.json {
            print(&self.summary())?;
        } else {
            benchmark.tables(rounds)?;
        }
        let lanes = benchmark.lanes();
        if let Some(path) = self.svg {
            let line = |(lane, name)| Line {
                name,
                sorted: Sorted::merge(rounds.done(lane).map(Row::latencies)),
                yardstick: benchmark.is_yardstick(lane),
            };
            let lines: Vec<_> = lanes.iter().map(String::as_str).enumerate().map(line).collect();
            if let Some(svg) = plot::svg(&benchmark.title(), B::UNIT, &lines) {
                std::fs::write(path, svg).with_context(|| path.display().to_string())?;
            }
        }
        fail(lanes.iter().enumerate().filter_map(|(lane, name)| rounds.fault(lane, name)))
    }

    fn summary(&self) -> Value {
        let lane = |lane| {
            let mut fields = Fields::new();
            self.benchmark.describe(lane, &mut fields);
            self.benchmark.summarise(lane, &self.rounds, &mut fields);
            Value::Object(fields)
        };
        let lanes: Vec<_> = (0..self.benchmark.lanes().len()).map(lane).collect();
        let conditions = self.benchmark.conditions();
        json!({ "event": "summary", "conditions": conditions, B::LANES: lanes })
    }
}

/// Prints one JSON object on a line.
pub(super) fn print(object: &Value) -> anyhow::Result<()> {
    Ok(Output::print(Output::new(true).value(object, ""))?)
}

/// Fails with all of the faults if there are any.
pub(super) fn fail(faults: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let faults: Vec<_> = faults.collect();
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(())
}
