//! Windows that move over one to three spatial dimensions: what convolutions and pooling share.

use std::ops::Range;

use crate::error::KernelError;

/// One spatial dimension that a window moves over, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpatialDim {
    /// Size of the input.
    pub input: usize,
    /// Size of the window, such as a filter.
    pub kernel: usize,
    /// Step of the window, at least 1.
    pub stride: usize,
    /// Distance between the window's taps, at least 1.
    pub dilation: usize,
    /// Padding before the input.
    pub pad_begin: usize,
    /// Padding after the input.
    pub pad_end: usize,
}

impl SpatialDim {
    /// A dimension that is not there.
    pub(crate) const UNIT: Self =
        Self { input: 1, kernel: 1, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0 };

    /// Size of the output: how many places the window fits into the padded input.
    ///
    /// # Errors
    /// If the window is larger than the padded input, or a parameter is zero.
    pub fn output(&self) -> Result<usize, KernelError> {
        let (padded, extent) = (self.padded()?, self.extent()?);
        let room = padded.checked_sub(extent).ok_or_else(|| too_large(padded, extent))?;
        Ok(room / self.stride + 1)
    }

    /// Size of the output where the last window may end behind the padded input (`ceil_mode`). If there
    /// is padding, one that starts behind the input and half of it is left out, as PyTorch and
    /// coremltools do.
    ///
    /// # Errors
    /// If not even such a window fits, or a parameter is zero.
    pub fn output_ceil(&self) -> Result<usize, KernelError> {
        let (padded, extent) = (self.padded()?, self.extent()?);
        let room = padded
            .checked_add(self.stride - 1)
            .and_then(|most| most.checked_sub(extent))
            .ok_or_else(|| too_large(padded, extent))?;
        let (last, padding) = (room / self.stride, self.pad_begin + self.pad_end);
        let beyond = padding > 0
            && last.saturating_mul(self.stride).saturating_mul(2) >= 2 * self.input + padding;
        Ok(last + usize::from(!beyond))
    }

    /// Size of the padded input.
    fn padded(&self) -> Result<usize, KernelError> {
        self.input
            .checked_add(self.pad_begin)
            .and_then(|size| size.checked_add(self.pad_end))
            // Signed positions must be able to reach either end.
            .filter(|&size| size <= isize::MAX.cast_unsigned() / 4)
            .ok_or(OVERFLOW)
    }

    /// From the window's first tap to its last.
    ///
    /// # Errors
    /// If it is beyond what memory can address, or a parameter is zero.
    pub fn extent(&self) -> Result<usize, KernelError> {
        if self.kernel == 0 || self.stride == 0 || self.dilation == 0 {
            let got = (self.kernel, self.stride, self.dilation);
            let expected = "at least 1";
            return Err(KernelError::value(WINDOW, "kernel, stride, dilation", expected, got));
        }
        (self.kernel - 1)
            .checked_mul(self.dilation)
            .and_then(|extent| extent.checked_add(1))
            .ok_or(OVERFLOW)
    }

    /// Fails if `output` windows reach further than positions can be counted.
    pub(crate) fn check_reach(&self, output: usize) -> Result<(), KernelError> {
        let extent = self.extent()?;
        output
            .checked_mul(self.stride)
            .and_then(|last| last.checked_add(extent))
            .and_then(|end| end.checked_add(self.padded().ok()?))
            .filter(|&end| end <= isize::MAX.cast_unsigned() / 2)
            .map_or(Err(OVERFLOW), |_| Ok(()))
    }

    /// The outputs for which `tap` meets the input, and the input of the first of them.
    #[inline(always)]
    pub(crate) fn hits(&self, tap: usize, output: usize) -> (usize, usize, usize) {
        let shift = (tap * self.dilation).cast_signed() - self.pad_begin.cast_signed();
        // Divisions are what would take longest where lines are short.
        let steps = |room: usize| if self.stride == 1 { room } else { room.div_ceil(self.stride) };
        let first = if shift < 0 { steps(shift.unsigned_abs()) } else { 0 };
        let room = (self.input.cast_signed() - shift).max(0).cast_unsigned();
        let end = steps(room).min(output);
        let input = (first * self.stride).cast_signed() + shift;
        (first.min(end), end, input.max(0).cast_unsigned())
    }

    /// The input that `tap` meets at `output`, if it is not padding.
    #[inline(always)]
    pub(crate) fn input_at(&self, tap: usize, output: usize) -> Option<usize> {
        let at = (output * self.stride + tap * self.dilation).checked_sub(self.pad_begin)?;
        (at < self.input).then_some(at)
    }

    /// The taps that meet the input at `output`, and not its padding.
    #[inline(always)]
    pub(crate) fn taps_inside(&self, output: usize) -> Range<usize> {
        let start = output * self.stride;
        let first = self.pad_begin.saturating_sub(start).div_ceil(self.dilation);
        let room = (self.pad_begin + self.input).saturating_sub(start);
        let end = room.div_ceil(self.dilation).min(self.kernel);
        first.min(end)..end
    }

    /// The inputs under the window at `output`, whose taps are neighbours.
    #[inline(always)]
    pub(crate) fn window(&self, output: usize) -> Range<usize> {
        let start = output * self.stride;
        let clipped = |at: usize| at.saturating_sub(self.pad_begin).min(self.input);
        clipped(start)..clipped(start + self.kernel)
    }

    /// How many elements of the input and of its padding are under the window at `output`.
    #[inline(always)]
    pub(crate) fn window_and_padding(&self, output: usize) -> usize {
        let (start, end) = (output * self.stride, self.pad_begin + self.input + self.pad_end);
        (start + self.kernel).min(end).saturating_sub(start)
    }
}

