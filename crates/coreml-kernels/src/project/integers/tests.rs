use half::f16;
use proptest::prelude::*;

use super::*;
use crate::context::Workers;
use crate::project::tests::{dense, halves, noise, stream};
use crate::project::{ColumnLayout, OutputLayout, project, project_rows};
use crate::weights::Weights;

/// Products with columns that lie one after the other, row after row of each.
fn products(ctx: &Context, numerics: Numerics, w: &Weights, x: &[f32]) -> Vec<f32> {
    let count = x.len() / w.cols;
    let mut out = vec![f32::NAN; w.rows * count];
    let from = ColumnLayout { stride_k: 1, stride_s: w.cols };
    let to = OutputLayout { stride_n: 1, stride_s: w.rows };
    project(ctx, numerics, w, x, from, count, None, &mut out, to).unwrap();
    out
}

/// The sets whose products with so many columns are of integers.
fn contexts(w: &Weights, count: usize) -> impl Iterator<Item = Context> {
    let (bits, table) = match w.encoding {
        Encoding::Palettized(p) => (p.bits, true),
        Encoding::Blockwise(b) => (b.bits, false),
        _ => panic!("compressed weights"),
    };
    let fast = move |isa: &Isa| arch::has_fast_integers(*isa, bits, table, count);
    let contexts = Isa::available().into_iter().filter(fast);
    contexts.map(|isa| Context::with_isa(Workers::shared(), isa))
}

fn bits_of(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn palettized<'a>(
    (rows, cols): (usize, usize),
    bits: u8,
    indices: &'a [u8],
    lut: Table<'a>,
    rows_per_group: usize,
) -> Weights<'a> {
    let p = Palettized { bits, indices, lut, rows_per_group, cols_per_group: cols };
    Weights { rows, cols, encoding: Encoding::Palettized(p) }
}

/// Words without any pattern: SplitMix64. Errors average out as they do in a model only in such.
fn words(count: usize, seed: u64) -> impl Iterator<Item = u64> {
    (0..count as u64).map(move |i| {
        let word = (seed << 32 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    })
}

/// Bytes of such words.
fn bytes(count: usize, seed: u64) -> Vec<u8> {
    words(count, seed).map(|word| word as u8).collect()
}

/// Normally distributed values: sums of twelve.
fn normal(count: usize, seed: u64) -> Vec<f32> {
    let values: Vec<f32> = words(12 * count, seed).map(|word| (word >> 40) as f32).collect();
    values.chunks(12).map(|values| values.iter().sum::<f32>() / (1u32 << 24) as f32 - 6.0).collect()
}

/// The root mean square of `got - exact` relative to that of `exact`.
fn error(got: &[f32], exact: &[f64]) -> f64 {
    let difference = got.iter().zip(exact).map(|(got, exact)| (f64::from(*got) - exact).powi(2));
    let size = exact.iter().map(|exact| exact * exact);
    (difference.sum::<f64>() / size.sum::<f64>()).sqrt()
}

/// Exact products with one column.
fn exact_products(w: &Weights, x: &[f32]) -> Vec<f64> {
    let dot = |row: &[f64]| row.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum();
    dense(w).chunks(w.cols).map(dot).collect()
}

/// Checks the bounds that [`crate::fixed`] states, and that products with columns rounded to half precision
/// are less exact.
fn check_errors(w: &Weights) {
    let plain = normal(w.cols, 5);
    let mut outliers = plain.clone();
    outliers.iter_mut().skip(50).step_by(100).for_each(|value| *value *= 10.0);
    for (x, bound) in [(plain, 5e-5), (outliers, 1e-4)] {
        let exact = exact_products(w, &x);
        let rounded: Vec<f32> = halves(&x).iter().map(|x| x.to_f32()).collect();
        for ctx in contexts(w, 1) {
            let got = error(&products(&ctx, Numerics::Halves, w, &x), &exact);
            let of_halves = error(&products(&ctx, Numerics::Strict, w, &rounded), &exact);
            assert!(got <= bound, "{:?}: {got}", w.cols);
            assert!(got < of_halves, "{:?}: {got}, with columns of halves {of_halves}", w.cols);
        }
    }
}

#[test]
fn errors_of_tables() {
    for bits in [1u8, 2, 3, 4, 6, 8] {
        for cols in [192, 1024, 3072] {
            let rows = 256;
            let lut = halves(&normal((rows / 8) << bits, 2));
            let indices = bytes(rows * cols * usize::from(bits) / 8, 3);
            check_errors(&palettized((rows, cols), bits, &indices, Table::F16(&lut), 8));
        }
    }
}

fn blockwise<'a>(
    (rows, cols): (usize, usize),
    (bits, signed): (u8, bool),
    data: &'a [u8],
    (scale, offset): (Table<'a>, Option<Table<'a>>),
    (rows_per_block, cols_per_block): (usize, usize),
) -> Weights<'a> {
    let rounded = false;
    let b =
        Blockwise { bits, signed, data, scale, offset, rows_per_block, cols_per_block, rounded };
    Weights { rows, cols, encoding: Encoding::Blockwise(b) }
}

