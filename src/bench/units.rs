//! Shares and rates as on the command line.

use crate::units::split;
use std::time::Duration;

/// Reads a share such as `1%` or `0.5%`. Returns a number below 1.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').ok_or("a percentage, such as 1%")?;
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
    if (0.0..100.0).contains(&number) {
        Ok(number / 100.0)
    } else {
        Err("from 0% to below 100%".into())
    }
}

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate(pub(super) Option<f64>);

/// Reads `none`, `1Mbit`, `500kbit`.
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
        _ => Err(format!("{number:?} is not a rate")),
    }
}

/// Ends the process as clap does if an argument is wrong.
pub(super) fn usage(checked: Result<(), String>) {
    if let Err(wrong) = checked {
        clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{wrong}\n")).exit();
    }
}

/// Returns a duration as on the command line: `25ms`, `1.5s`.
pub(super) fn show(duration: Duration) -> String {
    format!("{duration:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_documented() {
        assert_eq!(percent("1%"), Ok(0.01));
        assert_eq!(percent("0%"), Ok(0.0));
        assert_eq!(rate("1Mbit"), Ok(Rate(Some(1e6))));
        assert_eq!(rate("none"), Ok(Rate(None)));
        for bad in ["1", "100%", "%", "-1%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
        for bad in ["1", "0Mbit", "fast", "1Mb"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
