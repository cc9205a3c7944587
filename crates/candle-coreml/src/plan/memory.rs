//! Where values live: buffers of the arena are given to values that are not needed at the same
//! time, and operations work in place where their input ends with them.

use std::collections::HashMap;

use coreml_format::mil::ElementType;

use super::draft::{Draft, Origin};
use super::walk::{self, Access, Timeline};
use super::{Block, Place, Plan, Slot, Work};
use crate::ops::Operand;
use crate::value::Storage;

/// Position after all steps, where outputs are read.
const END: usize = usize::MAX;

/// When a slot's own bytes are first written and last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    start: usize,
    end: usize,
}

/// Gives every slot its place; one of its own without `optimise`.
pub(super) fn assign(
    mut draft: Draft,
    mut body: Block,
    outputs: Vec<(String, Operand)>,
    optimise: bool,
) -> Plan {
    let mut lives = lives(&draft, &Timeline::of(&body), &outputs);
    if optimise {
        take_over_buffers(&mut draft, &mut body, &mut lives);
    } else {
        lives.values_mut().for_each(|life| *life = Life { start: 0, end: END });
    }
    let (buffer_of, buffers) = share_buffers(&draft, &lives);
    let mut places = Places { draft: &draft, lives: &lives, buffer_of, dynamic: 0, lists: vec![] };
    let roots: Vec<Place> = (0..draft.slots.len()).map(|slot| places.of_root(slot)).collect();
    let (dynamic, lists) = (places.dynamic, places.lists);
    let slots = (0..draft.slots.len())
        .map(|slot| {
            let (root, start) = draft.root(slot);
            let len = draft.byte_len(slot).unwrap_or(0);
            let drafted = &draft.slots[slot];
            Slot {
                element: drafted.element,
                storage: drafted.storage,
                shape: drafted.shape.clone(),
                place: part(roots[root], start, len),
            }
        })
        .collect();
    Plan {
        outputs,
        states: draft.states,
        slots,
        constants: draft.constants,
        body,
        buffers,
        dynamic,
        lists,
    }
}

/// A part of a place.
fn part(place: Place, start: usize, len: usize) -> Place {
    match place {
        Place::Arena { buffer, offset, .. } => Place::Arena { buffer, offset: offset + start, len },
        Place::Input { input, offset, .. } => Place::Input { input, offset: offset + start, len },
        Place::State { state, offset, .. } => Place::State { state, offset: offset + start, len },
        other => other,
    }
}

struct Places<'a> {
    draft: &'a Draft,
    lives: &'a HashMap<usize, Life>,
    buffer_of: HashMap<usize, usize>,
    dynamic: usize,
    lists: Vec<(ElementType, Storage)>,
}

impl Places<'_> {
    /// The place of a slot that is no view.
    fn of_root(&mut self, slot: usize) -> Place {
        let drafted = &self.draft.slots[slot];
        let len = self.draft.byte_len(slot);
        match (drafted.origin, len) {
            (Origin::Input(input), _) => Place::Input { input, offset: 0, len: len.unwrap_or(0) },
            (Origin::State(state), _) => Place::State { state, offset: 0, len: len.unwrap_or(0) },
            (Origin::View { .. }, _) => Place::Nowhere,
            (Origin::List, _) => {
                self.lists.push((drafted.element, drafted.storage));
                Place::List(self.lists.len() - 1)
            }
            (Origin::Own, Some(len)) => match self.buffer_of.get(&slot) {
                Some(&buffer) => Place::Arena { buffer, offset: 0, len },
                None => Place::Nowhere,
            },
            (Origin::Own, None) if self.lives.contains_key(&slot) => {
                self.dynamic += 1;
                Place::Dynamic(self.dynamic - 1)
            }
            (Origin::Own, None) => Place::Nowhere,
        }
    }
}

/// The life of every root slot. What lives before a loop and is read in it lives to its end.
fn lives(
    draft: &Draft,
    timeline: &Timeline,
    outputs: &[(String, Operand)],
) -> HashMap<usize, Life> {
    let mut lives: HashMap<usize, Life> = HashMap::new();
    for &(position, access) in &timeline.accesses {
        let slot = match access {
            Access::Read(Operand::Slot(slot)) | Access::Write(slot) => slot,
            Access::Read(Operand::Constant(_)) => continue,
        };
        let root = draft.root(slot).0;
        let life = lives.entry(root).or_insert(Life { start: position, end: position });
        life.end = life.end.max(position);
    }
    for (_, operand) in outputs {
        if let Operand::Slot(slot) = operand
            && let Some(life) = lives.get_mut(&draft.root(*slot).0)
        {
            life.end = END;
        }
    }
    for life in lives.values_mut() {
        // Outer loops come after the loops inside them.
        for &(start, end) in &timeline.loops {
            if life.start < start && (start..=end).contains(&life.end) {
                life.end = end;
            }
        }
    }
    lives
}

