//! Who reads each value.

use crate::graph::{Block, Graph, Work, nested};
use crate::ids::{Operand, Values};

/// Whether all readers of a value take it strided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// They do, or there are none.
    Strided,
    /// Some do not.
    Dense,
}

/// What the readers of each value take.
pub(super) fn readers(graph: &Graph, body: &Block) -> Values<Readers> {
    let mut all: Values<Readers> = graph.values.ids().map(|_| Readers::Strided).collect();
    visit(body, &mut all);
    all
}

fn dense(operands: &[Operand], all: &mut Values<Readers>) {
    for operand in operands {
        if let Operand::Value(id) = *operand {
            all[id] = Readers::Dense;
        }
    }
}

fn visit(block: &Block, all: &mut Values<Readers>) {
    for node in &block.nodes {
        match &node.work {
            Work::Run(run) => {
                for (input, operand) in run.inputs.iter().enumerate() {
                    if !run.op.reads_strided(input) {
                        dense(&[*operand], all);
                    }
                }
            }
            Work::ReadState { .. } => {}
            Work::WriteState { data, .. } => dense(&[*data], all),
            Work::While(work) => {
                for variable in &work.variables {
                    dense(&[variable.initial], all);
                }
            }
            Work::Cond(work) => dense(&[work.predicate], all),
        }
        nested(node).into_iter().for_each(|block| visit(block, all));
    }
    dense(&block.results, all);
}
