//! Rewrites of a plan's steps: repetitions that their consumer can do itself, and steps whose
//! results nothing needs.

use std::collections::{HashMap, HashSet};

use super::draft::{Draft, Origin, SlotDraft};
use super::{Block, Work};
use crate::ops::{Inputs, Operand};

/// Lets operations read a value that is repeated for them without the repetition: grouped-query
/// attention repeats each key and value head for several query heads.
pub(super) fn absorb_repeats(block: &mut Block, draft: &mut Draft) {
    let mut producers: HashMap<usize, usize> = HashMap::new();
    for index in 0..block.steps.len() {
        let (before, rest) = block.steps.split_at_mut(index);
        match &mut rest[0].work {
            Work::Run(run) => {
                for input in 0..run.inputs.len() {
                    let Operand::Slot(slot) = run.inputs[input] else { continue };
                    let (root, start) = draft.root(slot);
                    let producer = producers.get(&root).map(|&producer| &before[producer].work);
                    let Some(Work::Run(producer)) = producer else { continue };
                    if start != 0 || draft.byte_len(slot) != draft.byte_len(root) {
                        continue;
                    }
                    let repeat = producer.op.as_repeat(&Inputs::new(&producer.inputs, draft, None));
                    let Some((source, size, times)) = repeat else { continue };
                    let Some(&Operand::Slot(source)) = producer.inputs.get(source) else {
                        continue;
                    };
                    let Some(narrow) = narrowed(draft, slot, source, size, times) else { continue };
                    if run.op.absorb_repeat(input, times) {
                        run.inputs[input] = Operand::Slot(draft.add_slot(narrow));
                    }
                }
                producers.extend(run.outputs.iter().map(|&output| (output, index)));
            }
            Work::While(work) => {
                absorb_repeats(&mut work.condition, draft);
                absorb_repeats(&mut work.body, draft);
            }
            Work::Cond(work) => {
                work.branches.iter_mut().for_each(|branch| absorb_repeats(branch, draft));
            }
            Work::ReadState { .. } | Work::WriteState { .. } => {}
        }
    }
}

/// The value before its matrices were repeated, as a view of the repetition's source: the last
/// batch dimension is `times` smaller. `None` when what is repeated is not whole matrices.
fn narrowed(
    draft: &Draft,
    slot: usize,
    source: usize,
    size: usize,
    times: usize,
) -> Option<SlotDraft> {
    let wide = &draft.slots[slot];
    let mut shape = wide.shape.clone()?;
    let [.., batch, rows, columns] = shape.as_mut_slice() else { return None };
    if rows.checked_mul(*columns)? != size || times == 0 || *batch % times != 0 {
        return None;
    }
    *batch /= times;
    let (element, storage) = (wide.element, draft.slots[source].storage);
    let narrow = SlotDraft {
        element,
        storage,
        shape: Some(shape),
        origin: Origin::View { of: source, offset: 0 },
    };
    let len = narrow.storage.byte_len(narrow.shape.as_ref()?)?;
    (draft.byte_len(source) == Some(len)).then_some(narrow)
}

/// Removes steps whose results nothing reads.
pub(super) fn drop_unneeded(block: &mut Block, draft: &Draft) {
    let mut needed = HashSet::new();
    drop_from(block, draft, &mut needed);
}

fn need(operand: &Operand, draft: &Draft, needed: &mut HashSet<usize>) {
    if let Operand::Slot(slot) = operand {
        needed.insert(draft.root(*slot).0);
    }
}

fn drop_from(block: &mut Block, draft: &Draft, needed: &mut HashSet<usize>) {
    block.results.iter().for_each(|result| need(result, draft, needed));
    let steps = std::mem::take(&mut block.steps);
    for mut step in steps.into_iter().rev() {
        match &mut step.work {
            Work::Run(run) => {
                if !run.outputs.iter().any(|&slot| needed.contains(&draft.root(slot).0)) {
                    continue;
                }
                run.inputs.iter().for_each(|operand| need(operand, draft, needed));
            }
            Work::ReadState { slot, .. } => {
                if !needed.contains(slot) {
                    continue;
                }
            }
            Work::WriteState { data, .. } => need(data, draft, needed),
            Work::While(work) => {
                drop_from(&mut work.body, draft, needed);
                drop_from(&mut work.condition, draft, needed);
                work.variables.iter().for_each(|variable| need(&variable.initial, draft, needed));
            }
            Work::Cond(work) => {
                work.branches.iter_mut().for_each(|branch| drop_from(branch, draft, needed));
                need(&work.predicate, draft, needed);
            }
        }
        block.steps.push(step);
    }
    block.steps.reverse();
}
