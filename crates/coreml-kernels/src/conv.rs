//! Convolutions over one to three spatial dimensions.

mod depthwise;
mod phases;
mod transpose;

pub use transpose::{ConvTransposeParams, conv_transpose};

use std::ops::Range;

use crate::arch;
use crate::context::Context;
use crate::error::{KernelError, check_len, product};
use crate::isa::Isa;
use crate::matrix::{Block, Matrix, MatrixMut, Threads};
use crate::numerics::Numerics;
use crate::panels::{Columns, Product, Rows};
use crate::project::{Call, OutputLayout};
use crate::spatial::{SpatialDim, lines, split, three, zip_strided};
use crate::thresholds;
use crate::weights::Weights;

const KERNEL: &str = "conv";

/// What a convolution is, apart from its data. Input is `[batch, in_channels, spatial…]`,
/// output `[batch, out_channels, spatial…]`, filters `[out_channels, in_channels / groups,
/// kernel…]`, all row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvParams<'a> {
    /// Independent inputs.
    pub batch: usize,
    /// Channels of the input; `groups` divides them.
    pub in_channels: usize,
    /// Channels of the output; `groups` divides them.
    pub out_channels: usize,
    /// Groups of channels that do not mix, at least 1.
    pub groups: usize,
    /// One to three spatial dimensions, outermost first.
    pub spatial: &'a [SpatialDim],
    /// How exactly the products are computed.
    pub numerics: Numerics,
}

/// Convolves `x` with the filters `w`, of `out_channels` rows and
/// `in_channels / groups * kernel…` columns, into `out`. Filters over single points are projected
/// directly, a few filters per channel are applied in place, all else is unfolded. Divided among threads
/// if large.
///
/// # Errors
/// If a slice does not have the length the parameters call for, these do not fit together or there
/// is no memory.
pub fn conv(
    ctx: &Context,
    params: &ConvParams,
    x: &[f32],
    w: &Weights,
    bias: Option<&[f32]>,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let shape = Shape::new(params)?;
    shape.check(params, x.len(), w, bias, out.len())?;
    let (x_step, out_step) =
        (params.in_channels * shape.points_in, params.out_channels * shape.points_out);
    if x_step == 0 || out_step == 0 {
        return fill_bias(bias, shape.points_out, out);
    }
    for (x, out) in x.chunks_exact(x_step).zip(out.chunks_exact_mut(out_step)) {
        if shape.depthwise() {
            depthwise::convolve(ctx, &shape, x, w, bias, out)?;
        } else {
            grouped(ctx, &shape, x, w, bias, out)?;
        }
    }
    Ok(())
}

/// The result where there is nothing to sum up.
fn fill_bias(bias: Option<&[f32]>, points: usize, out: &mut [f32]) -> Result<(), KernelError> {
    out.fill(0.0);
    if let (Some(bias), true) = (bias, points > 0) {
        for (channel, &bias) in out.chunks_exact_mut(points).zip(bias.iter().cycle()) {
            channel.fill(bias);
        }
    }
    Ok(())
}

/// Sizes derived from [`ConvParams`], with three spatial dimensions always.
struct Shape {
    dims: [SpatialDim; 3],
    output: [usize; 3],
    in_per_group: usize,
    out_per_group: usize,
    points_in: usize,
    points_out: usize,
    taps: usize,
    numerics: Numerics,
}

impl Shape {
    fn new(params: &ConvParams) -> Result<Self, KernelError> {
        let dims = three(KERNEL, params.spatial, SpatialDim::UNIT)?;
        let groups = params.groups;
        if groups == 0
            || !params.in_channels.is_multiple_of(groups)
            || !params.out_channels.is_multiple_of(groups)
        {
            let expected =
                format!("a divisor of {} and {} channels", params.in_channels, params.out_channels);
            return Err(KernelError::value(KERNEL, "groups", expected, groups));
        }
        let mut output = [1; 3];
        for (output, dim) in output.iter_mut().zip(&dims) {
            *output = dim.output()?;
        }
        Ok(Self {
            dims,
            output,
            in_per_group: params.in_channels / groups,
            out_per_group: params.out_channels / groups,
            points_in: product(KERNEL, "x", &dims.map(|dim| dim.input))?,
            points_out: product(KERNEL, "out", &output)?,
            taps: product(KERNEL, "w", &dims.map(|dim| dim.kernel))?,
            numerics: params.numerics,
        })
    }

