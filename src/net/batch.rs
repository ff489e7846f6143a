//! Packets of many connections in one system call.
//!
//! A message for a hundred sessions is a hundred packets, one for each connection, made one right
//! after the other. Sent one by one, each pays for a system call, and the kernel's code and the
//! daemon's push one another out of the processor's caches. So what follows closely upon another
//! packet waits for the next few, or until the tasks that make them have had their turn, and goes
//! out with them: sendmmsg(2). What stands alone goes at once.

use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::sync::Notify;

/// Packets sent together. More saves no more, and makes the first wait for the last.
const PACKETS: usize = 16;

/// A packet belongs to a burst if it comes so soon after the one before, 50 µs: a few times what
/// it takes to make one.
const BURST: Duration = Duration::from_micros(50);

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// quinn's runtime on tokio, with sockets that send in batches.
#[derive(Debug, Default)]
pub(super) struct Batching {
    pools: Mutex<Vec<mpsc::UnboundedSender<Driver>>>,
    spawned: AtomicUsize,
}

/// Drives many connections in one task: those that have something to do one after the other.
async fn drive(mut newcomers: mpsc::UnboundedReceiver<Driver>) {
    let mut drivers = FuturesUnordered::new();
    let mut closed = false;
    loop {
        poll_fn(|context| {
            while let Poll::Ready(newcomer) = newcomers.poll_recv(context) {
                match newcomer {
                    Some(driver) => drivers.push(driver),
                    None => {
                        closed = true;
                        break;
                    }
                }
            }
            while let Poll::Ready(Some(())) = drivers.poll_next_unpin(context) {}
            Poll::Ready(())
        })
        .await;
        if closed && drivers.is_empty() {
            return;
        }
        let mut woken = false;
        poll_fn(|_| if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending })
            .await;
        tokio::task::yield_now().await;
    }
}

impl Runtime for Batching {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        // The first is the endpoint's.
        let number = self.spawned.fetch_add(1, Ordering::Relaxed);
        if number == 0 || std::env::var("POOLS").is_err() {
            return TokioRuntime.spawn(future);
        }
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let n: usize = std::env::var("POOLS").unwrap().parse().unwrap();
        while pools.len() < n {
            let (tx, rx) = mpsc::unbounded_channel();
            pools.push(tx);
            let h = tokio::spawn(tokio::task::unconstrained(drive(rx)));
            drop(h);
        }
        let _ = pools[number % n].send(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let shared = Arc::new(Shared {
            state: UdpSocketState::new((&socket).into())?,
            io: tokio::net::UdpSocket::from_std(socket)?,
            queue: Mutex::new(Queue::default()),
            begun: Notify::new(),
        });
        tokio::spawn(flush(shared.clone()));
        Ok(Arc::new(Batched(shared)))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

struct Shared {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    queue: Mutex<Queue>,
    // The queue is not empty any more, or the socket is gone.
    begun: Notify,
}

/// What the control data of a packet says; the same for all packets of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    // To an IPv4 address, mapped or not.
    v4: bool,
    ecn: u8,
    source: Option<IpAddr>,
}

impl Way {
    fn of(transmit: &Transmit<'_>) -> Self {
        let v4 = transmit.destination.ip().to_canonical().is_ipv4();
        let ecn = transmit.ecn.map_or(0, |ecn| ecn as u8);
        Self { v4, ecn, source: transmit.src_ip }
    }
}

#[derive(Default)]
struct Queue {
    way: Option<Way>,
    // The packets' bytes one after the other, and where each ends.
    bytes: Vec<u8>,
    packets: Vec<(usize, Option<SockaddrStorage>)>,
    // When the last packet came.
    last: Option<Instant>,
    closed: bool,
}

impl Queue {
    fn push(&mut self, transmit: &Transmit<'_>) {
        self.way = Some(Way::of(transmit));
        self.bytes.extend_from_slice(transmit.contents);
        self.packets.push((self.bytes.len(), Some(SockaddrStorage::from(transmit.destination))));
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_now(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || self.state.send((&self.io).into(), transmit))
    }

