//! The sessions and topics of the daemon on this machine: asked for once a second, and printed or shown.

use super::columns::{self, SESSIONS, TOPICS};
use super::screen::{Key, Screen};
use super::table;
use crate::cli::printer::{Printer, interruptible};
use crate::console::terminal;
use crate::daemon::fetch;
use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// The interval at which something is shown again.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Time for an answer of the daemon, 10 s. It looks at a million topics in less.
const DEADLINE: Duration = Duration::from_secs(10);

/// Maximum size of an answer, 16 MiB: 1,000 sessions with 8 filters each have some 3.
const ANSWER: usize = 16 << 20;

/// An order of sessions or of topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Order {
    Age,
    Backlog,
    Bytes,
    Delivered,
    Messages,
    Name,
    Rate,
    Received,
    Rtt,
    Skipped,
    Subscriptions,
}

const OF_SESSIONS: [Order; 6] =
    [Order::Delivered, Order::Received, Order::Backlog, Order::Skipped, Order::Rtt, Order::Age];
const OF_TOPICS: [Order; 5] =
    [Order::Rate, Order::Bytes, Order::Messages, Order::Subscriptions, Order::Name];

/// The list that is shown, and its order.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    sessions: bool,
    order: Order,
}

impl View {
    pub(super) fn new(sessions: bool, order: Option<Order>) -> anyhow::Result<Self> {
        let orders = Self::orders(sessions);
        let order = order.unwrap_or(orders[0]);
        if !orders.contains(&order) {
            let all: Vec<_> = orders.iter().map(|order| name(*order)).collect();
            bail!("--sort is one of {} here, not {}", all.join(", "), name(order));
        }
        Ok(Self { sessions, order })
    }

    fn orders(sessions: bool) -> &'static [Order] {
        if sessions { &OF_SESSIONS } else { &OF_TOPICS }
    }

    fn what(self) -> &'static str {
        if self.sessions { "sessions" } else { "topics" }
    }

    fn press(&mut self, key: Key) {
        let orders = Self::orders(self.sessions);
        match key {
            Key::Sort => {
                let at = orders.iter().position(|order| *order == self.order).unwrap_or(0);
                self.order = orders[(at + 1) % orders.len()];
            }
            Key::Change => {
                self.sessions = !self.sessions;
                self.order = Self::orders(self.sessions)[0];
            }
            Key::Quit | Key::Other => {}
        }
    }

    async fn ask(self, ops: SocketAddr, most: u32) -> anyhow::Result<Answer> {
        let (what, order) = (self.what(), name(self.order));
        let url = format!("http://{ops}/{what}?sort={order}&most={most}");
        let (status, body) =
            Box::pin(fetch::get(&url, DEADLINE, ANSWER)).await.with_context(|| {
                format!(
                    "cannot ask the daemon at http://{ops}: does it run here, with --ops {ops}?"
                )
            })?;
        let json: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status != 200 {
            let detail = json["detail"].as_str().unwrap_or("it is no daemon of this version");
            bail!("http://{ops}/{what} answers {status}: {detail}");
        }
        Ok(Answer { view: self, json })
    }
}

fn name(order: Order) -> String {
    order.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The answer of the daemon.
struct Answer {
    view: View,
    json: Value,
}

impl Answer {
    fn all(&self) -> &[Value] {
        self.json[self.view.what()].as_array().map_or(&[], Vec::as_slice)
    }

    fn title(&self) -> String {
        let (order, total) = (name(self.view.order), &self.json["total"]);
        let what = self.view.what();
        let what = if *total == 1 { what.trim_end_matches('s') } else { what };
        format!("{total} {what}, by {order}")
    }

    fn table(&self, most: usize, width: Option<usize>) -> Vec<String> {
        let at = self.json["at"].as_u64().unwrap_or(0);
        let all = self.all().iter().take(most);
        if self.view.sessions {
            let rows: Vec<_> = all.map(|session| columns::session(session, at)).collect();
            table::lines(&SESSIONS, &rows, width)
        } else {
            let rows: Vec<_> = all.map(columns::topic).collect();
            table::lines(&TOPICS, &rows, width)
        }
    }

    // One object a line, or the table.
    fn print(&self, json: bool) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        if json {
            for one in self.all() {
                terminal::write_json(&mut out, one)?;
                out.push(b'\n');
            }
        } else {
            for line in self.table(usize::MAX, None) {
                out.extend(line.as_bytes());
                out.push(b'\n');
            }
        }
        Ok(out)
    }
}

pub(super) async fn run(
    mut view: View,
    ops: SocketAddr,
    most: u32,
    (live, watch, json): (bool, bool, bool),
) -> anyhow::Result<()> {
    let mut every = tokio::time::interval(INTERVAL);
    if live {
        // Before the screen is cleared, so that an error stays.
        let mut answer = view.ask(ops, most).await?;
        let mut screen = Screen::open()?;
        loop {
            let title = format!("{}   q: quit  s: sort  Tab: sessions, topics", answer.title());
            screen.show(&title, |rows, columns| answer.table(rows, Some(columns)))?;
            tokio::select! {
                key = screen.key() => match key? {
                    Key::Quit => return Ok(()),
                    key => view.press(key),
                },
                _ = every.tick() => {}
            }
            answer = view.ask(ops, most).await?;
        }
    }
    let mut printer = Printer::start()?;
    let printed = async {
        loop {
            printer.unless_interrupted(every.tick()).await?;
            let answer = printer.unless_interrupted(view.ask(ops, most)).await??;
            printer.print(&answer.print(json)?).await?;
            if !watch {
                return printer.finish().await;
            }
        }
    };
    interruptible(printed.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_of_the_other_list_is_refused_with_those_that_there_are() {
        let error = View::new(true, Some(Order::Name)).unwrap_err().to_string();
        assert!(error.contains("delivered, received, backlog, skipped, rtt, age"), "{error}");
        let mut view = View::new(false, None).unwrap();
        assert_eq!(view.order, Order::Rate);
        for order in [Order::Bytes, Order::Messages, Order::Subscriptions, Order::Name, Order::Rate]
        {
            view.press(Key::Sort);
            assert_eq!(view.order, order);
        }
        view.press(Key::Change);
        assert_eq!((view.what(), view.order), ("sessions", Order::Delivered));
    }
}
