//! Chooses a token from logits.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::error::{Error, GenerationError, Result};
use crate::llm::request::GenerationOptions;

/// Chooses the next token. [`Session::stream_with`](crate::Session::stream_with) takes one in place of
/// the sampler of the options.
pub trait ChooseToken: Send {
    /// The token that follows `prompt` and `generated`, whose logits are `logits`: the model's own
    /// numbers, one for each token of the vocabulary. It is called once for each token, in order.
    ///
    /// # Errors
    /// An error ends the generation.
    fn choose(&mut self, logits: &[f32], prompt: &[u32], generated: &[u32]) -> Result<u32>;
}

/// What chooses the tokens of a generation.
pub(crate) enum Chooser<'a> {
    /// The options.
    Sampler(Box<Sampler>),
    /// The caller.
    Custom(&'a mut dyn ChooseToken),
}

impl Chooser<'_> {
    pub(crate) fn new(options: &GenerationOptions) -> Self {
        Chooser::Sampler(Box::new(Sampler::new(options)))
    }

    pub(crate) fn is_custom(&self) -> bool {
        matches!(self, Chooser::Custom(_))
    }

    pub(crate) fn choose(&mut self, logits: &[f32], prompt: &[u32], new: &[u32]) -> Result<u32> {
        match self {
            Chooser::Sampler(sampler) => sampler.choose(logits, prompt, new),
            Chooser::Custom(chooser) => chooser.choose(logits, prompt, new),
        }
    }
}

/// Chooses tokens as the options say. ChaCha12 is fixed by its definition, so that a seed gives
/// the same tokens in every version and on every machine.
pub(crate) struct Sampler {
    options: GenerationOptions,
    random: ChaCha12Rng,
}

/// A token with its logit, later its weight.
type Candidate = (u32, f64);

impl ChooseToken for Sampler {
    /// Errors when there are no logits, one is NaN or positive infinity, or all are negative
    /// infinity: no choice would mean anything.
    fn choose(&mut self, logits: &[f32], prompt: &[u32], generated: &[u32]) -> Result<u32> {
        let greatest = first_maximum(logits)?;
        if self.options.logit_bias.is_empty() && !self.options.has_penalties() {
            return Ok(self.sample(logits, greatest));
        }
        let mut changed = logits.to_vec();
        adjust(&mut changed, &self.options, prompt, generated);
        let greatest = first_maximum(&changed)?;
        Ok(self.sample(&changed, greatest))
    }
}

impl Sampler {
    pub(crate) fn new(options: &GenerationOptions) -> Self {
        let random = match options.seed {
            Some(seed) => ChaCha12Rng::seed_from_u64(seed),
            None => ChaCha12Rng::from_os_rng(),
        };
        Sampler { options: options.clone(), random }
    }

    /// A token by logits of which `greatest` is the greatest.
    fn sample(&mut self, logits: &[f32], greatest: Candidate) -> u32 {
        if self.options.temperature == 0.0 {
            return greatest.0;
        }
        let candidates = self.candidates(logits, greatest);
        self.draw(&candidates).unwrap_or(greatest.0)
    }

    /// The tokens to draw from, with weights in proportion to their probabilities.
    fn candidates(&self, logits: &[f32], greatest: Candidate) -> Vec<Candidate> {
        let mut candidates: Vec<Candidate> =
            (0u32..).zip(logits.iter().map(|&logit| f64::from(logit))).collect();
        // The temperature changes no order, and there is less to compute behind this.
        if let Some(k) = self.options.top_k {
            keep_most_likely(&mut candidates, k);
        }
        for (_, value) in &mut candidates {
            *value = ((*value - greatest.1) / self.options.temperature).exp();
        }
        if let Some(p) = self.options.top_p {
            keep_nucleus(&mut candidates, p);
        }
        if let Some(p) = self.options.min_p {
            // The most likely one weighs exp(0) = 1.
            candidates.retain(|candidate| candidate.1 >= p);
        }
        candidates
    }

    /// A candidate, with the probability of its share of the weights.
    fn draw(&mut self, candidates: &[Candidate]) -> Option<u32> {
        let total: f64 = candidates.iter().map(|candidate| candidate.1).sum();
        let mut left = self.uniform() * total;
        for &(id, weight) in candidates {
            if left < weight {
                return Some(id);
            }
            left -= weight;
        }
        // Rounding can leave a rest after the last one.
        candidates.iter().rev().find(|candidate| candidate.1 > 0.0).map(|candidate| candidate.0)
    }

