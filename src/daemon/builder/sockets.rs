//! Sockets that a service manager or a supervisor hands over.

use super::Builder;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

impl Builder {
    /// Takes a bound UDP socket for raw QUIC and WebTransport, in place of one that the daemon binds to
    /// [`listen`](Self::listen). Its address applies, and the daemon logs a different one in `listen`.
    /// The daemon enlarges the socket's buffers if they are small.
    ///
    /// The socket should outlive the daemon, as a service manager's or a supervisor's does. Packets
    /// that arrive after this daemon then wait for the next one, which has a copy of the same socket. So
    /// while it [drains](crate::Daemon::drain), the daemon leaves new sessions to the next one: it does not
    /// answer them in place of refusing them. The builder keeps a copy of the socket until it is dropped.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::net::{TcpListener, UdpSocket};
    ///
    /// // The system gives a port that is free over UDP. Over TCP it may be taken.
    /// let (udp, tcp) = loop {
    ///     let udp = UdpSocket::bind("127.0.0.1:0")?;
    ///     if let Ok(tcp) = TcpListener::bind(udp.local_addr()?) {
    ///         break (udp, tcp);
    ///     }
    /// };
    /// for _ in 0..2 {
    ///     let builder = weir::Daemon::builder().udp_socket(udp.try_clone()?);
    ///     let daemon = builder.tcp_listener(tcp.try_clone()?).spawn().await?;
    ///     assert_eq!(daemon.local_addr(), udp.local_addr()?);
    ///     daemon.shutdown().await;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn udp_socket(mut self, socket: UdpSocket) -> Self {
        self.given.udp = Some(Arc::new(socket));
        self
    }

    /// Takes a listening TCP socket for HTTPS and WebSocket, as [`udp_socket`](Self::udp_socket) for
    /// UDP. Both have to have the same port. If only one of them is given, the daemon binds the other
    /// one to the same address.
    pub fn tcp_listener(mut self, listener: TcpListener) -> Self {
        self.given.tcp = Some(Arc::new(listener));
        self
    }

    /// Takes a listening TCP socket for HTTP and WebSocket without TLS, in place of one that the daemon
    /// binds to [`http`](Self::http), as [`udp_socket`](Self::udp_socket) for UDP.
    pub fn http_listener(mut self, listener: TcpListener) -> Self {
        self.given.http = Some(Arc::new(listener));
        self
    }
}
