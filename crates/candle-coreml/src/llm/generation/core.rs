//! What the conversations with a model share.

use std::sync::Arc;

use crate::llm::network::Network;
use crate::llm::text::TextTokenizer;

/// A network with its tokenizer.
pub(crate) struct Core {
    pub(crate) network: Box<dyn Network>,
    pub(crate) tokenizer: Arc<TextTokenizer>,
}

impl Core {
    pub(crate) fn new(network: impl Network + 'static, tokenizer: TextTokenizer) -> Self {
        Core { network: Box::new(network), tokenizer: Arc::new(tokenizer) }
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("context_length", &self.network.context_length())
            .field("vocabulary_size", &self.network.vocabulary_size())
            .finish_non_exhaustive()
    }
}
