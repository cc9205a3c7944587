use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread::ThreadId;

use super::*;
use crate::context::Workers;

fn here() -> ThreadId {
    thread::current().id()
}

fn meet(all: &Barrier) {
    all.wait();
}

/// Threads that spin and, where there are more than cores, threads that do not.
const SIZES: [usize; 3] = [2, 3, 9];

/// All threads take part in a job of as many tasks, which wait for each other: spinning ones, and sleeping
/// ones, which call each other.
#[test]
fn all_threads_help() {
    for threads in SIZES {
        let workers = Workers::new(threads).unwrap();
        for pause in [Duration::ZERO, Duration::from_millis(2)] {
            for _ in 0..20 {
                let all = Barrier::new(threads);
                workers.for_each(threads, |_| meet(&all));
                thread::sleep(pause);
            }
        }
    }
}

/// A caller does not wait for threads that have begun nothing.
#[test]
fn busy_threads_are_not_waited_for() {
    let workers = Workers::new(2).unwrap();
    let (begun, done) = (Barrier::new(3), Barrier::new(3));
    thread::scope(|scope| {
        // One task on the thread of another caller, one on the only helper.
        scope.spawn(|| workers.for_each(2, |_| [&begun, &done].into_iter().for_each(meet)));
        begun.wait();
        let caller = here();
        for _ in 0..100 {
            workers.for_each(7, |_| assert_eq!(here(), caller));
        }
        done.wait();
    });
}

/// Callers that compute at the same time share out the threads, and count once.
#[test]
fn callers_share_the_threads() {
    let workers = Workers::new(4).unwrap();
    let (entered, done) = (Barrier::new(3), Barrier::new(3));
    let alone = || {
        let caller = here();
        workers.enter(|| {
            entered.wait();
            // A third of four threads is one.
            (0..100).for_each(|_| workers.for_each(4, |_| assert_eq!(here(), caller)));
            done.wait();
        });
    };
    thread::scope(|scope| {
        (0..3).for_each(|_| drop(scope.spawn(alone)));
    });
    let all = Barrier::new(4);
    workers.enter(|| workers.enter(|| workers.for_each(4, |_| meet(&all))));
    workers.enter_beside(
        || workers.enter(|| workers.for_each(4, |_| meet(&all))),
        Duration::from_secs(1),
        || {},
    );
}

/// What tasks panic with comes to the caller after all others have ended, and nothing is left of it.
#[test]
fn panics_of_tasks_are_the_callers() {
    for threads in SIZES {
        let team = Team::new(threads).unwrap();
        for wrong in 0..threads {
            let ended = AtomicUsize::new(0);
            let run = || {
                team.run(threads, &|index| {
                    assert_ne!(index, wrong, "the wrong one");
                    thread::sleep(Duration::from_micros(100));
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            };
            let payload = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
            assert!(payload.downcast::<String>().unwrap().contains("the wrong one"));
            // The caller's own last task is its last.
            assert_eq!(ended.into_inner(), threads - 1);
        }
        team.run(threads, &|_| {});
    }
}

/// The caller's panic while others work for it.
#[test]
fn a_panic_meanwhile_waits_for_the_work() {
    let workers = Workers::new(2).unwrap();
    let (asked, done) = (Barrier::new(2), AtomicUsize::new(0));
    let work = || {
        meet(&asked);
        thread::sleep(Duration::from_millis(5));
        done.fetch_add(1, Ordering::Relaxed);
    };
    let meanwhile = || {
        meet(&asked);
        panic!("the caller's own");
    };
    let beside = || workers.enter_beside(work, Duration::from_millis(1), meanwhile);
    let payload = catch_unwind(AssertUnwindSafe(beside)).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"the caller's own"));
    assert_eq!(done.into_inner(), 1);
    workers.for_each(10, |_| {});
}

/// Callers beside callers, nested tasks, panics, pools that come and go: every task runs once.
#[test]
fn many_callers_nest_and_panic() {
    for threads in SIZES {
        let team = Team::new(threads).unwrap();
        let count = AtomicUsize::new(0);
        let add = |_| _ = count.fetch_add(1, Ordering::Relaxed);
        let nested = |_| team.run(3, &add);
        let caller = |caller: usize| {
            for turn in 0..300 {
                match (caller + turn) % 4 {
                    0 => team.run(5, &nested),
                    1 => (0..5).for_each(nested),
                    2 => team.enter(&mut || team.run(5, &nested)),
                    _ => team.enter_beside(
                        &mut || team.run(5, &nested),
                        Duration::from_micros(100),
                        &mut || {},
                    ),
                }
                if turn % 10 == 0 {
                    let failed = || team.run(4, &|index| assert_eq!(index, 9));
                    assert!(catch_unwind(failed).is_err());
                }
            }
        };
        thread::scope(|scope| {
            (0..6).for_each(|number| drop(scope.spawn(move || caller(number))));
        });
        assert_eq!(count.into_inner(), 6 * 300 * 15, "{threads} threads");
    }
}

/// More callers than jobs find room for.
#[test]
fn callers_beyond_all_slots_compute_alone() {
    let workers = Workers::new(2).unwrap();
    let all = Barrier::new(70);
    let caller = || {
        let work = || {
            meet(&all);
            workers.for_each(3, |_| {});
        };
        workers.enter_beside(work, Duration::from_millis(1), || {});
    };
    thread::scope(|scope| (0..70).for_each(|_| drop(scope.spawn(caller))));
}

/// Threads end with the last handle.
#[test]
fn threads_end_with_their_pool() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    struct Ends(Cell<bool>);
    impl Drop for Ends {
        fn drop(&mut self) {
            ENDED.fetch_add(usize::from(self.0.get()), Ordering::Relaxed);
        }
    }
    thread_local! {
        static HERE: Ends = const { Ends(Cell::new(false)) };
    }
    for pause in [Duration::ZERO, Duration::from_millis(2)] {
        let before = ENDED.load(Ordering::Relaxed);
        let workers = Workers::new(4).unwrap();
        let (all, other, caller) = (Barrier::new(4), workers.clone(), here());
        drop(workers);
        other.for_each(4, |_| {
            HERE.with(|ends| ends.0.set(here() != caller));
            all.wait();
        });
        thread::sleep(pause);
        drop(other);
        assert_eq!(ENDED.load(Ordering::Relaxed), before + 3);
    }
}

/// A process that was forked has helpers on a board, but not their threads.
#[test]
fn a_forked_process_gets_other_threads() {
    let forked = || {
        let parents = Helpers::of(2, std::process::id() + 1);
        // As if they had been asleep.
        parents.board.wake(1);
        Team { threads: 3, helpers: OnceLock::from(Box::new(parents)) }
    };
    let (team, caller) = (forked(), here());
    team.run(3, &|_| assert_eq!(here(), caller));
    let all = Barrier::new(3);
    team.run(3, &|_| meet(&all));
    let team = forked();
    team.enter_beside(
        &mut || {
            assert_ne!(here(), caller);
            team.run(3, &|_| meet(&all));
        },
        Duration::from_secs(1),
        &mut || {},
    );
}
