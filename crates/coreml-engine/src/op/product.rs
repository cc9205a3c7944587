//! Products with weights, as data: those of several calls can be computed at once, so that weights are read
//! once for all of them.

use coreml_kernels::{
    ColumnLayout, Context, Encoding, OutputLayout, Weights as MatrixWeights, project,
};
use half::f16;

use super::{Inputs, Outputs};
use crate::error::OpError;
use crate::value::Storage;
use crate::weights::{matrix, numerics};

/// An input as a matrix of weights: compressed, or dense in either width.
pub(crate) fn weight_matrix<'a>(
    inputs: &Inputs<'a>,
    input: usize,
    rows: usize,
    cols: usize,
) -> Result<MatrixWeights<'a>, OpError> {
    if let Some(constant) = inputs.constant(input).filter(|constant| constant.is_compressed()) {
        return matrix(constant, rows, cols)
            .ok_or_else(|| OpError::unsupported("this compression of the weights"));
    }
    let tensor = inputs.tensor(input)?;
    let encoding = match tensor.storage {
        Storage::F16 => Encoding::F16(tensor.slice::<f16>()?),
        _ => Encoding::F32(tensor.f32s()?),
    };
    Ok(MatrixWeights { rows, cols, encoding })
}

/// `out[n, s] = sum over k of weight[n, k] * x[k, s] + bias[n]`, for all columns `s`.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    /// The input with the columns.
    pub(crate) x: usize,
    /// The input with the matrix of `rows` and `cols`: as it is held, or a compressed constant.
    pub(crate) weight: usize,
    /// The input with a number for each row.
    pub(crate) bias: Option<usize>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) columns: usize,
    pub(crate) from: ColumnLayout,
    pub(crate) to: OutputLayout,
}

impl Product {
    pub(crate) fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        context: &Context,
    ) -> Result<(), OpError> {
        let (x, out) = (inputs.tensor(self.x)?.f32s()?, outputs.tensor(0)?.f32s()?);
        self.multiply(inputs, context, (x, self.from, self.columns), (out, self.to))
    }

    fn multiply(
        &self,
        inputs: &Inputs,
        context: &Context,
        (x, from, columns): (&[f32], ColumnLayout, usize),
        (out, to): (&mut [f32], OutputLayout),
    ) -> Result<(), OpError> {
        let weight = weight_matrix(inputs, self.weight, self.rows, self.cols)?;
        let bias = self.bias.map(|bias| inputs.tensor(bias)?.f32s()).transpose()?;
        let numerics = numerics(context, inputs.element(self.x)?);
        Ok(project(context, numerics, &weight, x, from, columns, bias, out, to)?)
    }

    /// Whether weights and bias are the same at each call.
    pub(crate) fn has_constant_weights(&self, inputs: &Inputs) -> bool {
        let is_constant = |input| inputs.constant(input).is_some();
        is_constant(self.weight) && self.bias.is_none_or(is_constant)
    }

    /// Writes the columns one after the other to `to`, of `columns * cols` values.
    pub(crate) fn gather(&self, inputs: &Inputs, to: &mut [f32]) -> Result<(), OpError> {
        let x = inputs.tensor(self.x)?.f32s()?;
        let ColumnLayout { stride_k, stride_s } = self.from;
        for (s, column) in to.chunks_exact_mut(self.cols.max(1)).enumerate() {
            let from = x.get(s * stride_s..).unwrap_or_default().iter().step_by(stride_k.max(1));
            column.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
        Ok(())
    }

    /// The products with `columns` columns, one after the other in `x`, of one call or of several with the
    /// same weights; `out` gets a column of `rows` values for each.
    pub(crate) fn run_dense(
        &self,
        inputs: &Inputs,
        context: &Context,
        x: &[f32],
        columns: usize,
        out: &mut [f32],
    ) -> Result<(), OpError> {
        let from = ColumnLayout { stride_k: 1, stride_s: self.cols };
        let to = OutputLayout { stride_n: 1, stride_s: self.rows };
        self.multiply(inputs, context, (x, from, columns), (out, to))
    }

    /// Writes columns that lie one after the other to the output.
    pub(crate) fn scatter(&self, columns: &[f32], outputs: &mut Outputs) -> Result<(), OpError> {
        let out = outputs.tensor(0)?.f32s()?;
        let OutputLayout { stride_n, stride_s } = self.to;
        for (s, column) in columns.chunks_exact(self.rows.max(1)).enumerate() {
            let to = out.get_mut(s * stride_s..).unwrap_or_default();
            to.iter_mut().step_by(stride_n.max(1)).zip(column).for_each(|(to, from)| *to = *from);
        }
        Ok(())
    }
}
