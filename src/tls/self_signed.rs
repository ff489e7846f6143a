//! Making self-signed certificates, as browsers can pin them: ECDSA on P-256.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use time::{Duration, OffsetDateTime};

/// How long before its first use a certificate is valid, because clocks differ.
const BACKDATED: Duration = Duration::hours(1);

/// Makes a certificate that is used from `from` on, for `valid`. Returns it and its key as PEM.
pub(crate) fn make(
    names: &[String],
    common_name: &str,
    from: OffsetDateTime,
    valid: Duration,
) -> Result<[String; 2], rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    params.not_before = from - BACKDATED;
    params.not_after = from + valid;
    let certificate = params.self_signed(&key)?;
    Ok([certificate.pem(), key.serialize_pem()])
}
