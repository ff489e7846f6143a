//! One remote peer, over any transport: its control stream, its publishing streams, its
//! deliveries. An error in one of them ends the session, and all of them with it.

pub(crate) mod allowance;
mod control;
mod datagram_work;
pub(crate) mod datagrams;
mod dispatch;
mod drain;
mod end;
pub(crate) mod flow;
pub(crate) mod frame_reader;
mod identity;
pub(crate) mod list;
mod notice;
mod notices;
mod peer;
mod peer_identity;
mod proposing;
mod publish_streams;
mod sampling;
#[cfg(feature = "otel")]
mod span;
pub(crate) mod traffic;
pub(crate) mod upload;

#[cfg(test)]
mod tests;

use super::deadlines::{HANDSHAKE, LINGER};
use super::delivery::DeliveryContext;
use super::delivery::windows::Windows;
use super::transport::Transport;
use super::transport::connection::Connection;
use crate::access::limit_counts::Limit;
use crate::broker::admission::SessionPermit;
use crate::broker::failure::{self, seam};
use crate::broker::newcomers::{Newcomer, displaced};
use crate::broker::stop::{Stage, draining, stopped};
use crate::broker::throttle::{Budgets, count_refusal};
use crate::wire::{Code, Refusal};
use control::ControlWriter;
use end::SessionEnd;
use frame_reader::Frames;
use futures_util::FutureExt as _;
use list::Host;
use peer::Peer;
use publish_streams::publications;
use std::panic::AssertUnwindSafe;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Serves a peer until it leaves, violates the protocol, or the daemon drains or stops.
pub(crate) async fn serve(host: &Host, connection: Connection, mut permit: SessionPermit) {
    let admission = &host.admission;
    let (broker, mut stage) = (admission.broker().clone(), admission.stage());
    let (session, payload, budget) = broker
        .with(|engine| (engine.open_session(), engine.limits().payload, engine.budget().clone()));
    let id = session.id();
    let Budgets { throttle, replay } = admission.session_budgets(&permit);
    connection.set_throttle(throttle.clone());
    let counts = admission.counts().clone();
    let windows = Windows::new(admission.buffers().clone(), counts, &connection);
    let context = DeliveryContext::new(broker, connection, replay, windows);
    let limits = (payload, budget, throttle);
    let shared = (admission.clone(), host.sessions.notices.clone());
    let peer = host.sessions.add(|place| Peer::new(context, session, limits, shared, place));
    let hello_timeout = hello_timeout(&peer, permit.newcomer.take());
    let _registered = proposing::Registered::new(&peer);
    let leaving = async {
        draining(&mut stage).await;
        // Boxed, because an idle session's task should not have space for its end.
        Box::pin(drain::leave_in_time(&peer, admission, &mut stage)).await
    };
    let expired = async {
        if admission.access().rules().is_open() {
            // Until there are rules.
            peer.rights_changed().await;
        }
        // Boxed, because a session of an open daemon does not have it.
        Box::pin(peer.rights_end()).await
    };
    let interrupted = async {
        tokio::select! { end = hello_timeout => end, end = leaving => end, end = expired => end }
    };
    tokio::pin!(interrupted);
    let accepted = tokio::select! {
        accepted = peer.context.connection.accept_bi() => accepted.map_err(SessionEnd::from),
        end = &mut interrupted => Err(end),
    };
    // Kept until the connection closes, although nothing reads it after the session's end. Dropping
    // it sends STOP_SENDING, upon which Firefox discards a goodbye that it has not read.
    let mut frames = None;
    let (control, end) = match accepted {
        Ok((tx, rx)) => {
            let frames = frames.insert(Frames::new(rx, peer.payload));
            let mut writer = ControlWriter::new(tx);
            let served = async {
                tokio::select! {
                    end = control::run(&peer, frames) => end,
                    end = publications(&peer) => end,
                    end = writer.run(&peer) => end,
                    end = datagrams::read(&peer) => end,
                    end = datagrams::acknowledge(&peer) => end,
                    end = release(&peer) => end,
                    end = second_control(&peer) => end,
                    end = &mut interrupted => end,
                }
            };
            // After a panic only the goodbye uses this state.
            let end = AssertUnwindSafe(seam(&peer.context.broker, "session", served))
                .catch_unwind()
                .await;
            (Some(writer), end.unwrap_or_else(|_| failure::defect("a session").into()))
        }
        Err(end) => (None, end),
    };
    // Ends the subscriptions, after which nothing wakes this session. It does so in portions, so
    // that others get the lock in between. If the engine has failed, `tidy` does nothing, and the
    // loop ends.
    let mut more = true;
    while std::mem::take(&mut more) {
        peer.context.broker.tidy(|engine| {
            let mut session = peer.session();
            session.close(engine);
            more = !session.is_closed();
        });
    }
    let (goodbye, farewell) = match end {
        SessionEnd::Left(reason) => {
            log_end(host, &peer, id, (Code::DONE, &reason));
            (None, Refusal::new(Code::DONE, ""))
        }
        SessionEnd::Refused(refusal) => {
            if refusal.code == Code::TIMED_OUT && !peer.is_open() {
                admission.counts().add(Limit::HelloTime);
                admission.counts().add_refusal(refusal.code);
            } else {
                count_refusal(admission.counts(), refusal.code);
            }
            log_end(host, &peer, id, (refusal.code, &refusal.reason));
            (control, refusal)
        }
    };
    // Boxed, as above.
    Box::pin(leave(&peer, goodbye, &farewell, admission.stage())).await;
    peer.context.connection.close(farewell.code, &farewell.reason);
    drop(frames);
    host.sessions.remove(&peer);
    drop(permit);
}

