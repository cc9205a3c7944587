//! Where values live: buffers of the arena are given to values that are not needed at the same
//! time, and operations work in place where their input ends with them.

use std::collections::HashMap;

use coreml_format::mil::ElementType;

use super::states::whole_of;
use super::{OpenValue, Place};
use crate::graph::{Access, Graph, Origin, Run, Timeline, Work, for_each_node};
use crate::ids::{BufferId, Buffers, Lists, Opens, Operand, ValueId, Values};
use crate::value::Storage;

/// Position after all nodes, where outputs are read.
const END: usize = usize::MAX;

/// When a value's own bytes are first written and last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    start: usize,
    end: usize,
}

type Lives = HashMap<ValueId, Life>;

/// The places of a graph's values.
pub(crate) struct Memory {
    pub(crate) places: Values<Place>,
    /// Size in bytes of each buffer of the arena.
    pub(crate) buffers: Buffers<usize>,
    /// Values whose shapes are found at run time.
    pub(crate) opens: Opens<OpenValue>,
    /// Element type and storage of each list.
    pub(crate) lists: Lists<(ElementType, Storage)>,
}

impl Memory {
    /// Bytes of all buffers.
    pub(crate) fn arena_bytes(&self) -> usize {
        arena_bytes(&self.buffers)
    }

    /// A few words on a value's place.
    pub(crate) fn describe(&self, value: ValueId) -> Option<String> {
        match &self.places[value] {
            Place::Arena { buffer, offset: 0, len } => Some(format!("b{buffer:?} ({len} bytes)")),
            Place::Arena { buffer, offset, len } => {
                Some(format!("b{buffer:?} at {offset} ({len} bytes)"))
            }
            Place::Open(open) => {
                self.opens[*open].buffer.map(|buffer| format!("b{buffer:?} (sized at run time)"))
            }
            Place::Input { .. } | Place::State { .. } | Place::List(_) | Place::Nowhere => None,
        }
    }
}

/// Bytes of all buffers of an arena.
pub(crate) fn arena_bytes(buffers: &Buffers<usize>) -> usize {
    buffers.iter().fold(0, |sum: usize, &size| sum.saturating_add(size))
}

/// Gives every value its place; one of its own without `optimise`.
pub(crate) fn assign(graph: &mut Graph, optimise: bool) -> Memory {
    let mut lives = lives(graph);
    if optimise {
        take_over_buffers(graph, &mut lives);
    } else {
        lives.values_mut().for_each(|life| *life = Life { start: 0, end: END });
    }
    let (buffer_of, buffers) = share_buffers(graph, &lives);
    let mut memory = Memory {
        places: Values::default(),
        buffers,
        opens: Opens::default(),
        lists: Lists::default(),
    };
    let owned: Values<Place> = graph
        .values
        .ids()
        .map(|value| memory.own_place(graph, value, &lives, &buffer_of))
        .collect();
    memory.places = graph.values.ids().map(|value| part(graph, value, &owned)).collect();
    memory
}

impl Memory {
    /// The place of a value that is no view.
    fn own_place(
        &mut self,
        graph: &Graph,
        value: ValueId,
        lives: &Lives,
        buffer_of: &HashMap<ValueId, BufferId>,
    ) -> Place {
        let len = graph.byte_len(value);
        match graph.values[value].origin {
            Origin::Input(input) => Place::Input { input, offset: 0, len },
            Origin::State(state) => Place::State { state, offset: 0, len: len.unwrap_or(0) },
            Origin::View { .. } => Place::Nowhere,
            Origin::List => {
                let (element, storage) = (graph.values[value].element, graph.values[value].storage);
                Place::List(self.lists.add((element, storage)))
            }
            Origin::Own | Origin::Open { .. } if !lives.contains_key(&value) => Place::Nowhere,
            Origin::Open { of } => self.open(buffer_of.get(&value), Some(of)),
            Origin::Own => match (buffer_of.get(&value), len) {
                (Some(&buffer), Some(len)) => Place::Arena { buffer, offset: 0, len },
                (buffer, _) => self.open(buffer, None),
            },
        }
    }

    fn open(&mut self, buffer: Option<&BufferId>, of: Option<ValueId>) -> Place {
        Place::Open(self.opens.add(OpenValue { buffer: buffer.copied(), of }))
    }
}

