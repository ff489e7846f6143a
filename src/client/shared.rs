//! The state of a client that outlives its sessions: the current session, the publications without
//! an answer, and the state that the application watches.

use super::error::{PublishError, SessionClosed};
use super::in_flight::{Outgoing, Outstanding, Publication, PublishOutcome};
use super::reconnect::State;
use super::session_state::SessionState;
use super::token::TokenSource;
use crate::net::transport::Transport;
use crate::wire::{Code, Limits, Refusal};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

/// Settles a publication.
pub(super) struct Settler {
    pub(super) sender: oneshot::Sender<PublishOutcome>,
    /// The lifetime of the publication; 0 if it has none.
    pub(super) lifetime: Duration,
}

impl Settler {
    fn settle(self, outcome: PublishOutcome) {
        // Fails if the application has dropped its future, and so ignores the outcome.
        let _ = self.sender.send(outcome);
    }
}

/// Facts about the current session, or about the last one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) session: u64,
    pub(super) transport: Transport,
    pub(super) daemon: SocketAddr,
    pub(super) limits: Limits,
}

impl Facts {
    fn of(state: &SessionState) -> Self {
        let SessionState { session, connection, limits, .. } = state;
        let (transport, daemon) = (connection.transport(), connection.remote_address());
        Self { session: *session, transport, daemon, limits: *limits }
    }
}

/// Whether the client has a session.
pub(super) enum Slot {
    /// This one is open, or has just ended.
    Open(Arc<SessionState>),
    /// None; the supervisor opens another.
    Away,
    /// None, for ever.
    Closed(SessionClosed),
}

/// The publications, and the session that carries them.
pub(super) struct Publisher {
    pub(super) outstanding: Outstanding<Settler>,
    pub(super) session: Option<Arc<SessionState>>,
    /// Why the client is closed, once it is.
    pub(super) closed: Option<SessionClosed>,
    pub(super) facts: Facts,
}

impl Publisher {
    /// Numbers a publication. Returns how to send it, or `None` if it has to wait until others are
    /// settled. Without a session, that is an error.
    pub(super) fn number(
        &mut self,
        publication: &Publication<'_>,
        settler: &mut Option<Settler>,
    ) -> Result<Option<Outgoing>, PublishError> {
        if let Some(closed) = &self.closed {
            return Err(closed.clone().into());
        }
        let window = self.facts.limits.window;
        let numbered = self.outstanding.push(publication, window, settler)?;
        if numbered.is_none() && self.session.is_none() {
            let (publications, bytes) = self.outstanding.held();
            return Err(PublishError::Backlog { publications, bytes });
        }
        Ok(numbered)
    }

    /// Sends a publication on a stream of the session, if there is one.
    pub(super) fn carry(&mut self, outgoing: Outgoing) {
        let Some(session) = &self.session else {
            return;
        };
        match outgoing {
            Outgoing::Small(alias, _, publish) => {
                // Pushed under the lock, so that the stream has the order of the numbers.
                if let Some(name) = self.outstanding.declare(alias) {
                    session.push_declaration(&name, alias);
                }
                session.push_publication(&publish);
            }
            Outgoing::Large(large) => session.push_large(large),
        }
    }
}

/// The state of a client that outlives its sessions.
pub(super) struct Shared {
    publisher: Mutex<Publisher>,
    slot: watch::Sender<Slot>,
    state: watch::Sender<State>,
    notice: watch::Sender<Option<Refusal>>,
    /// The source of the tokens of its sessions.
    pub(super) token: TokenSource,
    /// Whether the client reconnects.
    pub(super) reconnects: bool,
    /// Notified when publications are settled, and when a session begins or ends.
    pub(super) settled: Notify,
    /// Notified when the next publication may expire earlier than before.
    pub(super) expiries: Notify,
    // Zero of the times at which publications expire.
    begun: Instant,
}

