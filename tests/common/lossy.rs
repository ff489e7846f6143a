//! A network between clients and a daemon, on loopback. It loses, delays, repeats and reorders
//! packets from a seed, each direction independently. A failure prints the seed. `WEIR_SEED` sets
//! it for another run, which repeats the same as far as timing allows.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};

/// The treatment of packets in one direction.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Share of packets lost, in runs of `burst` on average.
    pub loss: f64,
    pub burst: f64,
    /// Share of packets held back until up to eight others have passed.
    pub reorder: f64,
    /// Share of packets sent twice.
    pub duplicate: f64,
    pub delay: Duration,
}

/// No loss. The round trip is above 5 ms, which early repeats need.
pub const CLEAN: Rules =
    Rules { loss: 0.0, burst: 1.0, reorder: 0.0, duplicate: 0.0, delay: Duration::from_millis(4) };

pub const ROUGH: Rules = Rules { loss: 0.05, burst: 1.5, reorder: 0.05, duplicate: 0.06, ..CLEAN };

/// All packets are lost.
pub const DEAD: Rules = Rules { loss: 1.0, burst: 1e12, ..CLEAN };

/// Maximum time for which a packet is held back.
const HELD: Duration = Duration::from_millis(20);

/// Random numbers: SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, share: f64) -> bool {
        f64::from(self.next() as u32) < share * f64::from(u32::MAX)
    }
}

#[derive(Debug, Default)]
struct Counts {
    passed: AtomicU64,
    lost: AtomicU64,
}

/// The network. It ends when dropped.
pub struct Lossy {
    pub address: SocketAddr,
    pub seed: u64,
    rules: Arc<Mutex<Rules>>,
    counts: Arc<Counts>,
    _stop: oneshot::Sender<()>,
}

impl Lossy {
    /// Starts a network, in its own thread, between clients that send to its address and the
    /// server.
    pub fn start(server: SocketAddr, rules: Rules) -> Self {
        let given = std::env::var("WEIR_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (rules, counts) = (Arc::new(Mutex::new(rules)), Arc::new(Counts::default()));
        let network = Network { server, seed, rules: rules.clone(), counts: counts.clone() };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = network.run(roomy(socket)) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, seed, rules, counts, _stop: stop }
    }

    /// Sets the rules of both directions. Returns those before.
    pub fn set(&self, rules: Rules) -> Rules {
        std::mem::replace(&mut self.rules.lock().unwrap(), rules)
    }

    /// Returns the numbers of packets passed on and lost so far, in both directions.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.passed.load(Relaxed), self.counts.lost.load(Relaxed))
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (passed, lost) = self.counts();
            eprintln!("WEIR_SEED={} ({passed} packets passed, {lost} lost)", self.seed);
        }
    }
}

// Enlarges the socket's buffers, so that only the rules lose packets.
fn roomy(socket: std::net::UdpSocket) -> Arc<UdpSocket> {
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20);
    socket.set_nonblocking(true).unwrap();
    Arc::new(UdpSocket::from_std(socket).unwrap())
}

struct Network {
    server: SocketAddr,
    seed: u64,
    rules: Arc<Mutex<Rules>>,
    counts: Arc<Counts>,
}

impl Network {
    async fn run(self, front: Arc<UdpSocket>) {
        let mut flows: HashMap<SocketAddr, mpsc::UnboundedSender<Vec<u8>>> = HashMap::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let Ok((length, client)) = front.recv_from(&mut buffer).await else {
                continue;
            };
            let number = flows.len() as u64;
            let flow = flows.entry(client).or_insert_with(|| {
                let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let back = roomy(socket);
                let up = self.path(2 * number, back.clone(), self.server);
                let down = self.path(2 * number + 1, front.clone(), client);
                tokio::spawn(async move {
                    let mut buffer = vec![0; 1 << 16];
                    loop {
                        if let Ok((length, _)) = back.recv_from(&mut buffer).await {
                            let _ = down.send(buffer[..length].to_vec());
                        }
                    }
                });
                up
            });
            let _ = flow.send(buffer[..length].to_vec());
        }
    }

    // Moves packets in one direction of one client.
    fn path(
        &self,
        number: u64,
        socket: Arc<UdpSocket>,
        to: SocketAddr,
    ) -> mpsc::UnboundedSender<Vec<u8>> {
        let (sender, packets) = mpsc::unbounded_channel();
        let path = Path {
            rules: self.rules.clone(),
            counts: self.counts.clone(),
            random: Random(self.seed.wrapping_add(number)),
            losing: false,
            sent: 0,
            in_flight: BTreeMap::new(),
            held: Vec::new(),
        };
        tokio::spawn(path.run(packets, socket, to));
        sender
    }
}

struct Path {
    rules: Arc<Mutex<Rules>>,
    counts: Arc<Counts>,
    random: Random,
    losing: bool,
    sent: u64,
    // Packets in flight, by time of arrival.
    in_flight: BTreeMap<(Instant, u64), Vec<u8>>,
    // Packets held back: how many others must pass first, and the latest time.
    held: Vec<(u64, Instant, Vec<u8>)>,
}

impl Path {
    async fn run(
        mut self,
        mut packets: mpsc::UnboundedReceiver<Vec<u8>>,
        socket: Arc<UdpSocket>,
        to: SocketAddr,
    ) {
        loop {
            let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
            let held = self.held.iter().map(|(_, until, _)| *until).min();
            let next = arrival.into_iter().chain(held).min();
            tokio::select! {
                packet = packets.recv() => match packet {
                    Some(packet) => self.take(packet),
                    None => return,
                },
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    let now = Instant::now();
                    self.release(now, 0);
                    while let Some(entry) = self.in_flight.first_entry()
                        && entry.key().0 <= now
                    {
                        let _ = socket.send_to(&entry.remove(), to).await;
                    }
                }
            }
        }
    }

    fn take(&mut self, packet: Vec<u8>) {
        let rules = *self.rules.lock().unwrap();
        let now = Instant::now();
        self.losing = if self.losing {
            !self.random.chance(1.0 / rules.burst)
        } else {
            self.random.chance(rules.loss / (rules.burst * (1.0 - rules.loss)))
        };
        if self.losing && rules.loss > 0.0 {
            self.counts.lost.fetch_add(1, Relaxed);
            return;
        }
        self.counts.passed.fetch_add(1, Relaxed);
        if self.random.chance(rules.reorder) {
            let others = 1 + self.random.below(8);
            self.held.push((others, now + rules.delay + HELD, packet));
            return;
        }
        if self.random.chance(rules.duplicate) {
            self.pass(now + rules.delay, packet.clone());
        }
        self.pass(now + rules.delay, packet);
        self.release(now, 1);
    }

    fn pass(&mut self, at: Instant, packet: Vec<u8>) {
        self.sent += 1;
        self.in_flight.insert((at, self.sent), packet);
    }

    // Sends packets on that enough others have overtaken, or whose time is over.
    fn release(&mut self, now: Instant, overtaken: u64) {
        let delay = self.rules.lock().unwrap().delay;
        let mut waiting = Vec::new();
        for (others, until, packet) in std::mem::take(&mut self.held) {
            let others = others.saturating_sub(overtaken);
            if others == 0 || until <= now {
                self.pass(now + delay, packet);
            } else {
                waiting.push((others, until, packet));
            }
        }
        self.held = waiting;
    }
}
