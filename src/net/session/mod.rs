//! One remote peer, over any transport: its control stream, its publishing streams, its
//! deliveries. An error in one of them ends the session, and all of them with it.

pub(crate) mod allowance;
mod control;
mod datagram_work;
pub(crate) mod datagrams;
mod dispatch;
mod drain;
mod end;
pub(crate) mod frame_reader;
pub(crate) mod list;
mod peer;
mod publish_streams;
pub(crate) mod upload;

#[cfg(test)]
mod tests;

use super::deadlines::{HANDSHAKE, LINGER};
use super::delivery::DeliveryContext;
use super::transport::Transport;
use super::transport::connection::Connection;
use crate::broker::admission::SessionPermit;
use crate::broker::failure::{self, seam};
use crate::broker::stop::{Stage, draining, stopped};
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
use tokio::time::sleep;

/// Serves a peer until it leaves, violates the protocol, or the daemon drains or stops.
pub(crate) async fn serve(host: &Host, connection: Connection, permit: SessionPermit) {
    let admission = &host.admission;
    let (broker, mut stage) = (admission.broker().clone(), admission.stage());
    let (session, payload, budget) = broker
        .with(|engine| (engine.open_session(), engine.limits().payload, engine.budget().clone()));
    let id = session.id();
    let (transport, address) = (connection.transport(), connection.remote_address());
    tracing::debug!(id, %transport, %address, "session");
    let context = DeliveryContext::new(broker, connection);
    let peer = host.sessions.add(|place| Peer::new(context, session, payload, budget, place));
    let hello_timeout = hello_timeout(&peer, tokio::time::Instant::now() + HANDSHAKE);
    let leaving = async {
        draining(&mut stage).await;
        // Boxed, because an idle session's task should not have space for its end.
        Box::pin(drain::leave_in_time(&peer, admission, &mut stage)).await
    };
    let interrupted = async {
        tokio::select! { end = hello_timeout => end, end = leaving => end }
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
            tracing::debug!(id, reason, "the peer left");
            (None, Refusal::new(Code::DONE, ""))
        }
        SessionEnd::Refused(refusal) => {
            tracing::debug!(id, code = %refusal.code, reason = %refusal.reason, "goodbye");
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

// Resolves only if the hello does not arrive in time.
async fn hello_timeout(peer: &Peer, deadline: tokio::time::Instant) -> SessionEnd {
    // Boxed, so that its memory is freed after the hello.
    if Box::pin(tokio::time::timeout_at(deadline, peer.wait_open())).await.is_ok() {
        std::future::pending::<()>().await;
    }
    let seconds = HANDSHAKE.as_secs();
    Refusal::new(Code::TIMED_OUT, format!("no hello within {seconds} s of connecting")).into()
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
