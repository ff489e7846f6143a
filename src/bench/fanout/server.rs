//! The server of a lane, and its sessions.

use super::lane::{Lane, Subject};
use super::nats::{self, Nats};
use crate::bench::daemon::Daemon;
use crate::bench::process::Process;
use crate::bench::traffic::publish;
use crate::client::{Reconnect, Subscription};
use crate::wire::Delivery;
use crate::{CertificateHash, Client, Event, SubscribeOptions, Transport, Trust};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use std::net::{Ipv4Addr, SocketAddr};

/// The topic of all messages. The name is valid in Weir and in NATS.
const TOPIC: &str = "fanout";

/// A running server. It is killed when dropped.
pub(super) enum Server {
    Weir(Daemon, Transport, Delivery),
    Nats(Nats),
}

/// The address of a server, and how to connect to it.
#[derive(Clone)]
pub(super) enum Target {
    Weir { address: SocketAddr, hash: CertificateHash, transport: Transport, delivery: Delivery },
    Nats(nats::Target),
}

impl Server {
    /// Starts a server with its default settings. The calling thread must outlive it. Only the
    /// first one logs warnings about the machine.
    pub(super) fn start(lane: Lane, first: bool) -> anyhow::Result<Self> {
        match lane.subject {
            Subject::Weir(transport, mode) => {
                let quiet = [("RUST_LOG", "error".to_owned())];
                let quiet =
                    if first || std::env::var_os("RUST_LOG").is_some() { &[] } else { &quiet[..] };
                let listen = (Ipv4Addr::LOCALHOST, 0).into();
                let daemon = Daemon::start_on(listen, lane.cores, quiet)?;
                Ok(Self::Weir(daemon, transport, mode.into()))
            }
            Subject::Nats { tls } => Ok(Self::Nats(Nats::start(lane.cores, tls)?)),
        }
    }

    pub(super) fn process(&self) -> &Process {
        match self {
            Self::Weir(daemon, ..) => &daemon.process,
            Self::Nats(nats) => &nats.process,
        }
    }

    pub(super) fn target(&self) -> Target {
        match self {
            Self::Weir(daemon, transport, delivery) => Target::Weir {
                address: daemon.address,
                hash: daemon.hash,
                transport: *transport,
                delivery: *delivery,
            },
            Self::Nats(nats) => Target::Nats(nats.target.clone()),
        }
    }
}

/// The publishing side of a session.
#[derive(Clone)]
pub(super) enum Sender {
    Weir(Client, Delivery),
    Nats(nats::Sender),
}

/// The subscribed side of a session.
pub(super) enum Receiver {
    Weir(Box<Subscription>),
    Nats(nats::Receiver),
}

/// A delivery to a subscriber.
pub(super) enum Received {
    Payload(Bytes),
    /// The number of messages that will not arrive.
    Gap(u64),
}

impl Target {
    async fn weir(&self) -> anyhow::Result<Client> {
        let Self::Weir { address, hash, transport, .. } = self else {
            unreachable!("a target of Weir")
        };
        let builder = Client::builder(address.to_string()).transport(*transport);
        let builder = builder.trust(Trust::Pinned((*hash).into()));
        Ok(builder.reconnect(Reconnect::never()).connect().await?)
    }

    /// Opens a session that publishes.
    pub(super) async fn publisher(&self) -> anyhow::Result<Sender> {
        match self {
            Self::Weir { delivery, .. } => Ok(Sender::Weir(self.weir().await?, *delivery)),
            Self::Nats(target) => {
                let (sender, mut receiver) = nats::connect(target).await?;
                // The receiver answers the server's PINGs.
                tokio::spawn(async move { while receiver.next().await.is_ok() {} });
                Ok(Sender::Nats(sender))
            }
        }
    }

    /// Opens a session that is subscribed and may publish.
    pub(super) async fn subscriber(&self) -> anyhow::Result<(Sender, Receiver)> {
        match self {
            Self::Weir { delivery, .. } => {
                let client = self.weir().await?;
                let options = SubscribeOptions { delivery: *delivery, ..Default::default() };
                let subscription = client.subscribe(TOPIC, &options).await?;
                Ok((Sender::Weir(client, *delivery), Receiver::Weir(Box::new(subscription))))
            }
            Self::Nats(target) => {
                let (sender, mut receiver) = nats::connect(target).await?;
                receiver.subscribe(&sender, TOPIC).await?;
                Ok((Sender::Nats(sender), Receiver::Nats(receiver)))
            }
        }
    }
}

impl Sender {
    /// Sends a message, and does not wait for its receipt.
    pub(super) async fn publish(&self, payload: Bytes) -> anyhow::Result<()> {
        match self {
            Self::Weir(client, delivery) => Ok(publish(client, *delivery, TOPIC, payload).await?),
            Self::Nats(sender) => sender.publish(TOPIC, &payload).await,
        }
    }
}

impl Receiver {
    pub(super) async fn next(&mut self) -> anyhow::Result<Received> {
        match self {
            Self::Weir(subscription) => {
                match subscription.next().await.context("the subscription ended")?? {
                    Event::Message(message) => Ok(Received::Payload(message.payload)),
                    Event::Gap(gap) => Ok(Received::Gap(gap.last - gap.first + 1)),
                    other => bail!("expected a message, got {other:?}"),
                }
            }
            Self::Nats(receiver) => Ok(Received::Payload(receiver.next().await?)),
        }
    }
}
