//! Operations that the planner inserts: a copy of a value, and the widening of an `F16` value.

use half::f16;

use super::strided::same_count;
use super::{Inputs, Op, OpError, Outputs, ResultTypes, Scratch, one};

/// Copies its input as it is held.
pub(crate) struct Copy;

impl Op for Copy {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(0)?, inputs.shape(0)?)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let (x, out) = (inputs.tensor(0)?, outputs.tensor(0)?);
        same_count(out.bytes.len(), x.bytes.len())?;
        out.bytes.copy_from_slice(x.bytes);
        Ok(())
    }

    fn accepts_half(&self, _input: usize) -> bool {
        true
    }

    fn keeps_storage_of(&self) -> Option<usize> {
        Some(0)
    }
}

/// Converts an input held as `F16` to `F32`.
pub(crate) struct Widen;

impl Op for Widen {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(0)?, inputs.shape(0)?)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let halves = inputs.tensor(0)?.slice::<f16>()?;
        Ok(coreml_kernels::convert::f16_to_f32(halves, outputs.tensor(0)?.f32s()?)?)
    }

    fn accepts_half(&self, _input: usize) -> bool {
        true
    }
}
