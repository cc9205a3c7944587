//! Where callers post their jobs, and helpers find them.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::job::{MOST_TASKS, Place, Slot, Task};
use super::spin::Spin;

/// The most jobs at a time: as many as there are callers, and callers among their tasks. Whoever finds no slot
/// computes alone, while others keep the cores busy.
const JOBS: usize = 32;

/// The most threads that one thread wakes: as each takes microseconds, those that wake do the rest.
const WAKES: usize = 2;

thread_local! {
    /// The address of the board whose jobs this thread works on, or opens for a while; else 0.
    static COMPUTES_FOR: Cell<usize> = const { Cell::new(0) };
}

/// The jobs of one process, and the threads that sleep until there are others.
pub(super) struct Board {
    slots: [Slot; JOBS],
    /// From the first on, how many slots have ever had a job: no others need be looked at.
    used: AtomicUsize,
    /// How long a thread that waits looks for work, or for the end of others' work, before it sleeps.
    spin: Duration,
    /// The process that has the threads; one that is forked has none of them.
    process: u32,
    ended: AtomicBool,
    /// Threads that compute for a while, and share out the team among themselves.
    callers: AtomicUsize,
    /// Threads that sleep and have not been called; changed where `calls` is locked.
    sleepers: AtomicUsize,
    /// Calls to sleeping threads that none has heard yet.
    calls: Mutex<usize>,
    called: Condvar,
}

impl Board {
    pub(super) fn new(spin: Duration, process: u32) -> Self {
        Self {
            slots: Default::default(),
            used: AtomicUsize::default(),
            spin,
            process,
            ended: AtomicBool::default(),
            callers: AtomicUsize::default(),
            sleepers: AtomicUsize::default(),
            calls: Mutex::default(),
            called: Condvar::default(),
        }
    }

    /// Whether the threads are this process's.
    pub(super) fn is_here(&self) -> bool {
        self.process == std::process::id()
    }

    /// Makes the calling thread one of the callers that compute for a while, unless it is one already, or one
    /// of the threads that help them.
    pub(super) fn enter(&self) -> Option<Caller<'_>> {
        let before = COMPUTES_FOR.get();
        if before == self.address() {
            return None;
        }
        COMPUTES_FOR.set(self.address());
        self.callers.fetch_add(1, Ordering::Relaxed);
        Some(Caller { board: self, before })
    }

    /// How many callers compute for a while.
    pub(super) fn callers(&self) -> usize {
        self.callers.load(Ordering::Relaxed)
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Calls `task` with every number below `tasks`, on so many threads at most, the calling one among them.
    /// Says whether there were others.
    pub(super) fn run(&self, threads: usize, tasks: usize, task: &Task) -> bool {
        let lent = tasks.min(threads).saturating_sub(1).min(MOST_TASKS);
        let place = if lent > 0 { self.reserve() } else { None };
        let Some(place) = place else {
            (0..tasks).for_each(task);
            return false;
        };
        place.lend(lent, &task, |_| {
            self.wake(lent);
            (lent..tasks).for_each(task);
        })
    }

    /// A slot for a job.
    pub(super) fn reserve(&self) -> Option<Place<'_>> {
        let mut places = self.slots.iter().map(|slot| slot.reserve(self.spin)).enumerate();
        let (index, place) = places.find_map(|(index, place)| Some((index, place?)))?;
        if self.used.load(Ordering::SeqCst) <= index {
            self.used.fetch_max(index + 1, Ordering::SeqCst);
        }
        Some(place)
    }

    /// Works on whatever job there is, until [`end`](Self::end).
    pub(super) fn serve(&self) {
        COMPUTES_FOR.set(self.address());
        let (mut last, mut spin) = (0, Spin::new(self.spin));
        while !self.ended.load(Ordering::SeqCst) {
            if let Some(slot) = self.help(last) {
                last = slot;
            } else if spin.turn() {
                continue;
            } else {
                self.sleep();
                // Whoever is called for a job of several tasks calls others.
                self.wake(self.left().saturating_sub(1));
            }
            spin = Spin::new(self.spin);
        }
    }

    /// Works on one job; says in which slot it was. As the `last` one comes last, no job waits for ever.
    fn help(&self, last: usize) -> Option<usize> {
        let used = self.used.load(Ordering::Relaxed);
        (1..=used).map(|i| (last + i) % used).find(|&slot| self.slots[slot].help() > 0)
    }

    /// Tasks that nobody has begun.
    fn left(&self) -> usize {
        let used = self.used.load(Ordering::SeqCst);
        self.slots.iter().take(used).map(Slot::left).sum()
    }

    /// Sleeps until called, unless there is something to do.
    fn sleep(&self) {
        let calls = self.calls();
        // A job is either seen here, or posted after this and its caller sees who sleeps.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        if self.left() > 0 || self.ended.load(Ordering::SeqCst) {
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        let calls = self.called.wait_while(calls, |calls| *calls == 0);
        *calls.unwrap_or_else(PoisonError::into_inner) -= 1;
    }

    /// Calls sleeping threads: no more than `most`, and than [`WAKES`].
    pub(super) fn wake(&self, most: usize) {
        // In a process that was forked, a thread that is no more may have the lock.
        if most == 0 || self.sleepers.load(Ordering::SeqCst) == 0 || !self.is_here() {
            return;
        }
        let mut calls = self.calls();
        let count = most.min(WAKES).min(self.sleepers.load(Ordering::SeqCst));
        self.sleepers.fetch_sub(count, Ordering::SeqCst);
        *calls += count;
        drop(calls);
        (0..count).for_each(|_| self.called.notify_one());
    }

    /// Ends the threads that serve, once they have done what they are at.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        while self.sleepers.load(Ordering::SeqCst) > 0 {
            self.wake(WAKES);
        }
    }

    fn calls(&self) -> MutexGuard<'_, usize> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the callers that compute for a while, until this is dropped.
pub(super) struct Caller<'b> {
    board: &'b Board,
    before: usize,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        COMPUTES_FOR.set(self.before);
        self.board.callers.fetch_sub(1, Ordering::Relaxed);
    }
}
