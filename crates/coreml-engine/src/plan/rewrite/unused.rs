//! Operations whose results nothing reads.

use std::collections::HashSet;

use crate::graph::{Block, Graph, Work};
use crate::ids::{Operand, ValueId};

/// Drops them.
pub(crate) fn drop_unused(body: &mut Block, graph: &Graph) {
    drop_from(body, graph, &mut HashSet::new());
}

fn need(operand: &Operand, graph: &Graph, needed: &mut HashSet<ValueId>) {
    if let Operand::Value(value) = operand {
        needed.insert(graph.root(*value));
    }
}

fn drop_from(block: &mut Block, graph: &Graph, needed: &mut HashSet<ValueId>) {
    block.results.iter().for_each(|result| need(result, graph, needed));
    let nodes = std::mem::take(&mut block.nodes);
    for mut node in nodes.into_iter().rev() {
        match &mut node.work {
            Work::Run(run) => {
                if !run.outputs.iter().any(|&value| needed.contains(&graph.root(value))) {
                    continue;
                }
                run.inputs.iter().for_each(|operand| need(operand, graph, needed));
            }
            Work::ReadState { value, .. } => {
                if !needed.contains(value) {
                    continue;
                }
            }
            Work::WriteState { data, .. } => need(data, graph, needed),
            Work::While(work) => {
                drop_from(&mut work.body, graph, needed);
                drop_from(&mut work.condition, graph, needed);
                work.variables.iter().for_each(|variable| need(&variable.initial, graph, needed));
            }
            Work::Cond(work) => {
                work.branches.iter_mut().for_each(|branch| drop_from(branch, graph, needed));
                need(&work.predicate, graph, needed);
            }
        }
        block.nodes.push(node);
    }
    block.nodes.reverse();
}
