//! `matmul`, of the `linear` family.

use std::iter::repeat;

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::{
    BatchStrides, ColumnLayout, Context, Matrix, MatrixMut, Order, OutputLayout, attention_matmul,
    gemm_batch, project,
};
use half::f16;
use smallvec::SmallVec;

use super::linear::{as_floats, is_weight_matrix};
use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Op, OpDef, Product, ResultTypes, bound, broadcast, def, flops_of,
    kernel, one, weight_matrix,
};
use crate::value::{Constant, Shape, Storage, TensorRef, count, same_count};
use crate::weights::{Weights, numerics};

/// Products of matrices, those of the last two axes; batch axes broadcast.
#[derive(Clone, Debug)]
pub(crate) struct Matmul {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) transpose_x: bool,
    pub(crate) transpose_y: bool,
    /// Element type of the result.
    pub(crate) element: ElementType,
    /// Which operand is a constant matrix whose rows lie as products with weights take them.
    pub(crate) weight: Option<Side>,
    /// A constant operand of integers beside one of floats, or the other way round.
    pub(crate) converted: Option<usize>,
    /// How many consecutive matrices each one of `y` stands for.
    pub(crate) repeat: usize,
}

/// An operand of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    X,
    Y,
}

impl Matmul {
    fn bind(binder: &mut Binder) -> Result<Self, OpError> {
        let (x, y) = (binder.input("x")?, binder.input("y")?);
        let transpose_x = binder.bool("transpose_x")?;
        let transpose_y = binder.bool("transpose_y")?;
        // From iOS 17 on a constant may have another type than the other operand, which counts.
        let element = binder.common_element(&[x, y]);
        let fits = |input| Storage::natural(binder.element(input)) == Storage::natural(element);
        let other = |&input: &usize| binder.is_constant(input) && !fits(input);
        let converted = [x, y].into_iter().find(other);
        let same = converted.is_some() || fits(x) && fits(y);
        if !same || !element.is_float() && element != ElementType::Int32 {
            let got = format!("`{}` and `{}`", binder.element(x), binder.element(y));
            let expected = "operands both of floats or both `int32`";
            return Err(OpError::argument("y", expected, got));
        }
        let matrix =
            |input| binder.constant_input(input).is_some_and(|constant| constant.shape.len() == 2);
        let weight = if element == ElementType::Int32 || converted.is_some() {
            None
        } else if matrix(y) && transpose_y {
            Some(Side::Y)
        } else {
            (matrix(x) && !transpose_x && !binder.is_constant(y)).then_some(Side::X)
        };
        Ok(Matmul { x, y, transpose_x, transpose_y, element, weight, converted, repeat: 1 })
    }

    /// The operands' shapes as matrices, and the result's.
    fn sizes(&self, x: &[usize], y: &[usize]) -> Result<Sizes, OpError> {
        let (x_batch, m, k) = as_matrix(x, self.transpose_x, true)?;
        let (y_batch, y_rows, n) = as_matrix(y, self.transpose_y, false)?;
        if k != y_rows {
            let expected = format!("{k} rows, as many as `x` ({x:?}) has columns");
            return Err(OpError::argument("y", expected, format!("{y_rows} ({y:?})")));
        }
        let mut repeated = Shape::from_slice(y_batch);
        match repeated.last_mut() {
            Some(last) => *last = last.saturating_mul(self.repeat),
            None if self.repeat > 1 => repeated.push(self.repeat),
            None => {}
        }
        Ok(Sizes { m, k, n, batch: broadcast(x_batch, &repeated)? })
    }

    /// How a product runs for operands of these shapes and strides.
    fn walk(&self, inputs: &Inputs, sizes: &Sizes) -> Result<Products, OpError> {
        let x = self.operand(inputs, self.x, self.transpose_x, true)?;
        let y = self.operand(inputs, self.y, self.transpose_y, false)?;
        let x_steps = spread(&x.batch, &sizes.batch);
        let y_steps = spread(&y.batch, &sizes.batch);
        let mut axes: SmallVec<[Axis; 6]> = SmallVec::new();
        let result = sizes.batch.iter().enumerate();
        for ((axis, &size), (x, y)) in result.zip(x_steps.into_iter().zip(y_steps)) {
            // The axis along which matrices of `y` are repeated is two.
            let repeat = if axis + 1 == sizes.batch.len() { self.repeat } else { 1 };
            push(&mut axes, Axis { size: size / repeat.max(1), x: x * repeat, y });
            push(&mut axes, Axis { size: repeat, x, y: 0 });
        }
        let rows = self.rows_of_one(sizes, &y.batch);
        let order = [Order::of_floats(rows, sizes.n, sizes.k), Order::of_halves(rows)];
        Ok(Products::new(sizes, order, axes, x.place, y.place))
    }

