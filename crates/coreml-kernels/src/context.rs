//! What every kernel is given besides its operands: threads, an instruction set and memory.
//!
//! One [`Context`] serves a whole process or one model; kernels and their parallel tasks share it
//! by reference. Kernels know threads as [`Workers`] alone; other threads take an implementation of
//! [`Pool`].
#![allow(unsafe_code)]

mod board;
mod job;
mod spin;
mod threads;

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytemuck::{Pod, Zeroable};

use self::threads::{Serial, Team};
use crate::error::KernelError;
use crate::isa::Isa;
use crate::numerics::Numerics;
use crate::thresholds;

/// Threads, an instruction set and scratch memory. Kernels take it as their first argument.
///
/// A context is cheap to make and holds no more memory than the kernels on its threads needed at a
/// time. Several threads may compute with one context at once.
#[derive(Debug)]
pub struct Context {
    workers: Workers,
    isa: Isa,
    numerics: Numerics,
}

impl Context {
    /// A context on `workers`, with the best instruction set of this CPU.
    pub fn new(workers: Workers) -> Self {
        Self::with_isa(workers, Isa::detect())
    }

    /// A context on a chosen instruction set, which tests compare with others.
    pub fn with_isa(workers: Workers, isa: Isa) -> Self {
        Self { workers, isa, numerics: Numerics::default() }
    }

    /// The same with other numerics for values of half precision.
    pub fn with_numerics(self, numerics: Numerics) -> Self {
        Self { numerics, ..self }
    }

    /// The threads.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How exactly products of values of half precision are computed, for whoever calls kernels; these go by
    /// what they are given.
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// The memory: that of the threads, so that all models on them share it.
    pub fn scratch(&self) -> &Scratch {
        &self.workers.scratch
    }
}

/// The most threads that are started: more than any processor has, few enough that a slip of the
/// keyboard does not bring the machine down.
const MOST_THREADS: usize = 1024;

/// Threads that share out tasks.
pub trait Pool: Send + Sync {
    /// How many threads compute at a time, the calling one among them.
    fn threads(&self) -> usize;

    /// Calls `task` once with every number below `tasks` (of which [`Workers`] has no more than there are
    /// threads), in any order and on any threads, and returns when all calls have returned. Tasks may call
    /// `run` themselves.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));

    /// Runs `work` once, which calls [`Pool::run`] again and again.
    fn enter(&self, work: &mut (dyn FnMut() + Send)) {
        work();
    }

    /// As [`enter`](Self::enter); where the work is on another thread, the calling one calls `meanwhile`
    /// again and again, after so much time each.
    fn enter_beside(
        &self,
        work: &mut (dyn FnMut() + Send),
        every: Duration,
        meanwhile: &mut dyn FnMut(),
    ) {
        let _ = (every, meanwhile);
        self.enter(work);
    }
}

/// A shared handle to a [`Pool`] and to the scratch memory of what it computes. Clones use the same
/// threads and memory.
#[derive(Clone)]
pub struct Workers {
    pool: Arc<dyn Pool>,
    scratch: Arc<Scratch>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Workers").field("threads", &self.threads()).finish()
    }
}

impl Workers {
    /// The threads of this process: as many as the variable `RAYON_NUM_THREADS` says, which other libraries
    /// go by as well, else as many as there are CPUs (1024 at most). They start when they are first needed.
    pub fn shared() -> Self {
        static SHARED: OnceLock<Workers> = OnceLock::new();
        SHARED.get_or_init(|| Self::from_pool(Arc::new(Team::of_the_process()))).clone()
    }

    /// So many threads of their own, which end with the last handle: 1 to 1024.
    ///
    /// # Errors
    /// If there can't be so many, or the threads cannot be started.
    pub fn new(threads: usize) -> Result<Self, KernelError> {
        match threads {
            1 => Ok(Self::serial()),
            2..=MOST_THREADS => Ok(Self::from_pool(Arc::new(Team::new(threads)?))),
            _ => {
                let expected = format!("1 to {MOST_THREADS}");
                Err(KernelError::value("workers", "threads", expected, threads))
            }
        }
    }

    /// No threads but the caller's.
    pub fn serial() -> Self {
        Self::from_pool(Arc::new(Serial))
    }

    /// The threads of any pool.
    pub fn from_pool(pool: Arc<dyn Pool>) -> Self {
        Self { pool, scratch: Arc::default() }
    }

