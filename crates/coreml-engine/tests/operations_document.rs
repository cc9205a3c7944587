//! `docs/operations.md` is the table of definitions and nothing else.
//! `BLESS=1 cargo test -p coreml-engine --test operations_document` writes it anew.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod common;

use common::assert_golden;
use coreml_engine::computes;
use coreml_engine::definitions::markdown;

#[test]
fn the_document_is_what_the_table_gives() {
    assert_golden("../../docs/operations.md", &markdown(computes));
}
