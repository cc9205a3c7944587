//! A filter over one channel, which is laid out so that nothing has to be asked about edges and strides.

use crate::arch::compiled::Loop;
use crate::spatial::{SpatialDim, zip_strided};
use crate::thresholds;

use super::Shape;

/// Outputs that are summed up together, in registers.
const RUN: usize = 64;

/// Elements that are copied together, in registers.
const PIECE: usize = 16;

/// How lines of a channel are laid out with their padding: apart by phases, of which each has every
/// `stride`th line and of these every `stride`th element. So what a tap meets at neighbouring outputs lies
/// side by side; and all outputs of a band are one long line, with gaps after each line of outputs as long as
/// those in a phase.
pub(super) struct Phases {
    height: SpatialDim,
    width: SpatialDim,
    /// Lines of outputs, and outputs of a line.
    output: (usize, usize),
    /// Lines of outputs that are computed together.
    band: usize,
    /// Phases of lines, and phases of the elements of a line.
    count: (usize, usize),
    /// Lines of a phase, and elements of such a line.
    size: (usize, usize),
}

impl Phases {
    /// The phases of a plane, unless laying them out takes longer than multiplying.
    pub(super) fn new(shape: &Shape) -> Option<Self> {
        let [depth, height, width] = shape.dims;
        let [_, out_height, out_width] = shape.output;
        let reach = |dim: &SpatialDim| (dim.kernel - 1) * dim.dilation;
        let count = |dim: &SpatialDim| dim.stride.min(reach(dim) + 1);
        let beyond = |dim: &SpatialDim| reach(dim) / dim.stride;
        let pitch = out_width.checked_add(beyond(&width))?;
        let line = pitch.checked_mul(count(&height))?.checked_mul(count(&width))?;
        let most = (thresholds::PHASES / line).saturating_sub(beyond(&height)).clamp(1, out_height);
        let band = out_height.div_ceil(out_height.div_ceil(most));
        let lines = band.checked_add(beyond(&height))?;
        let multiplied = shape.taps.checked_mul(band)?.checked_mul(out_width)?;
        if depth != SpatialDim::UNIT || lines.checked_mul(line)? > multiplied {
            return None;
        }
        Some(Self {
            height: SpatialDim { dilation: 1, ..height },
            width: SpatialDim { dilation: 1, ..width },
            output: (out_height, out_width),
            band,
            count: (count(&height), count(&width)),
            size: (lines, pitch),
        })
    }

    /// Writes where the first output of a band meets each tap of the filter.
    pub(super) fn find_taps(&self, shape: &Shape, to: &mut [usize]) {
        let [_, height, width] = shape.dims;
        let place = |dim: &SpatialDim, tap: usize| {
            (tap * dim.dilation % dim.stride, tap * dim.dilation / dim.stride)
        };
        let mut to = to.iter_mut();
        for (y, line) in (0..height.kernel).map(|tap| place(&height, tap)) {
            for (x, at) in (0..width.kernel).map(|tap| place(&width, tap)) {
                if let Some(to) = to.next() {
                    *to = self.start(y, x) + line * self.size.1 + at;
                }
            }
        }
    }

    /// Where a phase starts.
    fn start(&self, y: usize, x: usize) -> usize {
        (y * self.count.1 + x) * self.size.0 * self.size.1
    }

    /// Values that are laid out, and those beyond that runs and pieces reach.
    fn laid_out(&self) -> usize {
        self.start(self.count.0, 0) + RUN
    }

    /// The outputs of some lines, with the gaps between these, in whole runs.
    fn sums(&self, lines: usize) -> usize {
        ((lines - 1) * self.size.1 + self.output.1).next_multiple_of(RUN)
    }

    /// Values that [`Filtered`] needs room for.
    pub(super) fn room(&self) -> usize {
        self.laid_out() + self.sums(self.band)
    }

