//! The client's side of the streams: one task that reads and writes, and hands out what comes.

use super::datagram_queue::Inbox;
use super::message_stream::{Incoming, broken};
use super::publish::{Outstanding, Receipt};
use super::publish_realtime::resend;
use super::request::Reply;
use super::upload::{Large, write_large};
use super::{PublishError, SessionClosed, SessionState};
use crate::net::error::{ConnectionLost, WriteError};
use crate::net::transport::stream::{RecvStream, SendStream};
use crate::wire::{ClientFrame, Code, DaemonFrame, FrameReader, Refusal};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long the daemon may take to hear that the session is over.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// What a subscription is handed.
pub(super) enum Delivery {
    /// A stream of its messages.
    Stream(Incoming),
    /// It has ended.
    Ended(Refusal),
}

/// Where to what comes for a subscription.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) sender: mpsc::Sender<Delivery>,
    pub(super) inbox: Option<Arc<Inbox>>,
}

/// What waits for the daemon, and what it is told.
#[derive(Default)]
pub(super) struct State {
    pub(super) closed: Option<SessionClosed>,
    pub(super) last_request: u32,
    pub(super) questions: HashMap<u32, oneshot::Sender<Result<Reply, Refusal>>>,
    pub(super) subscriptions: HashMap<u32, Route>,
    // The first subscription with datagrams: theirs may say nothing of it.
    pub(super) bare: Option<u32>,
    pub(super) outstanding: Outstanding,
    pub(super) sending: Vec<Large>,
}

impl State {
    /// A request was refused. If it was to subscribe, that is no subscription: the first with
    /// datagrams is another.
    fn failed(&mut self, request: u32) {
        // Else it is about one that has ended, which still counts.
        if !self.questions.contains_key(&request) {
            return;
        }
        self.subscriptions.remove(&request);
        if self.bare == Some(request) {
            let others = self.subscriptions.iter().filter(|(_, route)| route.inbox.is_some());
            self.bare = others.map(|(request, _)| *request).min();
        }
    }
}

impl SessionState {
    /// The session is over: everybody who waits is told.
    pub(super) fn fail(&self, closed: SessionClosed) {
        let mut state = self.lock();
        state.closed.get_or_insert(closed);
        // Whoever waits for a dropped sender asks why the session ended.
        state.questions.clear();
        state.subscriptions.clear();
        state.outstanding.clear();
        state.sending.clear();
        drop(state);
        self.control.close();
        self.publications.close();
        self.datagrams.close();
        self.receipt.notify_waiters();
        self.large.close();
    }

    /// Ends the session, and tells a daemon that broke the protocol. One that said goodbye closes
    /// by itself, and what came before may still be read; one that is gone does not hear this.
    pub(super) fn break_off(&self, closed: SessionClosed) {
        match closed.code {
            None => self.connection.close(Code::MALFORMED, &closed.reason),
            code => self.connection.end(ConnectionLost { code, reason: closed.reason.clone() }),
        }
        self.fail(closed);
    }

    /// Why the session ended.
    pub(super) fn why(&self) -> SessionClosed {
        let closed = self.lock().closed.clone();
        closed.unwrap_or_else(super::connect::closed_here)
    }
}

/// Serves the session until it ends.
pub(super) async fn run(
    shared: Arc<SessionState>,
    mut tx: SendStream,
    rx: RecvStream,
    reader: FrameReader,
) {
    let closed = tokio::select! {
        closed = read_control(&shared, Incoming::control(rx, reader)) => closed,
        closed = write_control(&shared, &mut tx) => closed,
        closed = write_publications(&shared) => closed,
        closed = write_large(&shared) => closed,
        closed = accept_streams(&shared) => closed,
        closed = take_datagrams(&shared) => closed,
        closed = write_datagrams(&shared) => closed,
        closed = resend(&shared) => closed,
        closed = cut_off(&shared) => closed,
    };
    shared.break_off(closed);
    let _ = timeout(LINGER, shared.connection.leave(Code::DONE, "")).await;
    shared.connection.set_left();
}