/// The place of a value, for a view of a known place that part of it, if it is dense; else all of it.
fn part(graph: &Graph, value: ValueId, owned: &Values<Place>) -> Place {
    let Origin::View { dense, .. } = graph.values[value].origin else { return owned[value] };
    let mut root = value;
    while let Origin::View { of, .. } = graph.values[root].origin {
        root = of;
    }
    let (Some((_, start)), true) = (graph.place(value), dense) else { return owned[root] };
    let length = graph.byte_len(value).unwrap_or(0);
    // No elements may start anywhere, also beyond the end of their whole.
    let start = usize::try_from(start).ok().filter(|_| length > 0).unwrap_or(0);
    let start = start * graph.values[value].storage.size();
    match owned[root] {
        Place::Arena { buffer, offset, .. } => {
            Place::Arena { buffer, offset: offset + start, len: length }
        }
        Place::Input { input, offset, .. } => {
            Place::Input { input, offset: offset + start, len: Some(length) }
        }
        Place::State { state, offset, .. } => {
            Place::State { state, offset: offset + start, len: length }
        }
        other => other,
    }
}

/// The values that own the bytes which a value may lie in: one, and those that a run may find it to
/// be a part of.
fn owners(graph: &Graph, value: ValueId) -> impl Iterator<Item = ValueId> {
    let mut next = Some(value);
    std::iter::from_fn(move || {
        loop {
            let value = next?;
            match graph.values[value].origin {
                Origin::View { of, .. } => next = Some(of),
                Origin::Open { of } => {
                    next = Some(of);
                    return Some(value);
                }
                _ => {
                    next = None;
                    return Some(value);
                }
            }
        }
    })
}