    /// How many rows are multiplied with one matrix `y` that has these batch axes.
    fn rows_of_one(&self, sizes: &Sizes, y: &[(usize, usize)]) -> usize {
        let of_y = y.iter().rev().map(|&(size, _)| size).chain(repeat(1));
        let mut rows = sizes.m;
        for (axis, (&size, of_y)) in sizes.batch.iter().rev().zip(of_y).enumerate() {
            if of_y != 1 {
                return rows.saturating_mul(if axis == 0 { self.repeat } else { 1 });
            }
            rows = rows.saturating_mul(size);
        }
        rows
    }

    fn operand(
        &self,
        inputs: &Inputs,
        input: usize,
        transposed: bool,
        vector_is_row: bool,
    ) -> Result<Operand, OpError> {
        let (shape, strides) = (inputs.shape(input)?, inputs.strides(input)?);
        let step = |axis: usize| usize::try_from(strides[axis]).unwrap_or(0);
        let rank = shape.len();
        let batch = (0..rank.saturating_sub(2)).map(|axis| (shape[axis], step(axis))).collect();
        let (row, col) = match rank {
            0 => return Err(OpError::argument("x", "vectors or matrices", "a scalar")),
            1 if vector_is_row => (0, step(0)),
            1 => (step(0), 0),
            _ => (step(rank - 2), step(rank - 1)),
        };
        let (row, col) = if transposed && rank > 1 { (col, row) } else { (row, col) };
        Ok(Operand { batch, place: Steps { row, col } })
    }

    /// A constant `y`, whose rows are the result's columns, or a constant `x`.
    fn project(&self, side: Side, inputs: &Inputs, sizes: &Sizes) -> Result<Kernel, OpError> {
        let Matmul { x, y, transpose_x, transpose_y, .. } = *self;
        let Sizes { m, k, n, .. } = *sizes;
        let batch = count(&sizes.batch);
        // The weights' rows and input, how columns lie in each part of the input, and how many
        // columns a part has.
        let (rows, weight, data) = if side == Side::Y { (n, y, x) } else { (m, x, y) };
        let (from, to, columns) = match (side, transpose_x, transpose_y) {
            (Side::Y, false, _) => (by_column(k), by_row(n), batch.saturating_mul(m)),
            (Side::Y, true, _) => (across(m), by_row(n), m),
            (Side::X, _, true) => (by_column(k), OutputLayout { stride_n: n, stride_s: 1 }, n),
            (Side::X, _, false) => (across(n), OutputLayout { stride_n: n, stride_s: 1 }, n),
        };
        let (part, result) = (columns * k, columns * rows);
        let element = inputs.element(data)?;
        same_count(count(inputs.shape(data)?), batch * (if side == Side::Y { m } else { n }) * k)?;
        if part > 0 && count(inputs.shape(data)?) == part {
            let (x, bias, cols) = (data, None, k);
            return Ok(Kernel::Product(Product { x, weight, bias, rows, cols, columns, from, to }));
        }
        kernel(move |inputs, outputs, context| {
            let weights = weight_matrix(inputs, weight, rows, k)?;
            let (data, out) = (inputs.tensor(data)?.f32s()?, outputs.tensor(0)?.f32s()?);
            if part == 0 || result == 0 {
                out.fill(0.0);
                return Ok(());
            }
            let numerics = numerics(context, element);
            for (data, out) in data.chunks(part).zip(out.chunks_mut(result)) {
                project(context, numerics, &weights, data, from, columns, None, out, to)?;
            }
            Ok(())
        })
    }

