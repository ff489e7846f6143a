//! The answer of a program that is asked over HTTP who a peer is. `docs/access.md` describes it.

use super::identity::Identity;
use super::strict_json;
use super::token::TokenError;
use super::token::claims::{limits, needs_name, only, rights};
use crate::wire::{Code, Refusal};
use serde_json::Value;

/// The longest time of an identity, in seconds: a hundred years.
const LONGEST: u64 = 100 * 365 * 86_400;

/// The longest reason of a refusal that peers are told, in bytes.
const MAX_REASON: usize = 255;

/// Returns the identity in the answer to a question that was asked at a time, in µs since 1970.
///
/// # Errors
///
/// The fault of the answer, for the log.
pub(crate) fn identity_of(body: &[u8], asked: u64) -> Result<Identity, String> {
    let members = strict_json::object(body)
        .ok_or("it is not one JSON object without a member twice".to_owned())?;
    only(&members, "", &["name", "publish", "subscribe", "limits", "expires_in"]).map_err(told)?;
    let granted = rights(&members, "").map_err(told)?;
    let identity = match members.get("name") {
        None | Some(Value::Null) => Identity::anonymous(granted),
        Some(Value::String(name)) => {
            Identity::named(name, granted).map_err(|why| format!("\"name\" is refused: {why}"))?
        }
        Some(_) => return Err("\"name\" is not a text".to_owned()),
    };
    let limits = limits(&members, "").map_err(told)?;
    if identity.name().is_none() {
        needs_name(&limits, "", "name").map_err(told)?;
    }
    let identity = identity.with_limits(limits);
    match members.get("expires_in") {
        None | Some(Value::Null) => Ok(identity),
        Some(value) => {
            let seconds = value.as_u64().filter(|seconds| (1..=LONGEST).contains(seconds));
            let problem = "\"expires_in\" is not a whole number of seconds, at least 1";
            let seconds = seconds.ok_or(problem.to_owned())?;
            Ok(identity.with_expires(asked.saturating_add(seconds * 1_000_000)))
        }
    }
}

// The member and its problem, without the word for members of tokens.
fn told(error: TokenError) -> String {
    match error {
        TokenError::Claim { claim, problem } if claim.is_empty() => format!("it {problem}"),
        TokenError::Claim { claim, problem } => format!("\"{claim}\" {problem}"),
        other => other.to_string(),
    }
}

/// Returns the refusal in an answer with status 401 or 403. Its `reason` is for the peer. An answer
/// without one is a refusal in any case.
pub(crate) fn refusal_of(code: Code, body: &[u8]) -> Refusal {
    let reason = strict_json::object(body).and_then(|members| {
        let reason = members.get("reason")?.as_str()?;
        let fits = !reason.is_empty() && reason.len() <= MAX_REASON;
        (fits && !reason.chars().any(char::is_control)).then(|| reason.to_owned())
    });
    match reason {
        Some(reason) => Refusal::new(code, reason),
        None => Refusal::new(code, "the daemon's back end refuses these credentials"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000_000;

    fn parse(text: &str) -> Result<Identity, String> {
        identity_of(text.as_bytes(), NOW)
    }

    #[test]
    fn an_answer_is_an_identity() {
        let ada = parse(
            r#"{"name": "ada", "publish": ["demo/chat"], "subscribe": ["demo/**"],
                "limits": {"sessions": 2}, "expires_in": 60}"#,
        )
        .unwrap();
        assert_eq!((ada.name(), ada.expires()), (Some("ada"), Some(NOW + 60_000_000)));
        assert!(ada.rights().may_publish("demo/chat") && ada.rights().may_read("demo/x"));
        assert!(!ada.rights().may_publish("demo/x"));
        assert_eq!(ada.limits().sessions, Some(2));
        let nobody = parse("{}").unwrap();
        assert_eq!((nobody.name(), nobody.expires()), (None, None));
        assert!(!nobody.rights().may_read("a"));
        assert!(parse(r#"{"name": null, "expires_in": null}"#).unwrap().name().is_none());
    }

    #[test]
    fn an_answer_with_a_mistake_is_none() {
        for (text, told) in [
            ("", "not one JSON object"),
            ("[]", "not one JSON object"),
            (r#"{"name": "a", "name": "b"}"#, "twice"),
            (r#"{"nmae": "a"}"#, "unknown member \"nmae\""),
            (r#"{"name": 1}"#, "\"name\" is not a text"),
            (r#"{"name": ""}"#, "\"name\" is refused"),
            (r#"{"name": "a\u001b[2J"}"#, "\"name\" is refused"),
            (r#"{"publish": "a"}"#, "\"publish\" is not a list"),
            (r#"{"publish": ["a", "a//b"]}"#, "\"publish[1]\" is"),
            (r#"{"publish": ["$weir/x"]}"#, "it is refused"),
            (r#"{"limits": {"sesions": 1}}"#, "\"limits\" has the unknown member"),
            (r#"{"limits": {"sessions": 0}}"#, "\"limits.sessions\" is not"),
            (
                r#"{"limits": {"bytes_per_second": 5}}"#,
                "\"limits.bytes_per_second\" needs \"name\"",
            ),
            (r#"{"expires_in": 0}"#, "\"expires_in\""),
            (r#"{"expires_in": -1}"#, "\"expires_in\""),
            (r#"{"expires_in": 1.5}"#, "\"expires_in\""),
            (r#"{"expires_in": 1e300}"#, "\"expires_in\""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn a_refusal_has_a_reason_that_is_safe_to_show() {
        let reason = |text: &str| refusal_of(Code::FORBIDDEN, text.as_bytes()).reason;
        assert_eq!(reason(r#"{"reason": "log in again"}"#), "log in again");
        let long = format!(r#"{{"reason": "{}"}}"#, "x".repeat(256));
        for other in ["", "no", r#"{"reason": 1}"#, r#"{"reason": "\u001b[2J"}"#, &long] {
            assert!(reason(other).contains("back end refuses"), "{other}");
        }
    }
}
