//! States: reads become views of the state, and updates happen in place, wherever no other value
//! can see the difference. What remains is a copy.
//!
//! A key-value cache is tens of megabytes and is updated dozens of times a token: a copy at each
//! would cost more than everything else.

use std::collections::HashMap;

use crate::graph::{
    Access, Block, Graph, Node, Origin, Run, Timeline, Value, Work, nested, nested_mut,
};
use crate::ids::{Operand, StateId, ValueId};
use crate::ops::Copy;
use crate::value::{View, row_major};

/// A change of a state: where it happens, and the read that it changes in place if it does.
struct Change {
    position: usize,
    state: StateId,
    base: Option<ValueId>,
}

/// Decides for every read and write of a state whether it is a view, an update in place or a copy;
/// all are copies without `optimise`.
pub(crate) fn resolve(graph: &mut Graph, optimise: bool) {
    let mut body = std::mem::take(&mut graph.body);
    let timeline = Timeline::of(&body);
    let positions = timeline.nodes.clone();
    let written_at = written_at(&timeline);
    let mut changes = Vec::new();
    nested_changes(&body, &positions, &mut changes);
    let mut done = vec![false; body.nodes.len()];
    for index in 0..body.nodes.len() {
        let Work::WriteState { state, data } = body.nodes[index].work else { continue };
        let search = Search {
            body: &body,
            graph,
            timeline: &timeline,
            written_at: &written_at,
            changes: &changes,
        };
        match search.in_place_update(index, state, data).filter(|_| optimise) {
            Some(Update { producer, input, output, base }) => {
                if let Work::Run(run) = &mut body.nodes[producer].work {
                    run.in_place = Some(input);
                }
                graph.values[output].origin = whole_of(graph, base);
                done[index] = true;
                let base = Some(graph.root(base));
                changes.push(Change { position: positions[producer], state, base });
            }
            None => changes.push(Change { position: positions[index], state, base: None }),
        }
    }
    let last_reads = last_reads(graph, &timeline);
    for (index, node) in body.nodes.iter_mut().enumerate() {
        let Work::ReadState { state, value } = node.work else { continue };
        let last = last_reads.get(&value).copied().unwrap_or(0);
        let changed = changes.iter().any(|change| {
            change.state == state
                && change.base != Some(value)
                && (positions[index]..last).contains(&change.position)
        });
        if changed || !optimise {
            make_copy(node, graph);
        } else {
            done[index] = true;
        }
    }
    let mut done = done.into_iter();
    body.nodes.retain(|_| !done.next().unwrap_or(false));
    body.nodes.iter_mut().for_each(|node| copy_nested_reads(node, graph));
    graph.body = body;
}

/// The origin of a value that is all of another one.
pub(crate) fn whole_of(graph: &Graph, of: ValueId) -> Origin {
    let shape = graph.values[of].shape.as_deref().unwrap_or_default();
    let strides = row_major(shape).into_iter().map(|stride| stride as isize).collect();
    Origin::View { of, view: View { start: 0, strides }, dense: true }
}

/// An update that can happen in the state itself.
struct Update {
    /// The node that makes the new content.
    producer: usize,
    /// Its input that is the old content.
    input: usize,
    output: ValueId,
    base: ValueId,
}

/// What the search for an update in place looks at.
struct Search<'a> {
    body: &'a Block,
    graph: &'a Graph,
    timeline: &'a Timeline,
    written_at: &'a HashMap<ValueId, usize>,
    /// Changes by nodes before the write, and by nested ones.
    changes: &'a [Change],
}

