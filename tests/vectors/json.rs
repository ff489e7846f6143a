//! Frames as JSON. A u64 is a decimal string, because JavaScript cannot hold it as a number. Bytes
//! are hexadecimal, enums `"Variant"` or `{"Variant": …}`. Fields have their order on the wire.

use std::fmt::Write as _;
use weir::wire::{
    ClientFrame, Code, DaemonFrame, Delivery, Digest, GapCause, Had, Lag, Limits, Position,
    ProducerId, Resume, Start, TopEntry, Which,
};

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a String takes everything");
    }
    out
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "an odd number of hex digits: {text}");
    let digit = |c: u8| char::from(c).to_digit(16).expect("a hex digit");
    let byte = |pair: &[u8]| (digit(pair[0]) * 16 + digit(pair[1])) as u8;
    text.as_bytes().chunks(2).map(byte).collect()
}

trait Json {
    fn json(&self) -> String;
}

// Types whose JSON is one expression.
macro_rules! json {
    ($($kind:ty: |$value:ident| $json:expr;)*) => {
        $(impl Json for $kind {
            fn json(&self) -> String {
                let $value = self;
                $json
            }
        })*
    };
}

json! {
    u32: |number| number.to_string();
    u64: |number| format!("\"{number}\"");
    bool: |truth| truth.to_string();
    Code: |code| code.0.json();
    &str: |text| serde_json::to_string(text).expect("a string is JSON");
    &[u8]: |bytes| format!("\"{}\"", hex(bytes));
    Digest: |digest| (&digest.0[..]).json();
    ProducerId: |producer| (&producer.0[..]).json();
    (u64, u64): |pair| format!("[{}, {}]", pair.0.json(), pair.1.json());
}

impl<T: Json> Json for Option<T> {
    fn json(&self) -> String {
        self.as_ref().map_or("null".to_owned(), Json::json)
    }
}

impl<T: Json> Json for Vec<T> {
    fn json(&self) -> String {
        let items: Vec<_> = self.iter().map(Json::json).collect();
        format!("[{}]", items.join(", "))
    }
}

fn object(fields: &[(&str, String)]) -> String {
    let field = |(key, value): &(&str, String)| format!("\"{key}\": {value}");
    let fields: Vec<_> = fields.iter().map(field).collect();
    format!("{{{}}}", fields.join(", "))
}

macro_rules! structs {
    ($($kind:ty { $($field:ident),* })*) => {
        $(impl Json for $kind {
            fn json(&self) -> String {
                object(&[$((stringify!($field), self.$field.json())),*])
            }
        })*
    };
}

structs! {
    Limits { payload, subscriptions, window }
    Position { run, position }
    Resume<'_> { topic, epoch, next }
    Had { topic, ranges }
    TopEntry<'_> { digest, count, since, sequence, size, payload }
}

fn variant(name: &str, fields: &str) -> String {
    object(&[(name, fields.to_owned())])
}

json! {
    Start<'_>: |start| match start {
        Start::New => "New".json(),
        Start::Latest => "Latest".json(),
        Start::All => "All".json(),
        Start::Last(n) => variant("Last", &n.json()),
        Start::Sequence(n) => variant("Sequence", &n.json()),
        Start::Resume { since, topics } => {
            let fields = [("since", since.json()), ("topics", topics.json())];
            variant("Resume", &object(&fields))
        }
        Start::ResumeWith { since, topics, had } => {
            let fields =
                [("since", since.json()), ("topics", topics.json()), ("had", had.json())];
            variant("ResumeWith", &object(&fields))
        }
    };
    Delivery: |delivery| match delivery {
        Delivery::Ordered => "Ordered".json(),
        Delivery::Unordered => "Unordered".json(),
        Delivery::Realtime => "Realtime".json(),
    };
    Lag: |lag| match lag {
        Lag::Oldest => "Oldest".json(),
        Lag::Newest => "Newest".json(),
        Lag::Disconnect => "Disconnect".json(),
    };
    GapCause: |cause| match cause {
        GapCause::Evicted => "Evicted".json(),
        GapCause::Skipped => "Skipped".json(),
        GapCause::Lost => "Lost".json(),
        GapCause::Aborted => "Aborted".json(),
        GapCause::Late => "Late".json(),
        GapCause::Had => "Had".json(),
        GapCause::Expired => "Expired".json(),
        GapCause::Unknown(index) => panic!("no name has the cause {index}"),
    };
    Which: |which| match which {
        Which::Latest => "Latest".json(),
        Which::Sequence(n) => variant("Sequence", &n.json()),
        Which::Digest(digest) => variant("Digest", &digest.json()),
    };
}

// The `match` names every variant and every field: it does not compile if one is missing.
macro_rules! frames {
    ($frame:ident: $kind:ident { $($variant:ident { $($field:ident),* })* }) => {
        match $frame {
            $($kind::$variant { $($field),* } => (
                stringify!($variant),
                object(&[$((stringify!($field), $field.json())),*]),
            ),)*
        }
    };
}

/// Name of the variant, and its fields as a JSON object.
pub(crate) fn client(frame: &ClientFrame<'_>) -> (&'static str, String) {
    frames! { frame: ClientFrame {
        Hello { version, producer, token, agent }
        Topic { alias, name }
        Publish { alias, number, stamp, payload }
        Begin { alias, number, stamp, size }
        Chunk { bytes }
        End { digest }
        Subscribe { request, filter, start, delivery, lag, deadline }
        Unsubscribe { subscription }
        Get { request, topic, which }
        Top { request, topic, k }
        Ping { request }
        Repair { subscription, topic, holes }
        Goodbye { code, reason }
        Knows { frames }
        Token { request, token }
    }}
}

/// Name of the variant, and its fields as a JSON object.
pub(crate) fn daemon(frame: &DaemonFrame<'_>) -> (&'static str, String) {
    frames! { frame: DaemonFrame {
        Welcome { version, session, run, clock, limits, agent }
        For { request }
        Topic { id, epoch, next, name }
        Message { topic, sequence, count, stamp, payload }
        Begin { topic, sequence, stamp, size }
        Chunk { bytes }
        End { count, digest }
        Abort { code }
        Gap { topic, first, last, cause }
        Head { topic, sequence }
        Receipt { alias, number, sequence, count, since, digest, duplicate }
        Acknowledge { alias, floor, seen }
        Rejected { alias, number, code, reason }
        Subscribed { request, position }
        Ended { request, code, reason }
        Top { request, entries }
        Pong { request, clock }
        Failed { request, code, reason }
        Drain { within, reason }
        Goodbye { code, reason, retry }
        Mark { position }
        Notice { code, reason }
        Authorized { request, lifetime, name }
    }}
}
