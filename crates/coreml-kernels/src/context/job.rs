//! Jobs: the tasks of one call of [`Pool::run`](super::Pool::run), lent to other threads while the call lasts.
#![allow(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::spin::Spin;

/// What is called with the number of each task.
pub(super) type Task<'t> = dyn Fn(usize) + Sync + 't;

/// Who opened a job has the slot.
const TAKEN: usize = 1;
/// Who opened the job sleeps until it has ended.
const AWAITED: usize = 1 << 1;
/// One task that other threads, or the same, have begun and not ended.
const RUNNING: usize = 1 << 2;
/// One task that nobody has begun.
const LEFT: usize = 1 << (usize::BITS / 2);

/// The most tasks of a job.
pub(super) const MOST_TASKS: usize = LEFT - 1;

/// A place for one job at a time.
///
/// All that threads agree on is one number, so that to begin a task is to be waited for, and nobody is waited
/// for who has begun none. (Two cache lines apart from the next slot, as CPUs fetch pairs.)
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Slot {
    /// Multiples of [`LEFT`] and [`RUNNING`], [`AWAITED`] and [`TAKEN`]; 0 where there is no job.
    state: AtomicUsize,
    /// Where the reference to the job's [`Task`] is, for who runs one of the tasks.
    task: AtomicPtr<()>,
    /// What a task panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    ended: Condvar,
}

impl Slot {
    /// Takes the slot for a job, unless it has one. Whoever waits for that job's end spins so long before it
    /// sleeps.
    pub(super) fn reserve(&self, spin: Duration) -> Option<Place<'_>> {
        if self.state.load(Ordering::Relaxed) != 0 {
            return None;
        }
        self.state.compare_exchange(0, TAKEN, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(Place { slot: self, spin })
    }

    /// Tasks that nobody has begun.
    pub(super) fn left(&self) -> usize {
        self.state.load(Ordering::SeqCst) / LEFT
    }

    /// Runs tasks that nobody has begun while there are any; says how many.
    pub(super) fn help(&self) -> usize {
        let begun = std::iter::from_fn(|| self.begin());
        begun.map(|index| self.run(index)).count()
    }

    fn begin(&self) -> Option<usize> {
        let begin = |state: usize| (state >= LEFT).then(|| state - LEFT + RUNNING);
        let before = self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, begin).ok()?;
        Some(before / LEFT - 1)
    }

    /// Runs a task that the thread has begun, and ends it.
    fn run(&self, index: usize) {
        let task: *const &Task = self.task.load(Ordering::Relaxed).cast();
        // SAFETY: `lend` put the pointer there before any task was left, which `begin` has seen; it points to
        // a reference that outlives the call of `lend`, and this neither returns nor unwinds until no task is
        // left or running, as this one is. The task may be called from any thread (`Sync`).
        let task = unsafe { *task };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| task(index))) {
            self.panic().get_or_insert(payload);
        }
        let before = self.state.fetch_sub(RUNNING, Ordering::Release);
        if before == TAKEN + AWAITED + RUNNING {
            drop(self.panic());
            self.ended.notify_one();
        }
    }

    fn has_ended(&self) -> bool {
        self.state.load(Ordering::Acquire) < RUNNING
    }

    /// Sleeps until the job has ended, or for so long; says whether it has.
    fn sleep(&self, at_most: Duration) -> bool {
        let panic = self.panic();
        self.state.fetch_or(AWAITED, Ordering::Relaxed);
        // Poison or not, it has waited.
        drop(self.ended.wait_timeout_while(panic, at_most, |_| !self.has_ended()));
        self.has_ended()
    }

    /// What a task panicked with. Who is about to sleep until the job's end has it locked, too.
    fn panic(&self) -> MutexGuard<'_, Option<Box<dyn Any + Send>>> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that the calling thread has, until this is dropped.
pub(super) struct Place<'s> {
    slot: &'s Slot,
    spin: Duration,
}

impl Place<'_> {
    /// Lends `task` to whoever helps, with every number below `tasks` (at most [`MOST_TASKS`]), while `own`
    /// runs here; then runs what nobody has begun, and waits for the others. Says whether there were any.
    ///
    /// # Panics
    /// As `own` or one of the tasks does, after all of them have ended.
    pub(super) fn lend(self, tasks: usize, task: &&Task, own: impl FnOnce(&Self)) -> bool {
        let task: *const &Task = task;
        self.slot.task.store(task.cast_mut().cast(), Ordering::Relaxed);
        self.slot.state.store(TAKEN + tasks * LEFT, Ordering::SeqCst);
        own(&self);
        let mine = self.end();
        if let Some(payload) = self.slot.panic().take() {
            resume_unwind(payload);
        }
        mine < tasks
    }

    /// Sleeps until all tasks have ended, or for so long; says whether they have.
    pub(super) fn sleep(&self, at_most: Duration) -> bool {
        self.slot.sleep(at_most)
    }

    /// Runs the tasks that nobody has begun, and waits for the others; says how many it ran.
    fn end(&self) -> usize {
        let ran = self.slot.help();
        if !self.slot.has_ended() {
            let spin = Spin::new(self.spin);
            while !self.slot.has_ended() && spin.turn() {}
            while !self.slot.has_ended() && !self.slot.sleep(Duration::MAX) {}
        }
        ran
    }
}

impl Drop for Place<'_> {
    /// Nobody runs a task of the job after this, also where `lend` unwinds.
    fn drop(&mut self) {
        self.end();
        self.slot.panic().take();
        self.slot.state.store(0, Ordering::Release);
    }
}
