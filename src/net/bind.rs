//! Binds the ports: the same number for UDP and TCP.

mod error;
mod given;

use super::quic::socket;
use error::{ACME, HTTP, OPS, TCP, UDP};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

pub use error::BindError;
pub(crate) use given::Given;
use given::GivenPair;

/// Maximum number of port pairs that are tried for port 0.
const TRIES: usize = 32;

/// The sockets of the daemon's port.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: TcpListener,
    /// Whether they were given, and outlive the daemon.
    pub(crate) udp_is_given: bool,
    pub(crate) tcp_is_given: bool,
}

/// Returns the sockets of the daemon's port. Those that were not given are bound: to the address of the
/// one that was, or else to the configured one. The default is the same port of all addresses.
pub(crate) fn pair(configured: Option<SocketAddr>, given: &Given) -> Result<Pair, BindError> {
    let GivenPair { udp, tcp, at } = given.pair(configured)?;
    let default = (Ipv6Addr::UNSPECIFIED, crate::wire::PORT).into();
    let at = at.or(configured).unwrap_or(default);
    let (udp_is_given, tcp_is_given) = (udp.is_some(), tcp.is_some());
    let (udp, tcp) = match (udp, tcp) {
        (Some(udp), Some(tcp)) => (udp, tcp),
        (Some(udp), None) => {
            let tcp = or_v4(at, listen);
            (udp, tcp.map_err(|error| BindError::Address { protocol: TCP, address: at, error })?)
        }
        (None, Some(tcp)) => (bind_udp(at)?, tcp),
        (None, None) => bind_both(at)?,
    };
    socket::report(&udp);
    Ok(Pair { udp, tcp, udp_is_given, tcp_is_given })
}

fn bind_udp(address: SocketAddr) -> Result<UdpSocket, BindError> {
    or_v4(address, socket::bind).map_err(|error| BindError::Address {
        protocol: UDP,
        address,
        error,
    })
}

/// Binds the same port for UDP and TCP. Port 0 means any that is free for both.
fn bind_both(address: SocketAddr) -> Result<(UdpSocket, TcpListener), BindError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let udp = bind_udp(address)?;
        let at = udp.local_addr().map_err(|error| BindError::Endpoint { error })?;
        match listen(at) {
            Ok(tcp) => return Ok((udp, tcp)),
            // Another program has the TCP port of this number.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && address.port() == 0
                    && tries < TRIES => {}
            Err(error) => return Err(BindError::Address { protocol: TCP, address: at, error }),
        }
    }
}

/// Returns the socket of plain HTTP: the given one, or else one that is bound to the configured address.
pub(crate) fn http(
    configured: Option<SocketAddr>,
    given: &Given,
) -> Result<Option<TcpListener>, BindError> {
    match given.http(configured)? {
        Some(listener) => Ok(Some(listener)),
        None => configured.map(bind_http).transpose(),
    }
}

/// Binds a port for HTTP without TLS.
pub(crate) fn bind_http(address: SocketAddr) -> Result<TcpListener, BindError> {
    or_v4(address, listen).map_err(|error| BindError::Address { protocol: HTTP, address, error })
}

/// Binds the port for the challenges of a certificate authority.
pub(crate) fn challenges(address: SocketAddr) -> Result<TcpListener, BindError> {
    or_v4(address, listen).map_err(|error| BindError::Address { protocol: ACME, address, error })
}

/// Binds the port for metrics and health.
pub(crate) fn ops(address: SocketAddr) -> Result<TcpListener, BindError> {
    or_v4(address, listen).map_err(|error| BindError::Address { protocol: OPS, address, error })
}

/// Binds with `bind`. On a machine without IPv6, the IPv6 wildcard falls back to the IPv4 one.
fn or_v4<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let bound = bind(address);
    if address.ip() == Ipv6Addr::UNSPECIFIED
        && let Err(error) = &bound
        && !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
    {
        tracing::warn!(%error, "no IPv6 on this machine: listening on IPv4 only");
        return bind((Ipv4Addr::UNSPECIFIED, address.port()).into());
    }
    bound
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Connections of an earlier daemon may still be closing.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    let listener: TcpListener = socket.into();
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ports_have_one_number() {
        let pair = |address: SocketAddr| pair(Some(address), &Given::default());
        let Pair { udp, tcp, .. } = pair((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert_eq!(udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let taken = pair(tcp.local_addr().unwrap()).unwrap_err().to_string();
        assert!(taken.starts_with("UDP 127.0.0.1:"), "{taken}");
        drop(udp);
        let taken = pair(tcp.local_addr().unwrap()).unwrap_err().to_string();
        assert!(taken.starts_with("TCP 127.0.0.1:") && taken.contains("--listen"), "{taken}");
        let taken = bind_http(tcp.local_addr().unwrap()).unwrap_err().to_string();
        assert!(taken.contains("--http off"), "{taken}");
        let taken = ops(tcp.local_addr().unwrap()).unwrap_err().to_string();
        assert!(taken.contains("--ops off"), "{taken}");
    }
}
