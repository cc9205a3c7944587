//! Where results are rounded to `fp16`: nowhere on the way, or as the program states it.
//!
//! Activations of `fp16` are held as `f32`. As the program states it, every result of that type is one
//! of the numbers that `fp16` has, infinities among them. The pass marks the operations that compute such
//! results; whoever runs them rounds what they give, in its place. Operations that move numbers which are
//! rounded already are left alone.

use std::collections::HashMap;

use coreml_format::mil::ElementType;

use crate::graph::{Block, Graph, Node, Origin, Run, Source, Value, Work};
use crate::graph::{for_each_read, nested_mut};
use crate::ids::{Operand, ValueId};
use crate::op::{Frame, Op};
use crate::ops::Copy;

/// How precise results of `fp16` are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// They are computed and held as `f32`, and rounded only where they leave the type: by `cast`, in
    /// states and in outputs. Never less precise than the program asks for, and the fastest.
    #[default]
    Single,
    /// Each is rounded to `fp16` where it is made, to nearest even and beyond 65519 to infinity: what
    /// hardware gives that computes in `fp16`. Sums within an operation are still `f32`.
    AsDeclared,
}

/// Whether an operation computes numbers of `fp16`, other than by moving such numbers.
pub(crate) fn computes_halves(
    op: &dyn Op,
    inputs: &[Operand],
    outputs: impl IntoIterator<Item = ElementType>,
    frame: &dyn Frame,
) -> bool {
    let is_half = |element| element == ElementType::Float16;
    // A constant may be of `fp32` beside values of `fp16`.
    let moves_halves = || {
        op.moves().is_some_and(|moves| {
            let mut from = moves.from.iter().filter_map(|&input| inputs.get(input));
            from.all(|&operand| is_half(frame.kind(operand).0))
        })
    };
    outputs.into_iter().any(is_half) && !moves_halves()
}

/// Marks the operations whose results are rounded; inputs of the function are rounded before they are
/// read, since a caller may give them as `f32`.
pub(crate) fn mark(graph: &mut Graph, precision: Precision) {
    if precision == Precision::Single {
        return;
    }
    let mut body = std::mem::take(&mut graph.body);
    mark_block(&mut body, graph);
    let mut rounder = InputRounder { graph, rounded: HashMap::new(), nodes: Vec::new() };
    rounder.block(&mut body);
    let mut nodes = rounder.nodes;
    nodes.append(&mut body.nodes);
    body.nodes = nodes;
    graph.body = body;
}

fn mark_block(block: &mut Block, graph: &Graph) {
    for node in &mut block.nodes {
        if let Work::Run(run) = &mut node.work {
            let outputs = run.outputs.iter().map(|&output| graph.values[output].element);
            run.rounds = computes_halves(run.op.as_ref(), &run.inputs, outputs, graph);
        }
        nested_mut(node).into_iter().for_each(|block| mark_block(block, graph));
    }
}

/// Lets everything read rounded copies of the inputs.
struct InputRounder<'a> {
    graph: &'a mut Graph,
    rounded: HashMap<ValueId, ValueId>,
    /// The operations that make the copies.
    nodes: Vec<Node>,
}

impl InputRounder<'_> {
    fn block(&mut self, block: &mut Block) {
        for node in &mut block.nodes {
            for_each_read(node, |operand| self.read(operand));
            nested_mut(node).into_iter().for_each(|block| self.block(block));
        }
        block.results.iter_mut().for_each(|operand| self.read(operand));
    }

    fn read(&mut self, operand: &mut Operand) {
        let Operand::Value(id) = *operand else { return };
        let value = &self.graph.values[id];
        if !matches!(value.origin, Origin::Input(_)) || value.element != ElementType::Float16 {
            return;
        }
        let rounded = self.rounded.get(&id).copied().unwrap_or_else(|| self.round(id));
        *operand = Operand::Value(rounded);
    }

    fn round(&mut self, input: ValueId) -> ValueId {
        let value = Value { origin: Origin::Own, ..self.graph.values[input].clone() };
        let source = Source { name: value.name.clone(), operator: "input".to_owned() };
        let rounded = self.graph.values.add(value);
        let run = Run::new(Box::new(Copy), vec![Operand::Value(input)], [rounded]);
        let work = Work::Run(Run { rounds: true, ..run });
        self.nodes.push(Node { source, work });
        self.rounded.insert(input, rounded);
        rounded
    }
}
