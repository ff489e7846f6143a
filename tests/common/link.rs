//! A link between a client and a daemon that the test cuts: UDP and TCP on the same port. It runs in
//! the runtime of the test, so that the test may pause the clock.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use crate::common::within;
use std::collections::hash_map::{Entry, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use weir::client::State;
use weir::{Client, Transport};

/// What the link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It passes everything.
    Pass,
    /// It passes only what the client sends. The client receives nothing.
    Mute,
    /// It passes TCP only.
    Tcp,
    /// It passes nothing. TCP connections are closed.
    Dead,
    /// It passes nothing, and closes nothing, as a network that drops all packets. What was sent over
    /// TCP passes when the link is back, because TCP sends it again.
    Gone,
}

struct Shared {
    server: SocketAddr,
    mode: watch::Sender<Mode>,
    // How many more bytes of the client pass before the link is dead.
    left: AtomicU64,
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    // Returns whether bytes of the client pass.
    fn passes_up(&self, bytes: usize) -> bool {
        if self.mode() != Mode::Dead
            && self
                .left
                .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(bytes as u64))
                .is_err()
        {
            self.mode.send_replace(Mode::Dead);
        }
        self.mode() != Mode::Dead
    }

    // Waits while the link is gone.
    async fn back(&self) {
        let mut mode = self.mode.subscribe();
        // The sender lives as long as `self`.
        let _ = mode.wait_for(|mode| *mode != Mode::Gone).await;
    }
}

/// The link. It ends with the runtime of the test.
pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Link {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let (listener, socket) = loop {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (listener, socket);
            }
        };
        let address = listener.local_addr().unwrap();
        let (mode, left) = (watch::Sender::new(Mode::Pass), AtomicU64::new(u64::MAX));
        let shared = Arc::new(Shared { server, mode, left });
        tokio::spawn(datagrams(shared.clone(), Arc::new(socket)));
        tokio::spawn(connections(shared.clone(), listener));
        Self { address, shared }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.shared.left.store(u64::MAX, SeqCst);
        self.shared.mode.send_replace(mode);
    }

    /// Lets so many bytes of the client pass before the link is dead.
    pub(crate) fn die_after(&self, bytes: u64) {
        self.shared.left.store(bytes, SeqCst);
    }

    /// Waits until the link is dead.
    pub(crate) async fn dead(&self) {
        let mut mode = self.shared.mode.subscribe();
        within(mode.wait_for(|mode| *mode == Mode::Dead)).await.unwrap();
    }

    /// Cuts the link, and waits until the client has noticed. Over UDP that takes half a minute, which
    /// the clock skips.
    pub(crate) async fn cut(&self, client: &Client) {
        self.set(Mode::Dead);
        self.noticed(client).await;
    }

    /// Waits until the client has noticed that the link is dead.
    pub(crate) async fn noticed(&self, client: &Client) {
        let mut states = client.watch_state();
        let udp = client.transport() != Transport::WebSocket;
        if udp {
            tokio::time::pause();
        }
        let ended = |state: &State| !matches!(state, State::Open { .. });
        // Without the patience of other waits, which the clock would skip too.
        states.wait_for(ended).await.unwrap();
        if udp {
            tokio::time::resume();
        }
    }
}

async fn datagrams(shared: Arc<Shared>, front: Arc<UdpSocket>) {
    let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let Ok((length, client)) = front.recv_from(&mut buffer).await else {
            continue;
        };
        if !shared.passes_up(length) || matches!(shared.mode(), Mode::Tcp | Mode::Gone) {
            continue;
        }
        let flow = match flows.entry(client) {
            Entry::Occupied(flow) => flow.into_mut(),
            Entry::Vacant(flow) => {
                let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                back.connect(shared.server).await.unwrap();
                let back = flow.insert(Arc::new(back));
                tokio::spawn(answers(shared.clone(), back.clone(), front.clone(), client));
                back
            }
        };
        let _ = flow.send(&buffer[..length]).await;
    }
}

// Passes what the daemon sends to one client.
async fn answers(
    shared: Arc<Shared>,
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    client: SocketAddr,
) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        // An error tells that the daemon's port is closed.
        let Ok(length) = back.recv(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        if shared.mode() == Mode::Pass {
            let _ = front.send_to(&buffer[..length], client).await;
        }
    }
}

async fn connections(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        // A dead link closes what it accepts.
        if shared.mode() != Mode::Dead {
            tokio::spawn(connection(shared.clone(), client));
        }
    }
}

// Passes the bytes of a connection, until an end of it closes or the link is dead.
async fn connection(shared: Arc<Shared>, client: TcpStream) {
    shared.back().await;
    let Ok(server) = TcpStream::connect(shared.server).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = vec![0; 1 << 14];
        loop {
            let read = from_client.read(&mut buffer).await;
            shared.back().await;
            match read {
                Ok(length) if length > 0 && shared.passes_up(length) => {
                    if to_server.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 1 << 14];
        loop {
            let read = from_server.read(&mut buffer).await;
            shared.back().await;
            match read {
                Ok(length) if length > 0 => {
                    if matches!(shared.mode(), Mode::Pass | Mode::Tcp)
                        && to_client.write_all(&buffer[..length]).await.is_err()
                    {
                        return;
                    }
                }
                _ => return,
            }
        }
    };
    let mut mode = shared.mode.subscribe();
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = mode.wait_for(|mode| *mode == Mode::Dead) => {}
    }
}
