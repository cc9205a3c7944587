//! Products with constant matrices: `linear`, and what `conv` and `matmul` share with it.

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::{ColumnLayout, OutputLayout, project};

use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Op, OpDef, Product, ResultTypes, bound, def, flops_of, kernel, one,
    weight_matrix,
};
use crate::value::{Buffer, Bytes, Constant, Shape, Storage, TensorRef, count};
use crate::weights::{self, Weights, expand, numerics};

/// True when a constant matrix can be multiplied with as it is compressed.
pub(super) fn is_weight_matrix(constant: &Constant) -> bool {
    match *constant.shape {
        [rows, cols] => weights::matrix(constant, rows, cols).is_some(),
        _ => false,
    }
}

/// A constant of integers as floats.
pub(super) fn as_floats(constant: &Constant) -> Result<Constant, OpError> {
    let dense = expand(constant)?;
    let tensor = dense.tensor().ok_or_else(|| OpError::unsupported(constant.describe()))?;
    let values: Vec<f32> = tensor.ints()?.iter().map(|&value| value as f32).collect();
    let bytes = Bytes::from_buffer(Buffer::copy_of(bytemuck::cast_slice(&values))?);
    Ok(Constant::dense(ElementType::Float32, Storage::F32, constant.shape.clone(), bytes))
}

/// `x · weightᵀ + bias`; from iOS 17 on the type of `x` is that of the result, whatever the others have.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub(crate) x: usize,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    /// Whether `x` is of floats, so that weights are read as they are: in half precision or compressed.
    pub(crate) floats: bool,
}

impl Linear {
    /// Rows and columns of the weights, checked against `x`.
    fn sizes(&self, inputs: &Inputs) -> Result<(usize, usize), OpError> {
        let (x, weight) = (inputs.shape(self.x)?, inputs.shape(self.weight)?);
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

impl Linear {
    /// A kernel for integers: their products wrap. Where weights or bias are floats, sums are those of double
    /// precision, cut towards zero.
    fn of_ints(&self, inputs: &Inputs) -> Result<Kernel, OpError> {
        let Linear { x, weight, bias, .. } = *self;
        let (rows, cols) = self.sizes(inputs)?;
        let is_int = |input| Ok::<bool, OpError>(inputs.storage(input)? == Storage::I32);
        let all_ints = is_int(weight)? && bias.map_or(Ok(true), is_int)?;
        kernel(move |inputs, outputs, _context| {
            let (x, weight) = (inputs.tensor(x)?, inputs.tensor(weight)?);
            let bias = bias.map(|bias| inputs.tensor(bias)).transpose()?;
            let (x, out) = (x.slice::<i32>()?, outputs.tensor(0)?.slice::<i32>()?);
            if all_ints {
                let (weight, bias) =
                    (weight.slice::<i32>()?, bias.map(|b| b.slice::<i32>()).transpose()?);
                return each_product(x, out, (rows, cols), |row, x| {
                    let row_weights = &weight[row * cols..][..cols];
                    let start = bias.map_or(0, |bias| bias[row]);
                    let products = x.iter().zip(row_weights).map(|(x, w)| x.wrapping_mul(*w));
                    products.fold(start, i32::wrapping_add)
                });
            }
            let weight = numbers(&weight)?;
            let bias = bias.as_ref().map(numbers).transpose()?;
            each_product(x, out, (rows, cols), |row, x| {
                let start = bias.as_ref().map_or(0.0, |bias| bias(row));
                let products =
                    x.iter().enumerate().map(|(k, &x)| f64::from(x) * weight(row * cols + k));
                (start + products.sum::<f64>()) as i32
            })
        })
    }
}

/// Writes what `product` makes of each row of the weights and each vector of `x`.
fn each_product(
    x: &[i32],
    out: &mut [i32],
    (rows, cols): (usize, usize),
    product: impl Fn(usize, &[i32]) -> i32,
) -> Result<(), OpError> {
    for (vector, out) in out.chunks_mut(rows.max(1)).enumerate() {
        let x = &x[vector * cols..][..cols];
        out.iter_mut().enumerate().for_each(|(row, out)| *out = product(row, x));
    }
    Ok(())
}

/// The elements of a dense tensor as numbers of double precision, by their place.
fn numbers<'a>(tensor: &TensorRef<'a>) -> Result<impl Fn(usize) -> f64 + use<'a>, OpError> {
    let (floats, ints): (&[f32], &[i32]) = match tensor.storage {
        Storage::F32 => (tensor.slice()?, &[]),
        _ => (&[], tensor.slice()?),
    };
    Ok(move |at: usize| match ints.get(at) {
        Some(&int) => int.into(),
        None => floats[at].into(),
    })
}

