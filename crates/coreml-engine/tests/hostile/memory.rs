//! Counts the memory that this thread takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts the bytes that each thread has asked for and not given back.
struct Counting;

// SAFETY: every call is handed on as it is to the system's allocator, which keeps the contract. What
// is not here goes through `alloc` and `dealloc` by default and is thus counted, too.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        taken(unsafe { System.alloc(layout) }, layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        taken(unsafe { System.alloc_zeroed(layout) }, layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(|held| held.saturating_sub(layout.size()));
        // SAFETY: as above; the pointer came from this allocator, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts what was asked for, if it was given.
fn taken(pointer: *mut u8, layout: Layout) -> *mut u8 {
    if !pointer.is_null() {
        count(|held| held.saturating_add(layout.size()));
    }
    pointer
}

fn count(change: impl Fn(usize) -> usize) {
    // A thread that ends has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(change(held.get()));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

/// Begins to count anew.
pub fn reset() {
    HELD.with(|held| held.set(0));
    PEAK.with(|peak| peak.set(0));
}

/// The most bytes that were held at a time since then.
pub fn peak() -> usize {
    PEAK.with(Cell::get)
}
