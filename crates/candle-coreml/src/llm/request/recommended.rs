//! Options as a model's makers recommend them.

use super::GenerationOptions;
use crate::config::RecommendedSampling;

/// Tokens that transformers samples among unless told otherwise.
const DEFAULT_TOP_K: usize = 50;

impl GenerationOptions {
    /// Generates as the model's makers recommend, with the meaning that Hugging Face's `generate`
    /// gives each value; what is set after this goes before it.
    ///
    /// Where `do_sample` is true, the temperature is 1 and top-k 50 unless told; where it is not, what
    /// is for sampling says nothing. `max_length` and `max_new_tokens` take the place of the budget,
    /// stop strings and biases come to those that are there, and what is not told stays.
    pub fn recommended(mut self, recommended: &RecommendedSampling) -> Self {
        self = match (recommended.max_new_tokens, recommended.max_length) {
            (Some(tokens), _) => self.max_tokens(tokens),
            (None, Some(length)) => self.max_length(length),
            (None, None) => self,
        };
        match recommended.min_new_tokens {
            Some(tokens) => self.min_tokens = tokens,
            None => self.min_length = recommended.min_length.unwrap_or(self.min_length),
        }
        set(&mut self.repetition_penalty, recommended.repetition_penalty);
        set(&mut self.encoder_repetition_penalty, recommended.encoder_repetition_penalty);
        set(&mut self.presence_penalty, recommended.presence_penalty);
        set(&mut self.frequency_penalty, recommended.frequency_penalty);
        set(&mut self.no_repeat_ngram_size, recommended.no_repeat_ngram_size);
        set(&mut self.encoder_no_repeat_ngram_size, recommended.encoder_no_repeat_ngram_size);
        self.sequence_bias.extend(recommended.sequence_bias.clone());
        self.begin_suppress_tokens.extend(&recommended.begin_suppress_tokens);
        self.forced_bos_token = recommended.forced_bos_token_id.or(self.forced_bos_token);
        self.forced_eos_tokens.extend(&recommended.forced_eos_token_id);
        self.exponential_decay_length_penalty =
            recommended.exponential_decay_length_penalty.or(self.exponential_decay_length_penalty);
        self.stop.extend(recommended.stop_strings.iter().cloned());
        self.recommended_choice(recommended)
    }

    /// How to choose among what the stages before leave.
    fn recommended_choice(mut self, recommended: &RecommendedSampling) -> Self {
        match recommended.do_sample {
            Some(true) => self.temperature = recommended.temperature.unwrap_or(1.0),
            Some(false) => self.temperature = 0.0,
            // Greedy by default, here as there.
            None => return self,
        }
        if self.temperature == 0.0 {
            return self;
        }
        let top_k = recommended.top_k.unwrap_or(DEFAULT_TOP_K);
        self.top_k = (top_k > 0).then_some(top_k);
        match recommended.top_p {
            Some(0.0) => self.top_k = Some(1),
            top_p => self.top_p = top_p.or(self.top_p),
        }
        self.min_p = recommended.min_p.or(self.min_p);
        self.top_h = recommended.top_h.or(self.top_h);
        self.typical_p = recommended.typical_p.or(self.typical_p);
        self.epsilon_cutoff = recommended.epsilon_cutoff.or(self.epsilon_cutoff);
        self.eta_cutoff = recommended.eta_cutoff.or(self.eta_cutoff);
        self
    }
}

