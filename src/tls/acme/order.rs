//! An account at the authority, and an order of a certificate (RFC 8555, section 7).

use super::challenges::Challenges;
use crate::tls::settings::{AcmeChallenge, AcmeSettings};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, HttpClient, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use std::time::Duration;

/// How long the authority may take to check the names, and to issue the certificate.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(2.0)
    .timeout(Duration::from_secs(120));

/// Why an order failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    /// The authority cannot be reached, or refuses.
    #[error("{0}")]
    Acme(#[from] instant_acme::Error),
    /// The authority's answer is missing what is needed.
    #[error("the authority offers no {0} challenge for {1}")]
    NoChallenge(&'static str, String),
    /// The authority could not check a name.
    #[error("the authority could not check the names: {0}")]
    NotChecked(String),
    /// A key or a request could not be made.
    #[error("{0}")]
    Making(#[from] rcgen::Error),
    /// Anything else: files, certificates of the authority's server.
    #[error("{0}")]
    Other(String),
}

impl OrderError {
    /// Whether the authority does not know the account, so that another one is needed.
    pub(super) fn unknown_account(&self) -> bool {
        let Self::Acme(instant_acme::Error::Api(problem)) = self else { return false };
        problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
    }
}

/// Opens the account that is kept, or creates one. Returns the text to keep of a new one.
pub(super) async fn account(
    settings: &AcmeSettings,
    kept: Option<AccountCredentials>,
    http: Box<dyn HttpClient>,
) -> Result<(Account, Option<String>), OrderError> {
    let builder = Account::builder_with_http(http);
    if let Some(kept) = kept {
        return Ok((builder.from_credentials(kept).await?, None));
    }
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let url = settings.directory.url().to_owned();
    let (account, credentials) = builder.create(&new, url, None).await?;
    let text = serde_json::to_string(&credentials).map_err(instant_acme::Error::from)?;
    Ok((account, Some(text)))
}

/// Orders a certificate for the names of the settings. Returns the chain and the key as PEM.
pub(super) async fn order(
    settings: &AcmeSettings,
    account: &Account,
    challenges: &Challenges,
) -> Result<[String; 2], OrderError> {
    let identifiers: Vec<_> = settings.domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    prove(settings.challenge, &mut order, challenges).await?;
    // An order whose names were checked before is ready at once.
    if order.state().status == OrderStatus::Pending {
        match order.poll_ready(&PATIENCE).await {
            Ok(OrderStatus::Ready) => {}
            Ok(_) | Err(instant_acme::Error::Api(_)) => {
                return Err(OrderError::NotChecked(faults(&mut order).await));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(settings.domains.clone())?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok([chain, key.serialize_pem()])
}

// Prepares the answers to the challenges, and asks the authority to try them.
async fn prove(
    kind: AcmeChallenge,
    order: &mut Order,
    challenges: &Challenges,
) -> Result<(), OrderError> {
    let (kind, text) = match kind {
        AcmeChallenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        AcmeChallenge::Http01 => (ChallengeType::Http01, "http-01"),
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let name = authorization.identifier().to_string();
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            return Err(OrderError::NoChallenge(text, name));
        };
        let proof = challenge.key_authorization();
        if kind == ChallengeType::Http01 {
            challenges.answer_http(&challenge.token, proof.as_str());
        } else {
            let digest = proof.digest();
            let digest = digest.as_ref().try_into();
            let digest = digest.map_err(|_| OrderError::Other("a digest of 32 bytes".into()))?;
            challenges.answer_tls(&name, digest)?;
        }
        challenge.set_ready().await?;
    }
    Ok(())
}

// Says why names could not be checked, as the authority tells it.
async fn faults(order: &mut Order) -> String {
    let mut faults = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let _ = authorization.refresh().await;
        let name = authorization.identifier().to_string();
        for problem in authorization.challenges.iter().filter_map(|one| one.error.as_ref()) {
            faults.push(format!("{name}: {problem}"));
        }
    }
    if faults.is_empty() { "it does not say why".into() } else { faults.join("; ") }
}
