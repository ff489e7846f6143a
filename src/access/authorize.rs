//! How a program that embeds the daemon decides who its peers are.

use super::identity::Identity;
use crate::wire::Refusal;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

/// The proof that a peer shows when it connects, or with a request over HTTP.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Credentials<'a> {
    /// The token, if the peer has shown one. A secret: it belongs in no log.
    pub token: Option<&'a str>,
    /// The name in the peer's certificate, if the daemon has verified one.
    pub certificate: Option<&'a str>,
    /// The peer's address.
    pub address: IpAddr,
}

impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("token", &self.token.map(|_| "…"))
            .field("certificate", &self.certificate)
            .field("address", &self.address)
            .finish()
    }
}

impl<'a> Credentials<'a> {
    /// Returns credentials of a peer that has shown nothing.
    pub fn from_address(address: IpAddr) -> Self {
        Self { token: None, certificate: None, address }
    }

    /// Returns them with a token.
    #[must_use]
    pub fn with_token(self, token: Option<&'a str>) -> Self {
        Self { token, ..self }
    }

    /// Returns them with the name of a certificate.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<&'a str>) -> Self {
        Self { certificate, ..self }
    }
}

/// The answer of an [`Authorize`], when it is ready.
pub type Authorizing<'a> = Pin<Box<dyn Future<Output = Result<Identity, Refusal>> + Send + 'a>>;

/// Decides who a peer is, and what it may do.
///
/// The daemon calls it when a session begins, when a session shows another token, and for requests
/// over HTTP. It does not call it for publications and subscriptions: the [rights](super::Rights) of
/// the identity decide about these. Over HTTP, an identity is [kept](Self::kept) for the next requests
/// with the same token, and not beyond its end. An answer that takes more than 10 s is a refusal.
///
/// ```
/// use weir::access::{Authorize, Authorizing, Credentials, Identity, Rights};
/// use weir::wire::{Code, Refusal};
///
/// struct Friends;
///
/// impl Authorize for Friends {
///     fn authorize<'a>(&'a self, credentials: Credentials<'a>) -> Authorizing<'a> {
///         Box::pin(async move {
///             match credentials.token {
///                 Some("mellon") => Ok(Identity::anonymous(Rights::everything())),
///                 _ => Err(Refusal::new(Code::UNAUTHORIZED, "say friend and enter")),
///             }
///         })
///     }
/// }
/// ```
pub trait Authorize: Send + Sync + 'static {
    /// Returns the identity of a peer with these credentials, or why it has none.
    fn authorize<'a>(&'a self, credentials: Credentials<'a>) -> Authorizing<'a>;

    /// Returns for how long requests over HTTP may use an identity without another call. The default
    /// and the maximum are one minute. Return zero if this keeps answers itself.
    fn kept(&self) -> Duration {
        Duration::from_secs(60)
    }
}
