//! Tensors stretched or shrunk along their last axes.

use crate::arch::compiled::{self, Loop};
use crate::context::Context;
use crate::error::{KernelError, check_len, product};
use crate::thresholds;

const KERNEL: &str = "resize";

/// The most axes that are resized at once: a row of the result may be made of two rows of the input for
/// each of them but the last, all combined.
pub const MOST_AXES: usize = 8;

/// Where an element of the result lies on an axis of the input.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tap {
    /// The element before.
    first: usize,
    /// The element behind.
    second: usize,
    /// How much the one behind counts, from 0 to 1; the other one counts the rest.
    weight: f32,
}

/// One axis that is resized: the size of the input, and where each element of the result lies on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    input: usize,
    taps: Vec<Tap>,
    /// Whether the result is the input.
    whole: bool,
}

impl Axis {
    /// Elements at places from 0 to `input - 1`; those between two elements of the input are a mixture.
    ///
    /// # Errors
    /// If there are places on an axis without elements.
    pub fn linear(input: usize, places: impl Iterator<Item = f32>) -> Result<Self, KernelError> {
        Self::new(input, places, |place, last| {
            let first = (place as usize).min(last);
            Tap {
                first,
                second: (first + 1).min(last),
                weight: (place - first as f32).clamp(0.0, 1.0),
            }
        })
    }

    /// The elements that are nearest to places from 0 to `input - 1`; of two the one behind.
    ///
    /// # Errors
    /// If there are places on an axis without elements.
    pub fn nearest(input: usize, places: impl Iterator<Item = f32>) -> Result<Self, KernelError> {
        Self::before(input, places.map(|place| place + 0.5))
    }

    /// The elements at places from 0 to `input - 1`, or before them.
    ///
    /// # Errors
    /// If there are places on an axis without elements.
    pub fn before(input: usize, places: impl Iterator<Item = f32>) -> Result<Self, KernelError> {
        Self::new(input, places, |place, last| {
            let first = (place as usize).min(last);
            Tap { first, second: first, weight: 0.0 }
        })
    }

    fn new(
        input: usize,
        places: impl Iterator<Item = f32>,
        tap: impl Fn(f32, usize) -> Tap,
    ) -> Result<Self, KernelError> {
        let last = input.saturating_sub(1);
        let taps: Vec<Tap> = places.map(|place| tap(place, last)).collect();
        if input == 0 && !taps.is_empty() {
            let expected = "an axis with elements";
            return Err(KernelError::value(KERNEL, "x", expected, "an axis without any"));
        }
        let same = |(at, tap): (usize, &Tap)| tap.weight == 0.0 && tap.first == at;
        let whole = taps.len() == input && taps.iter().enumerate().all(same);
        Ok(Self { input, taps, whole })
    }

    /// Size of the result.
    pub fn output(&self) -> usize {
        self.taps.len()
    }
}

/// Linear interpolation along the last axes of `x`; the others are batches. A neighbour that does not
/// count is not looked at, be it infinite.
///
/// # Errors
/// If there are more than [`MOST_AXES`] axes or none, or the slices do not have the sizes that these call for.
pub fn linear(ctx: &Context, axes: &[Axis], x: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
    let Some(plan) = Plan::new(axes, x.len(), out.len())? else { return Ok(()) };
    let rows = plan.rows_of_a_task(out.len());
    ctx.workers().try_for_each_chunk_mut(out, rows * plan.row_out(), |task, out| {
        let mut mixed = ctx.scratch().take(plan.row_in())?;
        for (row, out) in (task * rows..).zip(out.chunks_exact_mut(plan.row_out())) {
            compiled::run(ctx.isa(), Mix { plan: &plan, row, x, mixed: &mut mixed, out });
        }
        Ok(())
    })
}

/// As [`linear`], of elements of any type that are not changed: of each tap the first one.
///
/// # Errors
/// As [`linear`].
pub fn nearest<T: Copy + Send + Sync>(
    ctx: &Context,
    axes: &[Axis],
    x: &[T],
    out: &mut [T],
) -> Result<(), KernelError> {
    let Some(plan) = Plan::new(axes, x.len(), out.len())? else { return Ok(()) };
    let rows = plan.rows_of_a_task(out.len());
    let (row_in, row_out) = (plan.row_in(), plan.row_out());
    ctx.workers().for_each_chunk_mut(out, rows * row_out, |task, out| {
        let mut before = None;
        for row in 0..out.len() / row_out {
            let (done, rest) = out.split_at_mut(row * row_out);
            let out = &mut rest[..row_out];
            let start = plan.source(task * rows + row, 0).0;
            if before == Some(start) {
                out.copy_from_slice(&done[done.len() - row_out..]);
                continue;
            }
            before = Some(start);
            let source = &x[start..start + row_in];
            if plan.last.whole {
                out.copy_from_slice(source);
            } else {
                out.iter_mut().zip(&plan.last.taps).for_each(|(out, tap)| *out = source[tap.first]);
            }
        }
    });
    Ok(())
}

