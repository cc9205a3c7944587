//! Operations that the passes insert: a copy of a value, and the widening of an `F16` value.

use half::f16;

use crate::error::OpError;
use crate::op::{Inputs, Kernel, Op, ResultTypes, kernel, one};
use crate::value::{Layout, same_count};
use crate::weights::Weights;

/// Copies its input as it is held.
#[derive(Clone, Debug)]
pub(crate) struct Copy;

impl Op for Copy {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(0)?, inputs.shape(0)?)
    }

    fn prepare(&self, _inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        kernel(|inputs, outputs, _context| {
            let x = inputs.tensor(0)?;
            Layout::of(&x).read(x.bytes, outputs.tensor(0)?.bytes, x.storage)
        })
    }

    fn reads_half(&self, _input: usize) -> bool {
        true
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }

    fn keeps_storage_of(&self) -> Option<usize> {
        Some(0)
    }
}

/// Converts an input held as `F16` to `F32`.
#[derive(Clone, Debug)]
pub(crate) struct Widen;

impl Op for Widen {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(0)?, inputs.shape(0)?)
    }

    fn prepare(&self, _inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        kernel(|inputs, outputs, context| {
            let x = inputs.tensor(0)?;
            let (halves, out) = (x.buffer::<f16>()?, outputs.tensor(0)?.f32s()?);
            let layout = Layout::of(&x);
            same_count(out.len(), layout.count())?;
            layout.check(halves.len())?;
            let (len, stride) = layout.row();
            let mut result = Ok(());
            layout.for_each_row(|first, position| {
                let out = &mut out[first..first + len];
                if stride == 1 {
                    let row = &halves[position..position + len];
                    let widened = coreml_kernels::convert::f16_to_f32(context, row, out);
                    result = std::mem::replace(&mut result, Ok(())).and(widened);
                    return;
                }
                for (i, out) in out.iter_mut().enumerate() {
                    *out = halves[(position as isize + i as isize * stride) as usize].to_f32();
                }
            });
            Ok(result?)
        })
    }

    fn reads_half(&self, _input: usize) -> bool {
        true
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }
}
