//! `weir token check`: verifies a token.

use super::clock::{date, now};
use super::files::read;
use super::shown::{limits_object, texts};
use crate::access::{
    Expectations, Identity, KeySet, MAX_KEY_BYTES, MAX_TOKEN, TokenError, Verifier, named_key,
};
use crate::console::output::Output;
use crate::console::terminal::tell;
use crate::wire::Filter;
use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir token check \"$TOKEN\" --keys keys.json
  weir token check - --keys key.pub.pem --aud relay.example --json < token

The keys are those of the daemon. Exit code 1 if it would refuse the token.")]
pub(in crate::cli) struct Arguments {
    /// The token, or `-` for standard input.
    token: String,
    /// Keys that may have signed it: a set (JWKS), one JWK, or PEM with PUBLIC KEY; may be repeated.
    #[arg(long, value_name = "FILE", required_unless_present = "secret")]
    keys: Vec<PathBuf>,
    /// Raw secret for HS256 that may have signed it: all bytes of the file.
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,
    /// Audience that the token has to name. Without it, a token with an audience is refused.
    #[arg(long, value_name = "A")]
    aud: Option<String>,
    /// Issuer that the token has to name.
    #[arg(long, value_name = "I")]
    iss: Option<String>,
    /// Accept a token that never expires.
    #[arg(long)]
    without_expiry: bool,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let keys = keys(&arguments)?;
    let mut expectations = Expectations::default();
    if let Some(aud) = arguments.aud {
        expectations = expectations.with_audience(aud);
    }
    if let Some(iss) = arguments.iss {
        expectations = expectations.with_issuer(iss);
    }
    if arguments.without_expiry {
        expectations = expectations.without_expiry();
    }
    let token = match &*arguments.token {
        "-" => {
            let mut text = String::new();
            // A longer one is refused by its length.
            let most = 2 * MAX_TOKEN as u64;
            std::io::stdin().take(most).read_to_string(&mut text).context("standard input")?;
            text.trim_ascii().to_owned()
        }
        token => token.to_owned(),
    };
    let verifier = Verifier::new(keys, expectations);
    match verifier.verify(&token, now()) {
        Ok(identity) if arguments.json => accepted_object(&identity)?,
        Ok(identity) => accepted(&identity)?,
        Err(error) => {
            if arguments.json {
                let object = json!({ "valid": false, "reason": error.to_string() });
                Output::print(Output::new(true).value(&object, ""))?;
            } else {
                tell(&format!("refused: {error}"));
                if error == TokenError::Signature {
                    explain(&verifier, &token);
                }
            }
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn keys(arguments: &Arguments) -> anyhow::Result<KeySet> {
    let mut all = KeySet::default();
    for file in &arguments.keys {
        let context = || file.display().to_string();
        let keys = KeySet::parse(&read(file, MAX_KEY_BYTES)?).with_context(context)?;
        for skipped in keys.skipped() {
            tracing::warn!("{}: {skipped}, and is not used", file.display());
        }
        all.extend(keys).with_context(context)?;
    }
    if let Some(file) = &arguments.secret {
        let context = || file.display().to_string();
        let secret = KeySet::from_secret(&read(file, MAX_KEY_BYTES)?, None);
        all.extend(secret.with_context(context)?).with_context(context)?;
    }
    Ok(all)
}

fn accepted(identity: &Identity) -> anyhow::Result<()> {
    let list = |filters: &[Filter]| match filters {
        [] => "nothing".to_owned(),
        filters => texts(filters).join(", "),
    };
    let own = identity.limits();
    let limits = [
        ("sessions", own.sessions.map(u64::from)),
        ("messages_per_second", own.messages_per_second.map(u64::from)),
        ("bytes_per_second", own.bytes_per_second),
        ("subscriptions", own.subscriptions.map(u64::from)),
    ];
    let limits = limits.into_iter().filter_map(|(name, limit)| Some(format!("{name}={}", limit?)));
    let limits: Vec<_> = limits.collect();
    let limits = if limits.is_empty() { "none of its own".to_owned() } else { limits.join(", ") };
    let text = format!(
        "name       {}\npublish    {}\nsubscribe  {}\nlimits     {limits}\nexpires    {}",
        identity.name().unwrap_or("none"),
        list(identity.rights().publish()),
        list(identity.rights().subscribe()),
        identity.expires().map_or("never".to_owned(), date),
    );
    Output::print(Output::new(false).value(&Value::Null, &text))?;
    Ok(())
}

fn accepted_object(identity: &Identity) -> anyhow::Result<()> {
    let object = json!({
        "valid": true,
        "sub": identity.name(),
        "publish": texts(identity.rights().publish()),
        "subscribe": texts(identity.rights().subscribe()),
        "limits": limits_object(identity.limits()),
        "expires": identity.expires().map(date),
    });
    Output::print(Output::new(true).value(&object, ""))?;
    Ok(())
}

// The error tells nothing about the keys, because a daemon sends it to anybody. Here they are known.
fn explain(verifier: &Verifier, token: &str) {
    let id = |id: Option<&str>| id.map_or("no kid".to_owned(), |id| format!("kid {id:?}"));
    if let Ok((algorithm, kid)) = named_key(token) {
        let kid = id(kid.as_deref());
        tell(&format!("  the token names  {} and {kid}", algorithm.name()));
    }
    for (algorithm, kid) in verifier.keys().ids() {
        tell(&format!("  a key has        {} and {}", algorithm.name(), id(kid)));
    }
}
