//! Matrix products.

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::{
    BatchStrides, ColumnLayout, Encoding, OutputLayout, Weights, attention_matmul, gemm,
    matmul_f16, project,
};
use half::f16;
use smallvec::SmallVec;

use super::broadcast;
use super::compression::{expand, weights};
use super::strided::{count, same_count};
use super::{Binder, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, def, one};
use crate::value::{Buffer, Bytes, Constant, Shape, Storage, TensorMut, TensorRef};

/// An input as a matrix of weights: compressed, or dense in either width.
pub(super) fn matrix<'a>(
    inputs: &Inputs<'a>,
    input: usize,
    rows: usize,
    cols: usize,
) -> Result<Weights<'a>, OpError> {
    if let Some(constant) = inputs.constant(input).filter(|constant| constant.is_compressed()) {
        return weights(constant, rows, cols)
            .ok_or_else(|| OpError::unsupported("this compression of the weights"));
    }
    let tensor = inputs.tensor(input)?;
    let encoding = match tensor.storage {
        Storage::F16 => Encoding::F16(tensor.slice::<f16>()?),
        _ => Encoding::F32(tensor.f32s()?),
    };
    Ok(Weights { rows, cols, encoding })
}

/// `x · weightᵀ + bias`.
struct Linear {
    x: usize,
    weight: usize,
    bias: Option<usize>,
}

impl Linear {
    /// Rows and columns of the weights, checked against `x`.
    fn sizes(&self, x: &[usize], weight: &[usize]) -> Result<(usize, usize), OpError> {
        match (weight, x.last()) {
            (&[rows, cols], Some(&size)) if cols == size => Ok((rows, cols)),
            _ => Err(OpError::argument(
                "weight",
                format!("a matrix with as many columns as the last axis of `x` ({x:?})"),
                format!("shape {weight:?}"),
            )),
        }
    }
}

impl Op for Linear {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let x = inputs.shape(self.x)?;
        let (rows, _) = self.sizes(x, inputs.shape(self.weight)?)?;
        let mut shape = Shape::from_slice(x);
        if let Some(last) = shape.last_mut() {
            *last = rows;
        }
        one(inputs.element(self.x)?, shape)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let x = inputs.tensor(self.x)?;
        let (rows, cols) = self.sizes(x.shape, inputs.shape(self.weight)?)?;
        let bias = match self.bias {
            Some(bias) => Some(inputs.tensor(bias)?.f32s()?),
            None => None,
        };
        Ok(project(
            &matrix(inputs, self.weight, rows, cols)?,
            x.f32s()?,
            ColumnLayout { stride_k: 1, stride_s: cols },
            count(&x.shape[..x.shape.len() - 1]),
            bias,
            outputs.tensor(0)?.f32s()?,
            OutputLayout { stride_n: 1, stride_s: rows },
            &mut scratch.kernel[0],
        )?)
    }

    fn accepts_half(&self, input: usize) -> bool {
        input == self.weight
    }

    fn accepts_compressed(&self, input: usize, constant: &Constant) -> bool {
        input == self.weight && is_matrix(constant, &constant.shape)
    }
}

/// True when a constant of `[rows, cols]` can be taken compressed.
fn is_matrix(constant: &Constant, shape: &[usize]) -> bool {
    matches!(shape, &[rows, cols] if weights(constant, rows, cols).is_some())
}

fn linear(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    if !binder.element(x).is_float() {
        let element = binder.element(x);
        return Err(OpError::unsupported(format!("`linear` of `{element}`")));
    }
    let weight = binder.input("weight")?;
    Ok(Box::new(Linear { x, weight, bias: binder.optional_input("bias")? }))
}

/// Which operand of `matmul` is a constant matrix whose rows lie as the projection kernel wants.
#[derive(Clone, Copy, PartialEq)]
enum ConstantOperand {
    X,
    Y,
    Neither,
}

/// Products of matrices, those of the last two axes.
struct Matmul {
    x: usize,
    y: usize,
    transpose_x: bool,
    transpose_y: bool,
    constant: ConstantOperand,
    element: ElementType,
    /// A constant operand of integers beside one of floats, as floats.
    converted: Option<(usize, Constant)>,
    /// How many consecutive matrices each one of `y` stands for.
    repeat: usize,
}

/// Sizes of a `matmul`: `m · k` by `k · n` matrices, and how they pair.
struct Products {
    m: usize,
    k: usize,
    n: usize,
    /// Batch axes of the result.
    batch: Shape,
    pairs: Pairs,
}

/// Which matrices a product takes.
enum Pairs {
    /// Product `i` takes matrix `i` of `x` and matrix `i / each` of `y`.
    Aligned { each: usize },
    /// As batch axes broadcast: strides of `x` and `y` for each axis.
    Broadcast { x: SmallVec<[usize; 6]>, y: SmallVec<[usize; 6]> },
}

