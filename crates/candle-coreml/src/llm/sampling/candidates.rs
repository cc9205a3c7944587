//! Which tokens are drawn from, in the order of Hugging Face's `generate`.

use std::cmp::Ordering;

use crate::llm::request::GenerationOptions;

/// A token with its logit, later its weight.
pub(super) type Candidate = (u32, f64);

/// Tokens whose entropy top-h looks at.
const TOP_H_TOKENS: usize = 100;

/// The tokens to draw from, with weights in proportion to their probabilities; the most likely ones
/// weigh 1. `greatest` is the greatest of the logits.
pub(super) fn candidates(
    logits: impl Iterator<Item = f64>,
    greatest: f64,
    options: &GenerationOptions,
) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = (0u32..).zip(logits).collect();
    // The temperature changes no order, and there is less to compute behind this.
    if let (Some(k), None) = (options.top_k, options.top_h) {
        keep_most_likely(&mut candidates, k);
    }
    for (_, value) in &mut candidates {
        *value = ((*value - greatest) / options.temperature).exp();
    }
    if let Some(h) = options.top_h {
        keep_entropy(&mut candidates, h);
        keep_most_likely(&mut candidates, options.top_k.unwrap_or(usize::MAX));
    }
    if let Some(p) = options.top_p {
        keep_nucleus(&mut candidates, p);
    }
    if let Some(p) = options.min_p {
        candidates.retain(|candidate| candidate.1 >= p);
    }
    if let Some(p) = options.typical_p.filter(|&p| p < 1.0) {
        keep_typical(&mut candidates, p);
    }
    if let Some(least) = options.epsilon_cutoff {
        keep_probable(&mut candidates, least);
    }
    if let Some(least) = options.eta_cutoff {
        let least = least.min(least.sqrt() * (-entropy(&candidates)).exp());
        keep_probable(&mut candidates, least);
    }
    candidates
}

/// By value, greatest first; equal ones by id.
fn most_likely_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

fn keep_most_likely(candidates: &mut Vec<Candidate>, k: usize) {
    if k < candidates.len() {
        candidates.select_nth_unstable_by(k, most_likely_first);
        candidates.truncate(k);
        candidates.sort_unstable_by(most_likely_first);
    }
}

fn total(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| candidate.1).sum()
}

/// What a token of this probability adds to the entropy.
fn surprise(probability: f64) -> f64 {
    if probability > 0.0 { -probability * probability.ln() } else { 0.0 }
}

fn entropy(candidates: &[Candidate]) -> f64 {
    let total = total(candidates);
    candidates.iter().map(|candidate| surprise(candidate.1 / total)).sum()
}

/// Keeps the most likely candidates while their part of the entropy is at most the share `h`.
fn keep_entropy(candidates: &mut Vec<Candidate>, h: f64) {
    candidates.sort_unstable_by(most_likely_first);
    candidates.truncate(TOP_H_TOKENS);
    let (total, most) = (total(candidates), h * entropy(candidates));
    let mut sum = 0.0;
    let count = candidates.iter().take_while(|candidate| {
        sum += surprise(candidate.1 / total);
        sum <= most
    });
    let count = count.count().max(1);
    candidates.truncate(count);
}

/// Keeps the fewest candidates whose weights reach the share `p` of all.
fn keep_nucleus(candidates: &mut Vec<Candidate>, p: f64) {
    let total = total(candidates);
    // All weights below this together are less than the share that may be left out, so that the
    // many unlikely tokens of a large vocabulary need no sorting.
    let least = (1.0 - p) * total / candidates.len().max(1) as f64;
    candidates.retain(|candidate| candidate.1 >= least);
    candidates.sort_unstable_by(most_likely_first);
    let count = reaching(candidates, p * total);
    candidates.truncate(count);
}

/// How many of the first candidates reach the sum.
fn reaching(candidates: &[Candidate], needed: f64) -> usize {
    let mut sum = 0.0;
    let before = candidates.iter().take_while(|candidate| {
        let wanted = sum < needed;
        sum += candidate.1;
        wanted
    });
    before.count()
}

/// Keeps the candidates that are nearest to the average surprise and reach the share `p` of all
/// weights.
fn keep_typical(candidates: &mut Vec<Candidate>, p: f64) {
    candidates.retain(|candidate| candidate.1 > 0.0);
    let (total, entropy) = (total(candidates), entropy(candidates));
    let distance = |candidate: &Candidate| (-(candidate.1 / total).ln() - entropy).abs();
    candidates.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    let count = reaching(candidates, p * total);
    let farthest = count.checked_sub(1).and_then(|last| candidates.get(last)).map(distance);
    // Those at the same distance stay, too.
    candidates.retain(|candidate| farthest.is_some_and(|farthest| distance(candidate) <= farthest));
}

/// Keeps candidates of at least this probability, and the most likely ones.
fn keep_probable(candidates: &mut Vec<Candidate>, least: f64) {
    let total = total(candidates);
    let greatest = candidates.iter().map(|candidate| candidate.1).fold(0.0, f64::max);
    candidates.retain(|candidate| candidate.1 / total >= least || candidate.1 == greatest);
}
