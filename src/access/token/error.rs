//! Why a token is refused.

/// Maximum length of a token, 8 KiB. It has to fit the first frame of a session, of at most 16 KiB, and
/// the header of a request over HTTP. 128 filters of 40 bytes fit.
pub const MAX_TOKEN: usize = 8 << 10;

/// Why a token is refused. The texts say what to change in the token. They tell nothing about the
/// daemon's keys, and nothing about topics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token is longer than [`MAX_TOKEN`].
    #[error(
        "a token has at most {MAX_TOKEN} bytes, this one has {0}: grant fewer filters, or filters with \
         wildcards"
    )]
    TooLong(usize),
    /// The token is not a signed JWT in compact form.
    #[error("this is not a signed token (JWT): {0}")]
    Malformed(&'static str),
    /// The token is not signed.
    #[error("the token is not signed, as its header says with \"alg\" none: sign it")]
    Unsigned,
    /// The token is signed in a way that is not supported.
    #[error("the header's \"alg\" is {0}: sign the token with EdDSA, ES256 or HS256")]
    Algorithm(String),
    /// The token demands extensions.
    #[error("the header has \"crit\": no extension is supported, so leave it out")]
    Critical,
    /// None of the daemon's keys has signed the token, with its `alg` and its `kid` if it has one.
    #[error(
        "the signature is not one that this daemon accepts: check that the token is complete, and signed \
         with the right key, \"alg\" and \"kid\""
    )]
    Signature,
    /// A claim is missing.
    #[error("the token has no claim \"{claim}\": {remedy}")]
    Missing {
        /// The claim.
        claim: &'static str,
        /// The remedy.
        remedy: &'static str,
    },
    /// The token is no longer valid.
    #[error("the token expired {0} s ago, by its claim \"exp\": fetch a new one")]
    Expired(u64),
    /// The token is not yet valid.
    #[error(
        "the token is valid only in {seconds} s, by its claim \"{claim}\": check the issuer's clock"
    )]
    NotYetValid {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// Seconds until then.
        seconds: u64,
    },
    /// The token is for others.
    #[error(
        "the token is not for this daemon: its claim \"aud\" has to name the daemon's audience"
    )]
    Audience,
    /// The token is for an audience, and the daemon has none.
    #[error(
        "the token is for the audience that its claim \"aud\" names, and this daemon has none: set the \
         daemon's audience, or leave \"aud\" out"
    )]
    UnexpectedAudience,
    /// The token is from somebody else.
    #[error("the claim \"iss\" does not name the issuer whose tokens this daemon accepts")]
    Issuer,
    /// A claim cannot be used.
    #[error("the claim \"{claim}\" {problem}")]
    Claim {
        /// The path of the claim, such as `weir.publish[2]`.
        claim: String,
        /// The problem, as a predicate.
        problem: String,
    },
}

impl TokenError {
    pub(super) fn claim(claim: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Claim { claim: claim.into(), problem: problem.into() }
    }
}

/// Quotes a text of a token for an error: escaped, and cut off.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}
