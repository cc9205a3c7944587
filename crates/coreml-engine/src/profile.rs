//! How long each operation of a model takes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::graph::Source;
use crate::run::{Effort, Observer, Position};

/// What the operations of one or several models have taken.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Profile {
    /// Calls of functions.
    pub calls: usize,
    /// Time of all calls: that of the operations, and that between them.
    pub time: Duration,
    /// The operations, in the order in which they first ran.
    pub operations: Vec<OperationProfile>,
}

/// What an operation has taken: sums over all times that it ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationProfile {
    /// The name of the model, as [`Profiler::of_model`] has it.
    pub model: String,
    /// The function.
    pub function: String,
    /// The names of the loops and branches that it is in, from outside.
    pub path: Vec<String>,
    /// The operation's name in the program; of several that were replaced by one, that of one of them.
    pub operation: String,
    /// Its operator in the program.
    pub operator: String,
    /// What was computed, which may be something else that gives the same.
    pub computes: String,
    /// How often it ran.
    pub times: usize,
    /// How long, without what is inside it, where it is a loop or a branch.
    pub time: Duration,
    /// Bytes of constants that it has read, as the model's files hold them: by shapes and encodings.
    pub constant_bytes: u64,
    /// Bytes of other values that it has read and written: by shapes.
    pub value_bytes: u64,
    /// Multiplications and additions of products, convolutions and attention: by shapes; 0 of other
    /// operations.
    pub flops: u64,
}

/// Collects what operations take, of all calls of the models that are loaded with it. Clones collect into the
/// same [`Profile`]. While it is stopped, calls run as without one.
#[derive(Clone, Debug, Default)]
pub struct Profiler {
    shared: Arc<Shared>,
    model: Arc<str>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    collected: Mutex<Collected>,
}

#[derive(Debug, Default)]
struct Collected {
    profile: Profile,
    /// The places of the operations in the profile.
    places: HashMap<Key, usize>,
}

/// What tells operations of a profile apart.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    model: String,
    function: String,
    path: Vec<String>,
    operation: String,
    computes: String,
}

impl Profiler {
    /// One that collects from now on.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same profiler, for a model of this name.
    pub fn of_model(&self, model: &str) -> Self {
        Profiler { model: model.into(), ..self.clone() }
    }

    /// Collects the calls that begin from now on.
    pub fn start(&self) {
        self.shared.stopped.store(false, Ordering::Relaxed);
    }

    /// Leaves out the calls that begin from now on.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }

    /// What was collected since the last time.
    pub fn take(&self) -> Profile {
        std::mem::take(&mut *self.collected()).profile
    }

    /// What measures a call, if it is to be measured.
    pub(crate) fn stopwatch(&self) -> Option<Stopwatch> {
        (!self.shared.stopped.load(Ordering::Relaxed)).then(Stopwatch::default)
    }

    /// Adds a call of a function that has taken so much time, that of the stopwatch included.
    pub(crate) fn add(&self, function: &str, stopwatch: Stopwatch, time: Duration) {
        let mut collected = self.collected();
        collected.profile.calls += 1;
        collected.profile.time += time.saturating_sub(stopwatch.own);
        for operation in stopwatch.operations {
            collected.add(OperationProfile {
                model: self.model.to_string(),
                function: function.to_owned(),
                ..operation
            });
        }
    }

    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.shared.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collected {
    fn add(&mut self, operation: OperationProfile) {
        let operations = &mut self.profile.operations;
        let place = *self.places.entry(Key::of(&operation)).or_insert(operations.len());
        match operations.get_mut(place) {
            Some(known) => known.add(&operation),
            None => operations.push(operation),
        }
    }
}

impl Key {
    fn of(operation: &OperationProfile) -> Self {
        Key {
            model: operation.model.clone(),
            function: operation.function.clone(),
            path: operation.path.clone(),
            operation: operation.operation.clone(),
            computes: operation.computes.clone(),
        }
    }
}

impl OperationProfile {
    fn new(at: &Position, computes: String) -> Self {
        let (source, around) = at.path.split_last().unzip();
        let around: &[&Source] = around.unwrap_or_default();
        OperationProfile {
            path: around.iter().map(|source| source.name.clone()).collect(),
            operation: source.map_or_else(String::new, |source| source.name.clone()),
            operator: source.map_or_else(String::new, |source| source.operator.clone()),
            computes,
            ..OperationProfile::default()
        }
    }

