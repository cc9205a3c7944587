//! An operation as a call for people, such as `conv(v18, weight=fp16 [64, 32] as F16, groups=1)`: its
//! `Debug` text with operands in the place of their numbers, and without what goes without saying.
//!
//! An operation's first numbers are those of its inputs, in order: it is told by that which numbers
//! mean operands. `function` names what a family computes, and so is the name of the call.

use crate::op::Op;

/// A part of `Debug` text.
#[derive(Debug)]
enum Part {
    /// A number, a text or a range.
    Plain(String),
    /// `[a, b]` or `(a, b)`.
    List(Vec<Part>),
    /// `Name`, `Name(a, b)` or `Name { a: 1 }`; what is in parentheses has no names.
    Named(String, Vec<(String, Part)>),
}

/// An operation that reads these operands.
pub(super) fn call(op: &dyn Op, operands: &[String]) -> String {
    let text = format!("{op:?}");
    let mut call = Call { operands, next: 0 };
    let (name, mut arguments) = match part(&mut text.as_str()) {
        Part::Named(name, fields) => {
            let function = fields.iter().find_map(|(field, part)| match part {
                Part::Named(function, _) if field == "function" => Some(function),
                _ => None,
            });
            (snake_case(function.unwrap_or(&name)), call.arguments(&fields))
        }
        other => (String::new(), call.argument("", &other)),
    };
    arguments.extend(call.operands.iter().skip(call.next).cloned());
    format!("{name}({})", arguments.join(", "))
}

/// Reads a part from the beginning of a text.
fn part(text: &mut &str) -> Part {
    *text = text.trim_start();
    if let Some(rest) = text.strip_prefix(['[', '(']) {
        *text = rest;
        return Part::List(fields(text).into_iter().map(|(_, part)| part).collect());
    }
    let word = take(text, word_length(text)).trim_end().to_owned();
    if !word.starts_with(char::is_uppercase) {
        return Part::Plain(word);
    }
    match text.strip_prefix(['(', '{']) {
        Some(rest) => {
            *text = rest;
            Part::Named(word, fields(text))
        }
        None => Part::Named(word, Vec::new()),
    }
}

/// Reads what is between brackets, up to and with the closing one. Names are empty where there are
/// none.
fn fields(text: &mut &str) -> Vec<(String, Part)> {
    let mut fields = Vec::new();
    loop {
        *text = text.trim_start_matches([' ', ',']);
        let Some(first) = text.chars().next() else { return fields };
        if matches!(first, ']' | ')' | '}') {
            take(text, 1);
            return fields;
        }
        let length = word_length(text);
        let name = match text[length..].strip_prefix(": ") {
            Some(_) => take(text, length).to_owned(),
            None => String::new(),
        };
        *text = text.trim_start_matches(": ");
        fields.push((name, part(text)));
    }
}

/// Bytes up to the next bracket, comma or colon outside a quoted text.
fn word_length(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    let end = text.char_indices().find(|&(_, character)| {
        let quote = character == '"' && !escaped;
        quoted ^= quote;
        escaped = character == '\\' && !escaped;
        !quoted && matches!(character, '[' | ']' | '(' | ')' | '{' | '}' | ',' | ':')
    });
    end.map_or(text.len(), |(at, _)| at)
}

fn take<'a>(text: &mut &'a str, length: usize) -> &'a str {
    let (taken, rest) = text.split_at(length);
    *text = rest;
    taken
}

/// Gives operands to the numbers that mean them.
struct Call<'a> {
    operands: &'a [String],
    /// The first operand that has not been given yet.
    next: usize,
}

