//! Log-probabilities of tokens.

use serde::Serialize;

use crate::error::{Error, GenerationError, Result};
use crate::llm::text::TextTokenizer;

/// How likely a token was, by the model's own logits: before bias, penalties and temperature.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LogProbability {
    /// The token.
    pub id: u32,
    /// Its text; part of a character is shown as a replacement character.
    pub text: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability. Negative infinity (`null` in JSON) for a token that
    /// the model rules out.
    pub logprob: f64,
}

/// Log-probabilities in one token's place.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TokenLogProbabilities {
    /// The token that was chosen.
    pub chosen: LogProbability,
    /// The most likely tokens, the most likely one first.
    pub top: Vec<LogProbability>,
}

/// The log-probabilities of `chosen` and of the `top` most likely tokens.
pub(crate) fn log_probabilities(
    logits: &[f32],
    chosen: u32,
    top: usize,
    tokenizer: &TextTokenizer,
) -> Result<TokenLogProbabilities> {
    let normalizer = log_sum_exp(logits);
    let describe = |id: u32| {
        let logit = logits.get(id as usize).copied().ok_or_else(|| {
            let known = logits.len();
            Error::from(GenerationError::unknown_token("the sampler chose", id, known, None))
        })?;
        let bytes = tokenizer.token_bytes(id);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(LogProbability { id, text, bytes, logprob: f64::from(logit) - normalizer })
    };
    let top = greatest(logits, top).into_iter().map(describe).collect::<Result<_>>()?;
    Ok(TokenLogProbabilities { chosen: describe(chosen)?, top })
}

/// The logarithm of the sum of the exponentials, which overflows nowhere.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let greatest = f64::from(greatest);
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - greatest).exp()).sum();
    greatest + sum.ln()
}

/// Ids of the greatest logits, in order; the first one among equals.
fn greatest(logits: &[f32], count: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = (0u32..).take(logits.len()).collect();
    let logit = |id: u32| logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let order = |a: &u32, b: &u32| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b));
    if count < ids.len() {
        ids.select_nth_unstable_by(count, order);
        ids.truncate(count);
    }
    ids.sort_unstable_by(order);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::text::testing::byte_tokenizer;

    #[test]
    fn log_probabilities_are_those_of_a_softmax() {
        let directory = tempfile::tempdir().unwrap();
        let tokenizer = byte_tokenizer(directory.path());
        // Probabilities 1/7, 4/7 and 2/7, with a shift that would overflow an f32's exp.
        let ln = |x: f32| x.ln() + 500.0;
        let logits = [ln(1.0), ln(4.0), ln(2.0), f32::NEG_INFINITY];
        let result = log_probabilities(&logits, 2, 3, &tokenizer).unwrap();
        assert!((result.chosen.logprob - (2.0f64 / 7.0).ln()).abs() < 1e-4);
        let ids: Vec<u32> = result.top.iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [1, 2, 0]);
        assert!((result.top[0].logprob - (4.0f64 / 7.0).ln()).abs() < 1e-4);
        assert_eq!(
            (result.chosen.bytes.as_slice(), result.chosen.text.as_str()),
            (&[2][..], "\u{2}")
        );
        let all = log_probabilities(&logits, 0, 9, &tokenizer).unwrap().top;
        assert_eq!((all.len(), all[3].logprob), (4, f64::NEG_INFINITY));
        assert!(log_probabilities(&logits, 4, 0, &tokenizer).is_err());
    }

    #[test]
    fn among_equals_the_first_ones_are_told() {
        assert_eq!(greatest(&[1.0, 3.0, 3.0, 3.0], 2), [1, 2]);
        assert!(greatest(&[1.0], 0).is_empty());
    }
}
