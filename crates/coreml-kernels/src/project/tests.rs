use half::f16;
use proptest::prelude::*;

use super::*;
use crate::context::Workers;
use crate::isa::Isa;
use crate::weights::{Blockwise, Palettized, Table};

pub(super) fn noise(count: usize, seed: u32) -> Vec<f32> {
    let hash = |i: usize| (i as u32 ^ seed.rotate_left(16)).wrapping_mul(2_654_435_761) >> 8;
    (0..count).map(|i| hash(i) as f32 / 8_388_608.0 - 1.0).collect()
}

pub(super) fn halves(values: &[f32]) -> Vec<f16> {
    values.iter().map(|&value| f16::from_f32(value)).collect()
}

/// Reads element `index` of a packed stream bit by bit.
fn bits_at(packed: &[u8], bits: usize, index: usize) -> usize {
    (0..bits).fold(0, |value, bit| {
        let at = index * bits + bit;
        value | usize::from(packed[at / 8] >> (at % 8) & 1) << bit
    })
}

/// Every value of the weights by definition.
pub(super) fn dense(w: &Weights) -> Vec<f64> {
    let at = |table: &Table, i: usize| match table {
        Table::F32(values) => f64::from(values[i]),
        Table::F16(values) => values[i].to_f64(),
    };
    let value = |i: usize| {
        let (n, k) = (i / w.cols, i % w.cols);
        match &w.encoding {
            Encoding::F32(values) => f64::from(values[i]),
            Encoding::F16(values) => values[i].to_f64(),
            Encoding::Palettized(p) => {
                let groups = w.cols / p.cols_per_group;
                let group = n / p.rows_per_group * groups + k / p.cols_per_group;
                at(&p.lut, (group << p.bits) + bits_at(p.indices, usize::from(p.bits), i))
            }
            Encoding::Blockwise(b) => {
                let q = bits_at(b.data, usize::from(b.bits), i) as i32;
                let high = 1 << (b.bits - 1);
                let q = if b.signed && q >= high { q - 2 * high } else { q };
                let block =
                    n / b.rows_per_block * (w.cols / b.cols_per_block) + k / b.cols_per_block;
                let offset = b.offset.map_or(0.0, |offset| at(&offset, block));
                let value = at(&b.scale, block) * (f64::from(q) - offset);
                if b.rounded { f16::from_f64(value).to_f64() } else { value }
            }
        }
    };
    (0..w.rows * w.cols).map(value).collect()
}

/// Checks products and expansion of `w` on every instruction set.
fn check(
    w: &Weights,
    columns: usize,
    column_major: bool,
    biased: bool,
) -> Result<(), TestCaseError> {
    let (rows, cols) = (w.rows, w.cols);
    let exact = dense(w);
    let x = noise(cols * columns, 7);
    let bias = noise(rows, 9);
    let (x_layout, out_layout) = if column_major {
        (ColumnLayout { stride_k: 1, stride_s: cols }, OutputLayout { stride_n: 1, stride_s: rows })
    } else {
        (
            ColumnLayout { stride_k: columns, stride_s: 1 },
            OutputLayout { stride_n: columns, stride_s: 1 },
        )
    };
    for isa in Isa::available() {
        let ctx = Context::with_isa(Workers::shared(), isa);
        let mut values = vec![f32::NAN; rows * cols];
        w.dequantize_rows(&ctx, 0..rows, &mut values).unwrap();
        for (value, exact) in values.iter().zip(&exact) {
            prop_assert!(
                (f64::from(*value) - exact).abs() <= 1e-6 * exact.abs() + 1e-4,
                "{}: {value}, expected {exact}",
                isa.name()
            );
        }
        let mut out = vec![f32::NAN; rows * columns];
        let bias = biased.then_some(&bias[..]);
        project(&ctx, Numerics::Strict, w, &x, x_layout, columns, bias, &mut out, out_layout)
            .unwrap();
        let part = rows / 3..rows - rows / 4;
        let stride_s = if column_major { part.len() } else { 1 };
        let mut some = vec![f32::NAN; part.len() * columns];
        let bias_of_part = bias.map(|bias| &bias[part.clone()]);
        let layout = OutputLayout { stride_s, ..out_layout };
        project_rows(
            &ctx,
            Numerics::Strict,
            w,
            part.clone(),
            &x,
            x_layout,
            columns,
            bias_of_part,
            &mut some,
            layout,
        )
        .unwrap();
        for n in 0..rows {
            for s in 0..columns {
                let term = |k: usize| {
                    exact[n * cols + k]
                        * f64::from(x[k * x_layout.stride_k + s * x_layout.stride_s])
                };
                let expected =
                    (0..cols).map(term).sum::<f64>() + bias.map_or(0.0, |b| f64::from(b[n]));
                let size: f64 = (0..cols).map(|k| term(k).abs()).sum::<f64>() + 1.0;
                let mut got = vec![out[n * out_layout.stride_n + s * out_layout.stride_s]];
                if part.contains(&n) {
                    got.push(some[(n - part.start) * layout.stride_n + s * layout.stride_s]);
                }
                for got in got.into_iter().map(f64::from) {
                    prop_assert!(
                        (got - expected).abs() <= 2e-6 * size,
                        "{}: row {n}: {got}, expected {expected}",
                        isa.name()
                    );
                }
            }
        }
    }
    Ok(())
}

