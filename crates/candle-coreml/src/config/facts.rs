//! What a function's program shows and its description does not: above all how it writes its states.
//!
//! Exports look alike from outside and still keep their caches differently: at the position that
//! they are told, always in the first rows, shifted by one, or mixed into one value. Which of them
//! a function does decides whether a window may be padded, where a batch may start, and whether a
//! conversation can go back.

use std::collections::{BTreeSet, HashMap, HashSet};

use coreml_format::mil::{
    Argument, Binding, Dimension, ElementType, Function, Operation, TensorData, TensorValue, Value,
    ValueType,
};

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

/// What a function's program shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FunctionFacts {
    /// How it writes each of its states; states that it does not write are left out.
    pub(crate) cache_uses: HashMap<String, CacheUse>,
    /// Where on the first axis it writes each of them, as far as that is constant: its layers.
    pub(crate) layers: HashMap<String, BTreeSet<i32>>,
    /// How many values each of its maxima is chosen from, in order.
    pub(crate) argmax_sizes: Vec<usize>,
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
        let (cache_uses, layers) = state_writes(function, &flow);
        FunctionFacts {
            cache_uses,
            layers,
            argmax_sizes: argmax_sizes(function, &flow),
            output_sizes: function.block.outputs.iter().filter_map(size).collect(),
            ends_with_norm: ends_with_norm(&flow, "output_hidden_states"),
        }
    }
}

type StateWrites = (HashMap<String, CacheUse>, HashMap<String, BTreeSet<i32>>);

fn state_writes(function: &Function, flow: &Flow) -> StateWrites {
    let (mut uses, mut layers) = StateWrites::default();
    for operation in &function.block.operations {
        if operation.operator != "write_state" {
            continue;
        }
        let (Some(state), Some(value)) = (name(operation, "input"), name(operation, "data")) else {
            continue;
        };
        let updates = flow.updates(value);
        let found = flow.use_of(value, &updates);
        uses.entry(state.to_owned())
            .and_modify(|known: &mut CacheUse| *known = found.max(*known))
            .or_insert(found);
        let of_state: &mut BTreeSet<i32> = layers.entry(state.to_owned()).or_default();
        of_state.extend(updates.iter().filter_map(|(_, place)| flow.first_number(place)));
    }
    (uses, layers)
}

fn argmax_sizes(function: &Function, flow: &Flow) -> Vec<usize> {
    let operations = function.block.operations.iter();
    let maxima = operations.filter(|operation| operation.operator == "reduce_argmax");
    let size = |operation: &Operation| {
        let ty = flow.types.get(name(operation, "x")?)?;
        Some(ty.as_tensor()?.fixed_shape()?.iter().product())
    };
    maxima.filter_map(size).collect()
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
    types: HashMap<&'a str, &'a ValueType>,
    /// Values that depend on a position.
    positions: HashSet<&'a str>,
    /// Values made of the update mask and constants alone.
    marks: HashSet<&'a str>,
}

