use half::f16;
use proptest::prelude::*;

use super::*;
use crate::context::Workers;
use crate::isa::Isa;
use crate::weights::Encoding;

pub(super) fn noise(count: usize, seed: u32) -> Vec<f32> {
    let hash = |i: usize| (i as u32 ^ seed.rotate_left(16)).wrapping_mul(2_654_435_761) >> 8;
    (0..count).map(|i| hash(i) as f32 / 8_388_608.0 - 1.0).collect()
}

/// The definition: every output sums over channels and taps that meet the input.
fn oracle(p: &ConvParams, dims: [SpatialDim; 3], x: &[f32], w: &[f32], bias: &[f32]) -> Vec<f64> {
    let size = |f: fn(&SpatialDim) -> usize| dims.map(|d| f(&d));
    let (input, taps) = (size(|d| d.input), size(|d| d.kernel));
    let output = size(|d| d.output().unwrap());
    let (per_in, per_out) = (p.in_channels / p.groups, p.out_channels / p.groups);
    let unravel = |i: usize, s: [usize; 3]| [i / (s[1] * s[2]), i / s[2] % s[1], i % s[2]];
    let points = |s: [usize; 3]| s.iter().product::<usize>();
    let mut out = Vec::new();
    for (b, o) in (0..p.batch).flat_map(|b| (0..p.out_channels).map(move |o| (b, o))) {
        for at in 0..points(output) {
            let at = unravel(at, output);
            let mut sum = f64::from(bias[o]);
            for c in 0..per_in {
                for tap in 0..points(taps) {
                    let t = unravel(tap, taps);
                    let place: Option<Vec<usize>> = (0..3)
                        .map(|d| {
                            let dim = dims[d];
                            let i = at[d] * dim.stride + t[d] * dim.dilation;
                            i.checked_sub(dim.pad_begin).filter(|&i| i < dim.input)
                        })
                        .collect();
                    let Some(i) = place else { continue };
                    let channel = b * p.in_channels + o / per_out * per_in + c;
                    let i = ((channel * input[0] + i[0]) * input[1] + i[1]) * input[2] + i[2];
                    let weight = w[(o * per_in + c) * points(taps) + tap];
                    sum += f64::from(x[i]) * f64::from(weight);
                }
            }
            out.push(sum);
        }
    }
    out
}

