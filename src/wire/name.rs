//! The grammar of topics and filters.

use super::{Code, Refusal};
use std::fmt;

/// Maximum length of a topic or filter, in bytes of UTF-8.
pub const MAX_NAME: usize = 255;

/// Maximum number of segments of a topic or filter.
pub const MAX_SEGMENTS: usize = 16;

/// Why a text is not a topic, or not a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is longer than [`MAX_NAME`].
    #[error("a topic or filter has at most {MAX_NAME} bytes, this one has {0}")]
    TooLong(usize),
    /// The text has more than [`MAX_SEGMENTS`] segments.
    #[error(
        "a topic or filter has at most {MAX_SEGMENTS} segments between slashes, this one has {0}"
    )]
    TooManySegments(usize),
    /// The text is empty, begins or ends with a slash, or has two slashes in a row.
    #[error(
        "a topic or filter is segments joined by single slashes, such as `demo/a`: none may be empty"
    )]
    EmptySegment,
    /// A segment is `.` or `..`.
    #[error(
        "no segment of a topic or filter may be `.` or `..`: browsers remove them from the paths that \
         they request"
    )]
    DotSegment,
    /// The text contains a control character.
    #[error("a topic or filter may not contain control characters")]
    Control,
    /// A topic contains `*`.
    #[error("`*` is for filters only: name one topic, such as `demo/a`")]
    WildcardInTopic,
    /// A segment of a filter has `*` beside other characters, or `**` is not the last segment.
    #[error("in a filter `*` matches one whole segment, and a final `**` all remaining segments")]
    MisplacedWildcard,
    /// The topic is `$weir`, or below it.
    #[error("topics below `$weir` are the daemon's own: choose another first segment")]
    Reserved,
}

impl NameError {
    fn refusal(self, code: Code) -> Refusal {
        let code = if self == Self::Reserved { Code::RESERVED } else { code };
        Refusal::new(code, self.to_string())
    }

    /// Returns the refusal of a topic.
    pub fn of_topic(self) -> Refusal {
        self.refusal(Code::BAD_TOPIC)
    }

    /// Returns the refusal of a filter.
    pub fn of_filter(self) -> Refusal {
        self.refusal(Code::BAD_FILTER)
    }
}

fn check_shape(name: &str) -> Result<(), NameError> {
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong(name.len()));
    }
    let mut segments = 0;
    for segment in name.split('/') {
        if segment.is_empty() {
            return Err(NameError::EmptySegment);
        }
        if segment == "." || segment == ".." {
            return Err(NameError::DotSegment);
        }
        segments += 1;
    }
    if segments > MAX_SEGMENTS {
        return Err(NameError::TooManySegments(segments));
    }
    if name.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(())
}

