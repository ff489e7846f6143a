//! Progress bars. They are shown if standard error is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// Returns a bar whose unit is the millisecond.
pub(super) fn time(all: Duration) -> ProgressBar {
    let template = "{bar:40} {percent:>3} %  {elapsed} of about {msg}";
    let bar = styled(all.as_millis() as u64, template);
    bar.with_message(format!("{} s", all.as_secs()))
}

/// Returns a bar whose unit is the session.
#[cfg(target_os = "linux")]
pub(super) fn sessions(all: u64) -> ProgressBar {
    styled(all, "{bar:40} {pos} of {len} sessions")
}

fn styled(all: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(all);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