/// An operand's batch axes, rows and columns; `rows_first` says how a vector is meant.
fn operand(
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

impl Matmul {
    fn products(&self, x: &[usize], y: &[usize]) -> Result<Products, OpError> {
        let (x_batch, m, k) = operand(x, self.transpose_x, true)?;
        let (y_batch, y_rows, n) = operand(y, self.transpose_y, false)?;
        if k != y_rows {
            let expected = format!("{k} rows, as many as `x` ({x:?}) has columns");
            return Err(OpError::argument("y", expected, format!("{y_rows} ({y:?})")));
        }
        let (x_count, y_count) = (count(x_batch), count(y_batch));
        if x_count == y_count.saturating_mul(self.repeat) && (self.repeat > 1 || x_batch == y_batch)
        {
            let pairs = Pairs::Aligned { each: self.repeat };
            return Ok(Products { m, k, n, batch: Shape::from_slice(x_batch), pairs });
        }
        let mut y_batch = Shape::from_slice(y_batch);
        match y_batch.last_mut() {
            Some(last) => *last = last.saturating_mul(self.repeat),
            None if self.repeat > 1 => y_batch.push(self.repeat),
            None => {}
        }
        let batch = broadcast::shape(x_batch, &y_batch)?;
        let pairs = if y_count == 1 && count(&batch) == x_count {
            Pairs::Aligned { each: x_count.max(1) }
        } else {
            Pairs::Broadcast {
                x: broadcast::strides(x_batch, &batch),
                y: broadcast::strides(&y_batch, &batch),
            }
        };
        Ok(Products { m, k, n, batch, pairs })
    }

    fn bind(binder: &mut Binder) -> Result<Self, OpError> {
        let (x, y) = (binder.input("x")?, binder.input("y")?);
        let transpose_x = binder.bool("transpose_x", false)?;
        let transpose_y = binder.bool("transpose_y", false)?;
        let constant = |name: &str| binder.constant(name).ok().flatten();
        let (constant_x, constant_y) = (constant("x"), constant("y"));
        let single = |constant: Option<&Constant>| {
            constant.is_some_and(|constant| constant.shape.len() == 2)
        };
        let kind = if single(constant_y) && transpose_y {
            ConstantOperand::Y
        } else if single(constant_x) && !transpose_x && constant_y.is_none() {
            ConstantOperand::X
        } else {
            ConstantOperand::Neither
        };
        // From iOS 17 on a constant may have another type than the other operand, which counts.
        let (element, other) = match (constant_x, constant_y) {
            (Some(constant), None) => (binder.element(y), Some((x, constant))),
            (None, Some(constant)) => (binder.element(x), Some((y, constant))),
            _ => (binder.element(x), None),
        };
        let fits = |got| Storage::natural(got) == Storage::natural(element);
        let converted = match other {
            Some((input, constant)) if element.is_float() && !fits(constant.element) => {
                Some((input, as_floats(constant)?))
            }
            _ => None,
        };
        let same = converted.is_some() || fits(binder.element(x)) && fits(binder.element(y));
        if !same || !element.is_float() && element != ElementType::Int32 {
            let got = format!("`{}` and `{}`", binder.element(x), binder.element(y));
            let expected = "operands both of floats or both `int32`";
            return Err(OpError::argument("y", expected, got));
        }
        let plain = element == ElementType::Int32 || converted.is_some();
        let constant = if plain { ConstantOperand::Neither } else { kind };
        Ok(Matmul { x, y, transpose_x, transpose_y, constant, element, converted, repeat: 1 })
    }

    /// The elements of an operand.
    fn tensor<'a>(&'a self, inputs: &Inputs<'a>, input: usize) -> Result<TensorRef<'a>, OpError> {
        match &self.converted {
            Some((at, constant)) if *at == input => constant.tensor().ok_or(OpError::NotYetKnown),
            _ => inputs.tensor(input),
        }
    }

    /// `x` times a constant `y`, whose rows are the result's columns.
    fn project_y(
        &self,
        inputs: &Inputs,
        sizes: &Products,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let &Products { m, k, n, .. } = sizes;
        let w = matrix(inputs, self.y, n, k)?;
        let x = inputs.tensor(self.x)?.f32s()?;
        let to = OutputLayout { stride_n: 1, stride_s: n };
        if !self.transpose_x {
            let columns = ColumnLayout { stride_k: 1, stride_s: k };
            let number = count(&sizes.batch).saturating_mul(m);
            return Ok(project(&w, x, columns, number, None, out, to, &mut scratch.kernel[0])?);
        }
        let columns = ColumnLayout { stride_k: m, stride_s: 1 };
        for (x, out) in x.chunks(k.max(1) * m).zip(out.chunks_mut(m.max(1) * n)) {
            project(&w, x, columns, m, None, out, to, &mut scratch.kernel[0])?;
        }
        Ok(())
    }

    /// A constant `x` times `y`.
    fn project_x(
        &self,
        inputs: &Inputs,
        sizes: &Products,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let &Products { m, k, n, .. } = sizes;
        let w = matrix(inputs, self.x, m, k)?;
        let y = inputs.tensor(self.y)?.f32s()?;
        let columns = match self.transpose_y {
            true => ColumnLayout { stride_k: 1, stride_s: k },
            false => ColumnLayout { stride_k: n, stride_s: 1 },
        };
        let to = OutputLayout { stride_n: n, stride_s: 1 };
        for (y, out) in y.chunks((k * n).max(1)).zip(out.chunks_mut((m * n).max(1))) {
            project(&w, y, columns, n, None, out, to, &mut scratch.kernel[0])?;
        }
        Ok(())
    }

    /// Row and column strides of the matrices of `x` and of `y`.
    fn strides(&self, sizes: &Products) -> [(usize, usize); 2] {
        let &Products { m, k, n, .. } = sizes;
        [
            if self.transpose_x { (1, m) } else { (k, 1) },
            if self.transpose_y { (1, k) } else { (n, 1) },
        ]
    }

    fn multiply(
        &self,
        x: &[f32],
        y: &TensorRef,
        sizes: &Products,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let &Products { m, k, n, .. } = sizes;
        let [(x_rs, x_cs), (y_rs, y_cs)] = self.strides(sizes);
        let batch = count(&sizes.batch);
        match (&sizes.pairs, y.storage) {
            (&Pairs::Aligned { each }, storage) => {
                // The rows of matrices that share their `y` follow each other: one product.
                let joined = if self.transpose_x { 1 } else { each };
                let rows = m * joined;
                let products = batch / joined;
                if storage == Storage::F16 {
                    let strides = BatchStrides {
                        count: products,
                        a: rows * k,
                        b: k * n,
                        b_repeat: each / joined,
                        c: rows * n,
                    };
                    let y = y.slice::<f16>()?;
                    return Ok(attention_matmul(
                        strides,
                        rows,
                        n,
                        k,
                        x,
                        x_rs,
                        x_cs,
                        y,
                        y_rs,
                        y_cs,
                        out,
                        n,
                        1,
                        1.0,
                        &mut scratch.kernel[0],
                    )?);
                }
                let y = y.f32s()?;
                for i in 0..products {
                    let x = &x[i * rows * k..(i + 1) * rows * k];
                    let y = &y[i * joined / each * k * n..][..k * n];
                    let out = &mut out[i * rows * n..(i + 1) * rows * n];
                    gemm(rows, n, k, x, x_rs, x_cs, y, y_rs, y_cs, out, n, 1, 1.0)?;
                }
                Ok(())
            }
            (Pairs::Broadcast { x: x_steps, y: y_steps }, storage) => {
                for i in 0..batch {
                    let x = &x[place(i, &sizes.batch, x_steps) * m * k..][..m * k];
                    let from = place(i, &sizes.batch, y_steps) / self.repeat * k * n;
                    let out = &mut out[i * m * n..(i + 1) * m * n];
                    if storage == Storage::F16 {
                        let y = &y.slice::<f16>()?[from..from + k * n];
                        let floats = &mut scratch.kernel[0];
                        matmul_f16(m, n, k, x, x_rs, x_cs, y, y_rs, y_cs, out, n, 1, 1.0, floats)?;
                    } else {
                        let y = &y.f32s()?[from..from + k * n];
                        gemm(m, n, k, x, x_rs, x_cs, y, y_rs, y_cs, out, n, 1, 1.0)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Products of integers, which wrap.
    fn multiply_ints(
        &self,
        inputs: &Inputs,
        sizes: &Products,
        out: &mut TensorMut,
    ) -> Result<(), OpError> {
        let &Products { m, k, n, .. } = sizes;
        let (x, y) =
            (inputs.tensor(self.x)?.slice::<i32>()?, inputs.tensor(self.y)?.slice::<i32>()?);
        let [(x_rs, x_cs), (y_rs, y_cs)] = self.strides(sizes);
        for (i, out) in out.slice::<i32>()?.iter_mut().enumerate() {
            let (product, row, col) = (i / n / m, i / n % m, i % n);
            let (x_from, y_from) = match &sizes.pairs {
                Pairs::Aligned { each } => (product, product / each),
                Pairs::Broadcast { x, y } => {
                    (place(product, &sizes.batch, x), place(product, &sizes.batch, y) / self.repeat)
                }
            };
            let x = &x[x_from * m * k..][..m * k];
            let y = &y[y_from * k * n..][..k * n];
            *out = (0..k).fold(0i32, |sum, p| {
                let product = x[row * x_rs + p * x_cs].wrapping_mul(y[p * y_rs + col * y_cs]);
                sum.wrapping_add(product)
            });
        }
        Ok(())
    }
}

/// A constant of integers as floats.
fn as_floats(constant: &Constant) -> Result<Constant, OpError> {
    let values: SmallVec<[f32; 8]> = expand(constant)?
        .tensor()
        .ok_or_else(|| OpError::unsupported(constant.describe()))?
        .ints()?
        .iter()
        .map(|&value| value as f32)
        .collect();
    let bytes = Bytes::from_buffer(Buffer::copy_of(bytemuck::cast_slice(&values))?);
    Ok(Constant::dense(ElementType::Float32, Storage::F32, constant.shape.clone(), bytes))
}

/// The position, by strides, of element `number` of a batch.
fn place(mut number: usize, batch: &[usize], strides: &[usize]) -> usize {
    let mut position = 0;
    for (&size, &stride) in batch.iter().zip(strides).rev() {
        position += number % size * stride;
        number /= size;
    }
    position
}

impl Op for Matmul {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (x, y) = (inputs.shape(self.x)?, inputs.shape(self.y)?);
        let sizes = self.products(x, y)?;
        let mut shape = sizes.batch;
        if x.len() > 1 {
            shape.push(sizes.m);
        }
        if y.len() > 1 {
            shape.push(sizes.n);
        }
        one(self.element, shape)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let sizes = self.products(inputs.shape(self.x)?, inputs.shape(self.y)?)?;
        let out = outputs.tensor(0)?;
        if self.element == ElementType::Int32 {
            return self.multiply_ints(inputs, &sizes, out);
        }
        let out = out.f32s()?;
        same_count(count(&sizes.batch) * sizes.m * sizes.n, out.len())?;
        match self.constant {
            ConstantOperand::Y => self.project_y(inputs, &sizes, out, scratch),
            ConstantOperand::X => self.project_x(inputs, &sizes, out, scratch),
            ConstantOperand::Neither => {
                let (x, y) = (self.tensor(inputs, self.x)?, self.tensor(inputs, self.y)?);
                self.multiply(x.f32s()?, &y, &sizes, out, scratch)
            }
        }
    }

    fn accepts_half(&self, input: usize) -> bool {
        match self.constant {
            ConstantOperand::X => input == self.x,
            _ => input == self.y,
        }
    }

    fn accepts_compressed(&self, input: usize, constant: &Constant) -> bool {
        let operand = match self.constant {
            ConstantOperand::X => self.x,
            ConstantOperand::Y => self.y,
            ConstantOperand::Neither => return false,
        };
        input == operand && is_matrix(constant, &constant.shape)
    }

    fn absorb_repeat(&mut self, input: usize, times: usize) -> bool {
        let free = self.constant == ConstantOperand::Neither && input == self.y && times > 0;
        match self.repeat.checked_mul(times).filter(|_| free) {
            Some(repeat) => {
                self.repeat = repeat;
                true
            }
            None => false,
        }
    }
}

fn matmul(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Matmul::bind(binder)?))
}

pub(super) const OPS: &[OpDef] =
    &[def("linear", Opset::Ios15, linear), def("matmul", Opset::Ios15, matmul)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::Case;

    #[test]
    fn batches_broadcast() {
        // x = arange(4).reshape(2, 1, 1, 2); y = arange(6).reshape(3, 2, 1); x @ y
        let x = [0.0, 1.0, 2.0, 3.0];
        let y = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let case = Case::new().floats("x", &[2, 1, 1, 2], &x).floats("y", &[3, 2, 1], &y);
        let expected = (vec![2, 3, 1, 1], vec![1.0, 3.0, 5.0, 3.0, 13.0, 23.0]);
        assert_eq!(case.run_floats("matmul", Opset::Ios15), expected);
    }

    #[test]
    fn halves_and_absorbed_repetitions() {
        // Four heads of x, two of y: np.repeat(y, 2, axis=0), y transposed.
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let y = [1.0, 0.5, 2.0, -1.0];
        let case = Case::new().floats("x", &[4, 1, 2], &x).halves("y", &[2, 1, 2], &y);
        let case = case.bools("transpose_y", &[1]);
        let got = case.run_repeated("matmul", Opset::Ios15, Some((1, 2))).unwrap();
        assert_eq!(got[0].shape(), [4, 1, 1]);
        assert_eq!(got[0].values::<f32>(), [2.0, 5.0, 4.0, 6.0]);
    }
}
