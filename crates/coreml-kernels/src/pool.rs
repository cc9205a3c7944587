//! Pooling: the elements under a window that moves over one to three spatial dimensions become one.

use crate::arch::compiled::{self, Loop};
use crate::context::Context;
use crate::error::{KernelError, check_len, product};
use crate::spatial::{SpatialDim, three, zip_strided};
use crate::thresholds;

const KERNEL: &str = "pool";

/// What the elements under a window become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The largest of them, or NaN if one is that. Under a window of padding alone: −∞.
    Max,
    /// Their mean. Under a window of padding alone: 0.
    Average {
        /// Whether padding counts as zeros. What lies behind the padding never counts.
        padding: bool,
    },
    /// The root of the sum of their squares.
    L2,
}

/// What a pooling is, apart from its data. Input is `[planes, spatial…]`, output `[planes, output…]`,
/// row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolParams<'a> {
    /// Channels of all batches, of which each is pooled alone.
    pub planes: usize,
    /// One to three spatial dimensions, outermost first; none is dilated.
    pub spatial: &'a [SpatialDim],
    /// How many windows there are along each of them. Windows may reach behind the padding.
    pub output: &'a [usize],
    /// What becomes of a window.
    pub pooling: Pooling,
}

/// Pools `x` into `out`. Divided among threads if large.
///
/// Each line of windows is computed in two steps: the lines of the input that it covers become one line,
/// and this is what the windows move along. Sums are single precision in short runs.
///
/// # Errors
/// If a slice does not have the length the parameters call for, these do not fit together or there
/// is no memory.
pub fn pool(
    ctx: &Context,
    params: &PoolParams,
    x: &[f32],
    out: &mut [f32],
) -> Result<(), KernelError> {
    let shape = Shape::new(params)?;
    let expected = product(KERNEL, "x", &[params.planes, shape.points_in])?;
    check_len(KERNEL, "x", expected, x.len())?;
    let expected = product(KERNEL, "out", &[params.planes, shape.lines, shape.output[2]])?;
    check_len(KERNEL, "out", expected, out.len())?;
    let out_width = shape.output[2];
    if out.is_empty() {
        return Ok(());
    }
    let run = |first: usize, out: &mut [f32]| {
        let width = shape.dims[2].input;
        let mut scratch = ctx.scratch().take(width + out_width)?;
        let (merged, widths) = scratch.split_at_mut(width);
        compiled::run(ctx.isa(), Lines { shape: &shape, x, first, merged, widths, out });
        Ok(())
    };
    let (lines, cost) = (out.len() / out_width, shape.cost());
    if lines.saturating_mul(cost) < thresholds::POOL {
        return run(0, out);
    }
    let count = (thresholds::task(thresholds::POOL) / cost).max(1);
    ctx.workers().try_for_each_chunk_mut(out, count.saturating_mul(out_width), |index, out| {
        run(index * count, out)
    })
}

/// Sizes derived from [`PoolParams`], with three spatial dimensions always.
struct Shape {
    dims: [SpatialDim; 3],
    output: [usize; 3],
    pooling: Pooling,
    points_in: usize,
    /// Lines of windows in a plane.
    lines: usize,
}

impl Shape {
    fn new(params: &PoolParams) -> Result<Self, KernelError> {
        let mut dims = three(KERNEL, params.spatial, SpatialDim::UNIT)?;
        let output = three(KERNEL, params.output, 1)?;
        check_len(KERNEL, "output", params.spatial.len(), params.output.len())?;
        for (dim, &output) in dims.iter().zip(&output) {
            if dim.dilation != 1 {
                return Err(KernelError::value(KERNEL, "dilation", "1", dim.dilation));
            }
            dim.check_reach(output)?;
        }
        let points_in = product(KERNEL, "x", &dims.map(|dim| dim.input))?;
        let whole =
            |dim: &SpatialDim| dim.kernel == dim.input && (dim.pad_begin, dim.pad_end) == (0, 0);
        if output == [1; 3] && dims.iter().all(whole) {
            // One window over all that there is: it is one line.
            let line = SpatialDim { input: points_in, kernel: points_in, ..SpatialDim::UNIT };
            dims = [SpatialDim::UNIT, SpatialDim::UNIT, line];
        }
        Ok(Self {
            dims,
            output,
            pooling: params.pooling,
            points_in,
            lines: product(KERNEL, "out", &output[..2])?,
        })
    }

