//! Rotary position embedding.

use crate::arch::compiled::{self, Loop};
use crate::attention::Heads;
use crate::context::Context;
use crate::error::{KernelError, check_len, product};
use crate::thresholds;

const KERNEL: &str = "rotate_half";

/// `x · cos + turned · sin` in place, for rows of `width` values: the `turned` row has the second half of `x`,
/// negated, before the first one. `rows` are the sizes of the axes before that of a row; where the sizes and
/// the steps of `cos` and `sin` have it so, several rows share theirs. Divided among threads if large.
///
/// # Errors
/// If a row has no two halves, the sizes are not those of `values`, or `cos` or `sin` ends before its rows do.
pub fn rotate_half(
    ctx: &Context,
    values: &mut [f32],
    rows: &[usize],
    width: usize,
    cos: Heads<&[f32]>,
    sin: Heads<&[f32]>,
) -> Result<(), KernelError> {
    if !width.is_multiple_of(2) {
        return Err(KernelError::value(KERNEL, "width", width + 1, width));
    }
    let count = product(KERNEL, "rows", &[product(KERNEL, "rows", rows)?, width])?;
    check_len(KERNEL, "values", count, values.len())?;
    cos.check(KERNEL, "cos", cos.data.len(), rows, (1, width))?;
    sin.check(KERNEL, "sin", sin.data.len(), rows, (1, width))?;
    if cos.col != 1 || sin.col != 1 {
        return Err(KernelError::value(KERNEL, "col", 1, cos.col.max(sin.col)));
    }
    ctx.workers().for_each_row_mut(values, width, thresholds::ELEMENTWISE, |index, row| {
        let of = |factors: &Heads<&'_ [f32]>| factors.start(rows, index)..;
        let (cos, sin) = (&cos.data[of(&cos)][..width], &sin.data[of(&sin)][..width]);
        compiled::run(ctx.isa(), Rotation { row, cos, sin });
    });
    Ok(())
}

/// A row with its factors, as long as it is.
struct Rotation<'a> {
    row: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Loop for Rotation<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let half = self.row.len() / 2;
        let (first, second) = self.row.split_at_mut(half);
        let (cos, cos_of_second) = self.cos.split_at(half);
        let (sin, sin_of_second) = self.sin.split_at(half);
        let factors = cos.iter().zip(sin).zip(cos_of_second.iter().zip(sin_of_second));
        for ((x, y), ((cos, sin), (cos_y, sin_y))) in first.iter_mut().zip(second).zip(factors) {
            (*x, *y) = (*x * cos - *y * sin, *y * cos_y + *x * sin_y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Workers;
    use crate::isa::Isa;

    fn numbers(count: usize, factor: usize) -> Vec<f32> {
        (0..count).map(|i| (i * factor % 101) as f32 / 50.0 - 1.0).collect()
    }

    proptest::proptest! {
        /// The definition, which rounds each product and the sum, bit for bit: factors that all heads share,
        /// and factors that are one row's.
        #[test]
        fn rows_are_those_of_the_definition(
            heads in 0usize..4,
            positions in 1usize..90,
            half in 1usize..40,
        ) {
            let width = 2 * half;
            let x = numbers(heads * positions * width, 37);
            let (cos, sin) = (numbers(positions * width, 11), numbers(width, 23));
            let turned = |row: usize, i: usize| match i < half {
                true => -x[row * width + i + half],
                false => x[row * width + i - half],
            };
            let at = |place: usize| {
                let (row, i) = (place / width, place % width);
                x[place] * cos[row % positions * width + i] + turned(row, i) * sin[i]
            };
            let expected: Vec<u32> = (0..x.len()).map(|place| at(place).to_bits()).collect();
            for isa in Isa::available() {
                let ctx = Context::with_isa(Workers::new(2).unwrap(), isa);
                let mut got = x.clone();
                let cos = Heads { data: &cos[..], batch: &[0, width], row: 0, col: 1 };
                let sin = Heads { data: &sin[..], batch: &[0, 0], row: 0, col: 1 };
                rotate_half(&ctx, &mut got, &[heads, positions], width, cos, sin).unwrap();
                let got: Vec<u32> = got.iter().map(|x| x.to_bits()).collect();
                proptest::prop_assert!(got == expected, "{}", isa.name());
            }
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_errors() {
        let ctx = Context::new(Workers::serial());
        let run = |len: usize, width: usize, factors: usize, col: usize| {
            let data = vec![1.0; factors];
            let heads = Heads { data: &data[..], batch: &[width], row: 0, col };
            rotate_half(&ctx, &mut vec![0.0; len], &[2], width, heads, heads)
        };
        assert!(run(8, 4, 8, 1).is_ok());
        assert!(run(6, 3, 8, 1).is_err());
        assert!(run(7, 4, 8, 1).is_err());
        assert!(run(8, 4, 7, 1).is_err());
        assert!(run(8, 4, 99, 2).is_err());
    }
}