impl Op for Linear {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (rows, _) = self.sizes(inputs)?;
        let mut shape = Shape::from_slice(inputs.shape(self.x)?);
        if let Some(last) = shape.last_mut() {
            *last = rows;
        }
        if let Some(bias) = self.bias {
            let got = inputs.shape(bias)?;
            if got != [rows] {
                let expected = format!("shape [{rows}], one number for each row of `weight`");
                return Err(OpError::argument("bias", expected, format!("shape {got:?}")));
            }
        }
        one(inputs.element(self.x)?, shape)
    }

    fn flops(&self, inputs: &Inputs) -> Result<u64, OpError> {
        let (rows, _) = self.sizes(inputs)?;
        Ok(flops_of(count(inputs.shape(self.x)?), rows))
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        if !self.floats {
            return self.of_ints(inputs);
        }
        let Linear { x, weight, bias, .. } = *self;
        let (rows, cols) = self.sizes(inputs)?;
        let shape = inputs.shape(x)?;
        let element = inputs.element(x)?;
        let columns = count(&shape[..shape.len() - 1]);
        let from = ColumnLayout { stride_k: 1, stride_s: cols };
        let to = OutputLayout { stride_n: 1, stride_s: rows };
        let floats = |input| match inputs.constant(input).filter(|c| c.element.is_int()) {
            Some(constant) => as_floats(constant).map(Some),
            None => Ok(None),
        };
        let (weight_floats, bias_floats) =
            (floats(weight)?, bias.map(floats).transpose()?.flatten());
        if weight_floats.is_none() && bias_floats.is_none() {
            let product = Product { x, weight, bias, rows, cols, columns, from, to };
            return Ok(Kernel::Product(product));
        }
        kernel(move |inputs, outputs, context| {
            let matrix = match &weight_floats {
                Some(floats) => weights::matrix(floats, rows, cols)
                    .ok_or_else(|| OpError::invalid("weights that are no matrix"))?,
                None => weight_matrix(inputs, weight, rows, cols)?,
            };
            let bias = match (bias, &bias_floats) {
                (Some(_), Some(floats)) => {
                    Some(floats.tensor().ok_or(OpError::NotYetKnown)?.f32s()?)
                }
                (Some(bias), None) => Some(inputs.tensor(bias)?.f32s()?),
                (None, _) => None,
            };
            let (x, out) = (inputs.tensor(x)?.f32s()?, outputs.tensor(0)?.f32s()?);
            let numerics = numerics(context, element);
            Ok(project(context, numerics, &matrix, x, from, columns, bias, out, to)?)
        })
    }

    fn reads_half(&self, input: usize) -> bool {
        self.floats && input == self.weight
    }

    fn reads_compressed(&self, input: usize, constant: &Constant) -> bool {
        self.floats && input == self.weight && is_weight_matrix(constant)
    }
}

fn linear(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, weight) = (binder.input("x")?, binder.input("weight")?);
    let floats = binder.element(x).is_float();
    bound(Linear { x, weight, bias: binder.optional_input("bias")?, floats })
}

pub(super) const OPS: &[OpDef] =
    &[def("linear", Opset::Ios15, linear), def("linear", Opset::Ios17, linear)];
