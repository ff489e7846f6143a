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
use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// quinn's runtime on tokio, with sockets that send in batches.
#[derive(Debug)]
pub(super) struct Batching;

impl Runtime for Batching {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let shared = Arc::new(Shared {
            state: UdpSocketState::new((&socket).into())?,
            fixed: !socket.local_addr()?.ip().is_unspecified(),
            io: tokio::net::UdpSocket::from_std(socket)?,
            queue: Mutex::default(),
            sending: Mutex::default(),
            begun: Notify::new(),
            closed: AtomicBool::new(false),
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
    // Bound to one address: packets need not say from which they go.
    fixed: bool,
    // Locked for a moment only.
    queue: Mutex<Queue>,
    // Locked while packets are sent, so that batches do not overtake one another; what the kernel
    // has had no room for stays here.
    sending: Mutex<Batch>,
    // The queue is not empty any more, or the socket is gone.
    begun: Notify,
    closed: AtomicBool,
}

#[derive(Default)]
struct Queue {
    batch: Batch,
    // When the last packet came.
    last: Option<Instant>,
}

/// What the control data of a packet says; the same for all packets of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    // To an IPv4 address, mapped or not.
    v4: bool,
    ecn: u8,
    source: Option<IpAddr>,
}

#[derive(Default)]
struct Batch {
    way: Option<Way>,
    // The packets' bytes one after the other; where each ends, and where it goes.
    bytes: Vec<u8>,
    packets: Vec<(usize, Option<SockaddrStorage>)>,
}

impl Batch {
    fn push(&mut self, way: Way, transmit: &Transmit<'_>) {
        self.way = Some(way);
        self.bytes.extend_from_slice(transmit.contents);
        self.packets.push((self.bytes.len(), Some(SockaddrStorage::from(transmit.destination))));
    }

    fn takes(&self, way: Way) -> bool {
        self.packets.len() < PACKETS && (self.packets.is_empty() || self.way == Some(way))
    }

    fn remove(&mut self, sent: usize) {
        if sent >= self.packets.len() {
            self.packets.clear();
            self.bytes.clear();
            return;
        }
        let end = self.packets[sent - 1].0;
        self.packets.drain(..sent);
        self.packets.iter_mut().for_each(|(at, _)| *at -= end);
        self.bytes.drain(..end);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn way(&self, transmit: &Transmit<'_>) -> Way {
        let v4 = transmit.destination.ip().to_canonical().is_ipv4();
        let ecn = transmit.ecn.map_or(0, |ecn| ecn as u8);
        Way { v4, ecn, source: transmit.src_ip.filter(|_| !self.fixed) }
    }

    /// Sends all that waits. What the kernel has no room for goes on waiting: `WouldBlock`.
    fn flush(&self) -> io::Result<()> {
        let mut batch = locked(&self.sending);
        loop {
            if batch.packets.is_empty() {
                std::mem::swap(&mut *batch, &mut locked(&self.queue).batch);
            }
            let Some(way) = batch.way.filter(|_| !batch.packets.is_empty()) else {
                return Ok(());
            };
            let sent = self.io.try_io(Interest::WRITABLE, || {
                send(self.io.as_raw_fd(), way, &batch.bytes, &batch.packets)
            });
            match sent {
                Ok(sent) => batch.remove(sent.max(1)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                // The first cannot be sent: as good as lost, like any packet on its way.
                Err(error) => {
                    tracing::debug!(%error, "a packet was not sent");
                    batch.remove(1);
                }
            }
        }
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let way = self.way(transmit);
        let segmented = transmit.segment_size.is_some_and(|size| size < transmit.contents.len());
        let now = Instant::now();
        let mut queue = locked(&self.queue);
        let alone = queue.last.replace(now).is_none_or(|last| now - last > BURST);
        if alone || segmented {
            drop(queue);
            // Nothing overtakes what its own connection has waiting.
            self.flush()?;
            return self
                .io
                .try_io(Interest::WRITABLE, || self.state.send((&self.io).into(), transmit));
        }
        while !queue.batch.takes(way) {
            drop(queue);
            self.flush()?;
            queue = locked(&self.queue);
        }
        queue.batch.push(way, transmit);
        let packets = queue.batch.packets.len();
        drop(queue);
        match packets {
            1 => self.begun.notify_one(),
            // What there is no room for now is tried again with the next, or by the task.
            PACKETS => drop(self.flush()),
            _ => {}
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
    let ecn =
        if way.v4 { ControlMessage::Ipv4Tos(&way.ecn) } else { ControlMessage::Ipv6TClass(&class) };
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
    while !shared.closed.load(Ordering::Relaxed) {
        shared.begun.notified().await;
        // After the tasks that are about to add to it.
        tokio::task::yield_now().await;
        while shared.flush().is_err() {
            if let Err(error) = shared.io.writable().await {
                tracing::warn!(%error, "the UDP socket failed");
                return;
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
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.begun.notify_one();
    }
}

impl AsyncUdpSocket for Batched {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.send(transmit)
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
