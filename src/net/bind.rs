//! Binds the ports: the same number for UDP and TCP.

use super::quic::socket;
use crate::tls;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

/// Maximum number of port pairs that are tried for port 0.
const TRIES: usize = 32;

/// Why the daemon could not bind its ports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// An address could not be bound.
    #[error("{}", address_error(protocol, *address, error))]
    Address {
        /// `UDP`, `TCP`, or `TCP (HTTP)`.
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// The bound socket could not be used.
    #[error("the socket: {error}")]
    Endpoint {
        /// The system's error.
        error: io::Error,
    },
    /// The TLS configuration could not be made.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
}

/// Names of the ports in errors.
const UDP: &str = "UDP";
const TCP: &str = "TCP";
const HTTP: &str = "TCP (HTTP)";

fn address_error(protocol: &str, address: SocketAddr, error: &io::Error) -> String {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let next = address.port().wrapping_add(1).max(1024);
    let (flag, without) = match protocol {
        HTTP => ("--http", ", or switch it off (--http off)"),
        _ => ("--listen", ""),
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{protocol} {address} is taken: another daemon may be running; stop it, or choose \
             another port ({flag} {ip}:{next}){without}"
        ),
        io::ErrorKind::PermissionDenied if (1..1024).contains(&address.port()) => {
            format!("{protocol} {address} needs privileges: choose a port above 1023 ({flag})")
        }
        _ => format!("{protocol} {address}: {error}: choose another address ({flag}){without}"),
    }
}

/// Binds the same port for UDP and TCP. Port 0 means any that is free for both.
pub(crate) fn pair(address: SocketAddr) -> Result<(UdpSocket, TcpListener), BindError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let udp = or_v4(address, socket::bind).map_err(|error| BindError::Address {
            protocol: UDP,
            address,
            error,
        })?;
        let at = udp.local_addr().map_err(|error| BindError::Endpoint { error })?;
        match listen(at) {
            Ok(tcp) => {
                socket::report(&udp);
                return Ok((udp, tcp));
            }
            // Another program has the TCP port of this number.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && address.port() == 0
                    && tries < TRIES => {}
            Err(error) => return Err(BindError::Address { protocol: TCP, address: at, error }),
        }
    }
}

/// Binds the port for plain HTTP.
pub(crate) fn http(address: SocketAddr) -> Result<TcpListener, BindError> {
    or_v4(address, listen).map_err(|error| BindError::Address { protocol: HTTP, address, error })
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
        let (udp, tcp) = pair((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert_eq!(udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let taken = pair(tcp.local_addr().unwrap()).unwrap_err().to_string();
        assert!(taken.starts_with("UDP 127.0.0.1:"), "{taken}");
        drop(udp);
        let taken = pair(tcp.local_addr().unwrap()).unwrap_err().to_string();
        assert!(taken.starts_with("TCP 127.0.0.1:") && taken.contains("--listen"), "{taken}");
        let taken = http(tcp.local_addr().unwrap()).unwrap_err().to_string();
        assert!(taken.contains("--http off"), "{taken}");
    }
}
