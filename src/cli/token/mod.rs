//! `weir token`: makes keys and tokens, and checks tokens. It talks to no daemon.

mod check;
mod clock;
mod files;
mod issue;
mod keygen;
mod shown;

use clap::Subcommand;
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "\
Examples:
  weir token keygen --out key.jwk > keys.json
  weir token new --key key.jwk --sub ada --subscribe 'demo/**' --publish demo/chat
  weir token check - --keys keys.json < token

`key.jwk` signs tokens and stays with their issuer. `keys.json` is for the daemon.";

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a key that signs tokens, and print its public part.
    Keygen(keygen::Arguments),
    /// Sign a token, and print it.
    New(issue::Arguments),
    /// Verify a token as a daemon does, and print what it grants, or why it is refused.
    Check(check::Arguments),
}

pub(super) fn run(token: Token) -> anyhow::Result<ExitCode> {
    match token {
        Token::Keygen(arguments) => keygen::run(&arguments).map(|()| ExitCode::SUCCESS),
        Token::New(arguments) => issue::run(arguments).map(|()| ExitCode::SUCCESS),
        Token::Check(arguments) => check::run(arguments),
    }
}
