//! Pages for a browser: one file each, without scripts and without a network.

use std::fmt::{Display, Write};

/// Colours of bars, in turn.
pub(crate) const COLOURS: [&str; 6] =
    ["#2b6cb0", "#2f855a", "#b7791f", "#6b46c1", "#c05621", "#4a5568"];

const STYLE: &str = "body{font:14px sans-serif;color:#1a202c;margin:2em auto;max-width:1100px;padding:0 1em}\
table{border-collapse:collapse;margin:1em 0}th,td{padding:2px 10px;text-align:left;border-bottom:1px solid #e2e8f0}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}h1{font-size:20px}h2{font-size:16px;margin-top:2em}\
p{color:#4a5568}svg text{font:12px sans-serif;fill:#1a202c}";

/// A page with a title and what is below it.
pub(crate) fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}</body></html>\n"
    )
}

/// A heading.
pub(crate) fn heading(text: &str) -> String {
    format!("<h2>{}</h2>\n", escaped(text))
}

/// A paragraph.
pub(crate) fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escaped(text))
}

/// A table; the columns from `numbers` on are aligned to the right.
pub(crate) fn table(header: &[&str], numbers: usize, rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| -> String {
        let cell = |(column, text): (usize, &str)| {
            let class = if column >= numbers { " class=\"n\"" } else { "" };
            format!("<{tag}{class}>{}</{tag}>", escaped(text))
        };
        format!("<tr>{}</tr>\n", cells.enumerate().map(cell).collect::<String>())
    };
    let mut text = format!("<table>{}", cells("th", &mut header.iter().copied()));
    for row in rows {
        text.push_str(&cells("td", &mut row.iter().map(String::as_str)));
    }
    text + "</table>\n"
}

/// A bar of a chart.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    /// What stands behind the bar.
    pub(crate) words: String,
}

/// Sizes of a chart of bars: all of it, the labels, and a bar with the gap below it.
const WIDTH: f64 = 1000.0;
const LABELS: f64 = 240.0;
const WORDS: f64 = 260.0;
const STEP: f64 = 24.0;

/// Bars below each other, the longest value as long as there is room.
pub(crate) fn bars(bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.value).filter(|value| value.is_finite());
    let most = most.fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = svg(WIDTH, STEP * bars.len() as f64);
    for (number, bar) in bars.iter().enumerate() {
        let (y, middle) = (STEP * number as f64, STEP * number as f64 + 15.0);
        let value = if bar.value.is_finite() { bar.value.max(0.0) } else { 0.0 };
        let length = (WIDTH - LABELS - WORDS) * value / most;
        let colour = COLOURS[number % COLOURS.len()];
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{y}\" width=\"{length:.1}\" height=\"20\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{middle}\">{}</text>",
            LABELS - 8.0,
            escaped(&shortened(&bar.label, 34)),
            LABELS + length + 8.0,
            escaped(&bar.words)
        );
    }
    svg + "</svg>\n"
}

/// The beginning of a picture.
pub(crate) fn svg(width: impl Display, height: impl Display) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" style=\"max-width:100%;height:auto\">\n"
    )
}

/// The end of a text that is longer than so many characters.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let length = text.chars().count();
    match length > most {
        true => format!("…{}", text.chars().skip(length - most + 1).collect::<String>()),
        false => text.to_owned(),
    }
}

/// Text within XML and HTML, on one line whatever a file says.
pub(crate) fn escaped(text: &str) -> String {
    let text = coreml_format::printable_message(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_says_is_text_and_nothing_else() {
        let hostile = "<script>\"&\n";
        let bar = Bar { label: hostile.to_owned(), value: f64::NAN, words: hostile.to_owned() };
        let body = table(&["a"], 0, &[vec![hostile.to_owned()]])
            + &bars(&[bar])
            + &heading(hostile)
            + &paragraph(hostile);
        let page = page(hostile, &body);
        assert!(!page.contains("<script>") && !page.contains("NaN"), "{page}");
        assert!(page.contains("&lt;script&gt;&quot;&amp;"), "{page}");
    }

    #[test]
    fn long_texts_keep_their_end() {
        assert_eq!(shortened("layers_0_mlp", 5), "…_mlp");
        assert_eq!(shortened("mlp", 5), "mlp");
    }
}
