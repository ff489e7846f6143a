//! `tests/vectors/receiver.json`, which the receiver of `weir.js` passes too.

use super::*;
use crate::wire::realtime::receiver::TOPIC_HOLES;
use serde_json::{Value, json};

const TOPIC: u64 = 1;

/// A sequence: a number, or a text such as `2L+3`, with `L` for the limit of holes.
fn sequence(value: &Value) -> u64 {
    if let Some(number) = value.as_u64() {
        return number;
    }
    let terms = value.as_str().unwrap().split('+');
    let term = |term: &str| match term.strip_suffix('L') {
        Some(factor) => factor.parse::<u64>().unwrap() * TOPIC_HOLES as u64,
        None => term.parse().unwrap(),
    };
    terms.map(term).sum()
}

fn ranges(value: &Value) -> Vec<(u64, u64)> {
    let range = |range: &Value| (sequence(&range[0]), sequence(&range[1]));
    value.as_array().unwrap().iter().map(range).collect()
}

/// The value of this side, if the two sides differ for a reason.
fn own(value: &Value) -> &Value {
    value.get("rust").unwrap_or(value)
}

fn action(due: &Due, expected: &Value) -> Value {
    match due {
        Due::Late { first, last, .. } => json!({ "late": [first, last] }),
        Due::Ask { holes, reliably, .. } if expected.get("count").is_some() => {
            json!({ "count": holes.len(), "reliable": reliably })
        }
        Due::Ask { holes, reliably, .. } => json!({ "holes": holes, "reliable": reliably }),
    }
}

fn step(receiver: &mut Receiver, step: &Value, rtt: u64) {
    let now = step["at"].as_u64().unwrap();
    let message = |receiver: &mut Receiver, sequence| {
        let arrival = receiver.message(now, rtt, TOPIC, sequence);
        assert_eq!(format!("{arrival:?}").to_lowercase(), step["is"], "{sequence} in {step}");
    };
    if let Some(given) = step.get("message") {
        message(receiver, sequence(given));
    } else if let Some(given) = step.get("messages") {
        let (first, last) = (sequence(&given[0]), sequence(&given[1]));
        let every = given[2].as_u64().unwrap() as usize;
        (first..=last).step_by(every).for_each(|sequence| message(receiver, sequence));
    } else if let Some(given) = step.get("gap") {
        let new = receiver.gap(now, rtt, TOPIC, sequence(&given[0]), sequence(&given[1]));
        assert_eq!(new, ranges(&step["new"]), "{step}");
    } else if let Some(given) = step.get("head") {
        receiver.head(now, rtt, TOPIC, sequence(given));
    } else {
        let expected = own(&step["poll"]).as_array().unwrap();
        let mut out = Vec::new();
        receiver.poll(now, rtt, &mut out);
        assert_eq!(out.len(), expected.len(), "{out:?} at {step}");
        for (due, expected) in out.iter().zip(expected) {
            assert_eq!(action(due, expected), *expected, "at {step}");
        }
    }
    receiver.audit();
    if let Some(due) = step.get("due") {
        assert_eq!(receiver.due(), due.as_u64(), "due after {step}");
    }
    if let Some(next) = step.get("next") {
        assert_eq!(receiver.next(TOPIC), Some(sequence(next)), "next after {step}");
    }
    if let Some(holes) = step.get("holes") {
        assert_eq!(receiver.holes(TOPIC), ranges(holes), "holes after {step}");
    }
    if let Some(hole) = step.get("last hole") {
        let last = (sequence(&hole[0]), sequence(&hole[1]));
        assert_eq!(receiver.holes(TOPIC).last(), Some(&last), "after {step}");
    }
}

#[test]
fn the_vectors() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/receiver.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        println!("{}", case["name"]);
        if let Some(limit) = case.get("limit") {
            assert_eq!(own(limit).as_u64(), Some(TOPIC_HOLES as u64));
        }
        let (rtt, deadline) = (case["rtt"].as_u64().unwrap(), case["deadline"].as_u64().unwrap());
        let mut receiver = Receiver::new(true, deadline);
        receiver.topic(0, rtt, TOPIC, sequence(&case["next"]), []);
        for one in case["steps"].as_array().unwrap() {
            step(&mut receiver, one, rtt);
        }
    }
}
