//! The command line. Each verb has a file; `arguments` has what verbs share.

mod arguments;
mod cert;
mod certificate_facts;
mod doctor;
mod get;
mod log;
mod manual;
mod ping;
mod printer;
mod publish;
mod reconnecting;
mod reload;
mod serve;
mod service;
mod sockets;
mod subscribe;
mod token;
mod top;
mod wrong_setting;

#[cfg(feature = "bench")]
use crate::bench;
use crate::config::{self, Config, ConfigError, DEFAULT, LogConfig};
use crate::console::{in_full, terminal};
use clap::{CommandFactory as _, Parser, Subcommand};
use sockets::Sockets;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// A relay that caches, counts and repairs, for raw QUIC, WebTransport and WebSocket on one port.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  weir serve                          a daemon on port 4433, UDP and TCP
  weir sub 'demo/*'                   new messages of demo/a, demo/b …
  weir pub demo/a hello               publish one payload
  seq 10 | weir pub demo/a --lines    each line as it comes
  weir sub demo/a --from last:5       the last five, then what follows
  weir top demo/a                     the most published payloads

Exit codes: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon.
    Serve(serve::Arguments),
    /// Publish a payload, or each line of standard input.
    #[command(name = "pub")]
    Publish(publish::Arguments),
    /// Subscribe, and print messages.
    #[command(name = "sub")]
    Subscribe(subscribe::Arguments),
    /// Fetch one payload from the cache.
    Get(get::Arguments),
    /// Show the most published payloads of a topic; or the sessions and topics of the daemon here.
    Top(top::Arguments),
    /// Measure round trips to the daemon.
    Ping(ping::Arguments),
    /// Find out what is wrong between here and the daemon.
    Doctor(doctor::Arguments),
    /// Make keys and tokens, and check tokens.
    #[command(subcommand, after_help = token::EXAMPLES)]
    Token(token::Token),
    /// Measure Weir: latency, loss, fan-out, idle sessions.
    #[cfg(feature = "bench")]
    #[command(subcommand, after_help = bench::EXAMPLES)]
    Bench(bench::Bench),
    /// Show certificates, and make one.
    #[command(subcommand)]
    Cert(cert::Cert),
    /// Check a configuration file, and say what is wrong with it.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
    /// Print a configuration file with every key at its default.
    DefaultConfig {
        /// Print the JSON schema of such files instead, for editors.
        #[arg(long)]
        schema: bool,
    },
    /// Write man pages.
    #[command(hide = true)]
    Man(manual::Man),
    /// Print completions for a shell.
    #[command(hide = true)]
    Completions(manual::Completions),
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let Cli { verb } = Cli::parse();
    // The daemon's log is in its configuration.
    if !matches!(verb, Verb::Serve(_)) {
        log::Log::begin(&LogConfig::default());
    }
    match run(verb) {
        Ok(code) => code,
        // The reader of our output has closed the pipe, and needs no more.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // An error may have a reason of the other side's.
            terminal::tell(&format!("weir: {}", in_full(&error)));
            ExitCode::from(if error.is::<ConfigError>() { 78 } else { 1 })
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    // Before there are threads.
    let mut given = Sockets::default();
    if let Verb::Serve(_) = verb {
        given = Sockets::take()?;
    }
    let runtime = match verb {
        #[cfg(feature = "bench")]
        Verb::Bench(bench) => return bench::run(bench),
        Verb::Token(token) => return token::run(token),
        Verb::Man(man) => return man.run(Cli::command()).map(|()| ExitCode::SUCCESS),
        Verb::Completions(shell) => return shell.run(Cli::command()).map(|()| ExitCode::SUCCESS),
        Verb::Serve(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    }
    .enable_all()
    .build()?;
    let result = runtime.block_on(async {
        let done = match verb {
            // It has a verdict.
            Verb::Doctor(arguments) => return doctor::run(arguments).await,
            Verb::Serve(arguments) => serve::run(arguments, given).await,
            Verb::Publish(arguments) => publish::run(arguments).await,
            Verb::Subscribe(arguments) => subscribe::run(arguments).await,
            Verb::Get(arguments) => get::run(arguments).await,
            Verb::Top(arguments) => top::run(arguments).await,
            Verb::Ping(arguments) => ping::run(arguments).await,
            Verb::Cert(verb) => cert::run(verb).await,
            Verb::CheckConfig { file } => {
                Config::load(Some(&file), [])?;
                writeln!(std::io::stdout(), "{}: ok", file.display())?;
                Ok(())
            }
            Verb::DefaultConfig { schema } => {
                let text = if schema { config::schema() } else { DEFAULT.into() };
                write!(std::io::stdout(), "{text}")?;
                Ok(())
            }
            Verb::Token(_) | Verb::Man(_) | Verb::Completions(_) => {
                unreachable!("it has run above")
            }
            #[cfg(feature = "bench")]
            Verb::Bench(_) => unreachable!("it has run above"),
        };
        done.map(|()| ExitCode::SUCCESS)
    });
    // A thread that cannot be stopped may still read standard input.
    runtime.shutdown_background();
    result
}
