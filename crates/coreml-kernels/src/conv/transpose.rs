//! Transposed convolutions: every input is spread over the outputs under its window.

use super::{KERNEL, fill_bias};
use crate::arch::compiled::{self, Loop};
use crate::context::Context;
use crate::error::{KernelError, check_len, product};
use crate::gemm::{Sum, multiply};
use crate::matrix::{Block, Matrix, MatrixMut, Threads};
use crate::spatial::{SpatialDim, lines, split, three};
use crate::thresholds;

/// What a transposed convolution is, apart from its data. Input is `[batch, in_channels, input…]`,
/// output `[batch, out_channels, spatial…]`, filters `[in_channels, out_channels / groups, kernel…]`,
/// all row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvTransposeParams<'a> {
    /// Independent inputs.
    pub batch: usize,
    /// Channels of the input; `groups` divides them.
    pub in_channels: usize,
    /// Channels of the output; `groups` divides them.
    pub out_channels: usize,
    /// Groups of channels that do not mix, at least 1.
    pub groups: usize,
    /// Spatial sizes of the input, one to three, outermost first.
    pub input: &'a [usize],
    /// The spatial dimensions of the convolution that is transposed: *its* input is the output here.
    /// Input `i` adds to outputs `i * stride + tap * dilation - pad_begin`; what lies outside is left out.
    /// Padding at the end means nothing.
    pub spatial: &'a [SpatialDim],
}

/// Spreads `x` over `out` with the filters `w`, as the gradient of a convolution does: products of the
/// filters with all inputs are added up where they belong. Divided among threads if large.
///
/// # Errors
/// If a slice does not have the length the parameters call for, these do not fit together or there
/// is no memory.
pub fn conv_transpose(
    ctx: &Context,
    params: &ConvTransposeParams,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let shape = Shape::new(params)?;
    shape.check(params, x.len(), w.len(), bias, out.len())?;
    fill_bias(bias, shape.points_out, out)?;
    let x_step = shape.in_per_group * shape.points_in;
    let out_step = shape.out_per_group * shape.points_out;
    if x.is_empty() || out.is_empty() || w.is_empty() {
        return Ok(());
    }
    let filters = shape.in_per_group * shape.out_per_group * shape.taps;
    let run = |number: usize, threads: Threads, out: &mut [f32]| {
        let x = &x[number * x_step..][..x_step];
        let w = &w[number % params.groups * filters..][..filters];
        Group { ctx, shape: &shape, x, w }.spread(threads, out)
    };
    // Groups of all batches, each of which adds to outputs of its own.
    let groups = params.batch * params.groups;
    let work = filters.saturating_mul(shape.points_in).saturating_mul(groups);
    if work >= thresholds::GEMM && groups >= ctx.workers().threads() {
        let one = |number: usize, out: &mut [f32]| run(number, Threads::One, out);
        return ctx.workers().try_for_each_chunk_mut(out, out_step, one);
    }
    let threads = if work >= thresholds::GEMM { Threads::All } else { Threads::One };
    let mut parts = out.chunks_exact_mut(out_step).enumerate();
    parts.try_for_each(|(number, out)| run(number, threads, out))
}

/// Sizes derived from [`ConvTransposeParams`], with three spatial dimensions always.
struct Shape {
    dims: [SpatialDim; 3],
    input: [usize; 3],
    in_per_group: usize,
    out_per_group: usize,
    points_in: usize,
    points_out: usize,
    taps: usize,
}

impl Shape {
    fn new(params: &ConvTransposeParams) -> Result<Self, KernelError> {
        let dims = three(KERNEL, params.spatial, SpatialDim::UNIT)?;
        let input = three(KERNEL, params.input, 1)?;
        check_len(KERNEL, "input", params.spatial.len(), params.input.len())?;
        for (dim, &input) in dims.iter().zip(&input) {
            dim.check_reach(input)?;
        }
        let (groups, channels) = (params.groups, [params.in_channels, params.out_channels]);
        if groups == 0 || channels.iter().any(|channels| !channels.is_multiple_of(groups)) {
            let expected = format!("a divisor of {} and {} channels", channels[0], channels[1]);
            return Err(KernelError::value(KERNEL, "groups", expected, groups));
        }
        Ok(Self {
            dims,
            input,
            in_per_group: params.in_channels / groups,
            out_per_group: params.out_channels / groups,
            points_in: product(KERNEL, "x", &input)?,
            points_out: product(KERNEL, "out", &dims.map(|dim| dim.input))?,
            taps: product(KERNEL, "w", &dims.map(|dim| dim.kernel))?,
        })
    }