const WINDOW: &str = "window";

const OVERFLOW: KernelError = KernelError::Overflow { kernel: WINDOW, argument: "spatial" };

fn too_large(padded: usize, extent: usize) -> KernelError {
    let expected = format!("at most {padded}, the size of the padded input");
    KernelError::value(WINDOW, "extent", expected, extent)
}

/// One to three values, outermost first, as three.
pub(crate) fn three<T: Copy>(
    kernel: &'static str,
    values: &[T],
    missing: T,
) -> Result<[T; 3], KernelError> {
    if !(1..=3).contains(&values.len()) {
        let (argument, got) = ("number of spatial dimensions", values.len());
        return Err(KernelError::value(kernel, argument, "1 to 3", got));
    }
    let mut three = [missing; 3];
    three[3 - values.len()..].copy_from_slice(values);
    Ok(three)
}

/// The coordinates of a position among `[_, height, width]`.
#[inline(always)]
pub(crate) fn split(position: usize, height: usize, width: usize) -> (usize, usize, usize) {
    (position / (height * width), position / width % height, position % width)
}

/// The lines of `[_, height, width]` that `count` positions from `start` on lie in: the first two
/// coordinates of each, and which of its elements are meant.
#[inline(always)]
pub(crate) fn lines(
    start: usize,
    count: usize,
    height: usize,
    width: usize,
) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
    let (mut z, mut y, mut from) = split(start, height, width);
    let mut left = count;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let length = (width - from).min(left);
        let line = (z, y, from..from + length);
        (left, from, y) = (left - length, 0, y + 1);
        if y == height {
            (z, y) = (z + 1, 0);
        }
        Some(line)
    })
}

/// Calls `each` with the elements of `line` and every `stride`th of `source`, from its first on.
#[inline(always)]
pub(crate) fn zip_strided(
    line: &mut [f32],
    source: &[f32],
    stride: usize,
    each: impl Fn(&mut f32, f32),
) {
    match stride {
        1 => line.iter_mut().zip(source).for_each(|(to, &from)| each(to, from)),
        // Pairs are what the compiler can take apart with vectors.
        2 => {
            let (pairs, rest) = source.as_chunks::<2>();
            let last = line.get_mut(pairs.len()).zip(rest.first());
            if let Some((to, &from)) = last {
                each(to, from);
            }
            line.iter_mut().zip(pairs).for_each(|(to, pair)| each(to, pair[0]));
        }
        _ => {
            let source = source.iter().step_by(stride);
            line.iter_mut().zip(source).for_each(|(to, &from)| each(to, from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIM: SpatialDim =
        SpatialDim { input: 5, kernel: 3, stride: 2, dilation: 1, pad_begin: 0, pad_end: 0 };

    /// PyTorch's `max_pool1d` of these sizes.
    #[test]
    fn outputs_of_windows_that_end_behind_the_input() {
        for (input, kernel, stride, pad, floor, ceil) in [
            (5, 3, 2, 0, 2, 2),
            (6, 3, 2, 0, 2, 3),
            (6, 2, 3, 1, 3, 3),
            (5, 2, 2, 1, 3, 3),
            (7, 2, 3, 1, 3, 3),
            (6, 3, 4, 1, 2, 2),
            (8, 3, 4, 1, 2, 3),
            (10, 3, 3, 1, 4, 4),
        ] {
            let dim = SpatialDim { input, kernel, stride, pad_begin: pad, pad_end: pad, ..DIM };
            assert_eq!(dim.output().unwrap(), floor, "{dim:?}");
            assert_eq!(dim.output_ceil().unwrap(), ceil, "{dim:?}");
        }
        // A part of a window fits, a whole one does not.
        let short = SpatialDim { input: 2, ..DIM };
        assert!(short.output().is_err());
        assert_eq!(short.output_ceil().unwrap(), 1);
        assert!(SpatialDim { input: 1, ..DIM }.output_ceil().is_err());
    }

    #[test]
    fn lines_are_those_of_their_positions() {
        for (start, count) in [(0, 24), (0, 3), (5, 1), (5, 14), (23, 1), (7, 0)] {
            let positions: Vec<_> = lines(start, count, 3, 4)
                .flat_map(|(z, y, columns)| columns.map(move |x| (z, y, x)))
                .collect();
            let expected: Vec<_> = (start..start + count).map(|at| split(at, 3, 4)).collect();
            assert_eq!(positions, expected, "{count} from {start}");
        }
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let huge = usize::MAX / 2;
        for dim in [
            SpatialDim { pad_begin: huge, pad_end: huge, ..DIM },
            SpatialDim { kernel: huge, dilation: huge, ..DIM },
            SpatialDim { stride: 0, ..DIM },
        ] {
            assert!(dim.output().is_err() && dim.output_ceil().is_err(), "{dim:?}");
        }
        assert!(SpatialDim { stride: huge, ..DIM }.check_reach(3).is_err());
        assert!(DIM.check_reach(usize::MAX / 2).is_err());
        assert!(DIM.check_reach(100).is_ok());
    }

    #[test]
    fn strided_sources_of_every_length() {
        for stride in 1..4 {
            for count in 0..6usize {
                for beyond in 0..stride {
                    let length = count.saturating_sub(1) * stride + usize::from(count > 0);
                    let source: Vec<f32> = (0..length + beyond).map(|i| i as f32).collect();
                    let mut line = vec![0.5; count];
                    zip_strided(&mut line, &source, stride, |to, from| *to += from);
                    let expected: Vec<f32> =
                        (0..count).map(|i| (i * stride) as f32 + 0.5).collect();
                    assert_eq!(line, expected, "{stride} {count} {beyond}");
                }
            }
        }
    }
}