impl Search<'_> {
    fn of_state(&self, value: ValueId, state: StateId) -> bool {
        self.graph.values[self.graph.root(value)].origin == Origin::State(state)
    }

    /// When the write at node `index` stores what an operation made of the state's own content, and
    /// nothing else looks at the old content afterwards.
    fn in_place_update(&self, index: usize, state: StateId, data: Operand) -> Option<Update> {
        let Operand::Value(data) = data else { return None };
        let output = self.graph.root(data);
        let whole = self.graph.states[state].storage.byte_len(&self.graph.states[state].shape);
        if !self.graph.is_whole(data)
            || self.graph.values[output].storage != self.graph.states[state].storage
            || self.graph.byte_len(output) != whole
        {
            return None;
        }
        let (producer, run) = self.producer(index, output)?;
        let input =
            run.op.in_place().iter().copied().find(|&input| match run.inputs.get(input) {
                Some(&Operand::Value(value)) => {
                    self.of_state(value, state)
                        && self.graph.is_whole(value)
                        && self.graph.byte_len(value) == whole
                }
                _ => false,
            })?;
        let Operand::Value(base) = run.inputs[input] else { return None };
        let others_clash = run.inputs.iter().enumerate().any(|(other, operand)| {
            other != input
                && matches!(operand, Operand::Value(value) if self.of_state(*value, state))
        });
        let (updated, written) = (self.timeline.nodes[producer], self.timeline.nodes[index]);
        let seen = self.is_seen(state, output, updated, written);
        let changed = self.is_changed(state, self.graph.root(base), written);
        (!others_clash && !seen && !changed).then_some(Update { producer, input, output, base })
    }

    fn producer(&self, index: usize, output: ValueId) -> Option<(usize, &Run)> {
        let before = self.body.nodes[..index].iter().enumerate().rev();
        before
            .filter_map(|(at, node)| Some((at, node.run()?)))
            .find(|(_, run)| run.outputs.first() == Some(&output))
    }

    /// Whether something else changes the state after it was read and before it is written: the read is
    /// a copy then, and what was stored in between would remain.
    fn is_changed(&self, state: StateId, read: ValueId, written: usize) -> bool {
        let from = self.written_at.get(&read).copied().unwrap_or(0);
        self.changes.iter().any(|change| {
            change.state == state
                && change.base != Some(read)
                && (from..written).contains(&change.position)
        })
    }

    /// Whether anyone sees the state between the update and the write, or the old content after it.
    fn is_seen(&self, state: StateId, output: ValueId, updated: usize, written: usize) -> bool {
        self.timeline.accesses.iter().any(|&(position, access)| match access {
            Access::Read(Operand::Value(value)) => {
                let root = self.graph.root(value);
                // The old content is read after it changed, or the result by others than the write.
                (self.of_state(value, state)
                    && position > updated
                    && self.written_at.get(&root).is_some_and(|&read| read < updated))
                    || (root == output && position != written)
            }
            // A read of the state between update and write has to see the old content.
            Access::Write(value) => {
                self.of_state(value, state) && (updated..written).contains(&position)
            }
            Access::Read(Operand::Constant(_)) => false,
        })
    }
}

/// Where each value is written first.
fn written_at(timeline: &Timeline) -> HashMap<ValueId, usize> {
    let mut written = HashMap::new();
    for &(position, access) in &timeline.accesses {
        if let Access::Write(value) = access {
            written.entry(value).or_insert(position);
        }
    }
    written
}

/// Changes inside nested blocks count as happening wherever their node is.
fn nested_changes(body: &Block, positions: &[usize], changes: &mut Vec<Change>) {
    fn collect(block: &Block, position: usize, changes: &mut Vec<Change>) {
        for node in &block.nodes {
            match &node.work {
                Work::WriteState { state, .. } => {
                    changes.push(Change { position, state: *state, base: None });
                }
                _ => nested(node).into_iter().for_each(|block| collect(block, position, changes)),
            }
        }
    }
    for (node, &position) in body.nodes.iter().zip(positions) {
        nested(node).into_iter().for_each(|block| collect(block, position, changes));
    }
}

/// Where each root value is read for the last time.
fn last_reads(graph: &Graph, timeline: &Timeline) -> HashMap<ValueId, usize> {
    let mut last = HashMap::new();
    for &(position, access) in &timeline.accesses {
        if let Access::Read(Operand::Value(value)) = access {
            last.insert(graph.root(value), position);
        }
    }
    last
}

/// Turns a read into a copy of the state's content.
fn make_copy(node: &mut Node, graph: &mut Graph) {
    let Work::ReadState { state, value } = node.work else { return };
    let source = Value { origin: Origin::State(state), ..graph.values[value].clone() };
    let source = graph.values.add(source);
    graph.values[value].origin = Origin::Own;
    node.work = Work::Run(Run::new(Box::new(Copy), vec![Operand::Value(source)], [value]));
}

fn copy_nested_reads(node: &mut Node, graph: &mut Graph) {
    for block in nested_mut(node) {
        for node in &mut block.nodes {
            make_copy(node, graph);
            copy_nested_reads(node, graph);
        }
    }
}
