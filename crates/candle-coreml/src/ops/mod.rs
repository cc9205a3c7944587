//! Operations. Each family file ends with its `OPS` table; adding an operation edits one file.
//! See `docs/adding-an-op.md`.

mod activation;
mod binder;
mod broadcast;
mod compression;
mod concat;
mod conv;
mod copy;
mod elementwise_binary;
mod elementwise_unary;
mod error;
mod inputs;
mod linear;
mod list;
mod normalization;
mod pad;
mod recurrent;
mod reduction;
mod scatter_gather;
mod select;
mod slice;
mod strided;
mod tensor_operation;
mod tensor_transformation;
#[cfg(test)]
mod testing;

pub(crate) use binder::{Binder, Bound};
pub(crate) use compression::expand;
pub(crate) use copy::{Copy, Widen};
pub(crate) use error::OpError;
pub(crate) use inputs::{Frame, Inputs, Operand, Output, Outputs, ResultType, Scratch};

use coreml_format::mil::Opset;
use smallvec::SmallVec;

use crate::value::Constant;

/// Types of an operation's results.
pub(crate) type ResultTypes = SmallVec<[ResultType; 1]>;

/// Results that are known when the plan is made.
pub(crate) type Folded = SmallVec<[Constant; 1]>;

/// An operation with its arguments parsed.
pub(crate) trait Op: Send + Sync {
    /// Element types and shapes of the results. [`OpError::NotYetKnown`] (which the accessors of
    /// [`Inputs`] give) means that they depend on a run-time value; the executor asks again then.
    /// Operations whose result is a list give an empty shape for it.
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError>;

    /// Computes the results.
    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        scratch: &mut Scratch,
    ) -> Result<(), OpError>;

    /// True when `run` reads this input also where it is held as `F16` (a weight or a state);
    /// otherwise it gets such an input widened to `F32`.
    fn accepts_half(&self, _input: usize) -> bool {
        false
    }

    /// True when `run` reads this constant compressed; otherwise it gets it expanded.
    fn accepts_compressed(&self, _input: usize, _constant: &Constant) -> bool {
        false
    }

    /// The input whose storage the results take over: an operation that only moves elements keeps
    /// them as they are held.
    fn keeps_storage_of(&self) -> Option<usize> {
        None
    }

    /// When result `output` is a contiguous part of an input: the input and the part's first
    /// element. The planner then makes it a view, and nothing runs.
    fn view(&self, _inputs: &Inputs, _output: usize) -> Option<(usize, usize)> {
        None
    }

    /// Inputs whose buffer the first output may take over when nothing else needs it. `run` then
    /// finds the input's elements in the output ([`Inputs::is_in_place`]).
    fn in_place(&self) -> &[usize] {
        &[]
    }

    /// Takes over the work of a repetition before input `input`: each matrix of that input (its
    /// last two dimensions) stands for `times` consecutive ones. False when it can't.
    fn absorb_repeat(&mut self, _input: usize, _times: usize) -> bool {
        false
    }

    /// When this operation repeats blocks of its input (each run of `block` elements `times`
    /// times): `(input, block, times)`.
    fn as_repeat(&self, _inputs: &Inputs) -> Option<(usize, usize, usize)> {
        None
    }

    /// All results as constants, when all inputs are constants and there is a better way than to
    /// run: keeps compressed weights compressed.
    fn fold(&self, _inputs: &Inputs) -> Result<Option<Folded>, OpError> {
        Ok(None)
    }
}

/// One version of an operator: its name, the first opset that has it, and how to bind it.
pub(crate) struct OpDef {
    pub(crate) name: &'static str,
    pub(crate) since: Opset,
    pub(crate) bind: fn(&mut Binder) -> Result<Box<dyn Op>, OpError>,
}

/// A row of a family's `OPS` table.
const fn def(
    name: &'static str,
    since: Opset,
    bind: fn(&mut Binder) -> Result<Box<dyn Op>, OpError>,
) -> OpDef {
    OpDef { name, since, bind }
}

const FAMILIES: &[&[OpDef]] = &[
    activation::OPS,
    compression::OPS,
    conv::OPS,
    elementwise_binary::OPS,
    elementwise_unary::OPS,
    linear::OPS,
    list::OPS,
    normalization::OPS,
    recurrent::OPS,
    reduction::OPS,
    scatter_gather::OPS,
    select::OPS,
    slice::OPS,
    tensor_operation::OPS,
    tensor_transformation::OPS,
];

/// Operators that the plan and the executor handle themselves.
pub(crate) const STRUCTURAL: &[&str] =
    &["const", "cond", "while_loop", "read_state", "write_state", "coreml_update_state"];

/// The version of an operator that an opset means: the newest one not above it.
pub(crate) fn lookup(name: &str, opset: Opset) -> Option<&'static OpDef> {
    FAMILIES
        .iter()
        .flat_map(|family| family.iter())
        .filter(|def| def.name == name && def.since <= opset)
        .max_by_key(|def| def.since)
}

/// An axis that may count from the end.
fn axis(axis: i64, rank: usize, argument: &str) -> Result<usize, OpError> {
    let resolved = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(resolved) {
        Ok(resolved) if resolved < rank => Ok(resolved),
        _ => Err(OpError::argument(
            argument,
            format!("an axis of a tensor of rank {rank}"),
            axis.to_string(),
        )),
    }
}

/// One result of this element type and shape.
fn one(
    element: coreml_format::mil::ElementType,
    shape: impl Into<crate::value::Shape>,
) -> Result<ResultTypes, OpError> {
    Ok(smallvec::smallvec![ResultType::new(element, shape)])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use coreml_format::mil::{Value, from_text};

    use super::*;

    #[test]
    fn every_version_of_an_operator_has_a_case() {
        let mut tested = HashSet::new();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/ops");
        for entry in std::fs::read_dir(fixtures).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            for function in from_text(&text).unwrap().functions.values() {
                let operator = function.attributes.get("operator").and_then(Value::as_str);
                let def = lookup(operator.unwrap(), function.opset);
                tested.extend(def.map(|def| (def.name, def.since)));
            }
        }
        for def in FAMILIES.iter().flat_map(|family| family.iter()) {
            assert!(tested.contains(&(def.name, def.since)), "`{}` ({})", def.name, def.since);
        }
    }

    #[test]
    fn no_operator_version_is_defined_twice() {
        let mut seen = HashSet::new();
        for def in FAMILIES.iter().flat_map(|family| family.iter()) {
            assert!(seen.insert((def.name, def.since)), "`{}` ({})", def.name, def.since);
        }
    }

    #[test]
    fn lookup_takes_the_newest_version_not_above_the_opset() {
        assert_eq!(lookup("gather", Opset::Ios15).map(|def| def.since), Some(Opset::Ios15));
        assert_eq!(lookup("gather", Opset::Ios16).map(|def| def.since), Some(Opset::Ios16));
        assert_eq!(lookup("gather", Opset::Ios26).map(|def| def.since), Some(Opset::Ios17));
        assert!(lookup("slice_update", Opset::Ios17).is_none());
        assert!(lookup("no_such_operator", Opset::Ios26).is_none());
    }
}
