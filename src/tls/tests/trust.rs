//! Hashes of certificates, and files of authorities.

use crate::tls::trust::roots_in;
use crate::tls::*;

#[test]
fn hashes_are_read_as_tools_print_them() {
    let hash = CertificateHash::of(b"der");
    let plain = hash.to_string();
    let colons = plain.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let colons = colons.collect::<Vec<_>>().join(":").to_uppercase();
    assert_eq!(plain.parse(), Ok(hash));
    assert_eq!(colons.parse(), Ok(hash));
    assert!("abc".parse::<CertificateHash>().is_err());
}

#[test]
fn several_hashes_come_with_commas_or_on_lines() {
    let [one, two] = [b"1", b"2"].map(|der| CertificateHash::of(der));
    let parse = |text: String| text.parse::<CertificateHashes>();
    assert_eq!(parse(one.to_string()), Ok(one.into()));
    for text in [format!("{one},{two}"), format!("{one}\n{two}\n"), format!(" {one}, {two},")] {
        assert_eq!(parse(text), Ok([one, two].into()));
    }
    for bad in ["", ",", "abc", &format!("{one},abc"), &format!("{one} {two}")] {
        assert_eq!(parse(bad.into()), Err(CertificateHashError), "{bad:?}");
    }
}

#[test]
fn an_empty_or_missing_file_of_authorities_is_named() {
    let error = roots_in(&"/does/not/exist.pem".into()).unwrap_err().to_string();
    assert!(error.starts_with("/does/not/exist.pem: "), "{error}");
}
