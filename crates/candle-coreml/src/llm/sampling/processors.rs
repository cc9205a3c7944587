//! What is done to logits before the temperature, in the order of Hugging Face's `generate`.

use std::collections::{BTreeMap, BTreeSet};

use crate::llm::request::GenerationOptions;

/// A text whose next token is to be chosen.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) prompt: &'a [u32],
    pub(super) generated: &'a [u32],
}

impl Text<'_> {
    fn backwards(&self) -> impl Iterator<Item = &u32> {
        self.generated.iter().rev().chain(self.prompt.iter().rev())
    }

    fn ends_with(&self, ids: &[u32]) -> bool {
        ids.len() <= self.prompt.len() + self.generated.len()
            && ids.iter().rev().eq(self.backwards().take(ids.len()))
    }
}

/// Biases, penalties and what is forbidden or forced. `ends` are the model's end tokens. What
/// becomes of finite numbers is a finite number or negative infinity, as the options are in their
/// bounds. Tokens that have no logit are passed over.
pub(super) fn process(
    logits: &mut [f64],
    options: &GenerationOptions,
    ends: &BTreeSet<u32>,
    text: Text,
) {
    bias(logits, options, text);
    penalise_repetition(logits, options, text);
    penalise_presence(logits, options, text.generated);
    forbid_ngrams(logits, options, text);
    if text.generated.len() < options.min_tokens {
        forbid(logits, ends);
    }
    if text.prompt.len() == 1 && text.generated.is_empty() {
        force(logits, options.forced_bos_token.as_slice());
    }
    if text.generated.len() + 1 == options.max_tokens {
        force(logits, &options.forced_eos_tokens);
    }
    favour_ends(logits, options, ends, text.generated.len());
    if text.generated.is_empty() {
        forbid(logits, &options.begin_suppress_tokens);
    }
}

fn change(logits: &mut [f64], id: u32, new: impl FnOnce(f64) -> f64) {
    if let Some(logit) = logits.get_mut(id as usize) {
        *logit = new(*logit);
    }
}

fn forbid<'a>(logits: &mut [f64], ids: impl IntoIterator<Item = &'a u32>) {
    for &id in ids {
        change(logits, id, |_| f64::NEG_INFINITY);
    }
}

/// Leaves `ids` alone, if there are any, and as likely as each other.
fn force(logits: &mut [f64], ids: &[u32]) {
    if !ids.is_empty() {
        logits.fill(f64::NEG_INFINITY);
    }
    for &id in ids {
        change(logits, id, |_| 0.0);
    }
}

fn bias(logits: &mut [f64], options: &GenerationOptions, text: Text) {
    for (&id, bias) in &options.logit_bias {
        change(logits, id, |logit| logit + bias);
    }
    for (ids, bias) in &options.sequence_bias {
        match ids.split_last() {
            Some((&last, before)) if text.ends_with(before) => {
                change(logits, last, |logit| logit + bias);
            }
            _ => {}
        }
    }
}

fn penalise_repetition(logits: &mut [f64], options: &GenerationOptions, text: Text) {
    let of_prompt: BTreeSet<u32> = text.prompt.iter().copied().collect();
    penalise(logits, of_prompt, 1.0 / options.encoder_repetition_penalty);
    let window = options.repetition_window.unwrap_or(usize::MAX);
    let seen = text.backwards().take(window).copied().collect();
    penalise(logits, seen, options.repetition_penalty);
}

fn penalise(logits: &mut [f64], ids: BTreeSet<u32>, penalty: f64) {
    if penalty != 1.0 {
        for id in ids {
            change(logits, id, |logit| if logit < 0.0 { logit * penalty } else { logit / penalty });
        }
    }
}

fn penalise_presence(logits: &mut [f64], options: &GenerationOptions, generated: &[u32]) {
    let (presence, frequency) = (options.presence_penalty, options.frequency_penalty);
    if presence == 0.0 && frequency == 0.0 {
        return;
    }
    let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
    for &id in generated {
        *counts.entry(id).or_default() += 1.0;
    }
    for (id, count) in counts {
        change(logits, id, |logit| logit - presence - frequency * count);
    }
}

