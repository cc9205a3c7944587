//! What was measured, as pages.

use super::ModelBenchmark;
use crate::machine::Machine;
use crate::page::{self, Bar, bars, heading, paragraph};
use crate::profile::GroupCost;

#[cfg(feature = "llm")]
use super::LanguageModelBenchmark;

/// Predictions that are drawn.
const MOST_PREDICTIONS: usize = 1000;
/// Groups that are drawn.
const MOST_GROUPS: usize = 12;

impl ModelBenchmark {
    /// A page for a browser, of its own.
    pub fn html(&self) -> String {
        let latency = &self.latency_ms;
        let times = [
            ("fastest", latency.min),
            ("median", latency.p50),
            ("95 of 100 within", latency.p95),
            ("99 of 100 within", latency.p99),
        ];
        let times = times.map(|(label, value)| Bar {
            label: label.to_owned(),
            value,
            words: format!("{value:.3} ms"),
        });
        let (load, first) = (self.load_seconds, self.first_prediction_seconds);
        let summary = format!(
            "Loaded in {load:.3} s, the first prediction took {first:.4} s; {}.",
            memory(self.peak_memory_bytes, self.weight_bytes)
        );
        let body = self.machine.as_ref().map_or_else(String::new, |of| paragraph(&of.words()))
            + &paragraph(&summary)
            + &heading(&format!("Latency of {} predictions", latency.runs))
            + &bars(&times)
            + &heading("All of them, in the order in which they ran")
            + &line(&latency.all)
            + &heading("Where the time goes")
            + &operators(&self.operators, self.machine.as_ref());
        page::page(&format!("{}, function {}", self.model, self.function), &body)
    }
}

#[cfg(feature = "llm")]
impl LanguageModelBenchmark {
    /// A page for a browser, of its own.
    pub fn html(&self) -> String {
        let prefill = self.prefill.iter().map(|of| Bar {
            label: format!("prompt of {} tokens", of.tokens),
            value: of.tokens_per_second,
            words: format!("{:.1} tokens/s", of.tokens_per_second),
        });
        let decode = self.decode.iter().map(|of| Bar {
            label: format!("from position {} on", of.position),
            value: of.tokens_per_second,
            words: format!("{:.1} tokens/s", of.tokens_per_second),
        });
        let (load, first) = (self.load_seconds, self.first_token_seconds);
        let summary = format!(
            "Loaded in {load:.3} s, first token after {first:.3} s; {}. A token reads {:.1} MB of weights: at most \
             {:.1} tokens/s, as far as they come from memory.",
            memory(self.peak_memory_bytes, self.weight_bytes),
            self.token_bytes as f64 * 1e-6,
            self.most_tokens_per_second(),
        );
        let body = paragraph(&self.machine.words())
            + &paragraph(&summary)
            + &heading("Prefill")
            + &bars(&prefill.collect::<Vec<_>>())
            + &heading("Decode")
            + &bars(&decode.collect::<Vec<_>>())
            + &heading("Where the time of a decoded token goes")
            + &operators(&self.decode_operators, Some(&self.machine))
            + &heading("Where the time of a prompt goes")
            + &operators(&self.prefill_operators, Some(&self.machine));
        page::page(&self.model, &body)
    }
}

fn memory(peak: Option<u64>, weights: u64) -> String {
    let weights = weights as f64 * 1e-6;
    match peak {
        Some(peak) => {
            format!("{weights:.1} MB of weights, at most {:.1} MB held", peak as f64 * 1e-6)
        }
        None => format!("{weights:.1} MB of weights"),
    }
}

/// Times by what is computed, with how near they come to what the machine can do.
fn operators(groups: &[GroupCost], machine: Option<&Machine>) -> String {
    let bar = |group: &GroupCost| {
        let cost = &group.cost;
        let (bytes, flops) = (cost.gigabytes_per_second, cost.gigaflops_per_second);
        let mut words = format!("{:.1} %, {bytes:.1} GB/s", cost.share * 100.0);
        if cost.flops > 0 {
            words.push_str(&format!(", {flops:.0} GFLOP/s"));
        }
        if let Some(share) = machine.map(|machine| machine.share(cost)) {
            words.push_str(&format!(", {:.0} % of the roof", share * 100.0));
        }
        Bar { label: format!("{} × {}", group.operations, group.name), value: cost.share, words }
    };
    bars(&groups.iter().take(MOST_GROUPS).map(bar).collect::<Vec<_>>())
}

/// Sizes of the picture of all times.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 160.0;

/// Numbers as a line, from zero at the bottom to the largest at the top.
fn line(numbers: &[f64]) -> String {
    let numbers = numbers.get(..MOST_PREDICTIONS).unwrap_or(numbers);
    let most = numbers.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let step = WIDTH / numbers.len().saturating_sub(1).max(1) as f64;
    let point = |(place, number): (usize, &f64)| {
        format!("{:.1},{:.1} ", place as f64 * step, HEIGHT * (1.0 - number / most))
    };
    let points: String = numbers.iter().enumerate().map(point).collect();
    format!(
        "{}<polyline points=\"{}\" fill=\"none\" stroke=\"{}\"/>\n</svg>\n",
        page::svg(WIDTH, HEIGHT),
        points.trim_end(),
        page::COLOURS[0]
    )
}
