//! Which keys queries see: those that a mask hides cost nothing.

use std::ops::Range;

use super::{Heads, Mask};
use crate::arch::compiled::{self, Loop};
use crate::isa::Isa;

/// How far below the largest number of its row in a mask one has to be for the key's weight to be 0,
/// where scores are of any size.
pub(super) const ANY_SCORES: f32 = f32::INFINITY;

/// The same where no score is larger than `most` on either side: two scores are at most twice that
/// apart, `e^x` is 0 in single precision from −104 on, and the rest is for rounding, of products among
/// others.
pub(super) fn depth(most: f32) -> f32 {
    2.1 * most + 128.0
}

/// The smallest range of the columns of a mask outside which no row of some sees a key: the weights
/// there are 0, exactly. A row starts at each of the places.
pub(super) fn range(
    isa: Isa,
    mask: &Heads<Mask>,
    rows: impl Iterator<Item = usize>,
    columns: usize,
    depth: f32,
) -> Range<usize> {
    let mut all = columns..0;
    for start in rows {
        let seen = match mask.data {
            Mask::Bool(values) => {
                compiled::run(isa, Bools { values: &values[start..], step: mask.col, columns })
            }
            Mask::Float(values) => {
                let values = &values[start..];
                compiled::run(isa, Floats { values, step: mask.col, columns, depth })
            }
        };
        if !seen.is_empty() {
            all = all.start.min(seen.start)..all.end.max(seen.end);
        }
    }
    all
}

/// A row of bools.
struct Bools<'a> {
    values: &'a [u8],
    step: usize,
    columns: usize,
}

impl Loop for Bools<'_> {
    type Output = Range<usize>;

    #[inline(always)]
    fn run(self) -> Range<usize> {
        extent(self.values, self.step, self.columns, |seen| seen != 0)
    }
}

/// A row of numbers that are added to scores.
struct Floats<'a> {
    values: &'a [f32],
    step: usize,
    columns: usize,
    depth: f32,
}

impl Loop for Floats<'_> {
    type Output = Range<usize>;

    #[inline(always)]
    fn run(self) -> Range<usize> {
        let Floats { values, step, columns, depth } = self;
        let mut least = f32::NEG_INFINITY;
        if depth < f32::INFINITY {
            let each = values.iter().step_by(step.max(1)).take(if step == 0 { 1 } else { columns });
            let most = each.fold(f32::NEG_INFINITY, |most, &added| most.max(added));
            // Large numbers are rounded more coarsely.
            least = most - depth - most.abs() * 1e-6;
        }
        // NaN is not less than anything: it is seen, as the results tell.
        extent(values, step, columns, |added| !(added == f32::NEG_INFINITY || added < least))
    }
}

/// Columns that are looked at together.
const CHUNK: usize = 64;

