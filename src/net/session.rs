//! One remote peer, however it is connected: its control stream, its publishing streams, its deliveries. All of them end
//! with the session, and the session with any of them that goes wrong.

#[cfg(test)]
mod tests;

use super::core::Core;
use super::datagrams::{self, Datagrams};
use super::failure::{self, seam};
use super::frames::{End, Frames};
use super::hold::Allowance;
use super::incoming::{Came, Incoming};
use super::link::{Link, Rx, Transport, Tx, WriteError};
use super::marks::Marks;
use super::outbox::Outbox;
use super::realtime::{self, Carriage};
use super::{apart, deliver};
use crate::engine::{Action, Channel, Prepared, Session, no_room};
use crate::wire::{ClientFrame, Code, DaemonFrame, Delivery, Refusal};
use bytes::Bytes;
use futures_util::FutureExt as _;
use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{SetOnce, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// From the connection to the hello.
const HELLO: Duration = Duration::from_secs(10);

/// How long a goodbye may take to reach the peer.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// Answers to gets under way in one session; a further one waits. Each holds its payload, also
/// when that has left the cache.
const ANSWERS: usize = 8;

/// Bytes of answers after which a peer's further frames wait for room: a frame of ten bytes may ask
/// for a hundred KiB. 64 KiB.
const ANSWERED: usize = 64 << 10;

/// Frames that are decoded at once are of so many bytes, 256 KiB, or one frame: a decoded list takes
/// several times its bytes.
const PORTION: usize = 256 << 10;

/// A peer that has read none of its answers for so long, while there are more than may wait, has
/// left: 30 s, as one that is silent.
const UNREAD: Duration = Duration::from_secs(30);

/// A remote peer, shared by the tasks that serve it.
pub(super) struct Peer {
    pub(super) core: Arc<Core>,
    pub(super) link: Link,
    session: Mutex<Session>,
    // Frames for the control stream.
    pub(super) outbox: Outbox,
    // Largest payload, bytes: publications may stand on every stream.
    pub(super) payload: usize,
    // For frames that are not complete.
    pub(super) allowance: Allowance,
    pub(super) datagrams: Datagrams,
    // Bytes of large payloads on streams of their own.
    pub(super) large: Mutex<u64>,
    // Set with the hello.
    open: SetOnce<()>,
}

/// Serves a peer until it leaves, misbehaves, or the daemon stops.
pub(super) async fn serve(core: Arc<Core>, link: Link, mut stop: watch::Receiver<bool>) {
    let (session, payload, budget) = core
        .with(|engine| (engine.open_session(), engine.limits().payload, engine.budget().clone()));
    let id = session.id();
    let (transport, address) = (link.transport(), link.remote_address());
    tracing::debug!(id, %transport, %address, "session");
    let peer = Arc::new(Peer {
        core,
        link,
        session: Mutex::new(session),
        outbox: Outbox::default(),
        payload,
        allowance: Allowance::new(budget),
        datagrams: Datagrams::default(),
        large: Mutex::default(),
        open: SetOnce::new(),
    });
    let late = late(&peer, tokio::time::Instant::now() + HELLO);
    let stopped = async {
        stopped(&mut stop).await;
        End::from(stopping())
    };
    let early = async {
        tokio::select! { end = late => end, end = stopped => end }
    };
    tokio::pin!(early);
    let accepted = tokio::select! {
        accepted = peer.link.accept_bi() => accepted.map_err(End::from),
        end = &mut early => Err(end),
    };
    // Read no further when the session ends, and kept all the same until the connection closes: to
    // drop it is to send STOP_SENDING, upon which Firefox forgets the goodbye that it has not read.
    let mut frames = None;
    let (control, end) = match accepted {
        Ok((tx, rx)) => {
            let frames = frames.insert(Frames::new(rx, peer.payload));
            let mut writer = ControlWriter { tx, pieces: Vec::new() };
            let served = async {
                tokio::select! {
                    end = control(&peer, frames) => end,
                    end = publications(&peer) => end,
                    end = writer.run(&peer) => end,
                    end = datagrams::read(&peer) => end,
                    end = datagrams::acknowledge(&peer) => end,
                    end = second_control(&peer) => end,
                    end = &mut early => end,
                }
            };
            // What is used after a panic is only what it takes to say goodbye.
            let end = AssertUnwindSafe(seam(&peer.core, "session", served)).catch_unwind().await;
            (Some(writer), end.unwrap_or_else(|_| failure::defect("a session").into()))
        }
        Err(end) => (None, end),
    };
    // Nobody is woken for it from here on.
    let mut more = true;
    while std::mem::take(&mut more) {
        peer.core.tidy(|engine| {
            let mut session = peer.state();
            session.close(engine);
            more = !session.is_closed();
        });
    }
    let (goodbye, farewell) = match end {
        End::Left(reason) => {
            tracing::debug!(id, reason, "the peer left");
            (None, Refusal::new(Code::DONE, ""))
        }
        End::Refused(refusal) => {
            tracing::debug!(id, code = %refusal.code, reason = %refusal.reason, "goodbye");
            (control, refusal)
        }
    };
    // In a box: the session's task, which waits for most of its life, has no room for its end.
    let _ = timeout(LINGER, Box::pin(leave(&peer, goodbye, &farewell))).await;
    peer.link.close(farewell.code, &farewell.reason);
    drop(frames);
}

async fn leave(peer: &Peer, goodbye: Option<ControlWriter>, farewell: &Refusal) {
    if let Some(writer) = goodbye {
        writer.say_goodbye(peer, farewell).await;
    }
    peer.link.leave(farewell.code, &farewell.reason).await;
}

/// Waits for the daemon to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the daemon's handle is gone: that is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn stopping() -> Refusal {
    Refusal::new(Code::SHUTTING_DOWN, "the daemon stops: connect again, here or elsewhere")
}

