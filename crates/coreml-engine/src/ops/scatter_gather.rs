//! Operations that pick elements by index.

use coreml_format::mil::Opset;
use coreml_kernels::Context;
use coreml_kernels::convert::f16_to_f32;
use half::f16;
use smallvec::{SmallVec, smallvec};

use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Moves, Op, OpDef, ResultTypes, axis, bound, def, kernel, one,
};
use crate::value::{
    Constant, Element, Lines, Shape, Storage, TensorMut, TensorRef, Visitor, count, same_count,
};
use crate::weights::{Weights, matrix};

/// How indices are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Indices {
    /// Whether those below 0 count from the end. Where an operator leaves them undefined, they do
    /// too.
    pub(crate) negative: bool,
}

impl Indices {
    /// The element of an axis of `size` that an index means.
    fn resolve(self, index: i64, size: usize, axis: usize) -> Result<usize, OpError> {
        let resolved =
            if self.negative && index < 0 { index.saturating_add(size as i64) } else { index };
        usize::try_from(resolved).ok().filter(|&resolved| resolved < size).ok_or_else(|| {
            OpError::argument(
                "indices",
                format!("indices of axis {axis}, which has {size} elements"),
                index.to_string(),
            )
        })
    }

    /// Those of opsets before iOS 17, which have no `validate_indices`.
    const UNCHECKED: Indices = Indices { negative: true };

    fn bind(binder: &Binder) -> Result<Self, OpError> {
        Ok(Indices { negative: !binder.bool("validate_indices")? })
    }
}

/// Slices of `x` along an axis, by index.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    pub(crate) x: usize,
    pub(crate) indices: usize,
    pub(crate) axis: i64,
    /// How many of the first axes `x` and `indices` share.
    pub(crate) batch_dims: i64,
    pub(crate) rule: Indices,
}

/// Where a gather's slices lie: `x` is `[batch, outer, size, inner]`, and each batch has `each`
/// indices.
#[derive(Clone, Copy)]
struct Slices {
    axis: usize,
    batch_dims: usize,
    batch: usize,
    outer: usize,
    size: usize,
    inner: usize,
    each: usize,
    rule: Indices,
}

impl Slices {
    /// Calls `copy` with the number of each slice of the result and that of its slice of `x`.
    fn for_each(
        &self,
        indices: &TensorRef,
        mut copy: impl FnMut(usize, usize) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        if self.inner == 0 || self.each == 0 {
            return Ok(());
        }
        let indices = indices.int_elements()?;
        let mut target = 0;
        for outer in 0..self.batch.saturating_mul(self.outer) {
            let first = outer / self.outer * self.each;
            for index in (first..first + self.each).filter_map(|i| indices.get(i)) {
                let slice = self.rule.resolve(index, self.size, self.axis)?;
                copy(target, outer * self.size + slice)?;
                target += 1;
            }
        }
        Ok(())
    }

    /// Copies slices as they are held, or from halves to floats.
    fn copy(
        &self,
        context: &Context,
        x: &TensorRef,
        indices: &TensorRef,
        out: &mut TensorMut,
    ) -> Result<(), OpError> {
        let inner = self.inner;
        if (x.storage, out.storage) == (Storage::F16, Storage::F32) {
            let (values, out) = (x.slice::<f16>()?, out.f32s()?);
            return self.for_each(indices, |to, from| {
                let from = part(values, from, inner)?;
                Ok(f16_to_f32(context, from, part_mut(out, to, inner)?)?)
            });
        }
        let (bytes, size) = (x.dense_bytes()?, inner * x.storage.size());
        self.for_each(indices, |to, from| {
            part_mut(out.bytes, to, size)?.copy_from_slice(part(bytes, from, size)?);
            Ok(())
        })
    }
}

/// Part `number` of a slice in parts of `size`.
fn part<T>(values: &[T], number: usize, size: usize) -> Result<&[T], OpError> {
    values.get(number * size..(number + 1) * size).ok_or_else(|| missing(values.len()))
}

/// Part `number` of a slice in parts of `size`, to write.
fn part_mut<T>(values: &mut [T], number: usize, size: usize) -> Result<&mut [T], OpError> {
    let got = values.len();
    values.get_mut(number * size..(number + 1) * size).ok_or_else(|| missing(got))
}

