//! Convolutions with a few filters per channel, each of which runs over its channel.

use crate::arch::compiled::{self, Loop};
use crate::context::Context;
use crate::error::KernelError;
use crate::spatial::zip_strided;
use crate::thresholds;
use crate::weights::Weights;

use super::Shape;
use super::phases::{Filtered, Phases};

/// One input with one input channel per group.
pub(super) fn convolve(
    ctx: &Context,
    shape: &Shape,
    x: &[f32],
    w: &Weights,
    bias: Option<&[f32]>,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let (taps, points) = (shape.taps, shape.points_out);
    let phases = Phases::new(shape);
    let mut tap_places = ctx.scratch().take(taps)?;
    if let Some(phases) = &phases {
        phases.find_taps(shape, &mut tap_places);
    }
    // Each output costs as many multiplications as the filter has taps.
    let cost = points.saturating_mul(taps);
    let channels = (thresholds::task(thresholds::DEPTHWISE) / cost).min(thresholds::FILTERS / taps);
    let channels = channels.max(1);
    let run = |number: usize, out: &mut [f32]| {
        let first = number * channels;
        let filters = w.rows_in_floats(ctx, first..first + out.len() / points)?;
        let each = out.chunks_exact_mut(points).zip(filters.chunks_exact(taps));
        let mut room = ctx.scratch().take(phases.as_ref().map_or(0, Phases::room))?;
        room.fill(0.0);
        for (channel, (out, filter)) in (first..).zip(each) {
            let input = &x[channel / shape.out_per_group * shape.points_in..];
            let bias = bias.map_or(0.0, |bias| bias[channel]);
            match &phases {
                Some(phases) => {
                    let (taps, room) = (&tap_places[..], &mut room[..]);
                    let of = Filtered { phases, taps, input, filter, bias, room, out };
                    compiled::run(ctx.isa(), of);
                }
                None => {
                    out.fill(bias);
                    compiled::run(ctx.isa(), TapByTap { shape, input, filter, out });
                }
            }
        }
        Ok(())
    };
    if out.len().saturating_mul(taps) < thresholds::DEPTHWISE {
        return out
            .chunks_mut(channels * points)
            .enumerate()
            .try_for_each(|(number, out)| run(number, out));
    }
    ctx.workers().try_for_each_chunk_mut(out, channels * points, run)
}

/// Adds the products of one filter with one channel, one tap after the other along each line.
pub(super) struct TapByTap<'a> {
    pub(super) shape: &'a Shape,
    pub(super) input: &'a [f32],
    pub(super) filter: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl Loop for TapByTap<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [depth, height, width] = self.shape.dims;
        let [_, out_height, out_width] = self.shape.output;
        for (line, out) in self.out.chunks_exact_mut(out_width).enumerate() {
            let (z, y) = (line / out_height, line % out_height);
            for (row, filter) in self.filter.chunks_exact(width.kernel).enumerate() {
                let (tap_z, tap_y) = (row / height.kernel, row % height.kernel);
                let (Some(in_z), Some(in_y)) =
                    (depth.input_at(tap_z, z), height.input_at(tap_y, y))
                else {
                    continue;
                };
                let source = &self.input[(in_z * height.input + in_y) * width.input..];
                for (tap_x, &weight) in filter.iter().enumerate() {
                    let (first, end, input) = width.hits(tap_x, out_width);
                    if first < end {
                        let source = &source[input..width.input];
                        zip_strided(&mut out[first..end], source, width.stride, |out, x| {
                            *out += weight * x;
                        });
                    }
                }
            }
        }
    }
}
