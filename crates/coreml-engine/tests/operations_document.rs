//! `docs/operations.md` is made from the table of definitions, from what the engine computes, and from
//! the cases of `fixtures/ops`.
//! `BLESS=1 cargo test -p coreml-engine --test operations_document` writes it anew.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::assert_golden;
use coreml_engine::computes;
use coreml_engine::definitions::{
    Argument, Default, Definition, Kind, Outputs, definitions, lookup,
};
use coreml_format::mil::{Block, ElementType, Program, Value, from_text};

/// Where the engine does otherwise than coremltools' definition says, or leaves something out.
const DEVIATIONS: &[(&str, &str)] = &[
    (
        "conv_quantized",
        "filters of `quantization_type` `lut` are refused, as no argument holds their table; \
         coremltools writes none",
    ),
    (
        "coreml_update_state",
        "models hold a `write_state` and a `read_state` in its place, as coremltools writes it; both forms are computed",
    ),
    (
        "gather",
        "where `validate_indices` of iOS 17 is false, negative indices count from the end as in older opsets, and \
         those beyond the ends are an error, as for `gather_along_axis` and `gather_nd`; Core ML leaves both undefined",
    ),
    (
        "gru",
        "without `reset_after` the reset gate scales the hidden state before it is multiplied, as the tests of \
         coremltools have it, and not the product, as the formula of the definition says",
    ),
    (
        "local_response_norm",
        "of rank 3 the first axis is the channels', as the exact values of coremltools' test show",
    ),
    (
        "scaled_dot_product_attention",
        "a query that sees no key gets zeros, as PyTorch has it; the definition's code makes NaN of it",
    ),
    (
        "scatter",
        "where `validate_indices` of iOS 17 is false, updates of indices beyond the ends, also below 0, are passed \
         over, as for `scatter_along_axis` and `scatter_nd`; Core ML leaves them undefined, and its tests want a \
         result that does not count from the end",
    ),
    (
        "select",
        "results have the shape that `cond`, too, broadcasts to; coremltools declares that of `a` and `b`",
    ),
    (
        "tile",
        "an axis whose count is negative, or 0 where its size is not 1, stays as it is: the converter's counts for \
         an `expand` that keeps the axis",
    ),
];

const HEAD: &str = "\
# Operations

What coremltools defines, and what the engine computes: {computed} of {all} versions of operators. A model with
another one is refused when it is loaded; `candle-coreml inspect` tells of each operator of a model whether
it is computed. A test makes this file from `coreml_engine::definitions` and the cases: see
[`adding-an-op.md`](adding-an-op.md).

A version holds until the opset of the next one. Of an operator's arguments, one in italics has to be
constant; `?` follows one that may be left out, `=` its default, and `…` one that takes any number of
values. Of element types, those of arguments in one group are the same where the group is marked so.
Expected values of the cases, which lie in `fixtures/ops` (of classifiers in `fixtures/features`), are those
of NumPy and PyTorch.

";

const COLUMNS: &str = "\
| Operator | Since | Arguments | Element types | Results | Cases |
| --- | --- | --- | --- | --- | --- |
";

#[test]
fn the_document_is_what_the_tables_give() {
    let cases = Cases::read();
    let count = definitions().iter().filter(|definition| computes(definition)).count();
    let head = HEAD.replace("{computed}", &count.to_string());
    let head = head.replace("{all}", &definitions().len().to_string());
    let rows: String = definitions().iter().map(|definition| row(definition, &cases)).collect();
    let text = format!("{head}{COLUMNS}{rows}{}", deviations());
    assert_golden("../../docs/operations.md", &text);
}

#[test]
fn deviations_are_those_of_operators() {
    for (operator, _) in DEVIATIONS {
        assert!(definitions().iter().any(|row| row.name == *operator), "`{operator}`");
    }
}

#[test]
fn rows_tell_of_each_version() {
    let mut cases = Cases::default();
    cases.count("gather", "ios16", "some.mil");
    let line = |name, opset: &str| {
        let found = |row: &&Definition| row.name == name && row.since.to_string() == opset;
        row(definitions().iter().find(found).unwrap(), &cases)
    };
    assert_eq!(
        line("gather", "ios16"),
        "| `gather` | ios16 | `x`, `indices`, *`axis`* = 0, *`batch_dims`* = 0 | \
         `x`: fp16, fp32, int32; `indices`: int16, int32, uint16; `axis`, `batch_dims`: int32 | 1 | \
         `some.mil`: 1 |\n"
    );
    assert_eq!(
        line("pow", "ios15"),
        "| `pow` | ios15 | `x`, `y` | `x`, `y` (the same): fp16, fp32, int32 | 1 | none |\n"
    );
    assert!(line("split", "ios15").contains("*`split_sizes`*?, *`axis`* |"));
    assert!(line("stack", "ios15").contains("| `values`…, *`axis`* |"));
    assert!(line("write_state", "ios18").contains("| `input`, `data` | `data`: bool, fp16, "));
    assert!(line("const", "ios15").contains("| *`val`* | | 1 |"));
}

