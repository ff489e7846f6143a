//! The columns of `weir top`, from the daemon's JSON.

use super::table::Cell;
use serde_json::Value;
use std::time::Duration;

/// A row of the list of sessions.
pub(super) const SESSIONS: [&str; 13] = [
    "id",
    "transport",
    "address",
    "name",
    "age",
    "rtt",
    "loss",
    "in/s",
    "in B/s",
    "out/s",
    "out B/s",
    "backlog",
    "skipped",
];

/// A row of the list of topics.
pub(super) const TOPICS: [&str; 8] =
    ["topic", "msg/s", "B/s", "newest", "cached", "payloads", "bytes", "subscribers"];

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

// As people read it: three digits and a unit of 1,000.
fn short(value: f64) -> String {
    let units = ["", "k", "M", "G", "T", "P"];
    let (mut value, mut unit) = (value, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 && value.fract() == 0.0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", units[unit])
}

fn figure(value: &Value) -> Cell {
    Cell::Number(if value.is_null() { "-".into() } else { short(number(value)) })
}

fn text(value: &Value) -> Cell {
    Cell::Text(match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    })
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

// Whether the number is an upper or a lower limit.
fn limit(value: &Value, exact: &Value, sign: &str) -> Cell {
    let sign = if exact.as_bool().unwrap_or(true) { "" } else { sign };
    Cell::Number(format!("{sign}{}", short(number(value))))
}

/// Returns the cells of a session. `at` is the time of the answer, µs since 1970.
pub(super) fn session(session: &Value, at: u64) -> Vec<Cell> {
    let since = session["since"].as_u64().unwrap_or(at);
    let rtt = session["rtt"].as_u64().map(Duration::from_micros);
    let loss = session["sent_packets"].as_f64().filter(|sent| *sent > 0.0);
    let loss = loss.map(|sent| 100.0 * number(&session["lost_packets"]) / sent);
    let flow = |way: &str, what: &str| figure(&session[way][what]);
    vec![
        Cell::Number(session["id"].to_string()),
        text(&session["transport"]),
        text(&session["address"]),
        text(&session["name"]),
        Cell::Number(age(at.saturating_sub(since) / 1_000_000)),
        Cell::Number(rtt.map_or("-".into(), |rtt| format!("{:.1}ms", rtt.as_secs_f64() * 1e3))),
        Cell::Number(loss.map_or("-".into(), |loss| format!("{loss:.1}%"))),
        flow("received", "messages_per_second"),
        flow("received", "bytes_per_second"),
        flow("delivered", "messages_per_second"),
        flow("delivered", "bytes_per_second"),
        limit(&session["backlog_messages"], &session["exact"], "≤"),
        figure(&session["skipped"]),
    ]
}

/// Returns the cells of a topic.
pub(super) fn topic(topic: &Value) -> Vec<Cell> {
    let of = |name: &str| figure(&topic[name]);
    vec![
        text(&topic["name"]),
        of("messages_per_second"),
        of("bytes_per_second"),
        Cell::Number(topic["newest"].to_string()),
        of("cached_messages"),
        of("payloads"),
        of("bytes"),
        limit(&topic["subscriptions"], &topic["exact"], "≥"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let all = [0.0, 7.0, 0.2, 12.0, 999.0, 999.6, 1234.0, 12_345.0, 123_456.0, 5e9, 1e18];
        let expected =
            ["0", "7", "0.20", "12", "999", "1.00k", "1.23k", "12.3k", "123k", "5.00G", "1000P"];
        assert_eq!(all.map(short), expected);
        assert_eq!([59, 60, 3661, 90_000].map(age), ["59s", "1m00s", "1h01m", "1d01h"]);
    }
}
