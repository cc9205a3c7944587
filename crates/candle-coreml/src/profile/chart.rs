//! A profile as a page: nested bars, as flame graphs have them, and tables.

use std::fmt::Write;

use super::{Cost, GroupCost, OperationCost, ProfileReport};
use crate::page::{self, COLOURS, escaped};

/// Width of the bars, and the height of each.
const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 22.0;
/// Bars that are narrower are left out: nobody would see them.
const NARROWEST: f64 = 0.3;
/// Width of a character, so that words fit into their bars.
const CHARACTER: f64 = 7.0;
/// Operations that the table has at most.
const MOST_ROWS: usize = 1000;

/// Something with its parts, in the order in which they first ran.
struct Node<'a> {
    name: &'a str,
    seconds: f64,
    /// What a bar shows when it is pointed at, besides its name and time.
    words: String,
    parts: Vec<Node<'a>>,
}

impl<'a> Node<'a> {
    fn new(name: &'a str) -> Self {
        Node { name, seconds: 0.0, words: String::new(), parts: Vec::new() }
    }

    /// Adds an operation below the parts of these names.
    fn add(&mut self, names: &[&'a str], operation: &OperationCost) {
        self.seconds += operation.cost.seconds;
        let Some((&first, rest)) = names.split_first() else {
            self.words = format!("{}, {}", operation.computes, rates(&operation.cost));
            return;
        };
        let place = self.parts.iter().position(|part| part.name == first);
        let place = place.unwrap_or_else(|| {
            self.parts.push(Node::new(first));
            self.parts.len() - 1
        });
        self.parts[place].add(rest, operation);
    }

    fn depth(&self) -> usize {
        1 + self.parts.iter().map(Node::depth).max().unwrap_or(0)
    }

    /// Draws a bar from `x` on, and its parts below it; `scale` is the width of a second.
    fn draw(&self, svg: &mut String, x: f64, level: usize, scale: f64, total: f64) {
        let width = self.seconds * scale;
        if width < NARROWEST {
            return;
        }
        let y = HEIGHT * level as f64;
        let colour = COLOURS[level % COLOURS.len()];
        let share = 100.0 * self.seconds / total.max(f64::MIN_POSITIVE);
        let milliseconds = self.seconds * 1e3;
        let name = escaped(self.name);
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<g><title>{name}\n{milliseconds:.3} ms, {share:.1} %\n{}</title><rect x=\"{x:.2}\" y=\"{y}\" \
             width=\"{width:.2}\" height=\"{:.0}\" fill=\"{colour}\" fill-opacity=\"0.35\" stroke=\"white\"/>",
            escaped(&self.words),
            HEIGHT - 1.0
        );
        let room = (width / CHARACTER) as usize;
        if room > 3 {
            let text = escaped(&page::shortened(self.name, room));
            let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{text}</text>", x + 3.0, y + 15.0);
        }
        svg.push_str("</g>\n");
        let mut x = x;
        for part in &self.parts {
            part.draw(svg, x, level + 1, scale, total);
            x += part.seconds * scale;
        }
    }
}

pub(super) fn page(report: &ProfileReport, title: &str) -> String {
    let total = report.total();
    let ProfileReport { runs, unit, seconds, .. } = report;
    let each = seconds * 1e3 / (*runs).max(1) as f64;
    let summary = format!(
        "{runs} {unit} in {:.1} ms, {each:.3} ms each; {}. Bytes and floating-point operations are estimated from \
         shapes: what caches spare is not known.",
        seconds * 1e3,
        rates(&total)
    );
    let body = page::paragraph(&summary)
        + &page::heading("Time by name, in the order in which operations first ran")
        + &nested_bars(report)
        + &page::heading("By what is computed")
        + &groups(&report.operators)
        + &page::heading("By layer")
        + &groups(&report.layers)
        + &page::heading("Operations")
        + &operations(report);
    page::page(title, &body)
}

fn nested_bars(report: &ProfileReport) -> String {
    let mut root = Node::new("all calls");
    let mut between = Node::new("between operations");
    for of in &report.operations {
        let mut names = vec![&*of.model, &*of.function];
        names.extend(of.path.iter().map(String::as_str));
        if of.layer != of.operation {
            names.push(&of.layer);
        }
        names.push(&of.operation);
        names.retain(|name| !name.is_empty());
        root.add(&names, of);
    }
    between.seconds = report.between_seconds;
    root.seconds += between.seconds;
    root.parts.push(between);
    let total = root.seconds;
    let mut svg = page::svg(WIDTH, HEIGHT * root.depth() as f64);
    root.draw(&mut svg, 0.0, 0, WIDTH / total.max(f64::MIN_POSITIVE), total);
    svg + "</svg>\n"
}

/// Columns of all tables.
const COLUMNS: [&str; 8] =
    ["times", "ms", "mean µs", "share", "MB constants", "MB values", "GB/s", "GFLOP/s"];

fn cells(cost: &Cost) -> [String; 8] {
    [
        cost.times.to_string(),
        format!("{:.3}", cost.seconds * 1e3),
        format!("{:.1}", cost.seconds * 1e6 / cost.times.max(1) as f64),
        format!("{:.1} %", cost.share * 100.0),
        format!("{:.2}", cost.constant_bytes as f64 * 1e-6),
        format!("{:.2}", cost.value_bytes as f64 * 1e-6),
        format!("{:.1}", cost.gigabytes_per_second),
        match cost.flops {
            0 => String::new(),
            _ => format!("{:.1}", cost.gigaflops_per_second),
        },
    ]
}

fn rates(cost: &Cost) -> String {
    let (bytes, flops) = (cost.gigabytes_per_second, cost.gigaflops_per_second);
    format!("{bytes:.1} GB/s, {flops:.1} GFLOP/s")
}

fn groups(groups: &[GroupCost]) -> String {
    let header = [&["name", "operations"][..], &COLUMNS].concat();
    let row = |group: &GroupCost| {
        let mut row = vec![group.name.clone(), group.operations.to_string()];
        row.extend(cells(&group.cost));
        row
    };
    let rows: Vec<Vec<String>> = groups.iter().take(MOST_ROWS).map(row).collect();
    page::table(&header, 1, &rows)
}

fn operations(report: &ProfileReport) -> String {
    let header = [&["operation", "operator", "computes"][..], &COLUMNS].concat();
    let row = |of: &OperationCost| {
        let mut row = vec![of.operation.clone(), of.operator.clone(), of.computes.clone()];
        row.extend(cells(&of.cost));
        row
    };
    let costliest = report.costliest();
    let rows: Vec<Vec<String>> = costliest.into_iter().take(MOST_ROWS).map(row).collect();
    page::table(&header, 3, &rows)
}