    /// Lays out what a band of outputs meets, of which the first line is `first`. What lies between lines is zero
    /// already.
    #[inline(always)]
    fn lay_out(&self, input: &[f32], first: usize, to: &mut [f32]) {
        let (lines, pitch) = self.size;
        for y in 0..self.count.0 {
            for x in 0..self.count.1 {
                let start = self.start(y, x);
                let (at, end, from) = self.width.hits(x, pitch);
                for line in 0..lines {
                    let to = &mut to[start + line * pitch..];
                    let input = match self.height.input_at(y, first + line) {
                        Some(line) if at < end => &input[line * self.width.input + from..],
                        _ => {
                            to[..pitch].fill(0.0);
                            continue;
                        }
                    };
                    copy(input, self.width.stride, end - at, &mut to[at..]);
                    let (gap, _) = to[end..].as_chunks_mut::<PIECE>();
                    gap[0] = [0.0; PIECE];
                }
            }
        }
    }

    /// Sums up runs of products with taps at their places and weights; a run starts with the bias.
    #[inline(always)]
    fn sum_up(laid_out: &[f32], (taps, filter): (&[usize], &[f32]), bias: f32, sums: &mut [f32]) {
        let (runs, _) = sums.as_chunks_mut::<RUN>();
        for (run, to) in runs.iter_mut().enumerate() {
            // Four variables, as an array of them would not be in registers.
            let [mut a, mut b, mut c, mut d] = [[bias; PIECE]; RUN / PIECE];
            for (&tap, &weight) in taps.iter().zip(filter) {
                let (x, _) = laid_out[tap + run * RUN..][..RUN].as_chunks::<PIECE>();
                a = add_products(a, weight, &x[0]);
                b = add_products(b, weight, &x[1]);
                c = add_products(c, weight, &x[2]);
                d = add_products(d, weight, &x[3]);
            }
            let (to, _) = to.as_chunks_mut::<PIECE>();
            (to[0], to[1], to[2], to[3]) = (a, b, c, d);
        }
    }
}

#[inline(always)]
fn add_products(sums: [f32; PIECE], weight: f32, x: &[f32; PIECE]) -> [f32; PIECE] {
    std::array::from_fn(|i| sums[i] + weight * x[i])
}

/// Copies every `stride`th of `from`, `count` elements, and after them as many as make pieces whole, if there are
/// these.
#[inline(always)]
fn copy(from: &[f32], stride: usize, count: usize, to: &mut [f32]) {
    let pieces = count.div_ceil(PIECE);
    let whole = pieces * PIECE;
    if whole * stride > from.len() || whole > to.len() || stride > 2 {
        return zip_strided(&mut to[..count], from, stride, |to, from| *to = from);
    }
    let (to, _) = to[..whole].as_chunks_mut::<PIECE>();
    if stride == 1 {
        let (from, _) = from.as_chunks::<PIECE>();
        // One piece without a call, as many lines are short.
        match to {
            [to] => *to = from[0],
            _ => to.copy_from_slice(&from[..pieces]),
        }
    } else {
        let (from, _) = from.as_chunks::<{ 2 * PIECE }>();
        for (to, from) in to.iter_mut().zip(from) {
            *to = std::array::from_fn(|i| from[2 * i]);
        }
    }
}

/// Runs a filter over a channel.
pub(super) struct Filtered<'a> {
    pub(super) phases: &'a Phases,
    /// What [`Phases::find_taps`] gives.
    pub(super) taps: &'a [usize],
    /// The channel; what comes after it does not matter.
    pub(super) input: &'a [f32],
    pub(super) filter: &'a [f32],
    pub(super) bias: f32,
    /// As much as [`Phases::room`] says: zeros, or what was left of another channel.
    pub(super) room: &'a mut [f32],
    pub(super) out: &'a mut [f32],
}