/// The same weights, rounded to half precision.
fn rounded<'a>(w: &Weights<'a>) -> Weights<'a> {
    let Encoding::Blockwise(b) = w.encoding else { panic!("blockwise weights") };
    Weights { encoding: Encoding::Blockwise(Blockwise { rounded: true, ..b }), ..*w }
}

/// Also where the program rounds weights: those errors come on top in the strict products.
#[test]
fn errors_of_scaled_integers() {
    for (bits, block) in [(8, 1024), (8, 64), (4, 32), (4, 16), (2, 4), (6, 128)] {
        for cols in [1024, 3072] {
            let (rows, block) = (256, if block == 1024 { cols } else { block });
            let scale: Vec<f16> = halves(&normal(rows * cols / block, 2));
            let data = bytes(rows * cols * usize::from(bits) / 8, 3);
            let scales = (Table::F16(&scale), None);
            let w = blockwise((rows, cols), (bits, true), &data, scales, (1, block));
            check_errors(&w);
            let x = normal(cols, 5);
            for ctx in contexts(&w, 1) {
                let got = products(&ctx, Numerics::Halves, &w, &x);
                let of_rounded = products(&ctx, Numerics::Halves, &rounded(&w), &x);
                assert_eq!(bits_of(&got), bits_of(&of_rounded));
            }
        }
    }
}