    fn check(
        &self,
        params: &ConvTransposeParams,
        x: usize,
        w: usize,
        bias: Option<&[f32]>,
        out: usize,
    ) -> Result<(), KernelError> {
        let (batch, inputs, outputs) = (params.batch, params.in_channels, params.out_channels);
        check_len(KERNEL, "x", product(KERNEL, "x", &[batch, inputs, self.points_in])?, x)?;
        check_len(KERNEL, "w", product(KERNEL, "w", &[inputs, self.out_per_group, self.taps])?, w)?;
        let expected = product(KERNEL, "out", &[batch, outputs, self.points_out])?;
        check_len(KERNEL, "out", expected, out)?;
        bias.map_or(Ok(()), |bias| check_len(KERNEL, "bias", outputs, bias.len()))
    }
}

/// The channels of one input that mix with each other.
struct Group<'a> {
    ctx: &'a Context,
    shape: &'a Shape,
    x: &'a [f32],
    w: &'a [f32],
}

impl Group<'_> {
    /// Adds to all output channels of the group, some at a time.
    fn spread(&self, threads: Threads, out: &mut [f32]) -> Result<(), KernelError> {
        let (workers, shape) = (self.ctx.workers(), self.shape);
        if shape.in_per_group == 1 {
            compiled::run(self.ctx.isa(), Scaled { shape, x: self.x, filters: self.w, out });
            return Ok(());
        }
        let (channels, most) = (shape.out_per_group, self.channels_of(thresholds::FOLD_ROWS.1));
        if threads == Threads::One {
            let mut parts = out.chunks_mut(most * shape.points_out).enumerate();
            return parts.try_for_each(|(i, out)| self.channels(threads, i * most, out));
        }
        let least = self.channels_of(thresholds::FOLD_ROWS.0);
        let count = channels.div_ceil(workers.threads()).clamp(least, most);
        let tasks = channels.div_ceil(count);
        let threads = if tasks < workers.threads() { Threads::All } else { Threads::One };
        workers.try_for_each_chunk_mut(out, count * shape.points_out, |i, out| {
            self.channels(threads, i * count, out)
        })
    }

    /// How many output channels make so many rows of the product.
    fn channels_of(&self, rows: usize) -> usize {
        rows.div_ceil(self.shape.taps).clamp(1, self.shape.out_per_group)
    }

    /// Adds to the output channels from `first` on: for each of their taps, products with all inputs.
    fn channels(&self, threads: Threads, first: usize, out: &mut [f32]) -> Result<(), KernelError> {
        let shape = self.shape;
        let rows = out.len() / shape.points_out * shape.taps;
        let filters = Matrix {
            data: &self.w[first * shape.taps..],
            rows,
            cols: shape.in_per_group,
            row_stride: 1,
            col_stride: shape.out_per_group * shape.taps,
        };
        // The order in which products are added up must not hang on how channels are divided.
        let most = self.channels_of(thresholds::FOLD_ROWS.1) * shape.taps;
        let tile = (thresholds::FOLDED / most).clamp(1, shape.points_in);
        let mut products = self.ctx.scratch().take(rows * tile)?;
        for start in (0..shape.points_in).step_by(tile) {
            let count = tile.min(shape.points_in - start);
            let products = &mut products[..rows * count];
            let inputs = Matrix {
                data: &self.x[start..],
                rows: shape.in_per_group,
                cols: count,
                row_stride: shape.points_in,
                col_stride: 1,
            };
            let c = Block::new(KERNEL, MatrixMut::row_major(products, rows, count))?;
            multiply(self.ctx, threads, filters, inputs, c, Sum::New)?;
            compiled::run(self.ctx.isa(), Fold { shape, start, count, products, out });
        }
        Ok(())
    }
}

/// Adds products, `[channels, taps, count]` of inputs from `start` on, to the outputs that they belong to.
struct Fold<'a> {
    shape: &'a Shape,
    start: usize,
    count: usize,
    products: &'a [f32],
    out: &'a mut [f32],
}

impl Loop for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { shape, start, count, products, out } = self;
        let planes = out.chunks_exact_mut(shape.points_out);
        for (plane, products) in planes.zip(products.chunks_exact(shape.taps * count)) {
            for (tap, products) in products.chunks_exact(count).enumerate() {
                fold_row(shape, plane, tap, start, products, |to, product| to + product);
            }
        }
    }
}

/// Adds the products of one channel with filters over it, which need no room of their own.
struct Scaled<'a> {
    shape: &'a Shape,
    x: &'a [f32],
    filters: &'a [f32],
    out: &'a mut [f32],
}