// Ends only when the hello did not come in time.
async fn late(peer: &Peer, deadline: tokio::time::Instant) -> End {
    // In a box, which goes with the hello.
    if Box::pin(tokio::time::timeout_at(deadline, peer.opened())).await.is_ok() {
        std::future::pending::<()>().await;
    }
    let seconds = HELLO.as_secs();
    Refusal::new(Code::TIMED_OUT, format!("no hello within {seconds} s of connecting")).into()
}

// Whatever is being written when the session ends is written out before the goodbye.
struct ControlWriter {
    tx: Tx,
    pieces: Vec<Bytes>,
}

impl ControlWriter {
    async fn run(&mut self, peer: &Peer) -> End {
        loop {
            peer.outbox.take(&mut self.pieces).await;
            match self.tx.write(&mut self.pieces).await {
                Ok(()) => self.pieces.clear(),
                Err(WriteError::Gone(gone)) => return gone.into(),
                Err(WriteError::Stopped) => {
                    return End::Left("it stopped the control stream".into());
                }
            }
        }
    }

    // The goodbye is the last frame, after everything that was still to be said.
    async fn say_goodbye(mut self, peer: &Peer, refusal: &Refusal) {
        let Refusal { code, reason } = refusal;
        peer.outbox.try_take(&mut self.pieces);
        let goodbye = DaemonFrame::Goodbye { code: *code, reason, retry: code.retry() };
        self.pieces.push(goodbye.to_bytes());
        if self.tx.write(&mut self.pieces).await.is_ok() {
            self.tx.finish();
            self.tx.stopped().await;
            if peer.link.is_closed_by_client() {
                peer.link.closed().await;
            }
        }
    }
}

async fn second_control(peer: &Peer) -> End {
    match peer.link.accept_bi().await {
        Ok(_) => Refusal::new(
            Code::UNEXPECTED,
            "a session has one bidirectional stream: publications go on unidirectional ones",
        )
        .into(),
        Err(gone) => gone.into(),
    }
}

