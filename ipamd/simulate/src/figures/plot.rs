// SPDX-License-Identifier: Apache-2.0
//! Addresses held and pods over time, as an SVG of its own: title, plot, and below it what each line is.

use std::fmt::Write as _;

use ipamd_core::BootTime;

use crate::stats::Series;

use super::Measured;

const WIDTH: f64 = 960.0;
/// Of title, plot and time axis; the legend is below.
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 20.0;
const BOTTOM: f64 = 48.0;
const TOP: f64 = 36.0;
/// A line of the legend.
const ROW: f64 = 18.0;
/// Lines of columns, told apart also without red and green.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// Columns beyond the colours have these dashes.
const DASHES: [&str; 3] = ["", " stroke-dasharray=\"8 3\"", " stroke-dasharray=\"2 3\""];
const PODS: &str = "stroke=\"#555555\" stroke-width=\"1.2\" stroke-dasharray=\"4 3\"";

/// The plot: one line a column, and the pods of the first as a dashed one.
#[must_use]
pub fn svg(title: &str, columns: &[Measured]) -> String {
    let end = columns.iter().map(|column| column.end).max().unwrap_or_default();
    let most = columns.iter().map(|column| column.stats.held.max().max(column.stats.pods.max())).max().unwrap_or(0);
    let scale = Scale { end: end.0.as_secs_f64().max(1.0), most: f64::from(most.max(1)) };
    let rows = u32::try_from(columns.len()).unwrap_or(u32::MAX).saturating_add(1);
    let height = HEIGHT + ROW * f64::from(rows) + 8.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    axes(&mut out, &scale);
    for (index, column) in columns.iter().enumerate() {
        line(&mut out, &scale, (&column.stats.held, column.end), &stroke(index));
    }
    if let Some(first) = columns.first() {
        line(&mut out, &scale, (&first.stats.pods, first.end), PODS);
    }
    legend(&mut out, columns);
    out.push_str("</svg>\n");
    out
}

fn stroke(index: usize) -> String {
    let colour = COLOURS[index % COLOURS.len()];
    let dashes = DASHES[index / COLOURS.len() % DASHES.len()];
    format!("stroke=\"{colour}\" stroke-width=\"1.6\"{dashes}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

struct Scale {
    end: f64,
    most: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.end
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / self.most
    }
}

/// The first of these steps of which at most so many are in the whole; the last when there is none.
fn step(steps: &[u32], whole: f64, most: f64) -> f64 {
    let fits = steps.iter().map(|step| f64::from(*step)).find(|step| whole / step <= most);
    fits.or(steps.last().map(|step| f64::from(*step))).unwrap_or(whole)
}

/// Numbers from zero to the whole, a step apart.
fn ticks(step: f64, whole: f64) -> impl Iterator<Item = f64> {
    (0_u32..).map(move |index| f64::from(index) * step).take_while(move |value| *value <= whole)
}

const ADDRESSES: [u32; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];
/// Seconds: from a minute to a week.
const TIMES: [u32; 13] = [60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 604_800];

// Writing to a text cannot fail.
fn axes(out: &mut String, scale: &Scale) {
    for value in ticks(step(&ADDRESSES, scale.most, 6.0), scale.most) {
        let (y, right, left) = (scale.y(value), WIDTH - RIGHT, LEFT - 6.0);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {y:.1}H{right:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{left:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
            y + 4.0
        );
    }
    let step = step(&TIMES, scale.end, 9.0);
    for seconds in ticks(step, scale.end) {
        let (x, y) = (scale.x(seconds), HEIGHT - BOTTOM);
        let text = if step < 3_600.0 { seconds / 60.0 } else { seconds / 3_600.0 };
        let _ = writeln!(
            out,
            "<path d=\"M{x:.1} {y:.1}v4\" stroke=\"#555555\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text:.0}</text>",
            y + 18.0
        );
    }
    let unit = if step < 3_600.0 { "minutes" } else { "hours" };
    let (middle, y) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - BOTTOM + 36.0);
    let _ = writeln!(
        out,
        "<text x=\"{middle:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{unit} since the node joined</text>"
    );
}

fn line(out: &mut String, scale: &Scale, (series, end): (&Series, BootTime), style: &str) {
    let mut points = String::new();
    let mut last = 0.0;
    for (at, value) in series.points() {
        let (x, y) = (scale.x(at.0.as_secs_f64()), scale.y(f64::from(*value)));
        let _ = write!(points, "{x:.1},{:.1} {x:.1},{y:.1} ", scale.y(last));
        last = f64::from(*value);
    }
    let _ = write!(points, "{:.1},{:.1}", scale.x(end.0.as_secs_f64()), scale.y(last));
    let _ = writeln!(out, "<polyline fill=\"none\" {style} points=\"{points}\"/>");
}

fn legend(out: &mut String, columns: &[Measured]) {
    let held = columns.iter().enumerate().map(|(index, it)| (format!("addresses held: {}", it.name), stroke(index)));
    let entries = held.chain([("pods with an address".to_owned(), PODS.to_owned())]);
    for (row, (name, style)) in (0_u32..).zip(entries) {
        let y = HEIGHT + ROW * f64::from(row);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {y:.1}h30\" {style}/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT + 40.0,
            y + 4.0,
            escaped(&name)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers_and_not_too_many() {
        for (most, expected) in [(1.0, 1.0), (6.0, 1.0), (90.0, 20.0), (232.0, 50.0), (3_000.0, 500.0)] {
            assert!((step(&ADDRESSES, most, 6.0) - expected).abs() < 1e-9, "{most}");
        }
        assert_eq!(ticks(20.0, 90.0).map(|value| value.to_string()).collect::<Vec<_>>().join(" "), "0 20 40 60 80");
        assert!((step(&TIMES, 21_600.0, 9.0) - 3_600.0).abs() < 1e-9);
        assert!((step(&TIMES, 1e9, 9.0) - 604_800.0).abs() < 1e-9, "a long trace has the longest step");
    }

    #[test]
    fn names_are_escaped_and_more_columns_than_colours_are_told_apart() {
        assert_eq!(escaped("a<b & c"), "a&lt;b &amp; c");
        let strokes: std::collections::BTreeSet<String> = (0..18).map(stroke).collect();
        assert_eq!(strokes.len(), 18);
    }
}
