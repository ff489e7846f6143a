//! Publishing large payloads in chunks, which the daemon relays as they arrive.

use super::error::SessionClosed;
use super::in_flight::LargePublication;
use super::session_state::SessionState;
use crate::net::error::WriteError;
use crate::net::transport::Transport;
use crate::net::transport::stream::SendStream;
use crate::wire::{CHUNK, ClientFrame, Code, Digest, encode_chunk};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Payload bytes in a chunk. A few less than the limit, so that the whole frame fits 64 KiB of the
/// daemon's memory.
const CHUNK_BYTES: usize = CHUNK - 16;

/// Sends large publications, each on a stream of its own. Over WebSocket, which has only one
/// channel, sends one after the other.
pub(super) async fn send_large(state: &Arc<SessionState>) -> SessionClosed {
    let one_at_a_time = state.connection.transport() == Transport::WebSocket;
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            () = state.large_added.notified() => {
                let added = std::mem::take(&mut state.lock().large);
                for large in added {
                    if one_at_a_time {
                        send(state, large).await;
                    } else {
                        let state = state.clone();
                        streams.spawn(async move { send(&state, large).await });
                    }
                }
            }
            Some(_) = streams.join_next() => {}
        }
    }
}

// Returns no result: the driver settles the publication, also when the session is lost.
async fn send(state: &SessionState, large: LargePublication) {
    let Ok(mut stream) = state.connection.open_uni().await else {
        return;
    };
    // Small publications have priority.
    stream.set_priority(-1);
    match write(state, &large, &mut stream).await {
        Ok(true) => stream.finish(),
        // The daemon has answered before the end, or the connection is lost.
        Ok(false) | Err(_) => stream.reset(Code::DONE),
    }
    drop(large.permit);
}

// Returns whether it has written the whole publication.
async fn write(
    state: &SessionState,
    large: &LargePublication,
    stream: &mut SendStream,
) -> Result<bool, WriteError> {
    let LargePublication { alias, ref name, number, stamp, ref payload, .. } = *large;
    let mut head = Vec::with_capacity(64 + name.len());
    ClientFrame::Topic { alias, name }.encode(&mut head);
    let size = payload.len() as u64;
    ClientFrame::Begin { alias, number, stamp, size }.encode(&mut head);
    stream.write(&mut [head.into()]).await?;
    let mut hasher = blake3::Hasher::new();
    let mut rest = payload.clone();
    while !rest.is_empty() {
        // The daemon has rejected it, or had accepted it before, and needs no further bytes.
        if !state.lock().outstanding.waits(alias, number) {
            return Ok(false);
        }
        let bytes = rest.split_to(rest.len().min(CHUNK_BYTES));
        stream.write(&mut [encode_chunk(true, bytes.len()), bytes.clone()]).await?;
        // Hashes while the network sends.
        hasher.update(&bytes);
    }
    let mut end = Vec::with_capacity(40);
    ClientFrame::End { digest: Digest(*hasher.finalize().as_bytes()) }.encode(&mut end);
    stream.write(&mut [end.into()]).await?;
    Ok(true)
}
