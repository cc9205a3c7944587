//! `bench`: how fast a model is.

use std::io::Write;

use anyhow::Result;
use candle_coreml::{GroupCost, LanguageModelBenchmark, Machine, ModelBenchmark};
use coreml_format::printable_name;
use serde::Serialize;

use crate::args::BenchArgs;
use crate::made_up::{self, Given};
use crate::subject::{self, Subject};
use crate::table::Table;
use crate::term;

/// Groups of operations that are shown; JSON has all.
const SHOWN: usize = 12;

/// A benchmark with what went in.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    benchmark: &'a ModelBenchmark,
    inputs: &'a [Given],
}

/// Measures and tells.
pub fn run(args: &BenchArgs) -> Result<()> {
    let bench = args.speed.bench();
    let (json, html, text) = match Subject::new(&args.subject)? {
        Subject::Model { path, options, inputs } => {
            let benchmark = bench.model(path, &options, &subject::features(&inputs))?;
            let report = Report { benchmark: &benchmark, inputs: &inputs };
            (serde_json::to_string(&report)?, benchmark.html(), of_model(&benchmark, &inputs))
        }
        Subject::Language { directory, options, .. } => {
            let benchmark = bench.language_model(directory, &options)?;
            (serde_json::to_string(&benchmark)?, benchmark.html(), of_language(&benchmark))
        }
    };
    if let Some(file) = &args.form.html {
        subject::write_page(file, &html)?;
    }
    let mut out = term::out();
    if args.form.json {
        writeln!(out, "{json}")?
    } else {
        write!(out, "{text}")?
    }
    Ok(())
}

fn of_model(benchmark: &ModelBenchmark, inputs: &[Given]) -> String {
    let ModelBenchmark { model, function, latency_ms, .. } = benchmark;
    let mut text = format!("{}, function {}\n", printable_name(model), printable_name(function));
    if let Some(machine) = &benchmark.machine {
        text.push_str(&format!("{}\n", machine.words()));
    }
    text.push_str(&format!(
        "loaded in {:.3} s, first prediction {:.4} s; {}\n",
        benchmark.load_seconds,
        benchmark.first_prediction_seconds,
        memory(benchmark.peak_memory_bytes, benchmark.weight_bytes)
    ));
    text.push_str(&made_up::rows(inputs).titled("Inputs", term::width()));
    let mut table = Table::new(&["", "ms"]).right(&[1]);
    let times = [
        ("fastest", latency_ms.min),
        ("median", latency_ms.p50),
        ("95 of 100 within", latency_ms.p95),
        ("99 of 100 within", latency_ms.p99),
    ];
    times.iter().for_each(|(name, time)| table.row([(*name).to_owned(), format!("{time:.3}")]));
    let title = format!("Latency of {} predictions", latency_ms.runs);
    text.push_str(&table.titled(&title, term::width()));
    text.push_str(&groups(&benchmark.operators, benchmark.machine.as_ref(), "Where the time goes"));
    text
}

fn of_language(benchmark: &LanguageModelBenchmark) -> String {
    let mut text = format!(
        "{}, context of {} tokens\n{}\n",
        printable_name(&benchmark.model),
        benchmark.context_length,
        benchmark.machine.words()
    );
    text.push_str(&format!(
        "loaded in {:.3} s, first token after {:.3} s; {}\n",
        benchmark.load_seconds,
        benchmark.first_token_seconds,
        memory(benchmark.peak_memory_bytes, benchmark.weight_bytes)
    ));
    text.push_str(&format!(
        "a token reads {:.1} MB of weights: at most {:.1} tokens/s from memory\n",
        benchmark.token_bytes as f64 * 1e-6,
        benchmark.most_tokens_per_second()
    ));
    let mut speeds = Table::new(&["", "tokens/s"]).right(&[1]);
    for prefill in &benchmark.prefill {
        let name = format!("prompt of {} tokens", prefill.tokens);
        speeds.row([name, format!("{:.1}", prefill.tokens_per_second)]);
    }
    for decode in &benchmark.decode {
        let name = format!("decode from position {} on", decode.position);
        speeds.row([name, format!("{:.1}", decode.tokens_per_second)]);
    }
    text.push_str(&speeds.titled("Speed", term::width()));
    let machine = Some(&benchmark.machine);
    text.push_str(&groups(&benchmark.decode_operators, machine, "Where the time of tokens goes"));
    text + &groups(&benchmark.prefill_operators, machine, "Where the time of a prompt goes")
}

fn memory(peak: Option<u64>, weights: u64) -> String {
    let weights = format!("{:.1} MB of weights", weights as f64 * 1e-6);
    match peak {
        Some(peak) => format!("{weights}, {:.1} MB held at most", peak as f64 * 1e-6),
        None => weights,
    }
}

fn groups(groups: &[GroupCost], machine: Option<&Machine>, title: &str) -> String {
    let mut header = vec!["computes", "operations"];
    header.extend(subject::COLUMNS);
    header.extend(machine.map(|_| "of the roof"));
    let mut table = Table::new(&header).right(&[1, 2, 3, 4, 5, 6, 7, 8]);
    for group in groups.iter().take(SHOWN) {
        let mut row = vec![printable_name(&group.name).into_owned(), group.operations.to_string()];
        row.extend(subject::cells(&group.cost, machine));
        table.row(row);
    }
    table.titled(title, term::width())
}
