//! A picture of where two models part.

use std::fmt::Write;

use coreml_format::printable_name;

use super::OperationDifference;
use crate::page::escaped;

/// The picture's size, and the room around the plot.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 60.0;

/// Errors below this power of ten are drawn there, as those are of what is the same.
const LOWEST: i32 = -9;
/// The power of ten at the top, where what can't be measured is drawn as well.
const HIGHEST: i32 = 1;

/// Colours of what is within the tolerance, of what is not, and of lines and words.
const WITHIN: &str = "#2b6cb0";
const APART: &str = "#c53030";
const LINES: &str = "#d9dde3";
const WORDS: &str = "#4a5568";

/// The text of an SVG picture of operations' errors in the order in which they run, on a scale of powers of
/// ten with the decibels of signal to noise beside it. Those that are not within `tolerance` are red, and
/// the first of them, where the two models part, is named. A triangle at the top stands for NaN, infinities
/// and results that can't be compared. Pointing at a mark shows what it is.
pub fn plot_operations(title: &str, operations: &[OperationDifference], tolerance: f64) -> String {
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = draw(&mut svg, title, operations, tolerance);
    svg
}

fn draw(
    svg: &mut String,
    title: &str,
    operations: &[OperationDifference],
    tolerance: f64,
) -> std::fmt::Result {
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="{WORDS}">
<rect width="100%" height="100%" fill="white"/>
<text x="{LEFT}" y="24" font-size="15" fill="#1a202c">{}</text>"##,
        escaped(title)
    )?;
    scale(svg)?;
    let parting = operations.iter().position(|of| !of.is_within(tolerance));
    words(svg, operations, parting)?;
    if tolerance > 0.0 {
        let y = height(tolerance);
        let end = WIDTH - RIGHT;
        writeln!(
            svg,
            r#"<line x1="{LEFT}" x2="{end}" y1="{y:.1}" y2="{y:.1}" stroke="{WORDS}" stroke-dasharray="6 4"/>
<text x="{:.1}" y="{:.1}">tolerance {tolerance}</text>"#,
            LEFT + 6.0,
            y - 5.0
        )?;
    }
    if let Some(index) = parting {
        let x = place(index, operations.len());
        let bottom = HEIGHT - BOTTOM;
        writeln!(
            svg,
            r#"<line x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{bottom}" stroke="{APART}" stroke-opacity="0.4"/>"#
        )?;
    }
    for (index, of) in operations.iter().enumerate() {
        mark(svg, place(index, operations.len()), of, of.is_within(tolerance))?;
    }
    writeln!(svg, "</svg>")
}

/// Lines at the powers of ten, with their names on the left and decibels on the right.
fn scale(svg: &mut String) -> std::fmt::Result {
    let end = WIDTH - RIGHT;
    for power in LOWEST..=HIGHEST {
        let y = height(10f64.powi(power));
        let (name, sign) = match power {
            LOWEST => ("0".to_owned(), "≥ "),
            power => (format!("1e{power}"), ""),
        };
        writeln!(
            svg,
            r#"<line x1="{LEFT}" x2="{end}" y1="{y:.1}" y2="{y:.1}" stroke="{LINES}"/>
<text x="{:.1}" y="{:.1}" text-anchor="end">{name}</text><text x="{:.1}" y="{:.1}">{sign}{} dB</text>"#,
            LEFT - 8.0,
            y + 4.0,
            end + 8.0,
            y + 4.0,
            -20 * power
        )?;
    }
    let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
    writeln!(
        svg,
        r#"<text transform="translate(18 {middle:.1}) rotate(-90)" text-anchor="middle">error, as a part of the size</text>"#
    )
}

