//! One remote peer, as the tasks of its session share it.

use super::allowance::Allowance;
use super::datagrams::Datagrams;
use super::end::SessionEnd;
use crate::engine::{Budget, Session};
use crate::net::delivery::DeliveryContext;
use crate::net::transport::outbox::Outbox;
use crate::wire::{Code, Refusal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::SetOnce;
use tokio::time::timeout;

/// A peer that has read none of its answers for so long, while there are more than may wait, has
/// left: 30 s, as one that is silent.
const UNREAD: Duration = Duration::from_secs(30);

/// A remote peer, shared by the tasks that serve it.
pub(crate) struct Peer {
    // The engine and the connection, which the deliveries know too.
    pub(super) context: Arc<DeliveryContext>,
    session: Mutex<Session>,
    // Frames for the control stream.
    pub(super) outbox: Outbox,
    // Largest payload, bytes: publications may stand on every stream.
    pub(super) payload: usize,
    // For frames that are not complete.
    pub(super) allowance: Allowance,
    pub(super) datagrams: Datagrams,
    // Set with the hello.
    open: SetOnce<()>,
}

impl Peer {
    pub(super) fn new(
        context: DeliveryContext,
        session: Session,
        payload: usize,
        budget: Budget,
    ) -> Self {
        Self {
            context: Arc::new(context),
            session: Mutex::new(session),
            outbox: Outbox::default(),
            payload,
            allowance: Allowance::new(budget),
            datagrams: Datagrams::default(),
            open: SetOnce::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn opened(&self) {
        self.open.wait().await;
    }

    // Waits until there is room for answers, which is rare; but not for ever: what a peer has
    // begun to send is held meanwhile.
    pub(super) async fn room(&self) -> Result<(), SessionEnd> {
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
    pub(super) fn opened_now(&self) {
        // Once: whoever finds it set already changes nothing.
        if self.open.set(()).is_ok() {
            self.context.connection.allow_unread();
        }
    }
}
