//! Expected values are what coremltools 9.0's `decompress` methods give for the same arguments.

use super::*;
use crate::context::Workers;

fn ctx() -> Context {
    Context::new(Workers::shared())
}

fn f16s(values: &[f32]) -> Vec<f16> {
    values.iter().map(|&value| f16::from_f32(value)).collect()
}

fn f32s(values: &[f16]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

#[test]
fn ios16_lut() {
    let got = lut_to_dense_packed(&ctx(), &[0b0110_1100, 0b11], &[1u8, 5, 9, 13], 5).unwrap();
    assert_eq!(got, [1, 13, 9, 5, 13]);
    assert!(lut_to_dense_packed(&ctx(), &[0], &[1u8, 5, 9], 1).is_err());
    assert!(lut_to_dense_packed(&ctx(), &[0], &[1u8, 5, 9, 13], 5).is_err());
}

#[test]
fn ios16_affine() {
    let data = [1u8, 200, 3, 4, 255, 0];
    let got =
        affine_dequantize(&ctx(), &data, &[3, 2], &f16s(&[0.1, 0.2, 0.3]), &[2.0], 0).unwrap();
    let expected = [-0.099_975_586, 19.796_875, 0.199_951_17, 0.399_902_34, 75.9375, -0.600_097_66];
    assert_eq!(f32s(&got), expected);
    assert!(affine_dequantize(&ctx(), &data, &[3, 2], &f16s(&[0.1, 0.2]), &[2.0], 0).is_err());
    assert!(affine_dequantize(&ctx(), &data, &[3, 2], &f16s(&[0.1]), &[2.0], 2).is_err());
    assert!(affine_dequantize(&ctx(), &data, &[3, 2], &f16s(&[0.1]), &[2.0], -3).is_err());
}

#[test]
fn sparse() {
    // The mask of constexpr_sparse_to_dense's documentation.
    assert_eq!(sparse_to_dense_packed(&[3, 5], &[0b01100], 5).unwrap(), [0, 0, 3, 5, 0]);
    assert!(sparse_to_dense_packed(&[3], &[0b01100], 5).is_err());
    assert!(sparse_to_dense_packed(&[3, 5], &[0b01100], 9).is_err());
    assert_eq!(sparse_to_dense(&[3, 5], &[0, 0, 1, 1, 0]).unwrap(), [0, 0, 3, 5, 0]);
}

#[test]
fn lut_by_groups() {
    let lut = [1.0f32, 5.0, 9.0, 13.0, 2.0, 10.0, 18.0, 26.0];
    let indices = [2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3];
    let got = lut_to_dense(&ctx(), &indices, &[6, 2], &lut, &[2, 1, 4, 1], None).unwrap();
    assert_eq!(got, [9.0, 13.0, 13.0, 1.0, 5.0, 1.0, 26.0, 2.0, 18.0, 10.0, 2.0, 26.0]);
    assert!(lut_to_dense(&ctx(), &indices, &[6, 2], &lut, &[4, 1, 2, 1], None).is_err());
    assert!(lut_to_dense(&ctx(), &indices, &[6, 2], &lut, &[2, 4, 1], None).is_err());
    assert!(lut_to_dense(&ctx(), &[4; 12], &[6, 2], &lut, &[2, 1, 4, 1], None).is_err());
    assert!(lut_to_dense(&ctx(), &indices, &[6, 2], &lut, &[1, 1, 4, 2], None).is_err());
}

#[test]
fn lut_of_vectors() {
    let lut = [1i8, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16];
    let indices = [0, 0, 1, 0, 1, 1, 0, 0];
    let run = |axis| {
        lut_to_dense(&ctx(), &indices, &[2, 2, 2], &lut, &[1, 2, 1, 2, 3], Some(axis)).unwrap()
    };
    let along0 =
        [1, 1, 14, 11, 2, 2, 15, 12, 3, 3, 16, 13, 4, 4, 11, 11, 5, 5, 12, 12, 6, 6, 13, 13];
    let along1 =
        [1, 1, 2, 2, 3, 3, 14, 11, 15, 12, 16, 13, 4, 4, 5, 5, 6, 6, 11, 11, 12, 12, 13, 13];
    let along2 =
        [1, 2, 3, 1, 2, 3, 14, 15, 16, 11, 12, 13, 4, 5, 6, 4, 5, 6, 11, 12, 13, 11, 12, 13];
    assert_eq!(run(0), along0);
    assert_eq!(run(1), along1);
    assert_eq!(run(2), along2);
    assert_eq!(run(-1), along2);
}

#[test]
fn lut_of_sparse_vectors() {
    let mask = [1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0];
    let indices = [0, 1, 1, 0, 1, 1, 0, 0, 1];
    let lut = [2.0f32, 2.5, 3.0, 3.5];
    let (mask, values) =
        lut_to_sparse(&ctx(), &mask, &[4, 6], &indices, &lut, &[1, 1, 2, 2], Some(0)).unwrap();
    let expected_mask = [
        1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 1, 0,
        0, 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0,
    ];
    assert_eq!(mask, expected_mask);
    let expected =
        [2.0, 3.0, 2.5, 3.5, 3.0, 2.0, 3.0, 3.5, 2.5, 3.5, 3.0, 2.0, 2.0, 3.5, 2.5, 2.5, 3.0, 3.5];
    assert_eq!(values, expected);
}

#[test]
fn shift_scale_rounds_each_step() {
    let data = [-8i8, 7, 3, -1, 5, -6, 0, 2];
    let scale = f16s(&[0.1, 0.3, 0.7, 1.9]);
    let run = |offset: &[f32]| {
        f32s(&blockwise_shift_scale(&ctx(), &data, &[2, 4], &scale, &[2, 2], Some(offset)).unwrap())
    };
    let expected = [
        -0.899_902_34,
        0.599_609_4,
        1.5,
        0.300_048_83,
        1.400_390_6,
        -6.300_781_3,
        -7.601_562_5,
        -3.800_781_3,
    ];
    assert_eq!(run(&[1.0, -2.0, 3.0, 4.0]), expected);
    let expected = [
        -0.829_589_84,
        0.669_921_9,
        1.110_351_6,
        -0.089_965_82,
        2.730_468_8,
        -4.972_656_3,
        -0.019_012_451,
        3.781_25,
    ];
    assert_eq!(run(&f32s(&f16s(&[0.3, -0.7, 1.1, 0.01]))), expected);
    assert!(blockwise_shift_scale(&ctx(), &data, &[2, 4], &scale, &[4, 1], None).is_err());
    assert!(blockwise_shift_scale(&ctx(), &data, &[2, 4], &scale, &[1, 2, 2], None).is_err());
    assert!(blockwise_shift_scale(&ctx(), &data, &[2, 4], &scale, &[2, 2], Some(&[0.0])).is_err());
}

#[test]
fn sparse_shift_scale() {
    let mask = [1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0];
    let data = [10i8, 11, 3, 4, 5, 6, 7, 8, 9];
    let (scale, offset) = ([0.1f32, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]);
    let got =
        sparse_blockwise_shift_scale(&ctx(), &mask, &[4, 4], &data, &scale, &[1, 4], Some(&offset))
            .unwrap();
    let expected = [0.9, 1.8, 0.2, 0.4, 0.6, 0.9, 1.2, 0.7, 1.4];
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected as f32).abs() < 2e-7, "{got}, expected {expected}");
    }
    assert_eq!(got.len(), expected.len());
}

