//! One remote peer, as the tasks of its session share it.

use super::allowance::Allowance;
use super::datagram_work::DatagramWork;
use super::end::SessionEnd;
use super::flow::LastLook;
use super::notices::Notices;
use super::peer_identity::PeerIdentity;
use super::traffic::CountedPackets;
use crate::broker::admission::Admission;
use crate::broker::throttle::Throttle;
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
    // How fast it sends, over all its streams.
    pub(super) throttle: Throttle,
    pub(super) datagrams: DatagramWork,
    // For the rules of access.
    pub(super) admission: Admission,
    pub(super) notices: Arc<Notices>,
    // The peer's identity. Written when it shows a token, and not while frames are handled.
    pub(super) identity: PeerIdentity,
    // Its place in the list of sessions, and its begin, in seconds after that of the list.
    pub(super) place: u32,
    pub(super) since: u32,
    pub(super) counted_packets: CountedPackets,
    pub(super) last_look: LastLook,
    #[cfg(feature = "otel")]
    pub(super) begun: std::time::Instant,
    // Set by the hello.
    open: SetOnce<()>,
}

impl Peer {
    pub(super) fn new(
        context: DeliveryContext,
        session: Session,
        (payload, budget, throttle): (usize, Budget, Throttle),
        (admission, notices): (Admission, Arc<Notices>),
        (place, since): (u32, u32),
    ) -> Self {
        Self {
            context: Arc::new(context),
            session: Mutex::new(session),
            outbox: Outbox::default(),
            payload,
            allowance: Allowance::new(budget),
            throttle,
            datagrams: DatagramWork::default(),
            identity: PeerIdentity::default(),
            admission,
            notices,
            place,
            since,
            counted_packets: CountedPackets::default(),
            last_look: LastLook::default(),
            #[cfg(feature = "otel")]
            begun: std::time::Instant::now(),
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
            || self.session().has_proposed()
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

    // Notes bytes that were received. A peer that sends in bulk may have more of them unread.
    pub(super) fn received(&self, bytes: u64) {
        if self.is_open() {
            let DeliveryContext { windows, connection, .. } = &*self.context;
            windows.received(connection, bytes, || self.admission.clock().now());
        }
    }

    // The hello was accepted. Calling it again changes nothing.
    pub(super) fn set_open(&self) {
        // An error means that it was set before.
        let _ = self.open.set(());
    }
}
