//! The UDP socket, with buffers large enough for bursts.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// Size of the kernel's buffers, bytes: 8 MiB for each direction. The usual 208 KiB hold 170 full
/// packets, which is less than one message for a thousand sessions. The kernel caps the size at
/// `net.core.rmem_max` and `net.core.wmem_max`.
pub(crate) const BUFFER: usize = 8 << 20;

/// Binds a socket to `address`. The IPv6 wildcard accepts IPv4 too.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Errors are ignored: `report` warns about small buffers.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.bind(&address.into())?;
    let socket: UdpSocket = socket.into();
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A size that no program chooses for a relay, bytes: 512 KiB, more than the kernel's default.
#[cfg(feature = "daemon")]
const UNSET: usize = 512 << 10;

/// Prepares a socket that another program has bound. Its buffers are only enlarged: that program may
/// have had the right to exceed the kernel's limits.
#[cfg(feature = "daemon")]
pub(crate) fn adopt(socket: &UdpSocket) -> io::Result<()> {
    let have = buffers(socket)?;
    // A service may have the right to use this socket, and to make no other one.
    let most = most_buffers().unwrap_or((UNSET, UNSET));
    let options = socket2::SockRef::from(socket);
    if have.0 < most.0 {
        options.set_recv_buffer_size(BUFFER)?;
    }
    if have.1 < most.1 {
        options.set_send_buffer_size(BUFFER)?;
    }
    socket.set_nonblocking(true)
}

/// Sizes of the buffers that the kernel gives when it is asked for [`BUFFER`], as [`buffers`] has them.
#[cfg(feature = "daemon")]
pub(crate) fn most_buffers() -> io::Result<(usize, usize)> {
    buffers(&bind((std::net::Ipv4Addr::LOCALHOST, 0).into())?)
}

/// Sizes of the buffers for receiving and for sending, bytes. Linux includes its own overhead, and
/// so reports double.
#[cfg(feature = "daemon")]
pub(crate) fn buffers(socket: &UdpSocket) -> io::Result<(usize, usize)> {
    let socket = socket2::SockRef::from(socket);
    Ok((socket.recv_buffer_size()?, socket.send_buffer_size()?))
}

/// Logs the sizes of the buffers, and what to do if they are too small.
#[cfg(feature = "daemon")]
pub(crate) fn report(socket: &UdpSocket) {
    match buffers(socket) {
        Ok((receive, send)) if receive.min(send) < BUFFER => tracing::warn!(
            receive,
            send,
            wanted = BUFFER,
            "small UDP buffers lose packets under load: raise net.core.rmem_max and \
             net.core.wmem_max to {BUFFER}"
        ),
        Ok((receive, send)) => tracing::debug!(receive, send, "UDP buffers, bytes"),
        Err(error) => tracing::debug!(%error, "UDP buffers unknown"),
    }
}
