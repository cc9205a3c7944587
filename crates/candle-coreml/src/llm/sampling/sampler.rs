//! Chooses a token from logits.

use std::collections::BTreeSet;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::candidates::{Candidate, candidates};
use super::processors::{Text, process};
use crate::error::{Error, GenerationError, Result};
use crate::llm::request::GenerationOptions;
use crate::words;

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
    /// What chooses as the options say, which are for the prompt at hand, for a model with these end
    /// tokens.
    pub(crate) fn new(options: &GenerationOptions, ends: BTreeSet<u32>) -> Self {
        Chooser::Sampler(Box::new(Sampler::new(options, ends)))
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
    /// The model's end tokens.
    ends: BTreeSet<u32>,
    random: ChaCha12Rng,
}

impl ChooseToken for Sampler {
    /// Errors when there are no logits, one is NaN or positive infinity, or all are negative
    /// infinity: no choice would mean anything; and when the options forbid all that is possible.
    fn choose(&mut self, logits: &[f32], prompt: &[u32], generated: &[u32]) -> Result<u32> {
        let greatest = check(logits)?;
        let widened = logits.iter().map(|&logit| f64::from(logit));
        if !self.options.changes_logits() {
            return Ok(self.sample(widened, greatest));
        }
        let mut changed: Vec<f64> = widened.collect();
        process(&mut changed, &self.options, &self.ends, Text { prompt, generated });
        let greatest =
            first_maximum(changed.iter().copied()).ok_or_else(|| nothing_left(&self.options))?;
        Ok(self.sample(changed.into_iter(), greatest))
    }
}

impl Sampler {
    pub(crate) fn new(options: &GenerationOptions, ends: BTreeSet<u32>) -> Self {
        let random = match options.seed {
            Some(seed) => ChaCha12Rng::seed_from_u64(seed),
            None => ChaCha12Rng::from_os_rng(),
        };
        Sampler { options: options.clone(), ends, random }
    }

    /// A token by logits of which `greatest` is the greatest.
    fn sample(&mut self, logits: impl Iterator<Item = f64>, greatest: Candidate) -> u32 {
        if self.options.temperature == 0.0 {
            return greatest.0;
        }
        let candidates = candidates(logits, greatest.1, &self.options);
        self.draw(&candidates).unwrap_or(greatest.0)
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
    Sampler::new(options, BTreeSet::new()).choose(logits, &[], &[])
}

/// The greatest of the model's logits, all of which have to be numbers or negative infinity.
fn check(logits: &[f32]) -> Result<Candidate> {
    let wrong = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
    if let Some(id) = logits.iter().position(wrong) {
        let logit = logits.get(id).copied().unwrap_or(f32::NAN);
        return Err(results(format!(
            "the model gave {logit} as the logit of token {id}: its numbers overflow; check the \
             export, fp16 models are prone to it"
        )));
    }
    first_maximum(logits.iter().map(|&logit| f64::from(logit))).ok_or_else(|| {
        results("the model gave no finite logit, so no token is possible; check the export".into())
    })
}

/// The first of the greatest logits; none where no token is possible.
fn first_maximum(logits: impl Iterator<Item = f64>) -> Option<Candidate> {
    let mut greatest: Option<Candidate> = None;
    for (id, logit) in (0u32..).zip(logits) {
        if greatest.is_none_or(|(_, best)| logit > best) {
            greatest = Some((id, logit));
        }
    }
    greatest.filter(|(_, logit)| *logit > f64::NEG_INFINITY)
}

fn results(message: String) -> Error {
    GenerationError::Results(message).into()
}

fn nothing_left(options: &GenerationOptions) -> Error {
    GenerationError::NoTokenLeft { options: words::list(&options.forbidding()) }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RecommendedSampling;

    fn counts(options: GenerationOptions, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(&options, BTreeSet::new());
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
        let mut sampler = Sampler::new(&GenerationOptions::new(), BTreeSet::new());
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

    fn number(value: &serde_json::Value) -> f64 {
        value.as_f64().unwrap()
    }

    fn ids(value: &serde_json::Value) -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| number(id) as u32).collect()
    }

