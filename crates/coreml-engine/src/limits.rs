//! What a prediction may take.

use std::time::{Duration, Instant};

use crate::error::OpError;

/// The most that a prediction may take. Without limits it takes what the program asks for and the system
/// gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes for its values: intermediate ones, lists and outputs. Weights that are expanded and constants
    /// that are computed when a model is loaded may take as much once more. (Inputs and states are the
    /// caller's, and weights in their file take no memory of their own.)
    pub memory: Option<usize>,
    /// Time, looked at between operations and at each turn of a loop.
    pub time: Option<Duration>,
}

impl Limits {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the bytes for values.
    pub fn memory(self, bytes: usize) -> Self {
        Limits { memory: Some(bytes), ..self }
    }

    /// Limits the time.
    pub fn time(self, time: Duration) -> Self {
        Limits { time: Some(time), ..self }
    }

    /// Fails if so many bytes are too many.
    pub(crate) fn check_memory(&self, needed: usize) -> Result<(), OpError> {
        match self.memory {
            Some(limit) if needed > limit => Err(OpError::MemoryLimit { needed, limit }),
            _ => Ok(()),
        }
    }

    /// Fails if what started then has taken too long.
    pub(crate) fn check_time(&self, started: Instant) -> Result<(), OpError> {
        match self.time {
            Some(limit) if started.elapsed() >= limit => Err(OpError::TimeLimit { limit }),
            _ => Ok(()),
        }
    }
}
