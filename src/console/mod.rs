//! Code that the command line and the benchmarks share: output, and what it keeps from terminals.

pub(crate) mod output;
pub(crate) mod terminal;

/// Returns an error with its causes, in one line. The texts of the library's errors contain their
/// causes, so that a cause which the text before it contains is left out.
pub(crate) fn in_full(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ConnectError, RequestError};
    use crate::wire::{Code, Refusal};
    use anyhow::Context as _;

    #[test]
    fn a_cause_is_told_once() {
        let refused = RequestError::Refused(Refusal::new(Code::NOT_FOUND, "no such topic"));
        let text = refused.to_string();
        assert!(std::error::Error::source(&refused).is_some());
        assert_eq!(in_full(&anyhow::Error::new(refused)), text);
        let socket = ConnectError::Socket(std::io::Error::other("no more of them"));
        let socket = Err::<(), _>(socket).context("connecting").unwrap_err();
        assert_eq!(in_full(&socket), "connecting: opening a UDP socket: no more of them");
    }
}