// The daemon is to send no more for a subscription whose reader does not keep up with a channel
// that it shares. The reader, when it comes to the end of what it has, asks for the rest.
async fn cut_off(shared: &SessionState) -> SessionClosed {
    loop {
        let subscription = shared.connection.cut().await;
        let mut out = Vec::new();
        ClientFrame::Unsubscribe { subscription }.encode(&mut out);
        shared.control.push([out.into()]);
    }
}

async fn write_control(shared: &SessionState, tx: &mut SendStream) -> SessionClosed {
    let mut pieces = Vec::new();
    loop {
        shared.control.take(&mut pieces).await;
        match tx.write(&mut pieces).await {
            Ok(()) => pieces.clear(),
            Err(_) => return shared.connection.closed().await.into(),
        }
    }
}

// One long-lived stream, opened with the first publication.
async fn write_publications(shared: &SessionState) -> SessionClosed {
    let mut pieces = Vec::new();
    let mut stream = None;
    loop {
        shared.publications.take(&mut pieces).await;
        let tx = match &mut stream {
            Some(tx) => tx,
            None => match shared.connection.open_uni().await {
                Ok(tx) => stream.insert(tx),
                Err(gone) => return gone.into(),
            },
        };
        match tx.write(&mut pieces).await {
            Ok(()) => pieces.clear(),
            // Who reads may know better why.
            Err(WriteError::ConnectionLost(_)) => return shared.connection.closed().await.into(),
            Err(WriteError::Stopped) => return broken("it stopped the stream of publications"),
        }
    }
}

