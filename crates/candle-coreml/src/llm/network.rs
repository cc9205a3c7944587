//! What the generation loop needs of a model.

use crate::error::Result;
use crate::llm::tokenizer::TextTokenizer;
use crate::state::CoreMLState;

/// A causal language model with a key-value cache, in whatever packages it comes.
pub(crate) trait Network: Send + Sync {
    /// The most tokens that prompt and generated text may have together.
    fn context_length(&self) -> usize;

    /// Ids below this number are tokens of the model.
    fn vocabulary_size(&self) -> usize;

    /// Zeroed caches for a new conversation.
    fn make_states(&self) -> Result<Vec<CoreMLState>>;

    /// Runs `ids` at the positions from `start` on, of which the caches hold all earlier ones, and
    /// gives the logits that follow the last one. `ids` is not empty and ends within the context.
    fn run(&self, ids: &[u32], start: usize, states: &mut [CoreMLState]) -> Result<Vec<f32>>;
}

/// A network with its tokenizer.
pub(crate) struct LanguageModel {
    pub(crate) network: Box<dyn Network>,
    pub(crate) tokenizer: TextTokenizer,
}

impl std::fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LanguageModel")
            .field("context_length", &self.network.context_length())
            .field("vocabulary_size", &self.network.vocabulary_size())
            .finish_non_exhaustive()
    }
}