    /// A kernel for products of floats.
    fn multiply(&self, inputs: &Inputs, sizes: &Sizes) -> Result<Kernel, OpError> {
        let Matmul { x, y, converted, .. } = *self;
        let products = self.walk(inputs, sizes)?;
        let floats = match converted.and_then(|input| inputs.constant(input)) {
            Some(constant) => Some(as_floats(constant)?),
            None => None,
        };
        kernel(move |inputs, outputs, context| {
            let operand = |input: usize| match &floats {
                Some(constant) if converted == Some(input) => {
                    constant.tensor().ok_or(OpError::NotYetKnown)
                }
                _ => inputs.tensor(input),
            };
            products.run(context, &operand(x)?, &operand(y)?, outputs.tensor(0)?.f32s()?)
        })
    }

    /// A kernel for products of integers, which wrap. Those with a constant of floats are summed up in double
    /// precision and cut towards zero.
    fn multiply_ints(&self, inputs: &Inputs, sizes: &Sizes) -> Result<Kernel, OpError> {
        let Matmul { x, y, converted, .. } = *self;
        let products = self.walk(inputs, sizes)?;
        if converted.is_some() {
            return kernel(move |inputs, outputs, _context| {
                let out = outputs.tensor(0)?.slice::<i32>()?;
                let (left, right) = (inputs.tensor(x)?, inputs.tensor(y)?);
                match converted == Some(x) {
                    true => products.run_cut(left.f32s()?, right.slice::<i32>()?, out),
                    false => products.run_cut(left.slice::<i32>()?, right.f32s()?, out),
                }
            });
        }
        kernel(move |inputs, outputs, _context| {
            let (x, y) = (inputs.tensor(x)?.slice::<i32>()?, inputs.tensor(y)?.slice::<i32>()?);
            products.run_ints(x, y, outputs.tensor(0)?.slice::<i32>()?)
        })
    }
}

/// Columns that are rows of `k` elements.
fn by_column(k: usize) -> ColumnLayout {
    ColumnLayout { stride_k: 1, stride_s: k }
}

/// Columns of rows of `columns` elements.
fn across(columns: usize) -> ColumnLayout {
    ColumnLayout { stride_k: columns, stride_s: 1 }
}

fn by_row(n: usize) -> OutputLayout {
    OutputLayout { stride_n: 1, stride_s: n }
}

/// `m · k` by `k · n` matrices, and the result's batch axes.
struct Sizes {
    m: usize,
    k: usize,
    n: usize,
    batch: Shape,
}

/// An operand's batch axes, rows and columns; `vector_is_row` says how a vector is meant.
fn as_matrix(
    shape: &[usize],
    transposed: bool,
    vector_is_row: bool,
) -> Result<(&[usize], usize, usize), OpError> {
    match *shape {
        [] => Err(OpError::argument("x", "vectors or matrices", "a scalar")),
        [size] if vector_is_row => Ok((&[], 1, size)),
        [size] => Ok((&[], size, 1)),
        [ref batch @ .., rows, cols] if transposed => Ok((batch, cols, rows)),
        [ref batch @ .., rows, cols] => Ok((batch, rows, cols)),
    }
}

/// An operand's batch axes `(size, step)` and the steps inside a matrix.
struct Operand {
    batch: SmallVec<[(usize, usize); 6]>,
    place: Steps,
}

/// Elements from row to row and from column to column.
#[derive(Clone, Copy, Debug)]
struct Steps {
    row: usize,
    col: usize,
}

/// An operand's step on each batch axis of the result: 0 where it has one matrix for all.
fn spread(batch: &[(usize, usize)], result: &[usize]) -> SmallVec<[usize; 6]> {
    let missing = result.len().saturating_sub(batch.len());
    (0..result.len())
        .map(|axis| match axis.checked_sub(missing).and_then(|axis| batch.get(axis)) {
            Some(&(size, step)) if size != 1 => step,
            _ => 0,
        })
        .collect()
}

/// A batch axis of a product: its size and each operand's step.
#[derive(Clone, Copy, Debug)]
struct Axis {
    size: usize,
    x: usize,
    y: usize,
}

/// Adds an axis, joined with the one before where both operands allow it.
fn push(axes: &mut SmallVec<[Axis; 6]>, axis: Axis) {
    match axes.last_mut() {
        _ if axis.size == 1 => {}
        Some(outer) if outer.x == axis.x * axis.size && outer.y == axis.y * axis.size => {
            *outer = Axis { size: outer.size * axis.size, ..axis };
        }
        _ => axes.push(axis),
    }
}

