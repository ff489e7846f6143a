//! One remote peer, however it is connected: its control stream, its publishing streams, its
//! deliveries. When one of them goes wrong, the session ends, and all of them with it.

pub(crate) mod allowance;
mod control;
pub(crate) mod datagrams;
mod dispatch;
mod end;
pub(crate) mod frame_reader;
mod peer;
mod publish_streams;
pub(crate) mod upload;

#[cfg(test)]
mod tests;

use super::delivery::DeliveryContext;
use super::transport::connection::Connection;
use crate::broker::admission::{Admission, SessionPermit, stopped};
use crate::broker::failure::{self, seam};
use crate::wire::{Code, Refusal};
use control::ControlWriter;
use end::SessionEnd;
use frame_reader::Frames;
use futures_util::FutureExt as _;
use peer::Peer;
use publish_streams::publications;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// From the connection to the hello.
const HELLO: Duration = Duration::from_secs(10);

/// How long a goodbye may take to reach the peer.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// Serves a peer until it leaves, misbehaves, or the daemon stops.
pub(crate) async fn serve(admission: &Admission, connection: Connection, permit: SessionPermit) {
    let (broker, mut stop) = (admission.broker().clone(), admission.stop());
    let (session, payload, budget) = broker
        .with(|engine| (engine.open_session(), engine.limits().payload, engine.budget().clone()));
    let id = session.id();
    let (transport, address) = (connection.transport(), connection.remote_address());
    tracing::debug!(id, %transport, %address, "session");
    let context = DeliveryContext::new(broker, connection);
    let peer = Arc::new(Peer::new(context, session, payload, budget));
    let late = late(&peer, tokio::time::Instant::now() + HELLO);
    let stopped = async {
        stopped(&mut stop).await;
        SessionEnd::from(stopping())
    };
    let early = async {
        tokio::select! { end = late => end, end = stopped => end }
    };
    tokio::pin!(early);
    let accepted = tokio::select! {
        accepted = peer.context.connection.accept_bi() => accepted.map_err(SessionEnd::from),
        end = &mut early => Err(end),
    };
    // Read no further when the session ends, and kept all the same until the connection closes: to
    // drop it is to send STOP_SENDING, upon which Firefox forgets the goodbye that it has not read.
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
                    end = second_control(&peer) => end,
                    end = &mut early => end,
                }
            };
            // What is used after a panic is only what it takes to say goodbye.
            let end = AssertUnwindSafe(seam(&peer.context.broker, "session", served))
                .catch_unwind()
                .await;
            (Some(writer), end.unwrap_or_else(|_| failure::defect("a session").into()))
        }
        Err(end) => (None, end),
    };
    // Nobody is woken for it from here on.
    // In portions, between which others have the lock; once if the engine has failed.
    let mut more = true;
    while std::mem::take(&mut more) {
        peer.context.broker.tidy(|engine| {
            let mut session = peer.state();
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
    // In a box: the session's task, which waits for most of its life, has no room for its end.
    let _ = timeout(LINGER, Box::pin(leave(&peer, goodbye, &farewell))).await;
    peer.context.connection.close(farewell.code, &farewell.reason);
    drop(frames);
    drop(permit);
}

async fn leave(peer: &Peer, goodbye: Option<ControlWriter>, farewell: &Refusal) {
    if let Some(writer) = goodbye {
        writer.say_goodbye(peer, farewell).await;
    }
    peer.context.connection.leave(farewell.code, &farewell.reason).await;
}

fn stopping() -> Refusal {
    Refusal::new(Code::SHUTTING_DOWN, "the daemon stops: connect again, here or elsewhere")
}

// Ends only when the hello did not come in time.
async fn late(peer: &Peer, deadline: tokio::time::Instant) -> SessionEnd {
    // In a box, which goes with the hello.
    if Box::pin(tokio::time::timeout_at(deadline, peer.opened())).await.is_ok() {
        std::future::pending::<()>().await;
    }
    let seconds = HELLO.as_secs();
    Refusal::new(Code::TIMED_OUT, format!("no hello within {seconds} s of connecting")).into()
}

async fn second_control(peer: &Peer) -> SessionEnd {
    match peer.context.connection.accept_bi().await {
        Ok(_) => Refusal::new(
            Code::UNEXPECTED,
            "a session has one bidirectional stream: publications go on unidirectional ones",
        )
        .into(),
        Err(gone) => gone.into(),
    }
}
