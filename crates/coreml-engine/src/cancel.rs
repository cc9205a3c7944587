//! Ending what takes long from elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends what was given a clone of it, from any thread.
///
/// Predictions end between two operations, or at the next turn of a loop, with an error of the kind
/// [`Cancelled`](coreml_format::ErrorKind::Cancelled); states are as they were before. Generations end between two tokens, or between two pieces of a long prompt, with
/// `FinishReason::Cancelled`; the session stays usable. Downloads end with `HubError::Stopped`; what has
/// arrived is kept for the next try.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends all that has a clone.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Clones of one token are equal.
impl PartialEq for CancelToken {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
