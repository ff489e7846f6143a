//! Frames as JSON: u64 as decimal strings (JavaScript cannot hold them as numbers), bytes as hex,
//! enums as `"Variant"` or `{"Variant": …}`, fields in the order they have on the wire.

use weir::wire::{
    ClientFrame, DaemonFrame, Delivery, Digest, GapCause, Lag, Limits, Position, Resume, Start,
    TopEntry, Which,
};

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(
        text.len().is_multiple_of(2),
        "an odd number of hex digits: {text}"
    );
    let digit = |c: u8| char::from(c).to_digit(16).expect("a hex digit");
    text.as_bytes()
        .chunks(2)
        .map(|pair| (digit(pair[0]) * 16 + digit(pair[1])) as u8)
        .collect()
}

fn text(value: &str) -> String {
    serde_json::to_string(value).expect("a string is JSON")
}

fn long(value: u64) -> String {
    format!("\"{value}\"")
}

fn bytes(value: &[u8]) -> String {
    format!("\"{}\"", hex(value))
}

fn digest(value: &Digest) -> String {
    bytes(&value.0)
}

fn list<T>(items: &[T], each: impl Fn(&T) -> String) -> String {
    format!(
        "[{}]",
        items.iter().map(each).collect::<Vec<_>>().join(", ")
    )
}

fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|(key, value)| format!("\"{key}\": {value}"))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

fn limits(limits: &Limits) -> String {
    let Limits {
        payload,
        subscriptions,
        window,
    } = limits;
    object(&[
        ("payload", long(*payload)),
        ("subscriptions", subscriptions.to_string()),
        ("window", window.to_string()),
    ])
}

fn start(start: &Start<'_>) -> String {
    match start {
        Start::New => text("New"),
        Start::Latest => text("Latest"),
        Start::All => text("All"),
        Start::Last(n) => object(&[("Last", long(*n))]),
        Start::Sequence(n) => object(&[("Sequence", long(*n))]),
        Start::Resume {
            since: Position { run, position },
            topics,
        } => {
            let since = object(&[("run", long(*run)), ("position", long(*position))]);
            let topics = list(topics, |Resume { topic, epoch, next }| {
                object(&[
                    ("topic", text(topic)),
                    ("epoch", long(*epoch)),
                    ("next", long(*next)),
                ])
            });
            object(&[("Resume", object(&[("since", since), ("topics", topics)]))])
        }
    }
}

fn delivery(delivery: Delivery) -> String {
    text(match delivery {
        Delivery::Ordered => "Ordered",
        Delivery::Unordered => "Unordered",
        Delivery::Realtime => "Realtime",
    })
}

fn lag(lag: Lag) -> String {
    text(match lag {
        Lag::Oldest => "Oldest",
        Lag::Newest => "Newest",
        Lag::Disconnect => "Disconnect",
    })
}

fn cause(cause: GapCause) -> String {
    text(match cause {
        GapCause::Evicted => "Evicted",
        GapCause::Skipped => "Skipped",
        GapCause::Aborted => "Aborted",
        GapCause::Late => "Late",
    })
}

fn which(which: &Which) -> String {
    match which {
        Which::Latest => text("Latest"),
        Which::Sequence(n) => object(&[("Sequence", long(*n))]),
        Which::Digest(value) => object(&[("Digest", digest(value))]),
    }
}

fn entry(entry: &TopEntry<'_>) -> String {
    let TopEntry {
        digest: of,
        count,
        since,
        sequence,
        size,
        payload,
    } = entry;
    object(&[
        ("digest", digest(of)),
        ("count", long(*count)),
        ("since", long(*since)),
        ("sequence", long(*sequence)),
        ("size", long(*size)),
        ("payload", payload.map_or("null".to_owned(), bytes)),
    ])
}

/// Name of the variant, and its fields as a JSON object.
pub(crate) fn client(frame: &ClientFrame<'_>) -> (&'static str, String) {
    use ClientFrame as F;
    let (name, fields) = match frame {
        F::Hello {
            version,
            producer,
            token,
            agent,
        } => (
            "Hello",
            vec![
                ("version", version.to_string()),
                ("producer", bytes(&producer.0)),
                ("token", token.map_or("null".to_owned(), text)),
                ("agent", text(agent)),
            ],
        ),
        F::Topic { alias, name } => (
            "Topic",
            vec![("alias", alias.to_string()), ("name", text(name))],
        ),
        F::Publish {
            alias,
            number,
            stamp,
            payload,
        } => (
            "Publish",
            vec![
                ("alias", alias.to_string()),
                ("number", long(*number)),
                ("stamp", long(*stamp)),
                ("payload", bytes(payload)),
            ],
        ),
        F::Begin {
            alias,
            number,
            stamp,
            size,
        } => (
            "Begin",
            vec![
                ("alias", alias.to_string()),
                ("number", long(*number)),
                ("stamp", long(*stamp)),
                ("size", long(*size)),
            ],
        ),
        F::Chunk { bytes: part } => ("Chunk", vec![("bytes", bytes(part))]),
        F::End { digest: of } => ("End", vec![("digest", digest(of))]),
        F::Subscribe {
            request,
            filter,
            start: from,
            delivery: mode,
            lag: rule,
            deadline,
        } => (
            "Subscribe",
            vec![
                ("request", request.to_string()),
                ("filter", text(filter)),
                ("start", start(from)),
                ("delivery", delivery(*mode)),
                ("lag", lag(*rule)),
                ("deadline", deadline.to_string()),
            ],
        ),
        F::Unsubscribe { subscription } => (
            "Unsubscribe",
            vec![("subscription", subscription.to_string())],
        ),
        F::Get {
            request,
            topic,
            which: one,
        } => (
            "Get",
            vec![
                ("request", request.to_string()),
                ("topic", text(topic)),
                ("which", which(one)),
            ],
        ),
        F::Top { request, topic, k } => (
            "Top",
            vec![
                ("request", request.to_string()),
                ("topic", text(topic)),
                ("k", k.to_string()),
            ],
        ),
        F::Ping { request } => ("Ping", vec![("request", request.to_string())]),
        F::Repair {
            subscription,
            topic,
            holes,
        } => (
            "Repair",
            vec![
                ("subscription", subscription.to_string()),
                ("topic", long(*topic)),
                (
                    "holes",
                    list(holes, |(a, b)| format!("[{}, {}]", long(*a), long(*b))),
                ),
            ],
        ),
        F::Goodbye { code, reason } => (
            "Goodbye",
            vec![("code", code.0.to_string()), ("reason", text(reason))],
        ),
    };
    (name, object(&fields))
}