/// Lets the first output of an operation have the buffer of an input that ends there.
fn take_over_buffers(draft: &mut Draft, body: &mut Block, lives: &mut HashMap<usize, Life>) {
    walk::for_each_step(body, &mut 0, &mut |position, step| {
        let Work::Run(run) = &mut step.work else { return };
        let Some(&output) = run.outputs.first() else { return };
        if run.in_place.is_some()
            || draft.slots[output].origin != Origin::Own
            || draft.slots[output].shape.is_none()
        {
            return;
        }
        let candidate = run.op.in_place().iter().copied().find_map(|input| {
            let &Operand::Slot(slot) = run.inputs.get(input)? else { return None };
            let (root, start) = draft.root(slot);
            let others = run.inputs.iter().enumerate().any(|(other, operand)| {
                other != input
                    && matches!(operand, Operand::Slot(slot) if draft.root(*slot).0 == root)
            });
            let fits = start == 0
                && !others
                && draft.slots[root].origin == Origin::Own
                && draft.slots[slot].storage == draft.slots[output].storage
                && draft.byte_len(root).is_some()
                && draft.byte_len(root) == draft.byte_len(output)
                && draft.byte_len(slot) == draft.byte_len(output)
                && lives.get(&root).is_some_and(|life| life.end == position);
            fits.then_some((input, root))
        });
        if let Some((input, root)) = candidate {
            run.in_place = Some(input);
            draft.slots[output].origin = Origin::View { of: root, offset: 0 };
            let taken = lives.remove(&output);
            if let (Some(life), Some(taken)) = (lives.get_mut(&root), taken) {
                life.end = life.end.max(taken.end);
            }
        }
    });
}

/// Buffers for the slots that own bytes of a known size: a buffer serves one value after another.
/// Gives the buffer of each slot and the size of each buffer.
fn share_buffers(
    draft: &Draft,
    lives: &HashMap<usize, Life>,
) -> (HashMap<usize, usize>, Vec<usize>) {
    let mut owners: Vec<(Life, usize, usize)> = lives
        .iter()
        .filter(|(slot, _)| draft.slots[**slot].origin == Origin::Own)
        .filter_map(|(&slot, &life)| Some((life, slot, draft.byte_len(slot)?)))
        .collect();
    owners.sort_by_key(|&(life, slot, _)| (life.start, slot));
    let mut sizes: Vec<usize> = Vec::new();
    let mut free_after: Vec<usize> = Vec::new();
    let mut buffer_of = HashMap::new();
    for (life, slot, len) in owners {
        let free = |&buffer: &usize| free_after[buffer] < life.start;
        // The smallest buffer that is large enough, else the largest, which then grows.
        let chosen = (0..sizes.len())
            .filter(free)
            .min_by_key(|&buffer| (sizes[buffer] < len, sizes[buffer].abs_diff(len)));
        let buffer = chosen.unwrap_or_else(|| {
            sizes.push(0);
            free_after.push(0);
            sizes.len() - 1
        });
        sizes[buffer] = sizes[buffer].max(len);
        free_after[buffer] = life.end;
        buffer_of.insert(slot, buffer);
    }
    (buffer_of, sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::draft::SlotDraft;

    fn draft(sizes: &[usize]) -> Draft {
        let mut draft = Draft::default();
        for &size in sizes {
            draft.add_slot(SlotDraft {
                element: ElementType::Float32,
                storage: Storage::F32,
                shape: Some(smallvec::smallvec![size]),
                origin: Origin::Own,
            });
        }
        draft
    }

    #[test]
    fn values_that_live_together_never_share_a_buffer() {
        // A deterministic scatter of lives, checked pair by pair.
        let sizes: Vec<usize> = (0..60).map(|i| 1 + (i * 37) % 23).collect();
        let lives: HashMap<usize, Life> = (0..60)
            .map(|i| (i, Life { start: (i * 7) % 50, end: (i * 7) % 50 + (i * 13) % 11 }))
            .collect();
        let (buffer_of, buffers) = share_buffers(&draft(&sizes), &lives);
        for a in 0..60 {
            assert!(buffers[buffer_of[&a]] >= sizes[a] * 4);
            for b in 0..a {
                let (x, y) = (lives[&a], lives[&b]);
                let together = x.start <= y.end && y.start <= x.end;
                assert!(!together || buffer_of[&a] != buffer_of[&b], "{a} and {b}");
            }
        }
        assert!(buffers.len() < 20, "60 values share {} buffers", buffers.len());
    }
}