impl Loop for Filtered<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { phases, taps, input, filter, bias, room, out } = self;
        let (laid_out, sums) = room.split_at_mut(phases.laid_out());
        let (height, width) = phases.output;
        for first in (0..height).step_by(phases.band) {
            let lines = phases.band.min(height - first);
            let sums = &mut sums[..phases.sums(lines)];
            phases.lay_out(input, first, laid_out);
            Phases::sum_up(laid_out, (taps, filter), bias, sums);
            for line in 0..lines {
                copy(&sums[line * phases.size.1..], 1, width, &mut out[(first + line) * width..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arch::compiled;
    use crate::conv::depthwise::TapByTap;
    use crate::conv::tests::noise;
    use crate::conv::{ConvParams, Numerics};
    use crate::isa::Isa;

    fn shape(spatial: &[SpatialDim]) -> Shape {
        let (channels, numerics) = (1, Numerics::Strict);
        let [batch, in_channels, out_channels, groups] = [channels; 4];
        let params = ConvParams { batch, in_channels, out_channels, groups, spatial, numerics };
        Shape::new(&params).unwrap()
    }

    /// Two channels, with what the first leaves behind, are those of [`TapByTap`].
    fn check(shape: &Shape) {
        let Some(phases) = Phases::new(shape) else { return };
        let (filter, bias) = (noise(shape.taps, 2), 0.3);
        let taps = &mut vec![0; shape.taps];
        phases.find_taps(shape, taps);
        let taps = &taps[..];
        for isa in Isa::available() {
            let mut room = vec![0.0; phases.room()];
            for seed in 0..2 {
                let input = &noise(shape.points_in, seed)[..];
                let (mut out, mut expected) =
                    (vec![f32::NAN; shape.points_out], vec![bias; shape.points_out]);
                let (phases, filter) = (&phases, &filter[..]);
                let (room, out) = (&mut room[..], &mut out[..]);
                compiled::run(isa, Filtered { phases, taps, input, filter, bias, room, out });
                let of = TapByTap { shape, input, filter, out: &mut expected };
                compiled::run(isa, of);
                assert_eq!(out, expected, "{:?} on {}", shape.dims, isa.name());
            }
        }
    }

    fn dim() -> impl Strategy<Value = SpatialDim> {
        (1usize..40, 1usize..7, 1usize..5, 1usize..4, 0usize..9, 0usize..9).prop_map(
            |(input, kernel, stride, dilation, pad_begin, pad_end)| SpatialDim {
                input,
                kernel,
                stride,
                dilation,
                pad_begin,
                pad_end,
            },
        )
    }

    proptest! {
        #[test]
        fn sums_are_those_of_taps_one_by_one(dims in prop::collection::vec(dim(), 1..3)) {
            prop_assume!(dims.iter().all(|dim| dim.output().is_ok()));
            check(&shape(&dims));
        }
    }

    #[test]
    fn planes_of_several_bands() {
        let dim = |input, kernel, stride| SpatialDim {
            input,
            kernel,
            stride,
            dilation: 1,
            pad_begin: kernel / 2,
            pad_end: 1,
        };
        for [height, width] in
            [[dim(150, 3, 1); 2], [dim(230, 5, 2); 2], [dim(3, 3, 1), dim(9000, 3, 1)]]
        {
            let shape = shape(&[height, width]);
            assert!(Phases::new(&shape).is_some_and(|phases| phases.band < shape.output[1]));
            check(&shape);
        }
    }

    #[test]
    fn taps_far_apart_are_not_laid_out() {
        let far = |dilation, pad| SpatialDim {
            input: 5,
            kernel: 3,
            stride: 1,
            dilation,
            pad_begin: pad,
            pad_end: pad,
        };
        assert!(Phases::new(&shape(&[far(1 << 40, 1 << 40)])).is_none());
        assert!(Phases::new(&shape(&[far(1000, 1000); 2])).is_none());
        assert!(Phases::new(&shape(&[far(1, 1); 2])).is_some());
        assert!(Phases::new(&shape(&[far(1, 1); 3])).is_none());
    }
}