    /// Elements that a line of windows takes, about.
    fn cost(&self) -> usize {
        let covered = |dim: &SpatialDim| dim.kernel.min(dim.input);
        let [depth, height, width] = &self.dims;
        let merged = covered(depth).saturating_mul(covered(height)).saturating_mul(width.input);
        merged.saturating_add(covered(width).saturating_mul(self.output[2])).max(1)
    }
}

/// Lines of windows, from number `first` on.
struct Lines<'a> {
    shape: &'a Shape,
    x: &'a [f32],
    first: usize,
    /// Room for a line of the input.
    merged: &'a mut [f32],
    /// Room for a line of windows: how many elements each counts along the line.
    widths: &'a mut [f32],
    out: &'a mut [f32],
}

impl Loop for Lines<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.shape.pooling {
            Pooling::Max => self.each(f32::NEG_INFINITY, |x| x, larger, |_, _, _| {}),
            Pooling::Average { padding } => {
                let count = |dim: &SpatialDim, at: usize| match padding {
                    true => dim.window_and_padding(at),
                    false => dim.window(at).len(),
                };
                let [depth, height, width] = &self.shape.dims;
                for (at, to) in self.widths.iter_mut().enumerate() {
                    *to = count(width, at).max(1) as f32;
                }
                self.each(
                    0.0,
                    |x| x,
                    add,
                    |(z, y), widths, line| {
                        let lines = (count(depth, z).max(1) * count(height, y).max(1)) as f32;
                        line.iter_mut().zip(widths).for_each(|(sum, width)| *sum /= lines * width);
                    },
                );
            }
            Pooling::L2 => self.each(
                0.0,
                |x| x * x,
                add,
                |_, _, line| {
                    line.iter_mut().for_each(|sum| *sum = sum.sqrt());
                },
            ),
        }
    }
}

impl Lines<'_> {
    /// Joins `start` and what `lift` makes of the elements under each window; `finish` gets the place of
    /// a line of windows, their widths and what was joined.
    #[inline(always)]
    fn each(
        self,
        start: f32,
        lift: impl Fn(f32) -> f32,
        join: impl Fn(f32, f32) -> f32,
        finish: impl Fn((usize, usize), &[f32], &mut [f32]),
    ) {
        let Self { shape, x, first, merged, widths, out } = self;
        let [depth, height, width] = &shape.dims;
        for (number, out) in (first..).zip(out.chunks_exact_mut(shape.output[2])) {
            let plane = &x[number / shape.lines * shape.points_in..][..shape.points_in];
            let (z, y) = (number % shape.lines / shape.output[1], number % shape.output[1]);
            merged.fill(start);
            for in_z in depth.window(z) {
                for in_y in height.window(y) {
                    let line = &plane[(in_z * height.input + in_y) * width.input..];
                    let both = merged.iter_mut().zip(line);
                    both.for_each(|(to, &from)| *to = join(*to, lift(from)));
                }
            }
            along(width, start, &join, merged, out);
            finish((z, y), widths, out);
        }
    }
}

/// Joins the elements under windows that move along a line.
#[inline(always)]
fn along(
    width: &SpatialDim,
    start: f32,
    join: impl Fn(f32, f32) -> f32,
    line: &[f32],
    out: &mut [f32],
) {
    if width.kernel >= WIDE {
        for (at, to) in out.iter_mut().enumerate() {
            *to = in_lanes(start, &join, &line[width.window(at)]);
        }
        return;
    }
    out.fill(start);
    for tap in 0..width.kernel {
        let (first, end, input) = width.hits(tap, out.len());
        if first < end {
            zip_strided(&mut out[first..end], &line[input..], width.stride, |to, from| {
                *to = join(*to, from);
            });
        }
    }
}

