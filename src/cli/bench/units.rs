//! Durations, shares and rates as they are written on the command line.

use std::time::Duration;

/// `25ms`, `1.5s`, `200us`, `2m`.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err("a number and a unit, such as 25ms or 60s".into()),
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

/// `1%`, `0.5%`: a share below 1.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').ok_or("a share in percent, such as 1%")?;
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    if (0.0..100.0).contains(&number) {
        Ok(number / 100.0)
    } else {
        Err("from 0% to below 100%".into())
    }
}

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate(pub(super) Option<f64>);

/// `none`, `1Mbit`, `500kbit`.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    if text == "none" {
        return Ok(Rate(None));
    }
    let (number, unit) = split(text);
    let bits = match unit {
        "kbit" => 1e3,
        "Mbit" => 1e6,
        "Gbit" => 1e9,
        _ => return Err("none, or bits per second such as 1Mbit or 500kbit".into()),
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 => Ok(Rate(Some(number * bits))),
        _ => Err(format!("{number:?} is no rate")),
    }
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// Ends the process as clap does when an argument is wrong.
pub(super) fn usage(checked: Result<(), String>) {
    if let Err(wrong) = checked {
        clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{wrong}\n")).exit();
    }
}

/// As it is written: `25ms`, `1.5s`.
pub(super) fn show(duration: Duration) -> String {
    format!("{duration:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_documented() {
        assert_eq!(duration("25ms"), Ok(Duration::from_millis(25)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(percent("1%"), Ok(0.01));
        assert_eq!(percent("0%"), Ok(0.0));
        assert_eq!(rate("1Mbit"), Ok(Rate(Some(1e6))));
        assert_eq!(rate("none"), Ok(Rate(None)));
        for bad in ["", "25", "ms", "-1s", "1e9s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["1", "100%", "%", "-1%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
        for bad in ["1", "0Mbit", "fast", "1Mb"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