    /// How many threads compute at a time.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Runs `work`, which calls many kernels in a row. Callers who do so at the same time share out the
    /// threads among themselves; without `enter`, each would compute on all.
    ///
    /// # Panics
    /// If the pool does not run the work, against its contract.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        once(work, |work| self.pool.enter(work))
    }

    /// As [`enter`](Self::enter), for a caller who has to look after something else, too: while the work
    /// is on another thread, `meanwhile` is called on this one, after so much time each.
    ///
    /// # Panics
    /// As for `enter`.
    pub fn enter_beside<R: Send>(
        &self,
        work: impl FnOnce() -> R + Send,
        every: Duration,
        mut meanwhile: impl FnMut(),
    ) -> R {
        once(work, |work| self.pool.enter_beside(work, every, &mut meanwhile))
    }

    /// Calls `task` with every number below `tasks`, in parallel.
    pub fn for_each(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        let threads = self.threads();
        if tasks <= 1 || threads <= 1 {
            return (0..tasks).for_each(task);
        }
        let rest = Rest::new(tasks, threads);
        self.pool.run(threads.min(tasks), &|_| {
            while let Some(run) = rest.take() {
                run.for_each(&task);
            }
        });
    }

    /// As [`Workers::for_each`], with tasks that may fail.
    ///
    /// # Errors
    /// One of the tasks' errors. The other tasks run nevertheless.
    pub fn try_for_each(
        &self,
        tasks: usize,
        task: impl Fn(usize) -> Result<(), KernelError> + Sync,
    ) -> Result<(), KernelError> {
        let failure = Failure::default();
        self.for_each(tasks, |index| failure.note(task(index)));
        failure.into_result()
    }

    /// Calls `task` with the index and the elements of every chunk of `chunk` elements (the last
    /// may be shorter; zero counts as one), in parallel.
    pub fn for_each_chunk_mut<T: Send>(
        &self,
        data: &mut [T],
        chunk: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let (chunk, len) = (chunk.max(1), data.len());
        let start = Shared(data.as_mut_ptr());
        self.for_each(len.div_ceil(chunk), |index| {
            let first = index * chunk;
            let count = chunk.min(len - first);
            // SAFETY: `index` is below the number of chunks, so the elements lie within `data`,
            // which is borrowed until all tasks have returned; `for_each` runs no index twice, so
            // no two chunks overlap.
            let part = unsafe { std::slice::from_raw_parts_mut(start.get().add(first), count) };
            task(index, part);
        });
    }

    /// As [`Workers::for_each_chunk_mut`], with tasks that may fail.
    ///
    /// # Errors
    /// One of the tasks' errors. The other tasks run nevertheless.
    pub fn try_for_each_chunk_mut<T: Send>(
        &self,
        data: &mut [T],
        chunk: usize,
        task: impl Fn(usize, &mut [T]) -> Result<(), KernelError> + Sync,
    ) -> Result<(), KernelError> {
        let failure = Failure::default();
        self.for_each_chunk_mut(data, chunk, |index, part| failure.note(task(index, part)));
        failure.into_result()
    }

    /// Calls `task` with every run of `row` values (which divides their number) and its index: in
    /// parallel from `threshold` values on, else on the calling thread.
    pub(crate) fn for_each_row_mut<T: Send>(
        &self,
        data: &mut [T],
        row: usize,
        threshold: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let row = row.max(1);
        let rows = if data.len() < threshold {
            data.len()
        } else {
            (thresholds::task(threshold) / row).max(1)
        };
        self.for_each_chunk_mut(data, rows.saturating_mul(row), |index, part| {
            let first = index * rows;
            part.chunks_mut(row).enumerate().for_each(|(i, values)| task(first + i, values));
        });
    }
}

/// What `work` gives, which `run` runs once.
fn once<R: Send>(
    work: impl FnOnce() -> R + Send,
    run: impl FnOnce(&mut (dyn FnMut() + Send)),
) -> R {
    let (mut work, mut result) = (Some(work), None);
    run(&mut || {
        if let Some(work) = work.take() {
            result = Some(work());
        }
    });
    result.expect("a pool runs the work that enters it")
}

/// The tasks that no thread has taken yet.
///
/// It is this counter, not the pool, that says which task is whose: no pool, however wrong, can run
/// one twice, on which [`Workers::for_each_chunk_mut`] relies.
struct Rest {
    next: AtomicUsize,
    tasks: usize,
    threads: usize,
}

impl Rest {
    fn new(tasks: usize, threads: usize) -> Self {
        Self { next: AtomicUsize::new(0), tasks, threads }
    }

    /// Takes a thread's next tasks: many neighbours at first, as these often lie next to each other
    /// in memory, fewer and fewer towards the end, so that threads end together.
    fn take(&self) -> Option<Range<usize>> {
        let share = |next: usize| {
            let left = self.tasks.checked_sub(next).filter(|&left| left > 0)?;
            Some(next + (left / self.threads / 4).max(1))
        };
        let first = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, share).ok()?;
        Some(first..share(first)?)
    }
}

/// What went wrong first among tasks.
#[derive(Default)]
struct Failure(OnceLock<KernelError>);

impl Failure {
    fn note(&self, result: Result<(), KernelError>) {
        if let Err(error) = result {
            self.0.get_or_init(|| error);
        }
    }

    fn into_result(self) -> Result<(), KernelError> {
        self.0.into_inner().map_or(Ok(()), Err)
    }
}

/// The start of a slice of which each task touches another part.
pub(crate) struct Shared<T>(pub(crate) *mut T);

