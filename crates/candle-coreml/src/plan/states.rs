//! States: reads become views of the state, and updates happen in place, wherever no other value
//! can see the difference. What remains is a copy.
//!
//! A key-value cache is tens of megabytes and is updated dozens of times a token: a copy at each
//! would cost more than everything else.

use std::collections::HashMap;

use super::draft::{Draft, Origin, SlotDraft};
use super::walk::{Access, Timeline};
use super::{Block, Run, Step, Work};
use crate::ops::{Copy, Operand};

/// A change of a state: where it happens, and the read that it changes in place if it does.
struct Change {
    position: usize,
    state: usize,
    base: Option<usize>,
}

/// Decides for every read and write of a state whether it is a view, an update in place or a copy;
/// all are copies without `optimise`.
pub(super) fn resolve(body: &mut Block, draft: &mut Draft, optimise: bool) {
    let timeline = Timeline::of(body);
    let positions = timeline.steps.clone();
    let written_at = written_at(&timeline);
    let mut changes = Vec::new();
    let mut done = vec![false; body.steps.len()];
    for index in 0..body.steps.len() {
        let Work::WriteState { state, data } = body.steps[index].work else { continue };
        let update = in_place_update(body, draft, &timeline, &written_at, index, state, data);
        match update.filter(|_| optimise) {
            Some((producer, input, output)) => {
                let Work::Run(run) = &mut body.steps[producer].work else { continue };
                let Operand::Slot(base) = run.inputs[input] else { continue };
                run.in_place = Some(input);
                draft.slots[output].origin = Origin::View { of: base, offset: 0 };
                done[index] = true;
                let base = Some(draft.root(base).0);
                changes.push(Change { position: positions[producer], state, base });
            }
            None => changes.push(Change { position: positions[index], state, base: None }),
        }
    }
    nested_changes(body, &positions, &mut changes);
    let last_reads = last_reads(draft, &timeline);
    for (index, step) in body.steps.iter_mut().enumerate() {
        let Work::ReadState { state, slot } = step.work else { continue };
        let last = last_reads.get(&slot).copied().unwrap_or(0);
        let changed = changes.iter().any(|change| {
            change.state == state
                && change.base != Some(slot)
                && (positions[index]..last).contains(&change.position)
        });
        if changed || !optimise {
            make_copy(step, draft);
        } else {
            done[index] = true;
        }
    }
    let mut done = done.into_iter();
    body.steps.retain(|_| !done.next().unwrap_or(false));
    body.steps.iter_mut().for_each(|step| copy_nested_reads(step, draft));
}

/// When the write at step `index` stores what an operation made of the state's own content, and
/// nothing else looks at the old content afterwards: the operation's step, the input that is the
/// state, and the output.
fn in_place_update(
    body: &Block,
    draft: &Draft,
    timeline: &Timeline,
    written_at: &HashMap<usize, usize>,
    index: usize,
    state: usize,
    data: Operand,
) -> Option<(usize, usize, usize)> {
    let Operand::Slot(data) = data else { return None };
    let (output, start) = draft.root(data);
    let (producer, run) =
        body.steps[..index].iter().enumerate().rev().find_map(|(at, step)| match &step.work {
            Work::Run(run) if run.outputs.first() == Some(&output) => Some((at, run)),
            _ => None,
        })?;
    let declared = &draft.states[state];
    let whole = declared.storage.byte_len(&declared.shape);
    if start != 0
        || draft.slots[output].storage != declared.storage
        || draft.byte_len(output) != whole
    {
        return None;
    }
    let of_state = |slot: usize| draft.slots[draft.root(slot).0].origin == Origin::State(state);
    let input = run.op.in_place().iter().copied().find(|&input| match run.inputs.get(input) {
        Some(&Operand::Slot(slot)) => {
            of_state(slot) && draft.root(slot).1 == 0 && draft.byte_len(slot) == whole
        }
        _ => false,
    })?;
    let others_clash = run.inputs.iter().enumerate().any(|(other, operand)| {
        other != input && matches!(operand, Operand::Slot(slot) if of_state(*slot))
    });
    let (updated, written) = (timeline.steps[producer], timeline.steps[index]);
    let seen = timeline.accesses.iter().any(|&(position, access)| match access {
        Access::Read(Operand::Slot(slot)) => {
            let (root, _) = draft.root(slot);
            // The old content is read after it changed, or the result by others than the write.
            (of_state(slot)
                && position > updated
                && written_at.get(&root).is_some_and(|&read| read < updated))
                || (root == output && position != written)
        }
        // A read of the state between update and write has to see the old content.
        Access::Write(slot) => of_state(slot) && (updated..written).contains(&position),
        Access::Read(Operand::Constant(_)) => false,
    });
    (!others_clash && !seen).then_some((producer, input, output))
}

/// Where each slot is written first.
fn written_at(timeline: &Timeline) -> HashMap<usize, usize> {
    let mut written = HashMap::new();
    for &(position, access) in &timeline.accesses {
        if let Access::Write(slot) = access {
            written.entry(slot).or_insert(position);
        }
    }
    written
}

/// Changes inside nested blocks count as happening wherever their step is.
fn nested_changes(body: &Block, positions: &[usize], changes: &mut Vec<Change>) {
    fn collect(block: &Block, position: usize, changes: &mut Vec<Change>) {
        for step in &block.steps {
            match &step.work {
                Work::WriteState { state, .. } => {
                    changes.push(Change { position, state: *state, base: None });
                }
                _ => nested(step).into_iter().for_each(|block| collect(block, position, changes)),
            }
        }
    }
    for (step, &position) in body.steps.iter().zip(positions) {
        nested(step).into_iter().for_each(|block| collect(block, position, changes));
    }
}

fn nested(step: &Step) -> Vec<&Block> {
    match &step.work {
        Work::While(work) => vec![&work.condition, &work.body],
        Work::Cond(work) => work.branches.iter().collect(),
        Work::Run(_) | Work::ReadState { .. } | Work::WriteState { .. } => Vec::new(),
    }
}

/// Where each root slot is read for the last time.
fn last_reads(draft: &Draft, timeline: &Timeline) -> HashMap<usize, usize> {
    let mut last = HashMap::new();
    for &(position, access) in &timeline.accesses {
        if let Access::Read(Operand::Slot(slot)) = access {
            last.insert(draft.root(slot).0, position);
        }
    }
    last
}

/// Turns a read into a copy of the state's content.
fn make_copy(step: &mut Step, draft: &mut Draft) {
    let Work::ReadState { state, slot } = step.work else { return };
    let read = &draft.slots[slot];
    let source = SlotDraft {
        element: read.element,
        storage: read.storage,
        shape: read.shape.clone(),
        origin: Origin::State(state),
    };
    let source = draft.add_slot(source);
    draft.slots[slot].origin = Origin::Own;
    step.work = Work::Run(Run {
        op: Box::new(Copy),
        inputs: vec![Operand::Slot(source)],
        outputs: vec![slot],
        in_place: None,
    });
}

fn copy_nested_reads(step: &mut Step, draft: &mut Draft) {
    let blocks: Vec<&mut Block> = match &mut step.work {
        Work::While(work) => vec![&mut work.condition, &mut work.body],
        Work::Cond(work) => work.branches.iter_mut().collect(),
        Work::Run(_) | Work::ReadState { .. } | Work::WriteState { .. } => return,
    };
    for block in blocks {
        for step in &mut block.steps {
            make_copy(step, draft);
            copy_nested_reads(step, draft);
        }
    }
}
