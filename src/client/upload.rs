//! Publishing large payloads in chunks, which the daemon relays as they arrive.

use super::error::SessionClosed;
use super::in_flight::LargePublication;
use super::session_state::SessionState;
use super::shared::Shared;
use crate::net::error::WriteError;
use crate::net::transport::Transport;
use crate::net::transport::stream::SendStream;
use crate::wire::{CHUNK, ClientFrame, Code, Digest, encode_chunk};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Payload bytes in a chunk. A few less than the limit, so that the whole frame fits 64 KiB of the
/// daemon's memory.
const CHUNK_BYTES: usize = CHUNK - 16;

/// Maximum number of payloads above [`LARGE`](crate::wire::LARGE) that are sent at once. They have
/// streams of their own, and do not delay the others. The daemon allows 100.
const LARGE_AT_ONCE: usize = 16;

/// Sends large publications, each on a stream of its own. Over WebSocket, which has only one
/// channel, sends one after the other.
pub(super) async fn send_large(shared: &Arc<Shared>, state: &Arc<SessionState>) -> SessionClosed {
    let one_channel = state.connection.transport() == Transport::WebSocket;
    let at_once = if one_channel { 1 } else { LARGE_AT_ONCE };
    let mut streams = JoinSet::new();
    loop {
        while streams.len() < at_once
            && let Some(large) = state.lock().large.pop_front()
        {
            let (shared, state) = (shared.clone(), state.clone());
            streams.spawn(async move { send(&shared, &state, large).await });
        }
        tokio::select! {
            () = state.large_added.notified() => {}
            Some(_) = streams.join_next() => {}
        }
    }
}

// Returns no result: the driver settles the publication. If the session is lost, the next one sends
// it again.
async fn send(shared: &Shared, state: &SessionState, large: LargePublication) {
    let Ok(mut stream) = state.connection.open_uni().await else {
        return;
    };
    // Small publications have priority.
    stream.set_priority(-1);
    match write(shared, state, &large, &mut stream).await {
        Ok(true) => stream.finish(),
        // The daemon has answered before the end, or the connection is lost.
        Ok(false) | Err(_) => stream.reset(Code::DONE),
    }
}

// Returns whether it has written the whole publication.
async fn write(
    shared: &Shared,
    state: &SessionState,
    large: &LargePublication,
    stream: &mut SendStream,
) -> Result<bool, WriteError> {
    let LargePublication { alias, ref name, number, stamp, ref payload } = *large;
    let one_channel = state.connection.transport() == Transport::WebSocket;
    state.lock().uploading = one_channel.then_some((alias, number));
    let mut head = Vec::with_capacity(64 + name.len());
    ClientFrame::Topic { alias, name }.encode(&mut head);
    let size = payload.len() as u64;
    ClientFrame::Begin { alias, number, stamp, size }.encode(&mut head);
    stream.write(&mut [head.into()]).await?;
    let mut hasher = blake3::Hasher::new();
    let mut rest = payload.clone();
    while !rest.is_empty() {
        // The daemon has rejected it, or had accepted it before, and needs no further bytes. Or its
        // lifetime has passed: then a channel must still carry all of it, because the next one may
        // begin only after an answer or an end.
        let goes_on = if one_channel {
            state.lock().uploading == Some((alias, number))
        } else {
            shared.publisher().outstanding.waits(alias, number)
        };
        if !goes_on {
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
