//! The task that serves a session on the client's side: it reads and writes the streams, and
//! distributes what arrives.

use super::error::{PublishError, SessionClosed};
use super::message_stream::{MessageStream, violation};
use super::publish_realtime::resend;
use super::renew::renew;
use super::request::read_message;
use super::session_state::{Delivery, LINGER, Reply, SessionState};
use super::shared::Shared;
use super::upload::send_large;
use crate::message::{Ranking, Receipt};
use crate::net::error::WriteError;
use crate::net::transport::stream::{RecvStream, SendStream};
use crate::wire::{ClientFrame, Code, DaemonFrame, FrameReader, Refusal, nonzero};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Maximum time between the end of the publishing stream and the end of the session, 5 s: the daemon
/// closes within one second, and lost packets take time.
const STOPPED: Duration = Duration::from_secs(5);

/// Serves the session until it ends.
pub(super) async fn run(
    shared: Arc<Shared>,
    state: Arc<SessionState>,
    mut send: SendStream,
    receive: RecvStream,
    reader: FrameReader,
) {
    let closed = tokio::select! {
        closed = read_control(&shared, &state, MessageStream::control(receive, reader)) => closed,
        closed = write_control(&state, &mut send) => closed,
        closed = write_publications(&state) => closed,
        closed = send_large(&shared, &state) => closed,
        closed = accept_streams(&state) => closed,
        closed = route_datagrams(&shared, &state) => closed,
        closed = write_datagrams(&state) => closed,
        closed = resend(&shared, &state) => closed,
        closed = end_overflowed(&state) => closed,
        closed = renew(&shared.token, &state) => closed,
    };
    state.terminate(closed);
    let _ = timeout(LINGER, state.connection.leave(Code::DONE, "")).await;
    state.connection.set_left();
}

// Ends subscriptions whose readers are too slow for a channel that they share. Such a reader
// subscribes again when it has read everything that arrived.
async fn end_overflowed(state: &SessionState) -> SessionClosed {
    loop {
        let subscription = state.connection.next_overflowed_request().await;
        let mut out = Vec::new();
        ClientFrame::Unsubscribe { subscription }.encode(&mut out);
        state.control.push([out.into()]);
    }
}

async fn write_control(state: &SessionState, send: &mut SendStream) -> SessionClosed {
    let mut pieces = Vec::new();
    loop {
        state.control.take(&mut pieces).await;
        match send.write(&mut pieces).await {
            Ok(()) => pieces.clear(),
            Err(_) => return state.connection.closed().await.into(),
        }
    }
}

// Writes to one long-lived stream, which is opened with the first publication.
async fn write_publications(state: &SessionState) -> SessionClosed {
    let mut pieces = Vec::new();
    let mut stream = None;
    loop {
        state.publications.take(&mut pieces).await;
        let send = match &mut stream {
            Some(send) => send,
            None => match state.connection.open_uni().await {
                Ok(send) => stream.insert(send),
                Err(lost) => return lost.into(),
            },
        };
        match send.write(&mut pieces).await {
            Ok(()) => pieces.clear(),
            // The connection may know the reason better than the stream.
            Err(WriteError::ConnectionLost(_)) => return state.connection.closed().await.into(),
            Err(WriteError::Stopped) => return stopped(state).await,
        }
    }
}

// The daemon has stopped the stream of publications. It does so when it ends the session, and then says
// goodbye. The other tasks receive the goodbye, or the connection closes.
async fn stopped(state: &SessionState) -> SessionClosed {
    match timeout(STOPPED, state.connection.closed()).await {
        Ok(lost) => lost.into(),
        Err(_) => violation("it stopped the stream of publications"),
    }
}

