//! A program over the table of definitions, which the bytes choose: it is planned and run, or refused.
#![no_main]

#[path = "../../crates/coreml-engine/tests/hostile/attempt.rs"]
mod attempt;
#[path = "../../crates/coreml-engine/tests/hostile/choices.rs"]
mod choices;
#[path = "../../crates/coreml-engine/tests/hostile/table.rs"]
mod table;
#[path = "../../crates/coreml-engine/tests/hostile/values.rs"]
mod values;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = attempt::attempt(table::program(bytes));
});