async fn control(peer: &Arc<Peer>, frames: &mut Frames) -> End {
    let mut incoming = Incoming::new(peer.clone());
    let mut tasks = JoinSet::new();
    let mut deliveries: HashMap<u32, AbortHandle> = HashMap::new();
    let mut actions = Vec::new();
    loop {
        let came = {
            let mut next = pin!(incoming.next(frames));
            let came = poll_fn(|context| {
                while let Poll::Ready(Some(ended)) = tasks.poll_join_next(context) {
                    if let Some(defect) = failure::of_task(ended) {
                        return Poll::Ready(Err(defect.into()));
                    }
                }
                next.as_mut().poll(context)
            });
            came.await
        };
        let end = match came {
            Ok(Came::Frames(frames)) => {
                peer.handle(Channel::Control, frames, &mut incoming, &mut actions).await.err()
            }
            // What still comes of it is dropped.
            Ok(Came::Stalled) => peer.give_up(&mut incoming, frames, &stalled()).await.err(),
            Ok(Came::NoRoom) => peer.give_up(&mut incoming, frames, &no_room()).await.err(),
            Ok(Came::End) => Some(End::Left("closed its control stream".into())),
            Err(end) => Some(end),
        };
        for action in actions.drain(..) {
            match action {
                Action::Deliver { request, subscription, delivery, deadline, bare, marks } => {
                    let marks = Marks::new(marks);
                    let peer = peer.clone();
                    let task = match (delivery, peer.link.transport()) {
                        // One channel has one order.
                        (Delivery::Ordered, _) | (_, Transport::WebSocket) => {
                            let core = peer.core.clone();
                            let delivery =
                                deliver::deliver(peer, request, subscription, deadline, marks);
                            tasks.spawn(seam(&core, "delivery", delivery))
                        }
                        (Delivery::Unordered, Transport::Quic) => {
                            tasks.spawn(apart::deliver(peer, request, subscription))
                        }
                        (Delivery::Realtime, _)
                        | (Delivery::Unordered, Transport::WebTransport) => {
                            let asked = peer.datagrams.begin_asking(request);
                            let carriage = Carriage { deadline, bare, marks };
                            tasks.spawn(realtime::deliver(
                                peer,
                                request,
                                subscription,
                                carriage,
                                asked,
                            ))
                        }
                    };
                    deliveries.insert(request, task);
                }
                Action::Repair { .. } => peer.datagrams.ask(action),
                Action::Acknowledge { alias } => peer.datagrams.hear(alias),
                Action::Stop { request } => {
                    peer.datagrams.stop_asking(request);
                    if let Some(delivery) = deliveries.remove(&request) {
                        delivery.abort();
                    }
                }
                Action::Enough { .. } => {}
                Action::Answer { request, head, message } => {
                    while tasks.len() > deliveries.len() + ANSWERS
                        && let Some(ended) = tasks.join_next().await
                    {
                        if let Some(defect) = failure::of_task(ended) {
                            return defect.into();
                        }
                    }
                    tasks.spawn(deliver::answer(peer.clone(), request, head, message));
                }
                Action::Left(code) => return End::Left(format!("said goodbye: {code}")),
            }
        }
        if let Some(end) = end {
            return end;
        }
        deliveries.retain(|_, delivery| !delivery.is_finished());
    }
}

