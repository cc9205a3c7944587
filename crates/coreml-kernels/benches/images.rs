//! Speed of the kernels at the sizes that networks on images and sounds have.
//!
//! `cargo bench -p coreml-kernels --bench images [-- FILTER]`; `RAYON_NUM_THREADS=1` for a single
//! thread. One line per case: its name, microseconds of the fastest run, work per second.
#![allow(clippy::print_stdout)]

mod common;

use common::{Bench, expect};
use coreml_kernels::{
    ConvParams, ConvTransposeParams, Encoding, Numerics, PoolParams, Pooling, SpatialDim, Weights,
    conv, conv_transpose, pool,
};

fn dim(input: usize, kernel: usize, stride: usize, pad: usize) -> SpatialDim {
    SpatialDim { input, kernel, stride, dilation: 1, pad_begin: pad, pad_end: pad }
}

fn count(dims: &[SpatialDim], size: impl Fn(&SpatialDim) -> usize) -> usize {
    dims.iter().map(size).product()
}

/// A pooling of 64 or so planes.
fn pooling(bench: &Bench, name: &str, planes: usize, spatial: &[SpatialDim], pooling: Pooling) {
    let output: Vec<usize> = spatial.iter().map(|dim| dim.output().expect("it fits")).collect();
    let x = vec![0.5; planes * count(spatial, |dim| dim.input)];
    let mut out = vec![0.0; planes * output.iter().product::<usize>()];
    let params = PoolParams { planes, spatial, output: &output, pooling };
    bench.report(name, x.len(), "", || expect(pool(&bench.ctx, &params, &x, &mut out)));
}

/// A convolution with as many groups as given.
fn convolution(bench: &Bench, name: &str, channels: [usize; 3], spatial: &[SpatialDim]) {
    let [in_channels, out_channels, groups] = channels;
    let cols = in_channels / groups * count(spatial, |dim| dim.kernel);
    let points = count(spatial, |dim| dim.output().expect("it fits"));
    let x = vec![0.5; in_channels * count(spatial, |dim| dim.input)];
    let (w, mut out) = (vec![0.5; out_channels * cols], vec![0.0; out_channels * points]);
    let w = Weights { rows: out_channels, cols, encoding: Encoding::F32(&w) };
    let numerics = Numerics::default();
    let params = ConvParams { batch: 1, in_channels, out_channels, groups, spatial, numerics };
    bench.report(name, out_channels * cols * points, "MAC", || {
        expect(conv(&bench.ctx, &params, &x, &w, None, &mut out));
    });
}

/// A transposed convolution; the dimensions are those of its output.
fn transposed(
    bench: &Bench,
    name: &str,
    channels: [usize; 3],
    input: &[usize],
    spatial: &[SpatialDim],
) {
    let [in_channels, out_channels, groups] = channels;
    let points: usize = input.iter().product();
    let x = vec![0.5; in_channels * points];
    let w = vec![0.5; in_channels * out_channels / groups * count(spatial, |dim| dim.kernel)];
    let mut out = vec![0.0; out_channels * count(spatial, |dim| dim.input)];
    let params =
        ConvTransposeParams { batch: 1, in_channels, out_channels, groups, input, spatial };
    bench.report(name, w.len() * points, "MAC", || {
        expect(conv_transpose(&bench.ctx, &params, &x, &w, None, &mut out));
    });
}

fn main() {
    let bench = Bench::new();
    bench.ctx.workers().enter(|| {
        let average = Pooling::Average { padding: true };
        pooling(&bench, "max_pool 64x112x112 k3 s2", 64, &[dim(112, 3, 2, 1); 2], Pooling::Max);
        pooling(&bench, "max_pool 64x112x112 k2 s2", 64, &[dim(112, 2, 2, 0); 2], Pooling::Max);
        pooling(&bench, "max_pool 512x13x13 k5 s1", 512, &[dim(13, 5, 1, 2); 2], Pooling::Max);
        pooling(&bench, "avg_pool 256x28x28 k3 s1", 256, &[dim(28, 3, 1, 1); 2], average);
        pooling(&bench, "avg_pool 2048x7x7 global", 2048, &[dim(7, 7, 1, 0); 2], average);
        pooling(&bench, "avg_pool 64x112x112 global", 64, &[dim(112, 112, 1, 0); 2], average);
        let two = [dim(64, 2, 2, 0); 2];
        transposed(&bench, "transposed 256-128 32x32 k2 s2", [256, 128, 1], &[32, 32], &two);
        let four = [dim(64, 4, 2, 1); 2];
        transposed(&bench, "transposed 256-128 32x32 k4 s2", [256, 128, 1], &[32, 32], &four);
        let three = [dim(128, 3, 2, 1); 2];
        transposed(&bench, "transposed 64-3 64x64 k3 s2", [64, 3, 1], &[64, 64], &three);
        let depthwise = [dim(64, 4, 2, 1); 2];
        transposed(&bench, "transposed 64-64/64 32x32 k4", [64, 64, 64], &[32, 32], &depthwise);
        let sound = [dim(8000, 16, 8, 4)];
        transposed(&bench, "transposed 256-128 1000 k16 s8", [256, 128, 1], &[1000], &sound);
        convolution(&bench, "conv 64-64 56x56 k3", [64, 64, 1], &[dim(56, 3, 1, 1); 2]);
        convolution(&bench, "conv 3-64 224x224 k7 s2", [3, 64, 1], &[dim(224, 7, 2, 3); 2]);
        for (channels, size, kernel, stride) in [
            (32, 112, 3, 1),
            (96, 112, 3, 2),
            (144, 56, 3, 1),
            (384, 14, 3, 1),
            (576, 14, 3, 2),
            (960, 7, 3, 1),
            (480, 14, 5, 1),
        ] {
            let name = format!("depthwise {channels} {size}x{size} k{kernel} s{stride}");
            let spatial = [dim(size, kernel, stride, kernel / 2); 2];
            convolution(&bench, &name, [channels; 3], &spatial);
        }
    });
}
