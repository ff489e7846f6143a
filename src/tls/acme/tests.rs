//! The kept files of an authority, and the answers to its challenges.

use super::*;
use crate::tls::self_signed;
use crate::tls::settings::{AcmeDirectory, TlsSettings};
use std::os::unix::fs::PermissionsExt as _;
use time::Duration as Days;

const URL: &str = "https://acme.example:14000/dir";

fn settings(domains: &[&str]) -> AcmeSettings {
    AcmeSettings::new(domains.iter().copied()).with_directory(AcmeDirectory::Url(URL.into()))
}

fn open(state: &Path, domains: &[&str]) -> Acme {
    Acme::open(settings(domains), Some(state), OffsetDateTime::now_utc()).unwrap()
}

#[test]
fn a_certificate_is_kept_for_its_names_and_its_authority() {
    let state = tempfile::tempdir().unwrap();
    assert!(open(state.path(), &["a.example"]).pair().is_none());
    let directory = state.path().join("acme/acme.example-14000-dir");
    let names = ["a.example", "b.example"].map(String::from);
    let now = OffsetDateTime::now_utc();
    let pem = self_signed::make(&names, "a", now, Days::days(90)).unwrap();
    for (name, text) in PAIR.iter().zip(&pem) {
        fs::write(directory.join(name), text).unwrap();
    }
    // A copy may have any mode.
    let key = directory.join(PAIR[1]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let acme = open(state.path(), &["B.example", "a.example"]);
    let kept = acme.pair().unwrap();
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    // Two thirds of 90 days, and a twelfth of an hour for the backdating.
    let wait = acme.wait(now).as_secs_f64() / 86_400.0;
    assert!((59.9..60.1).contains(&wait), "{wait}");
    assert!(acme.wait(kept.info.until - (kept.info.until - kept.info.from) / 4).is_zero());
    assert!(open(state.path(), &["a.example", "c.example"]).pair().is_none(), "another name");
    let other = settings(&["a.example"]).with_directory(AcmeDirectory::Staging);
    let other = Acme::open(other, Some(state.path()), now).unwrap();
    assert!(other.pair().is_none(), "another authority's");
    assert!(other.wait(now).is_zero());
    fs::write(directory.join(PAIR[0]), "damaged").unwrap();
    assert!(open(state.path(), &["a.example"]).pair().is_none());
}

#[test]
fn names_that_cannot_be_checked_are_refused() {
    let wildcard = "*.a.example";
    for bad in
        [&[][..], &[""], &["localhost"], &[wildcard], &["a.example:80"], &["10.0.0.1"], &["a..b"]]
    {
        assert!(Acme::open(settings(bad), None, OffsetDateTime::now_utc()).is_err(), "{bad:?}");
    }
    let long = format!("{}.example", "a".repeat(64));
    assert!(settings(&[&long]).check().is_err());
    assert!(settings(&["a-1.example"]).check().is_ok());
    let settings = TlsSettings::acme(settings(&["a.example"]));
    assert_eq!(settings.domains(), ["a.example"]);
}

#[test]
fn answers_exist_while_an_order_is_under_way() {
    let challenges = Challenges::default();
    assert_eq!(challenges.http("token"), None);
    challenges.answer_http("token", "token.thumb");
    challenges.answer_tls("A.example", &[7; 32]).unwrap();
    assert_eq!(challenges.http("token").as_deref(), Some("token.thumb"));
    assert_eq!(challenges.http("token2"), None);
    let certified = challenges.tls("a.EXAMPLE").unwrap();
    assert!(challenges.tls("b.example").is_none());
    // RFC 8737, section 3: one name, and the digest in a critical extension.
    let (_, parsed) = x509_parser::parse_x509_certificate(&certified.cert[0]).unwrap();
    let oid = x509_parser::oid_registry::asn1_rs::oid!(1.3.6.1.5.5.7.1.31);
    let extension = parsed.get_extension_unique(&oid).unwrap().unwrap();
    assert!(extension.critical);
    assert_eq!(extension.value, [&[4, 32], &[7; 32][..]].concat());
    challenges.clear();
    assert!(challenges.http("token").is_none() && challenges.tls("a.example").is_none());
}

#[test]
fn a_directory_is_named_after_the_authority() {
    assert_eq!(folder(AcmeDirectory::Production.url()), "acme-v02.api.letsencrypt.org-directory");
    assert_eq!(folder("https://../../etc/a b"), "-..-etc-a-b");
}