/// The life of every value that owns bytes. What lives before a loop and is read in it lives to its
/// end.
fn lives(graph: &Graph) -> Lives {
    let timeline = Timeline::of(&graph.body);
    let mut lives = Lives::new();
    for &(position, access) in &timeline.accesses {
        let value = match access {
            Access::Read(Operand::Value(value)) | Access::Write(value) => value,
            Access::Read(Operand::Constant(_)) => continue,
        };
        for owner in owners(graph, value) {
            let life = lives.entry(owner).or_insert(Life { start: position, end: position });
            life.end = life.end.max(position);
        }
    }
    for result in &graph.body.results {
        if let Operand::Value(value) = result {
            for owner in owners(graph, *value) {
                if let Some(life) = lives.get_mut(&owner) {
                    life.end = END;
                }
            }
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
fn take_over_buffers(graph: &mut Graph, lives: &mut Lives) {
    let mut body = std::mem::take(&mut graph.body);
    for_each_node(&mut body, &mut 0, &mut |position, node| {
        let Work::Run(run) = &mut node.work else { return };
        let Some(&output) = run.outputs.first() else { return };
        let Some((input, value)) = ending_input(graph, run, output, position, lives) else {
            return;
        };
        run.in_place = Some(input);
        graph.values[output].origin = whole_of(graph, value);
        let taken = lives.remove(&output);
        if let (Some(life), Some(taken)) = (lives.get_mut(&graph.root(value)), taken) {
            life.end = life.end.max(taken.end);
        }
    });
    graph.body = body;
}

/// An input in whose buffer the output can be computed, since nothing else needs it any more.
fn ending_input(
    graph: &Graph,
    run: &Run,
    output: ValueId,
    position: usize,
    lives: &Lives,
) -> Option<(usize, ValueId)> {
    #[cfg(test)]
    if !chance::allows() {
        return None;
    }
    let wanted = &graph.values[output];
    if run.in_place.is_some() || wanted.origin != Origin::Own || wanted.shape.is_none() {
        return None;
    }
    run.op.in_place().iter().copied().find_map(|input| {
        let &Operand::Value(value) = run.inputs.get(input)? else { return None };
        let root = graph.root(value);
        let others = run.inputs.iter().enumerate().any(|(other, operand)| {
            other != input && matches!(operand, Operand::Value(value) if graph.root(*value) == root)
        });
        let fits = graph.is_whole(value)
            && !others
            && graph.values[root].origin == Origin::Own
            && graph.values[value].storage == wanted.storage
            && graph.byte_len(value) == graph.byte_len(output)
            && lives.get(&root).is_some_and(|life| life.end == position);
        fits.then_some((input, value))
    })
}

/// Buffers for the values that own bytes: a buffer serves one value after another. Gives the buffer
/// of each value and the size of each buffer; values whose size is found at run time make it grow.
fn share_buffers(graph: &Graph, lives: &Lives) -> (HashMap<ValueId, BufferId>, Buffers<usize>) {
    let owns =
        |value: ValueId| matches!(graph.values[value].origin, Origin::Own | Origin::Open { .. });
    let mut owners: Vec<(Life, ValueId, usize)> = lives
        .iter()
        .filter(|(value, _)| owns(**value))
        .map(|(&value, &life)| (life, value, graph.byte_len(value).unwrap_or(0)))
        .collect();
    owners.sort_by_key(|&(life, value, _)| (life.start, value));
    let mut sizes: Buffers<usize> = Buffers::default();
    let mut free_after: Buffers<usize> = Buffers::default();
    let mut buffer_of = HashMap::new();
    for (life, value, len) in owners {
        // The smallest buffer that is large enough, else the largest, which then grows.
        let free = sizes.ids().filter(|&buffer| free_after[buffer] < life.start);
        #[cfg(test)]
        let free = free.filter(|_| chance::allows());
        let chosen = free.min_by_key(|&buffer| (sizes[buffer] < len, sizes[buffer].abs_diff(len)));
        let buffer = chosen.unwrap_or_else(|| {
            free_after.add(0);
            sizes.add(0)
        });
        sizes[buffer] = sizes[buffer].max(len);
        free_after[buffer] = life.end;
        buffer_of.insert(value, buffer);
    }
    (buffer_of, sizes)
}

/// Lets tests leave out choices: what remains has to be as right.
#[cfg(test)]
pub(super) mod chance {
    use std::cell::Cell;

    thread_local! {
        static SEED: Cell<u64> = const { Cell::new(0) };
    }

    /// Leaves out half of the choices, by a seed other than 0, while `run` runs.
    pub(in crate::plan) fn with<R>(seed: u64, run: impl FnOnce() -> R) -> R {
        struct Reset;
        impl Drop for Reset {
            fn drop(&mut self) {
                SEED.set(0);
            }
        }
        let _reset = Reset;
        SEED.set(seed);
        run()
    }

    pub(super) fn allows() -> bool {
        // Knuth's linear congruential generator; 0 stays 0.
        let next = SEED.get().wrapping_mul(6_364_136_223_846_793_005);
        SEED.set(next);
        next >> 63 == 0
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::graph::Value;

    fn graph(sizes: &[usize]) -> (Graph, Vec<ValueId>) {
        let mut graph = Graph::default();
        let value = |size: usize| Value {
            name: String::new(),
            element: ElementType::Float32,
            storage: Storage::F32,
            shape: Some(smallvec![size]),
            declared: None,
            origin: Origin::Own,
        };
        let ids = sizes.iter().map(|&size| graph.values.add(value(size))).collect();
        (graph, ids)
    }

    #[test]
    fn values_that_live_together_never_share_a_buffer() {
        // A deterministic scatter of lives, checked pair by pair.
        let sizes: Vec<usize> = (0..60).map(|i| 1 + (i * 37) % 23).collect();
        let (graph, ids) = graph(&sizes);
        let life = |i: usize| Life { start: (i * 7) % 50, end: (i * 7) % 50 + (i * 13) % 11 };
        let lives: Lives = (0..60).map(|i| (ids[i], life(i))).collect();
        let (buffer_of, buffers) = share_buffers(&graph, &lives);
        for a in 0..60 {
            assert!(buffers[buffer_of[&ids[a]]] >= sizes[a] * 4);
            for b in 0..a {
                let (x, y) = (life(a), life(b));
                let together = x.start <= y.end && y.start <= x.end;
                assert!(!together || buffer_of[&ids[a]] != buffer_of[&ids[b]], "{a} and {b}");
            }
        }
        assert!(buffers.len() < 20, "60 values share {} buffers", buffers.len());
    }
}
