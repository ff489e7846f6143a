//! Distributions of latency as an SVG for light and dark backgrounds. They show how slow the slowest
//! in a hundred or in a thousand are. Both axes are logarithmic; x is the share that is slower.

use super::stats::Sorted;
use std::fmt::Write as _;

/// A line of the plot. Latencies are in thousandths of the unit. A yardstick is dashed.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) sorted: Sorted,
    pub(super) yardstick: bool,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 500.0;
// The edges of the area between the axes.
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 40.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = HEIGHT - 60.0;

/// Percentiles with a tick. The axis extends from the first to the last.
const TICKS: [(&str, f64); 6] =
    [("50", 0.5), ("75", 0.75), ("90", 0.9), ("99", 0.99), ("99.9", 0.999), ("99.99", 0.9999)];

/// The colours differ in lightness too, and all are visible on white and on black.
const COLOURS: [&str; 7] =
    ["#2f81f7", "#e8590c", "#2da44e", "#bf5af2", "#b08800", "#0aa2a8", "#d6336c"];

const STYLE: &str = "\
text { font-family: system-ui, sans-serif; font-size: 13px; fill: #24292f }
.title { font-size: 16px; font-weight: 600 }
.ground { fill: #ffffff }
.grid { stroke: #d0d7de; stroke-width: 1 }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .ground { fill: #0d1117 }
  .grid { stroke: #30363d }
}";

/// Returns the whole file, or `None` if there is nothing to plot.
pub(super) fn svg(title: &str, unit: &str, lines: &[Line<'_>]) -> Option<String> {
    let lines: Vec<_> = lines.iter().filter(|line| line.sorted.len() > 0).collect();
    let ends = |share| lines.iter().filter_map(move |line| line.sorted.percentile(share));
    let axis = Axis::new(ends(0.5).min()?, ends(TICKS[TICKS.len() - 1].1).max()?);
    let mut out = String::new();
    let done: std::fmt::Result = (|| {
        writeln!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">"#
        )?;
        let title = escape(title);
        writeln!(out, "<title>{title}</title>\n<style>\n{STYLE}\n</style>")?;
        writeln!(out, r#"<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="6"/>"#)?;
        let heading = "Latency from publisher to subscriber";
        writeln!(out, r#"<text class="title" x="{LEFT}" y="28">{heading}</text>"#)?;
        writeln!(out, r#"<text x="{LEFT}" y="48">{title}</text>"#)?;
        for (name, share) in TICKS {
            let x = x(share);
            writeln!(out, r#"<path class="grid" d="M{x:.1} {TOP}V{BOTTOM}"/>"#)?;
            let y = BOTTOM + 20.0;
            writeln!(out, r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{name}</text>"#)?;
        }
        for value in axis.ticks() {
            let y = axis.y(value);
            writeln!(out, r#"<path class="grid" d="M{LEFT} {y:.1}H{RIGHT}"/>"#)?;
            let (x, y) = (LEFT - 8.0, y + 4.0);
            writeln!(out, r#"<text x="{x}" y="{y:.1}" text-anchor="end">{value}</text>"#)?;
        }
        let (x, y) = (f64::midpoint(LEFT, RIGHT), BOTTOM + 44.0);
        writeln!(out, r#"<text x="{x}" y="{y}" text-anchor="middle">percentile</text>"#)?;
        let y = f64::midpoint(TOP, BOTTOM);
        let turn = format!("rotate(-90 18 {y})");
        writeln!(
            out,
            r#"<text x="18" y="{y}" text-anchor="middle" transform="{turn}">{unit}</text>"#
        )?;
        for (place, line) in lines.iter().enumerate() {
            draw(&mut out, place, line, &axis)?;
        }
        writeln!(out, "</svg>")
    })();
    done.ok().map(|()| out)
}

fn draw(out: &mut String, place: usize, line: &Line<'_>, axis: &Axis) -> std::fmt::Result {
    let colour = COLOURS[place % COLOURS.len()];
    let dash = if line.yardstick { r#" stroke-dasharray="7 4""# } else { "" };
    let mut path = String::new();
    for step in 0..=240_u32 {
        let share = share(f64::from(step) / 240.0);
        // Beyond this share there is less than one message, and the line ends.
        #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
        let beyond = (1.0 - share) * (line.sorted.len() as f64) < 1.0;
        let Some(latency) = line.sorted.percentile(share).filter(|_| !beyond) else { break };
        let command = if path.is_empty() { 'M' } else { 'L' };
        write!(path, "{command}{:.1} {:.1}", x(share), axis.y(units(latency)))?;
    }
    writeln!(out, r#"<path class="line" stroke="{colour}"{dash} d="{path}"/>"#)?;
    #[expect(clippy::cast_precision_loss, reason = "a few lines")]
    let y = TOP + 20.0 + 20.0 * place as f64;
    let (from, to, text) = (LEFT + 14.0, LEFT + 44.0, LEFT + 52.0);
    writeln!(out, r#"<path class="line" stroke="{colour}"{dash} d="M{from} {y}H{to}"/>"#)?;
    writeln!(out, r#"<text x="{text}" y="{:.1}">{}</text>"#, y + 4.5, escape(line.name))
}

// The share at a position, which is 0 at the first tick and 1 at the last.
fn share(position: f64) -> f64 {
    let (first, last) = (TICKS[0].1, TICKS[TICKS.len() - 1].1);
    let (first, last) = ((1.0 - first).log10(), (1.0 - last).log10());
    1.0 - 10_f64.powf(first + (last - first) * position)
}

fn x(share: f64) -> f64 {
    let (first, last) = (TICKS[0].1, TICKS[TICKS.len() - 1].1);
    let (first, last) = ((1.0 - first).log10(), (1.0 - last).log10());
    LEFT + (RIGHT - LEFT) * ((1.0 - share).log10() - first) / (last - first)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn units(thousandths: u64) -> f64 {
    thousandths.max(1) as f64 / 1e3
}

/// The axis of latency, logarithmic.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// Creates an axis that extends a little beyond these values.
    fn new(low: u64, high: u64) -> Self {
        Self { low: units(low) / 1.2, high: units(high) * 1.2 }
    }

    fn y(&self, value: f64) -> f64 {
        let position = (value / self.low).log10() / (self.high / self.low).log10();
        BOTTOM - (BOTTOM - TOP) * position
    }

    /// Returns round values: 1, 2 and 5 times each power of ten, or more if those are fewer than four.
    fn ticks(&self) -> Vec<f64> {
        let within = |steps: &[f64]| -> Vec<f64> {
            let powers = (-4..6).map(|power| 10_f64.powi(power));
            let all = powers.flat_map(|power| steps.iter().map(move |step| step * power));
            let all = all.map(|value| (value * 1e6).round() / 1e6);
            all.filter(|value| (self.low..=self.high).contains(value)).collect()
        };
        let few = within(&[1.0, 2.0, 5.0]);
        if few.len() > 3 { few } else { within(&[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0]) }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_goes_by_the_share_that_is_worse() {
        assert!((share(0.0) - 0.5).abs() < 1e-9 && (share(1.0) - 0.9999).abs() < 1e-9);
        assert!((x(0.5) - LEFT).abs() < 1e-9 && (x(0.9999) - RIGHT).abs() < 1e-9);
        // Each nine takes the same room.
        assert!((x(0.99) - x(0.9) - (x(0.999) - x(0.99))).abs() < 1e-9);
    }

    #[test]
    fn names_and_titles_are_escaped_and_lines_end_with_their_messages() {
        let line =
            |n| Line { name: "a<b", sorted: Sorted::new((1..=n).collect()), yardstick: true };
        let svg = svg("x & y", "ms", &[line(100), line(0), line(100_000)]).unwrap();
        assert_eq!(svg.matches("a&lt;b").count(), 2);
        assert_eq!(svg.matches("x &amp; y").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(super::svg("", "ms", &[line(0)]).is_none());
    }
}