/// Checks that the products with several columns are those with each, on all sets, and close to exact ones.
fn check(w: &Weights, count: usize) -> Result<(), TestCaseError> {
    let x = noise(w.cols * count, 7);
    let exact = dense(w);
    let mut first = None;
    for ctx in contexts(w, count) {
        let got = products(&ctx, Numerics::Halves, w, &x);
        let columns = x.chunks_exact(w.cols);
        let each: Vec<f32> =
            columns.clone().flat_map(|x| products(&ctx, Numerics::Halves, w, x)).collect();
        prop_assert_eq!(bits_of(&got), bits_of(&each));
        let first = first.get_or_insert_with(|| bits_of(&got));
        prop_assert_eq!(first, &bits_of(&got));
        for (s, (x, got)) in columns.zip(got.chunks_exact(w.rows)).enumerate() {
            for (n, got) in got.iter().enumerate() {
                let row = &exact[n * w.cols..][..w.cols];
                let term = |(w, x): (&f64, &f32)| w * f64::from(*x);
                let expected: f64 = row.iter().zip(x).map(term).sum();
                // The table's values and those of the column are below 1.
                let bound = 3e-5 * w.cols as f64;
                let error = (f64::from(*got) - expected).abs();
                prop_assert!(error <= bound, "row {n}, column {s}: {got}, expected {expected}");
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn tables(bits in prop::sample::select(vec![1u8, 2, 3, 4, 6, 8]),
              groups in 1usize..4, rows_per_group in 1usize..9, eighths in 1usize..300,
              count in 1usize..9, half in any::<bool>()) {
        let (rows, cols) = (groups * rows_per_group, 8 * eighths);
        let wide = noise(groups << bits, 3);
        let small = halves(&wide);
        let lut = if half { Table::F16(&small) } else { Table::F32(&wide) };
        let indices = stream(rows * cols, bits);
        check(&palettized((rows, cols), bits, &indices, lut, rows_per_group), count)?;
    }

    #[test]
    fn scaled_integers(bits in prop::sample::select(vec![1u8, 2, 3, 4, 6, 8]), signed in any::<bool>(),
                       row_blocks in 1usize..40, rows_per_block in 1usize..4,
                       block in prop::sample::select(vec![4usize, 8, 16, 32, 64, 128, 192, 576]),
                       blocks in 1usize..6, whole in any::<bool>(),
                       count in 1usize..9, half in any::<bool>(), shifted in any::<bool>()) {
        let (rows, cols) = (row_blocks * rows_per_block, (blocks * block).next_multiple_of(8));
        let block = if whole || !cols.is_multiple_of(block) { cols } else { block };
        let blocks = row_blocks * (cols / block);
        let wide: Vec<f32> = noise(blocks, 3).iter().map(|v| v / f32::from(bits).exp2()).collect();
        let offsets: Vec<f32> = (0..blocks).map(|i| i as f32 % 3.0 - 0.5).collect();
        let (small, small_offsets) = (halves(&wide), halves(&offsets));
        let (scale, offset) = if half {
            (Table::F16(&small), Table::F16(&small_offsets))
        } else {
            (Table::F32(&wide), Table::F32(&offsets))
        };
        let data = stream(rows * cols, bits);
        let scales = (scale, shifted.then_some(offset));
        check(&blockwise((rows, cols), (bits, signed), &data, scales, (rows_per_block, block)), count)?;
    }

    #[test]
    fn scaled_integers_as_the_generic_twin(
        bits in prop::sample::select(vec![1u8, 2, 3, 4, 6, 8]), signed in any::<bool>(),
        rows in 1usize..5, blocks in 1usize..20, count in 1usize..9, all in any::<bool>(),
        block in prop::sample::select(vec![8usize, 16, 32, 64, 128]),
    ) {
        let cols = blocks * block;
        let x = noise(cols * count, 7);
        let data = stream(rows * cols, bits);
        let packed =
            PackedRows { bits, packed: &data, stride: cols / 8 * usize::from(bits), count: cols };
        let (values, zeros) = (noise(rows * blocks + LANES, 8), noise(rows * blocks + LANES, 9));
        let zeros = if all { Zeros::All(zeros[0]) } else { Zeros::Each(&zeros) };
        let scales = FixedScales { scales: &values, zeros, block, rows: (1, 0) };
        let run = |isa: Isa| {
            let ctx = Context::with_isa(Workers::serial(), isa);
            let columns = Matrix::row_major(&x, count, cols);
            let columns = FixedColumns::new(&ctx, columns).unwrap().unwrap();
            let mut out = vec![f32::NAN; rows * count];
            arch::dot_scaled(isa, &packed, signed, &scales, &columns, &mut out);
            bits_of(&out)
        };
        let generic = run(Isa::Generic);
        for isa in Isa::available() {
            prop_assert_eq!(&run(isa), &generic, "{}", isa.name());
        }
    }

    #[test]
    fn tables_as_the_generic_twin(bits in prop::sample::select(vec![1u8, 2, 3, 4, 6, 8]),
                                  rows in 1usize..5, eighths in 1usize..300, count in 1usize..9) {
        let cols = 8 * eighths;
        let (lut, indices) = (noise(1 << bits, 3), stream(rows * cols, bits));
        let x = noise(cols * count, 7);
        let stride = cols / 8 * usize::from(bits);
        let packed = PackedRows { bits, packed: &indices, stride, count: cols };
        let run = |isa: Isa| {
            let ctx = Context::with_isa(Workers::serial(), isa);
            let columns = Matrix::row_major(&x, count, cols);
            let columns = FixedColumns::new(&ctx, columns).unwrap().unwrap();
            let mut table = FixedTable::new();
            assert!(table.load(isa, bits, |values| values.copy_from_slice(&lut)));
            let mut out = vec![f32::NAN; rows * count];
            arch::dot_fixed(isa, &packed, &table, &columns, &mut out);
            bits_of(&out)
        };
        let generic = run(Isa::Generic);
        for isa in Isa::available() {
            prop_assert_eq!(&run(isa), &generic, "{}", isa.name());
        }
    }
}

/// Large enough for several threads; columns and outputs next to each other, biases, and some rows alone.
#[test]
fn layouts() {
    let (rows, cols, count) = (264, 640, 3);
    let (lut, indices) = (noise(rows / 8 * 16, 2), stream(rows * cols, 4));
    let w = palettized((rows, cols), 4, &indices, Table::F32(&lut), 8);
    let (x, bias) = (noise(cols * count, 3), noise(rows, 4));
    let mut channels = vec![0.0; x.len()];
    Matrix::row_major(&x, count, cols).transposed().copy_to(&mut channels);
    for ctx in contexts(&w, count) {
        let plain = products(&ctx, Numerics::Halves, &w, &x);
        let part = 13..rows - 5;
        let mut out = vec![f32::NAN; part.len() * count];
        let from = ColumnLayout { stride_k: count, stride_s: 1 };
        let to = OutputLayout { stride_n: count, stride_s: 1 };
        let (numerics, some) = (Numerics::Halves, Some(&bias[part.clone()]));
        project_rows(&ctx, numerics, &w, part.clone(), &channels, from, count, some, &mut out, to)
            .unwrap();
        for (n, out) in part.zip(out.chunks_exact(count)) {
            let expected: Vec<f32> = (0..count).map(|s| plain[s * rows + n] + bias[n]).collect();
            assert_eq!(bits_of(out), bits_of(&expected), "row {n}");
        }
    }
}

/// What has no integers is computed exactly: infinity and what is no number come out as they do there.
#[test]
fn values_that_are_not_finite() {
    let (rows, cols) = (24, 136);
    let indices = stream(rows * cols, 4);
    for odd in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 3e38] {
        let mut lut = noise(3 << 4, 2);
        lut[20] = odd;
        let w = palettized((rows, cols), 4, &indices, Table::F32(&lut), 8);
        let x = noise(cols * 2, 3);
        let mut odd_x = x.clone();
        odd_x[cols + 1] = odd;
        for ctx in contexts(&w, 1) {
            let strict = products(&ctx, Numerics::Strict, &w, &x);
            let got = products(&ctx, Numerics::Halves, &w, &x);
            // The second table's rows are the exact ones, the others are not.
            for (part, (strict, got)) in strict.chunks(8).zip(got.chunks(8)).enumerate() {
                assert_eq!(bits_of(strict) == bits_of(got), part % 3 == 1, "{odd}, part {part}");
            }
            let strict = products(&ctx, Numerics::Strict, &w, &odd_x);
            let got = products(&ctx, Numerics::Halves, &w, &odd_x);
            assert_eq!(bits_of(&strict), bits_of(&got), "{odd}");
        }
    }
}

/// Where a scale is not finite or a weight's rounding overflows, products are the exact ones.
#[test]
fn scales_that_are_not_finite() {
    let (rows, cols) = (40, 128);
    let data = stream(rows * cols, 8);
    for (odd, rounds) in [(f32::INFINITY, false), (f32::NAN, true), (600.0, true)] {
        let mut scale = noise(rows * 2, 2);
        scale[41] = odd;
        let scales = (Table::F32(&scale), None);
        let w = blockwise((rows, cols), (8, true), &data, scales, (1, 64));
        let w = if rounds { rounded(&w) } else { w };
        let x = noise(cols, 3);
        for ctx in contexts(&w, 1) {
            let strict = products(&ctx, Numerics::Strict, &w, &x);
            let got = products(&ctx, Numerics::Halves, &w, &x);
            assert_eq!(bits_of(&strict[16..32]), bits_of(&got[16..32]), "{odd}");
            assert_ne!(bits_of(&strict[32..]), bits_of(&got[32..]), "{odd}");
        }
    }
}

/// Scales of values next to zero are not.
#[test]
fn tiny_values() {
    let indices = stream(8 * 64, 8);
    let lut: Vec<f32> = noise(256, 2).iter().map(|value| value * 1e-38).collect();
    let w = palettized((8, 64), 8, &indices, Table::F32(&lut), 8);
    for size in [0.0, 1e-44, 1e-38, 1.0] {
        let x: Vec<f32> = noise(64, 3).iter().map(|value| value * size).collect();
        for ctx in contexts(&w, 1) {
            let got = products(&ctx, Numerics::Halves, &w, &x);
            assert!(got.iter().all(|value| value.abs() <= 1e-30 * size + 1e-36), "{got:?}");
        }
    }
}
