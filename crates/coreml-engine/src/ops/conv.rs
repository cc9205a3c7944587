//! Convolutions.

use coreml_format::mil::Opset;
use coreml_kernels::{
    ColumnLayout, Context, ConvParams, ConvTransposeParams, Encoding, Lease, OutputLayout,
    SpatialDim, Weights as MatrixWeights, conv as convolve, conv_transpose as spread,
};
use half::f16;
use smallvec::SmallVec;

use super::window::{SpatialDims, Windows};
use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Op, OpDef, Product, ResultTypes, bound, def, flops_of, kernel, one,
    weight_matrix,
};
use crate::value::{Constant, Shape, Storage, count};
use crate::weights::{Weights, matrix, numerics};

/// A convolution over one to three spatial axes.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    pub(crate) x: usize,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    pub(crate) windows: Windows,
    pub(crate) groups: usize,
    /// How integer filters become numbers.
    pub(crate) quantized: Option<Quantized>,
}

/// Filters of integers: each is `q * scale + offset`. The scale and the offset are one number, or one for
/// each filter.
#[derive(Clone, Debug)]
pub(crate) struct Quantized {
    scale: Vec<f32>,
    offset: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Quantized {
    /// The filters as numbers.
    fn expand<'s>(
        &self,
        context: &'s Context,
        filters: &[u8],
        rows: usize,
    ) -> Result<Lease<'s, f32>, OpError> {
        for (name, values) in [("quant_scale", &self.scale), ("quant_bias", &self.offset)] {
            if values.len() != 1 && values.len() != rows {
                let expected = format!("1 number, or {rows}, one for each filter");
                return Err(OpError::argument(name, expected, values.len().to_string()));
            }
        }
        let mut floats = context.scratch().take(filters.len())?;
        let size = (filters.len() / rows.max(1)).max(1);
        let parameters = self.scale.iter().cycle().zip(self.offset.iter().cycle());
        let each = floats.chunks_mut(size).zip(filters.chunks(size)).zip(parameters);
        for ((to, from), (scale, offset)) in each {
            to.iter_mut().zip(from).for_each(|(to, &q)| *to = f32::from(q) * scale + offset);
        }
        Ok(floats)
    }
}

/// Fails unless a bias has a number for each filter.
fn check_bias(inputs: &Inputs, bias: Option<usize>, filters: usize) -> Result<(), OpError> {
    let Some(bias) = bias else { return Ok(()) };
    match *inputs.shape(bias)? {
        [count] if count == filters => Ok(()),
        ref got => {
            let expected = format!("shape [{filters}], one number for each filter");
            Err(OpError::argument("bias", expected, format!("shape {got:?}")))
        }
    }
}

fn biases<'a>(inputs: &Inputs<'a>, bias: Option<usize>) -> Result<Option<&'a [f32]>, OpError> {
    bias.map(|bias| inputs.tensor(bias)?.f32s()).transpose()
}

/// Whether filters see one point at a time along an axis, and each of them.
fn is_point(dim: &SpatialDim) -> bool {
    dim.kernel == 1 && dim.stride == 1 && dim.pad_begin == 0 && dim.pad_end == 0
}

/// Whether `x` and the filters over it have the same one to three spatial axes.
fn ranks_fit(x: &[usize], weight: &[usize]) -> bool {
    (3..=5).contains(&x.len()) && weight.len() == x.len()
}

impl Conv {
    fn spatial(&self, x: &[usize], weight: &[usize]) -> Result<SpatialDims, OpError> {
        let fits = ranks_fit(x, weight)
            && weight[1].checked_mul(self.groups) == Some(x[1])
            && weight[0].is_multiple_of(self.groups);
        if !fits {
            let expected = format!(
                "filters for `x` of shape {x:?}: [channels of the result, channels of `x` / {} \
                 groups, one size for each spatial axis]",
                self.groups
            );
            return Err(OpError::argument("weight", expected, format!("shape {weight:?}")));
        }
        self.windows.over(&x[2..], &weight[2..])
    }
}

