//! Sockets that a service manager hands over (`sd_listen_fds(3)`). Their names (`FileDescriptorName=`)
//! say what they are for.

use crate::config::ConfigError;
use crate::daemon::Builder;
use listenfd::ListenFd;
use std::net::{TcpListener, UdpSocket};

/// The sockets that were handed over.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    // With the name `weir`: the daemon's port, UDP and TCP with TLS.
    udp: Option<UdpSocket>,
    tcp: Option<TcpListener>,
    // With the name `http`: without TLS.
    http: Option<TcpListener>,
}

impl Sockets {
    /// Takes the sockets that were handed over to this process. It removes variables of the environment,
    /// so it has to be called before there are threads.
    pub(super) fn take() -> Result<Self, ConfigError> {
        // The variables are checked with one crate, and the sockets are taken with the other.
        let names = sd_notify::listen_fds_with_names();
        let names: Vec<_> = names.map_err(|error| wrong(error.to_string()))?.collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let mut given = ListenFd::from_env();
        let mut sockets = Self::default();
        for (at, (_, name)) in names.iter().enumerate() {
            sockets.add(&mut given, at, name)?;
        }
        Ok(sockets)
    }

    fn add(&mut self, given: &mut ListenFd, at: usize, name: &str) -> Result<(), ConfigError> {
        // Without FileDescriptorName= a name is that of the unit, and of no unit "unknown".
        let is_http = match name {
            "weir" | "weir.socket" | "unknown" => false,
            "http" | "weir-http.socket" => true,
            _ => return Err(wrong(format!("{name}: the names of sockets are weir and http"))),
        };
        let again = if let Ok(Some(udp)) = given.take_udp_socket(at) {
            if is_http {
                return Err(wrong(format!("{name}: HTTP needs a TCP socket, and this is UDP")));
            }
            self.udp.replace(udp).is_some()
        } else if let Ok(Some(tcp)) = given.take_tcp_listener(at) {
            let place = if is_http { &mut self.http } else { &mut self.tcp };
            place.replace(tcp).is_some()
        } else {
            return Err(wrong(format!("{name}: descriptor {} is neither UDP nor TCP", at + 3)));
        };
        if again {
            return Err(wrong(format!("{name}: two sockets of this name have the same protocol")));
        }
        Ok(())
    }

    /// Gives them to a daemon.
    pub(super) fn give(self, mut builder: Builder) -> Builder {
        if let Some(udp) = self.udp {
            builder = builder.udp_socket(udp);
        }
        if let Some(tcp) = self.tcp {
            builder = builder.tcp_listener(tcp);
        }
        if let Some(http) = self.http {
            builder = builder.http_listener(http);
        }
        builder
    }
}

fn wrong(reason: String) -> ConfigError {
    let variable = "LISTEN_FDS, LISTEN_FDNAMES".to_owned();
    ConfigError::Environment { variable, reason }
}