impl Call<'_> {
    fn arguments(&mut self, fields: &[(String, Part)]) -> Vec<String> {
        fields.iter().flat_map(|(name, part)| self.argument(name, part)).collect()
    }

    /// A field as arguments: none where it says that something is not so, several for operands.
    fn argument(&mut self, name: &str, part: &Part) -> Vec<String> {
        match part {
            // The results' types say it as well.
            _ if name == "element" => Vec::new(),
            Part::Named(some, fields) if some == "Some" => {
                fields.iter().flat_map(|(_, part)| self.argument(name, part)).collect()
            }
            Part::Named(_, fields) if name == "function" => self.arguments(fields),
            Part::Named(none, _) if none == "None" => Vec::new(),
            Part::Named(..) => {
                let value = self.value(part);
                let says_it = value.strip_prefix(name).is_some_and(|rest| rest.starts_with('('));
                vec![named(if says_it { "" } else { name }, &value)]
            }
            Part::List(parts) if parts.iter().all(is_no) => Vec::new(),
            Part::List(_) => vec![named(name, &self.value(part))],
            Part::Plain(_) if is_no(part) => Vec::new(),
            Part::Plain(word) if word == "true" => vec![name.to_owned()],
            Part::Plain(word) => self
                .operands_of(word)
                .unwrap_or_else(|| vec![word.clone()])
                .iter()
                .map(|value| named(name, value))
                .collect(),
        }
    }

    /// A part of a list, or what an argument of its own name holds.
    fn value(&mut self, part: &Part) -> String {
        match part {
            Part::Plain(word) => word.clone(),
            Part::List(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| self.value(part)).collect();
                format!("[{}]", parts.join(", "))
            }
            Part::Named(name, fields) => match fields.as_slice() {
                // An enum's variant that holds a struct of its name.
                [(_, inner @ Part::Named(same, _))] if same == name => self.value(inner),
                [] => snake_case(name),
                _ => format!("{}({})", snake_case(name), self.arguments(fields).join(", ")),
            },
        }
    }

    /// The operands that a number or a range stands for, if they are the next ones.
    fn operands_of(&mut self, word: &str) -> Option<Vec<String>> {
        let (first, end) = match word.split_once("..") {
            Some((first, end)) => (first.parse().ok()?, end.parse().ok()?),
            None => (word.parse().ok()?, word.parse::<usize>().ok()?.checked_add(1)?),
        };
        let operands = self.operands.get(first..end).filter(|_| first == self.next)?;
        self.next = end;
        Some(operands.to_vec())
    }
}

/// Whether a part says that there is nothing, or that something is not so.
fn is_no(part: &Part) -> bool {
    match part {
        Part::Plain(word) => word == "false",
        Part::List(parts) => parts.iter().all(is_no),
        Part::Named(name, _) => name == "None",
    }
}

/// `name=value`; the main operands need no names.
fn named(name: &str, value: &str) -> String {
    match name {
        "" | "x" | "y" | "values" => value.to_owned(),
        _ => format!("{name}={value}"),
    }
}

