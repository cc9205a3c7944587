//! The table as a document.

use super::{Argument, Default, Definition, Kind, Outputs, definitions};

const LEGEND: &str = "\
A version holds until the opset of the next one. Of an operator's arguments, one in italics has to be
constant; `?` follows one that may be left out, `=` its default, and `…` one that takes any number of
values.

| Operator | Since | Arguments | Results | Computed here |
| --- | --- | --- | --- | --- |
";

/// A Markdown document with all versions of all operators that marks those for which
/// `is_implemented` holds.
pub fn markdown(is_implemented: impl Fn(&Definition) -> bool) -> String {
    let all = definitions();
    let computed = all.iter().filter(|definition| is_implemented(definition)).count();
    let rows = all.iter().map(|definition| row(definition, is_implemented(definition)));
    format!("{}{LEGEND}{}", head(computed, all.len()), rows.collect::<String>())
}

fn head(computed: usize, all: usize) -> String {
    format!(
        "# Operations\n\n\
         What coremltools defines, and what the engine computes: {computed} of {all} versions of \
         operators. A model with\nanother one is refused when it is loaded; `candle-coreml inspect` \
         tells of each operator of a model whether\nit is computed. This file is made from \
         `coreml_engine::definitions`: see `docs/adding-an-op.md`.\n\n"
    )
}

fn row(definition: &Definition, implemented: bool) -> String {
    let arguments: Vec<String> = definition.arguments.iter().map(argument).collect();
    let results = match definition.outputs {
        Outputs::Fixed(count) => count.to_string(),
        Outputs::UpTo(count) => format!("1 to {count}"),
        Outputs::Several => "any number".to_string(),
    };
    let mark = if implemented { " yes " } else { " " };
    let (name, since, arguments) = (definition.name, definition.since, arguments.join(", "));
    format!("| `{name}` | {since} | {arguments} | {results} |{mark}|\n")
}

fn argument(argument: &Argument) -> String {
    let several = if argument.kind == Kind::Tensors { "…" } else { "" };
    let name = match argument.constant {
        true => format!("*`{}`*{several}", argument.name),
        false => format!("`{}`{several}", argument.name),
    };
    match argument.default {
        Default::Required => name,
        Default::Absent => format!("{name}?"),
        Default::Computed(words) => format!("{name} = {words}"),
        Default::Bool(value) => format!("{name} = {value}"),
        Default::Int(value) => format!("{name} = {value}"),
        Default::Float(value) => format!("{name} = {value:?}"),
        Default::String(value) => format!("{name} = `{value}`"),
    }
}
