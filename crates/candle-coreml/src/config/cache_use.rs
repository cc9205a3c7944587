//! What a function does to its states, read off its program.
//!
//! Exports look alike from outside and still keep their caches differently: at the position that
//! they are told, always in the first rows, shifted by one, or mixed into one value. Which of them
//! a function does decides whether a window may be padded, where a batch may start, and whether a
//! conversation can go back.

use std::collections::{HashMap, HashSet};

use coreml_format::mil::{Argument, Binding, Dimension, Function, Operation};

/// How a function writes a state; the later kinds allow less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CacheUse {
    /// Rows at the positions of the tokens: what lies behind them does not matter.
    Positioned,
    /// The first rows, whatever the position: right for the first window only.
    FirstRows,
    /// The whole value, made of its value before: a shifted window, or a recurrent state.
    Whole,
}

/// Inputs that tell positions.
const POSITIONS: [&str; 3] = ["current_pos", "position_ids", "positionIds"];
const UPDATE_MASK: &str = "update_mask";
/// Operators that put rows into a tensor, with the parameters that say where.
const UPDATES: [(&str, &str); 4] = [
    ("slice_update", "begin"),
    ("scatter", "indices"),
    ("scatter_nd", "indices"),
    ("scatter_along_axis", "indices"),
];
/// Operators between a projection and the cache; behind others nothing tells how rows are placed.
const PLACING: [&str; 16] = [
    "add",
    "cast",
    "concat",
    "expand_dims",
    "identity",
    "matmul",
    "maximum",
    "mul",
    "reshape",
    "select",
    "slice_by_index",
    "squeeze",
    "stack",
    "sub",
    "tile",
    "transpose",
];

/// What a function's program shows and its description does not.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FunctionFacts {
    /// How it writes each of its states; states that it does not write are left out.
    pub(crate) cache_uses: HashMap<String, CacheUse>,
    /// The last dimension of each output that has a fixed one.
    pub(crate) output_sizes: HashMap<String, usize>,
    /// Whether `output_hidden_states` comes straight from a norm.
    pub(crate) ends_with_norm: bool,
}

impl FunctionFacts {
    pub(super) fn new(function: &Function) -> Self {
        let flow = Flow::new(function);
        let size = |name: &String| {
            let last =
                flow.producers.get(name.as_str())?.outputs.iter().find(|o| o.name == *name)?;
            match last.ty.as_tensor()?.shape.last()? {
                Dimension::Fixed(size) => Some((name.clone(), *size)),
                _ => None,
            }
        };
        FunctionFacts {
            cache_uses: cache_uses(function, &flow),
            output_sizes: function.block.outputs.iter().filter_map(size).collect(),
            ends_with_norm: ends_with_norm(&flow, "output_hidden_states"),
        }
    }
}

fn cache_uses(function: &Function, flow: &Flow) -> HashMap<String, CacheUse> {
    let mut uses = HashMap::new();
    for operation in &function.block.operations {
        if operation.operator != "write_state" {
            continue;
        }
        let (Some(state), Some(value)) = (name(operation, "input"), name(operation, "data")) else {
            continue;
        };
        let found = flow.use_of(value);
        uses.entry(state.to_owned())
            .and_modify(|known: &mut CacheUse| *known = found.max(*known))
            .or_insert(found);
    }
    uses
}

/// Whether `output` is the scaled first half of a `layer_norm`, as an RMS norm is written.
fn ends_with_norm(flow: &Flow, output: &str) -> bool {
    let Some(scaled) = flow.producers.get(output).filter(|last| last.operator == "mul") else {
        return false;
    };
    let halves = operands(scaled).filter_map(|operand| flow.producers.get(operand));
    halves
        .flat_map(|half| {
            [Some(*half), name(half, "x").and_then(|x| flow.producers.get(x)).copied()]
        })
        .flatten()
        .any(|operation| operation.operator == "layer_norm")
}

/// What depends on what in a function.
struct Flow<'a> {
    producers: HashMap<&'a str, &'a Operation>,
    /// Values that depend on a position.
    positions: HashSet<&'a str>,
    /// Values made of the update mask and constants alone.
    marks: HashSet<&'a str>,
}

