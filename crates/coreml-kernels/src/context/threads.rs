//! The pools there are: the calling thread alone, and a team of threads.

use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::board::Board;
use super::job::Task;
use super::{MOST_THREADS, Pool};
use crate::error::KernelError;

/// How long a thread of a team spins before it sleeps: several times as long as it takes to wake one.
const SPIN: Duration = Duration::from_micros(50);

/// The calling thread alone.
pub(super) struct Serial;

impl Pool for Serial {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, tasks: usize, task: &Task) {
        (0..tasks).for_each(task);
    }
}

/// How many threads can compute at a time.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Threads that help whoever calls. The caller is one of the team: it works on its own tasks, and waits for
/// none but those that another thread has begun.
///
/// A process that was forked has none of its parent's threads. There the first caller computes alone, and the
/// next has others.
pub(super) struct Team {
    threads: usize,
    helpers: OnceLock<Box<Helpers>>,
}

impl Team {
    /// A team whose threads start when they are first needed. Where they can't, callers compute alone.
    pub(super) fn of_the_process() -> Self {
        let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|asked| asked.parse().ok());
        let threads = asked.filter(|&threads| threads > 0).unwrap_or_else(cores).min(MOST_THREADS);
        Self { threads, helpers: OnceLock::new() }
    }

    pub(super) fn new(threads: usize) -> Result<Self, KernelError> {
        match Helpers::start(threads - 1) {
            Ok(helpers) => Ok(Self { threads, helpers: Box::new(helpers).into() }),
            Err(source) => Err(KernelError::Threads { threads, source: Arc::new(source) }),
        }
    }

    /// Those that started last; they may be a parent's.
    fn helpers(&self) -> &Helpers {
        let mut helpers = self.helpers.get_or_init(|| Helpers::start_any(self.threads - 1));
        while let Some(next) = helpers.next.get() {
            helpers = next;
        }
        helpers
    }
}

impl Pool for Team {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, tasks: usize, task: &Task) {
        let helpers = self.helpers();
        let share = self.threads / helpers.board.callers().max(1);
        if !helpers.board.run(share, tasks, task) {
            helpers.of_this_process();
        }
    }

    fn enter(&self, work: &mut (dyn FnMut() + Send)) {
        let _caller = self.helpers().board.enter();
        work();
    }

    fn enter_beside(
        &self,
        work: &mut (dyn FnMut() + Send),
        every: Duration,
        meanwhile: &mut dyn FnMut(),
    ) {
        let helpers = self.helpers().of_this_process();
        let Some(_caller) = helpers.board.enter() else { return work() };
        let _absent = Absent::new(&helpers.absent);
        let place = helpers.grow().ok().and_then(|()| helpers.board.reserve());
        let Some(place) = place else { return work() };
        let work = Mutex::new(work);
        let task: &Task = &|_| work.lock().unwrap_or_else(PoisonError::into_inner)();
        place.lend(1, &task, |job| {
            helpers.board.wake(1);
            while !job.sleep(every) {
                meanwhile();
            }
        });
    }
}

/// The threads of a team in one process, but for those that call. They end with this.
struct Helpers {
    board: Arc<Board>,
    /// How many there are for callers that compute themselves.
    count: usize,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Callers that have another thread compute, and look after something else.
    absent: AtomicUsize,
    /// The threads of a process that was forked from this one.
    next: OnceLock<Box<Helpers>>,
}

impl Helpers {
    /// None at first, of up to so many in this process.
    fn of(count: usize, process: u32) -> Self {
        // Where there are fewer cores, a thread that spins takes one from another that computes.
        let spin = if count < cores() { SPIN } else { Duration::ZERO };
        Self {
            board: Arc::new(Board::new(spin, process)),
            count,
            threads: Mutex::default(),
            absent: AtomicUsize::default(),
            next: OnceLock::new(),
        }
    }

    fn start(count: usize) -> io::Result<Self> {
        let helpers = Self::of(count, std::process::id());
        helpers.grow()?;
        Ok(helpers)
    }

    /// All, or none where they can't be started.
    fn start_any(count: usize) -> Box<Self> {
        Box::new(Self::start(count).unwrap_or_else(|_| Self::of(0, std::process::id())))
    }

    /// Starts what is missing, for callers that are absent, too.
    fn grow(&self) -> io::Result<()> {
        let mut threads = self.threads();
        while threads.len() < self.count + self.absent.load(Ordering::Relaxed) {
            let board = self.board.clone();
            let thread = thread::Builder::new().name(format!("coreml-kernels-{}", threads.len()));
            threads.push(thread.spawn(move || board.serve())?);
        }
        Ok(())
    }

    /// Those of the process that asks.
    fn of_this_process(&self) -> &Self {
        match self.board.is_here() {
            true => self,
            false => self.next.get_or_init(|| Self::start_any(self.count)),
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        let threads = std::mem::take(&mut *self.threads());
        if !self.board.is_here() {
            // There is nothing to wait for, and nothing that could be let go.
            return std::mem::forget(threads);
        }
        self.board.end();
        // They catch what tasks panic with.
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// A caller that has another thread compute, until this is dropped.
struct Absent<'c>(&'c AtomicUsize);

impl<'c> Absent<'c> {
    fn new(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Absent<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