/// Name of the variant, and its fields as a JSON object.
pub(crate) fn daemon(frame: &DaemonFrame<'_>) -> (&'static str, String) {
    use DaemonFrame as F;
    let (name, fields) = match frame {
        F::Welcome {
            version,
            session,
            run,
            clock,
            limits: most,
            agent,
        } => (
            "Welcome",
            vec![
                ("version", version.to_string()),
                ("session", long(*session)),
                ("run", long(*run)),
                ("clock", long(*clock)),
                ("limits", limits(most)),
                ("agent", text(agent)),
            ],
        ),
        F::For { request } => ("For", vec![("request", request.to_string())]),
        F::Topic {
            id,
            epoch,
            next,
            name,
        } => (
            "Topic",
            vec![
                ("id", long(*id)),
                ("epoch", long(*epoch)),
                ("next", long(*next)),
                ("name", text(name)),
            ],
        ),
        F::Message {
            topic,
            sequence,
            count,
            stamp,
            payload,
        } => (
            "Message",
            vec![
                ("topic", long(*topic)),
                ("sequence", long(*sequence)),
                ("count", long(*count)),
                ("stamp", long(*stamp)),
                ("payload", bytes(payload)),
            ],
        ),
        F::Begin {
            topic,
            sequence,
            stamp,
            size,
        } => (
            "Begin",
            vec![
                ("topic", long(*topic)),
                ("sequence", long(*sequence)),
                ("stamp", long(*stamp)),
                ("size", long(*size)),
            ],
        ),
        F::Chunk { bytes: part } => ("Chunk", vec![("bytes", bytes(part))]),
        F::End { count, digest: of } => {
            ("End", vec![("count", long(*count)), ("digest", digest(of))])
        }
        F::Abort { code } => ("Abort", vec![("code", code.0.to_string())]),
        F::Gap {
            topic,
            first,
            last,
            cause: why,
        } => (
            "Gap",
            vec![
                ("topic", long(*topic)),
                ("first", long(*first)),
                ("last", long(*last)),
                ("cause", cause(*why)),
            ],
        ),
        F::Head { topic, sequence } => (
            "Head",
            vec![("topic", long(*topic)), ("sequence", long(*sequence))],
        ),
        F::Receipt {
            alias,
            number,
            sequence,
            count,
            since,
            digest: of,
            duplicate,
        } => (
            "Receipt",
            vec![
                ("alias", alias.to_string()),
                ("number", long(*number)),
                ("sequence", long(*sequence)),
                ("count", long(*count)),
                ("since", long(*since)),
                ("digest", digest(of)),
                ("duplicate", duplicate.to_string()),
            ],
        ),
        F::Acknowledge { alias, floor, seen } => (
            "Acknowledge",
            vec![
                ("alias", alias.to_string()),
                ("floor", long(*floor)),
                ("seen", long(*seen)),
            ],
        ),
        F::Rejected {
            alias,
            number,
            code,
            reason,
        } => (
            "Rejected",
            vec![
                ("alias", alias.to_string()),
                ("number", long(*number)),
                ("code", code.0.to_string()),
                ("reason", text(reason)),
            ],
        ),
        F::Subscribed { request, position } => (
            "Subscribed",
            vec![
                ("request", request.to_string()),
                ("position", long(*position)),
            ],
        ),
        F::Ended {
            request,
            code,
            reason,
        } => (
            "Ended",
            vec![
                ("request", request.to_string()),
                ("code", code.0.to_string()),
                ("reason", text(reason)),
            ],
        ),
        F::Top { request, entries } => (
            "Top",
            vec![
                ("request", request.to_string()),
                ("entries", list(entries, entry)),
            ],
        ),
        F::Pong { request, clock } => (
            "Pong",
            vec![("request", request.to_string()), ("clock", long(*clock))],
        ),
        F::Failed {
            request,
            code,
            reason,
        } => (
            "Failed",
            vec![
                ("request", request.to_string()),
                ("code", code.0.to_string()),
                ("reason", text(reason)),
            ],
        ),
        F::Drain { within, reason } => (
            "Drain",
            vec![("within", within.to_string()), ("reason", text(reason))],
        ),
        F::Goodbye {
            code,
            reason,
            retry,
        } => (
            "Goodbye",
            vec![
                ("code", code.0.to_string()),
                ("reason", text(reason)),
                ("retry", retry.to_string()),
            ],
        ),
    };
    (name, object(&fields))
}
