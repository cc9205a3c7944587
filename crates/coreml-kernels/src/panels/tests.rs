use half::f16;

use super::*;
use crate::numerics::Numerics;
use crate::project::{ColumnLayout, OutputLayout, project};
use crate::weights::Palettized;
use crate::weights::Table;

fn noise(count: usize, seed: u32) -> Vec<f32> {
    let hash = |i: usize| (i as u32 ^ seed.rotate_left(16)).wrapping_mul(2_654_435_761) >> 8;
    (0..count).map(|i| hash(i) as f32 / 8_388_608.0 - 1.0).collect()
}

fn contexts() -> impl Iterator<Item = Context> {
    let tiles = |isa: &Isa| arch::panel_width(*isa).is_some();
    let isas: Vec<Isa> = Isa::available().into_iter().filter(tiles).collect();
    let workers = [Workers::serial(), Workers::new(3).unwrap()];
    workers.into_iter().flat_map(move |workers| {
        let of = move |isa| Context::with_isa(workers.clone(), isa);
        isas.clone().into_iter().map(of)
    })
}

/// [`Order::Chain`](crate::Order::Chain) by definition, after a bias.
fn chain(w: &[f32], x: impl Fn(usize) -> f32, bias: Option<f32>) -> f32 {
    let block = |(b, w): (usize, &[f32])| {
        let each = w.iter().enumerate();
        each.fold(0.0f32, |sum, (k, &w)| w.mul_add(x(b * 512 + k), sum))
    };
    let blocks = bias.into_iter().chain(w.chunks(512).enumerate().map(block));
    blocks.reduce(|sum, block| sum + block).unwrap_or(0.0)
}

/// Checks products with as many columns, which lie as in a linear layer or as in a convolution.
fn check(ctx: &Context, w: &Weights, values: &[f32], columns: usize, linear: bool, biased: bool) {
    let (rows, cols) = (w.rows, w.cols);
    let (x, bias) = (noise(cols * columns, 3), noise(rows, 4));
    let (x_layout, out_layout) = if linear {
        (ColumnLayout { stride_k: 1, stride_s: cols }, OutputLayout { stride_n: 1, stride_s: rows })
    } else {
        (
            ColumnLayout { stride_k: columns, stride_s: 1 },
            OutputLayout { stride_n: columns, stride_s: 1 },
        )
    };
    let bias = biased.then_some(&bias[..]);
    let mut out = vec![f32::NAN; rows * columns];
    let strict = Numerics::Strict;
    project(ctx, strict, w, &x, x_layout, columns, bias, &mut out, out_layout).unwrap();
    for (n, s) in (0..rows).flat_map(|n| (0..columns).map(move |s| (n, s))) {
        let x = |k: usize| x[k * x_layout.stride_k + s * x_layout.stride_s];
        let expected = chain(&values[n * cols..][..cols], x, bias.map(|bias| bias[n]));
        let got = out[n * out_layout.stride_n + s * out_layout.stride_s];
        let place = format!("{ctx:?} {rows}x{cols} {columns} {linear}: {n}, {s}");
        assert_eq!(got.to_bits(), expected.to_bits(), "{place}: {got}, expected {expected}");
    }
}

#[test]
fn every_width_and_height() {
    for ctx in contexts() {
        for columns in [9, 15, 16, 17, 31, 33, 48, 50, 64, 65, 79, 81, 130] {
            for rows in [1, 2, 3, 5, 6, 11, 13, 25] {
                let (cols, linear) = (rows * 7 % 20 + 1, columns % 2 == 0);
                let values = noise(rows * cols, 1);
                let w = Weights { rows, cols, encoding: Encoding::F32(&values) };
                check(&ctx, &w, &values, columns, linear, rows % 2 == 0);
                check(&ctx, &w, &values, columns, !linear, rows % 2 == 1);
            }
        }
    }
}

/// Deeper than a block, and large enough to be divided by rows.
#[test]
fn rows_divided() {
    for (rows, cols, columns) in [(200, 1100, 70), (515, 513, 9), (64, 512, 100)] {
        let halves: Vec<f16> = noise(rows * cols, 1).into_iter().map(f16::from_f32).collect();
        let values: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
        for ctx in contexts() {
            for encoding in [Encoding::F32(&values), Encoding::F16(&halves)] {
                let w = Weights { rows, cols, encoding };
                check(&ctx, &w, &values, columns, columns % 20 == 0, true);
            }
        }
    }
}

/// More columns than rows, of weights that are at hand, or expanded as a whole.
#[test]
fn columns_divided() {
    for (rows, cols, columns) in [(10, 70, 2000), (33, 600, 1000)] {
        let halves: Vec<f16> = noise(rows * cols, 1).into_iter().map(f16::from_f32).collect();
        let values: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
        for ctx in contexts() {
            for encoding in [Encoding::F32(&values), Encoding::F16(&halves)] {
                let w = Weights { rows, cols, encoding };
                check(&ctx, &w, &values, columns, rows == 10, rows == 10);
            }
        }
    }
}

/// Tables belong to groups of rows, which tasks do not part.
#[test]
fn palettized() {
    let (rows, cols, columns) = (120, 640, 70);
    let lut: Vec<f16> = noise(rows / 6 * 16, 2).into_iter().map(f16::from_f32).collect();
    let indices: Vec<u8> =
        noise(rows * cols / 2, 5).iter().map(|x| (x * 128.0) as i8 as u8).collect();
    let (table, indices) = (Table::F16(&lut), &indices[..]);
    let p = Palettized { bits: 4, indices, lut: table, rows_per_group: 6, cols_per_group: cols };
    let w = Weights { rows, cols, encoding: Encoding::Palettized(p) };
    let index = |i: usize| usize::from(indices[i / 2] >> (i % 2 * 4) & 15);
    let value = |i: usize| lut[i / cols / 6 * 16 + index(i)].to_f32();
    let values: Vec<f32> = (0..rows * cols).map(value).collect();
    for ctx in contexts() {
        check(&ctx, &w, &values, columns, true, false);
        check(&ctx, &w, &values, columns, false, true);
    }
}

/// What lies between the columns of a result stays.
#[test]
fn outputs_apart() {
    let (rows, cols, columns) = (7, 20, 40);
    let (values, x) = (noise(rows * cols, 1), noise(cols * columns, 3));
    let w = Weights { rows, cols, encoding: Encoding::F32(&values) };
    for ctx in contexts() {
        let mut out = vec![f32::NAN; 3 * rows * columns];
        let x_layout = ColumnLayout { stride_k: columns, stride_s: 1 };
        let out_layout = OutputLayout { stride_n: 3 * columns, stride_s: 3 };
        let strict = Numerics::Strict;
        project(&ctx, strict, &w, &x, x_layout, columns, None, &mut out, out_layout).unwrap();
        for (i, &got) in out.iter().enumerate() {
            let (n, s) = (i / 3 / columns, i / 3 % columns);
            let expected = chain(&values[n * cols..][..cols], |k| x[k * columns + s], None);
            let written = i % 3 == 0;
            assert!(if written { got == expected } else { got.is_nan() }, "{ctx:?} {n}, {s}");
        }
    }
}
