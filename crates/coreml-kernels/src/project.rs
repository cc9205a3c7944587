//! Activations times constant weights: linear layers, 1x1 convolutions, constant `matmul`s.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::{KernelError, check_distinct, check_len, check_strided};
use crate::gemm::{Matrix, multiply};
use crate::isa::Isa;
use crate::weights::{Encoding, Weights};

/// Where input `k` of column `s` lies: at `k * stride_k + s * stride_s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnLayout {
    /// Elements between inputs of one column.
    pub stride_k: usize,
    /// Elements between columns.
    pub stride_s: usize,
}

/// Where output `n` of column `s` goes: to `n * stride_n + s * stride_s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLayout {
    /// Elements between outputs of one column.
    pub stride_n: usize,
    /// Elements between columns.
    pub stride_s: usize,
}

/// Values that are expanded at a time before they are multiplied: 2 MB, a large second-level
/// cache.
const EXPANDED: usize = 1 << 19;

/// Columns that are computed one by one: expanding the weights costs as much as so many.
const FEW_COLUMNS: usize = 3;

/// Weights of a matrix-vector product below which a second thread costs more than it brings.
const PARALLEL_WEIGHTS: usize = 1 << 17;

/// Weights that a thread takes at a time.
const TASK_WEIGHTS: usize = 1 << 16;

/// `out[n, s] = sum over k of w[n, k] * x[k, s] + bias[n]`, with `n < w.rows`, `k < w.cols` and
/// `s < count_s`. A few columns are computed straight from the compressed weights; for more, blocks
/// of rows are expanded into `scratch` and multiplied. Large calls use rayon's threads.
///
/// # Errors
/// If the weights are not valid, a slice is shorter than its layout reaches, `bias` does not have
/// `w.rows` values or outputs coincide.
#[expect(clippy::too_many_arguments, reason = "a product's operands, each with its layout")]
pub fn project(
    w: &Weights,
    x: &[f32],
    x_layout: ColumnLayout,
    count_s: usize,
    bias: Option<&[f32]>,
    out: &mut [f32],
    out_layout: OutputLayout,
    scratch: &mut Vec<f32>,
) -> Result<(), KernelError> {
    let call = Call { w, rows: 0..w.rows, x, x_layout, count_s, bias, out_layout };
    call.run(Isa::detect(), out, scratch)
}

/// A product with some rows of the weights; `bias` and `out` start at the first of these.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    pub(crate) w: &'a Weights<'a>,
    pub(crate) rows: Range<usize>,
    pub(crate) x: &'a [f32],
    pub(crate) x_layout: ColumnLayout,
    pub(crate) count_s: usize,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) out_layout: OutputLayout,
}

