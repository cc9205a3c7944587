//! Operations that pick elements by index.

use coreml_format::mil::Opset;
use coreml_kernels::convert::f16_to_f32;
use half::f16;

use super::compression::weights;
use super::strided::{count, row_major, same_count};
use super::{Binder, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, axis, def, one};
use crate::value::{Constant, Shape, Storage, TensorMut, TensorRef};

/// How indices are read.
#[derive(Clone, Copy)]
struct Indices {
    /// Whether those below 0 count from the end. Where an operator leaves them undefined, they do
    /// too.
    negative: bool,
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

    fn bind(binder: &Binder) -> Result<Self, OpError> {
        Ok(Indices { negative: !binder.bool("validate_indices", false)? })
    }
}

/// Slices of `x` along an axis, by index.
struct Gather {
    x: usize,
    indices: usize,
    axis: i64,
    batch_dims: i64,
    rule: Indices,
}

/// The sizes that a gather walks: `[batch, outer, axis, inner]` of `x`.
struct Sizes {
    axis: usize,
    batch_dims: usize,
    batch: usize,
    outer: usize,
    size: usize,
    inner: usize,
}

impl Gather {
    fn sizes(&self, x: &[usize], indices: &[usize]) -> Result<Sizes, OpError> {
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
        Ok(Sizes {
            axis,
            batch_dims,
            batch: count(&x[..batch_dims]),
            outer: count(&x[batch_dims..axis]),
            size: x[axis],
            inner: count(&x[axis + 1..]),
        })
    }

    /// Calls `copy` with the number of each slice of the result and that of its slice of `x`.
    fn for_each_slice(
        &self,
        inputs: &Inputs,
        mut copy: impl FnMut(usize, usize) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let sizes = self.sizes(inputs.shape(self.x)?, inputs.shape(self.indices)?)?;
        let indices = inputs.tensor(self.indices)?;
        let each = indices.len().checked_div(sizes.batch).unwrap_or(0);
        if sizes.inner == 0 {
            return Ok(());
        }
        let indices = indices.int_elements()?;
        let mut target = 0;
        for outer in 0..sizes.batch * sizes.outer {
            let first = outer / sizes.outer * each;
            for index in (first..first + each).filter_map(|i| indices.get(i)) {
                let slice = self.rule.resolve(index, sizes.size, sizes.axis)?;
                copy(target, outer * sizes.size + slice)?;
                target += 1;
            }
        }
        Ok(())
    }

    /// Number of rows and columns when `x` is taken as a matrix whose rows are picked.
    fn matrix(&self, shape: &[usize]) -> Option<(usize, usize)> {
        let first = axis(self.axis, shape.len(), "axis").ok()? == 0 && self.batch_dims == 0;
        first.then(|| (shape[0], count(&shape[1..])))
    }

    fn expand_rows(
        &self,
        inputs: &Inputs,
        constant: &Constant,
        out: &mut TensorMut,
    ) -> Result<(), OpError> {
        let (rows, cols) = self.matrix(&constant.shape).unwrap_or((0, 0));
        let weights = weights(constant, rows, cols)
            .ok_or_else(|| OpError::unsupported("this compression of `x`"))?;
        let out = out.f32s()?;
        self.for_each_slice(inputs, |to, from| {
            Ok(weights.dequantize_rows(from..from + 1, part(out, to, cols)?)?)
        })
    }
}

/// Part `number` of a slice in parts of `size`.
fn part<T>(values: &mut [T], number: usize, size: usize) -> Result<&mut [T], OpError> {
    let got = values.len();
    values.get_mut(number * size..(number + 1) * size).ok_or_else(|| {
        OpError::invalid(format!("the result has no room for more than {got} elements"))
    })
}

impl Op for Gather {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (x, indices) = (inputs.shape(self.x)?, inputs.shape(self.indices)?);
        let sizes = self.sizes(x, indices)?;
        let mut shape = Shape::from_slice(&x[..sizes.axis]);
        shape.extend_from_slice(&indices[sizes.batch_dims..]);
        shape.extend_from_slice(&x[sizes.axis + 1..]);
        one(inputs.element(self.x)?, shape)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let out = outputs.tensor(0)?;
        if let Some(constant) = inputs.constant(self.x).filter(|x| x.is_compressed()) {
            return self.expand_rows(inputs, constant, out);
        }
        let x = inputs.tensor(self.x)?;
        let inner = self.sizes(x.shape, inputs.shape(self.indices)?)?.inner;
        if (x.storage, out.storage) == (Storage::F16, Storage::F32) {
            let (values, out) = (x.slice::<f16>()?, out.f32s()?);
            return self.for_each_slice(inputs, |to, from| {
                let from = &values[from * inner..(from + 1) * inner];
                Ok(f16_to_f32(from, part(out, to, inner)?)?)
            });
        }
        let size = inner * x.storage.size();
        self.for_each_slice(inputs, |to, from| {
            let from = &x.bytes[from * size..(from + 1) * size];
            part(out.bytes, to, size)?.copy_from_slice(from);
            Ok(())
        })
    }

    fn accepts_half(&self, input: usize) -> bool {
        input == self.x
    }

    fn accepts_compressed(&self, input: usize, constant: &Constant) -> bool {
        input == self.x
            && self
                .matrix(&constant.shape)
                .is_some_and(|(rows, cols)| weights(constant, rows, cols).is_some())
    }
}

