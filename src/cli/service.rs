//! Notifications of the service manager (`sd_notify(3)`): when the daemon is ready, reloads and stops, some
//! figures, and that its engine answers. Without a service manager nothing is sent.

use crate::daemon::{Figures, Observer};
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

/// Interval of the looks at the figures, 10 s. They are sent if they have changed.
const STATUS: Duration = Duration::from_secs(10);

/// The daemon serves.
pub(super) fn ready(observer: &Observer) {
    let figures = observer.look().map(|figures| text(&figures, 0.0));
    let mut states = vec![NotifyState::Ready];
    states.extend(figures.as_deref().map(NotifyState::Status));
    notify(&states);
}

/// It reads files again, until [`reloaded`]. systemd from 253 on needs the time to tell this reload from an
/// earlier one.
pub(super) fn reloading() {
    let states = [NotifyState::Reloading].into_iter().chain(NotifyState::monotonic_usec_now().ok());
    notify(&states.collect::<Vec<_>>());
}

/// It has read them, or failed to and goes on with the earlier ones.
pub(super) fn reloaded() {
    notify(&[NotifyState::Ready]);
}

/// It stops, which takes at most `within` and the time for goodbyes.
pub(super) fn stopping(within: Duration) {
    // Longer than any goodbye.
    let most = within.saturating_add(Duration::from_secs(10)).as_micros();
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let states = [
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(most),
        NotifyState::Status("sessions are asked to leave"),
    ];
    notify(&states);
}

/// Sends pings for the watchdog if there is one, until the daemon is gone.
pub(super) async fn pings(observer: Observer) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let look = || observer.look().is_some();
    pings_within(limit, look, || notify(&[NotifyState::Watchdog])).await;
}

// As systemd recommends, two pings fit into the limit. `look` blocks while the daemon hangs, and is false
// if it has failed.
async fn pings_within(limit: Duration, look: impl Fn() -> bool, ping: impl Fn()) {
    let mut turns = interval((limit / 2).max(Duration::from_millis(1)));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if look() {
            ping();
        }
    }
}

/// Sends the figures when they have changed, until the daemon is gone.
pub(super) async fn statuses(observer: Observer) {
    statuses_with(|| observer.look(), |text| notify(&[NotifyState::Status(text)])).await;
}

async fn statuses_with(look: impl Fn() -> Option<Figures>, send: impl Fn(&str)) {
    let mut turns = interval_at(Instant::now() + STATUS, STATUS);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = look().map(|figures| (figures, Instant::now()));
    let mut sent = before.map(|(figures, _)| text(&figures, 0.0));
    loop {
        turns.tick().await;
        let Some(figures) = look() else { continue };
        let now = Instant::now();
        let since = before.replace((figures, now));
        let rate = since.map_or(0.0, |(before, then)| {
            let messages = figures.messages.saturating_sub(before.messages);
            f64::from(u32::try_from(messages).unwrap_or(u32::MAX))
                / now.duration_since(then).as_secs_f64()
        });
        let text = text(&figures, rate);
        if sent.as_ref() != Some(&text) {
            send(&text);
            sent = Some(text);
        }
    }
}

fn text(figures: &Figures, rate: f64) -> String {
    let Figures { sessions, topics, .. } = figures;
    // Of a slow topic one digit behind the point says that there is something.
    let digits = usize::from(rate > 0.0 && rate < 10.0);
    format!("sessions: {sessions}, topics: {topics}, messages/s: {rate:.digits$}")
}

fn notify(states: &[NotifyState<'_>]) {
    // Fails without systemd, which is not an error.
    let _ = sd_notify::notify(states);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use tokio::time::timeout;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn two_pings_fit_into_the_limit_and_none_comes_without_an_answer() {
        let (answers, pings) = (Cell::new(true), Cell::new(0));
        let ping = || pings.set(pings.get() + 1);
        let watched = pings_within(LIMIT, || answers.get(), ping);
        tokio::pin!(watched);
        let _ = timeout(10 * LIMIT, watched.as_mut()).await;
        assert!((20..=21).contains(&pings.get()), "{}", pings.get());
        answers.set(false);
        pings.set(0);
        let _ = timeout(10 * LIMIT, watched.as_mut()).await;
        assert_eq!(pings.get(), 0);
        answers.set(true);
        let _ = timeout(LIMIT, watched.as_mut()).await;
        assert!(pings.get() > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn figures_are_sent_when_they_have_changed() {
        let figures = Cell::new(Figures { sessions: 0, topics: 3, messages: 1_000 });
        let sent = RefCell::new(Vec::new());
        let statuses =
            statuses_with(|| Some(figures.get()), |text| sent.borrow_mut().push(text.to_owned()));
        tokio::pin!(statuses);
        let mut turn = async |sessions, messages| {
            let Figures { topics, messages: before, .. } = figures.get();
            figures.set(Figures { sessions, topics, messages: before + messages });
            let _ = timeout(STATUS, statuses.as_mut()).await;
            std::mem::take(&mut *sent.borrow_mut())
        };
        // The first turn ends half-way between two looks.
        let _ = turn(0, 0).await;
        assert!(turn(0, 0).await.is_empty(), "nothing has changed");
        assert_eq!(turn(2, 0).await, ["sessions: 2, topics: 3, messages/s: 0"]);
        assert_eq!(turn(2, 5).await, ["sessions: 2, topics: 3, messages/s: 0.5"]);
        assert!(turn(2, 5).await.is_empty());
        assert_eq!(turn(2, 12_345).await, ["sessions: 2, topics: 3, messages/s: 1234"]);
        assert_eq!(turn(2, 0).await, ["sessions: 2, topics: 3, messages/s: 0"]);
    }
}
