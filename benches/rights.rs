//! What a right costs: `cargo bench --bench rights`. The worst case, in which no filter matches, and
//! the best of several rounds.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::{Duration, Instant};
use weir::access::{MAX_FILTERS, Rights};
use weir::wire::Filter;

const CALLS: u32 = 1_000_000;

fn nanoseconds(mut call: impl FnMut()) -> f64 {
    let round = |_| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        start.elapsed()
    };
    let best: Duration = (0..7).map(round).min().unwrap();
    best.as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn main() {
    let topic = "game/1234567/players/42/position";
    let asked = Filter::new("game/1234567/players/*/position").unwrap();
    println!("ns a call          may_publish  may_read  may_subscribe");
    let everything = Rights::everything();
    let print = |name: &str, rights: &Rights| {
        let publish = nanoseconds(|| _ = black_box(rights).may_publish(black_box(topic)));
        let read = nanoseconds(|| _ = black_box(rights).may_read(black_box(topic)));
        let subscribe = nanoseconds(|| _ = black_box(rights).may_subscribe(black_box(&asked)));
        println!("{name:<18} {publish:>11.1} {read:>9.1} {subscribe:>14.1}");
    };
    print("everything", &everything);
    for count in [1, 8, MAX_FILTERS] {
        // Filters that differ at their start, and those that differ late.
        for (kind, make) in
            [("early", "{}/1234567/players/*"), ("late", "game/1234567/{}/*/position")]
        {
            let filters = (0..count).map(|n| Filter::new(&make.replace("{}", &format!("p{n}"))));
            let filters: Vec<_> = filters.map(Result::unwrap).collect();
            let rights = Rights::new(filters.clone(), filters).unwrap();
            assert!(!rights.may_publish(topic) && !rights.may_subscribe(&asked));
            print(&format!("{count} that differ {kind}"), &rights);
        }
    }
}
