//! The content of a certificate, as JSON.

use crate::tls::info::{CertificateInfo, utc};
use serde_json::{Value, json};

/// Returns what programs may want of a certificate.
pub(super) fn facts(info: &CertificateInfo) -> Value {
    json!({
        "names": info.names,
        "subject": info.subject,
        "issuer": info.issuer,
        "self_signed": info.self_signed,
        "not_before": utc(info.from),
        "not_after": utc(info.until),
        "sha256": info.hash.to_string(),
        "pinnable": info.not_pinnable.is_none(),
        "not_pinnable": info.not_pinnable,
    })
}