/// Checks that `name` is a topic that clients may publish to.
///
/// It has 1 to 16 non-empty segments of UTF-8, joined by `/`, and at most 255 bytes. It contains
/// neither `*` nor control characters. No segment is `.` or `..`, and the first is not `$weir`.
pub fn check_topic(name: &str) -> Result<(), NameError> {
    check_readable_topic(name)?;
    if is_reserved(name) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// Checks that `name` is a topic that clients may read: one that they may publish to, or one of the
/// daemon's own below `$weir`.
pub fn check_readable_topic(name: &str) -> Result<(), NameError> {
    check_shape(name)?;
    if name.contains('*') {
        return Err(NameError::WildcardInTopic);
    }
    Ok(())
}

/// Returns whether a topic is one of the daemon's own: `$weir`, or below it.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.strip_prefix("$weir").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A pattern for topics. `*` matches any one segment, and a final `**` all remaining segments, or
/// none: `a/**` matches `a`, `a/b` and `a/b/c`. A wildcard in the first segment does not match
/// `$weir`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Filter(Box<str>);

impl Filter {
    /// Checks `text`, and makes a filter of it.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check_shape(text)?;
        let mut segments = text.split('/').peekable();
        while let Some(segment) = segments.next() {
            let whole = match segment {
                "*" => true,
                "**" => segments.peek().is_none(),
                other => !other.contains('*'),
            };
            if !whole {
                return Err(NameError::MisplacedWildcard);
            }
        }
        Ok(Self(text.into()))
    }

    /// Returns the filter's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the filter's segments.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Returns whether the filter has no wildcard, and so matches only one topic.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Returns the segments before the first wildcard: a prefix of every topic that matches.
    pub fn literal_prefix(&self) -> &str {
        let end = self.0.find('*').unwrap_or(self.0.len());
        self.0[..end].trim_end_matches('/')
    }

    /// Returns whether the filter matches `topic`.
    pub fn matches(&self, topic: &str) -> bool {
        if is_reserved(topic) && self.0.starts_with('*') {
            return false;
        }
        // Compares bytes, because a sweep calls this for every topic, and splitting each would take
        // twice as long.
        let (filter, topic) = (self.0.as_bytes(), topic.as_bytes());
        let (mut at, mut of) = (0, 0);
        loop {
            // Here both are at the start of a segment.
            match &filter[at..] {
                [b'*', b'*', ..] => return true,
                [b'*', ..] => {
                    at += 1;
                    of += topic[of..].iter().take_while(|byte| **byte != b'/').count();
                }
                _ => {
                    let same = filter[at..].iter().zip(&topic[of..]);
                    let same = same.take_while(|(a, b)| a == b && **a != b'/').count();
                    (at, of) = (at + same, of + same);
                }
            }
            match (filter.get(at), topic.get(of)) {
                (None, None) => return true,
                (Some(b'/'), Some(b'/')) => (at, of) = (at + 1, of + 1),
                (Some(b'/'), None) => return &filter[at..] == b"/**",
                _ => return false,
            }
        }
    }

    /// Returns whether this filter matches every topic that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        if is_reserved(&other.0) && self.0.starts_with('*') {
            return false;
        }
        // A topic has a segment, so that `**` and `*/**` match the same.
        if matches!(&*self.0, "**" | "*/**") {
            return true;
        }
        let (mut mine, mut theirs) = (self.segments(), other.segments());
        loop {
            match (mine.next(), theirs.next()) {
                (Some("**"), _) | (None, None) => return true,
                // `other` matches topics of several lengths, and this filter not all of them.
                (_, Some("**")) => return false,
                (Some("*"), Some(_)) => {}
                (Some(mine), Some(theirs)) if mine == theirs => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::str::FromStr for Filter {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics() {
        for good in ["a", "demo/a", "größe/日本", "a b/c", "$other/x", &"x".repeat(255)] {
            assert_eq!(check_topic(good), Ok(()), "{good}");
        }
        assert_eq!(check_topic(&["s"; 16].join("/")), Ok(()));
        assert_eq!(check_topic(&["s"; 17].join("/")), Err(NameError::TooManySegments(17)));
        assert_eq!(check_topic(&"x".repeat(256)), Err(NameError::TooLong(256)));
        for empty in ["", "/", "/a", "a/", "a//b"] {
            assert_eq!(check_topic(empty), Err(NameError::EmptySegment), "{empty}");
        }
        for dots in [".", "..", "a/../b", "./a", "a/."] {
            assert_eq!(check_topic(dots), Err(NameError::DotSegment), "{dots}");
        }
        assert_eq!(check_topic(".../a./.a"), Ok(()));
        assert_eq!(check_topic("a/*"), Err(NameError::WildcardInTopic));
        assert_eq!(check_topic("a\n"), Err(NameError::Control));
        assert_eq!(check_topic("$weir/stats"), Err(NameError::Reserved));
        assert_eq!(check_readable_topic("$weir/stats"), Ok(()));
        assert_eq!(check_readable_topic("$weir/*"), Err(NameError::WildcardInTopic));
    }

    #[test]
    fn filters() {
        let hit = |filter: &str, topic: &str| Filter::new(filter).unwrap().matches(topic);
        assert!(hit("demo/*", "demo/a") && !hit("demo/*", "demo") && !hit("demo/*", "demo/a/b"));
        assert!(hit("demo/**", "demo") && hit("demo/**", "demo/a/b") && !hit("demo/**", "demos"));
        assert!(hit("**", "a/b") && !hit("**", "$weir/x") && !hit("*/x", "$weir/x"));
        assert!(hit("$weir/**", "$weir/x"));
        assert!(hit("a/*/c", "a/b/c") && !hit("a/*/c", "a/b/d"));
        for bad in ["a/**/b", "a*", "**a", "a/b*c"] {
            assert_eq!(Filter::new(bad), Err(NameError::MisplacedWildcard), "{bad}");
        }
        for dots in ["..", "a/../*", "./**"] {
            assert_eq!(Filter::new(dots), Err(NameError::DotSegment), "{dots}");
        }
        assert_eq!(Filter::new("a/b/**").unwrap().literal_prefix(), "a/b");
        assert_eq!(Filter::new("a/*/c").unwrap().literal_prefix(), "a");
        assert_eq!(Filter::new("a/b").unwrap().literal_prefix(), "a/b");
        assert_eq!(Filter::new("**").unwrap().literal_prefix(), "");
    }

    // The definition in the documents, segment by segment.
    fn matches(filter: &str, topic: &str) -> bool {
        let mut names = topic.split('/');
        for segment in filter.split('/') {
            match (segment, names.next()) {
                ("**", _) => return true,
                (segment, Some(name)) if segment == "*" || segment == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    proptest::proptest! {
        #[test]
        fn filters_match_segment_by_segment(
            filter in "(a|b|aa|é|\\*)(/(a|b|ab|é|\\*)){0,3}(/\\*\\*)?",
            topic in "(a|b|aa|é)(/(a|b|ab|é)){0,4}",
        ) {
            let hit = Filter::new(&filter).unwrap().matches(&topic);
            proptest::prop_assert_eq!(hit, matches(&filter, &topic), "{} {}", filter, topic);
        }

        // Both directions: no counterexample if covered, and one if not. The topics go one segment
        // further than the filters, and have a segment that no filter names.
        #[test]
        fn a_filter_covers_what_it_matches_all_of(
            mine in "(a|b|\\$weir|\\*)(/(a|b|\\*)){0,2}(/\\*\\*)?|\\*\\*",
            theirs in "(a|b|\\$weir|\\*)(/(a|b|\\*)){0,2}(/\\*\\*)?|\\*\\*",
            before in 0_usize..13,
        ) {
            let prefix = "p/".repeat(before);
            let filter = |tail: &str| Filter::new(&format!("{prefix}{tail}")).unwrap();
            let (mine, theirs) = (filter(&mine), filter(&theirs));
            let all = all_topics(4).into_iter().map(|tail| format!("{prefix}{tail}"));
            // The prefix itself: a `**` behind it matches that too.
            let all = all.filter(|topic| topic.split('/').count() <= MAX_SEGMENTS);
            let all = all.chain((before > 0).then(|| prefix.trim_end_matches('/').to_owned()));
            let mut missed = all.filter(|topic| theirs.matches(topic) && !mine.matches(topic));
            let missed = missed.next();
            proptest::prop_assert_eq!(
                mine.covers(&theirs), missed.is_none(), "{} {} {:?}", mine, theirs, missed
            );
        }
    }

    // All topics of up to `length` segments over a tiny alphabet.
    fn all_topics(length: usize) -> Vec<String> {
        let names = ["a", "b", "c", "$weir"];
        let mut all: Vec<String> = names.map(String::from).to_vec();
        let mut from = 0;
        for _ in 1..length {
            let longest = all.len();
            for at in from..longest {
                all.extend(names.map(|name| format!("{}/{name}", all[at])));
            }
            from = longest;
        }
        all
    }

    #[test]
    fn coverage() {
        let filter = |text: &str| Filter::new(text).unwrap();
        let covers = |mine: &str, theirs: &str| filter(mine).covers(&filter(theirs));
        assert!(covers("**", "**") && covers("**", "*/**") && covers("*/**", "**"));
        assert!(covers("a/**", "a") && covers("a/**", "a/*/b") && covers("a/**", "a/**"));
        assert!(!covers("a/*", "a/**") && !covers("a/*/**", "a/**") && !covers("a/*", "*/a"));
        assert!(covers("a/*", "a/b") && !covers("a/b", "a/*") && !covers("a", "a/b"));
        assert!(!covers("**", "$weir/**") && !covers("*", "$weir") && !covers("*/**", "$weir"));
        assert!(covers("$weir/**", "$weir/*") && !covers("$weir/**", "**"));
        let sixteen = ["s"; 16].join("/");
        let stars = ["*"; 16].join("/");
        let tail = format!("{}/**", ["s"; 15].join("/"));
        assert!(covers(&stars, &sixteen) && covers("**", &stars) && covers(&tail, &sixteen));
        assert!(!covers(&sixteen, &stars) && !covers(&stars, &tail) && !covers(&sixteen, &tail));
    }
}