fn forbid_ngrams(logits: &mut [f64], options: &GenerationOptions, text: Text) {
    let size = options.no_repeat_ngram_size;
    if size > 0 {
        let all = [text.prompt, text.generated].concat();
        forbid(logits, followers(&all, size, text));
    }
    let size = options.encoder_no_repeat_ngram_size;
    if size > 0 {
        forbid(logits, followers(text.prompt, size, text));
    }
}

/// The tokens with which `text` would end in `size` tokens that occur in `ids`.
fn followers<'a>(ids: &'a [u32], size: usize, text: Text) -> impl Iterator<Item = &'a u32> {
    ids.windows(size)
        .filter_map(|ngram| ngram.split_last())
        .filter(move |(_, before)| text.ends_with(before))
        .map(|(last, _)| last)
}

fn favour_ends(
    logits: &mut [f64],
    options: &GenerationOptions,
    ends: &BTreeSet<u32>,
    generated: usize,
) {
    let Some((start, factor)) = options.exponential_decay_length_penalty else { return };
    let beyond = generated.saturating_sub(start);
    if beyond == 0 {
        return;
    }
    let growth = factor.powi(i32::try_from(beyond).unwrap_or(i32::MAX)) - 1.0;
    for &id in ends {
        change(logits, id, |logit| {
            let more = if logit.is_finite() { logit.abs() * growth } else { 0.0 };
            // Growth without bound would end in what is no number.
            (logit + if more.is_nan() { 0.0 } else { more }).min(f64::MAX)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processed(options: &GenerationOptions, prompt: &[u32], generated: &[u32]) -> Vec<f64> {
        let mut logits = vec![4.0, -2.0, 1.0, 0.0];
        process(&mut logits, options, &[3].into(), Text { prompt, generated });
        logits
    }

    #[test]
    fn the_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_negative() {
        let options = GenerationOptions::new().repetition_penalty(2.0);
        // Once for each token, however often it occurred; unknown ids do no harm.
        assert_eq!(processed(&options, &[0, 0, 99], &[1, 1]), [2.0, -4.0, 1.0, 0.0]);
        let window = |tokens| options.clone().repetition_window(tokens);
        assert_eq!(processed(&window(1), &[0, 2], &[1]), [4.0, -4.0, 1.0, 0.0]);
        assert_eq!(processed(&window(2), &[0, 2], &[1]), [4.0, -4.0, 0.5, 0.0]);
        assert_eq!(processed(&window(2), &[0, 2], &[]), [2.0, -2.0, 0.5, 0.0]);
        assert_eq!(processed(&window(0), &[0, 2], &[1]), [4.0, -2.0, 1.0, 0.0]);
    }

    #[test]
    fn presence_and_frequency_penalties_look_at_generated_tokens_alone() {
        let presence = GenerationOptions::new().presence_penalty(0.5);
        assert_eq!(processed(&presence, &[0], &[1, 1, 2]), [4.0, -2.5, 0.5, 0.0]);
        let frequency = GenerationOptions::new().frequency_penalty(0.5);
        assert_eq!(processed(&frequency, &[0], &[1, 1, 2]), [4.0, -3.0, 0.5, 0.0]);
        let both = frequency.presence_penalty(-1.0);
        assert_eq!(processed(&both, &[], &[1, 1]), [4.0, -2.0, 1.0, 0.0]);
    }

    #[test]
    fn bias_comes_before_the_penalties() {
        let options = GenerationOptions::new().logit_bias(1, 6.0).repetition_penalty(2.0);
        assert_eq!(processed(&options, &[1], &[]), [4.0, 2.0, 1.0, 0.0]);
    }

    #[test]
    fn numbers_at_the_bounds_stay_numbers() {
        let (most, least) = (f64::from(f32::MAX), f64::from(f32::MIN_POSITIVE));
        let new = GenerationOptions::new;
        let all = [
            new().logit_bias(0, most).repetition_penalty(least),
            new().logit_bias(1, -most).repetition_penalty(most),
            new().encoder_repetition_penalty(most).frequency_penalty(-most),
            new().encoder_repetition_penalty(least).presence_penalty(most),
            new().exponential_decay_length_penalty(0, most),
            new().exponential_decay_length_penalty(0, least),
        ];
        for options in all {
            options.validate().unwrap();
            let logits = processed(&options, &[0, 1, 2, 3], &[3; 500]);
            assert!(logits.iter().all(|logit| logit.is_finite()), "{options:?}: {logits:?}");
        }
    }
}
