//! Waiting awake.

use std::time::{Duration, Instant};

/// How long a thread that spins keeps its core to itself. After that it offers the core to others between
/// two looks: to the very thread it waits for, where there are more threads than cores.
const ALONE: Duration = Duration::from_micros(5);

/// A wait for what comes soon, if it comes at all.
pub(super) struct Spin {
    since: Instant,
    most: Duration,
}

impl Spin {
    /// So long at most.
    pub(super) fn new(most: Duration) -> Self {
        Self { since: Instant::now(), most }
    }

    /// Waits a moment; says whether there was time left to do so.
    pub(super) fn turn(&self) -> bool {
        let spent = self.since.elapsed();
        match spent {
            _ if spent >= self.most => return false,
            _ if spent < ALONE => std::hint::spin_loop(),
            _ => std::thread::yield_now(),
        }
        true
    }
}