    /// Options as a model's directory recommends them.
    fn options_of(generation_config: &serde_json::Value) -> GenerationOptions {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("generation_config.json");
        std::fs::write(path, generation_config.to_string()).unwrap();
        let recommended = RecommendedSampling::read(directory.path()).unwrap();
        assert_eq!(recommended.ignored, []);
        GenerationOptions::new().recommended(&recommended)
    }

    /// `fixtures/sampling`, written by `tools/sampling`.
    #[test]
    fn all_stages_together_give_the_probabilities_of_hugging_face() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/sampling/cases.json");
        let text = std::fs::read_to_string(path).unwrap();
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cases = file.as_array().unwrap();
        assert!(cases.len() > 40);
        for case in cases {
            let numbers = |name: &str| -> Vec<f64> {
                case[name].as_array().unwrap().iter().map(number).collect()
            };
            let config = &case["generation_config"];
            let ends: BTreeSet<u32> = ids(&config["eos_token_id"]).into_iter().collect();
            let (prompt, generated) = (ids(&case["prompt"]), ids(&case["generated"]));
            let options = options_of(config).behind(prompt.len()).unwrap();
            let mut logits = numbers("logits");
            process(&mut logits, &options, &ends, Text { prompt: &prompt, generated: &generated });
            let greatest = first_maximum(logits.iter().copied()).unwrap();
            let candidates = candidates(logits.iter().copied(), greatest.1, &options);
            let total: f64 = candidates.iter().map(|candidate| candidate.1).sum();
            let mut probabilities = vec![0.0; logits.len()];
            for (id, weight) in candidates {
                probabilities[id as usize] = weight / total;
            }
            for (got, expected) in probabilities.iter().zip(numbers("probabilities")) {
                assert!((got - expected).abs() < 2e-6, "{config}: {probabilities:?}");
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_tokens_and_another_one_others() {
        let logits = logits(&[0.01; 100]);
        let draw = |seed| {
            let options = GenerationOptions::new().temperature(1.0).seed(seed);
            let mut sampler = Sampler::new(&options, BTreeSet::new());
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
    fn a_forbidden_token_is_not_chosen_and_where_all_are_the_options_are_named() {
        let forbid = |options: GenerationOptions, id| options.logit_bias(id, f64::NEG_INFINITY);
        let one = forbid(GenerationOptions::new(), 0);
        assert_eq!(choose(&[9.0, 1.0, 2.0], &one).unwrap(), 2);
        let all = [
            (forbid(forbid(one, 1), 2), "`logit_bias`"),
            (GenerationOptions::new().no_repeat_ngram_size(1), "`no_repeat_ngram_size`"),
            (
                forbid(
                    GenerationOptions::new()
                        .begin_suppress_token(1)
                        .sequence_bias([2], f64::NEG_INFINITY),
                    0,
                ),
                "`logit_bias`, `sequence_bias` and `begin_suppress_tokens`",
            ),
        ];
        for (options, names) in all {
            for temperature in [0.0, 1.0] {
                let options = options.clone().temperature(temperature);
                let mut sampler = Sampler::new(&options, BTreeSet::new());
                let message =
                    sampler.choose(&[9.0, 1.0, 2.0], &[0, 1, 2], &[]).unwrap_err().to_string();
                assert!(message.contains(names) && !message.contains("export"), "{message}");
            }
        }
    }

    #[test]
    fn a_temperature_next_to_0_is_greedy() {
        for temperature in [1e-300, f64::MIN_POSITIVE, 5e-324] {
            let options = GenerationOptions::new().temperature(temperature);
            assert_eq!(choose(&[-9.0, f32::MAX, 1.0, f32::MIN], &options).unwrap(), 1);
        }
    }

    #[test]
    fn meaningless_logits_are_errors() {
        let mut sampler = Sampler::new(&GenerationOptions::new(), BTreeSet::new());
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