/// Products ready to run: the outer batch axes one after the other, the rest by one call of a
/// kernel.
struct Products {
    m: usize,
    k: usize,
    n: usize,
    /// For matrices `y` of single and of half precision. The shapes alone decide, whatever the
    /// strides let join, so that every plan rounds alike.
    order: [Order; 2],
    outer: SmallVec<[Axis; 6]>,
    inner: BatchStrides,
    x: Steps,
    y: Steps,
}

/// The innermost axes, as far as one call of a kernel goes along them; results have `size` elements.
fn inner_batch(size: usize, axes: &mut SmallVec<[Axis; 6]>) -> BatchStrides {
    let one = BatchStrides { count: 1, a: 0, b: 0, b_repeat: 1, c: size };
    let Some(last) = axes.pop() else { return one };
    let b_repeat = if last.y == 0 { last.size.max(1) } else { 1 };
    let inner = BatchStrides { count: last.size, a: last.x, b: last.y, b_repeat, ..one };
    let sharing = axes.last().filter(|outer| last.y == 0 && outer.x == last.x * last.size);
    let Some(outer) = sharing.copied() else { return inner };
    axes.pop();
    BatchStrides { count: outer.size * last.size, b: outer.y, ..inner }
}

impl Products {
    fn new(
        sizes: &Sizes,
        order: [Order; 2],
        mut axes: SmallVec<[Axis; 6]>,
        mut x: Steps,
        y: Steps,
    ) -> Self {
        let Sizes { mut m, k, n, .. } = *sizes;
        // The rows of matrices that share their `y` follow each other: one product.
        if let Some(last) = axes.last().copied().filter(|last| last.y == 0)
            && (m == 1 || last.x == m.saturating_mul(x.row))
        {
            axes.pop();
            x.row = if m == 1 { last.x } else { x.row };
            m = m.saturating_mul(last.size);
        }
        let inner = inner_batch(m.saturating_mul(n), &mut axes);
        Products { m, k, n, order, outer: axes, inner, x, y }
    }

    /// Calls `product` with where the matrices of each inner batch start in `x`, `y` and the result.
    fn each(
        &self,
        mut product: impl FnMut(usize, usize, usize) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let number = self.outer.iter().map(|axis| axis.size).product::<usize>();
        let size = self.inner.count * self.inner.c;
        for i in 0..number {
            let (mut left, mut x, mut y) = (i, 0, 0);
            for axis in self.outer.iter().rev() {
                x += left % axis.size * axis.x;
                y += left % axis.size * axis.y;
                left /= axis.size;
            }
            product(x, y, i * size)?;
        }
        Ok(())
    }

    fn run(
        &self,
        context: &Context,
        x: &TensorRef,
        y: &TensorRef,
        out: &mut [f32],
    ) -> Result<(), OpError> {
        let x = x.buffer::<f32>()?.get(x.start..).unwrap_or_default();
        let (halves, floats): (&[f16], &[f32]) = match y.storage {
            Storage::F16 => (y.buffer()?.get(y.start..).unwrap_or_default(), &[]),
            _ => (&[], y.buffer()?.get(y.start..).unwrap_or_default()),
        };
        let size = self.inner.count * self.inner.c;
        let [floats_order, halves_order] = self.order;
        self.each(|x_at, y_at, out_at| {
            let (Some(x), Some(out)) = (x.get(x_at..), out.get_mut(out_at..out_at + size)) else {
                return Err(OpError::invalid("matrices beyond the end of an operand"));
            };
            let a = matrix(x, (self.m, self.k), self.x);
            let c = MatrixMut::row_major(out, self.m, self.n);
            if y.storage == Storage::F16 {
                let b = matrix(halves.get(y_at..).unwrap_or_default(), (self.k, self.n), self.y);
                return Ok(attention_matmul(context, halves_order, self.inner, a, b, c)?);
            }
            let b = matrix(floats.get(y_at..).unwrap_or_default(), (self.k, self.n), self.y);
            Ok(gemm_batch(context, floats_order, self.inner, a, b, c)?)
        })
    }

    fn run_ints(&self, x: &[i32], y: &[i32], out: &mut [i32]) -> Result<(), OpError> {
        self.each_dot(out, |pairs| {
            pairs.fold(0i32, |sum, (at_x, at_y)| sum.wrapping_add(x[at_x].wrapping_mul(y[at_y])))
        })
    }

