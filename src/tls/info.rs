//! The content of a certificate (RFC 5280): names, issuer, validity, and whether browsers can pin it.

use super::certificate_hash::CertificateHash;
use super::pem::CertificateProblem;
use std::net::IpAddr;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY};

/// Maximum validity of a certificate that browsers pin (`serverCertificateHashes`).
pub(super) const MAX_PINNED: Duration = Duration::days(14);

/// The content of a certificate.
#[derive(Debug, Clone)]
pub(crate) struct CertificateInfo {
    /// The subject's distinguished name.
    #[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "for `weir cert`"))]
    pub(crate) subject: String,
    /// DNS names, addresses and URIs for which it is valid, or the common name if there are none.
    pub(crate) names: Vec<String>,
    /// The issuer's distinguished name.
    pub(crate) issuer: String,
    pub(crate) from: OffsetDateTime,
    pub(crate) until: OffsetDateTime,
    pub(crate) hash: CertificateHash,
    /// Why browsers cannot pin it. `None` if they can.
    pub(crate) not_pinnable: Option<&'static str>,
    /// Whether its own key signed it.
    pub(crate) self_signed: bool,
}

impl CertificateInfo {
    /// Parses a certificate in DER form.
    pub(crate) fn of(der: &[u8]) -> Result<Self, CertificateProblem> {
        let damaged =
            |error: &dyn std::fmt::Display| CertificateProblem::Damaged(error.to_string());
        let (_, parsed) =
            x509_parser::parse_x509_certificate(der).map_err(|error| damaged(&error))?;
        let validity = parsed.validity();
        let [from, until] = [validity.not_before, validity.not_after].map(|at| at.to_datetime());
        let mut names = alternative_names(&parsed);
        if names.is_empty() {
            names.extend(common_name(&parsed));
        }
        let self_signed =
            parsed.subject() == parsed.issuer() && parsed.verify_signature(None).is_ok();
        Ok(Self {
            subject: parsed.subject().to_string(),
            names,
            issuer: parsed.issuer().to_string(),
            from,
            until,
            hash: CertificateHash::of(der),
            not_pinnable: not_pinnable(&parsed, until - from),
            self_signed,
        })
    }

    /// Returns an error if the certificate is not valid at this time.
    pub(super) fn check_valid(&self, now: OffsetDateTime) -> Result<(), CertificateProblem> {
        if now > self.until {
            return Err(CertificateProblem::Expired(utc(self.until)));
        }
        if now < self.from {
            return Err(CertificateProblem::NotYetValid(utc(self.from)));
        }
        Ok(())
    }

    /// Returns whether pages have to pin the certificate, because no authority vouches for it, and
    /// can.
    pub(crate) fn is_pinned(&self) -> bool {
        self.self_signed && self.not_pinnable.is_none()
    }
}

// The rules of browsers: ECDSA on P-256, and at most 14 days (WebTransport, "custom certificate
// requirements").
fn not_pinnable(certificate: &X509Certificate<'_>, valid: Duration) -> Option<&'static str> {
    let algorithm = &certificate.public_key().algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    if algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != Some(OID_EC_P256) {
        return Some("the key is not ECDSA P-256");
    }
    (valid > MAX_PINNED).then_some("it is valid for more than 14 days")
}

// The alternative names that are text or addresses, as the certificate has them.
fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    names.value.general_names.iter().filter_map(general_name).collect()
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from),
                _ => <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from),
            };
            address.map(|address| address.to_string())
        }
        _ => None,
    }
}

fn common_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// Returns the name of a peer: the first DNS name or URI for which its certificate is, or else the
/// common name. Returns `None` if the certificate has none of these, or an empty one.
pub(super) fn peer_name(der: &[u8]) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    let alternative = match parsed.subject_alternative_name() {
        Ok(names) => names.and_then(|names| {
            names.value.general_names.iter().find_map(|name| match name {
                GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
                _ => None,
            })
        }),
        // A certificate with a damaged extension names nobody.
        Err(_) => return None,
    };
    alternative.or_else(|| common_name(&parsed)).filter(|name| !name.is_empty())
}

/// Returns a time as text: `2027-01-31T12:00:00Z`.
pub(crate) fn utc(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let (hour, minute, second) = at.to_hms();
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
