//! Topics and filters in paths.
//!
//! The slashes of a name may be escaped, `demo%2Fa`, or not, `demo/a`.

use super::Problem;
use crate::wire::Code;
use axum::http::Uri;

/// A topic's name from a path, and the operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TopicPath {
    pub(super) name: String,
    /// Whether the segment `top` follows the name.
    pub(super) top: bool,
}

/// Returns the topic of a path below `/v1/topics/`. A last segment `top` after an unescaped slash is
/// the operation if `operations` is set. Otherwise it belongs to the name.
pub(super) fn topic(uri: &Uri, operations: bool) -> Result<TopicPath, Problem> {
    let raw = uri.path().strip_prefix("/v1/topics/").unwrap_or_default();
    let (raw, top) = match raw.strip_suffix("/top") {
        Some(before) if operations => (before, true),
        _ => (raw, false),
    };
    Ok(TopicPath { name: decode(raw, Code::BAD_TOPIC)?, top })
}

/// Returns the filter of a path below `/v1/events/`.
pub(super) fn filter(uri: &Uri) -> Result<String, Problem> {
    let raw = uri.path().strip_prefix("/v1/events/").unwrap_or_default();
    decode(raw, Code::BAD_FILTER)
}

// Resolves the escapes. Each has two hexadecimal digits, and the result has to be UTF-8.
fn decode(raw: &str, code: Code) -> Result<String, Problem> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes().iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let mut digit = || char::from(*rest.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(Problem::of(
                code,
                "a percent sign in the path is followed by two hexadecimal digits; \
                 the sign itself is %25",
            ));
        };
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| {
        Problem::of(code, "the name in the path is not UTF-8 once its escapes are resolved")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str, operations: bool) -> Result<TopicPath, Problem> {
        topic(&path.parse().unwrap(), operations)
    }

    #[test]
    fn slashes_escaped_or_not() {
        let table = [
            ("demo%2Fa", "demo/a", false),
            ("demo%2fa", "demo/a", false),
            ("demo/a", "demo/a", false),
            ("demo/a/top", "demo/a", true),
            ("demo%2Fa/top", "demo/a", true),
            ("demo%2Ftop", "demo/top", false),
            ("top", "top", false),
            ("top/top", "top", true),
            ("a%2Ftop/top", "a/top", true),
            ("gr%C3%B6%C3%9Fe", "größe", false),
            ("a+b%20c%25", "a+b c%", false),
            ("a//b", "a//b", false),
        ];
        for (path, name, top) in table {
            let expected = TopicPath { name: name.to_owned(), top };
            assert_eq!(named(&format!("/v1/topics/{path}"), true), Ok(expected), "{path}");
        }
        let posted = named("/v1/topics/demo/top", false).unwrap();
        assert_eq!(posted, TopicPath { name: "demo/top".to_owned(), top: false });
    }

    #[test]
    fn escapes_are_exact() {
        for bad in ["%", "%2", "a%zz", "%+1", "%ff", "a%C3", "%C3%28"] {
            let refused = named(&format!("/v1/topics/{bad}"), true).unwrap_err();
            assert_eq!(refused, Problem::of(Code::BAD_TOPIC, reason(&refused)), "{bad}");
            let refused = filter(&format!("/v1/events/{bad}").parse().unwrap()).unwrap_err();
            assert_eq!(refused, Problem::of(Code::BAD_FILTER, reason(&refused)), "{bad}");
        }
    }

    fn reason(problem: &Problem) -> String {
        problem.detail().to_owned()
    }
}