/// The axes of a call, whose slices have the sizes that they call for.
struct Plan<'a> {
    outer: &'a [Axis],
    last: &'a Axis,
}

impl<'a> Plan<'a> {
    /// None if the result has no elements.
    fn new(axes: &'a [Axis], x: usize, out: usize) -> Result<Option<Self>, KernelError> {
        let Some((last, outer)) = axes.split_last().filter(|_| axes.len() <= MOST_AXES) else {
            let expected = format!("1 to {MOST_AXES} axes");
            return Err(KernelError::value(KERNEL, "axes", expected, axes.len()));
        };
        let mut sizes = [[1; 2]; MOST_AXES];
        for (sizes, axis) in sizes.iter_mut().zip(axes) {
            *sizes = [axis.input, axis.output()];
        }
        let each_in = product(KERNEL, "x", &sizes.map(|size| size[0]))?;
        let each_out = product(KERNEL, "out", &sizes.map(|size| size[1]))?;
        if out == 0 {
            return Ok(None);
        }
        // Were one of the products 0, there would be no result.
        let batch = out.checked_div(each_out).unwrap_or(0);
        check_len(KERNEL, "out", product(KERNEL, "out", &[batch, each_out])?, out)?;
        check_len(KERNEL, "x", product(KERNEL, "x", &[batch, each_in])?, x)?;
        Ok(Some(Self { outer, last }))
    }

    fn row_in(&self) -> usize {
        self.last.input
    }

    fn row_out(&self) -> usize {
        self.last.output()
    }

    /// How many rows of the result make a task.
    fn rows_of_a_task(&self, values: usize) -> usize {
        let values =
            if values < thresholds::RESIZE { values } else { thresholds::task(thresholds::RESIZE) };
        (values / self.row_out()).max(1)
    }

    /// The start of a row of the input, and how much it counts for row `row` of the result: bit `i` of
    /// `behind` says whether it lies behind the place on the `i`th axis from the end, or before.
    #[inline(always)]
    fn source(&self, row: usize, behind: usize) -> (usize, f32) {
        let (mut rest, mut start, mut step, mut weight) = (row, 0, self.last.input, 1.0);
        for (bit, axis) in self.outer.iter().rev().enumerate() {
            let tap = &axis.taps[rest % axis.taps.len()];
            rest /= axis.taps.len();
            let (place, part) = match behind >> bit & 1 {
                0 => (tap.first, 1.0 - tap.weight),
                _ => (tap.second, tap.weight),
            };
            start += place * step;
            step *= axis.input;
            weight *= part;
        }
        (start + rest * step, weight)
    }
}

/// One row of a result.
struct Mix<'a> {
    plan: &'a Plan<'a>,
    row: usize,
    x: &'a [f32],
    /// Room for a row of the input's size.
    mixed: &'a mut [f32],
    out: &'a mut [f32],
}

impl Loop for Mix<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Mix { plan, row, x, mixed, out } = self;
        let last = plan.last;
        let mut sources = (0..1usize << plan.outer.len())
            .map(|behind| plan.source(row, behind))
            .filter(|&(_, weight)| weight != 0.0);
        let Some((start, weight)) = sources.next() else { return };
        let first = &x[start..start + last.input];
        if weight == 1.0 {
            return if last.whole {
                out.copy_from_slice(first)
            } else {
                along(&last.taps, first, out)
            };
        }
        let to = if last.whole { &mut *out } else { &mut *mixed };
        to.iter_mut().zip(first).for_each(|(to, x)| *to = weight * x);
        for (start, weight) in sources {
            let more = &x[start..start + last.input];
            to.iter_mut().zip(more).for_each(|(to, x)| *to += weight * x);
        }
        if !last.whole {
            along(&last.taps, mixed, out);
        }
    }
}

