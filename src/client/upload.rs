//! Large payloads on their way to the daemon: in chunks, which it relays as they come.

use super::{SessionClosed, SessionState};
use crate::net::error::WriteError;
use crate::net::transport::Transport;
use crate::net::transport::stream::SendStream;
use crate::wire::{CHUNK, ClientFrame, Code, Digest, encode_chunk};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

/// Bytes in a chunk: as many as are allowed, but for what lets the whole frame fit 64 KiB of memory
/// in the daemon.
const PART: usize = CHUNK - 16;

/// A publication that goes by itself.
pub(super) struct Large {
    pub(super) alias: u32,
    pub(super) name: Arc<str>,
    pub(super) number: u64,
    pub(super) stamp: u64,
    pub(super) payload: Bytes,
    pub(super) permit: OwnedSemaphorePermit,
}

/// Sends each on a stream of its own; on a shared channel, where one at a time may be under way,
/// one after the other.
pub(super) async fn write_large(shared: &Arc<SessionState>) -> SessionClosed {
    let alone = shared.connection.transport() == Transport::WebSocket;
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            () = shared.sending.notified() => {
                let handed = std::mem::take(&mut shared.lock().sending);
                for large in handed {
                    if alone {
                        send(shared, large).await;
                    } else {
                        let shared = shared.clone();
                        streams.spawn(async move { send(&shared, large).await });
                    }
                }
            }
            Some(_) = streams.join_next() => {}
        }
    }
}

// Whoever waits for the receipt is told by the driver, also when the session is gone.
async fn send(shared: &SessionState, large: Large) {
    let Ok(mut tx) = shared.connection.open_uni().await else {
        return;
    };
    // Small ones go first.
    tx.set_priority(-1);
    match write(shared, &large, &mut tx).await {
        Ok(true) => tx.finish(),
        // Answered before its end, or gone.
        Ok(false) | Err(_) => tx.reset(Code::DONE),
    }
    drop(large.permit);
}

// Whether all of it was written.
async fn write(
    shared: &SessionState,
    large: &Large,
    tx: &mut SendStream,
) -> Result<bool, WriteError> {
    let Large { alias, ref name, number, stamp, ref payload, .. } = *large;
    let mut head = Vec::with_capacity(64 + name.len());
    ClientFrame::Topic { alias, name }.encode(&mut head);
    let size = payload.len() as u64;
    ClientFrame::Begin { alias, number, stamp, size }.encode(&mut head);
    tx.write(&mut [head.into()]).await?;
    let mut hasher = blake3::Hasher::new();
    let mut rest = payload.clone();
    while !rest.is_empty() {
        // Refused, or had before: nothing more of it is wanted.
        if !shared.lock().outstanding.waits(alias, number) {
            return Ok(false);
        }
        let bytes = rest.split_to(rest.len().min(PART));
        tx.write(&mut [encode_chunk(true, bytes.len()), bytes.clone()]).await?;
        // While the network has something to do.
        hasher.update(&bytes);
    }
    let mut end = Vec::with_capacity(40);
    ClientFrame::End { digest: Digest(*hasher.finalize().as_bytes()) }.encode(&mut end);
    tx.write(&mut [end.into()]).await?;
    Ok(true)
}