fn missing(got: usize) -> OpError {
    OpError::invalid(format!("there are no more than {got} elements"))
}

impl Gather {
    fn slices(&self, inputs: &Inputs) -> Result<Slices, OpError> {
        let (x, indices) = (inputs.shape(self.x)?, inputs.shape(self.indices)?);
        let axis = axis(self.axis, x.len(), "axis")?;
        let batch_dims = usize::try_from(self.batch_dims)
            .ok()
            .filter(|&dims| dims <= axis && dims <= indices.len() && x[..dims] == indices[..dims]);
        let Some(batch_dims) = batch_dims else {
            let expected = format!(
                "dimensions that `x` ({x:?}) and `indices` ({indices:?}) share before the axis"
            );
            return Err(OpError::argument("batch_dims", expected, self.batch_dims.to_string()));
        };
        Ok(Slices {
            axis,
            batch_dims,
            batch: count(&x[..batch_dims]),
            outer: count(&x[batch_dims..axis]),
            size: x[axis],
            inner: count(&x[axis + 1..]),
            each: count(&indices[batch_dims..]),
            rule: self.rule,
        })
    }

    /// Number of rows and columns when `x` is taken as a matrix whose rows are picked.
    fn rows_and_cols(&self, shape: &[usize]) -> Option<(usize, usize)> {
        let first = axis(self.axis, shape.len(), "axis").ok()? == 0 && self.batch_dims == 0;
        first.then(|| (shape[0], count(&shape[1..])))
    }

    /// Picks rows of a compressed matrix.
    fn expanding(&self, constant: Constant, slices: Slices) -> Result<Kernel, OpError> {
        let refuse = || OpError::unsupported("this compression of `x`");
        let (rows, cols) = self.rows_and_cols(&constant.shape).ok_or_else(refuse)?;
        let indices = self.indices;
        kernel(move |inputs, outputs, context| {
            let weights = matrix(&constant, rows, cols).ok_or_else(refuse)?;
            let out = outputs.tensor(0)?.f32s()?;
            slices.for_each(&inputs.tensor(indices)?, |to, from| {
                let row = part_mut(out, to, cols)?;
                Ok(weights.dequantize_rows(context, from..from + 1, row)?)
            })
        })
    }
}