impl Op for Conv {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (x, weight) = (inputs.shape(self.x)?, inputs.shape(self.weight)?);
        let dims = self.spatial(x, weight)?;
        let mut shape = Shape::from_slice(&[x[0], weight[0]]);
        for dim in &dims {
            shape.push(dim.output()?);
        }
        check_bias(inputs, self.bias, weight[0])?;
        one(inputs.element(self.x)?, shape)
    }

    fn flops(&self, inputs: &Inputs) -> Result<u64, OpError> {
        let filter = inputs.shape(self.weight)?.get(1..).unwrap_or_default();
        let results = self.infer(inputs)?;
        Ok(results.iter().map(|result| flops_of(count(&result.shape), count(filter))).sum())
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (shape, filters) = (inputs.shape(self.x)?, inputs.shape(self.weight)?);
        let spatial = self.spatial(shape, filters)?;
        let (batch, in_channels) = (shape[0], shape[1]);
        let (out_channels, cols) = (filters[0], count(&filters[1..]));
        let &Conv { x, weight, bias, groups, .. } = self;
        let quantized = self.quantized.clone();
        if quantized.is_none() && batch == 1 && groups == 1 && spatial.iter().all(is_point) {
            let columns = count(&shape[2..]);
            let (from, to) = (
                ColumnLayout { stride_k: columns, stride_s: 1 },
                OutputLayout { stride_n: columns, stride_s: 1 },
            );
            let rows = out_channels;
            return Ok(Kernel::Product(Product { x, weight, bias, rows, cols, columns, from, to }));
        }
        let element = inputs.element(x)?;
        kernel(move |inputs, outputs, context| {
            let expanded;
            let (w, bias) = match &quantized {
                None => {
                    let w = weight_matrix(inputs, weight, out_channels, cols)?;
                    (w, biases(inputs, bias)?)
                }
                Some(quantized) => {
                    let filters = inputs.tensor(weight)?.slice::<u8>()?;
                    expanded = quantized.expand(context, filters, out_channels)?;
                    let encoding = Encoding::F32(&expanded);
                    let w = MatrixWeights { rows: out_channels, cols, encoding };
                    (w, quantized.bias.as_deref())
                }
            };
            let numerics = numerics(context, element);
            let params = ConvParams {
                batch,
                in_channels,
                out_channels,
                groups,
                spatial: &spatial,
                numerics,
            };
            let x = inputs.tensor(x)?.f32s()?;
            Ok(convolve(context, &params, x, &w, bias, outputs.tensor(0)?.f32s()?)?)
        })
    }

    fn reads_half(&self, input: usize) -> bool {
        input == self.weight
    }

    fn reads_compressed(&self, input: usize, constant: &Constant) -> bool {
        let shape = &constant.shape;
        input == self.weight
            && self.quantized.is_none()
            && shape.len() >= 3
            && matrix(constant, shape[0], count(&shape[1..])).is_some()
    }
}

/// A transposed convolution over one to three spatial axes.
#[derive(Clone, Debug)]
pub(crate) struct ConvTranspose {
    pub(crate) x: usize,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    pub(crate) windows: Windows,
    pub(crate) groups: usize,
    /// Shape of the result, where it is not the one that windows and padding make.
    pub(crate) output_shape: Option<SmallVec<[i64; 8]>>,
}