    fn check(
        &self,
        params: &ConvParams,
        x: usize,
        w: &Weights,
        bias: Option<&[f32]>,
        out: usize,
    ) -> Result<(), KernelError> {
        w.validate()?;
        let expected = product(KERNEL, "x", &[params.batch, params.in_channels, self.points_in])?;
        check_len(KERNEL, "x", expected, x)?;
        let expected =
            product(KERNEL, "out", &[params.batch, params.out_channels, self.points_out])?;
        check_len(KERNEL, "out", expected, out)?;
        check_len(KERNEL, "rows of `w`", params.out_channels, w.rows)?;
        let expected = product(KERNEL, "w", &[self.in_per_group, self.taps])?;
        check_len(KERNEL, "columns of `w`", expected, w.cols)?;
        bias.map_or(Ok(()), |bias| check_len(KERNEL, "bias", params.out_channels, bias.len()))
    }

    /// Whether each filter is better run over its one channel than over an unfolded copy, which
    /// pays where many filters share it.
    fn depthwise(&self) -> bool {
        self.in_per_group == 1 && self.out_per_group < thresholds::SHARED_CHANNEL
    }

    /// Whether filters meet anything but the input.
    fn padded(&self) -> bool {
        self.dims.iter().any(|dim| dim.pad_begin > 0 || dim.pad_end > 0)
    }

    /// Whether the filter covers one point at a time, in order.
    fn pointwise(&self) -> bool {
        self.dims
            .iter()
            .all(|dim| dim.kernel == 1 && dim.stride == 1 && dim.pad_begin == 0 && dim.pad_end == 0)
    }
}

/// One input, group by group, as products of filters with (unfolded) columns.
fn grouped(
    ctx: &Context,
    shape: &Shape,
    x: &[f32],
    w: &Weights,
    bias: Option<&[f32]>,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let inputs = x.chunks_exact(shape.in_per_group * shape.points_in);
    let outputs = out.chunks_exact_mut(shape.out_per_group * shape.points_out);
    for (group, (x, out)) in inputs.zip(outputs).enumerate() {
        let rows = group * shape.out_per_group..(group + 1) * shape.out_per_group;
        let bias = bias.map(|bias| &bias[rows.clone()]);
        let points = shape.points_out;
        let layout = OutputLayout { stride_n: points, stride_s: 1 };
        if shape.pointwise() {
            let x = Matrix::row_major(x, shape.in_per_group, points);
            Call { numerics: shape.numerics, w, rows, x, bias }.run(ctx, out, layout)?;
            continue;
        }
        if points <= thresholds::SOME_COLUMNS {
            let mut fields = ctx.scratch().take(w.cols * points)?;
            gather(shape, x, &mut fields);
            let x = Matrix::row_major(&fields, points, w.cols).transposed();
            Call { numerics: shape.numerics, w, rows, x, bias }.run(ctx, out, layout)?;
            continue;
        }
        if let Some(width) = arch::panel_width(ctx.isa()) {
            let out = MatrixMut::row_major(out, rows.len(), points);
            let (depth, columns) = (w.cols, &Fields { shape, x });
            let (rows, numerics) = (Rows::Weights(w, rows.start), shape.numerics);
            let product = Product { rows, columns, depth, bias, numerics };
            product.run(ctx, Threads::All, width, Block::new(KERNEL, out)?)?;
            continue;
        }
        let tile = (thresholds::UNFOLDED / w.cols).clamp(1, points);
        let mut unfolded = ctx.scratch().take(w.cols * tile)?;
        for start in (0..points).step_by(tile) {
            let count = tile.min(points - start);
            let columns = &mut unfolded[..w.cols * count];
            unfold(ctx, shape, x, start, count, columns);
            let x = Matrix::row_major(columns, w.cols, count);
            Call { numerics: shape.numerics, w, rows: rows.clone(), x, bias }.run(
                ctx,
                &mut out[start..],
                layout,
            )?;
        }
    }
    Ok(())
}

