//! Publishing in datagrams: repeated early, acknowledged, and published again on the stream when
//! that takes too long. The daemon accepts each number once, so nothing is counted twice.

use super::publish::{Outstanding, PublishOutcome};
use super::{Client, PublishError, SessionClosed, SessionState};
use crate::wire::realtime::{Congestion, Resend};
use crate::wire::{ClientFrame, Encoded};
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::oneshot;

/// Round-trip time where the transport does not say, 50 ms.
const RTT: Duration = Duration::from_millis(50);

/// A publication in a datagram, on its way: resolves when the daemon has accepted it. Dropping it
/// takes nothing back.
#[derive(Debug)]
pub struct Accepted {
    answer: oneshot::Receiver<PublishOutcome>,
    client: Client,
}

impl Future for Accepted {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        let answer = answer.unwrap_or_else(|_| Err(self.client.shared().why().into()));
        Poll::Ready(answer.map(|_| ()))
    }
}

impl Client {
    /// Publishes in a datagram, for what is worth most while it is new: a lost packet delays
    /// nothing but itself, and is made good within milliseconds. Accepted once, like every other
    /// publication, but without a receipt, and in the order of arrival. Returns as soon as it is
    /// on its way; waits only while 1,024 publications have no answer yet.
    ///
    /// What does not fit a datagram (about 1,100 bytes), and everything over WebSocket, goes as
    /// [`send`](Self::send) sends it.
    pub async fn send_realtime(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Accepted, PublishError> {
        let answer = self.number(topic, &payload.into(), true).await?;
        Ok(Accepted { answer, client: self.clone() })
    }
}

impl SessionState {
    pub(super) fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    pub(super) fn rtt(&self) -> u64 {
        self.connection.rtt().unwrap_or(RTT).as_micros() as u64
    }

    /// The datagram for a publication; none if it does not fit. With what was repeated last, if
    /// that fits too.
    pub(super) fn datagram(
        &self,
        outstanding: &Outstanding,
        (alias, publish): (u32, &Encoded),
        carried: Option<(u32, &Encoded)>,
    ) -> Option<Bytes> {
        let size = self.connection.datagram_size()?;
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
}

/// Sends again what was not acknowledged in time.
pub(super) async fn resend(shared: &Arc<SessionState>) -> SessionClosed {
    let mut due = Vec::new();
    let mut congestion = Congestion::default();
    // What was repeated last, and when: it goes along with the next repeat, if the path is so long
    // that it cannot be acknowledged yet. So a burst of losses has to be longer to take it.
    let mut last: Option<(u64, u32, Encoded)> = None;
    loop {
        let next = shared.lock().outstanding.unacked.due();
        let timer = async {
            match next {
                Some(next) => {
                    let at = shared.begun + Duration::from_micros(next);
                    tokio::time::sleep_until(at).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = timer => {}
            () = shared.resends.notified() => continue,
        }
        let (now, rtt) = (shared.now(), shared.rtt());
        let congested = congestion.sample(now, rtt) || shared.connection.datagrams_blocked();
        let mut state = shared.lock();
        state.outstanding.unacked.poll(now, rtt, &mut due);
        for resend in due.drain(..) {
            match resend {
                // More of the same would not help.
                Resend::Datagram(..) if congested => {}
                Resend::Datagram(alias, publish) => {
                    let before = last.as_ref().filter(|(at, ..)| now.saturating_sub(*at) < rtt);
                    let carried = before.map(|(_, alias, publish)| (*alias, publish));
                    let outstanding = &state.outstanding;
                    let datagram = shared.datagram(outstanding, (alias, &publish), carried);
                    shared.datagrams.push(datagram);
                    last = Some((now, alias, publish));
                }
                Resend::Stream(_, _, publish) => {
                    let (head, body) = publish.pieces();
                    let pieces = [head.clone(), body.clone()];
                    shared.publications.push(pieces.into_iter().filter(|piece| !piece.is_empty()));
                }
            }
        }
    }
}
