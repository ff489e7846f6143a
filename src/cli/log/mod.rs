//! The log of the command line: its form, its filter, and its limit of repeats.

mod journal;
mod repeats;

use crate::config::{LogConfig, LogFormat};
use crate::console::terminal;
use journal::Journal;
use repeats::Repeats;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt, reload};

/// The variable with a filter. It takes precedence over the configuration.
const VARIABLE: &str = EnvFilter::DEFAULT_ENV;

/// The log of the process.
pub(super) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    repeats: Arc<Repeats>,
}

impl Log {
    /// Begins the log. There is one in a process.
    pub(super) fn begin(config: &LogConfig) -> Self {
        let (filter, wrong) = filter(config);
        let (filter, handle) = reload::Layer::new(filter);
        let repeats = Arc::new(Repeats::default());
        let (output, fell_back) = output(config.format);
        // An error means that there is a log already, which is a defect.
        let begun = tracing_subscriber::registry()
            .with(filter)
            .with(repeats::Limit(repeats.clone()))
            .with(output)
            .try_init();
        if let Err(error) = begun {
            terminal::tell(&format!("weir: no log: {error}"));
        }
        if let Some(error) = fell_back {
            tracing::warn!(%error, "no journal of systemd: the log goes to standard error");
        }
        if let Some(wrong) = wrong {
            tracing::warn!(error = wrong, "{VARIABLE} is not used");
        }
        Self { filter: handle, repeats }
    }

    /// Applies another filter, unless the environment has one.
    pub(super) fn set_filter(&self, config: &LogConfig) {
        // An error means that the log is gone.
        let _ = self.filter.reload(filter(config).0);
    }

    /// Logs the number of records that were left out. Call it now and then, and at the end.
    pub(super) fn tell_left_out(&self, ends: bool) {
        self.repeats.tell(ends);
    }
}

// Returns the filter, and why that of the environment is not used.
fn filter(config: &LogConfig) -> (EnvFilter, Option<String>) {
    // The level was checked when the configuration was read.
    let configured = || config.filter().unwrap_or_default();
    let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
        return (configured(), None);
    };
    let parsed = text.to_str().ok_or_else(|| "it is not UTF-8".to_owned());
    let parsed =
        parsed.and_then(|text| EnvFilter::builder().parse(text).map_err(|error| error.to_string()));
    match parsed {
        Ok(filter) => (filter, None),
        Err(error) => (configured(), Some(error)),
    }
}

type Output<S> = Box<dyn Layer<S> + Send + Sync>;

// Returns the output, and why it is not the journal although it was to be.
fn output<S>(format: LogFormat) -> (Output<S>, Option<io::Error>)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let text = || {
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        fmt::layer().with_ansi(colours).with_writer(terminal::LogLines).with_target(false).boxed()
    };
    let goes_to_journal = match format {
        LogFormat::Auto => journal::is_standard_error(),
        LogFormat::Journal => true,
        LogFormat::Text => false,
        LogFormat::Json => {
            let json = fmt::layer().json().flatten_event(true).with_writer(terminal::LogLines);
            return (json.boxed(), None);
        }
    };
    if !goes_to_journal {
        return (text(), None);
    }
    match Journal::open() {
        Ok(journal) => (journal.boxed(), None),
        Err(error) => (text(), Some(error)),
    }
}
