//! Root-mean-square normalization: step by step, and as exporters for Apple's Neural Engine write it, as the
//! layer normalization of a vector together with its negative, whose mean is 0.

use super::{Effect, Match, Pattern, Replacement, Rule, Site, any, first_of, number, op};
use crate::graph::Graph;
use crate::ids::Operand;
use crate::op::{Frame, Inputs};
use crate::ops::{
    Binary, Concat, Elementwise, ElementwiseBinary, LayerNorm, Reduce, Reduction, RmsNorm, Slice,
    Unary,
};

/// The first half of `layer_norm(concat(x, -x))`.
pub(super) const NORM_OF_BOTH_SIGNS: Rule = Rule {
    name: "norm of both signs",
    effect: Effect::Order,
    pattern: || {
        let negative = op("negative", |op: &ElementwiseBinary| op.function == Binary::Mul)
            .of_both(any("x"), any("minus one"));
        let both = op("both", |concat: &Concat| concat.values.len() == 2 && !concat.interleave)
            .reading(0, any("x"))
            .reading(1, negative);
        let norm = op("norm", |norm: &LayerNorm| norm.gamma.is_none() && norm.beta.is_none())
            .reading(0, both);
        op("half", |_: &Slice| true).reading(0, norm)
    },
    replace: |site, found| {
        let norm: &LayerNorm = found.op("norm")?;
        let x = found.operand("x")?;
        let holds = is_minus_one(site.graph, found.operand("minus one")?)
            && is_along_last_axis(site, found, x)?
            && is_first_half(site.graph, found, x)?;
        let rms = RmsNorm { x: 0, gamma: None, epsilon: norm.epsilon };
        holds.then(|| Replacement::Run(Box::new(rms), vec![x]))
    },
};

pub(super) fn is_minus_one(graph: &Graph, operand: Operand) -> bool {
    number(graph, operand) == Some(-1.0)
}

/// Whether both the concatenation and the normalization are along the last axis.
fn is_along_last_axis(site: &Site, found: &Match, x: Operand) -> Option<bool> {
    let rank = i64::try_from(site.graph.shape(x)?.len()).ok()?;
    let is_last = |axis: i64| axis == -1 || axis == rank - 1;
    let axes = found.op::<LayerNorm>("norm")?.axes.as_ref()?;
    let [axis] = axes.as_slice() else { return Some(false) };
    Some(is_last(*axis) && is_last(found.op::<Concat>("both")?.axis))
}

/// Whether the slice takes the elements that belong to `x`.
fn is_first_half(graph: &Graph, found: &Match, x: Operand) -> Option<bool> {
    use crate::op::Op;
    let half = found.run("half")?;
    let inputs = Inputs::new(&half.inputs, graph);
    let view = found.op::<Slice>("half")?.view(&inputs, 0).ok()??;
    let output = graph.shape(Operand::Value(*half.outputs.first()?))?;
    let strides = inputs.strides(0).ok()?;
    Some(view.start == 0 && output == graph.shape(x)? && view.strides == strides)
}

/// `x / sqrt(mean(x²) + ε)` along the last axis, with a division or a reciprocal root.
pub(super) const ROOT_MEAN_SQUARE: Rule = Rule {
    name: "root mean square",
    effect: Effect::Fusion,
    pattern: || {
        let reciprocal = first_of([
            op("rsqrt", |op: &Elementwise| matches!(op.function, Unary::Rsqrt { .. }))
                .reading(0, mean()),
            power("root").reading(0, mean()).reading(1, any("minus half")),
        ]);
        let root = op("sqrt", |op: &Elementwise| op.function == Unary::Sqrt).reading(0, mean());
        first_of([
            binary("norm", Binary::Mul).of_both(reciprocal, any("x")),
            binary("norm", Binary::RealDiv).reading(0, any("x")).reading(1, root),
        ])
    },
    replace: |site, found| {
        let graph = &*site.graph;
        let x = found.operand("x")?;
        let is = |name: &str, expected: f32| match found.operand(name) {
            Some(operand) => number(graph, operand) == Some(expected),
            None => true,
        };
        let shift = match found.operand("epsilon") {
            Some(epsilon) => number(graph, epsilon)?,
            None => 0.0,
        };
        let within = match found.op::<Elementwise>("rsqrt").map(|op| &op.function) {
            Some(Unary::Rsqrt { epsilon }) => *epsilon,
            _ => 0.0,
        };
        let norm = *found.run("norm")?.outputs.first()?;
        let holds = is("two", 2.0)
            && is("minus half", -0.5)
            && is_mean_of_rows(graph, found, x)?
            && graph.shape(x)? == graph.shape(Operand::Value(norm))?
            && graph.kind(x).0 == graph.values[norm].element;
        let rms = RmsNorm { x: 0, gamma: None, epsilon: shift + within };
        holds.then(|| Replacement::Run(Box::new(rms), vec![x]))
    },
};

/// A root-mean-square normalization times a factor for each element of a vector.
pub(super) const SCALED_NORM: Rule = Rule {
    name: "scaled norm",
    effect: Effect::Fusion,
    pattern: || {
        let norm = op("norm", |norm: &RmsNorm| norm.gamma.is_none()).reading(0, any("x"));
        binary("scaled", Binary::Mul).of_both(norm, any("gamma"))
    },
    replace: |site, found| {
        let (x, gamma) = (found.operand("x")?, found.operand("gamma")?);
        let (shape, factors) = (site.graph.shape(x)?, site.graph.shape(gamma)?);
        let (size, others) = factors.split_last()?;
        let scaled = *found.run("scaled")?.outputs.first()?;
        let holds = site.is_read_once(found.run("norm")?)
            && Some(size) == shape.last()
            && others.iter().all(|&size| size == 1)
            && shape == site.graph.shape(Operand::Value(scaled))?
            && site.graph.kind(x).0 == site.graph.values[scaled].element;
        let epsilon = found.op::<RmsNorm>("norm")?.epsilon;
        let norm = RmsNorm { x: 0, gamma: Some(1), epsilon };
        holds.then(|| Replacement::Run(Box::new(norm), vec![x, gamma]))
    },
};

fn binary(name: &'static str, function: Binary) -> Pattern {
    op(name, move |op: &ElementwiseBinary| op.function == function)
}

fn power(name: &'static str) -> Pattern {
    binary(name, Binary::Pow)
}

/// The mean of the squares of `x`, with something added or not.
fn mean() -> Pattern {
    let squares = || {
        first_of([
            binary("squares", Binary::Mul).reading(0, any("x")).reading(1, any("x")),
            power("squares").reading(0, any("x")).reading(1, any("two")),
            op("squares", |op: &Elementwise| op.function == Unary::Square).reading(0, any("x")),
        ])
    };
    let mean = || {
        op("mean", |op: &Reduce| op.function == Reduction::Mean && op.keep).reading(0, squares())
    };
    first_of([binary("shifted", Binary::Add).of_both(mean(), any("epsilon")), mean()])
}

/// Whether the mean is that of each vector along the last axis.
fn is_mean_of_rows(graph: &Graph, found: &Match, x: Operand) -> Option<bool> {
    let rank = i64::try_from(graph.shape(x)?.len()).ok()?;
    let axes = found.op::<Reduce>("mean")?.axes.as_ref()?;
    Some(matches!(axes.as_slice(), [axis] if *axis == -1 || *axis == rank - 1))
}