/// Maximum number of characters of a peer's reason in the log.
const REASON: usize = 200;

// The one line that the log has for a session. Peers without a hello are no sessions yet, and everybody
// can make any number of them.
fn log_end(host: &Host, peer: &Peer, id: u64, (code, reason): (Code, &str)) {
    let connection = &peer.context.connection;
    let (transport, address) = (connection.transport(), connection.remote_address());
    let reason = reason.char_indices().nth(REASON).map_or(reason, |(end, _)| &reason[..end]);
    let code = code.name();
    if !peer.is_open() {
        tracing::debug!(id, %transport, %address, code, reason, "a peer without a hello is gone");
        return;
    }
    // No task of the session writes it any more.
    let current = peer.identity.current.try_read();
    let identity = current.as_ref().ok().and_then(|current| current.as_ref()?.name());
    let seconds = host.sessions.age(peer).as_secs();
    tracing::info!(id, %transport, %address, identity, seconds, code, reason, "a session has ended");
    #[cfg(feature = "otel")]
    span::leave(peer, id, identity, (code, reason));
}

// Lets receipts go once the journal has kept their publications. Without a journal none are held.
async fn release(peer: &Peer) -> SessionEnd {
    loop {
        let number = peer.outbox.held().await;
        if let Some(journal) = peer.context.broker.journal() {
            // Boxed, because an idle session never gets here.
            Box::pin(journal.kept_through(number)).await;
            peer.outbox.release(journal.kept());
        }
    }
}

async fn leave(
    peer: &Peer,
    goodbye: Option<ControlWriter>,
    farewell: &Refusal,
    mut stage: watch::Receiver<Stage>,
) {
    let connection = &peer.context.connection;
    let told = async {
        if let Some(writer) = goodbye {
            writer.say_goodbye(peer, farewell).await;
        }
        connection.leave(farewell.code, &farewell.reason).await;
    };
    let late = async {
        sleep(LINGER).await;
        // The goodbye stands behind everything that a WebSocket's peer has not received.
        if connection.transport() == Transport::WebSocket && farewell.code == Code::SHUTTING_DOWN {
            stopped(&mut stage).await;
        }
    };
    tokio::select! {
        () = told => {}
        () = late => {}
    }
}

// Resolves only if the hello does not arrive in time, or the peer has to give way to others.
async fn hello_timeout(peer: &Peer, newcomer: Option<Newcomer>) -> SessionEnd {
    // Boxed, so that its memory is freed after the hello.
    let waiting = Box::pin(async {
        tokio::select! {
            opened = timeout(HANDSHAKE, peer.wait_open()) => opened.map_err(|_| {
                let seconds = HANDSHAKE.as_secs();
                let reason = format!("no hello within {seconds} s of connecting");
                Refusal::new(Code::TIMED_OUT, reason)
            }),
            () = displaced(newcomer.as_ref()) => {
                let reason = "many peers connect, and this one has sent no hello: connect again";
                Err(Refusal::new(Code::OVERLOADED, reason))
            }
        }
    });
    match waiting.await {
        Ok(()) => {
            drop(newcomer);
            std::future::pending().await
        }
        Err(refusal) => refusal.into(),
    }
}

async fn second_control(peer: &Peer) -> SessionEnd {
    match peer.context.connection.accept_bi().await {
        Ok(_) => Refusal::new(
            Code::UNEXPECTED,
            "a session has one bidirectional stream: publications go on unidirectional ones",
        )
        .into(),
        Err(lost) => lost.into(),
    }
}