impl Op for Gather {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (x, indices) = (inputs.shape(self.x)?, inputs.shape(self.indices)?);
        let slices = self.slices(inputs)?;
        let mut shape = Shape::from_slice(&x[..slices.axis]);
        shape.extend_from_slice(&indices[slices.batch_dims..]);
        shape.extend_from_slice(&x[slices.axis + 1..]);
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let slices = self.slices(inputs)?;
        if let Some(constant) = inputs.constant(self.x).filter(|x| x.is_compressed()) {
            return self.expanding(constant.clone(), slices);
        }
        let (x, indices) = (self.x, self.indices);
        kernel(move |inputs, outputs, context| {
            let (x, indices) = (inputs.tensor(x)?, inputs.tensor(indices)?);
            slices.copy(context, &x, &indices, outputs.tensor(0)?)
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

fn gather_by(binder: &mut Binder, batch_dims: i64, rule: Indices) -> Result<Box<dyn Op>, OpError> {
    let (x, indices) = (binder.input("x")?, binder.input("indices")?);
    bound(Gather { x, indices, axis: binder.int("axis")?, batch_dims, rule })
}

fn gather(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    gather_by(binder, 0, Indices::UNCHECKED)
}

fn gather_ios16(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let batch_dims = binder.int("batch_dims")?;
    gather_by(binder, batch_dims, Indices::UNCHECKED)
}

fn gather_ios17(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (batch_dims, rule) = (binder.int("batch_dims")?, Indices::bind(binder)?);
    gather_by(binder, batch_dims, rule)
}

/// Elements of `x` whose place on one axis is given by index.
#[derive(Clone, Debug)]
pub(crate) struct GatherAlongAxis {
    pub(crate) x: usize,
    pub(crate) indices: usize,
    pub(crate) axis: i64,
    pub(crate) rule: Indices,
}

impl GatherAlongAxis {
    /// The axis; all others are the same in `x` and `indices`.
    fn axis(&self, x: &[usize], indices: &[usize]) -> Result<usize, OpError> {
        let axis = axis(self.axis, x.len(), "axis")?;
        let mut fitting = Shape::from_slice(x);
        if let Some(&size) = indices.get(axis) {
            fitting[axis] = size;
        }
        if fitting.as_slice() != indices {
            let expected = format!("the shape {x:?} of `x`, except for axis {axis}");
            return Err(OpError::argument("indices", expected, format!("{indices:?}")));
        }
        Ok(axis)
    }
}

/// Picks the elements of a result, whatever their type.
struct Pick<'a, 'b> {
    axis: usize,
    rule: Indices,
    x: TensorRef<'a>,
    indices: TensorRef<'a>,
    out: &'a mut TensorMut<'b>,
}

impl Visitor for Pick<'_, '_> {
    type Output = Result<(), OpError>;

    fn visit<T: Element>(self) -> Result<(), OpError> {
        let (from, out) = (self.x.slice::<T>()?, self.out.slice::<T>()?);
        let size = self.x.shape[self.axis];
        let Lines { size: taken, inner, .. } = Lines::along(self.indices.shape, self.axis);
        same_count(out.len(), self.indices.len())?;
        let indices = self.indices.int_elements()?;
        for (i, out) in out.iter_mut().enumerate() {
            let Some(index) = indices.get(i) else { break };
            let (outer, column) = (i / inner / taken, i % inner);
            let row = outer * size + self.rule.resolve(index, size, self.axis)?;
            *out = from[row * inner + column];
        }
        Ok(())
    }
}

impl Op for GatherAlongAxis {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.indices)?;
        self.axis(inputs.shape(self.x)?, shape)?;
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (x, indices, rule) = (self.x, self.indices, self.rule);
        let axis = self.axis(inputs.shape(x)?, inputs.shape(indices)?)?;
        kernel(move |inputs, outputs, _context| {
            let (x, indices) = (inputs.tensor(x)?, inputs.tensor(indices)?);
            x.storage.visit(Pick { axis, rule, x, indices, out: outputs.tensor(0)? })
        })
    }

    fn moves(&self) -> Option<Moves> {
        Moves::new(self, [self.x])
    }

    fn places(&self) -> SmallVec<[usize; 2]> {
        smallvec![self.indices]
    }
}

fn along_axis(binder: &mut Binder, rule: Indices) -> Result<Box<dyn Op>, OpError> {
    let (x, indices) = (binder.input("x")?, binder.input("indices")?);
    bound(GatherAlongAxis { x, indices, axis: binder.int("axis")?, rule })
}

fn gather_along_axis(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    along_axis(binder, Indices::UNCHECKED)
}

fn gather_along_axis_ios17(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let rule = Indices::bind(binder)?;
    along_axis(binder, rule)
}

pub(super) const OPS: &[OpDef] = &[
    def("gather", Opset::Ios15, gather),
    def("gather", Opset::Ios16, gather_ios16),
    def("gather", Opset::Ios17, gather_ios17),
    def("gather_along_axis", Opset::Ios15, gather_along_axis),
    def("gather_along_axis", Opset::Ios16, gather_along_axis),
    def("gather_along_axis", Opset::Ios17, gather_along_axis_ios17),
];

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;
    use proptest::prelude::*;

    use super::*;
    use crate::op::testing::{Case, Value, arange, indices, position};
    use crate::value::{Buffer, Bytes, ConstantData, PalettizedData};

    fn bytes(bytes: &[u8]) -> Bytes {
        Bytes::from_buffer(Buffer::copy_of(bytes).unwrap())
    }

    #[test]
    fn rows_of_palettized_weights_are_looked_up() {
        // The first example of coreml's iOS 18 `constexpr_lut_to_dense`: 6 rows of 2, the first 3
        // of which have the first table.
        let data = PalettizedData {
            bits: 2,
            indices: bytes(&[0b00_11_11_10, 0b00_11_00_01, 0b11_00_01_10]),
            lut: bytes(bytemuck::cast_slice(&[1f32, 5.0, 9.0, 13.0, 2.0, 10.0, 18.0, 26.0])),
            lut_storage: Storage::F32,
            groups: Shape::from_slice(&[2, 1]),
        };
        let data = ConstantData::Palettized(data);
        let x = Constant { element: ElementType::Float32, shape: Shape::from_slice(&[6, 2]), data };
        let case = Case::new().constant("x", x).ints("indices", &[2], &[5, -5]);
        let expected = (vec![2, 2], vec![2.0, 26.0, 13.0, 1.0]);
        assert_eq!(case.run_floats("gather", Opset::Ios18), expected);
    }