fn gather(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Gather {
        x: binder.input("x")?,
        indices: binder.input("indices")?,
        axis: binder.int("axis")?.unwrap_or(0),
        batch_dims: 0,
        rule: Indices { negative: true },
    }))
}

fn gather_ios16(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Gather {
        x: binder.input("x")?,
        indices: binder.input("indices")?,
        axis: binder.int("axis")?.unwrap_or(0),
        batch_dims: binder.int("batch_dims")?.unwrap_or(0),
        rule: Indices { negative: true },
    }))
}

fn gather_ios17(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Gather {
        x: binder.input("x")?,
        indices: binder.input("indices")?,
        axis: binder.int("axis")?.unwrap_or(0),
        batch_dims: binder.int("batch_dims")?.unwrap_or(0),
        rule: Indices::bind(binder)?,
    }))
}

/// Elements of `x` whose place on one axis is given by index.
struct GatherAlongAxis {
    x: usize,
    indices: usize,
    axis: i64,
    rule: Indices,
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

    fn copy<const N: usize>(
        &self,
        inputs: &Inputs,
        x: &TensorRef,
        out: &mut TensorMut,
    ) -> Result<(), OpError> {
        let shape = inputs.shape(self.indices)?;
        let axis = self.axis(x.shape, shape)?;
        let inner = row_major(shape)[axis];
        let (taken, size) = (shape[axis], x.shape[axis]);
        let indices = inputs.tensor(self.indices)?;
        same_count(out.bytes.len() / N, indices.len())?;
        let indices = indices.int_elements()?;
        let (from, out) = (x.bytes.as_chunks::<N>().0, out.bytes.as_chunks_mut::<N>().0);
        for (i, out) in out.iter_mut().enumerate() {
            let Some(index) = indices.get(i) else { break };
            let (outer, column) = (i / inner / taken, i % inner);
            let row = outer * size + self.rule.resolve(index, size, axis)?;
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

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let (x, out) = (inputs.tensor(self.x)?, outputs.tensor(0)?);
        match x.storage.size() {
            1 => self.copy::<1>(inputs, &x, out),
            2 => self.copy::<2>(inputs, &x, out),
            4 => self.copy::<4>(inputs, &x, out),
            _ => self.copy::<8>(inputs, &x, out),
        }
    }
}

fn gather_along_axis(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(GatherAlongAxis {
        x: binder.input("x")?,
        indices: binder.input("indices")?,
        axis: binder.int("axis")?.unwrap_or(0),
        rule: Indices { negative: true },
    }))
}

fn gather_along_axis_ios17(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(GatherAlongAxis {
        x: binder.input("x")?,
        indices: binder.input("indices")?,
        axis: binder.int("axis")?.unwrap_or(0),
        rule: Indices::bind(binder)?,
    }))
}

pub(super) const OPS: &[OpDef] = &[
    def("gather", Opset::Ios15, gather),
    def("gather", Opset::Ios16, gather_ios16),
    def("gather", Opset::Ios17, gather_ios17),
    def("gather_along_axis", Opset::Ios15, gather_along_axis),
    def("gather_along_axis", Opset::Ios17, gather_along_axis_ios17),
];

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;

    use super::*;
    use crate::ops::testing::{Case, Value};

    #[test]
    fn rows_of_palettized_weights_are_looked_up() {
        // The first example of coreml's iOS 18 `constexpr_lut_to_dense`, rows 5 and -5.
        let indices = [0b00_11_11_10u8, 0b00_11_00_01, 0b11_00_01_10];
        let lut = [1.0, 5.0, 9.0, 13.0, 2.0, 10.0, 18.0, 26.0];
        let dense = Case::new()
            .packed("indices", ElementType::UInt2, &[6, 2], &indices)
            .dense::<f32>("lut", ElementType::Float32, &[2, 1, 4, 1], &lut);
        let expected = [9.0, 13.0, 13.0, 1.0, 5.0, 1.0, 26.0, 2.0, 18.0, 10.0, 2.0, 26.0].to_vec();
        let got = dense.run_floats("constexpr_lut_to_dense", Opset::Ios18);
        assert_eq!(got, (vec![6, 2], expected));
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
    }

    #[test]
    fn batches_pick_from_their_own() {
        // tf.gather(arange(8).reshape(2, 2, 2), [[1], [0]], axis=1, batch_dims=1)
        let x: Vec<i32> = (0..8).collect();
        let case = Case::new().ints("x", &[2, 2, 2], &x).ints("indices", &[2, 1], &[1, 0]);
        let case = case.int("axis", 1).int("batch_dims", 1);
        assert_eq!(case.run_ints("gather", Opset::Ios17), (vec![2, 1, 2], vec![2, 3, 4, 5]));
    }
}
