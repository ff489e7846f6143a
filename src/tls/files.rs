//! A certificate and its key in files that others renew.

use super::info::{CertificateInfo, utc};
use super::pem::{self, CertificateError};
use super::watched::{Look, Watched};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use time::OffsetDateTime;

/// A certificate with its key, and what it says.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) info: CertificateInfo,
}

impl Pair {
    /// Reads a pair that can be used now.
    pub(super) fn read(paths: [&Path; 2], now: OffsetDateTime) -> Result<Self, CertificateError> {
        let texts = [pem::read(paths[0])?, pem::read_private(paths[1])?];
        Self::parse(paths, [&texts[0], &texts[1]], now)
    }

    /// Parses the texts of a pair that can be used now.
    pub(super) fn parse(
        paths: [&Path; 2],
        texts: [&str; 2],
        now: OffsetDateTime,
    ) -> Result<Self, CertificateError> {
        let certified = Arc::new(pem::certified(paths, texts)?);
        let info = CertificateInfo::of(&certified.cert[0]);
        let info = info.map_err(|problem| problem.of(paths[0]))?;
        info.check_valid(now).map_err(|problem| problem.of(paths[0]))?;
        Ok(Self { certified, info })
    }

    /// Logs the certificate, and what browsers do with it.
    pub(super) fn log(&self, what: &str) {
        let CertificateInfo { names, issuer, until, hash, not_pinnable, self_signed, .. } =
            &self.info;
        let (names, until) = (names.join(" "), utc(*until));
        tracing::info!(names, issuer, until, %hash, "{what}");
        if let Some(reason) = not_pinnable
            && *self_signed
        {
            tracing::warn!(
                reason,
                "the certificate is self-signed, and browsers cannot pin it: they use WebSocket, \
                 and only if the user trusts the certificate"
            );
        }
    }
}

/// The certificate of a pair of files.
#[derive(Debug)]
pub(super) struct Files {
    // Read for each handshake, written when the files change.
    pair: RwLock<Arc<Pair>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    files: Watched<2>,
    // Whether the approaching end of this certificate, and its end, were logged.
    warned: [bool; 2],
}

impl Files {
    pub(super) fn open(
        certificate: PathBuf,
        key: PathBuf,
        now: OffsetDateTime,
    ) -> Result<Self, CertificateError> {
        let files = Watched::new([certificate, key]);
        let [certificate, key] = files.paths();
        let pair = Pair::read([certificate, key], now)?;
        pair.log("certificate");
        let state = Mutex::new(State { files, warned: [false; 2] });
        Ok(Self { pair: RwLock::new(Arc::new(pair)), state })
    }

    pub(super) fn pair(&self) -> Arc<Pair> {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn path(&self) -> PathBuf {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).files.paths()[0].clone()
    }

    /// Reads the files again if they have changed, or always. Returns whether they were read. An error
    /// is returned once for each version of the files, and the certificate in use stays.
    pub(super) fn reload(
        &self,
        always: bool,
        now: OffsetDateTime,
    ) -> Result<bool, CertificateError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (look, seen) = state.files.look();
        if look == Look::Unchanged && !always {
            self.warn_of_end(&mut state, now);
            return Ok(false);
        }
        let [certificate, key] = state.files.paths();
        match Pair::read([certificate, key], now) {
            Ok(pair) => {
                state.files.was_read(seen);
                state.warned = [false; 2];
                let unchanged = self.pair().info.hash == pair.info.hash;
                pair.log(if unchanged { "certificate, unchanged" } else { "new certificate" });
                *self.pair.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
                Ok(true)
            }
            Err(error) => {
                let reported = always || look == Look::ReadAndReport;
                state.files.is_broken(seen, reported);
                if reported { Err(error) } else { Ok(false) }
            }
        }
    }

    // Logs once that the certificate ends soon, and once that it has ended. The last sixth of its
    // life begins long after a tool should have renewed it.
    fn warn_of_end(&self, state: &mut State, now: OffsetDateTime) {
        let pair = self.pair();
        let CertificateInfo { from, until, .. } = pair.info;
        let text = utc(until);
        if now > until && !state.warned[1] {
            state.warned = [true; 2];
            tracing::error!(until = text, "the certificate has expired: clients refuse it");
        } else if until - now < (until - from) / 6 && !state.warned[0] {
            state.warned[0] = true;
            tracing::warn!(until = text, "the certificate expires soon: replace its files");
        }
    }
}
