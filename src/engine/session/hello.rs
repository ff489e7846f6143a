//! The first frame of a session.

use super::Session;
use super::frames::{Channel, Prepared};
use crate::engine::Engine;
use crate::wire::{self, ClientFrame, Code, DaemonFrame, Refusal};

impl Session {
    pub(super) fn hello(
        &mut self,
        engine: &Engine,
        now: u64,
        channel: Channel,
        frame: &Prepared<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let (Channel::Control, Prepared::Other(ClientFrame::Hello { version, producer, .. })) =
            (channel, frame)
        else {
            return Err(Refusal::new(
                Code::UNEXPECTED,
                "the first frame is the hello, on the control stream",
            ));
        };
        if *version != wire::VERSION {
            return Err(Refusal::new(
                Code::VERSION,
                format!(
                    "this daemon speaks version {}, the client version {version}: update the older",
                    wire::VERSION
                ),
            ));
        }
        self.producer = Some(*producer);
        let limits = engine.limits();
        DaemonFrame::Welcome {
            version: wire::VERSION,
            session: self.id,
            run: engine.run(),
            clock: now,
            limits: wire::Limits {
                payload: limits.payload as u64,
                subscriptions: limits.subscriptions,
                window: limits.window,
            },
            agent: concat!("weir/", env!("CARGO_PKG_VERSION")),
        }
        .encode(out);
        Ok(())
    }
}
