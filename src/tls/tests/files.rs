//! Certificates in files: what is wrong with them, and their change.

use crate::tls::certificates::Certificates;
use crate::tls::files::{Files, Pair};
use crate::tls::info::{self, CertificateInfo};
use crate::tls::settings::TlsSettings;
use crate::tls::{CertificateError, CertificateHash, CertificateProblem, pem, self_signed};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ED25519, SanType};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn names() -> Vec<String> {
    ["relay.example", "127.0.0.1"].map(String::from).to_vec()
}

fn pem_for(days: i64) -> [String; 2] {
    self_signed::make(&names(), "relay", now(), Duration::days(days)).unwrap()
}

/// A directory with a pair in it.
struct Place {
    directory: TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

impl Place {
    fn new(pem: &[String; 2]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [certificate, key] = ["fullchain.pem", "privkey.pem"].map(|n| directory.path().join(n));
        let place = Self { directory, certificate, key };
        place.put(pem);
        place
    }

    fn put(&self, [certificate, key]: &[String; 2]) {
        fs::write(&self.certificate, certificate).unwrap();
        fs::write(&self.key, key).unwrap();
        fs::set_permissions(&self.key, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn read(&self) -> Result<Pair, CertificateError> {
        Pair::read([&self.certificate, &self.key], now())
    }

    fn fault(&self) -> (PathBuf, CertificateProblem) {
        let error = self.read().unwrap_err();
        (error.path, error.problem)
    }

    fn hash(&self) -> CertificateHash {
        self.read().unwrap().info.hash
    }
}

#[test]
fn each_fault_of_a_file_has_its_own_message() {
    use CertificateProblem as P;
    type Is = fn(&P) -> bool;
    let [certificate, key] = pem_for(13);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let traditional = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMAA=\n-----END EC PRIVATE KEY-----\n";
    let broken = certificate.replace('M', "*");
    let other = pem_for(13)[1].clone();
    let cases: [(&str, &str, bool, Is); 9] = [
        ("", &key, true, |p| matches!(p, P::NoCertificate)),
        (&key, &key, true, |p| matches!(p, P::NoCertificate)),
        (&broken, &key, true, |p| matches!(p, P::Damaged(_))),
        ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", &key, true, |p| {
            matches!(p, P::Damaged(_))
        }),
        (&certificate, "", false, |p| matches!(p, P::NoKey)),
        (&certificate, &certificate, false, |p| matches!(p, P::NoKey)),
        (&certificate, encrypted, false, |p| matches!(p, P::EncryptedKey)),
        (&certificate, traditional, false, |p| matches!(p, P::EncryptedKey)),
        (&certificate, &other, true, |p| matches!(p, P::Mismatch { .. })),
    ];
    for (index, (certificate, key, of_certificate, is)) in cases.into_iter().enumerate() {
        let place = Place::new(&[certificate.to_owned(), key.to_owned()]);
        let (path, problem) = place.fault();
        assert!(is(&problem), "{index}: {problem:?}");
        let expected = if of_certificate { &place.certificate } else { &place.key };
        assert_eq!(&path, expected, "{index}: {problem}");
        assert!(!problem.to_string().contains('\n'), "{problem}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let place = Place::new(&pem_for(13));
    fs::write(&place.certificate, [0x30, 0x82, 0xff, 0xfe]).unwrap();
    assert!(matches!(place.fault().1, CertificateProblem::Damaged(_)));
    fs::write(&place.certificate, vec![b'a'; 2 << 20]).unwrap();
    assert!(matches!(place.fault().1, CertificateProblem::TooLarge));
    fs::remove_file(&place.key).unwrap();
    place.put(&pem_for(13));
    fs::remove_file(&place.key).unwrap();
    let (path, problem) = place.fault();
    assert!(matches!(problem, CertificateProblem::Unreadable(_)));
    assert_eq!(path, place.key);
}

#[test]
fn dates_are_checked() {
    let later = self_signed::make(&names(), "later", now() + Duration::days(1), Duration::days(9));
    let place = Place::new(&later.unwrap());
    let (path, problem) = place.fault();
    assert!(matches!(problem, CertificateProblem::NotYetValid(_)), "{problem}");
    assert_eq!(path, place.certificate);
    let past = self_signed::make(&names(), "past", now() - Duration::days(9), Duration::days(8));
    place.put(&past.unwrap());
    assert!(matches!(place.fault().1, CertificateProblem::Expired(_)));
}

#[test]
fn a_key_is_its_owners_alone() {
    let place = Place::new(&pem_for(13));
    let root = fs::metadata(&place.key).unwrap().uid() == 0;
    for (mode, fits) in [
        (0o600, true),
        (0o400, true),
        (0o640, root),
        (0o440, root),
        (0o660, false),
        (0o604, false),
        (0o644, false),
        (0o602, false),
        (0o610, false),
    ] {
        fs::set_permissions(&place.key, fs::Permissions::from_mode(mode)).unwrap();
        match place.read() {
            Ok(_) => assert!(fits, "{mode:o}"),
            Err(error) => {
                assert!(!fits, "{mode:o}: {error}");
                assert!(error.to_string().contains(&format!("{mode:04o}")), "{error}");
                assert_eq!(error.path, place.key);
            }
        }
    }
    // The certificate is public.
    fs::set_permissions(&place.key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&place.certificate, fs::Permissions::from_mode(0o666)).unwrap();
    place.read().unwrap();
}

#[test]
fn a_broken_pair_is_refused_once_and_the_old_one_stays() {
    let place = Place::new(&pem_for(13));
    let files = Files::open(place.certificate.clone(), place.key.clone(), now()).unwrap();
    let first = place.hash();
    assert!(!files.reload(false, now()).unwrap(), "nothing has changed");

    // A tool replaces one file after the other: the pair between is broken, and not reported.
    let next = pem_for(12);
    fs::write(&place.certificate, &next[0]).unwrap();
    assert!(!files.reload(false, now()).unwrap());
    assert_eq!(files.pair().info.hash, first);
    place.put(&next);
    assert!(files.reload(false, now()).unwrap());
    let second = files.pair().info.hash;
    assert_eq!(second, place.hash());
    assert_ne!(second, first);

    // It stays broken: reported once.
    fs::write(&place.key, &pem_for(11)[1]).unwrap();
    assert!(!files.reload(false, now()).unwrap());
    let error = files.reload(false, now()).unwrap_err();
    assert!(matches!(error.problem, CertificateProblem::Mismatch { .. }), "{error}");
    assert!(!files.reload(false, now()).unwrap());
    // A request gets the error again.
    files.reload(true, now()).unwrap_err();
    assert_eq!(files.pair().info.hash, second);

    place.put(&pem_for(10));
    assert!(files.reload(false, now()).unwrap());
    assert_eq!(files.pair().info.hash, place.hash());
    assert!(files.reload(true, now()).unwrap(), "always");
}

#[test]
fn pages_pin_what_nobody_vouches_for_and_browsers_can_pin() {
    let facts = |pem: &[String; 2]| {
        let place = Place::new(pem);
        let settings = TlsSettings::files(&place.certificate, &place.key);
        Certificates::open(settings, None, None).unwrap().facts()
    };
    let short = facts(&pem_for(13));
    assert_eq!((short.pinning, short.next), (true, None));
    // With an hour before its first use, this is 14 days and an hour.
    assert!(!facts(&pem_for(14)).pinning);
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut params = CertificateParams::new(names()).unwrap();
    params.not_before = now() - Duration::hours(1);
    params.not_after = now() + Duration::days(3);
    let ed25519 = params.self_signed(&key).unwrap();
    assert!(!facts(&[ed25519.pem(), key.serialize_pem()]).pinning);

    // An authority's, although browsers could pin it.
    let (_, issuer) = authority();
    let key = KeyPair::generate().unwrap();
    let issued = params.signed_by(&key, &issuer).unwrap();
    assert!(!facts(&[issued.pem(), key.serialize_pem()]).pinning);
    let info = CertificateInfo::of(issued.der()).unwrap();
    assert_eq!((info.self_signed, info.not_pinnable), (false, None));
    assert_eq!(info.names, names());
    assert_eq!(info.issuer, "CN=Test Authority");
    assert!(Certificates::for_tests().facts().pinning);
}

fn authority() -> (String, rcgen::Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Test Authority");
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, rcgen::Issuer::new(params, key))
}

#[test]
fn a_subject_that_copies_its_issuers_name_is_not_self_signed() {
    let key = KeyPair::generate().unwrap();
    let (_, issuer) = authority();
    let mut params = CertificateParams::new(names()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Test Authority");
    let issued = params.signed_by(&key, &issuer).unwrap();
    assert!(!CertificateInfo::of(issued.der()).unwrap().self_signed);
}

#[test]
fn a_peers_name_is_the_first_name_or_uri_and_else_the_common_name() {
    let name = |common: Option<&str>, others: Vec<SanType>| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.subject_alt_names = others;
        info::peer_name(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    };
    let text = |text: &str| Ia5String::try_from(text).unwrap();
    let address = || SanType::IpAddress("10.0.0.1".parse().unwrap());
    let uri = || SanType::URI(text("spiffe://a.example/robot/7"));
    let dns = || SanType::DnsName(text("robot7.example"));
    assert_eq!(name(Some("robot 7"), Vec::new()).as_deref(), Some("robot 7"));
    assert_eq!(name(Some("robot 7"), vec![address()]).as_deref(), Some("robot 7"));
    assert_eq!(
        name(Some("x"), vec![address(), uri(), dns()]).as_deref(),
        Some("spiffe://a.example/robot/7")
    );
    assert_eq!(name(Some("x"), vec![dns(), uri()]).as_deref(), Some("robot7.example"));
    assert_eq!(name(None, vec![address()]), None);
    assert_eq!(name(Some(""), Vec::new()), None);
    assert_eq!(info::peer_name(b"0"), None);
}

#[test]
fn times_are_text() {
    let at = OffsetDateTime::from_unix_timestamp(1_801_396_805).unwrap();
    assert_eq!(info::utc(at), "2027-01-31T12:00:05Z");
}

#[test]
fn hashes_are_told_to_this_machine() {
    let told = |directory: &Path| fs::read_to_string(directory.join(crate::state::HASH)).unwrap();
    let [state, also] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let open = |settings| {
        let [state, also] = [&state, &also].map(|directory| Some(directory.path().to_owned()));
        Certificates::open(settings, state, also).unwrap()
    };
    let made = open(TlsSettings::self_signed());
    let hashes = made.facts().hashes();
    assert_eq!(hashes.len(), 2);
    assert_eq!(told(state.path()), format!("{}\n{}\n", hashes[0], hashes[1]));
    assert_eq!(told(also.path()), told(state.path()));

    let place = Place::new(&pem_for(13));
    let files = open(TlsSettings::files(&place.certificate, &place.key));
    assert_eq!(told(state.path()), format!("{}\n", place.hash()));
    place.put(&pem_for(12));
    assert_eq!(files.reload().unwrap().files, std::slice::from_ref(&place.certificate));
    assert_eq!(told(also.path()), format!("{}\n", place.hash()));
    assert!(place.directory.path().exists());
}

#[test]
fn authorities_of_clients_are_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("clients.pem");
    fs::write(&file, "").unwrap();
    let open = || crate::tls::client_authorities::ClientAuthorities::open(file.clone());
    assert!(matches!(open().unwrap_err().problem, CertificateProblem::NoCertificate));
    fs::write(&file, authority().0).unwrap();
    let clients = open().unwrap();
    assert!(!clients.reload(false).unwrap());
    fs::write(&file, format!("{}{}", authority().0, authority().0)).unwrap();
    assert!(clients.reload(false).unwrap());
    fs::write(&file, "nothing").unwrap();
    assert!(!clients.reload(false).unwrap());
    assert!(clients.reload(false).is_err(), "told once");
    assert!(!clients.reload(false).unwrap());
}

#[test]
fn a_chain_is_read_with_its_first_certificate_first() {
    let (root, issuer) = authority();
    let key = KeyPair::generate().unwrap();
    let issued = CertificateParams::new(names()).unwrap().signed_by(&key, &issuer).unwrap();
    let place = Place::new(&[format!("{}{root}", issued.pem()), key.serialize_pem()]);
    assert_eq!(place.read().unwrap().certified.cert.len(), 2);
    place.put(&[format!("{root}{}", issued.pem()), key.serialize_pem()]);
    assert!(matches!(place.fault().1, CertificateProblem::Mismatch { .. }));
    assert!(pem::certificates("no PEM").is_err());
}