    #[test]
    fn indices_count_from_both_ends_and_stay_inside() {
        let x = |case: Case| case.halves("x", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let picked =
            x(Case::new()).value("indices", Value::tensor(ElementType::Int16, &[2], &[-1i16, 0]));
        let expected = (vec![2, 2], vec![5.0, 6.0, 1.0, 2.0]);
        assert_eq!(picked.run_floats("gather", Opset::Ios16), expected);
        let error = x(Case::new()).ints("indices", &[1], &[3]).run("gather", Opset::Ios16);
        let message = error.err().unwrap().to_string();
        assert!(message.contains("axis 0") && message.contains("got 3"), "{message}");
        let checked = x(Case::new()).ints("indices", &[1], &[-1]).bools("validate_indices", &[1]);
        let message = checked.run("gather", Opset::Ios17).err().unwrap().to_string();
        assert!(message.contains("axis 0") && message.contains("got -1"), "{message}");
    }

    #[test]
    fn batches_pick_from_their_own() {
        // tf.gather(arange(8).reshape(2, 2, 2), [[1], [0]], axis=1, batch_dims=1)
        let x: Vec<i32> = (0..8).collect();
        let case = Case::new().ints("x", &[2, 2, 2], &x).ints("indices", &[2, 1], &[1, 0]);
        let case = case.int("axis", 1).int("batch_dims", 1);
        assert_eq!(case.run_ints("gather", Opset::Ios17), (vec![2, 1, 2], vec![2, 3, 4, 5]));
    }

    #[test]
    fn nothing_is_picked_from_nothing() {
        let case = Case::new().ints("x", &[2, 0], &[]).ints("indices", &[0], &[]);
        assert_eq!(case.int("axis", 1).run_ints("gather", Opset::Ios15), (vec![2, 0], vec![]));
        let error = Case::new().ints("x", &[2, 0], &[]).ints("indices", &[1], &[0]).int("axis", 1);
        assert!(error.run("gather", Opset::Ios15).is_err());
    }

    proptest! {
        #[test]
        fn slices_are_those_that_indexing_gives(
            shape in prop::collection::vec(1usize..4, 1..4),
            place in 0usize..3,
            picks in prop::collection::vec(-9i32..9, 0..5),
        ) {
            let axis = place % shape.len();
            let size = shape[axis] as i32;
            let picks: Vec<i32> = picks.iter().map(|pick| pick.rem_euclid(2 * size) - size).collect();
            let mut result = shape.clone();
            result[axis] = picks.len();
            let expected: Vec<i32> = indices(&result)
                .into_iter()
                .map(|mut index| {
                    index[axis] = picks[index[axis]].rem_euclid(size) as usize;
                    position(&shape, &index) as i32
                })
                .collect();
            let case = Case::new().ints("x", &shape, &arange(&shape));
            let case = case.ints("indices", &[picks.len()], &picks).int("axis", axis as i32);
            prop_assert_eq!(case.run_ints("gather", Opset::Ios15), (result, expected));
        }

        #[test]
        fn elements_along_an_axis_are_those_that_indexing_gives(
            shape in prop::collection::vec(1usize..4, 1..4),
            place in 0usize..3,
            taken in 0usize..5,
            seed in any::<u32>(),
        ) {
            let axis = place % shape.len();
            let size = shape[axis] as i32;
            let mut result = shape.clone();
            result[axis] = taken;
            let pick = |number: usize| {
                let mixed = (number as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8;
                mixed as i32 % (2 * size) - size
            };
            let picks: Vec<i32> = (0..result.iter().product()).map(pick).collect();
            let expected: Vec<i32> = indices(&result)
                .into_iter()
                .zip(&picks)
                .map(|(mut index, pick)| {
                    index[axis] = pick.rem_euclid(size) as usize;
                    position(&shape, &index) as i32
                })
                .collect();
            let case = Case::new().ints("x", &shape, &arange(&shape));
            let case = case.ints("indices", &result, &picks).int("axis", axis as i32);
            prop_assert_eq!(case.run_ints("gather_along_axis", Opset::Ios16), (result, expected));
        }
    }
}