fn set<T>(option: &mut T, told: Option<T>) {
    if let Some(value) = told {
        *option = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recommended(json: &str) -> RecommendedSampling {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("generation_config.json"), json).unwrap();
        RecommendedSampling::read(directory.path()).unwrap()
    }

    fn options(json: &str) -> GenerationOptions {
        GenerationOptions::new().recommended(&recommended(json))
    }

    #[test]
    fn values_mean_what_they_mean_to_generate() {
        let new = GenerationOptions::new;
        let sampling = || new().temperature(1.0).top_k(50);
        let cases = [
            ("{}", new()),
            (r#"{"do_sample": true}"#, sampling()),
            (r#"{"do_sample": true, "top_k": null, "temperature": null}"#, sampling()),
            (r#"{"do_sample": true, "top_k": 0}"#, new().temperature(1.0)),
            (r#"{"do_sample": true, "top_p": 0}"#, sampling().top_k(1)),
            (r#"{"do_sample": true, "temperature": 0.0, "top_k": 5}"#, new()),
            (
                r#"{"do_sample": true, "temperature": 3.0, "min_p": 1.0}"#,
                sampling().temperature(3.0).min_p(1.0),
            ),
            (r#"{"do_sample": true, "temperature": "0.7", "top_p": 1.5}"#, sampling()),
            (r#"{"do_sample": "true", "temperature": 0.7}"#, new()),
            (r#"{"do_sample": false, "temperature": 0.7, "top_k": 5}"#, new()),
            (r#"{"temperature": 0.7, "top_k": 5, "top_p": 0.5}"#, new()),
            (r#"{"repetition_penalty": 1.5}"#, new().repetition_penalty(1.5)),
            (
                r#"{"do_sample": true, "top_h": 0.5, "typical_p": 0.9, "epsilon_cutoff": 0.01,
                "eta_cutoff": 0.02}"#,
                sampling().top_h(0.5).typical_p(0.9).epsilon_cutoff(0.01).eta_cutoff(0.02),
            ),
            (
                r#"{"presence_penalty": 0.5, "frequency_penalty": -1, "no_repeat_ngram_size": 3,
                "encoder_no_repeat_ngram_size": 4, "encoder_repetition_penalty": 1.2}"#,
                new()
                    .presence_penalty(0.5)
                    .frequency_penalty(-1.0)
                    .no_repeat_ngram_size(3)
                    .encoder_no_repeat_ngram_size(4)
                    .encoder_repetition_penalty(1.2),
            ),
            (r#"{"max_length": 40, "min_length": 9}"#, new().max_length(40).min_length(9)),
            (
                r#"{"max_length": 40, "max_new_tokens": 7, "min_length": 9, "min_new_tokens": 2}"#,
                new().max_tokens(7).min_tokens(2),
            ),
            (r#"{"stop_strings": "END"}"#, new().stop("END")),
            (r#"{"stop_strings": ["a", "b"]}"#, new().stop("a").stop("b")),
            (
                r#"{"forced_bos_token_id": 3, "forced_eos_token_id": [4, 5],
                "begin_suppress_tokens": [6], "exponential_decay_length_penalty": [10, 1.1]}"#,
                new()
                    .forced_bos_token(3)
                    .forced_eos_token(4)
                    .forced_eos_token(5)
                    .begin_suppress_token(6)
                    .exponential_decay_length_penalty(10, 1.1),
            ),
            (
                r#"{"eos_token_id": 2, "bad_words_ids": [[2], [3], [4, 5]], "suppress_tokens": [6, 2],
                "sequence_bias": [[[7], 1.5], [[8, 9], -2]]}"#,
                new()
                    .sequence_bias([3], f64::NEG_INFINITY)
                    .sequence_bias([4, 5], f64::NEG_INFINITY)
                    .sequence_bias([6], f64::NEG_INFINITY)
                    .sequence_bias([2], f64::NEG_INFINITY)
                    .sequence_bias([7], 1.5)
                    .sequence_bias([8, 9], -2.0),
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(options(json), expected, "{json}");
            options(json).validate().unwrap();
        }
    }

    #[test]
    fn what_is_set_goes_before_what_is_recommended_only_if_it_is_set_after_it() {
        let told = recommended(r#"{"do_sample": true, "temperature": 0.6, "max_new_tokens": 9}"#);
        let before = GenerationOptions::new().temperature(0.1).max_tokens(1).recommended(&told);
        assert_eq!((before.temperature, before.max_tokens), (0.6, 9));
        let after = before.temperature(0.1).max_tokens(1);
        assert_eq!((after.temperature, after.max_tokens), (0.1, 1));
        let silent = GenerationOptions::new().temperature(0.1).recommended(&recommended("{}"));
        assert_eq!(silent.temperature, 0.1);
    }
}
