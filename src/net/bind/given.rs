//! Sockets that another program has bound for the daemon, such as a service manager. They outlive the
//! daemon: connections and packets that come after it wait for the next one.

use super::error::{BindError, HTTP, TCP, UDP};
use crate::net::quic::socket;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

/// The sockets that were given, in place of those that the daemon would bind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    pub(crate) udp: Option<Arc<UdpSocket>>,
    pub(crate) tcp: Option<Arc<TcpListener>>,
    pub(crate) http: Option<Arc<TcpListener>>,
}

/// Those of the daemon's port, ready to be used, and their address.
#[derive(Debug, Default)]
pub(super) struct GivenPair {
    pub(super) udp: Option<UdpSocket>,
    pub(super) tcp: Option<TcpListener>,
    pub(super) at: Option<SocketAddr>,
}

impl Given {
    /// Returns the sockets of the daemon's port, as far as they were given.
    pub(super) fn pair(&self, configured: Option<SocketAddr>) -> Result<GivenPair, BindError> {
        let udp = self.udp.as_ref().map(|given| udp(given, configured)).transpose()?;
        let tcp = self.tcp.as_ref().map(|given| tcp(TCP, given, configured)).transpose()?;
        let at = match (&udp, &tcp) {
            (Some((_, udp)), Some((_, tcp))) if udp.port() != tcp.port() => {
                return Err(BindError::Ports { udp: *udp, tcp: *tcp });
            }
            (Some((_, at)), _) | (None, Some((_, at))) => Some(*at),
            (None, None) => None,
        };
        Ok(GivenPair { udp: udp.map(|(udp, _)| udp), tcp: tcp.map(|(tcp, _)| tcp), at })
    }

    /// Returns the socket of plain HTTP, if it was given.
    pub(super) fn http(
        &self,
        configured: Option<SocketAddr>,
    ) -> Result<Option<TcpListener>, BindError> {
        let Some(given) = &self.http else { return Ok(None) };
        let (listener, at) = tcp(HTTP, given, configured)?;
        if configured.is_none() {
            tracing::warn!(%at, "plain HTTP is off, and has a socket that was handed over: it is on");
        }
        Ok(Some(listener))
    }
}

fn udp(
    given: &UdpSocket,
    configured: Option<SocketAddr>,
) -> Result<(UdpSocket, SocketAddr), BindError> {
    let take = || {
        let udp = given.try_clone()?;
        socket::adopt(&udp)?;
        let at = udp.local_addr()?;
        Ok((udp, at))
    };
    let (udp, at) = take().map_err(|error| BindError::Given { protocol: UDP, error })?;
    report(UDP, at, configured);
    Ok((udp, at))
}

fn tcp(
    protocol: &'static str,
    given: &TcpListener,
    configured: Option<SocketAddr>,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let take = || {
        // Otherwise every accept would fail, one after the other.
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
        if !socket2::SockRef::from(given).is_listener()? {
            return Err(io::Error::other("it does not listen"));
        }
        let tcp = given.try_clone()?;
        tcp.set_nonblocking(true)?;
        let at = tcp.local_addr()?;
        Ok((tcp, at))
    };
    let (tcp, at) = take().map_err(|error| BindError::Given { protocol, error })?;
    report(protocol, at, configured);
    Ok((tcp, at))
}

// Logs a socket, and an address in the configuration that does not apply. With port 0, any port is as
// configured.
fn report(protocol: &str, at: SocketAddr, configured: Option<SocketAddr>) {
    match configured {
        Some(configured)
            if at != configured && (at.ip() != configured.ip() || configured.port() != 0) =>
        {
            tracing::warn!(protocol, %at, %configured, "a socket was handed over, and its address applies");
        }
        _ => tracing::info!(protocol, %at, "a socket was handed over"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{http, pair};
    use super::*;
    use std::net::Ipv4Addr;

    const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

    fn given(udp: Option<UdpSocket>, tcp: Option<TcpListener>) -> Given {
        Given { udp: udp.map(Arc::new), tcp: tcp.map(Arc::new), http: None }
    }

    #[test]
    fn what_was_given_is_not_bound_again() {
        let bound = pair(Some(ANY.into()), &Given::default()).unwrap();
        assert!(!bound.udp_is_given && !bound.tcp_is_given);
        let at = bound.udp.local_addr().unwrap();
        // The configured port is another one.
        let both = given(Some(bound.udp), Some(bound.tcp));
        for configured in [None, Some(ANY.into()), Some((Ipv4Addr::LOCALHOST, 1).into())] {
            let pair = pair(configured, &both).unwrap();
            assert!(pair.udp_is_given && pair.tcp_is_given);
            assert_eq!(pair.udp.local_addr().unwrap(), at);
            assert_eq!(pair.tcp.local_addr().unwrap(), at);
        }
        // The other one is bound to the same address.
        let Given { udp, tcp, .. } = both;
        drop(tcp);
        let udp = Given { udp, ..Given::default() };
        let bound = pair(None, &udp).unwrap();
        assert!(bound.udp_is_given && !bound.tcp_is_given);
        assert_eq!(bound.tcp.local_addr().unwrap(), at);
        drop((bound.udp, udp));
        let tcp = given(None, Some(bound.tcp));
        let bound = pair(None, &tcp).unwrap();
        assert!(!bound.udp_is_given && bound.tcp_is_given);
        assert_eq!(bound.udp.local_addr().unwrap(), at);
    }

    #[test]
    fn sockets_that_cannot_serve_are_refused() {
        let (udp, tcp) = (UdpSocket::bind(ANY).unwrap(), TcpListener::bind(ANY).unwrap());
        let ports = [udp.local_addr().unwrap(), tcp.local_addr().unwrap()];
        assert_ne!(ports[0].port(), ports[1].port());
        let refused = pair(None, &given(Some(udp), Some(tcp))).err().unwrap().to_string();
        assert!(ports.iter().all(|port| refused.contains(&port.to_string())), "{refused}");
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(ANY).into()).unwrap();
        let deaf = Given { http: Some(Arc::new(socket.into())), ..Given::default() };
        let refused = http(None, &deaf).unwrap_err().to_string();
        assert!(refused.contains("TCP (HTTP)") && refused.contains("listen"), "{refused}");
    }

    // A service manager may have set larger buffers than the daemon has the right to.
    #[test]
    fn buffers_are_never_made_smaller() {
        let udp = UdpSocket::bind(ANY).unwrap();
        let before = socket::buffers(&udp).unwrap();
        let most = socket::most_buffers().unwrap();
        socket::adopt(&udp).unwrap();
        let after = socket::buffers(&udp).unwrap();
        assert_eq!(after, (before.0.max(most.0), before.1.max(most.1)));
        socket::adopt(&udp).unwrap();
        assert_eq!(socket::buffers(&udp).unwrap(), after);
    }
}