fn dim() -> impl Strategy<Value = SpatialDim> {
    (1usize..9, 1usize..4, 1usize..4, 1usize..3, 0usize..4, 0usize..4).prop_map(
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

fn check(params: &ConvParams) -> Result<(), TestCaseError> {
    let mut dims = [SpatialDim::UNIT; 3];
    dims[3 - params.spatial.len()..].copy_from_slice(params.spatial);
    let cols =
        params.in_channels / params.groups * dims.iter().map(|d| d.kernel).product::<usize>();
    let points: usize = dims.iter().map(|d| d.input).product();
    let x = noise(params.batch * params.in_channels * points, 1);
    let halves: Vec<f16> =
        noise(params.out_channels * cols, 2).into_iter().map(f16::from_f32).collect();
    let filters: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
    let bias = noise(params.out_channels, 3);
    let expected = oracle(params, dims, &x, &filters, &bias);
    let encodings = [Encoding::F32(&filters), Encoding::F16(&halves)];
    for (isa, encoding) in Isa::available().into_iter().flat_map(|isa| encodings.map(|e| (isa, e)))
    {
        let w = Weights { rows: params.out_channels, cols, encoding };
        let mut out = vec![f32::NAN; expected.len()];
        let ctx = Context::with_isa(Workers::shared(), isa);
        conv(&ctx, params, &x, &w, Some(&bias), &mut out).unwrap();
        for (got, expected) in out.iter().zip(&expected) {
            prop_assert!((f64::from(*got) - expected).abs() < 3e-5, "{got}, expected {expected}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn matches_definition(spatial in prop::collection::vec(dim(), 1..4), batch in 1usize..3,
                          groups in 1usize..4, per_in in 1usize..4, per_out in 1usize..12) {
        let params = ConvParams { batch, in_channels: groups * per_in,
                                  out_channels: groups * per_out, groups,
                                  spatial: &spatial, numerics: Numerics::Strict };
        prop_assume!(spatial.iter().all(|dim| dim.output().is_ok()));
        check(&params)?;
    }
}

/// What is arranged in panels is what is unfolded, at any outputs.
#[test]
fn fields_are_unfolded_inputs() {
    let dim = |input, kernel, stride, dilation, pad_begin, pad_end| SpatialDim {
        input,
        kernel,
        stride,
        dilation,
        pad_begin,
        pad_end,
    };
    let plain = dim(7, 3, 1, 1, 0, 0);
    let isa = Isa::detect();
    for spatial in [[dim(9, 3, 1, 1, 1, 1); 2], [dim(11, 4, 2, 2, 3, 0), plain], [plain; 2]] {
        let (in_channels, numerics) = (3, Numerics::Strict);
        let spatial = &spatial;
        let params =
            ConvParams { batch: 1, in_channels, out_channels: 1, groups: 1, spatial, numerics };
        let shape = Shape::new(&params).unwrap();
        let (points, depth) = (shape.points_out, in_channels * shape.taps);
        let x = noise(in_channels * shape.points_in, 1);
        for (start, end) in [(0, points), (5, 6), (points / 3, points - 2)] {
            let mut columns = vec![f32::NAN; depth * (end - start)];
            let ctx = Context::new(Workers::serial());
            unfold(&ctx, &shape, &x, start, end - start, &mut columns);
            let mut fields = vec![f32::NAN; columns.len()];
            let to = MatrixMut::row_major(&mut fields, depth, end - start);
            Fields { shape: &shape, x: &x }.copy_to(
                isa,
                start..end,
                &mut Block::new(KERNEL, to).unwrap(),
            );
            assert_eq!(fields, columns, "{start}..{end}");
        }
    }
}

#[test]
fn large_enough_for_threads_and_tiles() {
    let dim = SpatialDim {
        input: 96,
        kernel: 3,
        stride: 1,
        pad_begin: 1,
        pad_end: 1,
        ..SpatialDim::UNIT
    };
    let spatial = &[dim, dim];
    let full = ConvParams {
        batch: 1,
        in_channels: 26,
        out_channels: 3,
        groups: 1,
        spatial,
        numerics: Numerics::Strict,
    };
    check(&full).unwrap();
    check(&ConvParams { out_channels: 52, groups: 26, ..full }).unwrap();
}

#[test]
fn refuses_what_does_not_fit() {
    let good = SpatialDim { input: 4, kernel: 3, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0 };
    let values = [0.0; 64];
    let run = |dim: SpatialDim, groups: usize| {
        let numerics = Numerics::Strict;
        let spatial = &[dim];
        let params =
            ConvParams { batch: 1, in_channels: 2, out_channels: 2, groups, spatial, numerics };
        let w = Weights { rows: 2, cols: 6, encoding: Encoding::F32(&values[..12]) };
        let ctx = Context::new(Workers::serial());
        conv(&ctx, &params, &values[..8], &w, None, &mut [0.0; 4])
    };
    assert!(run(good, 1).is_ok());
    assert!(run(good, 0).is_err());
    assert!(run(good, 3).is_err());
    assert!(run(SpatialDim { kernel: 5, ..good }, 1).is_err());
    assert!(run(SpatialDim { stride: 0, ..good }, 1).is_err());
    assert!(run(SpatialDim { pad_begin: usize::MAX, ..good }, 1).is_err());
    assert!(run(SpatialDim { dilation: usize::MAX, ..good }, 1).is_err());
    assert!(run(SpatialDim { input: 5, ..good }, 1).is_err());
}
