//! The table as a document.

use super::{Argument, Default, Definition, Kind, Outputs, definitions};

const HEAD: &str = "\
An argument in italics has to be constant. `?` follows one that may be left out, `=` its default, and
`…` one that takes any number of values. A version holds until the next one.

| Operator | Since | Arguments | Results | Computed here |
| --- | --- | --- | --- | --- |
";

/// A Markdown table of all versions of all operators that marks those for which `is_implemented`
/// holds.
pub fn markdown(is_implemented: impl Fn(&Definition) -> bool) -> String {
    let rows = definitions().iter().map(|definition| row(definition, is_implemented(definition)));
    HEAD.to_string() + &rows.collect::<String>()
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