/// Enough elements to be divided among threads; every one by its definition.
#[test]
fn large() {
    let ctx = Context::new(Workers::new(3).unwrap());
    let shape = [6, 50, 500];
    let count: usize = shape.iter().product();
    let at = |i: usize| [i / 25_000, i / 500 % 50, i % 500];
    let indices: Vec<u8> = (0..count).map(|i| (i * 7 % 13 % 4) as u8).collect();
    // Groups of 2 x 25 x 250 elements; tables of four vectors of two values.
    let lut: Vec<f32> = (0..3 * 2 * 2 * 4 * 2).map(|i| i as f32).collect();
    for axis in 0..3 {
        let got = lut_to_dense(&ctx, &indices, &shape, &lut, &[3, 2, 2, 4, 2], Some(axis)).unwrap();
        let mut wide = shape;
        wide[axis as usize] *= 2;
        for (i, &index) in indices.iter().enumerate() {
            let [a, b, c] = at(i);
            let group = (a / 2 * 2 + b / 25) * 2 + c / 250;
            for v in 0..2 {
                let mut to = [a, b, c];
                to[axis as usize] = to[axis as usize] * 2 + v;
                let to = (to[0] * wide[1] + to[1]) * wide[2] + to[2];
                assert_eq!(got[to], lut[(group * 4 + usize::from(index)) * 2 + v], "{axis} {i}");
            }
        }
    }
    let scale: Vec<f32> = (1..13).map(|i| i as f32).collect();
    let got = blockwise_shift_scale(&ctx, &indices, &shape, &scale, &[3, 2, 2], None).unwrap();
    for (i, &index) in indices.iter().enumerate() {
        let [a, b, c] = at(i);
        let scale = scale[(a / 2 * 2 + b / 25) * 2 + c / 250];
        assert_eq!(got[i], scale * f32::from(index), "{i}");
    }
    let scale: Vec<f32> = (1..51).map(|i| i as f32).collect();
    let got = affine_dequantize(&ctx, &indices, &shape, &scale, &[1.0], 1).unwrap();
    let packed: Vec<u8> = (0..count / 4).map(|i| (i * 31 % 251) as u8).collect();
    let plain = lut_to_dense_packed(&ctx, &packed, &[9u16, 8, 7, 6], count).unwrap();
    for (i, &index) in indices.iter().enumerate() {
        assert_eq!(got[i], scale[at(i)[1]] * (f32::from(index) - 1.0), "{i}");
        assert_eq!(plain[i], 9 - u16::from(packed[i / 4] >> (i % 4 * 2) & 3), "{i}");
    }
}
