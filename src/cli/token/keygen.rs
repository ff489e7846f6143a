//! `weir token keygen`: makes a key.

use super::files::create;
use crate::access::{Algorithm, SigningKey};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use std::io::Write as _;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir token keygen --out key.jwk > keys.json
  weir token keygen --out key.jwk --public keys.json --kid 2026-11
  weir token keygen --alg ES256 --out key.jwk > keys.json
  weir token keygen --alg HS256 --out secret.jwk

The file is a private JWK (RFC 7517) that only its owner can read. The public part is a set with one
key (JWKS); to change keys without a pause, put the old and the new one in the daemon's set. With
HS256 there is no public part: the daemon gets the same file, and could sign tokens itself.")]
pub(in crate::cli) struct Arguments {
    /// How the key signs.
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    alg: AlgorithmChoice,
    /// File for the private key: a new one.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Id of the key. The default is its thumbprint (RFC 7638), or random for HS256.
    #[arg(long, value_name = "ID")]
    kid: Option<String>,
    /// Write the public part to this new file, in place of standard output.
    #[arg(long, value_name = "FILE")]
    public: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum AlgorithmChoice {
    /// Ed25519: small and fast.
    #[default]
    #[value(name = "EdDSA")]
    EdDsa,
    /// ECDSA on P-256, for issuers that do not have Ed25519.
    #[value(name = "ES256")]
    Es256,
    /// A secret that issuer and daemon share.
    #[value(name = "HS256")]
    Hs256,
}

impl From<AlgorithmChoice> for Algorithm {
    fn from(choice: AlgorithmChoice) -> Self {
        match choice {
            AlgorithmChoice::EdDsa => Self::EdDsa,
            AlgorithmChoice::Es256 => Self::Es256,
            AlgorithmChoice::Hs256 => Self::Hs256,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let key = SigningKey::generate(arguments.alg.into(), arguments.kid.as_deref())?;
    let private = key.private_jwk().context("a new key is known")?;
    let public = key.public_jwks();
    if public.is_none() && arguments.public.is_some() {
        anyhow::bail!("a secret for HS256 has no public part: leave out --public");
    }
    // Both files before either is filled, so that neither is left without the other.
    let mut private_file = create(&arguments.out, 0o600)?;
    let filled = (|| {
        let mut public_file =
            arguments.public.as_deref().map(|file| create(file, 0o644)).transpose()?;
        writeln!(private_file, "{private}")?;
        private_file.sync_all()?;
        match (&mut public_file, public) {
            (Some(file), Some(public)) => writeln!(file, "{public}")?,
            (None, Some(public)) => writeln!(std::io::stdout(), "{public}")?,
            (_, None) => tracing::info!(
                "a secret has no public part: the daemon gets {}, too",
                arguments.out.display()
            ),
        }
        anyhow::Ok(())
    })();
    if filled.is_err() {
        let _ = std::fs::remove_file(&arguments.out);
    }
    filled
}