impl Loop for Scaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { shape, x, filters, out } = self;
        let planes = out.chunks_exact_mut(shape.points_out);
        for (plane, filter) in planes.zip(filters.chunks_exact(shape.taps)) {
            for (tap, &weight) in filter.iter().enumerate() {
                fold_row(shape, plane, tap, 0, x, |to, x| to + weight * x);
            }
        }
    }
}

/// Adds what belongs to one tap and to inputs from `start` on to a channel's outputs.
#[inline(always)]
fn fold_row(
    shape: &Shape,
    plane: &mut [f32],
    tap: usize,
    start: usize,
    values: &[f32],
    add: impl Fn(f32, f32) -> f32,
) {
    let [depth, height, width] = shape.dims;
    let [_, in_height, in_width] = shape.input;
    let (tap_z, tap_y, tap_x) = split(tap, height.kernel, width.kernel);
    let (first, end, output) = width.hits(tap_x, in_width);
    let mut rest = values;
    for (z, y, columns) in lines(start, values.len(), in_height, in_width) {
        let line;
        (line, rest) = rest.split_at(columns.len());
        let (Some(out_z), Some(out_y)) = (depth.input_at(tap_z, z), height.input_at(tap_y, y))
        else {
            continue;
        };
        let (low, high) = (first.max(columns.start), end.min(columns.end));
        if low >= high {
            continue;
        }
        let target = &mut plane[(out_z * height.input + out_y) * width.input..][..width.input];
        let target = &mut target[output + (low - first) * width.stride..];
        add_strided(target, width.stride, &line[low - columns.start..high - columns.start], &add);
    }
}

