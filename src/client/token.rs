//! The token that a client shows: a fixed one, or one that the application fetches before each
//! session and before the session's rights end.

use super::error::ConnectError;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub(super) type Fetching =
    Pin<Box<dyn Future<Output = Result<String, Box<dyn Error + Send + Sync>>> + Send>>;

/// The source of the token.
#[derive(Clone, Default)]
pub(super) enum TokenSource {
    #[default]
    None,
    Fixed(Arc<str>),
    Fetched(Arc<dyn Fn() -> Fetching + Send + Sync>),
}

impl fmt::Debug for TokenSource {
    // Without the token, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Fixed(_) => "Fixed",
            Self::Fetched(_) => "Fetched",
        })
    }
}

impl TokenSource {
    /// Returns the token for a session that begins.
    pub(super) async fn get(&self) -> Result<Option<Arc<str>>, ConnectError> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(token) => Ok(Some(token.clone())),
            Self::Fetched(fetch) => match fetch().await {
                Ok(token) => Ok(Some(token.into())),
                Err(error) => Err(ConnectError::Token(error)),
            },
        }
    }
}
