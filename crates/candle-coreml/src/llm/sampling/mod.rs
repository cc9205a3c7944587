//! From logits to a token, and how likely it was.

mod candidates;
mod logprobs;
mod processors;
mod sampler;

pub(crate) use logprobs::log_probabilities;
pub use logprobs::{LogProbability, TokenLogProbabilities};
pub use sampler::ChooseToken;
pub(crate) use sampler::{Chooser, choose};