    /// Adds what it has taken at other times.
    fn add(&mut self, more: &OperationProfile) {
        self.times += more.times;
        self.time += more.time;
        self.constant_bytes = self.constant_bytes.saturating_add(more.constant_bytes);
        self.value_bytes = self.value_bytes.saturating_add(more.value_bytes);
        self.flops = self.flops.saturating_add(more.flops);
    }
}

/// Measures the operations of one call.
#[derive(Default)]
pub(crate) struct Stopwatch {
    operations: Vec<OperationProfile>,
    /// The steps' places among the operations, by where the plan holds them.
    places: HashMap<usize, usize>,
    /// For each depth of loops and branches, what the time of the step that runs there has to be without.
    inside: Vec<Duration>,
    /// Time that measuring itself has taken.
    own: Duration,
}

impl Observer for Stopwatch {
    fn took(&mut self, at: &Position, time: Duration, effort: &dyn Fn() -> Effort) {
        let began = Instant::now();
        let Effort { computes, constant_bytes, value_bytes, flops } = effort();
        let depth = at.path.len();
        if self.inside.len() <= depth {
            self.inside.resize(depth + 1, Duration::ZERO);
        }
        let inside = std::mem::take(&mut self.inside[depth]);
        let time_of_its_own = time.saturating_sub(inside);
        let amounts = OperationProfile {
            times: 1,
            time: time_of_its_own,
            constant_bytes,
            value_bytes,
            flops,
            ..OperationProfile::default()
        };
        self.operation(at, computes).add(&amounts);
        let own = began.elapsed();
        self.own += own;
        if let Some(around) = depth.checked_sub(1) {
            self.inside[around] += time + own;
        }
    }
}

impl Stopwatch {
    fn operation(&mut self, at: &Position, computes: String) -> &mut OperationProfile {
        let step = at.path.last().map_or(0, |source| std::ptr::from_ref::<Source>(source).addr());
        let place = *self.places.entry(step).or_insert(self.operations.len());
        if place == self.operations.len() {
            self.operations.push(OperationProfile::new(at, computes));
        }
        &mut self.operations[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> Source {
        Source { name: name.to_owned(), operator: "add".to_owned() }
    }

    fn took(watch: &mut Stopwatch, path: &[&Source], millis: u64) {
        let at = Position { call: 0, path, rounds: false, has_blocks: false };
        let effort = || Effort { computes: "add".to_owned(), flops: 2, ..Effort::default() };
        watch.took(&at, Duration::from_millis(millis), &effort);
    }

    #[test]
    fn a_loop_counts_without_what_is_inside_it() {
        let (looped, inner, behind) = (source("loop"), source("inner"), source("behind"));
        let mut watch = Stopwatch::default();
        took(&mut watch, &[&looped, &inner], 30);
        took(&mut watch, &[&looped, &inner], 50);
        took(&mut watch, &[&looped], 1000);
        took(&mut watch, &[&behind], 7);
        let profiler = Profiler::new().of_model("m");
        profiler.add("main", watch, Duration::from_secs(2));
        let profile = profiler.take();
        let [inner, looped, behind] = profile.operations.as_slice() else { panic!("{profile:?}") };
        assert_eq!((inner.times, inner.time.as_millis(), inner.flops), (2, 80, 4));
        assert_eq!((inner.path.as_slice(), &*inner.model), (&["loop".to_owned()][..], "m"));
        // Less what measuring has taken, too.
        assert!((900..=920).contains(&looped.time.as_millis()), "{looped:?}");
        assert_eq!(behind.time.as_millis(), 7);
        assert!(profile.calls == 1 && profile.time <= Duration::from_secs(2));
    }

    #[test]
    fn calls_add_up_until_they_are_taken_and_a_stopped_one_has_no_watch() {
        let profiler = Profiler::new();
        for function in ["f", "g", "f"] {
            let mut watch = profiler.stopwatch().unwrap();
            took(&mut watch, &[&source("x")], 1);
            profiler.clone().add(function, watch, Duration::from_millis(2));
        }
        let profile = profiler.take();
        let times: Vec<(&str, usize)> =
            profile.operations.iter().map(|of| (&*of.function, of.times)).collect();
        assert_eq!((profile.calls, times), (3, vec![("f", 2), ("g", 1)]));
        assert_eq!(profiler.take().calls, 0);
        profiler.stop();
        assert!(profiler.clone().stopwatch().is_none());
        profiler.start();
        assert!(profiler.stopwatch().is_some());
    }
}
