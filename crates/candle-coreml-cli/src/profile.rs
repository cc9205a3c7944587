//! `profile`: where the time of a model goes.

use std::io::Write;

use anyhow::Result;
use candle_coreml::{GroupCost, ProfileReport};
use coreml_format::printable_name;
use serde::Serialize;

use crate::args::ProfileArgs;
use crate::subject::{self, Subject};
use crate::table::Table;
use crate::term;

/// A profile with what it is of.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    #[serde(flatten)]
    profile: &'a ProfileReport,
}

/// Measures and tells.
pub fn run(args: &ProfileArgs) -> Result<()> {
    let bench = args.speed.bench();
    let profile = match Subject::new(&args.subject)? {
        Subject::Model { path, options, inputs } => {
            bench.profile(path, &options, &subject::features(&inputs))?
        }
        Subject::Language { directory, options, .. } => {
            bench.profile_language_model(directory, &options, args.phase())?
        }
    };
    let model = args.subject.model.display().to_string();
    if let Some(file) = &args.form.html {
        subject::write_page(file, &profile.html(&model))?;
    }
    let mut out = term::out();
    match args.form.json {
        true => {
            let report = Report { model: &model, profile: &profile };
            writeln!(out, "{}", serde_json::to_string(&report)?)?;
        }
        false => write!(out, "{}", text(&model, &profile, args.rows()))?,
    }
    Ok(())
}

fn text(model: &str, profile: &ProfileReport, most: usize) -> String {
    let ProfileReport { runs, unit, seconds, between_seconds, .. } = profile;
    let each = seconds * 1e3 / (*runs).max(1) as f64;
    let total = profile.total();
    let mut text = format!(
        "{}: {runs} {unit} in {:.3} ms, {each:.3} ms each; {:.3} ms between operations\n\
         {:.1} GB/s, {:.1} GFLOP/s, estimated from shapes\n",
        printable_name(model),
        seconds * 1e3,
        between_seconds * 1e3,
        total.gigabytes_per_second,
        total.gigaflops_per_second,
    );
    text.push_str(&groups(&profile.operators, most, "By what is computed"));
    text.push_str(&groups(&profile.layers, most, "By layer"));
    text + &operations(profile, most)
}

fn groups(groups: &[GroupCost], most: usize, title: &str) -> String {
    let mut header = vec!["name", "operations"];
    header.extend(subject::COLUMNS);
    let mut table = Table::new(&header).right(&[1, 2, 3, 4, 5, 6, 7]);
    for group in groups.iter().take(most) {
        let mut row = vec![printable_name(&group.name).into_owned(), group.operations.to_string()];
        row.extend(subject::cells(&group.cost, None));
        table.row(row);
    }
    table.titled(title, term::width()) + &more(groups.len(), most)
}

fn operations(profile: &ProfileReport, most: usize) -> String {
    let mut header = vec!["operation", "operator", "computes"];
    header.extend(subject::COLUMNS);
    let mut table = Table::new(&header).right(&[3, 4, 5, 6, 7, 8]);
    for of in profile.costliest().into_iter().take(most) {
        let names = [&of.operation, &of.operator, &of.computes];
        let mut row: Vec<String> =
            names.iter().map(|name| printable_name(name).into_owned()).collect();
        row.extend(subject::cells(&of.cost, None));
        table.row(row);
    }
    table.titled("Operations", term::width()) + &more(profile.operations.len(), most)
}

/// How many rows are not shown.
fn more(rows: usize, most: usize) -> String {
    match rows.saturating_sub(most) {
        0 => String::new(),
        more => format!("  … and {more} more; --all shows them\n"),
    }
}
