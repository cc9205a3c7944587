//! What options may be, and what they need.

use super::GenerationOptions;
use crate::config::bounds::{self, Bound};
use crate::error::{Error, GenerationError, Result};
use crate::words;

impl GenerationOptions {
    /// Checks the ranges.
    pub(crate) fn validate(&self) -> Result<()> {
        let numbers: [(&Bound, Option<f64>); 12] = [
            (&bounds::TEMPERATURE, Some(self.temperature)),
            (&bounds::TOP_P, self.top_p),
            (&bounds::MIN_P, self.min_p),
            (&bounds::TOP_H, self.top_h),
            (&bounds::TYPICAL_P, self.typical_p),
            (&bounds::EPSILON_CUTOFF, self.epsilon_cutoff),
            (&bounds::ETA_CUTOFF, self.eta_cutoff),
            (&bounds::REPETITION_PENALTY, Some(self.repetition_penalty)),
            (&bounds::ENCODER_REPETITION_PENALTY, Some(self.encoder_repetition_penalty)),
            (&bounds::PRESENCE_PENALTY, Some(self.presence_penalty)),
            (&bounds::FREQUENCY_PENALTY, Some(self.frequency_penalty)),
            (
                &bounds::LENGTH_FACTOR,
                self.exponential_decay_length_penalty.map(|(_, factor)| factor),
            ),
        ];
        let biases = self.logit_bias.values().map(|bias| (&bounds::LOGIT_BIAS, Some(*bias)));
        let sequences =
            self.sequence_bias.values().map(|bias| (&bounds::SEQUENCE_BIAS, Some(*bias)));
        for (bound, value) in numbers.into_iter().chain(biases).chain(sequences) {
            match value {
                Some(value) if !bound.allows(value) => {
                    return Err(wrong(bound.key, bound.expected, value));
                }
                _ => {}
            }
        }
        if self.top_k == Some(0) {
            return Err(wrong("top_k", "1 or more", 0));
        }
        if self.sequence_bias.contains_key([].as_slice()) {
            return Err(wrong("sequence_bias", "for one token or more", "none"));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(wrong("stop", "text: a stop string must not be empty", "an empty one"));
        }
        Ok(())
    }

    /// These options for a prompt of so many tokens: lengths of prompt and text become numbers of
    /// tokens to generate.
    pub(crate) fn behind(&self, prompt: usize) -> Result<Self> {
        let mut options = self.clone();
        if let Some(length) = options.max_length.take() {
            let left = length.checked_sub(prompt).filter(|&left| left > 0);
            let Some(left) = left else {
                let expected = format!(
                    "more than the {prompt} tokens of the prompt, since it counts prompt and text \
                     together (the model may recommend it; `max_tokens` takes its place)"
                );
                return Err(wrong("max_length", &expected, length));
            };
            options.max_tokens = options.max_tokens.min(left);
        }
        options.min_tokens = options.min_tokens.max(options.min_length.saturating_sub(prompt));
        options.min_length = 0;
        Ok(options)
    }

    /// False where knowing the most likely token is enough.
    pub(crate) fn needs_logits(&self) -> bool {
        self.temperature > 0.0 || self.logprobs.is_some() || self.changes_logits()
    }

    /// Whether anything comes before the choice by temperature.
    pub(crate) fn changes_logits(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.encoder_repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
            || self.forced_bos_token.is_some()
            || !self.forced_eos_tokens.is_empty()
            || self.exponential_decay_length_penalty.is_some()
            || !self.logit_bias.is_empty()
            || !self.sequence_bias.is_empty()
            || !self.forbidding().is_empty()
    }

