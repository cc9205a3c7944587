//! How to generate.

use crate::error::{Error, Result};

/// How to choose tokens and when to stop. The default is greedy, 256 tokens at most.
///
/// ```
/// use candle_coreml::llm::GenerationOptions;
///
/// let options = GenerationOptions::new().max_tokens(64).temperature(0.8).top_p(0.9).seed(7);
/// assert_eq!(options.max_tokens, 64);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GenerationOptions {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Divides the logits before sampling; 0 takes the most likely token always (the first one
    /// among equals).
    pub temperature: f64,
    /// Samples among this many most likely tokens only.
    pub top_k: Option<usize>,
    /// Samples among the fewest most likely tokens whose probabilities reach this sum, above 0 and
    /// up to 1.
    pub top_p: Option<f64>,
    /// Seed of the random numbers: the same seed gives the same tokens. From the system if `None`.
    pub seed: Option<u64>,
    /// Goes on after an end token.
    pub ignore_eos: bool,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        GenerationOptions {
            max_tokens: 256,
            temperature: 0.0,
            top_k: None,
            top_p: None,
            seed: None,
            ignore_eos: false,
        }
    }
}

impl GenerationOptions {
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most tokens to generate.
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = tokens;
        self
    }

    /// Sets the temperature.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Samples among the `k` most likely tokens.
    pub fn top_k(mut self, k: usize) -> Self {
        self.top_k = Some(k);
        self
    }

    /// Samples among the most likely tokens whose probabilities reach the sum `p`.
    pub fn top_p(mut self, p: f64) -> Self {
        self.top_p = Some(p);
        self
    }

    /// Seeds the random numbers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Whether to go on after an end token.
    pub fn ignore_eos(mut self, ignore: bool) -> Self {
        self.ignore_eos = ignore;
        self
    }

    /// Checks the ranges.
    pub(crate) fn validate(&self) -> Result<()> {
        let wrong = |what: &str, expected: &str, got: String| {
            Err(Error::Generation(format!("the {what} must be {expected}, got {got}")))
        };
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return wrong("temperature", "0 or a positive number", self.temperature.to_string());
        }
        if self.top_k == Some(0) {
            return wrong("top-k", "1 or more", "0".to_owned());
        }
        match self.top_p {
            Some(p) if !(p > 0.0 && p <= 1.0) => {
                wrong("top-p", "above 0 and at most 1", p.to_string())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        let cases = [
            (GenerationOptions::new().temperature(-1.0), "temperature"),
            (GenerationOptions::new().temperature(f64::NAN), "temperature"),
            (GenerationOptions::new().top_k(0), "top-k"),
            (GenerationOptions::new().top_p(0.0), "top-p"),
            (GenerationOptions::new().top_p(1.5), "top-p"),
            (GenerationOptions::new().top_p(f64::NAN), "top-p"),
        ];
        for (options, name) in cases {
            let message = options.validate().unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
        GenerationOptions::new().temperature(2.0).top_k(1).top_p(1.0).validate().unwrap();
    }
}
