// SPDX-License-Identifier: Apache-2.0
//! Addresses held and pods over time, as an SVG of its own.

use std::fmt::Write as _;

use ipamd_core::BootTime;

use crate::stats::Series;

use super::Measured;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 20.0;
/// Lines of columns, told apart also without red and green.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const PODS: &str = "#555555";

/// The plot: one line a column, and the pods of the first as a dashed one.
#[must_use]
pub fn svg(columns: &[Measured]) -> String {
    let end = columns.iter().map(|column| column.end).max().unwrap_or_default();
    let most = columns.iter().map(|column| column.stats.held.max().max(column.stats.pods.max())).max().unwrap_or(0);
    let scale = Scale { end: end.0.as_secs_f64().max(1.0), most: f64::from(most.max(1)) };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    axes(&mut out, &scale);
    for (column, colour) in columns.iter().zip(COLOURS.iter().cycle()) {
        line(&mut out, &scale, (&column.stats.held, column.end), &format!("stroke=\"{colour}\" stroke-width=\"1.6\""));
    }
    if let Some(first) = columns.first() {
        let style = format!("stroke=\"{PODS}\" stroke-width=\"1.2\" stroke-dasharray=\"4 3\"");
        line(&mut out, &scale, (&first.stats.pods, first.end), &style);
    }
    legend(&mut out, columns);
    out.push_str("</svg>\n");
    out
}

struct Scale {
    end: f64,
    most: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - 20.0) * seconds / self.end
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / self.most
    }
}

// Writing to a text cannot fail.
fn axes(out: &mut String, scale: &Scale) {
    for part in 0..=4 {
        let value = scale.most * f64::from(part) / 4.0;
        let y = scale.y(value);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"#dddddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
            WIDTH - 20.0,
            LEFT - 6.0,
            y + 4.0
        );
        let seconds = scale.end * f64::from(part) / 4.0;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.1} h</text>",
            scale.x(seconds),
            HEIGHT - BOTTOM + 18.0,
            seconds / 3_600.0
        );
    }
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
    let names = columns.iter().map(|column| format!("held: {}", column.name));
    let entries = names.zip(COLOURS.iter().cycle().copied()).chain([("pods".to_owned(), PODS)]);
    for (index, (name, colour)) in (0_u32..).zip(entries) {
        let y = TOP + 14.0 + 16.0 * f64::from(index);
        let name = name.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{name}</text>", LEFT + 12.0);
    }
}