impl ConvTranspose {
    /// The number of filters, and the spatial axes of the convolution that is transposed, the input of
    /// which is the result.
    fn spatial(&self, x: &[usize], weight: &[usize]) -> Result<(usize, SpatialDims), OpError> {
        let fits = ranks_fit(x, weight) && weight[0] == x[1] && x[1].is_multiple_of(self.groups);
        let filters = weight.get(1).and_then(|&filters| filters.checked_mul(self.groups));
        let Some(filters) = filters.filter(|_| fits) else {
            let expected = format!(
                "filters for `x` of shape {x:?}: [channels of `x`, which {} groups divide, channels \
                 of the result / groups, one size for each spatial axis]",
                self.groups
            );
            return Err(OpError::argument("weight", expected, format!("shape {weight:?}")));
        };
        let output = self.output_shape.as_deref();
        if let Some(shape) = output {
            let number = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
            let wanted = [number(x[0]), number(filters)];
            if shape.len() != x.len() || shape[..2] != wanted {
                let expected = format!(
                    "{} sizes, of which the first are {} (batch) and {filters} (channels)",
                    x.len(),
                    x[0]
                );
                return Err(OpError::argument("output_shape", expected, format!("{shape:?}")));
            }
        }
        let sizes = output.map(|shape| &shape[2..]);
        Ok((filters, self.windows.under(&x[2..], &weight[2..], sizes)?))
    }
}

impl Op for ConvTranspose {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (x, weight) = (inputs.shape(self.x)?, inputs.shape(self.weight)?);
        let (filters, dims) = self.spatial(x, weight)?;
        check_bias(inputs, self.bias, filters)?;
        let mut shape = Shape::from_slice(&[x[0], filters]);
        shape.extend(dims.iter().map(|dim| dim.input));
        one(inputs.element(self.x)?, shape)
    }

    fn flops(&self, inputs: &Inputs) -> Result<u64, OpError> {
        let filter = inputs.shape(self.weight)?.get(1..).unwrap_or_default();
        Ok(flops_of(count(inputs.shape(self.x)?), count(filter)))
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let shape = Shape::from_slice(inputs.shape(self.x)?);
        let (out_channels, spatial) = self.spatial(&shape, inputs.shape(self.weight)?)?;
        let &ConvTranspose { x, weight, bias, groups, .. } = self;
        kernel(move |inputs, outputs, context| {
            let params = ConvTransposeParams {
                batch: shape[0],
                in_channels: shape[1],
                out_channels,
                groups,
                input: &shape[2..],
                spatial: &spatial,
            };
            let (x, w) = (inputs.tensor(x)?.f32s()?, inputs.tensor(weight)?.f32s()?);
            let bias = biases(inputs, bias)?;
            Ok(spread(context, &params, x, w, bias, outputs.tensor(0)?.f32s()?)?)
        })
    }
}

fn conv(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(Conv {
        x: binder.input("x")?,
        weight: binder.input("weight")?,
        bias: binder.optional_input("bias")?,
        windows: Windows::bind(binder)?,
        groups: binder.positive("groups")?,
        quantized: None,
    })
}

fn conv_quantized(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let linear = binder.one_of("quantization_type", &[("linear", true), ("lut", false)])?;
    if !linear {
        return Err(OpError::unsupported(
            "`lut` filters: no argument of `conv_quantized` holds their table; write the filters with \
             `constexpr_lut_to_dense` and use `conv`",
        ));
    }
    let bits = binder.int("nbits")?;
    if !(1..=8).contains(&bits) {
        return Err(OpError::argument("nbits", "1 to 8", bits.to_string()));
    }
    let bias = binder.optional_ints("bias")?;
    bound(Conv {
        x: binder.input("x")?,
        weight: binder.input("weight")?,
        bias: None,
        windows: Windows::bind(binder)?,
        groups: binder.positive("groups")?,
        quantized: Some(Quantized {
            scale: floats(binder, "quant_scale")?,
            offset: floats(binder, "quant_bias")?,
            bias: bias.map(|bias| bias.iter().map(|&bias| bias as f32).collect()),
        }),
    })
}

/// The numbers of a constant argument.
fn floats(binder: &Binder, name: &str) -> Result<Vec<f32>, OpError> {
    let constant = binder.required_constant(name)?;
    match constant.tensor() {
        Some(tensor) if tensor.storage == Storage::F16 => {
            Ok(tensor.slice::<f16>()?.iter().map(|value| value.to_f32()).collect())
        }
        Some(tensor) => Ok(tensor.f32s()?.to_vec()),
        None => {
            Err(OpError::argument(name, "numbers that are not compressed", constant.describe()))
        }
    }
}