// Puts the frames of datagrams into the queues of their subscriptions. Frames without a queue are
// dropped, as if the network had lost them.
async fn route_datagrams(shared: &Shared, state: &SessionState) -> SessionClosed {
    loop {
        let datagram = match state.connection.read_datagram().await {
            Ok(datagram) => datagram,
            Err(lost) => return lost.into(),
        };
        let mut reader = FrameReader::new(datagram.len());
        reader.push(datagram);
        let mut request = None;
        let mut frames = Vec::new();
        loop {
            let frame = match reader.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) if !reader.is_partial() => break,
                Ok(None) => return violation("a datagram ended in the middle of a frame"),
                Err(error) => return violation(error),
            };
            match DaemonFrame::decode(&frame) {
                Ok(DaemonFrame::For { request: named }) => request = Some(named),
                Ok(DaemonFrame::Acknowledge { alias, floor, seen }) => {
                    shared.acknowledge(alias, floor, seen);
                }
                Ok(DaemonFrame::Mark { .. }) => return violation("a mark in a datagram"),
                Ok(_) => frames.push(frame),
                Err(error) => return violation(error),
            }
        }
        let waker = {
            let state = state.lock();
            let route = request
                .or(state.implicit_subscription)
                .and_then(|request| state.subscriptions.get(&request));
            route.and_then(|route| route.queue.as_ref()).and_then(|queue| queue.push(frames))
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

async fn write_datagrams(state: &SessionState) -> SessionClosed {
    let mut datagrams = Vec::new();
    loop {
        state.datagrams.take(&mut datagrams).await;
        for datagram in datagrams.drain(..) {
            if let Err(lost) = state.connection.send_datagram(&[datagram]).await {
                return lost.into();
            }
        }
    }
}

async fn accept_streams(state: &Arc<SessionState>) -> SessionClosed {
    let mut routing = JoinSet::new();
    loop {
        tokio::select! {
            accepted = state.connection.accept_uni() => match accepted {
                Ok(receive) => drop(routing.spawn(route_stream(state.clone(), receive))),
                Err(lost) => return lost.into(),
            },
            Some(_) = routing.join_next() => {}
        }
    }
}

// The first frame of a stream names the request that the stream belongs to.
async fn route_stream(state: Arc<SessionState>, receive: RecvStream) {
    let mut stream = MessageStream::new(receive, state.limits.payload);
    let Ok(Some(frame)) = stream.next_frame().await else {
        return;
    };
    let Ok(DaemonFrame::For { request }) = DaemonFrame::decode(&frame) else {
        return state.terminate(violation("a stream did not begin by saying what it is for"));
    };
    // The stream of a subscription may arrive before its `Subscribed`, so that the entry in
    // `requests` has to stay.
    let subscription = state.lock().subscriptions.get(&request).cloned();
    if let Some(subscription) = subscription {
        // Fails if the subscription was dropped. Dropping the stream then stops it.
        let _ = subscription.sender.send(Delivery::Stream(stream)).await;
        return;
    }
    // The subscription of this stream was dropped in the meantime.
    if !state.lock().requests.contains_key(&request) {
        return;
    }
    match read_message(&mut stream).await {
        Ok(Some(message)) => state.reply(request, message.map(Reply::Message)),
        // The daemon ends the session. The control stream has the reason.
        Ok(None) => {}
        // The caller has dropped its future.
        Err(_) if !state.lock().requests.contains_key(&request) => {}
        Err(fault) => drop(state.fault(fault)),
    }
}

async fn read_control(
    shared: &Shared,
    state: &SessionState,
    mut stream: MessageStream,
) -> SessionClosed {
    loop {
        let frame = match stream.next_frame().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return state.connection.closed().await.into(),
            Err(fault) => return fault.into(),
        };
        let frame = match DaemonFrame::decode(&frame) {
            Ok(frame) => frame,
            Err(error) => return violation(error),
        };
        match frame {
            DaemonFrame::Receipt { alias, number, sequence, count, since, digest, duplicate } => {
                let since = nonzero(since);
                let receipt = Receipt { sequence, count, since, digest, duplicate };
                state.answered(alias, number);
                shared.settle(alias, number, Ok(Some(receipt)));
            }
            DaemonFrame::Rejected { alias, number, code, reason } => {
                let refusal = Refusal::new(code, reason.to_owned());
                state.answered(alias, number);
                shared.settle(alias, number, Err(PublishError::Refused(refusal)));
            }
            DaemonFrame::Subscribed { request, position } => {
                state.reply(request, Ok(Reply::Subscribed(position)));
            }
            DaemonFrame::Top { request, entries } => {
                let ranking = entries.iter().map(Ranking::from_wire).collect();
                state.reply(request, Ok(Reply::Top(ranking)));
            }
            DaemonFrame::Pong { request, clock } => {
                state.reply(request, Ok(Reply::Pong(clock)));
            }
            DaemonFrame::Failed { request, code, reason } => {
                state.lock().refused(request);
                state.reply(request, Err(Refusal::new(code, reason.to_owned())));
            }
            DaemonFrame::Ended { request, code, reason } => {
                state.connection.finish_request(request);
                let subscription = state.lock().subscriptions.remove(&request);
                if let Some(subscription) = subscription {
                    let refusal = Refusal::new(code, reason.to_owned());
                    match &subscription.queue {
                        // Its reader first takes the streams that wait: see
                        // `UnorderedReceiver::poll`.
                        Some(queue) => queue.end(refusal),
                        // The channel has room for one stream and one end, which is all it gets.
                        None => drop(subscription.sender.try_send(Delivery::Ended(refusal))),
                    }
                }
            }
            DaemonFrame::Drain { within, reason } => {
                let within = Duration::from_millis(within.into());
                state.lock().drain = Some((within, reason.into()));
                state.draining.notify_one();
            }
            DaemonFrame::Notice { code, reason } => shared.notice(state, code, reason),
            DaemonFrame::Authorized { request, lifetime, .. } => {
                state.set_authorized(Duration::from_millis(lifetime));
                state.reply(request, Ok(Reply::Authorized));
            }
            DaemonFrame::Goodbye { code, reason, retry } => {
                return SessionClosed { code: Some(code), reason: reason.into(), retry };
            }
            other => return violation(format!("unexpected on the control stream: {other:?}")),
        }
    }
}