/// Adds values to every `stride`th element, from the first on.
#[inline(always)]
fn add_strided(target: &mut [f32], stride: usize, values: &[f32], add: impl Fn(f32, f32) -> f32) {
    match stride {
        1 => target.iter_mut().zip(values).for_each(|(to, &value)| *to = add(*to, value)),
        // Whole pairs are written, as the compiler can do that with vectors.
        2 => {
            let (pairs, rest) = target.as_chunks_mut::<2>();
            if let Some((to, &value)) = rest.first_mut().zip(values.get(pairs.len())) {
                *to = add(*to, value);
            }
            let both = pairs.iter_mut().zip(values);
            both.for_each(|(pair, &value)| *pair = [add(pair[0], value), pair[1]]);
        }
        _ => {
            let both = target.iter_mut().step_by(stride).zip(values);
            both.for_each(|(to, &value)| *to = add(*to, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::noise;
    use super::*;
    use crate::context::Workers;
    use crate::isa::Isa;

    /// The definition: every input is multiplied with every tap.
    fn oracle(
        p: &ConvTransposeParams,
        shape: &Shape,
        x: &[f32],
        w: &[f32],
        bias: &[f32],
    ) -> Vec<f64> {
        let mut out: Vec<f64> = Vec::new();
        for channel in 0..p.batch * p.out_channels {
            let bias = f64::from(bias[channel % p.out_channels]);
            out.extend(vec![bias; shape.points_out]);
        }
        let [_, in_height, in_width] = shape.input;
        let [_, height, width] = shape.dims;
        for (i, &x) in x.iter().enumerate() {
            let (channel, point) = (i / shape.points_in, i % shape.points_in);
            let (batch, channel) = (channel / p.in_channels, channel % p.in_channels);
            let at = split(point, in_height, in_width);
            for filter in 0..shape.out_per_group * shape.taps {
                let tap = split(filter % shape.taps, height.kernel, width.kernel);
                let place = |dim: usize, at: usize, tap: usize| {
                    let d = shape.dims[dim];
                    let to = (at * d.stride + tap * d.dilation).checked_sub(d.pad_begin)?;
                    (to < d.input).then_some(to)
                };
                let places = (place(0, at.0, tap.0), place(1, at.1, tap.1), place(2, at.2, tap.2));
                let (Some(z), Some(y), Some(to)) = places else { continue };
                let group = channel / shape.in_per_group;
                let plane =
                    batch * p.out_channels + group * shape.out_per_group + filter / shape.taps;
                let weight = w[channel * shape.out_per_group * shape.taps + filter];
                out[((plane * shape.dims[0].input + z) * height.input + y) * width.input + to] +=
                    f64::from(x) * f64::from(weight);
            }
        }
        out
    }

    fn check(params: &ConvTransposeParams) -> Result<(), TestCaseError> {
        let shape = Shape::new(params).unwrap();
        let x = noise(params.batch * params.in_channels * shape.points_in, 1);
        let w = noise(params.in_channels * shape.out_per_group * shape.taps, 2);
        let bias = noise(params.out_channels, 3);
        let expected = oracle(params, &shape, &x, &w, &bias);
        let mut first: Option<Vec<f32>> = None;
        for (isa, threads) in Isa::available().into_iter().flat_map(|isa| [(isa, 1), (isa, 3)]) {
            let ctx = Context::with_isa(Workers::new(threads).unwrap(), isa);
            let mut out = vec![f32::NAN; expected.len()];
            conv_transpose(&ctx, params, &x, &w, Some(&bias), &mut out).unwrap();
            for (got, expected) in out.iter().zip(&expected) {
                prop_assert!((f64::from(*got) - expected).abs() < 3e-5, "{got}, not {expected}");
            }
            // Threads change nothing.
            if threads == 1 {
                first = Some(out);
            } else {
                prop_assert_eq!(first.take(), Some(out));
            }
        }
        Ok(())
    }

    fn dim() -> impl Strategy<Value = (usize, SpatialDim)> {
        (1usize..8, 1usize..16, 1usize..4, 1usize..4, 1usize..3, 0usize..4).prop_map(
            |(points, input, kernel, stride, dilation, pad_begin)| {
                let dim = SpatialDim { input, kernel, stride, dilation, pad_begin, pad_end: 0 };
                (points, dim)
            },
        )
    }

    proptest! {
        #[test]
        fn matches_definition(dims in prop::collection::vec(dim(), 1..4), batch in 1usize..3,
                              groups in 1usize..4, per_in in 1usize..4, per_out in 1usize..6) {
            let (input, spatial): (Vec<usize>, Vec<SpatialDim>) = dims.into_iter().unzip();
            check(&ConvTransposeParams { batch, in_channels: groups * per_in,
                                         out_channels: groups * per_out, groups,
                                         input: &input, spatial: &spatial })?;
        }
    }

    #[test]
    fn large_enough_for_threads_and_tiles() {
        let dim = |input, kernel| SpatialDim { input, kernel, stride: 2, ..SpatialDim::UNIT };
        let two = [dim(64, 2), dim(63, 2)];
        let full = ConvTransposeParams {
            batch: 1,
            in_channels: 24,
            out_channels: 40,
            groups: 1,
            input: &[32, 32],
            spatial: &two,
        };
        check(&full).unwrap();
        check(&ConvTransposeParams { out_channels: 1, ..full }).unwrap();
        check(&ConvTransposeParams { out_channels: 24, groups: 24, ..full }).unwrap();
        // More taps than a tile has rows.
        let long = [SpatialDim { pad_begin: 300, ..dim(2000, 900) }];
        check(&ConvTransposeParams { input: &[700], spatial: &long, out_channels: 2, ..full })
            .unwrap();
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let good = SpatialDim { input: 6, kernel: 3, ..SpatialDim::UNIT };
        let run = |dim: SpatialDim, groups: usize, input: &[usize]| {
            let (batch, spatial) = (1, &[dim]);
            let (in_channels, out_channels) = (2, 2);
            let params =
                ConvTransposeParams { batch, in_channels, out_channels, groups, input, spatial };
            let ctx = Context::new(Workers::serial());
            conv_transpose(&ctx, &params, &[0.0; 8], &[0.0; 12], None, &mut [0.0; 12])
        };
        assert!(run(good, 1, &[4]).is_ok());
        assert!(run(good, 0, &[4]).is_err());
        assert!(run(good, 3, &[4]).is_err());
        assert!(run(good, 1, &[4, 1]).is_err());
        assert!(run(good, 1, &[usize::MAX]).is_err());
        assert!(run(SpatialDim { input: 5, ..good }, 1, &[4]).is_err());
        assert!(run(SpatialDim { stride: 0, ..good }, 1, &[4]).is_err());
        assert!(run(SpatialDim { dilation: usize::MAX, ..good }, 1, &[4]).is_err());
    }

    #[test]
    fn nothing_to_spread_leaves_the_bias() {
        let spatial = [SpatialDim { input: 3, kernel: 2, ..SpatialDim::UNIT }];
        let params = ConvTransposeParams {
            batch: 1,
            in_channels: 0,
            out_channels: 2,
            groups: 1,
            input: &[2],
            spatial: &spatial,
        };
        let mut out = [f32::NAN; 6];
        let ctx = Context::new(Workers::serial());
        conv_transpose(&ctx, &params, &[], &[], Some(&[1.0, 2.0]), &mut out).unwrap();
        assert_eq!(out, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    }
}
