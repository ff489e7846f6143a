//! The streams on which a peer publishes.

use super::dispatch::too_slow;
use super::end::SessionEnd;
use super::frame_reader::Frames;
use super::peer::Peer;
use super::upload::{StreamRead, StreamUpload};
use crate::broker::failure;
use crate::engine::{Action, Channel, no_room};
use crate::net::transport::stream::RecvStream;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Accepts and reads publishing streams until the session ends.
pub(super) async fn publications(peer: &Arc<Peer>) -> SessionEnd {
    let mut streams = JoinSet::new();
    let mut first_limit = true;
    loop {
        tokio::select! {
            accepted = peer.context.connection.accept_uni() => match accepted {
                Ok(rx) => {
                    streams.spawn(publish(peer.clone(), rx));
                    if streams.len() > 1 && std::mem::take(&mut first_limit) {
                        peer.context.connection.raise_stream_limit();
                    }
                }
                Err(lost) => return lost.into(),
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
    // A stream may overtake the control stream, and waits for its hello.
    peer.wait_open().await;
    let mut frames = Frames::new(rx, peer.payload);
    let mut stream = StreamUpload::new(peer.clone());
    let mut actions = Vec::new();
    loop {
        match stream.next(&mut frames).await? {
            StreamRead::Frames(frames) => {
                peer.handle(Channel::Publish, frames, &mut stream, &mut actions).await?;
            }
            StreamRead::TimedOut => {
                let action = peer.reject_incomplete(&mut stream, &mut frames, &too_slow()).await?;
                actions.extend(action);
            }
            StreamRead::NoRoom => {
                let action = peer.reject_incomplete(&mut stream, &mut frames, &no_room()).await?;
                actions.extend(action);
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
