//! `weir sub`: subscribes, and prints messages.

use super::arguments::Connection;
use super::printer::{Printer, interruptible};
use super::reconnecting;
use crate::client::Subscription;
use crate::console::output::Output;
use crate::wire::{Delivery, Filter, Lag, Refusal};
use crate::{Event, Interruption, Start, SubscribeOptions};
use clap::{Args, ValueEnum};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir sub 'demo/*'                        new messages of demo/a, demo/b …
  weir sub 'sensors/**' --json             all below sensors, one JSON object a line
  weir sub chat/lobby --from last:20       the last twenty, then what follows
  weir sub game/state --delivery realtime --deadline 200ms
  weir sub demo/a --from all --count 100   the first hundred of the cache, then stop

When the session is lost, weir connects again and continues where it stopped.")]
pub(super) struct Arguments {
    /// Topic or filter: `*` matches one segment, a final `**` all remaining ones.
    filter: Filter,
    /// First message: new, latest, all, last:N, or a sequence.
    #[arg(long, default_value = "new", value_parser = start)]
    from: Start,
    /// How messages are carried: in order; each by itself; or in datagrams that are repeated and
    /// repaired, for data that is worth most while it is new.
    #[arg(long, value_enum, default_value_t)]
    delivery: DeliveryChoice,
    /// With --delivery realtime: drop messages that are older, and report a gap. Default: everything
    /// arrives, however late.
    #[arg(long, value_name = "DURATION", value_parser = crate::units::duration)]
    deadline: Option<Duration>,
    /// Reaction to falling behind the cache: report a gap and go on with the oldest message there
    /// is, or with the newest; or disconnect.
    #[arg(long, value_enum, default_value_t)]
    lag: LagChoice,
    /// Stop after this many messages.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Fail when the session is lost, in place of connecting again.
    #[arg(long)]
    no_reconnect: bool,
    /// Print JSON objects, one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum DeliveryChoice {
    #[default]
    Ordered,
    Unordered,
    Realtime,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum LagChoice {
    #[default]
    Oldest,
    Newest,
    Disconnect,
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "new" => Ok(Start::New),
        "latest" => Ok(Start::Latest),
        "all" => Ok(Start::All),
        _ => match text.strip_prefix("last:") {
            Some(n) => n.parse().ok().map(Start::Last),
            None => text.parse().ok().map(Start::Sequence),
        }
        .ok_or_else(|| "one of new, latest, all, last:N, or a sequence".into()),
    }
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { filter, from, delivery, deadline, lag, count, no_reconnect, json, connection } =
        arguments;
    let output = Output::new(json);
    let options = SubscribeOptions {
        start: from,
        delivery: match delivery {
            DeliveryChoice::Ordered => Delivery::Ordered,
            DeliveryChoice::Unordered => Delivery::Unordered,
            DeliveryChoice::Realtime => Delivery::Realtime,
        },
        lag: match lag {
            LagChoice::Oldest => Lag::Oldest,
            LagChoice::Newest => Lag::Newest,
            LagChoice::Disconnect => Lag::Disconnect,
        },
        deadline,
    };
    let client = connection.connect_with(reconnecting::policy(no_reconnect)).await?;
    let states = (client.watch_state(), client.watch_notice());
    let mut subscription = match client.subscribe(filter.as_str(), &options).await {
        Ok(subscription) => subscription,
        Err(error) => {
            // Otherwise the session stays until it times out.
            client.close().await;
            return Err(error.into());
        }
    };
    tracing::debug!(%filter, "subscribed");
    let mut printer = Printer::start()?;
    let noticed = |notice: Option<&Refusal>| Output::print(output.notice(notice));
    let printed = tokio::select! {
        printed = print(&mut subscription, &output, count, &mut printer) => printed,
        // The subscription prints the interruption in its place among the messages.
        failed = reconnecting::report(states, |_| Ok(()), noticed) => failed,
    };
    drop(subscription);
    client.close().await;
    interruptible(printed)
}

async fn print(
    subscription: &mut Subscription,
    output: &Output,
    mut left: Option<u64>,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    while left != Some(0) {
        match printer.unless_interrupted(subscription.next()).await?.transpose()? {
            Some(Event::Message(message)) => {
                printer.print(&output.message(&message)?).await?;
                left = left.map(|left| left - 1);
            }
            Some(Event::Gap(gap)) => printer.print(&output.gap(&gap)?).await?,
            Some(Event::Interrupted(Interruption { code, reason, .. })) => {
                printer.print(&output.interrupted(code, &reason)?).await?;
            }
            None => break,
        }
    }
    printer.finish().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_written_as_documented() {
        assert_eq!(start("last:10"), Ok(Start::Last(10)));
        assert_eq!(start("42"), Ok(Start::Sequence(42)));
        assert_eq!(start("new"), Ok(Start::New));
        assert!(start("last:").is_err() && start("-1").is_err() && start("").is_err());
    }
}
