//! The certificate that the daemon presents, over UDP and TCP.

use super::check::{Check, Status};
use crate::cli::certificate_facts::facts;
use crate::client::presented::{Chain, presented};
use crate::tls::info::{CertificateInfo, utc};
use serde_json::json;
use time::{Duration, OffsetDateTime};

/// Time left below which there is a warning. A daemon renews its own certificate earlier.
const SOON: Duration = Duration::days(2);

/// Checks the certificates. If nothing answers, the sessions have said so.
pub(super) async fn checks(server: &str, host: &str) -> Vec<Check> {
    let Ok([quic, tcp]) = presented(server).await else {
        return Vec::new();
    };
    let mut checks = Vec::new();
    let (quic, tcp) = (quic.ok(), tcp.ok());
    if let (Some(quic), Some(tcp)) = (&quic, &tcp)
        && quic.first() != tcp.first()
    {
        let text = "another certificate over TCP than over UDP";
        let advice = "a proxy or another server has the TCP port: both must reach the daemon";
        let check = Check::good("certificate", text, json!({}));
        checks.push(check.not(Status::Warning, advice));
    }
    checks.extend(quic.or(tcp).and_then(|chain| check(host, &chain)));
    checks
}

fn check(host: &str, chain: &Chain) -> Option<Check> {
    let info = CertificateInfo::of(chain.first()?).ok()?;
    let now = OffsetDateTime::now_utc();
    let facts = facts(&info);
    let issuer = if info.self_signed { "itself" } else { &info.issuer };
    let left = info.until - now;
    let names = info.names.join(" ");
    let text = format!("of {names}, by {issuer}, valid for {} days more", left.whole_days());
    let check = Check::good("certificate", text, facts);
    Some(if now < info.from {
        let advice =
            format!("it is valid from {}: look at the clock of this machine", utc(info.from));
        check.not(Status::Failed, advice)
    } else if left.is_negative() {
        let advice = format!("it expired on {}: the daemon has to renew it", utc(info.until));
        check.not(Status::Failed, advice)
    } else if left < SOON && !info.self_signed {
        check.not(Status::Warning, "it ends soon: see whether the daemon renews it")
    } else if !info.self_signed && !info.names.iter().any(|name| covers(name, host)) {
        let advice = format!("it is not for {host}: use one of its names, or pin its hash");
        check.not(Status::Warning, advice)
    } else if info.self_signed && info.not_pinnable.is_some() {
        let advice = "browsers neither trust nor pin it: make one with `weir cert new`, or have an \
                      authority sign it";
        check.not(Status::Warning, advice)
    } else {
        check
    })
}

// Returns whether a name of a certificate is for a host (RFC 9525, section 6.3).
fn covers(name: &str, host: &str) -> bool {
    let rest = |name: &str| name.split_once('.').map(|(_, rest)| rest.to_ascii_lowercase());
    name.eq_ignore_ascii_case(host)
        || name.strip_prefix("*.").is_some_and(|of| rest(host) == Some(of.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(covers("edge.example", "EDGE.example") && covers("*.example", "edge.example"));
        assert!(!covers("*.example", "a.edge.example") && !covers("*.example", "example"));
        assert!(!covers("edge.example", "other.example"));
    }
}
