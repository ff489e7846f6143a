//! Spans of sessions and of HTTP requests, on their way to the task that exports them.
//!
//! There is one for each session and each request, and none for a message. The queue is bounded, and
//! nobody waits for it: a span that finds no room is dropped and counted.

#[cfg(feature = "otel")]
use std::net::SocketAddr;
#[cfg(feature = "otel")]
use std::time::Instant;
#[cfg(feature = "otel")]
use tokio::sync::mpsc;

/// Maximum number of spans that wait to be exported.
#[cfg(feature = "otel")]
const WAITING: usize = 1024;

/// The parent of a span, in another program: `traceparent` (W3C Trace Context, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parent {
    /// The number of the trace, not 0.
    pub(crate) trace: u128,
    /// The number of the span, not 0.
    pub(crate) span: u64,
    /// Whether the other program records its spans of the trace.
    pub(crate) sampled: bool,
}

impl Parent {
    /// Parses the value of the header. Versions above 00 may have more fields, which are left out.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        const LENGTH: usize = 55;
        let fields = value.get(..LENGTH)?;
        let [version, trace, span, flags] =
            [(0, 2), (3, 32), (36, 16), (53, 2)].map(|(at, length)| hex(&fields[at..at + length]));
        let dashes = [2, 35, 52].iter().all(|at| fields[*at] == b'-');
        let ends = match version? {
            0 => value.len() == LENGTH,
            0xff => false,
            _ => value.get(LENGTH).is_none_or(|next| *next == b'-'),
        };
        let parent = Self { trace: trace?, span: span? as u64, sampled: flags? & 1 == 1 };
        (dashes && ends && parent.trace != 0 && parent.span != 0).then_some(parent)
    }
}

// Capital letters are not allowed.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Some(number << 4 | u128::from(digit - b'a' + 10)),
        _ => None,
    })
}

/// Something that has ended.
#[cfg(feature = "otel")]
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) parent: Option<Parent>,
    pub(crate) of: SpanOf,
}

/// The session or the request that has ended.
#[cfg(feature = "otel")]
#[derive(Debug)]
pub(crate) enum SpanOf {
    Session(Box<SessionSpan>),
    Request(RequestSpan),
}

/// A session. The log has a line with the same.
#[cfg(feature = "otel")]
#[derive(Debug)]
pub(crate) struct SessionSpan {
    pub(crate) id: u64,
    /// Its transport, as in the log.
    pub(crate) transport: String,
    /// The transport below, as OpenTelemetry calls it: `quic` or `tcp`.
    pub(crate) network: &'static str,
    pub(crate) peer: SocketAddr,
    /// The name of its identity.
    pub(crate) name: Option<String>,
    /// The name of the code with which it has ended, and the reason.
    pub(crate) code: &'static str,
    pub(crate) reason: String,
    /// Messages and bytes of publications that were accepted.
    pub(crate) received: (u64, u64),
    /// Messages and bytes that were read for its subscriptions.
    pub(crate) delivered: (u64, u64),
}

/// A request over HTTP, without its path, which has the name of a topic.
#[cfg(feature = "otel")]
#[derive(Debug)]
pub(crate) struct RequestSpan {
    /// None for a method that is not one of HTTP.
    pub(crate) method: Option<&'static str>,
    /// The template of the path, if there is one.
    pub(crate) route: Option<String>,
    /// None if the client left before the answer began.
    pub(crate) status: Option<u16>,
}

/// The part of the traces without a parent that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ratio(u32);

impl Ratio {
    /// Returns the ratio, if it is from 0 to 1.
    #[expect(clippy::cast_sign_loss, reason = "it is not negative")]
    pub(crate) fn new(ratio: f64) -> Option<Self> {
        let part = (ratio * f64::from(u32::MAX)).round();
        (0.0..=1.0).contains(&ratio).then_some(Self(part as u32))
    }

    /// Whether a trace is recorded, for a random number.
    fn includes(self, random: u32) -> bool {
        self.0 == u32::MAX || random < self.0
    }
}

/// The queue for the spans of sessions and requests.
#[cfg(feature = "otel")]
#[derive(Debug)]
pub(crate) struct Spans {
    queue: mpsc::Sender<Span>,
    ratio: Ratio,
}

#[cfg(feature = "otel")]
impl Spans {
    /// Returns it, and its other end.
    pub(crate) fn new(ratio: Ratio) -> (Self, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(WAITING);
        (Self { queue, ratio }, spans)
    }

    /// Whether a span is recorded. The parent decides if there is one.
    pub(crate) fn samples(&self, parent: Option<&Parent>) -> bool {
        parent.map_or_else(|| self.ratio.includes(rand::random()), |parent| parent.sampled)
    }

    /// Leaves a span, without waiting. Returns whether it had room.
    pub(super) fn leave(&self, span: Span) -> bool {
        self.queue.try_send(span).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn a_parent_is_as_w3c_describes_it() {
        let parent = Parent::parse(format!("00-{TRACE}-{SPAN}-01").as_bytes()).unwrap();
        let expected = (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3331, true);
        assert_eq!((parent.trace, parent.span, parent.sampled), expected);
        let sampled = |flags: &str| {
            Parent::parse(format!("00-{TRACE}-{SPAN}-{flags}").as_bytes()).unwrap().sampled
        };
        assert!(!sampled("00") && sampled("03") && !sampled("02"));
        // A later version.
        assert_eq!(Parent::parse(format!("01-{TRACE}-{SPAN}-01").as_bytes()), Some(parent));
        assert_eq!(Parent::parse(format!("cc-{TRACE}-{SPAN}-01-x").as_bytes()), Some(parent));
    }

    #[test]
    fn everything_else_is_no_parent() {
        let (no_trace, no_span) = ("0".repeat(32), "0".repeat(16));
        for value in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01x"),
            format!("01-{TRACE}-{SPAN}-01x"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}_{SPAN}-01"),
            format!("00-{no_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{no_span}-01"),
            format!("00-{TRACE}-{SPAN}-01é"),
        ] {
            assert_eq!(Parent::parse(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn a_ratio_is_a_part_of_all() {
        let of = |ratio| Ratio::new(ratio).unwrap();
        assert!(!of(0.0).includes(0) && of(1.0).includes(u32::MAX));
        assert!(of(0.25).includes(1 << 29) && !of(0.25).includes(1 << 31));
        for wrong in [-0.1, 1.01, f64::NAN, f64::INFINITY] {
            assert_eq!(Ratio::new(wrong), None, "{wrong}");
        }
    }
}
