//! Operations that the planner inserts: a copy of a value, and the widening of an `F16` value.

use half::f16;

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
        outputs.tensor(0)?.bytes.copy_from_slice(inputs.tensor(0)?.bytes);
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
        coreml_kernels::convert::f16_to_f32(halves, outputs.tensor(0)?.f32s()?);
        Ok(())
    }

    fn accepts_half(&self, _input: usize) -> bool {
        true
    }
}