    /// Names of the options that may leave no token to choose.
    pub(crate) fn forbidding(&self) -> Vec<&'static str> {
        let forbids = |bias: &f64| *bias == f64::NEG_INFINITY;
        let all = [
            ("logit_bias", self.logit_bias.values().any(forbids)),
            ("sequence_bias", self.sequence_bias.values().any(forbids)),
            ("no_repeat_ngram_size", self.no_repeat_ngram_size > 0),
            ("encoder_no_repeat_ngram_size", self.encoder_no_repeat_ngram_size > 0),
            ("min_tokens", self.min_tokens > 0),
            ("min_length", self.min_length > 0),
            ("begin_suppress_tokens", !self.begin_suppress_tokens.is_empty()),
        ];
        all.into_iter().filter(|(_, forbids)| *forbids).map(|(name, _)| name).collect()
    }

    /// All tokens that are named, with the option that names them.
    pub(crate) fn named_tokens(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let biases = self.logit_bias.keys().map(|&id| ("there is a bias for", id));
        let sequences = self.sequence_bias.keys().flatten().map(|&id| ("there is a bias for", id));
        let first =
            self.begin_suppress_tokens.iter().map(|&id| ("`begin_suppress_tokens` has", id));
        let begin = self.forced_bos_token.iter().map(|&id| ("`forced_bos_token` is", id));
        let end = self.forced_eos_tokens.iter().map(|&id| ("`forced_eos_tokens` has", id));
        biases.chain(sequences).chain(first).chain(begin).chain(end)
    }
}

fn wrong(key: &str, expected: &str, got: impl ToString) -> Error {
    GenerationError::option(format!("{} must be {expected}", words::list(&[key])), got).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        let new = GenerationOptions::new;
        let cases = [
            (new().temperature(-1.0), "temperature"),
            (new().temperature(f64::NAN), "temperature"),
            (new().top_k(0), "top_k"),
            (new().top_p(0.0), "top_p"),
            (new().top_p(1.5), "top_p"),
            (new().top_p(f64::NAN), "top_p"),
            (new().min_p(-0.1), "min_p"),
            (new().min_p(f64::NAN), "min_p"),
            (new().top_h(0.0), "top_h"),
            (new().typical_p(1.1), "typical_p"),
            (new().epsilon_cutoff(1.0), "epsilon_cutoff"),
            (new().eta_cutoff(-0.1), "eta_cutoff"),
            (new().repetition_penalty(0.0), "repetition_penalty"),
            (new().repetition_penalty(f64::INFINITY), "repetition_penalty"),
            (new().repetition_penalty(1e-300), "repetition_penalty"),
            (new().encoder_repetition_penalty(1e39), "encoder_repetition_penalty"),
            (new().presence_penalty(f64::NAN), "presence_penalty"),
            (new().presence_penalty(1e308), "presence_penalty"),
            (new().frequency_penalty(f64::INFINITY), "frequency_penalty"),
            (new().frequency_penalty(-1e300), "frequency_penalty"),
            (new().logit_bias(3, f64::INFINITY), "logit_bias"),
            (new().logit_bias(3, f64::NAN), "logit_bias"),
            (new().logit_bias(3, 1e300), "logit_bias"),
            (new().sequence_bias([3, 4], -1e39), "sequence_bias"),
            (new().sequence_bias([], 1.0), "sequence_bias"),
            (new().exponential_decay_length_penalty(3, -1.0), "exponential_decay_length_penalty"),
            (new().stop(""), "stop"),
        ];
        for (options, name) in cases {
            let message = options.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{name}` must be")), "{message}");
        }
        let fine = new().temperature(2.0).top_k(1).top_p(1.0).min_p(1.0).repetition_penalty(0.5);
        let fine = fine.presence_penalty(-2.0).logit_bias(1, f64::NEG_INFINITY).logit_bias(2, 1e38);
        fine.temperature(1e-300).validate().unwrap();
    }

    #[test]
    fn lengths_become_numbers_of_tokens() {
        let of = |options: GenerationOptions| {
            let options = options.behind(30).unwrap();
            (options.max_tokens, options.min_tokens)
        };
        let new = GenerationOptions::new;
        assert_eq!(of(new()), (256, 0));
        assert_eq!(of(new().max_length(100).min_length(40)), (70, 10));
        assert_eq!(of(new().max_length(100).max_tokens(90).min_length(20)), (90, 0));
        assert_eq!(of(new().min_length(40).min_tokens(20)), (256, 20));
        for length in [0, 29, 30] {
            let message = new().max_length(length).behind(30).unwrap_err().to_string();
            assert!(message.contains("`max_length`") && message.contains("30 tokens"), "{message}");
        }
    }
}
