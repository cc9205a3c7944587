//! Root-mean-square normalization as exporters for Apple's Neural Engine write it: as the layer
//! normalization of a vector together with its negative, whose mean is 0.

use super::{Effect, Match, Replacement, Rule, Site, any, op};
use crate::graph::Graph;
use crate::ids::Operand;
use crate::op::{Frame, Inputs};
use crate::ops::{Binary, Concat, ElementwiseBinary, LayerNorm, RmsNorm, Slice};

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
        let rms = RmsNorm { x: 0, epsilon: norm.epsilon };
        holds.then(|| Replacement::Run(Box::new(rms), vec![x]))
    },
};

fn is_minus_one(graph: &Graph, operand: Operand) -> bool {
    let tensor = graph.tensor(operand).filter(|tensor| tensor.len() == 1);
    tensor.is_some_and(|tensor| tensor.scalar_f32().is_ok_and(|value| value == -1.0))
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
