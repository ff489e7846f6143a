//! TLS for QUIC alone, without what an idle connection would hold and not use.
//!
//! rustls keeps, for as long as a connection lives, keys for TLS records in both directions, which
//! QUIC does not have (RFC 9001, section 4), and quinn keeps the keys of the next key phase, which a
//! connection with little traffic never reaches. Expanded for AES-GCM they take 560 bytes each. So
//! records get no keys here, and packets get theirs with the first packet.

use rustls::crypto::CryptoProvider;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter,
    OutboundOpaqueMessage, OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::quic::{Algorithm, HeaderProtectionKey, PacketKey, Tag};
use rustls::{ConnectionTrafficSecrets, Error, SupportedCipherSuite, Tls13CipherSuite};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

// The suites of the usual provider that QUIC can do, in its order.
static ORDINARY: LazyLock<Vec<(&Tls13CipherSuite, Late)>> = LazyLock::new(|| {
    let all = super::tls::provider();
    let all = all.cipher_suites.iter().filter_map(SupportedCipherSuite::tls13);
    all.filter_map(|suite| Some((suite, Late(suite.quic?)))).collect()
});

static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
    let suite = |(ordinary, late): &'static (&Tls13CipherSuite, Late)| Tls13CipherSuite {
        common: rustls::crypto::CipherSuiteCommon {
            suite: ordinary.common.suite,
            hash_provider: ordinary.common.hash_provider,
            confidentiality_limit: ordinary.common.confidentiality_limit,
        },
        hkdf_provider: ordinary.hkdf_provider,
        aead_alg: &NoRecords,
        quic: Some(late),
    };
    ORDINARY.iter().map(suite).collect()
});

/// The usual provider, fit for QUIC only.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = CryptoProvider::clone(&super::tls::provider());
    provider.cipher_suites = SUITES.iter().map(SupportedCipherSuite::Tls13).collect();
    provider
}

// Packet keys that are expanded when they are first used.
struct Late(&'static dyn Algorithm);

impl Algorithm for Late {
    fn packet_key(&self, key: AeadKey, iv: Iv) -> Box<dyn PacketKey> {
        let secret = Mutex::new(Some((key, iv)));
        Box::new(LateKey { algorithm: self.0, secret, expanded: OnceLock::new() })
    }

    fn header_protection_key(&self, key: AeadKey) -> Box<dyn HeaderProtectionKey> {
        self.0.header_protection_key(key)
    }

    fn aead_key_len(&self) -> usize {
        self.0.aead_key_len()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct LateKey {
    algorithm: &'static dyn Algorithm,
    // Until it is expanded.
    secret: Mutex<Option<(AeadKey, Iv)>>,
    expanded: OnceLock<Box<dyn PacketKey>>,
}

impl LateKey {
    fn get(&self) -> &dyn PacketKey {
        &**self.expanded.get_or_init(|| {
            let secret = self.secret.lock().unwrap_or_else(PoisonError::into_inner).take();
            // It is taken here only, and this runs once.
            let (key, iv) = secret.unwrap_or_else(|| unreachable!("expanded once"));
            self.algorithm.packet_key(key, iv)
        })
    }
}

impl PacketKey for LateKey {
    fn encrypt_in_place(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &mut [u8],
    ) -> Result<Tag, Error> {
        self.get().encrypt_in_place(packet_number, header, payload)
    }

    fn decrypt_in_place<'a>(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &'a mut [u8],
    ) -> Result<&'a [u8], Error> {
        self.get().decrypt_in_place(packet_number, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.get().tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.get().confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.get().integrity_limit()
    }
}

// Keys for TLS records, of which there are none. A record fails.
struct NoRecords;

impl Tls13AeadAlgorithm for NoRecords {
    fn encrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Self)
    }

    fn decrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Self)
    }

    // What the handshake derives from it for QUIC is measured by `Algorithm::aead_key_len`.
    fn key_len(&self) -> usize {
        32
    }

    fn extract_keys(
        &self,
        _: AeadKey,
        _: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

impl MessageEncrypter for NoRecords {
    fn encrypt(
        &mut self,
        _: OutboundPlainMessage<'_>,
        _: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        Err(Error::EncryptError)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len
    }
}

impl MessageDecrypter for NoRecords {
    fn decrypt<'a>(
        &mut self,
        _: InboundOpaqueMessage<'a>,
        _: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        Err(Error::DecryptError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::CipherSuite;

    #[test]
    fn every_suite_is_kept_in_order() {
        let suites = |provider: &CryptoProvider| {
            let suites = provider.cipher_suites.iter().filter(|suite| suite.tls13().is_some());
            suites.map(SupportedCipherSuite::suite).collect::<Vec<CipherSuite>>()
        };
        assert_eq!(suites(&provider()), suites(&super::super::tls::provider()));
        assert!(suites(&provider()).contains(&CipherSuite::TLS13_AES_128_GCM_SHA256));
    }

    #[test]
    fn a_key_that_comes_late_is_the_same_key() {
        for (ordinary, late) in &*ORDINARY {
            let Some(algorithm) = ordinary.quic else { continue };
            let key = || AeadKey::from([7; 32]);
            let iv = || Iv::from([9; 12]);
            if algorithm.aead_key_len() != 32 {
                continue;
            }
            let (early, late) = (algorithm.packet_key(key(), iv()), late.packet_key(key(), iv()));
            let mut packet = *b"payload";
            let tag = late.encrypt_in_place(5, b"header", &mut packet).unwrap();
            let mut packet = [&packet[..], tag.as_ref()].concat();
            assert_eq!(early.decrypt_in_place(5, b"header", &mut packet).unwrap(), b"payload");
            assert_eq!(late.tag_len(), early.tag_len());
            assert_eq!(late.confidentiality_limit(), early.confidentiality_limit());
            assert_eq!(late.integrity_limit(), early.integrity_limit());
        }
    }
}