/// What stands above and below the plot.
fn words(
    svg: &mut String,
    operations: &[OperationDifference],
    parting: Option<usize>,
) -> std::fmt::Result {
    let (verdict, color) = match parting.and_then(|index| operations.get(index)) {
        Some(of) => (format!("They part at {}: {}", name(of), how(of)), APART),
        None => ("All results are within the tolerance".to_owned(), WITHIN),
    };
    writeln!(svg, r#"<text x="{LEFT}" y="46" fill="{color}">{}</text>"#, escaped(&verdict))?;
    let y = HEIGHT - BOTTOM + 24.0;
    let (first, last) = (operations.first(), operations.last());
    let (first, last) = (first.map_or_else(String::new, name), last.map_or_else(String::new, name));
    writeln!(
        svg,
        r#"<text x="{LEFT}" y="{y}">{}</text>
<text x="{}" y="{y}" text-anchor="end">{}</text>
<text x="{}" y="{}" text-anchor="middle">{} results of operations, in the order in which they run</text>"#,
        escaped(&first),
        WIDTH - RIGHT,
        escaped(&last),
        WIDTH / 2.0,
        y + 20.0,
        operations.len()
    )
}

/// One result.
fn mark(svg: &mut String, x: f64, of: &OperationDifference, within: bool) -> std::fmt::Result {
    let color = if within { WITHIN } else { APART };
    let title = escaped(&format!("{}: {}", name(of), how(of)));
    match error(of) {
        Some(error) => {
            let y = height(error);
            writeln!(
                svg,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{color}"><title>{title}</title></circle>"#
            )
        }
        None => writeln!(
            svg,
            r#"<path d="M{x:.1} {TOP} l-5 -9 h10 z" fill="{color}"><title>{title}</title></path>"#
        ),
    }
}

/// The error, where one can be drawn.
fn error(of: &OperationDifference) -> Option<f64> {
    let difference = of.difference?;
    let measured = difference.nan == 0 && difference.infinite == 0 && difference.error.is_finite();
    measured.then_some(difference.error)
}

/// An operation's name for people, shortened where it is long.
fn name(of: &OperationDifference) -> String {
    const MOST: usize = 60;
    let name = printable_name(&of.operation).into_owned();
    let name = match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name,
    };
    let time = if of.time > 0 { format!(", time {}", of.time + 1) } else { String::new() };
    format!("{name} ({}{time})", printable_name(&of.operator))
}

fn how(of: &OperationDifference) -> String {
    match &of.difference {
        None => "another number of elements".to_owned(),
        Some(of) if of.nan + of.infinite > 0 => {
            format!("{} NaN and {} infinite of {} elements", of.nan, of.infinite, of.elements)
        }
        Some(of) => format!("error {:.1e}, {:.1} dB", of.error, of.signal_to_noise()),
    }
}

/// Where the operation of this number stands.
fn place(index: usize, count: usize) -> f64 {
    let room = WIDTH - LEFT - RIGHT;
    LEFT + room * (index as f64 + 0.5) / count.max(1) as f64
}

/// At which height an error stands.
fn height(error: f64) -> f64 {
    let (lowest, highest) = (f64::from(LOWEST), f64::from(HIGHEST));
    let power = error.max(f64::MIN_POSITIVE).log10().clamp(lowest, highest);
    TOP + (HEIGHT - TOP - BOTTOM) * (highest - power) / (highest - lowest)
}

#[cfg(test)]
mod tests {
    use coreml_engine::Difference;

    use super::*;

    fn operation(name: &str, values: &[f32]) -> OperationDifference {
        OperationDifference {
            operation: name.to_owned(),
            operator: "mul".to_owned(),
            output: name.to_owned(),
            path: Vec::new(),
            time: 0,
            difference: Difference::between(values, &[1.0, 1.0]),
        }
    }

    /// The errors are 0, 1e-4, 0.1, and one that is no number.
    #[test]
    fn marks_stand_where_the_errors_are() {
        let operations = [
            operation("same", &[1.0, 1.0]),
            operation("near", &[1.0001, 0.9999]),
            operation("<far>", &[1.1, 0.9]),
            operation("broken", &[f32::NAN, 1.0]),
            operation("longer", &[1.0]),
        ];
        let svg = plot_operations("a & b", &operations, 0.01);
        let marks: Vec<&str> = svg.lines().filter(|line| line.contains("<title>")).collect();
        let attribute = |line: &str, name: &str| -> f64 {
            let start = line.find(name).unwrap() + name.len();
            line[start..].split('"').next().unwrap().parse().unwrap()
        };
        let heights: Vec<f64> = marks[..3].iter().map(|line| attribute(line, "cy=\"")).collect();
        // A power of ten is a tenth of the plot's 310 points; 10 is at its top, at 70.
        for (got, expected) in heights.iter().zip([380.0, 70.0 + 31.0 * 5.0, 70.0 + 31.0 * 2.0]) {
            assert!((got - expected).abs() < 0.2, "{heights:?}");
        }
        let reds: Vec<bool> = marks.iter().map(|line| line.contains(APART)).collect();
        assert_eq!(reds, [false, false, true, true, true]);
        assert!(marks[3].contains("1 NaN") && marks[3].starts_with("<path"), "{}", marks[3]);
        assert!(marks[4].contains("another number of elements"), "{}", marks[4]);
        assert!(svg.contains("They part at &lt;far&gt; (mul): error 1.0e-1, 20.0 dB"), "{svg}");
        assert!(svg.contains(">a &amp; b<") && !svg.contains("<far>"), "{svg}");
    }

    #[test]
    fn what_is_the_same_is_said_to_be_and_nothing_is_a_picture_too() {
        let svg = plot_operations("", &[operation("same", &[1.0, 1.0])], 0.0);
        assert!(svg.contains("All results are within") && !svg.contains(APART), "{svg}");
        assert!(plot_operations("", &[], 0.1).contains("0 results"));
    }
}