/// From which size on the elements under a window are joined for each window alone, not for all windows
/// tap by tap.
const WIDE: usize = 16;

/// Lanes in which elements are joined.
const LANES: usize = 16;

/// Elements that are joined in lanes before the lanes are joined.
const RUN: usize = 512;

#[inline(always)]
fn in_lanes(start: f32, join: impl Fn(f32, f32) -> f32, values: &[f32]) -> f32 {
    values.chunks(RUN).fold(start, |total, run| {
        let (body, tail) = run.as_chunks::<LANES>();
        let mut lanes = [start; LANES];
        for chunk in body {
            for lane in 0..LANES {
                lanes[lane] = join(lanes[lane], chunk[lane]);
            }
        }
        lanes.iter().chain(tail).fold(total, |total, &value| join(total, value))
    })
}

#[inline(always)]
fn add(a: f32, b: f32) -> f32 {
    a + b
}

/// The larger number; NaN if one is that.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::context::Workers;
    use crate::isa::Isa;

    fn noise(count: usize) -> Vec<f32> {
        let hash = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 8;
        (0..count).map(|i| hash(i) as f32 / 8_388_608.0 - 1.0).collect()
    }

    /// The places of a plane under a window, and how many places it has within the padding.
    fn under(dims: &[SpatialDim; 3], at: [usize; 3]) -> (Vec<usize>, usize) {
        let mut all = vec![(0usize, true)];
        let mut counted = 1;
        for (dim, at) in dims.iter().zip(at) {
            let end = dim.pad_begin + dim.input + dim.pad_end;
            let places = at * dim.stride..(at * dim.stride + dim.kernel).min(end);
            counted *= places.len();
            all = all
                .iter()
                .flat_map(|&(index, inside)| {
                    places.clone().map(move |place| {
                        let place = place.wrapping_sub(dim.pad_begin);
                        (index * dim.input + place.min(dim.input), inside && place < dim.input)
                    })
                })
                .collect();
        }
        (all.into_iter().filter(|place| place.1).map(|place| place.0).collect(), counted)
    }

    /// The definition.
    fn oracle(shape: &Shape, plane: &[f32], at: [usize; 3]) -> f64 {
        let (places, counted) = under(&shape.dims, at);
        let values = || places.iter().map(|&place| f64::from(plane[place]));
        let sum: f64 = values().sum();
        match shape.pooling {
            Pooling::Max => values().fold(f64::NEG_INFINITY, f64::max),
            Pooling::Average { padding: true } => sum / counted.max(1) as f64,
            Pooling::Average { padding: false } => sum / places.len().max(1) as f64,
            Pooling::L2 => values().map(|value| value * value).sum::<f64>().sqrt(),
        }
    }

    const POOLINGS: [Pooling; 4] = [
        Pooling::Max,
        Pooling::Average { padding: true },
        Pooling::Average { padding: false },
        Pooling::L2,
    ];

    fn check(planes: usize, spatial: &[SpatialDim], output: &[usize]) -> Result<(), TestCaseError> {
        for pooling in POOLINGS {
            let params = PoolParams { planes, spatial, output, pooling };
            let shape = Shape::new(&params).unwrap();
            let x = noise(planes * shape.points_in);
            let [_, height, width] = shape.output;
            let points = shape.lines * width;
            for isa in Isa::available() {
                let ctx = Context::with_isa(Workers::shared(), isa);
                let mut out = vec![f32::NAN; planes * points];
                pool(&ctx, &params, &x, &mut out).unwrap();
                for (i, got) in out.iter().enumerate() {
                    let plane = &x[i / points * shape.points_in..][..shape.points_in];
                    let at = [i % points / (height * width), i / width % height, i % width];
                    let expected = oracle(&shape, plane, at);
                    let close = (f64::from(*got) - expected).abs() < 2e-6 * expected.abs().max(1.0);
                    let same = f64::from(*got) == expected;
                    prop_assert!(same || close, "{pooling:?}: {got}, expected {expected}");
                }
            }
        }
        Ok(())
    }

    fn dim() -> impl Strategy<Value = (SpatialDim, usize)> {
        (1usize..24, 1usize..20, 1usize..4, 0usize..4, 0usize..4, 0usize..2).prop_map(
            |(input, kernel, stride, pad_begin, pad_end, more)| {
                let dim = SpatialDim { input, kernel, stride, dilation: 1, pad_begin, pad_end };
                (dim, dim.output().unwrap_or(0) + more)
            },
        )
    }

    proptest! {
        #[test]
        fn matches_definition(dims in prop::collection::vec(dim(), 1..4), planes in 1usize..4) {
            let (spatial, output): (Vec<SpatialDim>, Vec<usize>) = dims.into_iter().unzip();
            check(planes, &spatial, &output)?;
        }
    }

    #[test]
    fn large_enough_for_threads() {
        let dim = SpatialDim { input: 80, kernel: 3, stride: 2, pad_begin: 1, ..SpatialDim::UNIT };
        check(20, &[dim, dim], &[40, 40]).unwrap();
        let long = SpatialDim { input: 40_000, kernel: 40_000, ..SpatialDim::UNIT };
        check(4, &[long], &[1]).unwrap();
        let whole = |size| SpatialDim { input: size, kernel: size, ..SpatialDim::UNIT };
        check(3, &[whole(7), whole(150)], &[1, 1]).unwrap();
        check(5, &[whole(2), whole(1), whole(3)], &[1, 1, 1]).unwrap();
    }

    #[test]
    fn nan_and_infinity_reach_the_windows_that_hold_them() {
        let dim = SpatialDim { input: 40, kernel: 2, ..SpatialDim::UNIT };
        let mut x = [1.0f32; 40];
        (x[7], x[20]) = (f32::NAN, f32::INFINITY);
        for kernel in [2, 17] {
            let output = 41 - kernel;
            let dims = [SpatialDim { kernel, ..dim }];
            for pooling in POOLINGS {
                let params = PoolParams { planes: 1, spatial: &dims, output: &[output], pooling };
                let mut out = vec![0.0; output];
                pool(&Context::new(Workers::serial()), &params, &x, &mut out).unwrap();
                for (at, got) in out.iter().enumerate() {
                    let window = &x[at..at + kernel];
                    let nan = window.iter().any(|value| value.is_nan());
                    let infinite = !nan && window.contains(&f32::INFINITY);
                    assert_eq!((got.is_nan(), got.is_infinite()), (nan, infinite), "{pooling:?}");
                }
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let good = SpatialDim { input: 4, kernel: 2, ..SpatialDim::UNIT };
        let run = |dims: &[SpatialDim], output: &[usize], len: usize| {
            let (spatial, pooling) = (dims, Pooling::Max);
            let params = PoolParams { planes: 1, spatial, output, pooling };
            pool(&Context::new(Workers::serial()), &params, &[0.0; 4], &mut vec![0.0; len])
        };
        assert!(run(&[good], &[3], 3).is_ok());
        assert!(run(&[good], &[3], 4).is_err());
        assert!(run(&[], &[], 1).is_err());
        assert!(run(&[good], &[3, 1], 3).is_err());
        assert!(run(&[SpatialDim { input: 5, ..good }], &[3], 3).is_err());
        assert!(run(&[SpatialDim { dilation: 2, ..good }], &[3], 3).is_err());
        assert!(run(&[SpatialDim { kernel: 0, ..good }], &[3], 3).is_err());
        assert!(run(&[SpatialDim { pad_begin: usize::MAX, ..good }], &[3], 3).is_err());
        assert!(run(&[good], &[usize::MAX], 3).is_err());
        assert!(run(&[SpatialDim { kernel: usize::MAX / 8, ..good }], &[3], 3).is_ok());
    }
}