pub(super) fn stream(count: usize, bits: u8) -> Vec<u8> {
    let len = (count * usize::from(bits)).div_ceil(8);
    (0..len).map(|i| ((i as u32 + 5).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

proptest! {
    #[test]
    fn plain(rows in 0usize..9, cols in 0usize..150, columns in 0usize..6,
             column_major in any::<bool>(), biased in any::<bool>(), half in any::<bool>()) {
        let values = noise(rows * cols, 1);
        let small = halves(&values);
        let encoding = if half { Encoding::F16(&small) } else { Encoding::F32(&values) };
        check(&Weights { rows, cols, encoding }, columns, column_major, biased)?;
    }

    #[test]
    fn palettized(bits in prop::sample::select(vec![1u8, 2, 3, 4, 6, 8]),
                  row_groups in 0usize..3, rows_per_group in 1usize..9,
                  col_groups in 0usize..3, cols_per_group in 1usize..140,
                  columns in 1usize..6, half in any::<bool>()) {
        let (rows, cols) = (row_groups * rows_per_group, col_groups * cols_per_group);
        let wide = noise((row_groups * col_groups) << bits, 3);
        let small = halves(&wide);
        let lut = if half { Table::F16(&small) } else { Table::F32(&wide) };
        let indices = stream(rows * cols, bits);
        let palettized = Palettized { bits, indices: &indices, lut, rows_per_group, cols_per_group };
        check(&Weights { rows, cols, encoding: Encoding::Palettized(palettized) }, columns, false, true)?;
    }

    #[test]
    fn blockwise(bits in prop::sample::select(vec![1u8, 2, 3, 4, 6, 8]), signed in any::<bool>(),
                 row_blocks in 0usize..4, rows_per_block in 1usize..4,
                 col_blocks in 0usize..4, cols_per_block in 1usize..100,
                 columns in 1usize..6, half in any::<bool>(), shifted in any::<bool>()) {
        let (rows, cols) = (row_blocks * rows_per_block, col_blocks * cols_per_block);
        let (wide, offsets) = (noise(row_blocks * col_blocks, 3), noise(row_blocks * col_blocks, 4));
        let (small, small_offsets) = (halves(&wide), halves(&offsets));
        let (scale, offset) = if half {
            (Table::F16(&small), Table::F16(&small_offsets))
        } else {
            (Table::F32(&wide), Table::F32(&offsets))
        };
        let data = stream(rows * cols, bits);
        let offset = shifted.then_some(offset);
        let (data, rounded) = (&data[..], false);
        let b = Blockwise { bits, signed, data, scale, offset, rows_per_block, cols_per_block, rounded };
        check(&Weights { rows, cols, encoding: Encoding::Blockwise(b) }, columns, true, false)?;
    }
}

/// The product of a half and a small integer is exact in single precision and rounded once.
#[test]
fn values_are_halves_where_the_scales_are() {
    let (rows, blocks, cols_per_block) = (5, 3, 72);
    let cols = blocks * cols_per_block;
    let scale: Vec<f16> =
        noise(rows * blocks, 3).iter().map(|&s| f16::from_f32(s * 1e-3)).collect();
    let offset: Vec<f32> = (0..rows * blocks).map(|i| i as f32 - 7.0).collect();
    for (bits, signed) in
        [(1u8, false), (2, true), (3, false), (4, true), (6, true), (8, false), (8, true)]
    {
        let data = stream(rows * cols, bits);
        let b = Blockwise {
            bits,
            signed,
            data: &data,
            scale: Table::F16(&scale),
            offset: Some(Table::F32(&offset)),
            rows_per_block: 1,
            cols_per_block,
            rounded: true,
        };
        let w = Weights { rows, cols, encoding: Encoding::Blockwise(b) };
        for columns in [1, 5] {
            check(&w, columns, true, true).unwrap();
        }
        let exact = dense(&w);
        for isa in Isa::available() {
            let ctx = Context::with_isa(Workers::serial(), isa);
            let mut values = vec![f32::NAN; rows * cols];
            w.dequantize_rows(&ctx, 0..rows, &mut values).unwrap();
            let same = values.iter().zip(&exact).all(|(value, exact)| f64::from(*value) == *exact);
            assert!(same, "{bits} bits, {}", isa.name());
            // A product with 1 at one place alone is the weight itself.
            for place in [0, 7, cols - 1] {
                let mut x = vec![0.0; cols];
                x[place] = 1.0;
                let mut out = vec![f32::NAN; rows];
                w.matvec(&ctx, 0, &x, &mut out).unwrap();
                let weights: Vec<f64> = (0..rows).map(|n| exact[n * cols + place]).collect();
                let out: Vec<f64> = out.into_iter().map(f64::from).collect();
                assert_eq!(out, weights, "{bits} bits, {}", isa.name());
            }
        }
    }
}

/// `np.float16(600) * np.int8(127)` is infinite.
#[test]
fn values_beyond_halves_are_infinite() {
    let scale = [f16::from_f32(600.0)];
    let b = Blockwise {
        bits: 8,
        signed: true,
        data: &[127, 109, 0x80, 0, 1, 2, 3, 4],
        scale: Table::F16(&scale),
        offset: None,
        rows_per_block: 1,
        cols_per_block: 8,
        rounded: true,
    };
    let w = Weights { rows: 1, cols: 8, encoding: Encoding::Blockwise(b) };
    let infinite = f32::INFINITY;
    for isa in Isa::available() {
        let mut values = [f32::NAN; 8];
        let ctx = Context::with_isa(Workers::serial(), isa);
        w.dequantize_rows(&ctx, 0..1, &mut values).unwrap();
        let expected = [infinite, 65408.0, -infinite, 0.0, 600.0, 1200.0, 1800.0, 2400.0];
        assert_eq!(values, expected, "{}", isa.name());
        let mut out = [f32::NAN];
        w.matvec(&ctx, 0, &[1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0], &mut out).unwrap();
        // Infinity times 0 is no number.
        assert!(out[0].is_nan(), "{}", isa.name());
    }
}

/// Large enough for several threads and several expanded blocks.
#[test]
fn large() {
    let (rows, cols) = (1032, 640);
    let values = halves(&noise(rows * cols, 1));
    let plain = Weights { rows, cols, encoding: Encoding::F16(&values) };
    let (lut, indices) = (halves(&noise(rows / 8 * 64, 2)), stream(rows * cols, 6));
    let lut = Table::F16(&lut);
    let p = Palettized { bits: 6, indices: &indices, lut, rows_per_group: 8, cols_per_group: cols };
    let palettized = Weights { rows, cols, encoding: Encoding::Palettized(p) };
    for w in [plain, palettized] {
        check(&w, 1, false, true).unwrap();
        check(&w, 2, true, true).unwrap();
        check(&w, 5, true, true).unwrap();
    }
}

/// Rows longer than any buffer, with a tail that fills no vector.
#[test]
fn long_rows() {
    let (rows, cols) = (6, 1208);
    for bits in [1u8, 2, 3, 4, 6, 8] {
        let lut = halves(&noise((rows / 3) << bits, 2));
        let indices = stream(rows * cols, bits);
        let (lut, cols_per_group) = (Table::F16(&lut), cols);
        let p = Palettized { bits, indices: &indices, lut, rows_per_group: 3, cols_per_group };
        let w = Weights { rows, cols, encoding: Encoding::Palettized(p) };
        check(&w, 1, false, true).unwrap();
        check(&w, 2, true, true).unwrap();
        check(&w, 5, true, true).unwrap();
    }
}

/// An infinite table entry must not reach rows that do not use it, not even from padding lanes.
#[test]
fn infinite_entries() {
    let lut = [f32::INFINITY, 1.0];
    let p = Palettized {
        bits: 1,
        indices: &[0xff; 3],
        lut: Table::F32(&lut),
        rows_per_group: 1,
        cols_per_group: 24,
    };
    let w = Weights { rows: 1, cols: 24, encoding: Encoding::Palettized(p) };
    for isa in Isa::available() {
        let mut out = [0.0];
        let ctx = Context::with_isa(Workers::serial(), isa);
        w.matvec(&ctx, 0, &[1.0; 24], &mut out).unwrap();
        assert_eq!(out, [24.0], "{}", isa.name());
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let values = [0.0; 6];
    let w = Weights { rows: 2, cols: 3, encoding: Encoding::F32(&values) };
    let layout = |stride_k, stride_s| ColumnLayout { stride_k, stride_s };
    let run = |w: &Weights, x: &[f32], x_layout, stride_s, bias: Option<&[f32]>| {
        let out_layout = OutputLayout { stride_n: 2, stride_s };
        let ctx = Context::new(Workers::serial());
        project(&ctx, Numerics::Strict, w, x, x_layout, 2, bias, &mut [0.0; 4], out_layout)
    };
    assert!(run(&w, &values, layout(2, 1), 1, None).is_ok());
    assert!(run(&w, &values[1..], layout(2, 1), 1, None).is_err());
    assert!(run(&w, &values, layout(usize::MAX, 1), 1, None).is_err());
    assert!(run(&w, &values, layout(2, 1), 0, None).is_err());
    assert!(run(&w, &values, layout(2, 1), 2, None).is_err());
    assert!(run(&w, &values, layout(2, 1), 1, Some(&[0.0])).is_err());
    let w = Weights { rows: usize::MAX, ..w };
    assert!(run(&w, &values, layout(2, 1), 1, None).is_err());
    let b = Blockwise {
        bits: 5,
        signed: true,
        data: &[0; 4],
        scale: Table::F32(&[1.0]),
        offset: None,
        rows_per_block: 2,
        cols_per_block: 3,
        rounded: false,
    };
    let w = Weights { rows: 2, cols: 3, encoding: Encoding::Blockwise(b) };
    assert_eq!(
        w.validate().unwrap_err().to_string(),
        "weights: `bits` is 5, expected 1, 2, 3, 4, 6 or 8"
    );
    let w = Weights { rows: 2, cols: 3, encoding: Encoding::Blockwise(Blockwise { bits: 4, ..b }) };
    assert!(w.validate().is_err());
    let b = Blockwise { bits: 4, data: &[0; 3], rows_per_block: 0, ..b };
    assert!(Weights { rows: 2, cols: 3, encoding: Encoding::Blockwise(b) }.validate().is_err());
}
