//! The pools there are: the calling thread alone, and rayon's threads. This file is the only one that names
//! the thread pool in use.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rayon::prelude::*;
use rayon::{Scope, ThreadPool};

use super::Pool;
use crate::error::KernelError;

/// The calling thread alone.
pub(super) struct Serial;

impl Pool for Serial {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

/// Rayon's threads. A process that was forked has none of its parent's threads: it gets others, as many,
/// when it first computes.
pub(super) struct Rayon {
    /// Those of a pool of our own; without one those of the pool that the caller is in, or else the
    /// process's.
    own: Option<ThreadPool>,
    /// The process that has them.
    process: u32,
    /// The threads of another process.
    forked: Mutex<Option<(u32, Arc<ThreadPool>)>>,
}

impl Rayon {
    pub(super) fn of_the_process() -> Self {
        Self::of(None)
    }

    pub(super) fn new(threads: usize) -> Result<Self, KernelError> {
        match start(threads) {
            Ok(pool) => Ok(Self::of(Some(pool))),
            Err(source) => Err(KernelError::Threads { threads, source: Arc::new(source) }),
        }
    }

    fn of(own: Option<ThreadPool>) -> Self {
        Self { own, process: std::process::id(), forked: Mutex::default() }
    }

    /// The threads to compute on. Whoever is on one of them already need not ask the system which process
    /// it is.
    fn current(&self) -> Current<'_> {
        let here = match &self.own {
            None => rayon::current_thread_index().map(|_| Current::Global),
            Some(pool) => pool.current_thread_index().map(|_| Current::Own(pool)),
        };
        here.unwrap_or_else(|| match (&self.own, std::process::id()) {
            (None, process) if process == self.process => Current::Global,
            (Some(pool), process) if process == self.process => Current::Own(pool),
            (_, process) => self.of_fork(process).map_or(Current::Caller, Current::Forked),
        })
    }

    /// The threads of a process that was forked; none where they can't be started.
    fn of_fork(&self, process: u32) -> Option<Arc<ThreadPool>> {
        let mut forked = self.forked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, pool)) = &*forked
            && *of == process
        {
            return Some(pool.clone());
        }
        let pool = Arc::new(start(self.threads()).ok()?);
        // A pool of the parent's has no threads here that could end it.
        std::mem::forget(forked.replace((process, pool.clone())));
        Some(pool)
    }
}

fn start(threads: usize) -> Result<ThreadPool, rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("coreml-kernels-{index}"))
        .build()
}

/// Where to compute.
enum Current<'r> {
    Global,
    Own(&'r ThreadPool),
    Forked(Arc<ThreadPool>),
    Caller,
}

impl Current<'_> {
    fn scope<'s>(&self, work: impl FnOnce(&Scope<'s>)) {
        match self {
            Current::Own(pool) => pool.in_place_scope(work),
            Current::Forked(pool) => pool.in_place_scope(work),
            Current::Global | Current::Caller => rayon::in_place_scope(work),
        }
    }
}

impl Pool for Rayon {
    fn threads(&self) -> usize {
        match &self.own {
            None => rayon::current_num_threads(),
            Some(pool) => pool.current_num_threads(),
        }
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let run = || (0..tasks).into_par_iter().for_each(task);
        match self.current() {
            Current::Global => run(),
            Current::Own(pool) => pool.install(run),
            Current::Forked(pool) => pool.install(run),
            Current::Caller => (0..tasks).for_each(task),
        }
    }

    fn enter(&self, work: &mut (dyn FnMut() + Send)) {
        match self.current() {
            Current::Global => rayon::scope(|_| work()),
            Current::Own(pool) => pool.install(work),
            Current::Forked(pool) => pool.install(work),
            Current::Caller => work(),
        }
    }

    fn enter_beside(
        &self,
        work: &mut (dyn FnMut() + Send),
        every: Duration,
        meanwhile: &mut dyn FnMut(),
    ) {
        let current = self.current();
        if matches!(current, Current::Caller) || rayon::current_thread_index().is_some() {
            return self.enter(work);
        }
        let end = End::default();
        current.scope(|scope| {
            scope.spawn(|_| {
                let _told = end.tell_when_dropped();
                work();
            });
            while !end.wait(every) {
                meanwhile();
            }
        });
    }
}

/// Tells one thread that the work on another has ended.
#[derive(Default)]
struct End {
    ended: Mutex<bool>,
    told: Condvar,
}

impl End {
    /// What tells it, also where the work panics.
    fn tell_when_dropped(&self) -> impl Drop + '_ {
        struct Tell<'e>(&'e End);
        impl Drop for Tell<'_> {
            fn drop(&mut self) {
                *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
                self.0.told.notify_one();
            }
        }
        Tell(self)
    }

    /// Waits so long at most; says whether the work has ended.
    fn wait(&self, at_most: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(ended, at_most, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
