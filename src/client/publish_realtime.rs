//! Publishing in datagrams. A datagram is repeated early, and its publication is sent again on the
//! stream if it is not acknowledged in time. The daemon accepts each number once, so that it counts
//! no publication twice.

use super::error::{PublishError, SessionClosed};
use super::handle::Client;
use super::in_flight::{Outgoing, Outstanding};
use super::publish::{PendingOutcome, PublishOptions};
use super::session_state::SessionState;
use super::shared::{Publisher, Shared};
use crate::wire::realtime::{Congestion, Resend};
use crate::wire::{ClientFrame, Encoded};
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A publication that was sent in a datagram. Resolves when the daemon has accepted it. Dropping it
/// does not withdraw the publication.
#[derive(Debug)]
#[must_use = "the daemon may reject a publication: this tells"]
pub struct Accepted {
    outcome: PendingOutcome,
}

impl Future for Accepted {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.outcome).poll(context));
        Poll::Ready(outcome.map(|_| ()))
    }
}

impl Client {
    /// Publishes in a datagram, for payloads that lose their value quickly. A lost packet delays
    /// only its own publication, which is repeated within milliseconds.
    ///
    /// The daemon accepts the publication once, like every other, but sends no receipt, and accepts
    /// publications in the order of arrival. Returns as soon as the publication is queued for
    /// sending. It waits only in the cases of [`send`](Self::send).
    ///
    /// Publications that do not fit a datagram, of about 1,100 bytes, are sent as by
    /// [`send`](Self::send). So are all publications over WebSocket, and those that are sent again
    /// after the session has ended.
    ///
    /// ```
    /// # #[cfg(feature = "daemon")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
    /// # let server = daemon.local_addr().to_string();
    /// # let trust = weir::Trust::Pinned(daemon.certificate_hashes());
    /// let client = weir::Client::builder(server).trust(trust).connect().await?;
    /// let accepted = client.send_realtime("cursors/ada", "17,4").await?;
    /// accepted.await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn send_realtime(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Accepted, PublishError> {
        self.send_realtime_with(topic, payload, &PublishOptions::default()).await
    }

    /// The same as [`send_realtime`](Self::send_realtime), with options.
    pub async fn send_realtime_with(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        options: &PublishOptions,
    ) -> Result<Accepted, PublishError> {
        let outcome = self.submit(topic, &payload.into(), true, *options).await?;
        Ok(Accepted { outcome })
    }
}

impl Publisher {
    /// Sends a publication in a datagram of the session if it fits, else on its stream.
    pub(super) fn carry_datagram(&mut self, alias: u32, number: u64, publish: Encoded) {
        let Some(session) = self.session.clone() else {
            return;
        };
        let datagram = datagram(&session, &self.outstanding, (alias, &publish), None);
        let Some(datagram) = datagram else {
            return self.carry(Outgoing::Small(alias, number, publish));
        };
        // The alias is declared on the stream too, which loses nothing.
        if let Some(name) = self.outstanding.declare(alias) {
            session.push_declaration(&name, alias);
        }
        self.outstanding.unacked.push(session.now(), session.rtt(), alias, number, publish);
        // If no datagram waits, this one is sent here, which saves waking a task.
        if !session.connection.try_send_datagram(std::slice::from_ref(&datagram)) {
            session.datagrams.push([datagram]);
        }
        session.resends.notify_one();
    }
}

// Returns the datagram for a publication, or `None` if it does not fit. Adds `carried`, the
// publication that was repeated last, if that fits too.
fn datagram<T>(
    session: &SessionState,
    outstanding: &Outstanding<T>,
    (alias, publish): (u32, &Encoded),
    carried: Option<(u32, &Encoded)>,
) -> Option<Bytes> {
    let size = session.connection.datagram_size()?;
    let mut datagram = Vec::with_capacity(size);
    for (alias, publish) in [(alias, publish)].into_iter().chain(carried) {
        let before = datagram.len();
        if let Some(name) = outstanding.undeclared(alias) {
            ClientFrame::Topic { alias, name }.encode(&mut datagram);
        }
        let (head, body) = publish.pieces();
        datagram.extend_from_slice(head);
        datagram.extend_from_slice(body);
        if datagram.len() > size {
            datagram.truncate(before);
        }
    }
    (!datagram.is_empty()).then(|| datagram.into())
}

/// Sends publications again that were not acknowledged in time.
pub(super) async fn resend(shared: &Shared, state: &Arc<SessionState>) -> SessionClosed {
    let mut due = Vec::new();
    let mut congestion = Congestion::default();
    // The publication that was repeated last, and when. The next repeat carries it too, unless a
    // round trip has passed and it may be acknowledged. So it survives a longer burst of losses.
    let mut last: Option<(u64, u32, Encoded)> = None;
    loop {
        let next =
            shared.carried_by(state).and_then(|publisher| publisher.outstanding.unacked.due());
        let timer = async {
            match next {
                Some(next) => {
                    let at = state.begun + Duration::from_micros(next);
                    tokio::time::sleep_until(at).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = timer => {}
            () = state.resends.notified() => continue,
        }
        let (now, rtt) = (state.now(), state.rtt());
        let congested = congestion.sample(now, rtt) || state.connection.datagrams_blocked();
        // After the end of the session, the next one sends them.
        let Some(mut publisher) = shared.carried_by(state) else {
            continue;
        };
        publisher.outstanding.unacked.poll(now, rtt, &mut due);
        for resend in due.drain(..) {
            match resend {
                // A repeat would add to the congestion.
                Resend::Datagram(..) if congested => {}
                Resend::Datagram(alias, publish) => {
                    let before = last.as_ref().filter(|(at, ..)| now.saturating_sub(*at) < rtt);
                    let carried = before.map(|(_, alias, publish)| (*alias, publish));
                    let outstanding = &publisher.outstanding;
                    let datagram = datagram(state, outstanding, (alias, &publish), carried);
                    state.datagrams.push(datagram);
                    last = Some((now, alias, publish));
                }
                Resend::Stream(_, _, publish) => {
                    state.push_publication(&publish);
                }
            }
        }
    }
}
