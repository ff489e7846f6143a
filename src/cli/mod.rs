//! The command line. Each verb has a file; `arguments` has what verbs share.

mod arguments;
mod get;
mod ping;
mod printer;
mod publish;
mod reconnecting;
mod serve;
mod subscribe;
mod top;

#[cfg(feature = "bench")]
use crate::bench;
use crate::config::{Config, ConfigError, DEFAULT};
use clap::{Parser, Subcommand};
use std::io::{IsTerminal as _, Write as _};
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
    /// Show the most published payloads of a topic.
    Top(top::Arguments),
    /// Measure round trips to the daemon.
    Ping(ping::Arguments),
    /// Measure Weir: latency, loss, fan-out, idle sessions.
    #[cfg(feature = "bench")]
    #[command(subcommand, after_help = bench::EXAMPLES)]
    Bench(bench::Bench),
    /// Check a configuration file, and say what is wrong with it.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
    /// Print a configuration file with every key at its default.
    DefaultConfig,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let Cli { verb } = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "warn,weir=info".into()))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    match run(verb) {
        Ok(code) => code,
        // The reader of our output has closed the pipe, and needs no more.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "weir: {error:#}");
            ExitCode::from(if error.is::<ConfigError>() { 78 } else { 1 })
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let runtime = match verb {
        #[cfg(feature = "bench")]
        Verb::Bench(bench) => return bench::run(bench),
        Verb::Serve(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    }
    .enable_all()
    .build()?;
    let result = runtime.block_on(async {
        match verb {
            Verb::Serve(arguments) => serve::run(arguments).await,
            Verb::Publish(arguments) => publish::run(arguments).await,
            Verb::Subscribe(arguments) => subscribe::run(arguments).await,
            Verb::Get(arguments) => get::run(arguments).await,
            Verb::Top(arguments) => top::run(arguments).await,
            Verb::Ping(arguments) => ping::run(arguments).await,
            Verb::CheckConfig { file } => {
                Config::load(Some(&file), [])?;
                writeln!(std::io::stdout(), "{}: ok", file.display())?;
                Ok(())
            }
            Verb::DefaultConfig => {
                write!(std::io::stdout(), "{DEFAULT}")?;
                Ok(())
            }
            #[cfg(feature = "bench")]
            Verb::Bench(_) => unreachable!("it has run above"),
        }
    });
    // A thread that cannot be stopped may still read standard input.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}
