//! Publishing. Each publication has a number, and a receipt answers it. The number of publications
//! without a receipt is limited.

use super::error::{PublishError, closed_here};
use super::handle::Client;
use super::in_flight::{Outgoing, Publication, PublishOutcome};
use super::shared::Settler;
use crate::message::Receipt;
use crate::net;
use crate::wire::check_topic;
use bytes::Bytes;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Options of a publication.
///
/// ```
/// use std::time::Duration;
/// use weir::client::PublishOptions;
///
/// let hurried = PublishOptions::lifetime(Duration::from_secs(2));
/// assert_eq!(PublishOptions::default().lifetime, None);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishOptions {
    /// Maximum time until the daemon has acknowledged the publication, counted from the call.
    ///
    /// When it has passed, the call fails with [`PublishError::Expired`]. The client does not send
    /// the publication again, but the daemon may have accepted it. Default none: the client sends
    /// the publication again in each session, until the daemon answers or the client closes.
    pub lifetime: Option<Duration>,
}

impl PublishOptions {
    /// Returns the default options with this lifetime.
    pub fn lifetime(lifetime: Duration) -> Self {
        Self { lifetime: Some(lifetime) }
    }
}

/// A publication that was sent. Resolves to its receipt. Dropping it does not withdraw the
/// publication.
#[derive(Debug)]
#[must_use = "the daemon may reject a publication: its receipt tells"]
pub struct PendingReceipt {
    outcome: PendingOutcome,
}

/// The outcome of a publication that is not settled yet.
#[derive(Debug)]
pub(super) struct PendingOutcome {
    outcome: oneshot::Receiver<PublishOutcome>,
    client: Client,
}

impl Future for PendingOutcome {
    type Output = PublishOutcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.outcome).poll(context));
        Poll::Ready(outcome.unwrap_or_else(|_| Err(self.client.close_reason().into())))
    }
}

impl Future for PendingReceipt {
    type Output = Result<Receipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.outcome).poll(context));
        // A publication that was sent on a stream is answered with a receipt.
        let receipt = |receipt: Option<Receipt>| receipt.ok_or_else(|| closed_here().into());
        Poll::Ready(outcome.and_then(receipt))
    }
}

impl Client {
    /// Publishes and waits for the receipt.
    ///
    /// If the session ends before the receipt arrives, the next session sends the publication again.
    /// The daemon accepts and counts it once.
    pub async fn publish(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Receipt, PublishError> {
        self.publish_with(topic, payload, &PublishOptions::default()).await
    }

    /// The same as [`publish`](Self::publish), with options.
    pub async fn publish_with(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        options: &PublishOptions,
    ) -> Result<Receipt, PublishError> {
        self.send_with(topic, payload, options).await?.await
    }

    /// Publishes, and returns as soon as the publication is queued for sending. It waits only while
    /// 1,024 publications, or 64 MiB of payloads, have no receipt. While the client has no session, it
    /// fails with [`PublishError::Backlog`] in place of waiting.
    /// [`Builder::backlog`](super::Builder::backlog) sets other limits.
    ///
    /// Publications to a topic keep their order, with one exception: small ones may overtake those
    /// above 64 KiB. At most 16 of the latter are sent at once.
    ///
    /// ```
    /// # #[cfg(feature = "daemon")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
    /// # let server = daemon.local_addr().to_string();
    /// # let trust = weir::Trust::Pinned(daemon.certificate_hashes());
    /// let client = weir::Client::builder(server).trust(trust).connect().await?;
    /// let [first, second] = [client.send("demo/a", "1").await?, client.send("demo/a", "2").await?];
    /// assert_eq!((first.await?.sequence, second.await?.sequence), (1, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn send(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<PendingReceipt, PublishError> {
        self.send_with(topic, payload, &PublishOptions::default()).await
    }

    /// The same as [`send`](Self::send), with options.
    pub async fn send_with(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        options: &PublishOptions,
    ) -> Result<PendingReceipt, PublishError> {
        let outcome = self.submit(topic, &payload.into(), false, *options).await?;
        Ok(PendingReceipt { outcome })
    }

    /// Numbers a publication and queues it for sending: in a datagram if `datagram` is set and it
    /// fits, else on a stream.
    pub(super) async fn submit(
        &self,
        topic: &str,
        payload: &Bytes,
        datagram: bool,
        options: PublishOptions,
    ) -> Result<PendingOutcome, PublishError> {
        check_topic(topic)?;
        let limit = self.shared().facts().limits.payload;
        if payload.len() as u64 > limit {
            return Err(PublishError::TooLarge { size: payload.len(), limit });
        }
        let lifetime = options.lifetime.unwrap_or_default();
        let (sender, outcome) = oneshot::channel();
        let mut settler = Some(Settler { sender, lifetime });
        let now = self.shared().now();
        let micros = u64::try_from(lifetime.as_micros()).unwrap_or(u64::MAX / 2);
        let expires = options.lifetime.map(|_| now.saturating_add(micros));
        let publication = Publication { name: topic, payload, stamp: net::now(), expires };
        let queue = self.queue(publication, datagram, &mut settler);
        match options.lifetime {
            Some(lifetime) => {
                timeout(lifetime, queue).await.map_err(|_| PublishError::Expired(lifetime))??;
            }
            None => queue.await?,
        }
        Ok(PendingOutcome { outcome, client: self.clone() })
    }

    // Waits for room, and queues the publication.
    async fn queue(
        &self,
        publication: Publication<'_>,
        datagram: bool,
        settler: &mut Option<Settler>,
    ) -> Result<(), PublishError> {
        let shared = self.shared();
        loop {
            let settled = shared.settled.notified();
            if let Some(session) = shared.session() {
                session.publications.room().await;
                session.datagrams.room().await;
            }
            {
                let mut publisher = shared.publisher();
                let expiry = publisher.outstanding.next_expiry();
                if let Some(outgoing) = publisher.number(&publication, settler)? {
                    match outgoing {
                        Outgoing::Small(alias, number, publish) if datagram => {
                            publisher.carry_datagram(alias, number, publish);
                        }
                        outgoing => publisher.carry(outgoing),
                    }
                    if publisher.outstanding.next_expiry() != expiry {
                        shared.expiries.notify_one();
                    }
                    return Ok(());
                }
            }
            settled.await;
        }
    }
}
