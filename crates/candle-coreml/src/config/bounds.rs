//! What the numbers may be that decide how tokens are chosen.

/// A setting that is a number.
pub(crate) struct Bound {
    /// Its name, in files and in [`GenerationOptions`](crate::GenerationOptions).
    pub(crate) key: &'static str,
    /// What it has to be, in words.
    pub(crate) expected: &'static str,
    allowed: fn(f64) -> bool,
}

impl Bound {
    pub(crate) fn allows(&self, value: f64) -> bool {
        (self.allowed)(value)
    }
}

const fn bound(key: &'static str, expected: &'static str, allowed: fn(f64) -> bool) -> Bound {
    Bound { key, expected, allowed }
}

const FACTOR: &str = "a positive number that fits into 32 bits (1 changes nothing)";
const SUMMAND: &str = "a number that fits into 32 bits";

/// Logits have 32 bits. Within these bounds nothing that is computed of them overflows 64.
fn fits(value: f64) -> bool {
    value.abs() <= f64::from(f32::MAX)
}

fn is_factor(value: f64) -> bool {
    value >= f64::from(f32::MIN_POSITIVE) && fits(value)
}

fn is_share(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}

fn is_cutoff(value: f64) -> bool {
    (0.0..1.0).contains(&value)
}

pub(crate) const TEMPERATURE: Bound =
    bound("temperature", "0 or a positive number", |value| value >= 0.0 && value.is_finite());
pub(crate) const TOP_P: Bound = bound("top_p", "above 0 and at most 1", is_share);
pub(crate) const MIN_P: Bound = bound("min_p", "0 to 1", |value| (0.0..=1.0).contains(&value));
pub(crate) const TOP_H: Bound = bound("top_h", "above 0 and at most 1", is_share);
pub(crate) const TYPICAL_P: Bound = bound("typical_p", "above 0 and at most 1", is_share);
pub(crate) const EPSILON_CUTOFF: Bound =
    bound("epsilon_cutoff", "0 or more and below 1", is_cutoff);
pub(crate) const ETA_CUTOFF: Bound = bound("eta_cutoff", "0 or more and below 1", is_cutoff);
pub(crate) const REPETITION_PENALTY: Bound = bound("repetition_penalty", FACTOR, is_factor);
pub(crate) const ENCODER_REPETITION_PENALTY: Bound =
    bound("encoder_repetition_penalty", FACTOR, is_factor);
pub(crate) const PRESENCE_PENALTY: Bound = bound("presence_penalty", SUMMAND, fits);
pub(crate) const FREQUENCY_PENALTY: Bound = bound("frequency_penalty", SUMMAND, fits);
pub(crate) const LENGTH_FACTOR: Bound =
    bound("exponential_decay_length_penalty", "a start and a positive factor", is_factor);
pub(crate) const LOGIT_BIAS: Bound = bound("logit_bias", BIAS, is_bias);
pub(crate) const SEQUENCE_BIAS: Bound = bound("sequence_bias", BIAS, is_bias);

const BIAS: &str = "a number that fits into 32 bits, or negative infinity";

fn is_bias(value: f64) -> bool {
    value == f64::NEG_INFINITY || fits(value)
}