impl Shared {
    /// Creates the state of a client whose first session is this one.
    pub(super) fn new(
        session: &Arc<SessionState>,
        outstanding: Outstanding<Settler>,
        token: TokenSource,
        reconnects: bool,
    ) -> Self {
        let (facts, closed) = (Facts::of(session), None);
        let carrier = Some(session.clone());
        let publisher = Publisher { outstanding, session: carrier, closed, facts };
        let state = State::Open { attempts: 0, away: Duration::ZERO };
        Self {
            publisher: Mutex::new(publisher),
            slot: watch::Sender::new(Slot::Open(session.clone())),
            state: watch::Sender::new(state),
            notice: watch::Sender::new(None),
            token,
            reconnects,
            settled: Notify::new(),
            expiries: Notify::new(),
            begun: Instant::now(),
        }
    }

    pub(super) fn publisher(&self) -> MutexGuard<'_, Publisher> {
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the publications if this session carries them.
    pub(super) fn carried_by(
        &self,
        session: &Arc<SessionState>,
    ) -> Option<MutexGuard<'_, Publisher>> {
        let publisher = self.publisher();
        let carries = publisher.session.as_ref().is_some_and(|now| Arc::ptr_eq(now, session));
        carries.then_some(publisher)
    }

    /// Returns what is known of the current session, or of the last one.
    pub(super) fn facts(&self) -> Facts {
        self.publisher().facts
    }

    /// Returns a receiver of the state.
    pub(super) fn watch_state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Notes what the daemon of a session says of its state. That of a session which another has
    /// replaced does not count.
    pub(super) fn notice(&self, session: &SessionState, code: Code, reason: &str) {
        let publisher = self.publisher();
        if publisher.session.as_ref().is_some_and(|now| std::ptr::eq(Arc::as_ptr(now), session)) {
            self.set_notice((code != Code::DONE).then(|| Refusal::new(code, reason.to_owned())));
        }
    }

    fn set_notice(&self, notice: Option<Refusal>) {
        self.notice.send_if_modified(|before| {
            let is_new = *before != notice;
            *before = notice;
            is_new
        });
    }

    /// Returns a receiver of the daemon's notices.
    pub(super) fn watch_notice(&self) -> watch::Receiver<Option<Refusal>> {
        self.notice.subscribe()
    }

    /// Returns the session that is open, if there is one.
    pub(super) fn session(&self) -> Option<Arc<SessionState>> {
        self.publisher().session.clone()
    }

    /// Waits for a session other than `ended`. Fails once the client is closed.
    pub(super) async fn next_session(
        &self,
        ended: Option<&Arc<SessionState>>,
    ) -> Result<Arc<SessionState>, SessionClosed> {
        let mut slot = self.slot.subscribe();
        let is_next = |slot: &Slot| match slot {
            Slot::Open(session) => ended.is_none_or(|ended| !Arc::ptr_eq(ended, session)),
            Slot::Away => false,
            Slot::Closed(_) => true,
        };
        loop {
            // The sender lives as long as `self`, so that this cannot fail.
            if let Ok(slot) = slot.wait_for(is_next).await {
                match &*slot {
                    Slot::Open(session) => return Ok(session.clone()),
                    Slot::Closed(closed) => return Err(closed.clone()),
                    Slot::Away => {}
                }
            }
        }
    }

    /// Waits until the client is closed.
    pub(super) async fn closed(&self) -> SessionClosed {
        let mut slot = self.slot.subscribe();
        loop {
            if let Ok(slot) = slot.wait_for(|slot| matches!(slot, Slot::Closed(_))).await
                && let Slot::Closed(closed) = &*slot
            {
                return closed.clone();
            }
        }
    }

    /// Returns why the client is closed, once it is.
    pub(super) fn close_reason(&self) -> Option<SessionClosed> {
        self.publisher().closed.clone()
    }

    /// Returns the time since the client began, µs.
    pub(super) fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// Begins a session: it sends everything again that has no answer. Returns false if the client
    /// was closed meanwhile.
    pub(super) fn attach(
        &self,
        session: &Arc<SessionState>,
        attempts: u32,
        away: Duration,
    ) -> bool {
        let mut publisher = self.publisher();
        if publisher.closed.is_some() {
            return false;
        }
        publisher.facts = Facts::of(session);
        publisher.session = Some(session.clone());
        let again = publisher.outstanding.begin_session();
        again.into_iter().for_each(|outgoing| publisher.carry(outgoing));
        // Under the lock, so that a close comes later.
        self.slot.send_replace(Slot::Open(session.clone()));
        self.state.send_replace(State::Open { attempts, away });
        // After the state, which ends that of the session before. The next daemon says how it is.
        self.set_notice(None);
        drop(publisher);
        self.settled.notify_waiters();
        true
    }

    /// Ends a session. The publications wait for the next one.
    pub(super) fn detach(&self) {
        let mut publisher = self.publisher();
        publisher.session = None;
        if publisher.closed.is_none() {
            self.slot.send_replace(Slot::Away);
        }
        drop(publisher);
        // Those that wait for room get an error now.
        self.settled.notify_waiters();
    }

    /// Reports an attempt to reconnect.
    pub(super) fn reconnecting(&self, attempt: u32, pause: Duration, why: SessionClosed) {
        let publisher = self.publisher();
        if publisher.closed.is_none() {
            self.state.send_replace(State::Reconnecting { attempt, pause, why });
            // After the state: what the daemon has said is not over, but nobody knows.
            self.set_notice(None);
        }
    }

    /// Closes the client, and fails everything that waits. Only the first reason counts. Returns the
    /// session that is open, which the caller ends.
    pub(super) fn close(&self, why: SessionClosed) -> Option<Arc<SessionState>> {
        let mut publisher = self.publisher();
        if publisher.closed.is_some() {
            return None;
        }
        publisher.closed = Some(why.clone());
        let session = publisher.session.take();
        // A receiver whose sender is dropped returns the reason.
        publisher.outstanding.clear();
        self.slot.send_replace(Slot::Closed(why.clone()));
        self.state.send_replace(State::Closed { why });
        self.set_notice(None);
        drop(publisher);
        self.settled.notify_waiters();
        session
    }

    /// Settles a publication, and wakes the tasks that wait for that.
    pub(super) fn settle(&self, alias: u32, number: u64, outcome: PublishOutcome) {
        let settler = self.publisher().outstanding.settle(alias, number);
        if let Some(settler) = settler {
            settler.settle(outcome);
        }
        self.settled.notify_waiters();
    }

    /// Applies the daemon's acknowledgement of publications in datagrams.
    pub(super) fn acknowledge(&self, alias: u32, floor: u64, seen: u64) {
        let settled = self.publisher().outstanding.acknowledge(alias, floor, seen);
        settled.into_iter().for_each(|settler| settler.settle(Ok(None)));
        self.settled.notify_waiters();
    }

    /// Fails publications when their lifetime has passed. Never returns.
    pub(super) async fn expire(&self) {
        loop {
            let next = self.publisher().outstanding.next_expiry();
            let timer = async {
                match next {
                    Some(at) => {
                        tokio::time::sleep_until(self.begun + Duration::from_micros(at)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                () = self.expiries.notified() => continue,
            }
            let expired = self.publisher().outstanding.expire(self.now());
            for settler in expired {
                let lifetime = settler.lifetime;
                settler.settle(Err(PublishError::Expired(lifetime)));
            }
            self.settled.notify_waiters();
        }
    }

    /// Waits until every publication is settled, or the client is closed.
    pub(super) async fn all_settled(&self) {
        loop {
            let settled = self.settled.notified();
            {
                let publisher = self.publisher();
                if publisher.outstanding.is_empty() || publisher.closed.is_some() {
                    return;
                }
            }
            settled.await;
        }
    }
}