/// Interpolates along a row.
#[inline(always)]
fn along(taps: &[Tap], row: &[f32], out: &mut [f32]) {
    for (out, tap) in out.iter_mut().zip(taps) {
        let (first, second) = (row[tap.first], row[tap.second]);
        let mixed = (1.0 - tap.weight) * first + tap.weight * second;
        *out = if tap.weight == 0.0 { first } else { mixed };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::context::Workers;
    use crate::isa::Isa;

    /// An axis of `input` elements and places on it.
    fn axes() -> impl Strategy<Value = Vec<(usize, Vec<f32>)>> {
        let axis = (1usize..6).prop_flat_map(|input| {
            let place = (0..=4 * (input - 1)).prop_map(|quarters| quarters as f32 / 4.0);
            (Just(input), prop::collection::vec(place, 1..9))
        });
        prop::collection::vec(axis, 1..4)
    }

    /// The value at a place of a tensor, by the mixture of its two neighbours along the first axis.
    fn at(axes: &[(usize, Vec<f32>)], x: &[f32], place: &[f32]) -> f32 {
        let Some((&first, rest)) = place.split_first() else { return x[0] };
        let step = x.len() / axes[0].0;
        let part = |index: usize| at(&axes[1..], &x[index * step..][..step], rest);
        let (index, weight) = (first as usize, first.fract());
        if weight == 0.0 {
            part(index)
        } else {
            (1.0 - weight) * part(index) + weight * part(index + 1)
        }
    }

    fn places(axes: &[(usize, Vec<f32>)]) -> Vec<Vec<f32>> {
        axes.iter().fold(vec![Vec::new()], |outer, (_, places)| {
            let longer = |place: &Vec<f32>| {
                let place = place.clone();
                places.iter().map(move |&last| [place.as_slice(), &[last]].concat())
            };
            outer.iter().flat_map(longer).collect()
        })
    }

    proptest! {
        #[test]
        fn values_are_those_at_the_places(axes in axes(), batch in 1usize..3) {
            let each: usize = axes.iter().map(|axis| axis.0).product();
            // Multiples of 64, of which no mixture of quarters is rounded.
            let x: Vec<f32> = (0..batch * each).map(|i| (i * 7 % 23) as f32 * 64.0).collect();
            let expected: Vec<f32> = x
                .chunks(each)
                .flat_map(|x| places(&axes).into_iter().map(|place| at(&axes, x, &place)))
                .collect();
            let near: Vec<f32> = x
                .chunks(each)
                .flat_map(|x| {
                    let round = |place: Vec<f32>| place.iter().map(|p| (p + 0.5).floor()).collect::<Vec<_>>();
                    places(&axes).into_iter().map(move |place| (x, round(place)))
                })
                .map(|(x, place)| at(&axes, x, &place))
                .collect();
            for isa in Isa::available() {
                let ctx = Context::with_isa(Workers::shared(), isa);
                let mut out = vec![f32::NAN; expected.len()];
                let taps: Vec<Axis> = axes
                    .iter()
                    .map(|(input, places)| Axis::linear(*input, places.iter().copied()).unwrap())
                    .collect();
                linear(&ctx, &taps, &x, &mut out).unwrap();
                prop_assert_eq!(&out, &expected);
                let taps: Vec<Axis> = axes
                    .iter()
                    .map(|(input, places)| Axis::nearest(*input, places.iter().copied()).unwrap())
                    .collect();
                nearest(&ctx, &taps, &x, &mut out).unwrap();
                prop_assert_eq!(&out, &near);
            }
        }
    }

    fn doubled(size: usize) -> Axis {
        Axis::linear(
            size,
            (0..2 * size).map(|i| i as f32 * (size - 1) as f32 / (2 * size - 1) as f32),
        )
        .unwrap()
    }

    #[test]
    fn large_images_are_divided_among_threads() {
        let axes = [doubled(151), doubled(97)];
        let x: Vec<f32> = (0..3 * 151 * 97).map(|i| (i as f32).sin()).collect();
        let run = |workers| {
            let mut out = vec![0.0; 4 * x.len()];
            linear(&Context::new(workers), &axes, &x, &mut out).unwrap();
            let mut near = vec![0.0; 4 * x.len()];
            nearest(&Context::new(Workers::new(3).unwrap()), &axes, &x, &mut near).unwrap();
            (out, near)
        };
        assert_eq!(run(Workers::serial()), run(Workers::new(3).unwrap()));
    }

    #[test]
    fn neighbours_that_do_not_count_do_not_matter() {
        let ctx = Context::new(Workers::serial());
        let axis = Axis::linear(3, [0.0, 1.0, 2.0, 1.5].into_iter()).unwrap();
        let mut out = [0.0; 8];
        let column = Axis::linear(2, [0.0, 1.0].into_iter()).unwrap();
        let x = [f32::INFINITY, 1.0, 2.0, 3.0, 4.0, f32::NAN];
        linear(&ctx, &[column, axis], &x, &mut out).unwrap();
        assert_eq!(out[..6], [f32::INFINITY, 1.0, 2.0, 1.5, 3.0, 4.0]);
        assert!(out[6].is_nan() && out[7].is_nan());
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let ctx = Context::new(Workers::serial());
        let axis = doubled(2);
        assert!(linear(&ctx, &[], &[], &mut []).is_err());
        assert!(linear(&ctx, &vec![axis.clone(); 9], &[], &mut []).is_err());
        assert!(linear(&ctx, std::slice::from_ref(&axis), &[0.0; 3], &mut [0.0; 4]).is_err());
        assert!(linear(&ctx, std::slice::from_ref(&axis), &[0.0; 2], &mut [0.0; 5]).is_err());
        assert!(Axis::linear(0, [0.0].into_iter()).is_err());
        let none = Axis::linear(2, std::iter::empty()).unwrap();
        assert!(linear(&ctx, &[none], &[0.0; 2], &mut []).is_ok());
    }
}
