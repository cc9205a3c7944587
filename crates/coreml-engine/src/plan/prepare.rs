//! The last pass: kernels for the operations whose shapes are known, and a plan of what remains of
//! the graph.

use std::sync::Arc;

use coreml_format::mil::Function;

use super::memory::Memory;
use super::{Block, Cond, Plan, PlanValue, Prepared, Run, Step, While, Work};
use crate::error::{Error, OpError, OperationError, Result};
use crate::graph::{self, Graph, Node, Origin};
use crate::ids::{Operand, ValueId};
use crate::op::{Arrangement, Frame, Inputs};
use crate::value::Constant;
use crate::weights::Weights;

/// The plan of a graph whose values have places.
pub(crate) fn prepare(
    name: &str,
    function: &Function,
    mut graph: Graph,
    memory: Memory,
    weights: &Arc<Weights>,
) -> Result<Plan> {
    let body = std::mem::take(&mut graph.body);
    let mut preparer = Preparer { name, graph: &graph, weights, open_steps: 0 };
    let body = preparer.block(body)?;
    let open_steps = preparer.open_steps;
    let outputs = function.block.outputs.iter().cloned().zip(body.results.iter().copied());
    let values = graph.values.ids().map(|id| plan_value(&graph, id, &memory)).collect();
    Ok(Plan {
        outputs: outputs.collect(),
        weight_bytes: graph.constants.iter().map(Constant::byte_len).sum(),
        states: graph.states,
        values,
        constants: graph.constants,
        body,
        buffers: memory.buffers,
        opens: memory.opens,
        lists: memory.lists,
        open_steps,
        weights: weights.clone(),
    })
}

fn plan_value(graph: &Graph, id: ValueId, memory: &Memory) -> PlanValue {
    let value = &graph.values[id];
    let strides = match graph.arrangement(Operand::Value(id)) {
        Arrangement::Strided(strides) => Some(strides.clone()),
        Arrangement::Dense | Arrangement::Open => None,
    };
    let start = match (&strides, graph.place(id)) {
        (Some(_), Some((_, start))) => usize::try_from(start).unwrap_or(0),
        _ => 0,
    };
    PlanValue {
        name: value.name.clone(),
        element: value.element,
        storage: value.storage,
        shape: value.shape.clone(),
        declared: value.declared.clone(),
        strides,
        start,
        place: memory.places[id],
    }
}

struct Preparer<'a> {
    name: &'a str,
    graph: &'a Graph,
    weights: &'a Weights,
    open_steps: usize,
}

impl Preparer<'_> {
    fn block(&mut self, block: graph::Block) -> Result<Block> {
        let mut steps = Vec::with_capacity(block.nodes.len());
        for node in block.nodes {
            if let Some(step) = self.step(node)? {
                steps.push(step);
            }
        }
        Ok(Block { steps, results: block.results })
    }

    /// The step of a node; none if nothing has to run for it.
    fn step(&mut self, node: Node) -> Result<Option<Step>> {
        let source = node.source;
        let work = match node.work {
            graph::Work::Run(run) if self.graph.is_view(&run) => return Ok(None),
            graph::Work::Run(run) => {
                let kernel = self.kernel(&run).map_err(|error| {
                    Error::Operation(Box::new(OperationError {
                        function: self.name.to_owned(),
                        operation: source.name.clone(),
                        operator: source.operator.clone(),
                        source: error,
                    }))
                })?;
                let graph::Run { op, inputs, outputs, in_place, rounds } = run;
                Work::Run(Run { op, inputs, outputs, in_place, rounds, kernel })
            }
            // The content of a state is a view, or was made a copy.
            graph::Work::ReadState { .. } => return Ok(None),
            graph::Work::WriteState { state, data } => Work::WriteState { state, data },
            graph::Work::While(work) => {
                let graph::While { variables, condition, body } = *work;
                let (condition, body) = (self.block(condition)?, self.block(body)?);
                Work::While(Box::new(While { variables, condition, body }))
            }
            graph::Work::Cond(work) => {
                let graph::Cond { predicate, branches: [yes, no], outputs } = *work;
                let branches = [self.block(yes)?, self.block(no)?];
                Work::Cond(Box::new(Cond { predicate, branches, outputs }))
            }
        };
        Ok(Some(Step { source, work }))
    }

    fn kernel(&mut self, run: &graph::Run) -> Result<Prepared, OpError> {
        let is_open = |id: ValueId| {
            let value = &self.graph.values[id];
            value.shape.is_none() && value.origin != Origin::List
                || matches!(value.origin, Origin::Open { .. })
        };
        let unknown = |operand: &Operand| self.graph.shape(*operand).is_none();
        if !run.inputs.iter().any(unknown) && !run.outputs.iter().any(|&id| is_open(id)) {
            let inputs = Inputs::new(&run.inputs, self.graph);
            match run.op.prepare(&inputs, self.weights) {
                Ok(kernel) => return Ok(Prepared::Kernel(kernel)),
                Err(OpError::NotYetKnown) => {}
                Err(error) => return Err(error),
            }
        }
        self.open_steps += 1;
        Ok(Prepared::AtRun(self.open_steps - 1))
    }
}
