//! The cryptography of TLS, and its clock.

use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use std::sync::Arc;
use std::time::SystemTime;

/// Returns the only provider: ring.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Returns the clock: the time of day, and 1970 if that is earlier. The clock of rustls panics then, and a
/// panic within a handshake over QUIC ends the process.
pub(crate) fn clock() -> Arc<dyn TimeProvider> {
    Arc::new(Clock(SystemTime::now))
}

struct Clock(fn() -> SystemTime);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = (self.0)().duration_since(SystemTime::UNIX_EPOCH);
        Some(UnixTime::since_unix_epoch(since.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_time_before_1970_is_1970() {
        let at = |now| Clock(now).current_time().unwrap().as_secs();
        assert_eq!(at(|| SystemTime::UNIX_EPOCH - Duration::from_secs(9)), 0);
        assert_eq!(at(|| SystemTime::UNIX_EPOCH + Duration::from_secs(9)), 9);
    }
}