impl Call<'_> {
    pub(crate) fn run(
        &self,
        isa: Isa,
        out: &mut [f32],
        scratch: &mut Vec<f32>,
    ) -> Result<(), KernelError> {
        self.check(out.len())?;
        if self.rows.is_empty() || self.count_s == 0 {
            return Ok(());
        }
        let few = match self.w.encoding {
            Encoding::F32(_) => 1,
            _ => FEW_COLUMNS,
        };
        if self.count_s > few {
            return self.columns(isa, out, scratch);
        }
        for s in 0..self.count_s {
            // Without rows to sum over, x may be empty.
            let x = self.x.get(s * self.x_layout.stride_s..).unwrap_or_default();
            let out = &mut out[s * self.out_layout.stride_s..];
            Call { x, count_s: 1, ..self.clone() }.one_column(isa, out, scratch);
        }
        Ok(())
    }

    fn check(&self, out_len: usize) -> Result<(), KernelError> {
        const KERNEL: &str = "project";
        self.w.validate()?;
        let (k, n, s) = (self.w.cols, self.rows.len(), self.count_s);
        let (from, to) = (self.x_layout, self.out_layout);
        check_strided(KERNEL, "x", &[(k, from.stride_k), (s, from.stride_s)], self.x.len())?;
        check_strided(KERNEL, "out", &[(n, to.stride_n), (s, to.stride_s)], out_len)?;
        check_distinct(KERNEL, "out", (n, to.stride_n), (s, to.stride_s))?;
        self.bias.map_or(Ok(()), |bias| check_len(KERNEL, "bias", n, bias.len()))
    }

    fn one_column(&self, isa: Isa, out: &mut [f32], scratch: &mut Vec<f32>) {
        let (cols, rows) = (self.w.cols, self.rows.len());
        let gather = self.x_layout.stride_k != 1 && cols > 1;
        let scatter = self.out_layout.stride_n != 1 && rows > 1;
        let gathered = if gather { cols } else { 0 };
        let (copy, results) =
            grown(scratch, gathered + if scatter { rows } else { 0 }).split_at_mut(gathered);
        for (i, value) in copy.iter_mut().enumerate() {
            *value = self.x[i * self.x_layout.stride_k];
        }
        let x = if gather { &*copy } else { &self.x[..cols] };
        let y = if scatter { &mut *results } else { &mut out[..rows] };
        self.matvec(isa, x, y);
        if scatter {
            for (n, &value) in results.iter().enumerate() {
                out[n * self.out_layout.stride_n] = value;
            }
        }
    }

    /// Products of all rows with a dense column, to dense outputs.
    fn matvec(&self, isa: Isa, x: &[f32], out: &mut [f32]) {
        let (cols, first) = (self.w.cols, self.rows.start);
        let run = |start: usize, out: &mut [f32]| {
            self.w.matvec(isa, first + start, x, out);
            if let Some(bias) = self.bias {
                for (out, bias) in out.iter_mut().zip(&bias[start..]) {
                    *out += bias;
                }
            }
        };
        if cols.saturating_mul(out.len()) < PARALLEL_WEIGHTS {
            return run(0, out);
        }
        // Whole groups of rows, as these share a table that is costly to load.
        let rows = (TASK_WEIGHTS / cols.max(1)).max(1).next_multiple_of(self.group());
        out.par_chunks_mut(rows).enumerate().for_each(|(i, out)| run(i * rows, out));
    }

    /// Rows that are best kept together.
    fn group(&self) -> usize {
        match &self.w.encoding {
            Encoding::Palettized(p) if p.rows_per_group <= 64 => p.rows_per_group,
            _ => 1,
        }
    }

    fn columns(
        &self,
        isa: Isa,
        out: &mut [f32],
        scratch: &mut Vec<f32>,
    ) -> Result<(), KernelError> {
        let (cols, rows) = (self.w.cols, self.rows.len());
        if let Encoding::F32(values) = &self.w.encoding {
            let values = &values[self.rows.start * cols..self.rows.end * cols];
            return self.block(0, rows, values, out);
        }
        let per_block = (EXPANDED / cols.max(1)).max(1).min(rows).next_multiple_of(self.group());
        for start in (0..rows).step_by(per_block) {
            let count = per_block.min(rows - start);
            let values = grown(scratch, count * cols);
            self.expand(isa, self.rows.start + start, values);
            self.block(start, count, values, out)?;
        }
        Ok(())
    }

    fn expand(&self, isa: Isa, first: usize, values: &mut [f32]) {
        let cols = self.w.cols;
        if values.len() < PARALLEL_WEIGHTS {
            return self.w.expand(isa, first, values);
        }
        let rows = (TASK_WEIGHTS / cols).max(1).next_multiple_of(self.group());
        values
            .par_chunks_mut(rows * cols)
            .enumerate()
            .for_each(|(i, values)| self.w.expand(isa, first + i * rows, values));
    }

    /// Multiplies `count` expanded rows from `start` on with all columns.
    fn block(
        &self,
        start: usize,
        count: usize,
        values: &[f32],
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let OutputLayout { stride_n, stride_s } = self.out_layout;
        let out = &mut out[start * stride_n..];
        if let Some(bias) = self.bias {
            for (n, &bias) in bias[start..start + count].iter().enumerate() {
                for s in 0..self.count_s {
                    out[n * stride_n + s * stride_s] = bias;
                }
            }
        }
        let w = Matrix { data: values, rs: self.w.cols, cs: 1 };
        let x = Matrix { data: self.x, rs: self.x_layout.stride_k, cs: self.x_layout.stride_s };
        let size = [count, self.count_s, self.w.cols];
        multiply(size, w, x, out, [stride_n, stride_s], 1.0, self.bias.is_some())
    }
}

/// The first `count` elements of a scratch buffer, which grows if it must.
pub(crate) fn grown(scratch: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if scratch.len() < count {
        scratch.resize(count, 0.0);
    }
    &mut scratch[..count]
}

#[cfg(test)]
mod tests;
