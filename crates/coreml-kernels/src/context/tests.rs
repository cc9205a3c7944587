use super::*;

/// A pool that keeps none of its promises.
struct Wrong;

impl Pool for Wrong {
    fn threads(&self) -> usize {
        2
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..tasks + 5).for_each(|_| task(0)));
            }
        });
    }
}

fn pools() -> [Workers; 5] {
    let own = |threads| Workers::new(threads).unwrap();
    [Workers::serial(), Workers::shared(), own(2), own(5), Workers::from_pool(Arc::new(Wrong))]
}

#[test]
fn every_chunk_once() {
    for workers in pools() {
        for (len, chunk) in [(0, 3), (1, 3), (7, 3), (1000, 1), (1000, 7), (9, 0), (5, usize::MAX)]
        {
            let mut data: Vec<usize> = (0..len).collect();
            workers.for_each_chunk_mut(&mut data, chunk, |index, part| {
                let first = index * chunk.max(1);
                assert!(part.iter().enumerate().all(|(i, &x)| x == first + i));
                assert_eq!(part.len(), chunk.max(1).min(len - first));
                part.iter_mut().for_each(|x| *x += 10_000);
            });
            assert!(data.iter().enumerate().all(|(i, &x)| x == i + 10_000), "{workers:?}");
        }
    }
}

#[test]
fn failures_are_told() {
    for workers in pools() {
        let mut data = [0u8; 100];
        let failed = workers.try_for_each_chunk_mut(&mut data, 9, |index, part| {
            part.fill(1);
            if index == 3 { Err(KernelError::Memory { bytes: 7 }) } else { Ok(()) }
        });
        assert!(matches!(failed, Err(KernelError::Memory { bytes: 7 })));
        assert_eq!(data, [1; 100]);
        assert!(workers.try_for_each_chunk_mut(&mut data, 9, |_, _| Ok(())).is_ok());
    }
}

#[test]
fn work_enters_and_tasks_nest() {
    for workers in pools() {
        let total = AtomicUsize::new(0);
        let answer = workers.enter(|| {
            workers.for_each(10, |i| {
                workers.for_each(10, |j| {
                    total.fetch_add(10 * i + j, Ordering::Relaxed);
                });
            });
            "done"
        });
        assert_eq!((answer, total.into_inner()), ("done", 99 * 50));
    }
}

#[test]
fn the_caller_looks_after_something_else_meanwhile() {
    let beside = |workers: &Workers| {
        let (calls, here) = (AtomicUsize::new(0), std::thread::current().id());
        let work = || {
            let elsewhere = std::thread::current().id() != here;
            while elsewhere && calls.load(Ordering::Relaxed) < 3 {
                std::thread::yield_now();
            }
            (elsewhere, "done")
        };
        let answer = workers.enter_beside(work, Duration::from_millis(1), || {
            assert_eq!(std::thread::current().id(), here);
            calls.fetch_add(1, Ordering::Relaxed);
        });
        (answer, calls.into_inner() >= 3)
    };
    let own = Workers::new(2).unwrap();
    assert_eq!(beside(&own), ((true, "done"), true));
    assert_eq!(beside(&Workers::shared()), ((true, "done"), true));
    assert_eq!(beside(&Workers::serial()), ((false, "done"), false));
    assert_eq!(own.enter(|| beside(&own)), ((false, "done"), false));
}

#[test]
#[should_panic(expected = "the work's own")]
fn a_panic_beside_the_caller_is_the_callers() {
    let work = || panic!("the work's own");
    Workers::new(2).unwrap().enter_beside(work, Duration::from_secs(1), || {});
}

#[test]
fn numbers_of_threads() {
    assert_eq!(Workers::serial().threads(), 1);
    assert_eq!(Workers::new(1).unwrap().threads(), 1);
    assert_eq!(Workers::new(3).unwrap().clone().threads(), 3);
    assert!(Workers::shared().threads() > 0);
    for wrong in [0, 1025, usize::MAX] {
        let error = Workers::new(wrong).unwrap_err().to_string();
        assert_eq!(error, format!("workers: `threads` is {wrong}, expected 1 to 1024"));
    }
}

#[test]
fn leases_are_aligned_and_apart() {
    let scratch = Scratch::default();
    let mut a = scratch.take::<f32>(100).unwrap();
    let mut b = scratch.take::<u8>(7).unwrap();
    let mut c = scratch.take::<[u8; 3]>(50).unwrap();
    assert_eq!((a.len(), b.len(), c.len()), (100, 7, 50));
    assert!(a.as_ptr().addr().is_multiple_of(64) && b.as_ptr().addr().is_multiple_of(64));
    a.fill(1.0);
    b.fill(2);
    c.fill([3, 4, 5]);
    assert!(a.iter().all(|&x| x == 1.0) && b.iter().all(|&x| x == 2));
    assert!(c.iter().all(|&x| x == [3, 4, 5]));
    assert!(scratch.take::<u64>(0).unwrap().is_empty());
}

#[test]
fn buffers_come_back() {
    // Sizes of the small kind and of the large one.
    for unit in [1, 10_000] {
        let scratch = Scratch::default();
        let address = |len: usize| scratch.take::<u8>(len * unit).unwrap().as_ptr().addr();
        let large = address(20_000);
        let held = scratch.take::<u8>(8000 * unit).unwrap();
        assert_eq!(held.as_ptr().addr(), large, "the one kept is large enough");
        let small = address(64);
        drop(held);
        assert_eq!(address(60), small, "the best fit");
        assert_eq!(address(80), large, "the only fit");
        address(30_000);
        let report = format!("{scratch:?}");
        assert!(report.starts_with("Scratch { buffers: 2,"), "the largest was replaced: {report}");
    }
}

/// Small buffers stay with their thread, large ones serve whoever comes.
#[test]
fn buffers_of_threads() {
    let scratch = Scratch::default();
    let address = |len: usize| scratch.take::<u8>(len).unwrap().as_ptr().addr();
    let elsewhere = |len: usize| std::thread::scope(|s| s.spawn(|| address(len)).join().unwrap());
    let here = address(100);
    // One of several, as a thread may share our shelf by chance.
    assert!((0..3).any(|_| elsewhere(100) != here));
    assert_eq!(address(100_000), elsewhere(100_000));
}

#[test]
fn lack_of_memory_is_an_error() {
    let scratch = Scratch::default();
    let error = scratch.take::<u64>(usize::MAX / 8).unwrap_err();
    assert!(matches!(error, KernelError::Memory { .. }), "{error}");
    assert!(scratch.take::<u64>(usize::MAX).is_err());
    assert!(scratch.take::<u64>(8).is_ok());
}