/// How many cases of which files are about a version of an operator.
#[derive(Default)]
struct Cases(BTreeMap<(String, String), BTreeMap<String, usize>>);

impl Cases {
    fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/ops");
        let mut cases = Cases::default();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "mil") {
                let program = from_text(&std::fs::read_to_string(&path).unwrap()).unwrap();
                cases.add(&program, path.file_name().unwrap().to_str().unwrap());
            }
        }
        cases.add_classifiers();
        cases
    }

    /// Classifiers, which give dictionaries, have their cases beside other models with features.
    fn add_classifiers(&mut self) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/features/cases.json");
        let text = std::fs::read_to_string(file).unwrap();
        for _ in text.lines().filter(|case| case.contains(r#""dictionary":"#)) {
            self.count("classify", "ios15", "features/cases.json");
        }
    }

    /// A case is about the operator that it names; parts of a program's structure (`cond`, lists, states) are
    /// in cases about others, too.
    fn add(&mut self, program: &Program, file: &str) {
        for function in program.functions.values() {
            let named = function.attributes.get("operator").and_then(Value::as_str);
            let mut operators = Vec::new();
            structure(&function.block, &mut operators);
            operators.extend(named);
            operators.sort_unstable();
            operators.dedup();
            for operator in operators {
                if let Some(definition) = lookup(operator, function.opset) {
                    self.count(operator, &definition.since.to_string(), file);
                }
            }
        }
    }

    fn count(&mut self, operator: &str, since: &str, file: &str) {
        let files = self.0.entry((operator.to_owned(), since.to_owned())).or_default();
        *files.entry(file.to_owned()).or_default() += 1;
    }

    fn words(&self, definition: &Definition) -> String {
        let key = (definition.name.to_owned(), definition.since.to_string());
        let files = self.0.get(&key).into_iter().flatten();
        let words: Vec<String> = files.map(|(file, count)| format!("`{file}`: {count}")).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }
}

/// Operators of a block that no case can be about alone.
fn structure<'a>(block: &'a Block, found: &mut Vec<&'a str>) {
    for operation in &block.operations {
        let definition = definitions().iter().find(|row| row.name == operation.operator);
        let alone =
            definition.is_none_or(|row| row.arguments.iter().all(|a| a.kind == Kind::Tensor));
        let is_const = operation.operator == "const";
        if is_const || !alone || !operation.blocks.is_empty() {
            found.push(&operation.operator);
        }
        operation.blocks.iter().for_each(|block| structure(block, found));
    }
}

fn row(definition: &Definition, cases: &Cases) -> String {
    let arguments: Vec<String> = definition.arguments.iter().map(argument).collect();
    let results = match definition.outputs {
        Outputs::Fixed(count) => count.to_string(),
        Outputs::UpTo(count) => format!("1 to {count}"),
        Outputs::Several => "any number".to_owned(),
    };
    let tested = match computes(definition) {
        true => cases.words(definition),
        false => "not computed".to_owned(),
    };
    let cells = [
        format!("`{}`", definition.name),
        definition.since.to_string(),
        arguments.join(", "),
        types(definition.arguments),
        results,
        tested,
    ];
    let cells = cells.map(|cell| if cell.is_empty() { cell } else { format!("{cell} ") });
    format!("| {}|\n", cells.join("| "))
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

/// Element types, with the arguments that may have them.
fn types(arguments: &[Argument]) -> String {
    let mut groups: Vec<(&Argument, Vec<String>)> = Vec::new();
    for argument in arguments.iter().filter(|argument| !argument.types.is_empty()) {
        let name = format!("`{}`", argument.name);
        let same = |(first, _): &&mut (&Argument, Vec<String>)| {
            first.types == argument.types && first.type_parameter == argument.type_parameter
        };
        match groups.iter_mut().find(same) {
            Some((_, names)) => names.push(name),
            None => groups.push((argument, vec![name])),
        }
    }
    let words = groups.iter().map(|(argument, names)| {
        let same = if argument.type_parameter.is_some() { " (the same)" } else { "" };
        let mut types: Vec<&str> = argument.types.iter().map(|ty| ElementType::name(*ty)).collect();
        types.sort_unstable();
        format!("{}{same}: {}", names.join(", "), types.join(", "))
    });
    words.collect::<Vec<_>>().join("; ")
}

fn deviations() -> String {
    let lines = DEVIATIONS.iter().map(|(operator, words)| format!("- `{operator}`: {words}\n"));
    match DEVIATIONS {
        [] => String::new(),
        _ => format!("\n## Deviations\n\n{}", lines.collect::<String>()),
    }
}
