// SPDX-License-Identifier: Apache-2.0
//! A plot as SVG: lines with their points over two axes, and a legend.
//!
//! `plotters` draws: it knows axes, ticks and text. Here are sizes, colours and ranges. Colours are Okabe's and Ito's, which people
//! with any colour vision can tell apart. The background is white: a page may be shown on black.
//!
//! Invariant: whatever points there are, none at all too, a whole picture comes out; points that no axis can show (not finite, or not
//! above zero on a logarithmic one) are left out.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;

use super::report::{Line, Plot};

const SIZE: (u32, u32) = (800, 440);
const FONT: &str = "sans-serif";
static COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(40, 40, 40),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// The points that can be shown.
fn shown(plot: &Plot, line: &Line) -> Vec<(f64, f64)> {
    let can_be = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (!plot.log_y || *y > 0.0);
    line.points.iter().copied().filter(can_be).collect()
}

/// Draws it.
///
/// # Errors
/// What `plotters` says.
pub(super) fn svg(plot: &Plot) -> Result<String, String> {
    let points: Vec<_> = plot.lines.iter().flat_map(|line| shown(plot, line)).collect();
    let bound = |value: fn(&(f64, f64)) -> f64, pick: fn(f64, f64) -> f64| points.iter().map(value).reduce(pick);
    let (least_x, most_x) =
        (bound(|point| point.0, f64::min).unwrap_or(0.0), bound(|point| point.0, f64::max).unwrap_or(1.0));
    let (least_y, most_y) =
        (bound(|point| point.1, f64::min).unwrap_or(1.0), bound(|point| point.1, f64::max).unwrap_or(1.0));
    // A range that is a point cannot be divided.
    let wide = if most_x > least_x { most_x - least_x } else { 1.0 };
    // On the right there is room for the legend.
    let x = least_x..least_x + wide * 1.25;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        if plot.log_y {
            // Ticks begin at a power of ten.
            let bottom = 10_f64.powf(least_y.log10().floor());
            draw(plot, &area, x, (bottom..most_y * 1.5).log_scale())
        } else {
            let top = if most_y > 0.0 { most_y * 1.1 } else { 1.0 };
            draw(plot, &area, x, least_y.min(0.0)..top)
        }
        .map_err(|error| format!("drawing {}: {error}", plot.name))?;
    }
    Ok(text)
}

/// `0.5`, `20`: no more digits than it has.
fn tick(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw<Y>(plot: &Plot, area: &Area<'_>, x: std::ops::Range<f64>, y: Y) -> Result<(), Box<dyn std::error::Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let failed = |error: DrawingAreaErrorKind<std::io::Error>| error.to_string();
    area.fill(&WHITE).map_err(failed)?;
    let mut chart = ChartBuilder::on(area);
    chart.caption(&plot.title, (FONT, 18)).margin(12).x_label_area_size(42).y_label_area_size(64);
    let mut chart = chart.build_cartesian_2d(x, y).map_err(failed)?;
    let (x_text, y_text) = (|x: &f64| tick(*x), |y: &f64| tick(*y));
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(&plot.x).y_desc(&plot.y).label_style((FONT, 13)).axis_desc_style((FONT, 14));
    mesh.bold_line_style(BLACK.mix(0.12)).x_max_light_lines(0).y_max_light_lines(0).x_labels(10).y_labels(10);
    mesh.x_label_formatter(&x_text).y_label_formatter(&y_text).draw().map_err(failed)?;
    for (line, colour) in plot.lines.iter().zip(COLOURS.iter().cycle()) {
        let series = LineSeries::new(shown(plot, line), colour.stroke_width(2)).point_size(4);
        let drawn = chart.draw_series(series).map_err(failed)?;
        drawn.label(&line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    let mut legend = chart.configure_series_labels();
    legend.position(SeriesLabelPosition::UpperRight).background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.3));
    legend.label_font((FONT, 13)).draw().map_err(failed)?;
    Ok(area.present().map_err(failed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(log_y: bool, points: &[(f64, f64)]) -> Plot {
        let line = |name: &str| Line { name: name.into(), points: points.to_vec() };
        let (name, title, x, y) = ("p", "a < b & \"c\"", "pods", "ms");
        let [name, title, x, y] = [name, title, x, y].map(str::to_owned);
        Plot { name, title, x, y, log_y, lines: vec![line("enid"), line("<floor>")] }
    }

    #[test]
    fn a_tick_has_no_digits_that_say_nothing() {
        assert_eq!([0.0, 0.5, 20.0, 735.0, 0.025].map(tick), ["0", "0.5", "20", "735", "0.025"]);
    }

    fn is_well_formed_with(plot: &Plot, circles: usize) {
        let svg = svg(plot).unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
        let root = document.root_element();
        assert_eq!((root.tag_name().name(), root.tag_name().namespace()), ("svg", Some("http://www.w3.org/2000/svg")));
        let texts: Vec<_> = root.descendants().filter_map(|node| node.text()).map(str::trim).collect();
        for word in ["a < b & \"c\"", "pods", "ms", "<floor>"] {
            assert!(texts.contains(&word), "no {word} among {texts:?}");
        }
        assert_eq!(
            root.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "circle"))).count(),
            circles
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_picture_is_well_formed_with_its_texts_and_points() {
        let points = [(0.0, 2.0), (110.0, 3.0), (735.0, 7.0)];
        is_well_formed_with(&plot(false, &points), 6);
        is_well_formed_with(&plot(true, &points), 6);
    }

    #[test]
    fn points_that_no_axis_can_show_are_left_out_and_the_picture_is_whole() {
        is_well_formed_with(
            &plot(true, &[(0.0, 0.0), (1.0, -1.0), (2.0, f64::NAN), (f64::INFINITY, 1.0), (3.0, 5.0)]),
            2,
        );
        is_well_formed_with(&plot(false, &[(7.0, 0.0)]), 2);
        for log_y in [false, true] {
            is_well_formed_with(&plot(log_y, &[]), 0);
            is_well_formed_with(&plot(log_y, &[(1.0, 2.0)]), 2);
        }
    }
}
