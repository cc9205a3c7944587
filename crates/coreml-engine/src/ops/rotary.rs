//! Rotary position embedding. No operator of MIL: a rewrite makes it.

use coreml_kernels::{Heads, rotary};
use smallvec::SmallVec;

use super::elementwise_unary::load;
use crate::error::OpError;
use crate::op::{Inputs, Kernel, Op, ResultTypes, broadcast, kernel, one, repeated};
use crate::value::Shape;
use crate::weights::Weights;

/// `x · cos + turned · sin`, where `turned` has the second half of each row of `x`, negated, before the first
/// one. `cos` and `sin` have rows as long as `x`, and broadcast to it.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    pub(crate) x: usize,
    pub(crate) cos: usize,
    pub(crate) sin: usize,
}

/// The steps of a factor from row to row along each axis of `x` but the last one.
fn row_steps(
    inputs: &Inputs,
    name: &str,
    input: usize,
    x: &[usize],
) -> Result<SmallVec<[usize; 6]>, OpError> {
    let shape = inputs.shape(input)?;
    if shape.last() != x.last() || broadcast(shape, x)?.as_slice() != x {
        let expected = format!("rows that broadcast to {x:?}");
        return Err(OpError::argument(name, expected, format!("shape {shape:?}")));
    }
    let strides = repeated(shape, &inputs.strides(input)?, x);
    let rows = strides.iter().take(x.len().saturating_sub(1));
    Ok(rows.map(|&stride| usize::try_from(stride).unwrap_or(0)).collect())
}

impl Op for Rotary {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let x = inputs.shape(self.x)?;
        if x.last().is_none_or(|width| !width.is_multiple_of(2)) {
            return Err(OpError::argument("x", "rows with two halves", format!("shape {x:?}")));
        }
        row_steps(inputs, "cos", self.cos, x)?;
        row_steps(inputs, "sin", self.sin, x)?;
        one(inputs.element(self.x)?, x)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let Rotary { x, cos, sin } = *self;
        let shape = inputs.shape(x)?;
        let cos_steps = row_steps(inputs, "cos", cos, shape)?;
        let sin_steps = row_steps(inputs, "sin", sin, shape)?;
        let (mut rows, width) = (Shape::from_slice(shape), shape.last().copied().unwrap_or(0));
        rows.pop();
        kernel(move |inputs, outputs, context| {
            let out = outputs.tensor(0)?;
            load(inputs, x, out)?;
            let (cos, sin) = (inputs.tensor(cos)?.f32s()?, inputs.tensor(sin)?.f32s()?);
            let cos = Heads { data: cos, batch: &cos_steps, row: 0, col: 1 };
            let sin = Heads { data: sin, batch: &sin_steps, row: 0, col: 1 };
            Ok(rotary::rotate_half(context, out.f32s()?, &rows, width, cos, sin)?)
        })
    }

    fn reads_strided(&self, input: usize) -> bool {
        input == self.x
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}
