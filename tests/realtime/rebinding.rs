//! A native client behind a NAT that gives it another port every second, while messages flow both
//! ways (RFC 9000, section 9.3).

use crate::common::{daemon, within};
use crate::tally::{Tally, content, options, publish};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{Barrier, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use weir::wire::Delivery;
use weir::{Client, Daemon, Event, SubscribeOptions, Transport, Trust};

/// Interval between two ports.
const MOVES: Duration = Duration::from_secs(1);

/// Interval between two messages of a topic: 200 Hz.
const EVERY: Duration = Duration::from_millis(5);

/// Delay in each direction. Datagrams are repeated on such a path.
const DELAY: Duration = Duration::from_millis(10);

/// A NAT between one client and the daemon. A packet to a port that it has given up is lost. It ends
/// when dropped.
struct Nat {
    address: SocketAddr,
    // Whether ports change. A handshake does not survive that.
    moving: Arc<AtomicBool>,
    ports: Arc<AtomicU64>,
    _stop: oneshot::Sender<()>,
}

async fn bound() -> Arc<UdpSocket> {
    Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap())
}

impl Nat {
    async fn start(server: SocketAddr) -> Self {
        let inside = bound().await;
        let address = inside.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (ports, moving) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let shared = (ports.clone(), moving.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = Self::run(inside, server, shared) => {}
                _ = stopped => {}
            }
        });
        Self { address, moving, ports, _stop: stop }
    }

    async fn run(
        inside: Arc<UdpSocket>,
        server: SocketAddr,
        (ports, moving): (Arc<AtomicU64>, Arc<AtomicBool>),
    ) {
        let (mut out, mut client) = ([0; 1 << 11], None);
        let mut outside = bound().await;
        let mut moves = interval(MOVES);
        let mut back = [0; 1 << 11];
        loop {
            tokio::select! {
                _ = moves.tick() => {
                    if moving.load(Relaxed) {
                        outside = bound().await;
                        ports.fetch_add(1, Relaxed);
                    }
                }
                received = inside.recv_from(&mut out) => {
                    // The client first sends a byte from another socket, which is not a packet.
                    if let Ok((length @ 2.., from)) = received {
                        client = Some(from);
                        later(outside.clone(), server, &out[..length]);
                    }
                }
                received = outside.recv_from(&mut back) => {
                    if let (Ok((length, _)), Some(client)) = (received, client) {
                        later(inside.clone(), client, &back[..length]);
                    }
                }
            }
        }
    }
}

fn later(socket: Arc<UdpSocket>, to: SocketAddr, packet: &[u8]) {
    let packet = packet.to_vec();
    tokio::spawn(async move {
        sleep(DELAY).await;
        let _ = socket.send_to(&packet, to).await;
    });
}

// Reads `total` messages of a topic, each once and none lost.
fn reads(
    client: &Client,
    delivery: Delivery,
    topic: &str,
    (total, started): (Arc<AtomicU64>, Arc<Barrier>),
) -> JoinHandle<()> {
    let (client, topic) = (client.clone(), topic.to_owned());
    tokio::spawn(async move {
        let mut subscription = client.subscribe(&topic, &options(delivery)).await.unwrap();
        started.wait().await;
        let mut tally = Tally::default();
        // The number becomes known at the end.
        while tally.total() < total.load(Relaxed) {
            tally.next(&mut subscription).await;
        }
        assert_eq!(tally.missed, 0, "{delivery:?}");
        tally.assert_all(&topic, total.load(Relaxed));
        println!("{delivery:?}: {:?}", subscription.stats());
    })
}

async fn flows(duration: Duration) {
    let daemon: Daemon = daemon().await;
    let nat = Nat::start(daemon.local_addr()).await;
    let trust = Trust::Pinned(daemon.certificate_hash().into());
    let builder = Client::builder(nat.address.to_string()).transport(Transport::Quic);
    let client = within(builder.trust(trust).connect()).await.unwrap();
    nat.moving.store(true, Relaxed);
    let total = Arc::new(AtomicU64::new(u64::MAX));
    let modes = [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime];
    let topics = ["down/ordered", "down/unordered", "down/realtime"];
    let started = Arc::new(Barrier::new(topics.len() + 1));
    let shared = (total.clone(), started.clone());
    let reading = modes.iter().zip(topics);
    let reading = reading.map(|(mode, topic)| reads(&client, *mode, topic, shared.clone()));
    let reading: Vec<_> = reading.collect();
    let mut up = daemon.subscribe("up/*", &SubscribeOptions::default()).unwrap();
    // Otherwise they would begin after the first messages.
    started.wait().await;
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (until, mut n) = (Instant::now() + duration, 0);
    let (mut receipts, mut accepted) = (Vec::new(), Vec::new());
    while Instant::now() < until {
        tick.tick().await;
        n += 1;
        topics.iter().for_each(|topic| publish(&daemon, topic, n, 100));
        receipts.push(client.send("up/stream", content("up/stream", n, 100)).await.unwrap());
        let datagram = client.send_realtime("up/datagram", content("up/datagram", n, 100));
        accepted.push(datagram.await.unwrap());
    }
    // One more message, with which the readers see the number.
    n += 1;
    total.store(n, Relaxed);
    topics.iter().for_each(|topic| publish(&daemon, topic, n, 100));
    for reader in reading {
        within(reader).await.unwrap();
    }
    for receipt in receipts {
        assert!(!within(receipt).await.unwrap().duplicate);
    }
    for accepted in accepted {
        within(accepted).await.unwrap();
    }
    let mut arrived = BTreeSet::new();
    while arrived.len() < 2 * (n as usize - 1) {
        let Event::Message(message) = within(up.next()).await.unwrap().unwrap() else {
            panic!("a gap");
        };
        assert_eq!(message.count, 1);
        assert!(arrived.insert(message.payload.to_vec()), "{message:?} was accepted twice");
    }
    let ports = nat.ports.load(Relaxed);
    println!("{n} messages of each topic, {ports} ports");
    assert!(ports >= duration.as_secs(), "{ports} ports");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_repeated_when_a_nat_changes_the_port() {
    flows(Duration::from_millis(3_500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "30 s: cargo test --test realtime rebinding -- --ignored --nocapture"]
async fn nothing_is_lost_or_repeated_in_half_a_minute() {
    flows(Duration::from_secs(30)).await;
}
