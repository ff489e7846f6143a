//! Datagrams from a peer: publications, which are acknowledged, and repair requests.

use super::end::SessionEnd;
use super::frame_reader::datagram_frames;
use super::peer::Peer;
use super::upload::{Refuses, StreamUpload};
use crate::engine::{Action, Channel};
use crate::net::error::ConnectionLost;
use std::sync::Arc;
use std::time::Duration;

/// How long an acknowledgement waits for others, 5 ms.
const ACKNOWLEDGE: Duration = Duration::from_millis(5);

/// Reads datagrams until the session ends.
pub(crate) async fn read(peer: &Arc<Peer>) -> SessionEnd {
    let mut actions = Vec::new();
    // A datagram holds whole frames only, so nothing is ever incomplete here.
    let mut stream = StreamUpload::new(peer.clone());
    loop {
        let handled = match peer.context.connection.read_datagram().await {
            // A datagram of a peer that does not read its answers is dropped, as if lost. If it
            // waited for room, others would queue up behind it, each pinning the buffer it came in.
            Ok(_) if !peer.outbox.has_room() => continue,
            Ok(datagram) => match datagram_frames(datagram.clone(), peer.payload) {
                Ok(frames) => {
                    let counted = peer.throttle.try_receive(frames.len(), datagram.len());
                    stream.refuses =
                        if counted { Refuses::None } else { Refuses::All { told: false } };
                    peer.handle(Channel::Datagram, &frames, &mut stream, &mut actions).await
                }
                Err(end) => Err(end),
            },
            Err(lost) => Err(lost.into()),
        };
        for action in actions.drain(..) {
            match action {
                Action::Acknowledge { alias } => peer.datagrams.queue_ack(alias),
                Action::Repair { .. } => peer.datagrams.route_repair(action),
                // A datagram causes no other action.
                _ => {}
            }
        }
        if let Err(end) = handled {
            return end;
        }
    }
}

/// Acknowledges publications in datagrams until the session ends.
pub(crate) async fn acknowledge(peer: &Peer) -> SessionEnd {
    loop {
        peer.datagrams.ack_ready().await;
        // Boxed, because most sessions never get here.
        if let Err(lost) = Box::pin(send_acks(peer)).await {
            return lost.into();
        }
    }
}

async fn send_acks(peer: &Peer) -> Result<(), ConnectionLost> {
    tokio::time::sleep(ACKNOWLEDGE).await;
    let acks = peer.datagrams.take_acks();
    let size = peer.context.connection.datagram_size().unwrap_or(0);
    let (mut out, mut datagrams) = (Vec::new(), Vec::new());
    for alias in acks {
        let before = out.len();
        peer.context.broker.with(|engine| peer.session().acknowledge(engine, alias, &mut out));
        if out.len() > size {
            let next = out.split_off(before);
            datagrams.push(std::mem::replace(&mut out, next));
        }
    }
    datagrams.push(out);
    // The publications that they acknowledge are kept first.
    peer.context.broker.kept().await;
    for datagram in datagrams.into_iter().filter(|datagram| !datagram.is_empty()) {
        peer.context.connection.send_datagram(&[datagram.into()]).await?;
    }
    Ok(())
}
