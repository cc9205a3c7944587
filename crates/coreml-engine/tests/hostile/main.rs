//! Operations that no exporter would write: every operator with arguments of any type, shape and value,
//! and sound ones of which something is changed. Nothing panics or takes more memory than it may, what
//! is wrong is refused, and errors name the operation.
//!
//! `COREML_HOSTILE_ROUNDS` sets how many rounds are tried, each with other programs. The program that is
//! being tried lies in `target/tmp/hostile-….mil`: where the process is aborted, nothing else tells.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod attempt;
mod choices;
mod found;
mod memory;
mod mutants;
mod table;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use coreml_engine::EngineError;
use coreml_engine::definitions::lookup;
use coreml_format::mil::{Function, Opset, Program, Value, from_text, to_text};

use self::attempt::attempt;
use self::choices::Choices;
use self::found::FOUND;
use self::mutants::mutate;

/// Programs over the table in a round, and mutants of each case.
const PROGRAMS: u64 = 20_000;
const MUTANTS: u64 = 6;

/// Memory that a load and its runs may take: what the limit allows three times (values, weights that are
/// expanded, inputs), and constants that are folded.
const MOST_MEMORY: usize = 512 << 20;

/// Faults that are shown.
const SHOWN: usize = 40;

/// What became of the programs.
struct Sweep {
    /// Where the program is that is being tried.
    file: PathBuf,
    tried: usize,
    ran: usize,
    faults: BTreeMap<String, String>,
}

impl Sweep {
    fn new(name: &str) -> Self {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{name}.mil"));
        Sweep { file, tried: 0, ran: 0, faults: BTreeMap::new() }
    }

    /// Tries a program; `what` says what it is, and `is_wrong` that it must be refused.
    fn check(&mut self, program: Program, what: &str, is_wrong: bool) -> bool {
        let text = to_text(&program);
        fs::write(&self.file, &text).unwrap();
        memory::reset();
        let result = catch_unwind(AssertUnwindSafe(|| attempt(program)));
        self.tried += 1;
        let fault = match &result {
            Err(panic) => {
                let message = panic.downcast_ref::<String>().map(String::as_str);
                let message = message.or(panic.downcast_ref::<&str>().copied());
                Some(format!("panics: {}", message.unwrap_or("?")))
            }
            Ok(_) if memory::peak() > MOST_MEMORY => {
                Some(format!("takes {} bytes", memory::peak()))
            }
            Ok(Ok(())) if is_wrong => Some("runs".to_owned()),
            Ok(Err(error)) if !says_where(error) => Some(format!("gets an unclear error: {error}")),
            Ok(_) => None,
        };
        if let Some(fault) = fault {
            let shown = text.chars().take(4000).collect();
            self.faults.entry(format!("{what} {fault}")).or_insert(shown);
        }
        let ran = matches!(result, Ok(Ok(())));
        self.ran += usize::from(ran);
        ran
    }

    fn finish(self) {
        let faults: Vec<String> = self
            .faults
            .iter()
            .take(SHOWN)
            .map(|(fault, program)| format!("{fault}\n{program}"))
            .collect();
        let count = self.faults.len();
        assert!(faults.is_empty(), "{count} faults of {}:\n{}", self.tried, faults.join("\n"));
    }
}

/// Whether an error names the operation, or is about no operation.
fn says_where(error: &EngineError) -> bool {
    match error {
        EngineError::Operation(error) | EngineError::Run(error) => {
            !error.operator.is_empty() && !error.source.to_string().contains("only at run time")
        }
        EngineError::UnsupportedOperation { operator, .. } => !operator.is_empty(),
        EngineError::Rewrite { .. } => false,
        EngineError::Format(_) | EngineError::Function { .. } | EngineError::Program { .. } => true,
        _ => false,
    }
}

fn rounds() -> u64 {
    std::env::var("COREML_HOSTILE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Bytes that follow from a number (the steps of splitmix64).
fn bytes(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..128).flat_map(|_| next().to_le_bytes()).collect()
}

/// All cases of operations.
fn cases() -> Vec<(String, Function)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/ops");
    let mut files: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path| from_text(&fs::read_to_string(path).unwrap()).unwrap().functions;
    files
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "mil"))
        .flat_map(read)
        .collect()
}

fn program(name: &str, mut function: Function) -> Program {
    // The inputs and results of the case.
    let operator = function.attributes.remove("operator");
    function.attributes =
        operator.into_iter().map(|value| ("operator".to_owned(), value)).collect();
    Program {
        functions: BTreeMap::from([(name.to_owned(), function)]),
        attributes: BTreeMap::new(),
    }
}

#[test]
fn what_was_found_once() {
    let mut sweep = Sweep::new("found");
    for (what, function) in FOUND {
        let text = format!("program(1.3) {{ func {function}; }}");
        sweep.check(from_text(&text).unwrap(), what, false);
    }
    sweep.finish();
}

#[test]
fn sound_operations_with_something_changed() {
    let mut sweep = Sweep::new("mutants");
    let (mut swept, mut refused): (BTreeSet<(String, Opset)>, BTreeSet<_>) = Default::default();
    for (number, (name, case)) in cases().into_iter().enumerate() {
        let operator = case.attributes.get("operator").and_then(Value::as_str).unwrap().to_owned();
        let version = lookup(&operator, case.opset).map(|definition| (operator, definition.since));
        for mutant in 0..rounds() * MUTANTS {
            let bytes = bytes(number as u64 + (mutant << 32));
            let mut choices = Choices::new(&bytes);
            let mut function = case.clone();
            let Some(first) = mutate(&mut function, &mut choices) else { continue };
            // A second change may mend the first.
            let second = if choices.one_in(4) { mutate(&mut function, &mut choices) } else { None };
            let (what, is_wrong) = match second {
                Some(second) => (format!("{}, {}", first.what, second.what), false),
                None => (first.what, first.is_wrong),
            };
            let ran = sweep.check(program(&name, function), &what, is_wrong);
            swept.extend(version.clone());
            if !ran {
                refused.extend(version.clone());
            }
        }
    }
    assert!(sweep.ran * 10 > sweep.tried && sweep.ran * 2 < sweep.tried * 3, "{}", sweep.ran);
    let never: Vec<_> = swept.difference(&refused).collect();
    assert!(never.is_empty(), "operators that were never refused anything: {never:?}");
    sweep.finish();
}

#[test]
fn operations_of_anything() {
    let mut sweep = Sweep::new("anything");
    for number in 0..rounds() * PROGRAMS {
        let program = table::program(&bytes(number));
        sweep.check(program, &format!("program {number}"), false);
    }
    assert!(sweep.ran * 100 > sweep.tried, "{} of {} ran", sweep.ran, sweep.tried);
    sweep.finish();
}
