//! The claims of a token whose signature was verified.

use super::error::{TokenError, quoted};
use crate::access::identity::{Identity, IdentityLimits};
use crate::access::rights::{MAX_FILTERS, Rights};
use crate::access::strict_json;
use crate::wire::Filter;
use serde_json::{Map, Value};

/// The claims that are used. Others are ignored, except inside `weir`.
pub(super) struct Claims {
    /// Microseconds since 1970, and so are the next two.
    pub(super) expires: Option<u64>,
    pub(super) not_before: Option<u64>,
    pub(super) issued: Option<u64>,
    /// Empty is missing.
    pub(super) audiences: Vec<String>,
    pub(super) issuer: Option<String>,
    pub(super) identity: Identity,
}

impl Claims {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, TokenError> {
        let claims = strict_json::object(payload).ok_or(TokenError::Malformed(
            "its claims are not one JSON object without a member twice",
        ))?;
        Ok(Self {
            expires: time(&claims, "exp")?,
            not_before: time(&claims, "nbf")?,
            issued: time(&claims, "iat")?,
            audiences: audiences(&claims)?,
            issuer: text(&claims, "iss")?.map(str::to_owned),
            identity: identity(&claims)?,
        })
    }
}

fn text<'a>(claims: &'a Map<String, Value>, claim: &str) -> Result<Option<&'a str>, TokenError> {
    let found = claims.get(claim);
    found.map(|value| value.as_str().ok_or(TokenError::claim(claim, "is not a text"))).transpose()
}

// The end of the year 9999.
const LAST_SECOND: f64 = 253_402_300_799.0;

// Seconds since 1970, possibly with a fraction (RFC 7519, section 2), as microseconds.
#[allow(clippy::cast_sign_loss, reason = "checked")]
fn time(claims: &Map<String, Value>, claim: &str) -> Result<Option<u64>, TokenError> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let seconds = value.as_f64().filter(|seconds| (0.0..=LAST_SECOND).contains(seconds));
    let problem = "is not a time: write seconds since 1970 as a number";
    let seconds = seconds.ok_or_else(|| TokenError::claim(claim, problem))?;
    // Up to 2^53 a whole number of seconds is exact.
    Ok(Some(seconds.trunc() as u64 * 1_000_000 + (seconds.fract() * 1e6) as u64))
}

fn audiences(claims: &Map<String, Value>) -> Result<Vec<String>, TokenError> {
    let wrong = || TokenError::claim("aud", "is neither a text nor a list of texts");
    match claims.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(list)) if !list.is_empty() => {
            list.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn identity(claims: &Map<String, Value>) -> Result<Identity, TokenError> {
    let (rights, limits) = match claims.get("weir") {
        None => (Rights::nothing(), IdentityLimits::default()),
        Some(Value::Object(weir)) => {
            only(weir, "weir", &["publish", "subscribe", "limits"])?;
            (rights(weir, "weir")?, limits(weir, "weir")?)
        }
        Some(_) => return Err(TokenError::claim("weir", "is not an object")),
    };
    let identity = match text(claims, "sub")? {
        None => {
            needs_name(&limits, "weir", "sub")?;
            Identity::anonymous(rights)
        }
        Some(name) => Identity::named(name, rights)
            .map_err(|error| TokenError::claim("sub", format!("is refused: {error}")))?,
    };
    Ok(identity.with_limits(limits))
}

/// Refuses limits that would restrict nothing, because the identity has no name. `member` would be
/// its name.
pub(in crate::access) fn needs_name(
    limits: &IdentityLimits,
    at: &str,
    member: &str,
) -> Result<(), TokenError> {
    match limits.of_a_name() {
        None => Ok(()),
        Some(limit) => {
            let problem = format!("needs {member:?}: it counts what all sessions of a name do");
            Err(TokenError::claim(path(&path(at, "limits"), limit), problem))
        }
    }
}

// The path of a member of an object, whose own path may be empty.
fn path(object: &str, member: &str) -> String {
    if object.is_empty() { member.to_owned() } else { format!("{object}.{member}") }
}

/// Refuses members that are not known. A mistyped right or limit must not vanish: what is meant to
/// restrict would not.
pub(in crate::access) fn only(
    members: &Map<String, Value>,
    path: &str,
    known: &[&str],
) -> Result<(), TokenError> {
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let problem =
                format!("has the unknown member {}: known are {}", quoted(name), known.join(", "));
            Err(TokenError::claim(path, problem))
        }
    }
}

/// Returns the rights that `publish` and `subscribe` of an object grant. `at` is its path.
pub(in crate::access) fn rights(
    members: &Map<String, Value>,
    at: &str,
) -> Result<Rights, TokenError> {
    let (publish, subscribe) =
        (filters(members, at, "publish")?, filters(members, at, "subscribe")?);
    Rights::new(publish, subscribe)
        .map_err(|error| TokenError::claim(at, format!("is refused: {error}")))
}

fn filters(
    members: &Map<String, Value>,
    at: &str,
    member: &str,
) -> Result<Vec<Filter>, TokenError> {
    let Some(list) = members.get(member) else {
        return Ok(Vec::new());
    };
    let path = path(at, member);
    let Some(list) = list.as_array() else {
        return Err(TokenError::claim(path, "is not a list of filters, such as [\"demo/**\"]"));
    };
    if list.len() > MAX_FILTERS {
        let problem = format!("has {} filters: at most {MAX_FILTERS}", list.len());
        return Err(TokenError::claim(path, problem));
    }
    let filter = |(at, value): (usize, &Value)| {
        let problem = match value.as_str() {
            None => "is not a text".to_owned(),
            Some(text) => match Filter::new(text) {
                Ok(filter) => return Ok(filter),
                Err(error) => format!("is {}: {error}", quoted(text)),
            },
        };
        Err(TokenError::claim(format!("{path}[{at}]"), problem))
    };
    list.iter().enumerate().map(filter).collect()
}

/// Returns the limits that `limits` of an object sets. `at` is its path.
pub(in crate::access) fn limits(
    object: &Map<String, Value>,
    at: &str,
) -> Result<IdentityLimits, TokenError> {
    let mut limits = IdentityLimits::default();
    let at = path(at, "limits");
    let members = match object.get("limits") {
        None => return Ok(limits),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(TokenError::claim(at, "is not an object")),
    };
    let known = ["sessions", "messages_per_second", "bytes_per_second", "subscriptions"];
    only(members, &at, &known)?;
    let number = |member: &str, most: u64| {
        let Some(value) = members.get(member) else {
            return Ok(None);
        };
        let found = value.as_u64().filter(|number| (1..=most).contains(number));
        let problem = || {
            let problem = format!("is not a whole number from 1 to {most}");
            TokenError::claim(path(&at, member), problem)
        };
        found.map(Some).ok_or_else(problem)
    };
    let small = |member: &str| {
        let number = number(member, u32::MAX.into())?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    };
    limits.sessions = small("sessions")?;
    limits.messages_per_second = small("messages_per_second")?;
    limits.bytes_per_second = number("bytes_per_second", u64::MAX)?;
    limits.subscriptions = small("subscriptions")?;
    Ok(limits)
}
