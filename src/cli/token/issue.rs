//! `weir token new`: signs a token.

use super::clock::{date, now};
use super::files::{read, warn_of_readers, write_token};
use super::shown::{limits_object, texts};
use crate::access::{Identity, IdentityLimits, MAX_KEY_BYTES, Rights, SigningKey};
use crate::console::output::Output;
use crate::units;
use crate::wire::Filter;
use anyhow::Context as _;
use bytesize::ByteSize;
use clap::Args;
use serde_json::json;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir token new --key key.jwk --sub ada --subscribe 'demo/**' --publish demo/chat
  weir token new --key key.jwk --subscribe 'demo/**' --expires 10m --aud relay.example
  weir token new --key key.jwk --sub sensor-7 --publish 'sensors/7/*' --limit messages_per_second=100
  weir token new --key key.jwk --sub ada --subscribe 'demo/**' --expires 1d --out token
  weir sub 'demo/*' --token \"$(weir token new --key key.jwk --subscribe 'demo/**')\"

A token grants only what it names. It cannot be taken back before it expires: choose a short
time. Quote filters: a shell would replace their stars.")]
pub(in crate::cli) struct Arguments {
    /// Key that signs: a private JWK as `weir token keygen` makes it, or PEM (PKCS #8).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Id of the key for the token's header, in place of the one in the file.
    #[arg(long, value_name = "ID")]
    kid: Option<String>,
    /// Name of the peer.
    #[arg(long, value_name = "NAME")]
    sub: Option<String>,
    /// Filter of topics to which the peer may publish; may be repeated.
    #[arg(long, value_name = "FILTER")]
    publish: Vec<Filter>,
    /// Filter of topics that the peer may read; may be repeated.
    #[arg(long, value_name = "FILTER")]
    subscribe: Vec<Filter>,
    /// How long the token is valid, such as 90s, 10m, 1h or 7d, or `never`. `weir serve` refuses
    /// tokens that never expire; a program that embeds the daemon can accept them.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = validity)]
    expires: Validity,
    /// Audience: the daemon's, if it expects one.
    #[arg(long, value_name = "A")]
    aud: Option<String>,
    /// Issuer, if the daemon expects one.
    #[arg(long, value_name = "I")]
    iss: Option<String>,
    /// Limit of this peer: sessions, messages_per_second, bytes_per_second or subscriptions; may be
    /// repeated.
    #[arg(long, value_name = "NAME=N", value_parser = limit)]
    limit: Vec<(Limit, u64)>,
    /// File for the token, which only its owner can read, in place of printing it. An earlier token
    /// in it is replaced, and nothing else.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    out: Option<PathBuf>,
    /// Print a JSON object with the token and what it says.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
enum Validity {
    For(Duration),
    Unlimited,
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    Sessions,
    MessagesPerSecond,
    BytesPerSecond,
    Subscriptions,
}

fn validity(text: &str) -> Result<Validity, String> {
    if text == "never" {
        return Ok(Validity::Unlimited);
    }
    let time = units::duration(text)?;
    let century = Duration::from_secs(100 * 366 * 86_400);
    if (Duration::from_secs(1)..=century).contains(&time) {
        Ok(Validity::For(time))
    } else {
        Err("a token is valid for a second or more, and at most a century: or for ever, with never"
            .into())
    }
}

fn limit(text: &str) -> Result<(Limit, u64), String> {
    let (name, number) = text.split_once('=').ok_or("a limit is NAME=N, such as sessions=2")?;
    let name = match name {
        "sessions" => Limit::Sessions,
        "messages_per_second" => Limit::MessagesPerSecond,
        "bytes_per_second" => Limit::BytesPerSecond,
        "subscriptions" => Limit::Subscriptions,
        _ => {
            return Err(format!(
                "there is no limit {name:?}: only sessions, messages_per_second, bytes_per_second and \
                 subscriptions"
            ));
        }
    };
    let most = if matches!(name, Limit::BytesPerSecond) { u64::MAX } else { u32::MAX.into() };
    let found = match name {
        Limit::BytesPerSecond => number.parse().ok().map(|ByteSize(bytes)| bytes),
        _ => number.parse().ok(),
    };
    let found = found.filter(|number| (1..=most).contains(number));
    Ok((name, found.ok_or_else(|| format!("{number:?} is not a number from 1 to {most}"))?))
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { key: file, kid, sub, publish, subscribe, expires, aud, iss, limit, out, json } =
        arguments;
    let bytes = read(&file, MAX_KEY_BYTES)?;
    let mut key = SigningKey::parse(&bytes).with_context(|| file.display().to_string())?;
    warn_of_readers(&file);
    if let Some(kid) = kid {
        key.set_id(&kid)?;
    }
    let rights = Rights::new(publish, subscribe)?;
    if rights == Rights::nothing() {
        tracing::warn!("the token grants nothing: name filters with --publish and --subscribe");
    }
    let identity = match sub {
        Some(name) => Identity::named(&name, rights)?,
        None => Identity::anonymous(rights),
    };
    let now = now();
    let expires = match expires {
        // Whole seconds, as the token has them.
        Validity::For(time) => Some((now / 1_000_000 + time.as_secs()) * 1_000_000),
        Validity::Unlimited => None,
    };
    let mut identity = identity.with_limits(limits(&limit));
    if let Some(at) = expires {
        identity = identity.with_expires(at);
    }
    let token = key.sign(&identity, aud.as_deref(), iss.as_deref(), now)?;
    if let Some(out) = out.filter(|out| out.as_os_str() != "-") {
        return write_token(&out, &token);
    }
    if !json {
        writeln!(std::io::stdout(), "{token}")?;
        return Ok(());
    }
    let object = json!({
        "token": token,
        "alg": key.algorithm().name(),
        "kid": key.id(),
        "sub": identity.name(),
        "aud": aud,
        "iss": iss,
        "publish": texts(identity.rights().publish()),
        "subscribe": texts(identity.rights().subscribe()),
        "limits": limits_object(identity.limits()),
        "expires": expires.map(date),
    });
    Output::print(Output::new(true).value(&object, ""))?;
    Ok(())
}

fn limits(list: &[(Limit, u64)]) -> IdentityLimits {
    let mut limits = IdentityLimits::default();
    for (name, number) in list {
        let small = u32::try_from(*number).ok();
        match name {
            Limit::Sessions => limits.sessions = small,
            Limit::MessagesPerSecond => limits.messages_per_second = small,
            Limit::BytesPerSecond => limits.bytes_per_second = Some(*number),
            Limit::Subscriptions => limits.subscriptions = small,
        }
    }
    limits
}
