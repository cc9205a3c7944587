//! Rotary position embedding as exporters write it, with halves taken, turned and put together.

use super::{Effect, Match, Replacement, Rule, Site, any, op};
use crate::graph::Graph;
use crate::ids::Operand;
use crate::op::{Frame, Inputs, Op};
use crate::ops::{Binary, Concat, ElementwiseBinary, Rotary, Slice};
use crate::plan::rewrite::norm::is_minus_one;

/// `x · cos + concat(-x[half..], x[..half]) · sin`.
pub(super) const ROTATED_HALVES: Rule = Rule {
    name: "rotated halves",
    effect: Effect::Fusion,
    pattern: || {
        let half = |name| op(name, |_: &Slice| true).reading(0, any("x"));
        let times = |name| op(name, |op: &ElementwiseBinary| op.function == Binary::Mul);
        let negative = times("negative").of_both(half("second"), any("minus one"));
        let turned = op("turned", |op: &Concat| op.values.len() == 2 && !op.interleave)
            .reading(0, negative)
            .reading(1, half("first"));
        // The halves first: they say what `x` is.
        let turned = times("turned by sin").of_both(turned, any("sin"));
        let straight = times("straight by cos").of_both(any("x"), any("cos"));
        op("sum", |op: &ElementwiseBinary| op.function == Binary::Add).of_both(turned, straight)
    },
    replace,
};

fn replace(site: &mut Site, found: &Match) -> Option<Replacement> {
    let graph = &*site.graph;
    let operands: Vec<Operand> =
        ["x", "cos", "sin"].iter().map_while(|name| found.operand(name)).collect();
    let x = *operands.first()?;
    let shape = graph.shape(x)?;
    let last = i64::try_from(shape.len()).ok()? - 1;
    let width = *shape.last()?;
    let sum = *found.run("sum")?.outputs.first()?;
    let axis = found.op::<Concat>("turned")?.axis;
    let rotary = Rotary { x: 0, cos: 1, sin: 2 };
    let holds = width.is_multiple_of(2)
        && (axis == -1 || axis == last)
        && is_minus_one(graph, found.operand("minus one")?)
        && is_part(graph, found, "first", 0)?
        && is_part(graph, found, "second", width / 2)?
        && graph.kind(x).0 == graph.values[sum].element
        && rotary.infer(&Inputs::new(&operands, graph)).is_ok();
    holds.then(|| Replacement::Run(Box::new(rotary), operands))
}

/// Whether a slice takes half of each row, from this element on.
fn is_part(graph: &Graph, found: &Match, name: &str, first: usize) -> Option<bool> {
    let run = found.run(name)?;
    let inputs = Inputs::new(&run.inputs, graph);
    let view = found.op::<Slice>(name)?.view(&inputs, 0).ok()??;
    let part = graph.shape(Operand::Value(*run.outputs.first()?))?;
    let ([rows @ .., width], [rows_of_part @ .., half]) = (inputs.shape(0).ok()?, part) else {
        return None;
    };
    let starts = usize::try_from(view.start).is_ok_and(|start| start == first);
    let whole_rows = rows == rows_of_part && *half == width / 2;
    Some(starts && whole_rows && view.strides == inputs.strides(0).ok()?)
}
