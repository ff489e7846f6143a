//! The streams that a peer publishes on.

use super::dispatch::stalled;
use super::end::SessionEnd;
use super::frame_reader::Frames;
use super::peer::Peer;
use super::upload::{Incoming, StreamRead};
use crate::broker::failure;
use crate::engine::{Action, Channel, no_room};
use crate::net::transport::stream::RecvStream;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Accepts and reads them until the session ends.
pub(super) async fn publications(peer: &Arc<Peer>) -> SessionEnd {
    let mut streams = JoinSet::new();
    let mut few = true;
    loop {
        tokio::select! {
            accepted = peer.context.connection.accept_uni() => match accepted {
                Ok(rx) => {
                    streams.spawn(publish(peer.clone(), rx));
                    if streams.len() > 1 && std::mem::take(&mut few) {
                        peer.context.connection.raise_stream_limit();
                    }
                }
                Err(gone) => return gone.into(),
            },
            Some(ended) = streams.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(end)) => return end,
                Err(_) => return failure::defect("a publishing stream").into(),
            },
        }
    }
}

async fn publish(peer: Arc<Peer>, rx: RecvStream) -> Result<(), SessionEnd> {
    // Streams may overtake the control stream: they wait for its hello.
    peer.opened().await;
    let mut frames = Frames::new(rx, peer.payload);
    let mut incoming = Incoming::new(peer.clone());
    let mut actions = Vec::new();
    loop {
        match incoming.next(&mut frames).await? {
            StreamRead::Frames(frames) => {
                peer.handle(Channel::Publish, frames, &mut incoming, &mut actions).await?;
            }
            StreamRead::TimedOut => {
                actions.extend(peer.give_up(&mut incoming, &mut frames, &stalled()).await?);
            }
            StreamRead::NoRoom => {
                actions.extend(peer.give_up(&mut incoming, &mut frames, &no_room()).await?);
            }
            StreamRead::Finished => return Ok(()),
        }
        for action in actions.drain(..) {
            if let Action::StopReading { code } = action {
                frames.stop(code);
                return Ok(());
            }
        }
    }
}