/// From the first column that is seen to the last one.
#[inline(always)]
fn extent<T: Copy>(
    values: &[T],
    step: usize,
    columns: usize,
    seen: impl Fn(T) -> bool,
) -> Range<usize> {
    if step != 1 {
        let at = |column: &usize| seen(values[column * step]);
        let first = (0..columns).find(at).unwrap_or(columns);
        return first..(first..columns).rev().find(at).map_or(first, |last| last + 1);
    }
    let values = &values[..columns];
    // Without a way out in the middle of a chunk, the compiler takes it in a few vectors.
    let any = |chunk: &[T]| chunk.iter().fold(false, |any, &value| any | seen(value));
    let skipped = values.chunks(CHUNK).take_while(|chunk| !any(chunk)).map(<[T]>::len).sum();
    let within = |rest: &[T]| rest.iter().position(|&value| seen(value)).unwrap_or(rest.len());
    let first = skipped + within(&values[skipped..]);
    let rest = &values[first..];
    let skipped: usize = rest.rchunks(CHUNK).take_while(|chunk| !any(chunk)).map(<[T]>::len).sum();
    let rest = &rest[..rest.len() - skipped];
    first..first + rest.iter().rposition(|&value| seen(value)).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads<'a, D>(data: D, col: usize) -> Heads<'a, D> {
        Heads { data, batch: &[], row: 0, col }
    }

    fn of_floats(values: &[f32], step: usize, columns: usize, depth: f32) -> Range<usize> {
        let all: Vec<Range<usize>> = Isa::available()
            .into_iter()
            .map(|isa| {
                let mask = heads(Mask::Float(values), step);
                range(isa, &mask, std::iter::once(0), columns, depth)
            })
            .collect();
        assert!(all.iter().all(|range| *range == all[0]), "{all:?}");
        all[0].clone()
    }

    proptest::proptest! {
        #[test]
        fn the_range_is_what_is_seen(
            columns in 0usize..300,
            first in 0usize..300,
            last in 0usize..300,
            step in 1usize..3,
        ) {
            let seen = |column: usize| column == first || column == last;
            let count = columns * step;
            let bools: Vec<u8> =
                (0..count).map(|i| u8::from(i % step == 0 && seen(i / step))).collect();
            let expected: Vec<usize> = (0..columns).filter(|&column| seen(column)).collect();
            let expected = expected.first().map_or(0..0, |&first| first..expected[expected.len() - 1] + 1);
            for isa in Isa::available() {
                let mask = heads(Mask::Bool(&bools), step);
                let got = range(isa, &mask, std::iter::once(0), columns, ANY_SCORES);
                proptest::prop_assert!(got == expected || got.is_empty() && expected.is_empty());
            }
            let floats: Vec<f32> =
                bools.iter().map(|&seen| if seen == 0 { f32::NEG_INFINITY } else { 0.5 }).collect();
            let got = of_floats(&floats, step, columns, ANY_SCORES);
            proptest::prop_assert!(got == expected || got.is_empty() && expected.is_empty());
            let finite: Vec<f32> =
                bools.iter().map(|&seen| if seen == 0 { -1e4 } else { 0.5 }).collect();
            let got = of_floats(&finite, step, columns, depth(100.0));
            // Where nothing is seen, all numbers are the same, and so are the weights.
            let expected = if expected.is_empty() { 0..columns } else { expected };
            proptest::prop_assert!(got == expected || got.is_empty() && expected.is_empty());
        }
    }

    #[test]
    fn rows_are_put_together() {
        let floats = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0, 0.0];
        let mask = heads(Mask::Float(&floats), 1);
        for isa in Isa::available() {
            assert_eq!(range(isa, &mask, [0, 3].into_iter(), 3, ANY_SCORES), 1..3);
            assert!(range(isa, &mask, [2].into_iter(), 2, ANY_SCORES).is_empty());
        }
    }

    #[test]
    fn finite_numbers_hide_a_key_only_where_scores_cannot_reach_it() {
        let mask = [-200.0, 0.0, -1e4, f32::NEG_INFINITY];
        assert_eq!(of_floats(&mask, 1, 4, ANY_SCORES), 0..3);
        assert_eq!(of_floats(&mask, 1, 4, depth(0.0)), 1..2);
        assert_eq!(of_floats(&mask, 1, 4, depth(100.0)), 0..2);
        assert_eq!(of_floats(&mask, 1, 4, depth(1e4)), 0..3);
        assert_eq!(of_floats(&mask, 1, 4, depth(f32::INFINITY)), 0..3);
        // Numbers so large that rounding joins those that are near each other.
        let large = [-1e9, -1e9 - 500.0, -2e9];
        assert_eq!(of_floats(&large, 1, 3, depth(0.0)), 0..2);
        assert_eq!(of_floats(&[-1e4, f32::NAN, 0.0, -1e4], 1, 4, depth(0.0)), 1..3);
        assert_eq!(of_floats(&[-1e4, f32::INFINITY, 0.0], 1, 3, depth(0.0)), 0..3);
        // One number for all columns.
        assert_eq!(of_floats(&[-1e4], 0, 3, depth(0.0)), 0..3);
        assert!(of_floats(&[f32::NEG_INFINITY], 0, 3, depth(0.0)).is_empty());
    }
}