impl<'a> Flow<'a> {
    fn new(function: &'a Function) -> Self {
        let mut flow = Flow {
            producers: HashMap::new(),
            types: function.inputs.iter().map(|input| (input.name.as_str(), &input.ty)).collect(),
            positions: POSITIONS.into(),
            marks: [UPDATE_MASK].into(),
        };
        let mut constants: HashSet<&str> = HashSet::new();
        for operation in &function.block.operations {
            let outputs = || operation.outputs.iter().map(|output| output.name.as_str());
            flow.producers.extend(outputs().map(|output| (output, operation)));
            flow.types.extend(operation.outputs.iter().map(|o| (o.name.as_str(), &o.ty)));
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

    /// The updates that lead to a value, last one first: those of several layers may follow each
    /// other before the state is written.
    fn updates(&self, value: &'a str) -> Vec<(&'a Operation, &'a Argument)> {
        let mut updates = Vec::new();
        let mut value = Some(value);
        while let Some(found) = value.and_then(|v| self.producers.get(v)).and_then(|o| update(o)) {
            // A malformed program might go round in circles.
            if updates.len() == self.producers.len() {
                break;
            }
            updates.push(found);
            value = name(found.0, "x").or_else(|| name(found.0, "data"));
        }
        updates
    }

    /// How the value that is written to a state came from the state.
    fn use_of(&self, value: &'a str, updates: &[(&'a Operation, &'a Argument)]) -> CacheUse {
        let uses = updates.iter().map(|(operation, place)| self.use_of_update(operation, place));
        match uses.max() {
            Some(found) => found,
            None if self.is_marked(value) => CacheUse::Positioned,
            None => CacheUse::Whole,
        }
    }

    /// The first number of an argument, if it is constant.
    fn first_number(&self, argument: &Argument) -> Option<i32> {
        let mut argument = argument;
        // Bounded, since a malformed program might go round in circles.
        for _ in 0..8 {
            let operation = match argument.0.first()? {
                Binding::Value(value) => return first_int(value),
                Binding::Name(name) => self.producers.get(name.as_str())?,
            };
            argument = match operation.operator.as_str() {
                "const" => operation.inputs.get("val")?,
                "concat" => operation.inputs.get("values")?,
                "expand_dims" | "reshape" | "squeeze" | "cast" => operation.inputs.get("x")?,
                _ => return None,
            };
        }
        None
    }

    fn use_of_update(&self, operation: &'a Operation, place: &Argument) -> CacheUse {
        let update = name(operation, "update").or_else(|| name(operation, "updates"));
        if names(place).any(|name| self.positions.contains(name))
            || update.is_some_and(|update| self.is_marked(update))
        {
            return CacheUse::Positioned;
        }
        let all = operation.outputs.first().and_then(|output| self.rows(&output.name));
        match (update.and_then(|update| self.rows(update)), all) {
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

    /// Size of a value's last dimension but one.
    fn rows(&self, value: &str) -> Option<usize> {
        let shape = self.types.get(value)?.as_tensor()?.fixed_shape()?;
        shape.iter().rev().nth(1).copied()
    }
}

/// An operation that puts rows into a tensor, and the argument that says where.
fn update(operation: &Operation) -> Option<(&Operation, &Argument)> {
    let (_, place) = UPDATES.iter().find(|(operator, _)| *operator == operation.operator)?;
    Some((operation, operation.inputs.get(*place)?))
}

fn first_int(value: &Value) -> Option<i32> {
    match value {
        Value::Tensor(TensorValue { ty, data: TensorData::Bytes(bytes) })
            if ty.element == ElementType::Int32 =>
        {
            bytes.first_chunk().map(|bytes| i32::from_le_bytes(*bytes))
        }
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a function shows that writes its state's rows by `body` as `new`.
    fn facts(body: &str) -> FunctionFacts {
        let text = format!(
            r#"program(1.3) {{ func main<ios18>(
                state<tensor<fp16, [2, 1, 8, 4]>> cache, tensor<fp16, [1, 1, 2, 4]> rows,
                tensor<int32, [1]> current_pos, tensor<fp16, [1, 1, 8, 1]> update_mask) {{
                tensor<fp16, [2, 1, 8, 4]> old = read_state(input = cache)[name = string("r")];
                tensor<int32, [1]> zero = const()[name = string("z"), val = tensor<int32, [1]>([0])];
                tensor<fp16, []> one = const()[name = string("o"), val = tensor<fp16, []>(0x1p+0)];
                {body}
                write_state(input = cache, data = new)[name = string("w")];
            }} -> (old); }}"#
        );
        let program = coreml_format::mil::from_text(&text).unwrap();
        FunctionFacts::new(&program.functions["main"])
    }

    fn use_of(body: &str) -> Option<CacheUse> {
        facts(body).cache_uses.get("cache").copied()
    }

    fn slice_update(begin: &str, update: &str) -> String {
        format!(
            r#"tensor<fp16, [2, 1, 8, 4]> new = slice_update(x = old, update = {update},
               begin = {begin}, end = {begin})[name = string("u")];"#
        )
    }

    const BEGIN: &str = r#"tensor<int32, [4]> at = concat(values = (zero, zero, current_pos, zero),
        axis = int32(0), interleave = bool(false))[name = string("at")];"#;
    const START: &str = r#"tensor<int32, [4]> start = concat(values = (zero, zero, zero, zero), axis = int32(0),
        interleave = bool(false))[name = string("start")];"#;

    #[test]
    fn rows_at_the_position() {
        let body = format!("{BEGIN} {}", slice_update("at", "rows"));
        assert_eq!(use_of(&body), Some(CacheUse::Positioned));
    }

    #[test]
    fn the_layers_are_told() {
        let at = |layer: &str| {
            let begin = BEGIN.replacen("(zero, ", &format!("({layer}, "), 1);
            facts(&format!("{begin} {}", slice_update("at", "rows"))).layers["cache"].clone()
        };
        assert_eq!(at("zero"), [0].into());
        assert_eq!(at("tensor<int32, [1]>([7])"), [7].into());
        assert_eq!(at("current_pos"), [].into());
    }

    #[test]
    fn maxima_tell_what_they_are_of() {
        let text = r#"program(1.3) { func main<ios18>(tensor<fp16, [1, 1, 5]> a, tensor<fp16, [1, 1, 3]> b) {
            tensor<int32, [1, 1]> x = reduce_argmax(x = a, axis = int32(2))[name = string("x")];
            tensor<int32, [1, 1]> y = reduce_argmax(x = b, axis = int32(2))[name = string("y")];
        } -> (x, y); }"#;
        let program = coreml_format::mil::from_text(text).unwrap();
        assert_eq!(FunctionFacts::new(&program.functions["main"]).argmax_sizes, [5, 3]);
    }

    #[test]
    fn always_the_first_rows() {
        let body = format!("{START} {}", slice_update("start", "rows"));
        assert_eq!(use_of(&body), Some(CacheUse::FirstRows));
    }

    #[test]
    fn all_rows_shifted() {
        let body = format!(
            r#"{START} tensor<fp16, [1, 1, 8, 4]> shifted = concat(values = (old, rows),
            axis = int32(2), interleave = bool(false))[name = string("s")]; {}"#,
            slice_update("start", "shifted")
        );
        assert_eq!(use_of(&body), Some(CacheUse::Whole));
    }

    #[test]
    fn a_mask_that_places_rows_is_a_position() {
        let body = format!(
            r#"{START} tensor<fp16, [1, 1, 8, 1]> rest = sub(x = one, y = update_mask)[name = string("a")];
            tensor<fp16, [1, 1, 8, 4]> kept = mul(x = old, y = rest)[name = string("b")];
            tensor<fp16, [1, 1, 8, 4]> added = mul(x = rows, y = update_mask)[name = string("c")];
            tensor<fp16, [1, 1, 8, 4]> sum = add(x = kept, y = added)[name = string("d")]; {}"#,
            slice_update("start", "sum")
        );
        assert_eq!(use_of(&body), Some(CacheUse::Positioned));
    }

    #[test]
    fn a_recurrent_state_is_mixed() {
        let body = r#"tensor<fp16, [2, 1, 8, 4]> new = mul(x = old, y = one)[name = string("m")];"#;
        assert_eq!(use_of(body), Some(CacheUse::Whole));
    }

    /// Two layers, one after the other, before the state is written: the worse one counts.
    #[test]
    fn every_update_counts() {
        let body = format!(
            r#"{BEGIN} {START} tensor<fp16, [2, 1, 8, 4]> first = slice_update(x = old, update = rows,
            begin = start, end = start)[name = string("f")];
            tensor<fp16, [2, 1, 8, 4]> new = slice_update(x = first, update = rows, begin = at,
            end = at)[name = string("u")];"#
        );
        assert_eq!(use_of(&body), Some(CacheUse::FirstRows));
    }
}