    /// Products in double precision, cut to integers.
    fn run_cut<X, Y>(&self, x: &[X], y: &[Y], out: &mut [i32]) -> Result<(), OpError>
    where
        X: Copy + Into<f64>,
        Y: Copy + Into<f64>,
    {
        self.each_dot(out, |pairs| {
            pairs.map(|(at_x, at_y)| x[at_x].into() * y[at_y].into()).sum::<f64>() as i32
        })
    }

    /// Writes what `dot` makes of the places of the factors of each result.
    fn each_dot(
        &self,
        out: &mut [i32],
        dot: impl Fn(&mut dyn Iterator<Item = (usize, usize)>) -> i32,
    ) -> Result<(), OpError> {
        let Products { m, k, n, inner, .. } = *self;
        self.each(|x_at, y_at, out_at| {
            for i in 0..inner.count {
                let (x_at, y_at) = (x_at + i * inner.a, y_at + i / inner.b_repeat * inner.b);
                let out = out[out_at + i * inner.c..].iter_mut().take(m * n);
                for (number, out) in out.enumerate() {
                    let (row, col) = (number / n, number % n);
                    let (x_at, y_at) = (x_at + row * self.x.row, y_at + col * self.y.col);
                    let place = |p: usize| (x_at + p * self.x.col, y_at + p * self.y.row);
                    *out = dot(&mut (0..k).map(place));
                }
            }
            Ok(())
        })
    }
}

fn matrix<T>(data: &[T], (rows, cols): (usize, usize), steps: Steps) -> Matrix<'_, T> {
    Matrix { data, rows, cols, row_stride: steps.row, col_stride: steps.col }
}

impl Op for Matmul {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (x, y) = (inputs.shape(self.x)?, inputs.shape(self.y)?);
        let sizes = self.sizes(x, y)?;
        let mut shape = sizes.batch;
        if x.len() > 1 {
            shape.push(sizes.m);
        }
        if y.len() > 1 {
            shape.push(sizes.n);
        }
        one(self.element, shape)
    }

    fn flops(&self, inputs: &Inputs) -> Result<u64, OpError> {
        let Sizes { m, k, n, batch } = self.sizes(inputs.shape(self.x)?, inputs.shape(self.y)?)?;
        Ok(flops_of(count(&[m, n]).saturating_mul(count(&batch)), k))
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let sizes = self.sizes(inputs.shape(self.x)?, inputs.shape(self.y)?)?;
        match self.weight {
            Some(side) => self.project(side, inputs, &sizes),
            None if self.element == ElementType::Int32 => self.multiply_ints(inputs, &sizes),
            None => self.multiply(inputs, &sizes),
        }
    }

    fn reads_half(&self, input: usize) -> bool {
        let read = match self.weight {
            Some(Side::X) => self.x,
            _ => self.y,
        };
        self.element.is_float() && input == read
    }

    fn reads_strided(&self, _input: usize) -> bool {
        self.weight.is_none() && self.element != ElementType::Int32
    }

    fn reads_compressed(&self, input: usize, constant: &Constant) -> bool {
        let operand = match self.weight {
            Some(Side::X) => self.x,
            Some(Side::Y) => self.y,
            None => return false,
        };
        input == operand && is_weight_matrix(constant)
    }
}

fn matmul(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(Matmul::bind(binder)?)
}

pub(super) const OPS: &[OpDef] =
    &[def("matmul", Opset::Ios15, matmul), def("matmul", Opset::Ios17, matmul)];

#[cfg(test)]
mod tests {
    use coreml_format::mil::Opset;

    use crate::op::testing::Case;

    #[test]
    fn batches_broadcast() {
        // x = arange(4).reshape(2, 1, 1, 2); y = arange(6).reshape(3, 2, 1); x @ y
        let x = [0.0, 1.0, 2.0, 3.0];
        let y = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let case = Case::new().floats("x", &[2, 1, 1, 2], &x).floats("y", &[3, 2, 1], &y);
        let expected = (vec![2, 3, 1, 1], vec![1.0, 3.0, 5.0, 3.0, 13.0, 23.0]);
        assert_eq!(case.run_floats("matmul", Opset::Ios15), expected);
    }
}