    /// Uniform in 0..1, with all 53 bits that an `f64` has there.
    fn uniform(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// One choice, with random numbers of its own.
pub(crate) fn choose(logits: &[f32], options: &GenerationOptions) -> Result<u32> {
    options.validate()?;
    Sampler::new(options).choose(logits, &[], &[])
}

/// Bias and penalties.
fn adjust(logits: &mut [f32], options: &GenerationOptions, prompt: &[u32], generated: &[u32]) {
    let mut change = |id: u32, new: &dyn Fn(f64) -> f64| {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = new(f64::from(*logit)) as f32;
        }
    };
    for (&id, bias) in &options.logit_bias {
        change(id, &|logit| logit + bias);
    }
    let penalty = options.repetition_penalty;
    if penalty != 1.0 {
        let window = options.repetition_window.unwrap_or(usize::MAX);
        let seen: BTreeSet<u32> =
            generated.iter().rev().chain(prompt.iter().rev()).take(window).copied().collect();
        for id in seen {
            change(id, &|logit| if logit < 0.0 { logit * penalty } else { logit / penalty });
        }
    }
    let (presence, frequency) = (options.presence_penalty, options.frequency_penalty);
    if presence != 0.0 || frequency != 0.0 {
        let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
        for &id in generated {
            *counts.entry(id).or_default() += 1.0;
        }
        for (id, count) in counts {
            change(id, &|logit| logit - presence - frequency * count);
        }
    }
}

fn first_maximum(logits: &[f32]) -> Result<(u32, f64)> {
    let mut greatest: Option<(u32, f32)> = None;
    for (id, &logit) in (0u32..).zip(logits) {
        if logit.is_nan() || logit == f32::INFINITY {
            return Err(results(format!(
                "the model gave {logit} as the logit of token {id}: its numbers overflow; check \
                 the export, fp16 models are prone to it"
            )));
        }
        if greatest.is_none_or(|(_, best)| logit > best) {
            greatest = Some((id, logit));
        }
    }
    match greatest {
        Some((id, logit)) if logit > f32::NEG_INFINITY => Ok((id, f64::from(logit))),
        _ => Err(results(
            "the model gave no finite logit, so no token is possible; check the export".to_owned(),
        )),
    }
}

fn results(message: String) -> Error {
    GenerationError::Results(message).into()
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

/// Keeps the fewest candidates whose weights reach the share `p` of all.
fn keep_nucleus(candidates: &mut Vec<Candidate>, p: f64) {
    let total: f64 = candidates.iter().map(|candidate| candidate.1).sum();
    // All weights below this together are less than the share that may be left out, so that the
    // many unlikely tokens of a large vocabulary need no sorting.
    let least = (1.0 - p) * total / candidates.len().max(1) as f64;
    candidates.retain(|candidate| candidate.1 >= least);
    candidates.sort_unstable_by(most_likely_first);
    let mut sum = 0.0;
    let count = candidates.iter().take_while(|candidate| {
        let needed = sum < p * total;
        sum += candidate.1;
        needed
    });
    let count = count.count();
    candidates.truncate(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(options: GenerationOptions, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(&options);
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.choose(logits, &[], &[]).unwrap() as usize] += 1;
        }
        counts
    }

    /// Logits of given probabilities.
    fn logits(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn greedy_takes_the_first_maximum() {
        let mut sampler = Sampler::new(&GenerationOptions::new());
        assert_eq!(sampler.choose(&[0.5, 2.0, -1.0, 2.0], &[], &[]).unwrap(), 1);
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY, -3.0], &[], &[]).unwrap(), 1);
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let probabilities = [0.5, 0.25, 0.125, 0.125];
        let options = GenerationOptions::new().temperature(1.0).seed(1);
        let seen = counts(options, &logits(&probabilities), 8000);
        for (seen, p) in seen.iter().zip(probabilities) {
            let expected = 8000.0 * p;
            // Five standard deviations of the binomial distribution.
            let bound = 5.0 * (8000.0 * p * (1.0 - p)).sqrt();
            assert!((*seen as f32 - expected).abs() < bound, "{seen} of {expected}");
        }
    }

    #[test]
    fn temperature_sharpens() {
        let options = GenerationOptions::new().temperature(0.5).seed(2);
        // At temperature 1/2 the probabilities are squared: 0.8 and 0.2 become 16/17 and 1/17.
        let seen = counts(options, &logits(&[0.8, 0.2]), 8000)[0] as f32;
        assert!((seen - 8000.0 * 16.0 / 17.0).abs() < 5.0 * 21.1, "{seen}");
    }

    #[test]
    fn top_k_keeps_the_most_likely_and_the_first_of_equals() {
        let options = GenerationOptions::new().temperature(1.0).top_k(2).seed(3);
        let seen = counts(options, &logits(&[0.2, 0.3, 0.3, 0.2]), 500);
        assert!(seen[0] == 0 && seen[3] == 0 && seen[1] > 0 && seen[2] > 0, "{seen:?}");
        let options = GenerationOptions::new().temperature(1.0).top_k(3).seed(3);
        assert_eq!(counts(options, &logits(&[0.25; 4]), 500)[3], 0);
        let options = GenerationOptions::new().temperature(1.0).top_k(100).seed(3);
        assert!(counts(options, &logits(&[0.25; 4]), 500).iter().all(|&count| count > 0));
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_the_sum() {
        let probabilities = [0.1, 0.4, 0.3, 0.2];
        for (p, kept) in [(0.3, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (1.0, 4)] {
            let options = GenerationOptions::new().temperature(1.0).top_p(p).seed(4);
            let seen = counts(options, &logits(&probabilities), 2000);
            assert_eq!(seen.iter().filter(|&&count| count > 0).count(), kept, "{p}: {seen:?}");
        }
    }

    #[test]
    fn min_p_keeps_a_share_of_the_most_likely() {
        let probabilities = [0.1, 0.4, 0.3, 0.2];
        for (p, kept) in [(0.0, 4), (0.24, 4), (0.26, 3), (0.6, 2), (0.8, 1), (1.0, 1)] {
            let options = GenerationOptions::new().temperature(1.0).min_p(p).seed(4);
            let seen = counts(options, &logits(&probabilities), 2000);
            assert_eq!(seen.iter().filter(|&&count| count > 0).count(), kept, "{p}: {seen:?}");
        }
        // After the temperature: at 1/2, 0.2 is a quarter as likely as 0.4.
        let options = GenerationOptions::new().temperature(0.5).min_p(0.3).seed(4);
        let seen = counts(options, &logits(&probabilities), 2000);
        assert!(seen[0] == 0 && seen[3] == 0 && seen[2] > 0, "{seen:?}");
    }

    fn adjusted(options: GenerationOptions, prompt: &[u32], generated: &[u32]) -> Vec<f32> {
        let mut logits = vec![4.0, -2.0, 1.0, 0.0];
        adjust(&mut logits, &options, prompt, generated);
        logits
    }

    #[test]
    fn the_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_negative() {
        let options = GenerationOptions::new().repetition_penalty(2.0);
        // Once for each token, however often it occurred; unknown ids do no harm.
        assert_eq!(adjusted(options.clone(), &[0, 0, 99], &[1, 1]), [2.0, -4.0, 1.0, 0.0]);
        let window = |tokens| options.clone().repetition_window(tokens);
        assert_eq!(adjusted(window(1), &[0, 2], &[1]), [4.0, -4.0, 1.0, 0.0]);
        assert_eq!(adjusted(window(2), &[0, 2], &[1]), [4.0, -4.0, 0.5, 0.0]);
        assert_eq!(adjusted(window(2), &[0, 2], &[]), [2.0, -2.0, 0.5, 0.0]);
        assert_eq!(adjusted(window(0), &[0, 2], &[1]), [4.0, -2.0, 1.0, 0.0]);
    }

    #[test]
    fn presence_and_frequency_penalties_look_at_generated_tokens_alone() {
        let presence = GenerationOptions::new().presence_penalty(0.5);
        assert_eq!(adjusted(presence, &[0], &[1, 1, 2]), [4.0, -2.5, 0.5, 0.0]);
        let frequency = GenerationOptions::new().frequency_penalty(0.5);
        assert_eq!(adjusted(frequency.clone(), &[0], &[1, 1, 2]), [4.0, -3.0, 0.5, 0.0]);
        let both = frequency.presence_penalty(-1.0);
        assert_eq!(adjusted(both, &[], &[1, 1]), [4.0, -2.0, 1.0, 0.0]);
    }

    #[test]
    fn bias_comes_before_the_penalties() {
        let options = GenerationOptions::new().logit_bias(1, 6.0).repetition_penalty(2.0);
        assert_eq!(adjusted(options, &[1], &[]), [4.0, 2.0, 1.0, 0.0]);
        let mut never = Sampler::new(&GenerationOptions::new().logit_bias(0, f64::NEG_INFINITY));
        assert_eq!(never.choose(&[9.0, 1.0, 2.0], &[], &[]).unwrap(), 2);
    }

    fn number(value: &serde_json::Value) -> f64 {
        value.as_f64().unwrap()
    }

    fn options_of(json: &serde_json::Value) -> GenerationOptions {
        let mut options = GenerationOptions::new().temperature(1.0);
        for (name, value) in json.as_object().unwrap() {
            options = match name.as_str() {
                "temperature" => options.temperature(number(value)),
                "top_k" => options.top_k(number(value) as usize),
                "top_p" => options.top_p(number(value)),
                "min_p" => options.min_p(number(value)),
                "repetition_penalty" => options.repetition_penalty(number(value)),
                "bias" => value.as_object().unwrap().iter().fold(options, |options, (id, bias)| {
                    options.logit_bias(id.parse().unwrap(), number(bias))
                }),
                name => panic!("{name}"),
            };
        }
        options
    }

    /// `fixtures/sampling`, written by `tools/sampling`.
    #[test]
    fn all_stages_together_give_the_probabilities_of_hugging_face() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/sampling/cases.json");
        let text = std::fs::read_to_string(path).unwrap();
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        let numbers = |json: &serde_json::Value| -> Vec<f64> {
            json.as_array().unwrap().iter().map(number).collect()
        };
        let ids = |name: &str| numbers(&file[name]).into_iter().map(|id| id as u32).collect();
        let (prompt, generated): (Vec<u32>, Vec<u32>) = (ids("prompt"), ids("generated"));
        let cases = file["cases"].as_array().unwrap();
        assert!(cases.len() > 10);
        for case in cases {
            let sampler = Sampler::new(&options_of(&case["options"]));
            let mut logits: Vec<f32> =
                numbers(&case["logits"]).into_iter().map(|logit| logit as f32).collect();
            adjust(&mut logits, &sampler.options, &prompt, &generated);
            let candidates = sampler.candidates(&logits, first_maximum(&logits).unwrap());
            let total: f64 = candidates.iter().map(|candidate| candidate.1).sum();
            let mut probabilities = vec![0.0; logits.len()];
            for (id, weight) in candidates {
                probabilities[id as usize] = weight / total;
            }
            for (got, expected) in probabilities.iter().zip(numbers(&case["probabilities"])) {
                assert!((got - expected).abs() < 2e-6, "{}: {probabilities:?}", case["options"]);
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_tokens_and_another_one_others() {
        let logits = logits(&[0.01; 100]);
        let draw = |seed| {
            let mut sampler = Sampler::new(&GenerationOptions::new().temperature(1.0).seed(seed));
            (0..50).map(|_| sampler.choose(&logits, &[], &[]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    #[test]
    fn impossible_tokens_are_never_drawn() {
        let options = GenerationOptions::new().temperature(10.0).seed(6);
        let seen = counts(options, &[f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY], 200);
        assert_eq!(seen, [0, 200, 0]);
    }

    #[test]
    fn meaningless_logits_are_errors() {
        let mut sampler = Sampler::new(&GenerationOptions::new());
        let cases: [(&[f32], &str); 4] = [
            (&[0.0, f32::NAN], "NaN as the logit of token 1"),
            (&[f32::INFINITY], "inf as the logit of token 0"),
            (&[f32::NEG_INFINITY; 3], "no finite logit"),
            (&[], "no finite logit"),
        ];
        for (logits, expected) in cases {
            let message = sampler.choose(logits, &[], &[]).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
