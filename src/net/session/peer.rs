//! One remote peer, as the tasks of its session share it.

use super::allowance::Allowance;
use super::datagram_work::DatagramWork;
use super::end::SessionEnd;
use crate::engine::{Budget, Session};
use crate::net::deadlines::UNREAD;
use crate::net::delivery::DeliveryContext;
use crate::net::transport::outbox::Outbox;
use crate::wire::{Code, Refusal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::SetOnce;
use tokio::time::timeout;

/// A remote peer, shared by the tasks that serve it.
pub(crate) struct Peer {
    // The broker and the connection, which the deliveries share.
    pub(super) context: Arc<DeliveryContext>,
    session: Mutex<Session>,
    // Frames for the control stream.
    pub(super) outbox: Outbox,
    // Largest payload of a publication, bytes.
    pub(super) payload: usize,
    // For incomplete frames.
    pub(super) allowance: Allowance,
    pub(super) datagrams: DatagramWork,
    // Its place in the list of sessions, and its begin, in seconds after that of the list.
    pub(super) place: u32,
    pub(super) since: u32,
    // Set by the hello.
    open: SetOnce<()>,
}

impl Peer {
    pub(super) fn new(
        context: DeliveryContext,
        session: Session,
        payload: usize,
        budget: Budget,
        (place, since): (u32, u32),
    ) -> Self {
        Self {
            context: Arc::new(context),
            session: Mutex::new(session),
            outbox: Outbox::default(),
            payload,
            allowance: Allowance::new(budget),
            datagrams: DatagramWork::default(),
            place,
            since,
            open: SetOnce::new(),
        }
    }

    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Waits for the hello.
    pub(super) async fn wait_open(&self) {
        self.open.wait().await;
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.initialized()
    }

    // Whether something is in flight: a publication that is incomplete or has no receipt, an answer,
    // a delivery.
    pub(super) fn is_busy(&self) -> bool {
        !self.outbox.is_idle()
            || self.datagrams.has_acks()
            || self.context.has_in_flight()
            || self.context.broker.with(|engine| self.session().has_unread(engine))
    }

    // Waits until the outbox has room for answers, which is rare. The wait is bounded, because what
    // the peer has begun to send is held meanwhile.
    pub(super) async fn wait_for_room(&self) -> Result<(), SessionEnd> {
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

    // The hello was accepted. Calling it again changes nothing.
    pub(super) fn set_open(&self) {
        if self.open.set(()).is_ok() {
            self.context.connection.allow_unread();
        }
    }
}
