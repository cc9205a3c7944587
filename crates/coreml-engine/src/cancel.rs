//! Ending what takes long from elsewhere.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// Ends what was given a clone of it, from any thread.
///
/// Predictions end between two operations, or at the next turn of a loop, with an error of the kind
/// [`Cancelled`](coreml_format::ErrorKind::Cancelled); states are as they were before. Generations end between two tokens, or between two pieces of a long prompt, with
/// `FinishReason::Cancelled`; the session stays usable. Downloads end with `HubError::Stopped`; what has
/// arrived is kept for the next try.
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    cancelled: Arc<AtomicBool>,
    question: Option<Arc<Question>>,
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same token, which besides asks whether to go on: on this thread alone, which waits for the
    /// prediction, and after so much time each. What has a clone of the token that is given back ends
    /// when the answer is yes, to end; what has one of this token goes on.
    ///
    /// It is for a binding to a language whose interpreter tells only one thread that the user wants to stop.
    pub fn asking(
        &self,
        every: Duration,
        end: impl Fn() -> bool + Send + Sync + 'static,
    ) -> CancelToken {
        let question = Question {
            thread: thread::current().id(),
            every,
            started: Instant::now(),
            due: AtomicU64::new(nanoseconds(every)),
            answered: AtomicBool::new(false),
            thoughts: AtomicU32::new(0),
            end: Box::new(end),
        };
        CancelToken { cancelled: self.cancelled.clone(), question: Some(Arc::new(question)) }
    }

    /// Ends all that has a clone.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called, or the question that it [asks](Self::asking) was
    /// answered so.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
            || self.question.as_ref().is_some_and(|question| question.says_end())
    }

    /// Asks its question, if it has one and it is time to; for whoever does so while the work is elsewhere.
    pub(crate) fn ask(&self) {
        if let Some(question) = &self.question {
            question.ask();
        }
    }

    /// How often it wants to [ask](Self::asking) on the thread that waits, if it does.
    pub(crate) fn asks_every(&self) -> Option<Duration> {
        self.question.as_ref().map(|question| question.every)
    }
}

/// Clones of one token are equal.
impl PartialEq for CancelToken {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cancelled, &other.cancelled)
    }
}

/// How often a question is thought of until the clock is looked at: small operations take no longer than that.
const THOUGHTS: u32 = 4;

/// Something to be asked on one thread.
struct Question {
    thread: ThreadId,
    every: Duration,
    started: Instant,
    /// When to ask next, in nanoseconds from the start.
    due: AtomicU64,
    answered: AtomicBool,
    /// How often it was thought of: the clock is looked at one time of several.
    thoughts: AtomicU32,
    end: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Question {
    /// As [`ask`](Self::ask), but most times without looking at the clock.
    fn says_end(&self) -> bool {
        if self.answered.load(Ordering::Relaxed) {
            return true;
        }
        if thread::current().id() != self.thread {
            return false;
        }
        let thoughts = self.thoughts.fetch_add(1, Ordering::Relaxed);
        thoughts.is_multiple_of(THOUGHTS) && self.ask()
    }

    /// Asks if it is time to and this is the thread; gives whether to end.
    fn ask(&self) -> bool {
        let now = nanoseconds(self.started.elapsed());
        if now < self.due.load(Ordering::Relaxed) || thread::current().id() != self.thread {
            return self.answered.load(Ordering::Relaxed);
        }
        self.due.store(now.saturating_add(nanoseconds(self.every)), Ordering::Relaxed);
        let end = (self.end)();
        self.answered.store(end, Ordering::Relaxed);
        end
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("thread", &self.thread).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_ends_those_who_ask_it() {
        let token = CancelToken::new();
        let asking = token.asking(Duration::ZERO, || true);
        let elsewhere = asking.clone();
        thread::scope(|scope| {
            scope.spawn(|| assert!(!elsewhere.is_cancelled()));
        });
        assert!(asking.is_cancelled() && elsewhere.is_cancelled() && !token.is_cancelled());
        assert!(asking == token);
        let later = token.asking(Duration::from_secs(1000), || true);
        assert!(!later.is_cancelled());
        later.cancel();
        assert!(later.is_cancelled() && token.is_cancelled());
    }
}
