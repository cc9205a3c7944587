//! Movements that come to nothing, or to one.

use smallvec::SmallVec;

use super::{Effect, Match, Pattern, Replacement, Rule, Site, any, op};
use crate::graph::Run;
use crate::ids::Operand;
use crate::op::Frame;
use crate::ops::{Order, Reorder, Reshape, ReshapeRule};

/// `reshape(x)` to the shape that `x` has.
pub(super) const NOTHING_MOVES: Rule = Rule {
    name: "nothing moves",
    effect: Effect::Exact,
    pattern: || op("reshape", |_: &Reshape| true).reading(0, any("x")),
    replace: |site, found| {
        let (x, reshape) = (found.operand("x")?, found.run("reshape")?);
        let from = site.graph.shape(x)?;
        let to = site.graph.shape(Operand::Value(*reshape.outputs.first()?))?;
        // A constant may be of another float type than the value that it would stand for.
        let value = matches!(x, Operand::Value(_));
        (value && from == to).then_some(Replacement::Operand(x))
    },
};

/// `reshape(reshape(x))`.
pub(super) const RESHAPE_OF_RESHAPE: Rule = Rule {
    name: "reshape of reshape",
    effect: Effect::Exact,
    pattern: || {
        let inner = op("inner", |_: &Reshape| true).reading(0, any("x"));
        op("outer", |_: &Reshape| true).reading(0, inner)
    },
    replace: |site, found| {
        let outer: &Run = found.run("outer")?;
        let shape = site.graph.shape(Operand::Value(*outer.outputs.first()?))?;
        let reshape = Reshape { x: 0, rule: ReshapeRule::To(shape.into()) };
        Some(Replacement::Run(Box::new(reshape), vec![found.operand("x")?]))
    },
};

fn transposition(name: &'static str) -> Pattern {
    op(name, |reorder: &Reorder| matches!(reorder.order, Order::Permute(_)))
}

/// `transpose(transpose(x))`.
pub(super) const TRANSPOSE_OF_TRANSPOSE: Rule = Rule {
    name: "transpose of transpose",
    effect: Effect::Exact,
    pattern: || transposition("outer").reading(0, transposition("inner").reading(0, any("x"))),
    replace: composed,
};

fn composed(_site: &mut Site, found: &Match) -> Option<Replacement> {
    let axes = |name: &str| match &found.op::<Reorder>(name)?.order {
        Order::Permute(axes) => Some(axes),
        _ => None,
    };
    let (outer, inner) = (axes("outer")?, axes("inner")?);
    let rank = i64::try_from(inner.len()).ok()?;
    let axes: Option<SmallVec<[i64; 8]>> = outer
        .iter()
        .map(|&axis| {
            let axis = if axis < 0 { axis + rank } else { axis };
            inner.get(usize::try_from(axis).ok()?).copied()
        })
        .collect();
    let reorder = Reorder { x: 0, order: Order::Permute(axes?) };
    Some(Replacement::Run(Box::new(reorder), vec![found.operand("x")?]))
}