impl<T> Shared<T> {
    /// The address. (A closure that named the field would capture the bare pointer.)
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: whoever dereferences the pointer sees to it that no two threads touch the same element;
// the elements themselves may move to other threads.
unsafe impl<T: Send> Sync for Shared<T> {}

/// Alignment of scratch memory: a cache line, and the widest vector.
const ALIGNMENT: usize = 64;

/// What scratch memory consists of.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

/// Memory that kernels borrow and give back, so that repeated calls ask nothing of the allocator.
///
/// Buffers that come back are kept for the next [`Scratch::take`] that they are large enough for.
/// Of large ones there are never more than were borrowed at a time. Small ones are kept for each
/// thread, as tasks of some microseconds take them and memory that wanders between cores would slow
/// these down.
#[derive(Default)]
pub struct Scratch {
    large: Shelf,
    small: [Shelf; SHELVES],
}

/// Shelves for small buffers; threads beyond so many share them.
const SHELVES: usize = 16;

/// The largest buffer that is small: 32 KB, in lines.
const SMALL: usize = 512;

/// A number for each thread, in the order in which they first ask.
fn this_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|&number| number)
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let shelves = || self.small.iter().chain([&self.large]);
        let buffers: usize = shelves().map(|shelf| shelf.kept().len()).sum();
        let lines = |shelf: &Shelf| shelf.kept().iter().map(Vec::len).sum::<usize>();
        let bytes = shelves().map(lines).sum::<usize>() * ALIGNMENT;
        f.debug_struct("Scratch").field("buffers", &buffers).field("bytes", &bytes).finish()
    }
}

impl Scratch {
    /// Borrows `len` values, 64-byte aligned, until the lease is dropped. Their contents are
    /// unspecified: whatever was last written there, as any type.
    ///
    /// # Errors
    /// If there is no memory for so many.
    pub fn take<T: Pod>(&self, len: usize) -> Result<Lease<'_, T>, KernelError> {
        const { assert!(align_of::<T>() <= ALIGNMENT && size_of::<T>() > 0) }
        let bytes = len.checked_mul(size_of::<T>());
        let bytes = bytes.ok_or(KernelError::Memory { bytes: usize::MAX })?;
        let count = bytes.div_ceil(ALIGNMENT);
        let small = &self.small[this_thread() % SHELVES];
        let shelf = if count > SMALL { &self.large } else { small };
        let lines = shelf.find(count)?;
        Ok(Lease { shelf, lines, len, values: PhantomData })
    }
}

/// Buffers that nobody borrows. (Two cache lines apart from the next shelf, as CPUs fetch pairs.)
#[derive(Default)]
#[repr(align(128))]
struct Shelf {
    kept: Mutex<Vec<Vec<Line>>>,
}

impl Shelf {
    /// A buffer of at least `count` lines: the smallest one kept that is large enough, else a new
    /// one in place of the largest.
    fn find(&self, count: usize) -> Result<Vec<Line>, KernelError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let outgrown = {
            let mut kept = self.kept();
            let fits = |buffer: &&(usize, usize)| buffer.1 >= count;
            let sizes = kept.iter().map(Vec::len).enumerate();
            if let Some((index, _)) = sizes.clone().filter(|b| fits(&b)).min_by_key(|b| b.1) {
                return Ok(kept.swap_remove(index));
            }
            sizes.max_by_key(|buffer| buffer.1).map(|(index, _)| kept.swap_remove(index))
        };
        // Its memory is returned before more is asked for.
        drop(outgrown);
        // Sizes in eighths of a power of two: requests that grow a little each time, as with the
        // length of a context, are served from the same buffer for a while.
        let step = count.checked_next_power_of_two().map_or(1, |power| power.div_ceil(8));
        let lines = count.checked_next_multiple_of(step).unwrap_or(count);
        bytemuck::try_zeroed_vec(lines)
            .map_err(|()| KernelError::Memory { bytes: count.saturating_mul(ALIGNMENT) })
    }

    fn give_back(&self, buffer: Vec<Line>) {
        let mut kept = self.kept();
        // Without memory for the list, the buffer is better freed.
        if !buffer.is_empty() && kept.try_reserve(1).is_ok() {
            kept.push(buffer);
        }
    }

    /// The list, which no panic can leave half changed.
    fn kept(&self) -> MutexGuard<'_, Vec<Vec<Line>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Values borrowed from a [`Scratch`]; a slice in all but name.
pub struct Lease<'a, T> {
    shelf: &'a Shelf,
    lines: Vec<Line>,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Pod> Deref for Lease<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `take` has seen to it that the lines hold so many values, and a line is aligned
        // for them; the lines are initialised, and any bytes make a `Pod`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Pod> DerefMut for Lease<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; and the lease owns the lines, of which any bytes are valid too.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Pod + std::fmt::Debug> std::fmt::Debug for Lease<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self[..].fmt(f)
    }
}

impl<T> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        self.shelf.give_back(std::mem::take(&mut self.lines));
    }
}

#[cfg(test)]
mod tests;
