//! Verbs that outlive their sessions: the policy, and the lines about it on standard error.

use crate::client::{Reconnect, SessionClosed, State};
use crate::console::terminal::tell;
use crate::wire::Refusal;
use std::io;
use tokio::sync::watch;

/// Returns the default policy, or none.
pub(super) fn policy(no_reconnect: bool) -> Reconnect {
    if no_reconnect { Reconnect::never() } else { Reconnect::default() }
}

/// Prints a line on standard error when the session is lost, when there is another, and when the
/// daemon says that its state has changed. Calls `interrupted` when the session is lost, and
/// `noticed` with a notice, or with none when it is over. Returns only if these fail.
pub(super) async fn report(
    (mut states, mut notices): (watch::Receiver<State>, watch::Receiver<Option<Refusal>>),
    mut interrupted: impl FnMut(&SessionClosed) -> io::Result<()>,
    mut noticed: impl FnMut(Option<&Refusal>) -> io::Result<()>,
) -> anyhow::Result<()> {
    let (mut away, mut told) = (false, false);
    // One may have come with the welcome.
    notices.mark_changed();
    loop {
        tokio::select! {
            // The end of a session ends its notice too, and is told in place of that.
            biased;
            changed = states.changed() => if changed.is_err() { break },
            changed = notices.changed() => {
                if changed.is_err() { break }
                let notice = notices.borrow_and_update().clone();
                if notice.is_some() || told {
                    noticed(notice.as_ref())?;
                    let line = notice.as_ref().map_or("that is over", |notice| &notice.reason);
                    tell(&format!("weir: {line}"));
                }
                told = notice.is_some();
                continue;
            }
        }
        // The next daemon says how it is.
        told = false;
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
        tell(&format!("weir: {line}"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Code;
    use std::cell::RefCell;
    use std::time::Duration;

    // Both change before either is looked at, as if the next daemon answered at once. Once, the end of
    // a session printed that the notice was over, or the notice of the next daemon was not printed.
    #[tokio::test]
    async fn a_session_that_is_lost_ends_its_notice_and_the_next_one_has_its_own() {
        for _ in 0..20 {
            let (state, states) = watch::channel(State::Open { attempts: 0, away: Duration::ZERO });
            let unkept = || Some(Refusal::new(Code::UNKEPT, "not kept"));
            let (notice, notices) = watch::channel(unkept());
            let told = RefCell::new(Vec::new());
            let (lost, changed) = (&told, &told);
            let reporting = report(
                (states, notices),
                |_| {
                    lost.borrow_mut().push("lost");
                    Ok(())
                },
                |notice| {
                    changed.borrow_mut().push(if notice.is_some() { "unkept" } else { "over" });
                    Ok(())
                },
            );
            let changes = async {
                tokio::task::yield_now().await;
                let why = SessionClosed { code: None, reason: String::new(), retry: true };
                let pause = Duration::ZERO;
                state.send_replace(State::Reconnecting { attempt: 1, pause, why });
                notice.send_replace(None);
                tokio::task::yield_now().await;
                state.send_replace(State::Open { attempts: 1, away: pause });
                notice.send_replace(unkept());
                tokio::task::yield_now().await;
                notice.send_replace(None);
                tokio::task::yield_now().await;
            };
            tokio::select! {
                biased;
                _ = reporting => unreachable!("it does not end"),
                () = changes => {}
            }
            assert_eq!(*told.borrow(), ["unkept", "lost", "unkept", "over"]);
        }
    }
}
