//! An activation of one tensor times another tensor. No operator of MIL: a rewrite makes it.

use super::elementwise_unary::{Unary, load};
use crate::error::OpError;
use crate::op::{Inputs, Kernel, Op, ResultTypes, kernel, one};
use crate::value::same_count;
use crate::weights::Weights;

/// Elements that are computed at a time, which the nearest cache holds, and that a task takes.
const PIECE: usize = 1 << 12;

/// `activation(x) · y`, for tensors of floats of one shape.
#[derive(Clone, Debug)]
pub(crate) struct Gated {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) activation: Unary,
}

impl Op for Gated {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (x, y) = (inputs.shape(self.x)?, inputs.shape(self.y)?);
        if x != y {
            return Err(OpError::argument("y", format!("shape {x:?}"), format!("{y:?}")));
        }
        one(inputs.element(self.x)?, x)
    }

    fn prepare(&self, _inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let Gated { x, y, activation } = self.clone();
        kernel(move |inputs, outputs, context| {
            let out = outputs.tensor(0)?;
            load(inputs, x, out)?;
            let (out, y) = (out.f32s()?, inputs.tensor(y)?.f32s()?);
            same_count(out.len(), y.len())?;
            context.workers().for_each_chunk_mut(out, PIECE, |index, out| {
                activation.apply(context, out);
                out.iter_mut().zip(&y[index * PIECE..]).for_each(|(out, y)| *out *= y);
            });
            Ok(())
        })
    }

    fn reads_strided(&self, input: usize) -> bool {
        input == self.x
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}
