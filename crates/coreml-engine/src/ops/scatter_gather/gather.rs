//! Operations that read slices by index.

use coreml_kernels::Context;
use coreml_kernels::convert::f16_to_f32;
use half::f16;
use smallvec::{SmallVec, smallvec};

use super::places::{By, Places, Rule};
use super::{part, part_mut};
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Moves, Op, ResultTypes, axis, bound, kernel, one};
use crate::value::{
    Constant, Element, Storage, TensorMut, TensorRef, Visitor, count, elements, elements_mut,
};
use crate::weights::{Weights, matrix};

/// Slices of `x`, by index.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    pub(crate) x: usize,
    pub(crate) indices: usize,
    pub(crate) by: By,
    pub(crate) rule: Rule,
}

impl Gather {
    fn places(&self, inputs: &Inputs) -> Result<Places, OpError> {
        Places::of(self.by, self.rule, inputs, ("x", self.x), self.indices)
    }

    /// Number of rows and columns when `x` is taken as a matrix whose rows are picked.
    fn rows_and_cols(&self, shape: &[usize]) -> Option<(usize, usize)> {
        let By::Slice { axis: along, batch_dims: 0 } = self.by else { return None };
        let first = axis(along, shape.len(), "axis").ok()? == 0;
        first.then(|| (shape[0], count(&shape[1..])))
    }

    /// Picks rows of a compressed matrix.
    fn expanding(&self, constant: Constant, places: Places) -> Result<Kernel, OpError> {
        let refuse = || OpError::unsupported("this compression of `x`");
        let (rows, cols) = self.rows_and_cols(&constant.shape).ok_or_else(refuse)?;
        let indices = self.indices;
        kernel(move |inputs, outputs, context| {
            let weights = matrix(&constant, rows, cols).ok_or_else(refuse)?;
            let out = outputs.tensor(0)?.f32s()?;
            places.for_each(&inputs.tensor(indices)?, |to, from| {
                let row = part_mut(out, to, cols)?;
                Ok(weights.dequantize_rows(context, from..from + 1, row)?)
            })
        })
    }
}

impl Op for Gather {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.x)?, self.places(inputs)?.picked)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let places = self.places(inputs)?;
        if let Some(constant) = inputs.constant(self.x).filter(|x| x.is_compressed()) {
            return self.expanding(constant.clone(), places);
        }
        let (x, indices) = (self.x, self.indices);
        kernel(move |inputs, outputs, context| {
            let (x, indices) = (inputs.tensor(x)?, inputs.tensor(indices)?);
            read(context, &places, &x, &indices, outputs.tensor(0)?)
        })
    }

    fn reads_half(&self, input: usize) -> bool {
        input == self.x
    }

    fn reads_compressed(&self, input: usize, constant: &Constant) -> bool {
        let readable = |(rows, cols)| matrix(constant, rows, cols).is_some();
        input == self.x && self.rows_and_cols(&constant.shape).is_some_and(readable)
    }

    fn moves(&self) -> Option<Moves> {
        Moves::new(self, [self.x])
    }

    fn places(&self) -> SmallVec<[usize; 2]> {
        smallvec![self.indices]
    }
}

/// Copies slices as they are held, or from halves to floats.
fn read(
    context: &Context,
    places: &Places,
    x: &TensorRef,
    indices: &TensorRef,
    out: &mut TensorMut,
) -> Result<(), OpError> {
    if (x.storage, out.storage) != (Storage::F16, Storage::F32) {
        return out.storage.visit_bits(Read { places, x, indices, out });
    }
    let (values, out) = (x.slice::<f16>()?, out.f32s()?);
    places.for_each(indices, |to, from| {
        let from = part(values, from, places.inner)?;
        Ok(f16_to_f32(context, from, part_mut(out, to, places.inner)?)?)
    })
}

struct Read<'r, 'a> {
    places: &'r Places,
    x: &'r TensorRef<'r>,
    indices: &'r TensorRef<'r>,
    out: &'r mut TensorMut<'a>,
}

impl Visitor for Read<'_, '_> {
    type Output = Result<(), OpError>;

    fn visit<T: Element>(self) -> Self::Output {
        let (from, out) =
            (elements::<T>(self.x.dense_bytes()?)?, elements_mut::<T>(self.out.bytes)?);
        let inner = self.places.inner;
        self.places.for_each(self.indices, |to, place| {
            let (from, to) = (part(from, place, inner)?, part_mut(out, to, inner)?);
            match (from, to) {
                // A copy of one element is not worth a call.
                ([from], [to]) => *to = *from,
                (from, to) => to.copy_from_slice(from),
            }
            Ok(())
        })
    }
}

fn read_by(
    binder: &mut Binder,
    by: impl Fn(&Binder) -> Result<By, OpError>,
) -> Result<Box<dyn Op>, OpError> {
    let (x, indices) = (binder.input("x")?, binder.input("indices")?);
    bound(Gather { x, indices, by: by(binder)?, rule: Rule::of_reads(binder)? })
}

/// `batch_dims`, which iOS 15 lacks.
fn batch_dims(binder: &Binder) -> Result<i64, OpError> {
    Ok(binder.optional_int("batch_dims")?.unwrap_or(0))
}

pub(super) fn gather(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    read_by(binder, |binder| {
        Ok(By::Slice { axis: binder.int("axis")?, batch_dims: batch_dims(binder)? })
    })
}

pub(super) fn gather_along_axis(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    read_by(binder, |binder| Ok(By::Element { axis: binder.int("axis")? }))
}

pub(super) fn gather_nd(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    read_by(binder, |binder| Ok(By::Tuple { batch_dims: batch_dims(binder)? }))
}
