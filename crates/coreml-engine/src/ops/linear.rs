//! Products with constant matrices: `linear`, and what `conv` and `matmul` share with it.

use coreml_format::mil::Opset;
use coreml_kernels::{ColumnLayout, Encoding, OutputLayout, Weights as MatrixWeights, project};
use half::f16;

use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, bound, def, kernel, one};
use crate::value::{Constant, Shape, Storage, count};
use crate::weights::{self, Weights};

/// An input as a matrix of weights: compressed, or dense in either width.
pub(super) fn weight_matrix<'a>(
    inputs: &Inputs<'a>,
    input: usize,
    rows: usize,
    cols: usize,
) -> Result<MatrixWeights<'a>, OpError> {
    if let Some(constant) = inputs.constant(input).filter(|constant| constant.is_compressed()) {
        return weights::matrix(constant, rows, cols)
            .ok_or_else(|| OpError::unsupported("this compression of the weights"));
    }
    let tensor = inputs.tensor(input)?;
    let encoding = match tensor.storage {
        Storage::F16 => Encoding::F16(tensor.slice::<f16>()?),
        _ => Encoding::F32(tensor.f32s()?),
    };
    Ok(MatrixWeights { rows, cols, encoding })
}

/// True when a constant matrix can be multiplied with as it is compressed.
pub(super) fn is_weight_matrix(constant: &Constant) -> bool {
    match *constant.shape {
        [rows, cols] => weights::matrix(constant, rows, cols).is_some(),
        _ => false,
    }
}

/// `x · weightᵀ + bias`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub(crate) x: usize,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
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

impl Op for Linear {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (rows, _) = self.sizes(inputs)?;
        let mut shape = Shape::from_slice(inputs.shape(self.x)?);
        if let Some(last) = shape.last_mut() {
            *last = rows;
        }
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let Linear { x, weight, bias } = *self;
        let (rows, cols) = self.sizes(inputs)?;
        let shape = inputs.shape(x)?;
        let columns = count(&shape[..shape.len() - 1]);
        let from = ColumnLayout { stride_k: 1, stride_s: cols };
        let to = OutputLayout { stride_n: 1, stride_s: rows };
        kernel(move |inputs, outputs, context| {
            let matrix = weight_matrix(inputs, weight, rows, cols)?;
            let bias = match bias {
                Some(bias) => Some(inputs.tensor(bias)?.f32s()?),
                None => None,
            };
            let (x, out) = (inputs.tensor(x)?.f32s()?, outputs.tensor(0)?.f32s()?);
            Ok(project(context, &matrix, x, from, columns, bias, out, to)?)
        })
    }

    fn reads_half(&self, input: usize) -> bool {
        input == self.weight
    }

    fn reads_compressed(&self, input: usize, constant: &Constant) -> bool {
        input == self.weight && is_weight_matrix(constant)
    }
}

fn linear(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    if !binder.element(x).is_float() {
        let element = binder.element(x);
        return Err(OpError::unsupported(format!("`linear` of `{element}`")));
    }
    let weight = binder.input("weight")?;
    bound(Linear { x, weight, bias: binder.optional_input("bias")? })
}

pub(super) const OPS: &[OpDef] =
    &[def("linear", Opset::Ios15, linear), def("linear", Opset::Ios17, linear)];
