//! Verbs that outlive their sessions: the policy, and the lines about it on standard error.

use crate::client::{Reconnect, SessionClosed, State};
use std::io::{self, Write as _};
use tokio::sync::watch;

/// Returns the default policy, or none.
pub(super) fn policy(no_reconnect: bool) -> Reconnect {
    if no_reconnect { Reconnect::never() } else { Reconnect::default() }
}

/// Prints a line on standard error when the session is lost, and when there is another. Calls
/// `interrupted` when it is lost. Returns only if that fails.
pub(super) async fn report(
    mut states: watch::Receiver<State>,
    mut interrupted: impl FnMut(&SessionClosed) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut away = false;
    while states.changed().await.is_ok() {
        let state = states.borrow_and_update().clone();
        let line = match state {
            State::Reconnecting { why, .. } if !away => {
                away = true;
                interrupted(&why)?;
                format!("lost the session ({}), connecting again", why.reason)
            }
            State::Open { attempts, away: time, .. } => {
                away = false;
                back(attempts, time.as_secs_f64())
            }
            _ => continue,
        };
        // Without a standard error, nobody reads it.
        let _ = writeln!(io::stderr(), "weir: {line}");
    }
    std::future::pending().await
}

fn back(attempts: u32, seconds: f64) -> String {
    match attempts {
        0 => "the daemon is about to stop: moved to another session".into(),
        1 => format!("back after {seconds:.1} s, 1 attempt"),
        _ => format!("back after {seconds:.1} s, {attempts} attempts"),
    }
}