fn conv_transpose(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(ConvTranspose {
        x: binder.input("x")?,
        weight: binder.input("weight")?,
        bias: binder.optional_input("bias")?,
        windows: Windows::bind(binder)?,
        groups: binder.positive("groups")?,
        output_shape: binder.optional_ints("output_shape")?,
    })
}

pub(super) const OPS: &[OpDef] = &[
    def("conv", Opset::Ios15, conv),
    def("conv", Opset::Ios17, conv),
    def("conv_quantized", Opset::Ios15, conv_quantized),
    def("conv_transpose", Opset::Ios15, conv_transpose),
    def("conv_transpose", Opset::Ios17, conv_transpose),
];

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::op::testing::{Case, indices, position};

    /// Small integers, whose sums of products are exact.
    fn numbers(shape: &[usize], factor: usize) -> Vec<f32> {
        (0..count(shape)).map(|i| (i * factor % 7) as f32 - 3.0).collect()
    }

    /// The definition, over one spatial axis with as much padding at either end.
    fn naive(x: (&[f32], &[usize]), w: (&[f32], &[usize]), pad: usize, groups: usize) -> Vec<f32> {
        let &[batch, _, points] = x.1 else { return Vec::new() };
        let &[filters, inputs, size] = w.1 else { return Vec::new() };
        let one = |at: &Vec<usize>| {
            let first = at[1] / (filters / groups) * inputs;
            let product = |from: &Vec<usize>| {
                let place = (at[2] + from[1]).checked_sub(pad).filter(|&place| place < points);
                place.map_or(0.0, |place| {
                    x.0[position(x.1, &[at[0], first + from[0], place])]
                        * w.0[position(w.1, &[at[1], from[0], from[1]])]
                })
            };
            indices(&[inputs, size]).iter().map(product).sum()
        };
        indices(&[batch, filters, points + 2 * pad + 1 - size]).iter().map(one).collect()
    }

    proptest! {
        #[test]
        fn filters_over_points_and_over_neighbours(
            batch in 1usize..3, inputs in 1usize..5, filters in 1usize..5,
            points in 1usize..9, size in 1usize..4, pad in 0usize..3,
        ) {
            prop_assume!(points + 2 * pad >= size);
            let shape = [batch, inputs, points];
            let weight = [filters, inputs, size];
            let (x, w) = (numbers(&shape, 3), numbers(&weight, 5));
            let result = vec![batch, filters, points + 2 * pad + 1 - size];
            let expected = naive((&x, &shape), (&w, &weight), pad, 1);
            let case = Case::new().floats("x", &shape, &x).floats("weight", &weight, &w);
            let case = case.string("pad_type", "custom").vector("pad", &[pad as i32; 2]);
            prop_assert_eq!(case.run_floats("conv", Opset::Ios15), (result, expected));
        }
    }

    #[test]
    fn filters_of_half_precision() {
        // Small filters, filters of one channel each, and filters that stay as they are.
        for (weight, groups) in [([2, 3, 2], 1), ([4, 1, 3], 4), ([256, 300, 1], 1)] {
            let shape = [1, weight[1] * groups, 5];
            let (x, w) = (numbers(&shape, 3), numbers(&weight, 5));
            let halves: Vec<f16> = w.iter().map(|&w| f16::from_f32(w)).collect();
            let case = Case::new().floats("x", &shape, &x).int("groups", groups as i32);
            let case = case.dense("weight", ElementType::Float16, &weight, &halves);
            let expected = naive((&x, &shape), (&w, &weight), 0, groups);
            assert_eq!(case.run_floats("conv", Opset::Ios15).1, expected);
        }
    }

    #[test]
    fn lists_need_a_size_for_each_axis() {
        let x = numbers(&[1, 2, 5], 3);
        let w = numbers(&[2, 2, 3], 5);
        let case = || Case::new().floats("x", &[1, 2, 5], &x).floats("weight", &[2, 2, 3], &w);
        for operator in ["conv", "conv_transpose"] {
            let custom = || case().string("pad_type", "custom");
            assert!(custom().run(operator, Opset::Ios17).is_ok());
            for (case, word) in [
                (case().vector("strides", &[1, 2]), "`strides`"),
                (case().vector("dilations", &[0]), "`dilations`"),
                (custom().vector("pad", &[1]), "`pad`"),
                (custom().vector("pad", &[-1, 0]), "`pad`"),
                (case().int("groups", 3), "`weight`"),
                (case().int("groups", 0), "`groups`"),
                (case().floats("bias", &[3], &[0.0; 3]), "`bias`"),
            ] {
                let Err(error) = case.run(operator, Opset::Ios17) else { panic!("{word} fits") };
                assert!(error.to_string().contains(word), "{error} lacks {word}");
            }
        }
    }

    #[test]
    fn a_transposed_result_of_a_size_that_cannot_be_is_refused() {
        let case = |pad: &[i32], shape: Option<&[i32]>| {
            let case = Case::new().floats("x", &[1, 1, 3], &[1.0, 2.0, 3.0]);
            let case = case.floats("weight", &[1, 1, 2], &[1.0, 10.0]);
            let case = case.string("pad_type", "custom").vector("pad", pad);
            match shape {
                Some(shape) => case.vector("output_shape", shape),
                None => case,
            }
        };
        let (shape, values) = case(&[1, 0], None).run_floats("conv_transpose", Opset::Ios15);
        assert_eq!((shape, values), (vec![1, 1, 3], vec![12.0, 23.0, 30.0]));
        // A result that is longer than all windows ends with the bias, a shorter one is cut.
        let (_, values) =
            case(&[1, 0], Some(&[1, 1, 4])).run_floats("conv_transpose", Opset::Ios15);
        assert_eq!(values, [12.0, 23.0, 30.0, 0.0]);
        let (_, values) =
            case(&[1, 0], Some(&[1, 1, 2])).run_floats("conv_transpose", Opset::Ios15);
        assert_eq!(values, [12.0, 23.0]);
        for (pad, shape, word) in [
            ([2, 2], None, "0 elements"),
            ([3, 3], None, "-2 elements"),
            ([0, 0], Some([1, 1, 0]), "0 elements"),
            ([0, 0], Some([1, 2, 4]), "`output_shape`"),
            ([0, 0], Some([2, 1, 4]), "`output_shape`"),
        ] {
            let case = case(&pad, shape.as_ref().map(|shape| shape.as_slice()));
            let Err(error) = case.run("conv_transpose", Opset::Ios15) else { panic!("{word}") };
            assert!(error.to_string().contains(word), "{error} lacks {word}");
        }
    }

    #[test]
    fn quantized_filters_of_a_table_are_refused_with_a_way_out() {
        let case = |kind: &str, bits: i32, scale: &[f32]| {
            let case = Case::new().floats("x", &[1, 1, 3], &[1.0, 2.0, 3.0]);
            let case = case.dense("weight", ElementType::UInt8, &[2, 1, 1], &[3u8, 4]);
            let case = case.string("quantization_type", kind).int("nbits", bits);
            let case = case.dense("quant_scale", ElementType::Float32, &[scale.len()], scale);
            case.float("quant_bias", -1.0)
        };
        let values = case("linear", 3, &[0.5, 2.0]).run_floats("conv_quantized", Opset::Ios15).1;
        assert_eq!(values, [0.5, 1.0, 1.5, 7.0, 14.0, 21.0]);
        for (case, word) in [
            (case("lut", 8, &[1.0]), "constexpr_lut_to_dense"),
            (case("linear", 9, &[1.0]), "`nbits`"),
            (case("linear", 8, &[1.0; 3]), "`quant_scale`"),
        ] {
            let Err(error) = case.run("conv_quantized", Opset::Ios15) else { panic!("{word}") };
            assert!(error.to_string().contains(word), "{error} lacks {word}");
        }
    }
}