// Frames of datagrams go to whom they are for. What cannot be placed is as good as lost.
async fn take_datagrams(shared: &SessionState) -> SessionClosed {
    loop {
        let datagram = match shared.connection.read_datagram().await {
            Ok(datagram) => datagram,
            Err(gone) => return gone.into(),
        };
        let mut reader = FrameReader::new(datagram.len());
        reader.push(datagram);
        let mut request = None;
        let mut frames = Vec::new();
        loop {
            let frame = match reader.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) if !reader.is_partial() => break,
                Ok(None) => return broken("a datagram ended in the middle of a frame"),
                Err(error) => return broken(error),
            };
            match DaemonFrame::decode(&frame) {
                Ok(DaemonFrame::For { request: named }) => request = Some(named),
                Ok(DaemonFrame::Acknowledge { alias, floor, seen }) => {
                    shared.lock().outstanding.acknowledge(alias, floor, seen);
                    shared.receipt.notify_waiters();
                }
                Ok(DaemonFrame::Mark { .. }) => return broken("a mark in a datagram"),
                Ok(_) => frames.push(frame),
                Err(error) => return broken(error),
            }
        }
        let waker = {
            let state = shared.lock();
            let route =
                request.or(state.bare).and_then(|request| state.subscriptions.get(&request));
            route.and_then(|route| route.inbox.as_ref()).and_then(|inbox| inbox.push(frames))
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

async fn write_datagrams(shared: &SessionState) -> SessionClosed {
    let mut datagrams = Vec::new();
    loop {
        shared.datagrams.take(&mut datagrams).await;
        for datagram in datagrams.drain(..) {
            if let Err(gone) = shared.connection.send_datagram(&[datagram]).await {
                return gone.into();
            }
        }
    }
}

async fn accept_streams(shared: &Arc<SessionState>) -> SessionClosed {
    let mut heads = JoinSet::new();
    loop {
        tokio::select! {
            accepted = shared.connection.accept_uni() => match accepted {
                Ok(rx) => drop(heads.spawn(take_stream(shared.clone(), rx))),
                Err(gone) => return gone.into(),
            },
            Some(_) = heads.join_next() => {}
        }
    }
}

// The first frame says for whom the rest is.
async fn take_stream(shared: Arc<SessionState>, rx: RecvStream) {
    let mut incoming = Incoming::new(rx, shared.limits.payload);
    let Ok(Some(frame)) = incoming.next_frame().await else {
        return;
    };
    let Ok(DaemonFrame::For { request }) = DaemonFrame::decode(&frame) else {
        return shared.break_off(broken("a stream did not begin by saying what it is for"));
    };
    // The stream of a subscription may come before the answer to its question: that stays.
    let subscription = shared.lock().subscriptions.get(&request).cloned();
    if let Some(subscription) = subscription {
        // Gone if nobody wants it any more; the stream is then stopped by dropping it.
        let _ = subscription.sender.send(Delivery::Stream(incoming)).await;
        return;
    }
    // Of a subscription that was dropped meanwhile: nobody waits.
    if !shared.lock().questions.contains_key(&request) {
        return;
    }
    match super::request::read_message(&mut incoming).await {
        Ok(Some(message)) => shared.answer(request, message.map(Reply::Message)),
        // The daemon ends the session, and the control stream says why.
        Ok(None) => {}
        // Nobody waits any more.
        Err(_) if !shared.lock().questions.contains_key(&request) => {}
        Err(fault) => drop(shared.fault(fault)),
    }
}

async fn read_control(shared: &SessionState, mut incoming: Incoming) -> SessionClosed {
    loop {
        let frame = match incoming.next_frame().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return shared.connection.closed().await.into(),
            Err(fault) => return fault.into(),
        };
        let frame = match DaemonFrame::decode(&frame) {
            Ok(frame) => frame,
            Err(error) => return broken(error),
        };
        match frame {
            DaemonFrame::Receipt { alias, number, sequence, count, since, digest, duplicate } => {
                let since = Some(since).filter(|since| *since > 0);
                let receipt = Receipt { sequence, count, since, digest, duplicate };
                shared.lock().outstanding.settle(alias, number, Ok(Some(receipt)));
                shared.receipt.notify_waiters();
            }
            DaemonFrame::Rejected { alias, number, code, reason } => {
                let refusal = Refusal::new(code, reason.to_owned());
                let refused = Err(PublishError::Refused(refusal));
                shared.lock().outstanding.settle(alias, number, refused);
                shared.receipt.notify_waiters();
            }
            DaemonFrame::Subscribed { request, position } => {
                shared.answer(request, Ok(Reply::Subscribed(position)));
            }
            DaemonFrame::Top { request, entries } => {
                let ranking = entries.iter().map(super::Ranking::from_wire).collect();
                shared.answer(request, Ok(Reply::Top(ranking)));
            }
            DaemonFrame::Pong { request, .. } => {
                shared.answer(request, Ok(Reply::Pong));
            }
            DaemonFrame::Failed { request, code, reason } => {
                shared.lock().failed(request);
                shared.answer(request, Err(Refusal::new(code, reason.to_owned())));
            }
            DaemonFrame::Ended { request, code, reason } => {
                shared.connection.end_of(request);
                let subscription = shared.lock().subscriptions.remove(&request);
                if let Some(subscription) = subscription {
                    let refusal = Refusal::new(code, reason.to_owned());
                    match &subscription.inbox {
                        // Told when it has taken the streams that wait: see `UnorderedReceiver::poll`.
                        Some(inbox) => inbox.end(refusal),
                        // There is room: such a one is sent one stream and one end.
                        None => drop(subscription.sender.try_send(Delivery::Ended(refusal))),
                    }
                }
            }
            DaemonFrame::Drain { within, reason } => {
                tracing::info!(within, reason, "the daemon is about to stop");
            }
            DaemonFrame::Goodbye { code, reason, .. } => {
                return SessionClosed { code: Some(code), reason: reason.into() };
            }
            other => return broken(format!("unexpected on the control stream: {other:?}")),
        }
    }
}

impl SessionState {
    fn answer(&self, request: u32, answer: Result<Reply, Refusal>) {
        let question = self.lock().questions.remove(&request);
        if let Some(question) = question {
            // Nobody waits any more: nothing lost.
            let _ = question.send(answer);
        }
    }
}
