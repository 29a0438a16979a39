//! The chart: for each case a bar of the peer's cycles and one of ours, as SVG.
//!
//! The scale is logarithmic, so that one case that costs hundreds of times another hides nothing: the same distance is
//! the same ratio everywhere. The picture has a ground of its own, light or dark as the reader's system is.

use std::fmt::Write;

use super::results::{Both, Results};

const WIDTH: f64 = 880.0;
/// Where bars begin and may end.
const LEFT: f64 = 230.0;
const RIGHT: f64 = 760.0;
/// Where the first heading is, below title, legend and the scale's numbers.
const TOP: f64 = 128.0;
const HEADING: f64 = 30.0;
const ROW: f64 = 30.0;
const BAR: f64 = 10.0;

const STYLE: &str = "\
text { font-family: system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; font-size: 12px; fill: #1f2328 }
.ground { fill: #ffffff; stroke: #d1d9e0 }
.title { font-size: 18px; font-weight: 600 }
.heading { font-weight: 600 }
.small { font-size: 11px; fill: #59636e }
.line { stroke: #d1d9e0 }
.peer { fill: #8c959f }
.ours { fill: #d4561e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.ground { fill: #0d1117; stroke: #3d444d }
.small { fill: #9198a1 }
.line { stroke: #3d444d }
.peer { fill: #768390 }
.ours { fill: #f0703a }
}
";

/// A logarithmic scale between two round numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    /// One that has room for all; bars begin below the least of them, so that each is seen.
    fn of(values: &[f64]) -> Scale {
        let all = || values.iter().copied().filter(|v| *v > 0.0);
        let (least, most) = (
            all().fold(f64::INFINITY, f64::min),
            all().fold(0.0, f64::max),
        );
        if most == 0.0 {
            return Scale {
                least: 1.0,
                most: 10.0,
            };
        }
        let below = |x: f64| steps().rfind(|step| *step < x / 1.1).unwrap_or(1.0);
        let above = |x: f64| steps().find(|step| *step >= x).unwrap_or(x);
        Scale {
            least: below(least),
            most: above(most),
        }
    }

    /// Where on the picture a number is.
    fn x(&self, value: f64) -> f64 {
        let share = (value / self.least).ln() / (self.most / self.least).ln();
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    /// The round numbers from end to end.
    fn ticks(self) -> impl Iterator<Item = f64> {
        steps().filter(move |step| (self.least..=self.most).contains(step))
    }
}

/// 1, 2, 5, 10, 20 and so on.
fn steps() -> impl DoubleEndedIterator<Item = f64> {
    (0..10).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(power)))
}

/// The picture of these results.
pub fn svg(results: &Results) -> String {
    let groups = results.groups();
    let rows = || groups.iter().flat_map(|(_, rows)| rows);
    let values: Vec<f64> = rows()
        .flat_map(|(_, both)| [both.peer.median(), both.ours.median()])
        .flatten()
        .collect();
    let scale = Scale::of(&values);
    let bottom = TOP + HEADING * groups.len() as f64 + ROW * rows().count() as f64;
    let height = bottom + 24.0;

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>Cycles a packet, case by case</title>\n\
         <style>\n{STYLE}</style>\n\
         <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n",
        WIDTH - 1.0,
        height - 1.0
    );
    heading(&mut out, results);
    for tick in scale.ticks() {
        let x = scale.x(tick);
        _ = writeln!(
            out,
            "<line class=\"line\" x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>",
            TOP - 4.0
        );
        text(
            &mut out,
            (x, TOP - 10.0),
            "small\" text-anchor=\"middle",
            &grouped(tick),
        );
    }
    let has_peer = results.peer.is_some();
    if has_peer {
        text(
            &mut out,
            (WIDTH - 20.0, TOP - 10.0),
            "small\" text-anchor=\"end",
            "ours / peer",
        );
    }
    let mut y = TOP;
    for (name, rows) in &groups {
        text(&mut out, (20.0, y + 20.0), "heading", name);
        y += HEADING;
        for (name, both) in rows {
            row(&mut out, y, name, both, &scale);
            y += ROW;
        }
    }
    out + "</svg>\n"
}

/// Title, legend and what the scale is.
fn heading(out: &mut String, results: &Results) {
    text(
        out,
        (20.0, 32.0),
        "title",
        "Cycles a packet on one polling thread",
    );
    let rounds = results.rounds;
    let medians = format!("{}; medians of {rounds} rounds", results.processor);
    text(out, (20.0, 52.0), "small", &medians);
    let unit = "64-byte frames, source and sink included; logarithmic scale, shorter is better";
    text(out, (20.0, 70.0), "small", unit);
    let sides = [
        ("peer", results.peer.as_ref()),
        ("ours", Some(&results.ours)),
    ];
    let mut x = 20.0;
    for (class, name) in sides {
        let Some(name) = name else { continue };
        _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{x}\" y=\"82\" width=\"12\" height=\"12\" rx=\"2\"/>"
        );
        text(out, (x + 18.0, 92.0), "", name);
        x += 250.0;
    }
}

/// A case: its name, its bars with their numbers, and the ratio.
fn row(out: &mut String, y: f64, name: &str, both: &Both, scale: &Scale) {
    let middle = y + BAR + 4.0;
    text(out, (LEFT - 10.0, middle), "\" text-anchor=\"end", name);
    let bars = [("peer", both.peer.median()), ("ours", both.ours.median())];
    for (i, (class, value)) in bars.into_iter().enumerate() {
        let Some(value) = value else { continue };
        let (top, width) = (y + i as f64 * (BAR + 1.0), scale.x(value) - LEFT);
        _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR}\"/>"
        );
        let at = (LEFT + width + 5.0, top + BAR - 1.0);
        text(out, at, "small", &grouped(value.round()));
    }
    if let Some(ratio) = both.ratio() {
        text(
            out,
            (WIDTH - 20.0, middle),
            "\" text-anchor=\"end",
            &super::results::share(ratio),
        );
    }
}

/// A text at a place; `class` may go on with other attributes.
fn text(out: &mut String, (x, y): (f64, f64), class: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
    );
}

/// A whole number with its thousands apart.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::race::results::Rounds;

    #[test]
    fn the_scale_has_room_for_all_between_round_numbers() {
        let scale = Scale::of(&[60.0, 300.0, 31_105.0]);
        assert_eq!(
            scale,
            Scale {
                least: 50.0,
                most: 50_000.0
            }
        );
        assert!(scale.x(60.0) > LEFT && scale.x(31_105.0) < RIGHT);
        // The same ratio is the same distance.
        let distance = |a: f64, b: f64| scale.x(b) - scale.x(a);
        assert!((distance(100.0, 200.0) - distance(1_000.0, 2_000.0)).abs() < 1e-9);
        let ticks: Vec<f64> = scale.ticks().take(4).collect();
        assert_eq!(ticks, [50.0, 100.0, 200.0, 500.0]);
        // The least bar is seen even where it lies on a round number; without numbers there is a scale all the same.
        assert_eq!(
            Scale::of(&[50.0]),
            Scale {
                least: 20.0,
                most: 50.0
            }
        );
        assert!(Scale::of(&[]).x(5.0).is_finite());
    }

    #[test]
    fn thousands_are_apart() {
        let all = [0.0, 999.0, 1_000.0, 1_234_567.0].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn each_case_has_its_bars() {
        let mut results = Results::new(Some("A & B".to_owned()), "Ferrovs".to_owned(), 1);
        let bars = |results: &Results, class: &str| {
            svg(results)
                .matches(&format!("<rect class=\"{class}\" x=\"{LEFT}\""))
                .count()
        };
        let both = Both {
            peer: Rounds(vec![90.0]),
            ours: Rounds(vec![60.0]),
        };
        results.cases.insert("drop".to_owned(), both);
        assert_eq!((bars(&results, "peer"), bars(&results, "ours")), (1, 1));
        assert!(svg(&results).contains("A &amp; B") && svg(&results).contains(">0.67<"));
        results.peer = None;
        let both = Both {
            ours: Rounds(vec![60.0]),
            ..Both::default()
        };
        results.cases.insert("drop".to_owned(), both);
        assert_eq!((bars(&results, "peer"), bars(&results, "ours")), (0, 1));
    }
}