/// Lays out, for every output, the inputs that its filters meet, by channel and tap: better than
/// [`unfold`] where there are few outputs, as the pieces are longer and a product takes them as they are.
fn gather(shape: &Shape, x: &[f32], fields: &mut [f32]) {
    let [depth, height, width] = shape.dims;
    let [_, out_height, out_width] = shape.output;
    for (point, field) in fields.chunks_exact_mut(shape.in_per_group * shape.taps).enumerate() {
        let (z, y, at) = split(point, out_height, out_width);
        let taps = width.taps_inside(at);
        let first = width.input_at(taps.start, at).unwrap_or(0);
        let channels = x.chunks_exact(shape.points_in);
        for (channel, field) in channels.zip(field.chunks_exact_mut(shape.taps)) {
            for (row, line) in field.chunks_exact_mut(width.kernel).enumerate() {
                let (tap_z, tap_y) = (row / height.kernel, row % height.kernel);
                let (in_z, in_y) = (depth.input_at(tap_z, z), height.input_at(tap_y, y));
                let (Some(in_z), Some(in_y), false) = (in_z, in_y, taps.is_empty()) else {
                    line.fill(0.0);
                    continue;
                };
                let source = &channel[(in_z * height.input + in_y) * width.input + first..];
                line[..taps.start].fill(0.0);
                line[taps.end..].fill(0.0);
                let line = &mut line[taps.clone()];
                if width.dilation == 1 {
                    line.copy_from_slice(&source[..line.len()]);
                } else {
                    zip_strided(line, source, width.dilation, |to, from| *to = from);
                }
            }
        }
    }
}

/// What the filters of a group meet: a column for each output, with inputs by channel and tap.
struct Fields<'a> {
    shape: &'a Shape,
    x: &'a [f32],
}

impl Columns for Fields<'_> {
    fn copy_to(&self, _isa: Isa, columns: Range<usize>, to: &mut Block) {
        let shape = self.shape;
        if shape.padded() {
            to.fill(0.0);
        }
        let of_tap = |tap| {
            let pieces = pieces(shape, tap, columns.start, columns.len());
            pieces.map(move |piece| (tap, piece))
        };
        // Channel by channel, so that each is at hand for all taps.
        let pieces: Vec<_> = (0..shape.taps).flat_map(of_tap).collect();
        for (channel, input) in self.x.chunks_exact(shape.points_in).enumerate() {
            for (tap, piece) in &pieces {
                if let Some(values) = to.row_mut(channel * shape.taps + tap) {
                    piece.copy(input, values, shape.dims[2].stride);
                }
            }
        }
    }
}

/// Lays out, for every channel and tap, the inputs it meets at outputs `start..start + count`.
fn unfold(
    ctx: &Context,
    shape: &Shape,
    x: &[f32],
    start: usize,
    count: usize,
    columns: &mut [f32],
) {
    let fill = |row: usize, values: &mut [f32]| {
        let channel = &x[row / shape.taps * shape.points_in..][..shape.points_in];
        unfold_row(shape, channel, row % shape.taps, start, values);
    };
    ctx.workers().for_each_row_mut(columns, count, thresholds::UNFOLD, fill);
}

fn unfold_row(shape: &Shape, channel: &[f32], tap: usize, start: usize, values: &mut [f32]) {
    values.fill(0.0);
    for piece in pieces(shape, tap, start, values.len()) {
        piece.copy(channel, values, shape.dims[2].stride);
    }
}

/// Inputs of a channel that a tap meets at neighbouring outputs of a line.
struct Piece {
    /// The first of these outputs, among those in question.
    at: usize,
    /// The first input.
    input: usize,
    count: usize,
}

impl Piece {
    fn copy(&self, channel: &[f32], values: &mut [f32], stride: usize) {
        let (source, to) = (&channel[self.input..], &mut values[self.at..][..self.count]);
        if stride == 1 {
            to.copy_from_slice(&source[..to.len()]);
        } else {
            zip_strided(to, source, stride, |to, from| *to = from);
        }
    }
}

/// Where a tap meets the input at outputs `start..start + count`.
fn pieces(shape: &Shape, tap: usize, start: usize, count: usize) -> impl Iterator<Item = Piece> {
    let ([depth, height, width], output) = (shape.dims, shape.output);
    let (tap_z, tap_y, tap_x) = split(tap, height.kernel, width.kernel);
    let (first, end, input) = width.hits(tap_x, output[2]);
    let mut next = 0;
    lines(start, count, output[1], output[2]).filter_map(move |(z, y, columns)| {
        let line = next;
        next += columns.len();
        let (in_z, in_y) = (depth.input_at(tap_z, z)?, height.input_at(tap_y, y)?);
        let (low, high) = (first.max(columns.start), end.min(columns.end));
        let inputs = (in_z * height.input + in_y) * width.input;
        (low < high).then(|| Piece {
            at: line + low - columns.start,
            input: inputs + input + (low - first) * width.stride,
            count: high - low,
        })
    })
}

#[cfg(test)]
mod tests;
