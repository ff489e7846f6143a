//! Why ports cannot be bound, with a way out for each.

use crate::tls;
use std::io;
use std::net::SocketAddr;

/// Why the daemon could not bind its ports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// An address could not be bound.
    #[error("{}", address_error(protocol, *address, error))]
    Address {
        /// `UDP`, `TCP`, `TCP (HTTP)`, `TCP (ops)`, or `TCP (ACME)`.
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// A socket that was handed over cannot be used.
    #[error("the {protocol} socket that was handed over: {error}")]
    Given {
        /// `UDP`, `TCP`, `TCP (HTTP)`, `TCP (ops)`, or `TCP (ACME)`.
        protocol: &'static str,
        /// The reason.
        #[source]
        error: io::Error,
    },
    /// The sockets that were handed over have different ports. Clients know one.
    #[error("the sockets that were handed over are UDP {udp} and TCP {tcp}: give them one port")]
    Ports {
        /// The address of the UDP socket.
        udp: SocketAddr,
        /// The address of the TCP socket.
        tcp: SocketAddr,
    },
    /// The bound socket could not be used.
    #[error("the socket: {error}")]
    Endpoint {
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// The TLS configuration could not be made.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
}

/// Names of the ports in errors.
pub(super) const UDP: &str = "UDP";
pub(super) const TCP: &str = "TCP";
pub(super) const HTTP: &str = "TCP (HTTP)";
pub(super) const OPS: &str = "TCP (ops)";
pub(super) const ACME: &str = "TCP (ACME)";

fn address_error(protocol: &str, address: SocketAddr, error: &io::Error) -> String {
    if protocol == ACME {
        let what = match error.kind() {
            io::ErrorKind::AddrInUse => "stop what has it, or have",
            io::ErrorKind::PermissionDenied => {
                "give the daemon the right to it (CAP_NET_BIND_SERVICE), or have"
            }
            _ => "choose an address of this machine, or have",
        };
        return format!(
            "{protocol} {address}: {error}: the certificate authority asks on this port; {what} the challenges \
             forwarded to another port, and name that in tls.acme.listen"
        );
    }
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let next = address.port().wrapping_add(1).max(1024);
    let (flag, without) = match protocol {
        HTTP => ("--http", ", or switch it off (--http off)"),
        OPS => ("--ops", ", or switch it off (--ops off)"),
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
