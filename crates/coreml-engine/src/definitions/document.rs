//! The table as a document.

use std::fmt::Write;

use super::{Argument, Default, Definition, Kind, Outputs, definitions};

/// A Markdown table of all versions of all operators, with arguments, defaults and results, that
/// marks those for which `is_implemented` holds.
pub fn markdown(is_implemented: impl Fn(&Definition) -> bool) -> String {
    let mut text = String::from("| Operator | Since | Arguments | Results | Computed here |\n");
    text.push_str("| --- | --- | --- | --- | --- |\n");
    for definition in definitions() {
        let arguments: Vec<String> = definition.arguments.iter().map(argument).collect();
        let mark = if is_implemented(definition) { "yes" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {mark} |",
            definition.name,
            definition.since,
            arguments.join(", "),
            results(definition.outputs),
        );
    }
    text
}

/// `x`, `axis = 0` or `bias?`; emphasised where a run-time value is allowed.
fn argument(argument: &Argument) -> String {
    let name = match argument.kind {
        Kind::Tensors => format!("{}…", argument.name),
        _ => argument.name.to_string(),
    };
    let name = if argument.constant { format!("`{name}`") } else { format!("**`{name}`**") };
    match argument.default {
        Default::Required => name,
        Default::Absent => format!("{name}?"),
        Default::Computed(words) => format!("{name} = {words}"),
        Default::Bool(value) => format!("{name} = {value}"),
        Default::Int(value) => format!("{name} = {value}"),
        Default::Float(value) => format!("{name} = {value:?}"),
        Default::String(value) => format!("{name} = \"{value}\""),
    }
}

fn results(outputs: Outputs) -> String {
    match outputs {
        Outputs::Fixed(count) => count.to_string(),
        Outputs::UpTo(count) => format!("1–{count}"),
        Outputs::Several => "any number".to_string(),
    }
}
