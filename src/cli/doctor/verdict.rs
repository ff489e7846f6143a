//! The verdict over all three transports.

use crate::Transport;
use crate::client::ConnectError;

/// Which transports work, and why others do not.
#[derive(Default)]
pub(super) struct Verdict {
    quic: Option<Result<(), ConnectError>>,
    web_transport: Option<Result<(), ConnectError>>,
    web_socket: Option<Result<(), ConnectError>>,
}

impl Verdict {
    pub(super) fn works(&mut self, transport: Transport) {
        *self.of(transport) = Some(Ok(()));
    }

    pub(super) fn fails(&mut self, transport: Transport, error: ConnectError) {
        *self.of(transport) = Some(Err(error));
    }

    fn of(&mut self, transport: Transport) -> &mut Option<Result<(), ConnectError>> {
        match transport {
            Transport::Quic => &mut self.quic,
            Transport::WebTransport => &mut self.web_transport,
            Transport::WebSocket => &mut self.web_socket,
        }
    }

    /// Returns the verdict, and what to do.
    pub(super) fn text(&self, server: &str, port: u16) -> (String, Option<String>) {
        let works = |one: &Option<Result<(), ConnectError>>| matches!(one, Some(Ok(())));
        let all = [works(&self.quic), works(&self.web_transport), works(&self.web_socket)];
        let failed = |one: &Option<Result<(), ConnectError>>, is: fn(&ConnectError) -> bool| matches!(one, Some(Err(error)) if is(error));
        let is_absent = |error: &ConnectError| matches!(error, ConnectError::NotRunning { .. });
        let is_untrusted = |error: &ConnectError| {
            matches!(error, ConnectError::Certificate { .. } | ConnectError::NoCertificate { .. })
        };
        let is_refused = |error: &ConnectError| matches!(error, ConnectError::Refused { .. });
        let any = |is: fn(&ConnectError) -> bool| {
            [&self.quic, &self.web_transport, &self.web_socket]
                .into_iter()
                .any(|one| failed(one, is))
        };
        let (text, advice) = match all {
            [true, true, true] => ("Everything works.".into(), None),
            [true, false, true] => (
                "Native peers work, browsers only over WebSocket: WebTransport fails.".into(),
                Some("See its line above. Something answers QUIC on this port and no HTTP/3.".into()),
            ),
            [false, false, true] => (
                format!("UDP does not get through to {server}: only WebSocket works."),
                Some(format!(
                    "Open UDP port {port} on the way: firewalls of this network and of the daemon's \
                     host, and rules of a cloud. Until then messages are late when packets are lost."
                )),
            ),
            [true, true, false] => (
                "QUIC and WebTransport work, WebSocket does not.".into(),
                Some(format!(
                    "Open TCP port {port} on the way: without it, networks that block UDP cannot \
                     connect."
                )),
            ),
            [false, false, false] if any(is_untrusted) => (
                "The daemon answers, and its certificate is not trusted here.".into(),
                Some("Pin it (--cert-hash), name its authority (--ca), or give it a certificate of a \
                      public one.".into()),
            ),
            [false, false, false] if any(is_refused) => (
                "The daemon answers, and refuses sessions.".into(),
                Some("Its reasons are above. A closed daemon wants a token (--token-file).".into()),
            ),
            [false, false, false] if any(is_absent) => (
                format!("Nothing listens at {server}."),
                Some("Start the daemon (`weir serve`), or look at its log and its port.".into()),
            ),
            [false, false, false] => (
                format!("Nothing gets through to {server}."),
                Some(format!(
                    "See whether the daemon runs, whether the address is its own, and whether UDP and \
                     TCP port {port} are open on the way."
                )),
            ),
            _ => ("Some transports fail.".into(), Some("See their lines above.".into())),
        };
        (text, advice)
    }
}
