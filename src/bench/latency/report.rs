//! The table and the summary of `weir bench latency`.

use super::arguments::Arguments;
use super::case::{CASES, Case, YARDSTICK};
use super::slice::Turn;
use crate::bench::report::{Benchmark, Fields, Outcome, Rounds, Row};
use crate::bench::stats::{Sorted, median};
use crate::bench::table::{self, number};
use crate::bench::units::show;
use serde_json::{Value, json};

/// Key, heading, share.
const SHARES: [(&str, &str, f64); 4] = [
    ("p50_us", "p50", 0.5),
    ("p95_us", "p95", 0.95),
    ("p99_us", "p99", 0.99),
    ("max_us", "max", 1.0),
];

type Count = fn(&Turn) -> u64;

/// Key and count.
const COUNTS: [(&str, Count); 6] = [
    ("sent", |turn| turn.sent),
    ("delivered", |turn| turn.account.delivered),
    ("missing", Turn::missing),
    ("gaps", |turn| turn.account.gaps),
    ("duplicates", |turn| turn.account.duplicates),
    ("corrupted", |turn| turn.account.corrupted),
];

/// The figures of one case in one run.
pub(in crate::bench) struct Figures {
    turns: Vec<Turn>,
    /// Of all turns, ns.
    latencies: Sorted,
}

impl Figures {
    pub(super) fn new(turns: Vec<Turn>) -> Self {
        let latencies = Sorted::merge(turns.iter().map(|turn| &turn.latencies));
        Self { turns, latencies }
    }

    fn sum(&self, of: Count) -> u64 {
        self.turns.iter().map(of).sum()
    }
}

impl Row for Figures {
    fn latencies(&self) -> &Sorted {
        &self.latencies
    }

    fn faults(&self) -> [u64; 3] {
        [
            self.sum(Turn::missing),
            self.sum(|turn| turn.account.duplicates),
            self.sum(|turn| turn.account.corrupted),
        ]
    }

    fn describe(&self, fields: &mut Fields) {
        for (key, of) in COUNTS {
            fields.insert(key.into(), self.sum(of).into());
        }
        fields.insert("measured".into(), self.latencies.len().into());
        for (key, _, share) in SHARES {
            fields.insert(key.into(), us(&self.latencies, share).into());
        }
    }
}

/// The ratio of a case to the yardstick: the median over the rounds of the ratio within each.
fn ratio(rounds: &Rounds<Figures>, case: usize, share: f64) -> Option<f64> {
    let turns = rounds.pairs(case, YARDSTICK);
    let turns = turns.flat_map(|(one, by)| one.turns.iter().zip(&by.turns));
    median(
        turns.filter_map(|(one, by)| Some(us(&one.latencies, share)? / us(&by.latencies, share)?)),
    )
}

fn refused(rounds: &Rounds<Figures>, case: usize) -> Option<&str> {
    rounds.outcomes(case).find_map(|outcome| match outcome {
        Outcome::Refused(why) => Some(why.as_str()),
        Outcome::Done(_) | Outcome::Failed(_) => None,
    })
}

impl Benchmark for Arguments {
    type Row = Figures;

    const ROUND: &'static str = "run";
    const LANES: &'static str = "cases";
    const UNIT: &'static str = "µs";

    fn lanes(&self) -> Vec<String> {
        CASES.iter().map(Case::to_string).collect()
    }

    fn is_yardstick(&self, lane: usize) -> bool {
        lane == YARDSTICK
    }

    fn title(&self) -> String {
        let Self { hz, size, duration, slice, runs, .. } = self;
        let (duration, slice) = (show(*duration), show(*slice));
        format!("loopback, {hz} Hz, {} B, {duration} × {runs} in slices of {slice}", size.0)
    }

    fn conditions(&self) -> Value {
        json!({
            "text": self.title(), "hz": self.hz, "size": self.size.0,
            "duration_s": self.duration.as_secs_f64(), "slice_s": self.slice.as_secs_f64(),
            "runs": self.runs, "seed": self.seed,
        })
    }

    fn describe(&self, lane: usize, fields: &mut Fields) {
        fields.insert("transport".into(), CASES[lane].transport.to_string().into());
        fields.insert("mode".into(), CASES[lane].mode().into());
    }

    fn summarise(&self, lane: usize, rounds: &Rounds<Figures>, fields: &mut Fields) {
        fields.insert("refused".into(), refused(rounds, lane).into());
        for (key, _, share) in SHARES {
            let median = rounds.median(lane, |figures| us(&figures.latencies, share));
            fields.insert(key.into(), median.into());
        }
        let ratio = |share| ratio(rounds, lane, share);
        let ratios = json!({ "p50": ratio(0.5), "p95": ratio(0.95), "p99": ratio(0.99) });
        fields.insert("ratios".into(), ratios);
    }

    fn tables(&self, rounds: &Rounds<Figures>) -> anyhow::Result<()> {
        let mut header = vec!["case", "delivered"];
        header.extend(SHARES.iter().map(|(_, heading, _)| *heading));
        header.extend(["p50 ×", "p95 ×", "p99 ×"]);
        let mut table = table::new(1, &header);
        let mut notes = Vec::new();
        for (place, case) in CASES.iter().enumerate() {
            if let Some(why) = refused(rounds, place) {
                notes.push(format!("{case} refused: {why}"));
                continue;
            }
            let sum = |of: Count| rounds.sum(place, |figures| figures.sum(of));
            let delivered = sum(|turn| turn.account.delivered);
            let mut row = vec![case.to_string(), format!("{delivered}/{}", sum(|turn| turn.sent))];
            let median = |share| rounds.median(place, |figures| us(&figures.latencies, share));
            row.extend(SHARES.iter().map(|(_, _, share)| number(median(*share), 0)));
            row.extend([0.5, 0.95, 0.99].map(|share| number(ratio(rounds, place, share), 2)));
            table.add_row(row);
        }
        let title = self.title();
        let title = format!(
            "{title}; latency in µs, median over the runs; × is to WebSocket in the same round, \
             median over all rounds"
        );
        table::print(&title, &table)?;
        table::notes(&notes)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn us(sorted: &Sorted, share: f64) -> Option<f64> {
    sorted.percentile(share).map(|ns| ns as f64 / 1e3)
}
