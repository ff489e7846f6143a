//! The names of a journal's files.

/// The kind of a file, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// A segment of the log. Segments follow each other in the order of their numbers.
    Log(u64),
    Snapshot(u64),
    /// A snapshot that is not complete.
    Partial(u64),
}

/// Numbers are below this, so that those that follow have ten digits too.
const HIGHEST: u64 = 9_000_000_000;

impl Name {
    /// Returns what a file is; none if it is not the journal's.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| digits && *number < HIGHEST)
        };
        if let Some(rest) = name.strip_prefix("log-") {
            return number(rest.strip_suffix(".weir")?).map(Self::Log);
        }
        let rest = name.strip_prefix("snapshot-")?;
        match rest.strip_suffix(".partial") {
            Some(rest) => number(rest).map(Self::Partial),
            None => number(rest.strip_suffix(".weir")?).map(Self::Snapshot),
        }
    }

    pub(crate) fn number(self) -> u64 {
        let (Self::Log(number) | Self::Snapshot(number) | Self::Partial(number)) = self;
        number
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log(number) => write!(f, "log-{number:010}.weir"),
            Self::Snapshot(number) => write!(f, "snapshot-{number:010}.weir"),
            Self::Partial(number) => write!(f, "snapshot-{number:010}.partial"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in [Name::Log(7), Name::Snapshot(1), Name::Partial(8_999_999_999)] {
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        for other in [
            "log-7.weir",
            "log-0000000007",
            "log-9999999999.weir",
            "snapshot-0000000001.weir.aside",
            "x",
            "",
        ] {
            assert_eq!(Name::parse(other), None);
        }
    }
}
