//! A session of a daemon that drains: its client is asked to leave, and what is in flight completes.

use super::end::SessionEnd;
use super::peer::Peer;
use crate::broker::admission::Admission;
use crate::broker::stop::{STOPPING, Stage, stopped};
use crate::net::deadlines::LINGER;
use crate::wire::{Code, DaemonFrame, Refusal};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// The reason in `Drain`.
const DRAINING: &str = "the daemon is about to stop: connect again, to it or to another one";

/// How much longer than its time a session stays at least, 250 ms. A client that leaves at the last
/// moment begins its next session before this one ends.
const GRACE: Duration = Duration::from_millis(250);

/// The first and the longest interval between two looks at what is in flight.
const LOOK: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

/// Asks the client to leave. Returns when its time has passed and nothing is in flight, or when the
/// daemon stops.
pub(super) async fn leave_in_time(
    peer: &Peer,
    admission: &Admission,
    stage: &mut watch::Receiver<Stage>,
) -> SessionEnd {
    // A client that has not been welcomed cannot be asked.
    if *stage.borrow() < Stage::Stopping && peer.is_open() {
        let within = admission.leaves_after();
        let millis = within.as_millis() as u32;
        peer.outbox.push([DaemonFrame::Drain { within: millis, reason: DRAINING }.to_bytes()]);
        let in_time = async {
            sleep(within + GRACE).await;
            quiet(peer).await;
        };
        tokio::select! {
            () = in_time => {}
            () = stopped(stage) => {}
        }
    }
    Refusal::new(Code::SHUTTING_DOWN, STOPPING).into()
}

// Waits until nothing is in flight. If the peer is silent, it does not wait for acknowledgements.
async fn quiet(peer: &Peer) {
    let connection = &peer.context.connection;
    let now = std::time::Instant::now;
    // When something was last handed to the transport, and when the peer was last heard.
    let (mut since, mut heard) = (now(), (connection.packets_received(), now()));
    let [mut look, longest] = LOOK;
    loop {
        let packets = connection.packets_received();
        if packets != heard.0 {
            heard = (packets, now());
        }
        if peer.is_busy() {
            since = now();
        } else if connection.has_received(since) || heard.1.elapsed() > LINGER {
            return;
        }
        sleep(look).await;
        look = longest.min(look * 2);
    }
}