/// `LogSumExp` as `log_sum_exp`, `UInt16` as `uint16`.
fn snake_case(name: &str) -> String {
    let mut words = String::new();
    let mut lower = false;
    for character in name.chars() {
        if character.is_uppercase() && lower {
            words.push('_');
        }
        lower = !character.is_uppercase();
        words.extend(character.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use coreml_format::Package;
    use coreml_kernels::{Context, Workers};
    use smallvec::smallvec;

    use super::*;
    use crate::fixtures;
    use crate::graph::{Block, nested};
    use crate::ops::{
        Binary, Concat, ElementwiseBinary, LayerNorm, Matmul, Order, Reorder, Reshape, ReshapeRule,
        Zeros,
    };
    use crate::plan::Options;
    use crate::plan::bind::bind;
    use crate::value::Shape;
    use crate::weights::Weights;

    fn of(op: impl Op, operands: &[&str]) -> String {
        let operands: Vec<String> = operands.iter().map(|&operand| operand.to_owned()).collect();
        call(&op, &operands)
    }

    #[test]
    fn operands_stand_in_the_place_of_their_numbers() {
        let norm = LayerNorm {
            x: 0,
            axes: Some(smallvec![1, -1]),
            gamma: None,
            beta: Some(1),
            epsilon: 0.5,
        };
        assert_eq!(of(norm, &["v7", "v9"]), "layer_norm(v7, axes=[1, -1], beta=v9, epsilon=0.5)");
        let concat = Concat { values: 0..3, axis: 2, interleave: true };
        assert_eq!(of(concat, &["a", "b", "c"]), "concat(a, b, c, axis=2, interleave)");
        let rule = ReshapeRule::Given { shape: 1, zeros: Zeros::SameAxis };
        let reshape = Reshape { x: 0, rule };
        assert_eq!(
            of(reshape, &["v1", "[2]"]),
            "reshape(v1, rule=given(shape=[2], zeros=same_axis))"
        );
    }

    #[test]
    fn what_goes_without_saying_is_not_said() {
        use coreml_format::mil::ElementType::Float16;
        let (function, element) = (Binary::FloorDiv, Float16);
        let divide = ElementwiseBinary { x: 0, y: 1, function, element };
        assert_eq!(of(divide, &["v1", "v2"]), "floor_div(v1, v2)");
        let order = Order::Permute(smallvec![0, 1]);
        assert_eq!(of(Reorder { x: 0, order }, &["v1"]), "reorder(v1, order=permute([0, 1]))");
        let product = Matmul {
            x: 0,
            y: 1,
            transpose_x: false,
            transpose_y: true,
            element: Float16,
            weight: None,
            converted: None,
            repeat: 2,
        };
        assert_eq!(of(product, &["v1", "v2"]), "matmul(v1, v2, transpose_y, repeat=2)");
    }

    #[test]
    fn texts_and_deep_parts_are_read_as_they_are() {
        let mut text =
            r#"A { b: [C { d: "x, {\" y", e: Some((1, -2.5e-6)) }], f: UInt16, g: 1..2 }"#;
        let read = part(&mut text);
        let expected = r#"Named("A", [("b", List([Named("C", [("d", Plain("\"x, {\\\" y\"")), ("e", Named("Some", [("", List([Plain("1"), Plain("-2.5e-6")]))]))])])), ("f", Named("UInt16", [])), ("g", Plain("1..2"))])"#;
        assert_eq!(format!("{read:?}"), expected);
        assert_eq!(text, "");
        for end in 0..expected.len() {
            // Whatever the text, it is read to its end.
            part(&mut &expected[..end]);
        }
    }

    #[test]
    fn names_are_written_as_in_programs() {
        assert_eq!(snake_case("LogSumExp"), "log_sum_exp");
        assert_eq!(snake_case("UInt16"), "uint16");
        assert_eq!(snake_case("L2Norm"), "l2_norm");
    }

    /// Every operand of every operation of the fixtures is shown once, by its name.
    #[test]
    fn all_operands_of_all_operations_are_shown() {
        let context = Context::new(Workers::serial());
        let mut seen = 0;
        for program in fixtures::operations() {
            let weights =
                Weights::new(Package::from_program(program).unwrap(), crate::Limits::new())
                    .unwrap();
            for (name, function) in &weights.program().functions {
                let inputs = fixtures::defaults(weights.package(), name, function);
                let shapes: Vec<Option<Shape>> =
                    inputs.unwrap_or_default().into_iter().map(|(shape, _)| Some(shape)).collect();
                let options = Options::default();
                let graph = bind(name, function, &shapes, &weights, &context, options).unwrap();
                seen += check_operands(&graph.body);
            }
        }
        assert!(seen > 500, "{seen} operations");
    }

    fn check_operands(block: &Block) -> usize {
        let mut seen = 0;
        for node in &block.nodes {
            seen += nested(node).into_iter().map(check_operands).sum::<usize>();
            let Some(run) = node.run() else { continue };
            let operands: Vec<String> =
                (0..run.inputs.len()).map(|number| format!("<{number}>")).collect();
            let text = call(run.op.as_ref(), &operands);
            let places: Vec<_> =
                operands.iter().map(|operand| text.matches(operand).count()).collect();
            assert!(places.iter().all(|&count| count == 1), "{text} for {:?}", run.op);
            seen += 1;
        }
        seen
    }
}
