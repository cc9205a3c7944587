//! Walking a graph's nodes in the order in which they run, with a position for each.

use super::{Block, Node, Work};
use crate::ids::{Operand, ValueId};

/// A value is read or written at a position.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    Read(Operand),
    Write(ValueId),
}

/// Every access of a graph in order, and the spans of its loops.
#[derive(Default)]
pub(crate) struct Timeline {
    pub(crate) accesses: Vec<(usize, Access)>,
    /// First and last position of each loop; those inside others come first.
    pub(crate) loops: Vec<(usize, usize)>,
    /// Positions of the outermost nodes.
    pub(crate) nodes: Vec<usize>,
    position: usize,
}

impl Timeline {
    pub(crate) fn of(block: &Block) -> Self {
        let mut timeline = Timeline::default();
        for node in &block.nodes {
            timeline.nodes.push(timeline.position);
            timeline.node(node);
        }
        timeline.read(&block.results);
        timeline
    }

    fn read(&mut self, operands: &[Operand]) {
        let position = self.position;
        self.accesses.extend(operands.iter().map(|&operand| (position, Access::Read(operand))));
    }

    fn write(&mut self, values: impl IntoIterator<Item = ValueId>) {
        let position = self.position;
        self.accesses.extend(values.into_iter().map(|value| (position, Access::Write(value))));
    }

    /// A block's nodes, then one position at which its results are read.
    fn block(&mut self, block: &Block) {
        for node in &block.nodes {
            self.node(node);
        }
        self.read(&block.results);
        self.position += 1;
    }

    fn node(&mut self, node: &Node) {
        match &node.work {
            Work::Run(run) => {
                self.read(&run.inputs);
                self.write(run.outputs.iter().copied());
            }
            Work::ReadState { value, .. } => self.write([*value]),
            Work::WriteState { data, .. } => self.read(&[*data]),
            Work::While(work) => {
                let initial: Vec<Operand> =
                    work.variables.iter().map(|variable| variable.initial).collect();
                self.read(&initial);
                self.write(work.variables.iter().map(|variable| variable.value));
                self.position += 1;
                let start = self.position;
                self.block(&work.condition);
                self.block(&work.body);
                let variables: Vec<Operand> =
                    work.variables.iter().map(|variable| Operand::Value(variable.value)).collect();
                self.read(&variables);
                self.loops.push((start, self.position));
            }
            Work::Cond(work) => {
                self.read(&[work.predicate]);
                self.position += 1;
                for branch in &work.branches {
                    self.block(branch);
                    self.write(work.outputs.iter().copied());
                    self.position += 1;
                }
            }
        }
        self.position += 1;
    }
}

/// Calls `visit` with every operand that a node itself reads, not the nodes inside it.
pub(crate) fn for_each_read(node: &mut Node, visit: impl FnMut(&mut Operand)) {
    let mut visit = visit;
    match &mut node.work {
        Work::Run(run) => run.inputs.iter_mut().for_each(visit),
        Work::ReadState { .. } => {}
        Work::WriteState { data, .. } => visit(data),
        Work::While(work) => work.variables.iter_mut().for_each(|v| visit(&mut v.initial)),
        Work::Cond(work) => visit(&mut work.predicate),
    }
}

/// The blocks inside a node.
pub(crate) fn nested(node: &Node) -> Vec<&Block> {
    match &node.work {
        Work::While(work) => vec![&work.condition, &work.body],
        Work::Cond(work) => work.branches.iter().collect(),
        Work::Run(_) | Work::ReadState { .. } | Work::WriteState { .. } => Vec::new(),
    }
}

/// The blocks inside a node, to change.
pub(crate) fn nested_mut(node: &mut Node) -> Vec<&mut Block> {
    match &mut node.work {
        Work::While(work) => vec![&mut work.condition, &mut work.body],
        Work::Cond(work) => work.branches.iter_mut().collect(),
        Work::Run(_) | Work::ReadState { .. } | Work::WriteState { .. } => Vec::new(),
    }
}

/// Calls `visit` for every node with its position in the [`Timeline`], nested ones too.
pub(crate) fn for_each_node(
    block: &mut Block,
    position: &mut usize,
    visit: &mut dyn FnMut(usize, &mut Node),
) {
    for node in &mut block.nodes {
        visit(*position, node);
        match &mut node.work {
            Work::Run(_) | Work::ReadState { .. } | Work::WriteState { .. } => {}
            Work::While(work) => {
                *position += 1;
                for_each_node(&mut work.condition, position, visit);
                for_each_node(&mut work.body, position, visit);
            }
            Work::Cond(work) => {
                *position += 1;
                for branch in &mut work.branches {
                    for_each_node(branch, position, visit);
                    *position += 1;
                }
            }
        }
        *position += 1;
    }
    *position += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Cond, Source, While};
    use crate::ids::{Constants, States, Values};

    #[test]
    fn positions_of_both_walks_agree() {
        let mut values = Values::default();
        let ids: Vec<ValueId> = (0..5).map(|_| values.add(())).collect();
        let state = States::default().add(());
        let source = || Source { name: String::new(), operator: String::new() };
        let node = |work| Node { source: source(), work };
        let leaf = |value: usize| node(Work::ReadState { state, value: ids[value] });
        let inner = || Block { nodes: vec![leaf(1)], results: vec![] };
        let looping = While {
            variables: vec![],
            condition: inner(),
            body: Block { nodes: vec![leaf(2), leaf(3)], results: vec![] },
        };
        let branching = Cond {
            predicate: Operand::Constant(Constants::default().add(())),
            branches: [inner(), inner()],
            outputs: vec![],
        };
        let mut block = Block {
            nodes: vec![
                leaf(0),
                node(Work::While(Box::new(looping))),
                node(Work::Cond(Box::new(branching))),
                leaf(4),
            ],
            results: vec![],
        };
        let of_timeline: Vec<usize> = Timeline::of(&block)
            .accesses
            .iter()
            .filter(|(_, access)| matches!(access, Access::Write(_)))
            .map(|(position, _)| *position)
            .collect();
        let mut of_nodes = Vec::new();
        for_each_node(&mut block, &mut 0, &mut |position, node| {
            if matches!(node.work, Work::ReadState { .. }) {
                of_nodes.push(position);
            }
        });
        assert_eq!(of_timeline, of_nodes);
        assert_eq!(of_nodes.len(), 7);
    }
}
