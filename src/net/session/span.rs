//! The span of a session that has ended.

use super::peer::Peer;
use crate::broker::spans::{SessionSpan, Span, SpanOf};
use crate::net::transport::Transport;
use std::time::Instant;

/// Leaves the span of a session, if it is sampled. It has no parent.
pub(super) fn leave(
    peer: &Peer,
    id: u64,
    name: Option<&str>,
    (code, reason): (&'static str, &str),
) {
    if !peer.admission.spans().is_some_and(|spans| spans.samples(None)) {
        return;
    }
    let connection = &peer.context.connection;
    let (transport, delivered) = (connection.transport(), peer.context.delivered.total());
    let session = SessionSpan {
        id,
        transport: transport.to_string(),
        network: if transport == Transport::WebSocket { "tcp" } else { "quic" },
        peer: connection.remote_address(),
        name: name.map(str::to_owned),
        code,
        reason: reason.to_owned(),
        received: peer.session().accepted(),
        delivered: (delivered.messages, delivered.bytes),
    };
    let (begun, ended) = (peer.begun, Instant::now());
    let of = SpanOf::Session(Box::new(session));
    peer.admission.leave_span(Span { begun, ended, parent: None, of });
}