impl<'a> Flow<'a> {
    fn new(function: &'a Function) -> Self {
        let mut flow = Flow {
            producers: HashMap::new(),
            positions: POSITIONS.into(),
            marks: [UPDATE_MASK].into(),
        };
        let mut constants: HashSet<&str> = HashSet::new();
        for operation in &function.block.operations {
            let outputs = || operation.outputs.iter().map(|output| output.name.as_str());
            flow.producers.extend(outputs().map(|output| (output, operation)));
            let constant = |operand: &str| constants.contains(operand);
            let marked = |operand: &str| flow.marks.contains(operand);
            // Where positions are not told, the mask's length is the end of the keys.
            if operation.operator == "shape"
                || operands(operation).any(|operand| flow.positions.contains(operand))
            {
                flow.positions.extend(outputs());
            }
            if operands(operation).all(constant) {
                constants.extend(outputs());
            } else if operands(operation).all(|operand| constant(operand) || marked(operand)) {
                flow.marks.extend(outputs());
            }
        }
        flow
    }

    /// How the value that is written to a state came from the state.
    fn use_of(&self, value: &'a str) -> CacheUse {
        let mut value = value;
        let mut found: Option<CacheUse> = None;
        // Updates of several layers may follow each other before the state is written.
        while let Some((operation, place)) = self.producers.get(value).and_then(|o| update(o)) {
            let use_here = self.use_of_update(operation, place);
            found = Some(found.map_or(use_here, |found| found.max(use_here)));
            match name(operation, "x").or_else(|| name(operation, "data")) {
                Some(before) => value = before,
                None => break,
            }
        }
        match found {
            Some(found) => found,
            None if self.is_marked(value) => CacheUse::Positioned,
            None => CacheUse::Whole,
        }
    }

    fn use_of_update(&self, operation: &'a Operation, place: &Argument) -> CacheUse {
        let update = name(operation, "update").or_else(|| name(operation, "updates"));
        if names(place).any(|name| self.positions.contains(name))
            || update.is_some_and(|update| self.is_marked(update))
        {
            return CacheUse::Positioned;
        }
        let rows_of = |name: &str| self.rows(self.producers.get(name)?);
        match (update.and_then(rows_of), self.rows(operation)) {
            (Some(written), Some(all)) if written < all => CacheUse::FirstRows,
            _ => CacheUse::Whole,
        }
    }

    /// Whether the update mask places rows in `value`.
    fn is_marked(&self, value: &'a str) -> bool {
        let mut waiting = vec![value];
        let mut seen = HashSet::new();
        while let Some(value) = waiting.pop() {
            let Some(operation) = self.producers.get(value).filter(|_| seen.insert(value)) else {
                continue;
            };
            if operands(operation).any(|operand| self.marks.contains(operand)) {
                return true;
            }
            if PLACING.contains(&operation.operator.as_str()) {
                waiting.extend(operands(operation));
            }
        }
        false
    }

    /// Size of the last dimension but one of an operation's result.
    fn rows(&self, operation: &Operation) -> Option<usize> {
        let shape = operation.outputs.first()?.ty.as_tensor()?.fixed_shape()?;
        shape.iter().rev().nth(1).copied()
    }
}

/// An operation that puts rows into a tensor, and the argument that says where.
fn update(operation: &Operation) -> Option<(&Operation, &Argument)> {
    let (_, place) = UPDATES.iter().find(|(operator, _)| *operator == operation.operator)?;
    Some((operation, operation.inputs.get(*place)?))
}

fn operands(operation: &Operation) -> impl Iterator<Item = &str> {
    operation.inputs.values().flat_map(names)
}

fn names(argument: &Argument) -> impl Iterator<Item = &str> {
    argument.0.iter().filter_map(|binding| match binding {
        Binding::Name(name) => Some(name.as_str()),
        Binding::Value(_) => None,
    })
}

/// The value that an argument names.
fn name<'a>(operation: &'a Operation, parameter: &str) -> Option<&'a str> {
    names(operation.inputs.get(parameter)?).next()
}
