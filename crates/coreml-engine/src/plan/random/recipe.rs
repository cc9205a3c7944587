//! What a random program is made from. Proptest makes and shrinks recipes; a step that is left out
//! leaves the choices of the others as they are, as far as that can be.

use coreml_format::mil::Opset;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;

use super::RUNS;

/// A program to be.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) opset: Opset,
    /// The shape that inputs and states are varied from: sizes of each axis in each run.
    pub(super) shape: Vec<[usize; RUNS]>,
    pub(super) inputs: Vec<u64>,
    pub(super) states: Vec<u64>,
    pub(super) steps: Vec<Step>,
    /// Which values are results.
    pub(super) results: u64,
}

/// Something that adds operations to a program; the numbers are where its [`Choices`] start.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Any operator.
    Operation(u64),
    /// An operator that only moves elements.
    Movement(u64),
    /// A part taken or replaced at a place that is found at run time.
    Part(u64),
    /// A read or write of a state.
    State(u64),
    /// Operations that a rewrite looks for.
    Idiom(u64),
    /// A branch.
    Cond(u64, Vec<Step>, Vec<Step>),
    /// A loop of a few turns.
    While(u64, Vec<Step>),
}

/// Recipes of any kind.
pub(super) fn recipes() -> impl Strategy<Value = Recipe> {
    let opset = prop_oneof![
        1 => Just(Opset::Ios15),
        1 => Just(Opset::Ios16),
        1 => Just(Opset::Ios17),
        3 => Just(Opset::Ios18),
        1 => Just(Opset::Ios26),
    ];
    let parts = (opset, vec(axis(), 1..4), vec(seed(), 1..4), vec(seed(), 0..3), steps(2, 16));
    (parts, seed()).prop_map(|((opset, shape, inputs, states, steps), results)| Recipe {
        opset,
        shape,
        inputs,
        states,
        steps,
        results,
    })
}

/// Numbers that mean nothing: smaller ones are no simpler.
fn seed() -> impl Strategy<Value = u64> + Clone {
    any::<u64>().no_shrink()
}

/// The size of an axis in each run.
fn axis() -> impl Strategy<Value = [usize; RUNS]> {
    prop_oneof![
        8 => (2..5usize).prop_map(|size| [size; RUNS]),
        2 => Just([1; RUNS]),
        1 => Just([0; RUNS]),
        2 => prop::array::uniform3(1..5usize),
        1 => prop::array::uniform3(0..3usize),
    ]
}

/// Up to `most` steps, in which blocks nest up to `depth` deep.
fn steps(depth: usize, most: usize) -> BoxedStrategy<Vec<Step>> {
    let flat = prop_oneof![
        5 => seed().prop_map(Step::Operation),
        5 => seed().prop_map(Step::Movement),
        2 => seed().prop_map(Step::Part),
        3 => seed().prop_map(Step::State),
        1 => seed().prop_map(Step::Idiom),
    ];
    if depth == 0 {
        return vec(flat, 0..most).boxed();
    }
    let inner = steps(depth - 1, 5);
    let cond = (seed(), inner.clone(), inner.clone());
    let nesting = prop_oneof![
        12 => flat,
        1 => cond.prop_map(|(seed, yes, no)| Step::Cond(seed, yes, no)),
        1 => (seed(), inner).prop_map(|(seed, body)| Step::While(seed, body)),
    ];
    vec(nesting, 1..most).boxed()
}

/// Choices that follow from a seed.
#[derive(Clone, Debug)]
pub(super) struct Choices(u64);

/// A number from which nobody sees what it was made from.
pub(super) fn mixed(number: u64) -> u64 {
    // The steps of splitmix64.
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Choices {
    pub(super) fn new(seed: u64) -> Self {
        Choices(seed)
    }

    /// The next number.
    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// A number below `end`, which is above 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// A number from the first up to and with the second.
    pub(super) fn between(&mut self, first: i32, last: i32) -> i32 {
        first + self.below((last - first + 1) as usize) as i32
    }

    /// True once in `times`.
    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of some things.
    pub(super) fn of<'t, T>(&mut self, things: &'t [T]) -> Option<&'t T> {
        (!things.is_empty()).then(|| &things[self.below(things.len())])
    }

    /// One of some things by their marks: the same one also where others come or go.
    pub(super) fn marked<T: Copy>(&mut self, things: &[T], mark: impl Fn(T) -> u64) -> Option<T> {
        let number = self.number();
        things.iter().copied().max_by_key(|&thing| mixed(mark(thing) ^ number))
    }
}