    /// Sends what waits. What the kernel has no room for goes on waiting: `WouldBlock`.
    fn flush(&self, queue: &mut Queue) -> io::Result<()> {
        while let (Some(way), false) = (queue.way, queue.packets.is_empty()) {
            let sent = self.io.try_io(Interest::WRITABLE, || {
                send(self.io.as_raw_fd(), way, &queue.bytes, &queue.packets)
            });
            let sent = match sent {
                Ok(sent) => sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                // The first cannot be sent: as good as lost, like any packet on its way.
                Err(error) => {
                    tracing::debug!(%error, "a packet was not sent");
                    1
                }
            };
            if sent >= queue.packets.len() {
                queue.packets.clear();
                queue.bytes.clear();
            } else {
                let end = queue.packets[sent - 1].0;
                queue.packets.drain(..sent);
                queue.packets.iter_mut().for_each(|(at, _)| *at -= end);
                queue.bytes.drain(..end);
            }
        }
        Ok(())
    }
}

thread_local! {
    // What the kernel is handed, by the length of the control data: made once, used again.
    static HEADERS: RefCell<Vec<(usize, MultiHeaders<SockaddrStorage>)>> =
        const { RefCell::new(Vec::new()) };
}

// As quinn-udp says it for one packet.
fn send(
    socket: i32,
    way: Way,
    bytes: &[u8],
    packets: &[(usize, Option<SockaddrStorage>)],
) -> io::Result<usize> {
    let class = i32::from(way.ecn);
    let ecn = if way.v4 {
        ControlMessage::Ipv4Tos(&way.ecn)
    } else {
        ControlMessage::Ipv6TClass(&class)
    };
    match way.source {
        None => {
            let space = if way.v4 { nix::cmsg_space!(u8) } else { nix::cmsg_space!(i32) };
            call(socket, &[ecn], space, bytes, packets)
        }
        Some(IpAddr::V4(source)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let space = nix::cmsg_space!(u8, libc::in_pktinfo);
            call(socket, &[ecn, ControlMessage::Ipv4PacketInfo(&info)], space, bytes, packets)
        }
        Some(IpAddr::V6(source)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
                ipi6_ifindex: 0,
            };
            let space = nix::cmsg_space!(i32, libc::in6_pktinfo);
            call(socket, &[ecn, ControlMessage::Ipv6PacketInfo(&info)], space, bytes, packets)
        }
    }
}

fn call(
    socket: i32,
    control: &[ControlMessage<'_>],
    space: Vec<u8>,
    bytes: &[u8],
    packets: &[(usize, Option<SockaddrStorage>)],
) -> io::Result<usize> {
    HEADERS.with_borrow_mut(|all| {
        let length = space.capacity();
        let at = all.iter().position(|(known, _)| *known == length).unwrap_or_else(|| {
            all.push((length, MultiHeaders::preallocate(PACKETS, Some(space))));
            all.len() - 1
        });
        let mut slices = [[IoSlice::new(&[])]; PACKETS];
        let mut addresses = [None; PACKETS];
        let mut begin = 0;
        for (index, (end, address)) in packets.iter().take(PACKETS).enumerate() {
            slices[index] = [IoSlice::new(&bytes[begin..*end])];
            addresses[index] = *address;
            begin = *end;
        }
        let count = packets.len().min(PACKETS);
        let sent = sendmmsg(
            socket,
            &mut all[at].1,
            &slices[..count],
            &addresses[..count],
            control,
            MsgFlags::empty(),
        )?;
        Ok(sent.count())
    })
}

/// Sends what nothing followed upon that would have filled its batch.
async fn flush(shared: Arc<Shared>) {
    loop {
        shared.begun.notified().await;
        // After the tasks that are about to add to it.
        tokio::task::yield_now().await;
        loop {
            let (flushed, closed) = {
                let mut queue = shared.queue();
                (shared.flush(&mut queue), queue.closed)
            };
            if closed {
                return;
            }
            if flushed.is_ok() || shared.io.writable().await.is_err() {
                break;
            }
        }
    }
}

struct Batched(Arc<Shared>);

impl fmt::Debug for Batched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batched").field("io", &self.0.io).finish_non_exhaustive()
    }
}

impl Drop for Batched {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.begun.notify_one();
    }
}

impl AsyncUdpSocket for Batched {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let shared = &*self.0;
        let mut queue = shared.queue();
        let now = Instant::now();
        let alone = queue.last.replace(now).is_none_or(|last| now - last > BURST);
        let segmented = transmit.segment_size.is_some_and(|size| size < transmit.contents.len());
        let other = queue.way.is_some_and(|way| way != Way::of(transmit));
        // Nothing overtakes what its own connection has waiting.
        if alone || segmented || other || queue.packets.len() >= PACKETS {
            shared.flush(&mut queue)?;
        }
        if alone || segmented {
            drop(queue);
            return shared.send_now(transmit);
        }
        queue.push(transmit);
        match queue.packets.len() {
            // What there is no room for now is tried again with the next, or by the task.
            PACKETS => drop(shared.flush(&mut queue)),
            1 => {
                drop(queue);
                shared.begun.notify_one();
            }
            _ => {}
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Shared { io, state, .. } = &*self.0;
        loop {
            ready!(io.poll_recv_ready(context))?;
            let received = io.try_io(Interest::READABLE, || state.recv(io.into(), buffers, meta));
            if let Ok(received) = received {
                return Poll::Ready(Ok(received));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.io.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.0.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.state.gro_segments()
    }
}

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

// One connection waits for room in the kernel.
struct Poller {
    socket: Arc<Batched>,
    waiting: Option<Writable>,
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, waiting } = &mut *self;
        let waiting = waiting.get_or_insert_with(|| {
            let socket = socket.0.clone();
            Box::pin(async move { socket.io.writable().await })
        });
        let ready = ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(ready)
    }
}
