//! QUIC: settings with their reasons, congestion control, the UDP socket.

pub(crate) mod congestion;
pub(crate) mod settings;
pub(crate) mod socket;