async fn publications(peer: &Arc<Peer>) -> End {
    let mut streams = JoinSet::new();
    let mut few = true;
    loop {
        tokio::select! {
            accepted = peer.link.accept_uni() => match accepted {
                Ok(rx) => {
                    streams.spawn(publish(peer.clone(), rx));
                    if streams.len() > 1 && std::mem::take(&mut few) {
                        peer.link.allow_streams();
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

async fn publish(peer: Arc<Peer>, rx: Rx) -> Result<(), End> {
    // Streams may overtake the control stream: they wait for its hello.
    peer.opened().await;
    let mut frames = Frames::new(rx, peer.payload);
    let mut incoming = Incoming::new(peer.clone());
    let mut actions = Vec::new();
    loop {
        match incoming.next(&mut frames).await? {
            Came::Frames(frames) => {
                peer.handle(Channel::Publish, frames, &mut incoming, &mut actions).await?;
            }
            Came::Stalled => {
                actions.extend(peer.give_up(&mut incoming, &mut frames, &stalled()).await?);
            }
            Came::NoRoom => {
                actions.extend(peer.give_up(&mut incoming, &mut frames, &no_room()).await?);
            }
            Came::End => return Ok(()),
        }
        for action in actions.drain(..) {
            if let Action::Enough { code } = action {
                frames.stop(code);
                return Ok(());
            }
        }
    }
}

fn stalled() -> Refusal {
    Refusal::new(
        Code::TIMED_OUT,
        "the payload stood still, or came too slowly: publish it again, over a better link or in \
         smaller parts",
    )
}

// How many of these are decoded at once.
fn portion(frames: &[Bytes]) -> usize {
    let mut bytes = 0;
    let more = frames.iter().take_while(|frame| {
        let more = bytes < PORTION;
        bytes += frame.len();
        more
    });
    more.count()
}

impl Peer {
    pub(super) fn state(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn opened(&self) {
        self.open.wait().await;
    }

    // Hands frames to the session under one lock, or under several if there is much to say to
    // them; what is to be done after it goes to `actions`.
    pub(super) async fn handle(
        &self,
        channel: Channel,
        frames: &[Bytes],
        incoming: &mut Incoming,
        actions: &mut Vec<Action>,
    ) -> Result<(), End> {
        let Incoming { hashing, intake, .. } = incoming;
        let mut rest = frames;
        while !rest.is_empty() {
            // A peer that does not read its receipts is not read either, and nothing of it waits
            // decoded.
            self.room().await?;
            let (next, after) = rest.split_at(portion(rest));
            rest = after;
            // Decoded and hashed before the lock is taken.
            let prepared = next.iter().map(|frame| Prepared::new(frame, hashing));
            let mut prepared = prepared.collect::<Vec<_>>().into_iter();
            loop {
                let now = super::now();
                let mut out = Vec::new();
                let result = self.core.with(|engine| {
                    let mut session = self.state();
                    while out.len() < ANSWERED
                        && !engine.is_tired()
                        && let Some(frame) = prepared.next()
                    {
                        let of = (channel, &mut *intake);
                        actions.extend(session.handle(engine, now, of, frame?, &mut out)?);
                    }
                    Ok(session.is_open())
                });
                if !out.is_empty() {
                    self.outbox.push([out.into()]);
                }
                match result {
                    Ok(true) => self.opened_now(),
                    Ok(false) => {}
                    Err(refusal) => return Err(End::Refused(refusal)),
                }
                if prepared.len() == 0 {
                    break;
                }
                self.room().await?;
            }
        }
        Ok(())
    }

    // Waits until there is room for answers, which is rare; but not for ever: what a peer has
    // begun to send is held meanwhile.
    async fn room(&self) -> Result<(), End> {
        if self.outbox.has_room() {
            return Ok(());
        }
        let waited = Box::pin(timeout(UNREAD, self.outbox.room())).await;
        waited.map_err(|_| {
            let seconds = UNREAD.as_secs();
            let reason = format!(
                "none of the answers on the control stream was read for {seconds} s: read them \
                 while you publish"
            );
            Refusal::new(Code::TIMED_OUT, reason).into()
        })
    }

    // The hello has come.
    fn opened_now(&self) {
        // Once: whoever finds it set already changes nothing.
        if self.open.set(()).is_ok() {
            self.link.allow_unread();
        }
    }

    // Gives up what has begun to come and is not complete, and tells the peer: a publication, or
    // else the session. What still comes of it is passed over.
    async fn give_up(
        &self,
        incoming: &mut Incoming,
        frames: &mut Frames,
        why: &Refusal,
    ) -> Result<Option<Action>, End> {
        let mut out = Vec::new();
        let intake = &mut incoming.intake;
        let mut action = None;
        if intake.progress().is_some() {
            action = self.core.with(|engine| self.state().give_up(engine, intake, why, &mut out));
        } else if let Some((alias, number)) = ClientFrame::publication(frames.begun()) {
            let Refusal { code, reason } = why;
            DaemonFrame::Rejected { alias, number, code: *code, reason }.encode(&mut out);
        } else {
            let reason = match why.code {
                Code::TIMED_OUT => "a frame stood still, or came too slowly: send it whole",
                _ => "there is no room for a frame that is not complete: connect again later",
            };
            return Err(Refusal::new(why.code, reason).into());
        }
        frames.skip();
        self.room().await?;
        self.outbox.push([out.into()]);
        Ok(action)
    }

    /// Tells the peer that a request fails after all.
    pub(super) fn fail(&self, request: u32, code: Code, reason: &str) {
        self.outbox.push([DaemonFrame::Failed { request, code, reason }.to_bytes()]);
    }

    /// Ends a subscription from within its delivery, and tells the peer.
    pub(super) fn end(&self, request: u32, why: &Refusal) {
        let mut out = Vec::new();
        let ended = self.core.with(|engine| self.state().end(engine, request, why, &mut out));
        if let Some(Action::Stop { .. }) = ended {
            self.datagrams.stop_asking(request);
            self.outbox.push([out.into()]);
        }
    }
}
