//! Convolutions.

use coreml_format::mil::Opset;
use coreml_kernels::conv::SpatialDim;
use coreml_kernels::{ConvParams, conv as convolve};
use smallvec::SmallVec;

use super::linear::weight_matrix;
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, bound, def, kernel, one};
use crate::value::{Constant, Shape, count};
use crate::weights::{Weights, matrix};

/// Where zeros are added around the input.
#[derive(Clone, Debug)]
pub(crate) enum Padding {
    Valid,
    /// As many as make the output's size that of the input over the stride; the odd one at the end
    /// or at the beginning.
    Same {
        lower: bool,
    },
    /// Before and after each spatial axis.
    Custom(SmallVec<[i64; 8]>),
}

/// A convolution over one to three spatial axes.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    pub(crate) x: usize,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    pub(crate) padding: Padding,
    pub(crate) strides: Option<SmallVec<[i64; 8]>>,
    pub(crate) dilations: Option<SmallVec<[i64; 8]>>,
    pub(crate) groups: usize,
}

/// Entry `i` of a list of sizes, 1 if there is no list.
fn entry(name: &str, sizes: Option<&[i64]>, i: usize) -> Result<usize, OpError> {
    let Some(sizes) = sizes else { return Ok(1) };
    let size = sizes.get(i).and_then(|&size| usize::try_from(size).ok()).filter(|&size| size > 0);
    size.ok_or_else(|| {
        OpError::argument(name, "a positive integer for each spatial axis", format!("{sizes:?}"))
    })
}

impl Padding {
    /// Zeros before and after spatial axis `i`.
    fn of(&self, i: usize, dim: &SpatialDim) -> Result<(usize, usize), OpError> {
        match self {
            Padding::Valid => Ok((0, 0)),
            Padding::Same { lower } => {
                let extent = (dim.kernel.saturating_sub(1)).saturating_mul(dim.dilation) + 1;
                let covered = (dim.input.div_ceil(dim.stride).saturating_sub(1))
                    .saturating_mul(dim.stride)
                    .saturating_add(extent);
                let total = covered.saturating_sub(dim.input);
                let (small, large) = (total / 2, total.div_ceil(2));
                Ok(if *lower { (large, small) } else { (small, large) })
            }
            Padding::Custom(pad) => {
                let side = |at: usize| pad.get(at).and_then(|&size| usize::try_from(size).ok());
                side(2 * i).zip(side(2 * i + 1)).ok_or_else(|| {
                    let expected = "two sizes, 0 or more, for each spatial axis";
                    OpError::argument("pad", expected, format!("{:?}", pad.as_slice()))
                })
            }
        }
    }
}

impl Conv {
    fn spatial(&self, x: &[usize], weight: &[usize]) -> Result<SmallVec<[SpatialDim; 3]>, OpError> {
        let fits = (3..=5).contains(&x.len())
            && weight.len() == x.len()
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
        let mut dims = SmallVec::new();
        for (i, (&input, &size)) in x[2..].iter().zip(&weight[2..]).enumerate() {
            let mut dim = SpatialDim {
                input,
                kernel: size,
                stride: entry("strides", self.strides.as_deref(), i)?,
                dilation: entry("dilations", self.dilations.as_deref(), i)?,
                pad_begin: 0,
                pad_end: 0,
            };
            (dim.pad_begin, dim.pad_end) = self.padding.of(i, &dim)?;
            dims.push(dim);
        }
        Ok(dims)
    }
}

impl Op for Conv {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (x, weight) = (inputs.shape(self.x)?, inputs.shape(self.weight)?);
        let mut shape = Shape::new();
        let dims = self.spatial(x, weight)?;
        shape.extend([x[0], weight[0]]);
        for dim in &dims {
            shape.push(dim.output()?);
        }
        if let Some(bias) = self.bias {
            let got = inputs.shape(bias)?;
            if got != [weight[0]] {
                let expected = format!("shape [{}], one number for each filter", weight[0]);
                return Err(OpError::argument("bias", expected, format!("shape {got:?}")));
            }
        }
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (shape, filters) = (inputs.shape(self.x)?, inputs.shape(self.weight)?);
        let spatial = self.spatial(shape, filters)?;
        let (batch, in_channels) = (shape[0], shape[1]);
        let (out_channels, cols) = (filters[0], count(&filters[1..]));
        let &Conv { x, weight, bias, groups, .. } = self;
        kernel(move |inputs, outputs, context| {
            let w = weight_matrix(inputs, weight, out_channels, cols)?;
            let bias = match bias {
                Some(bias) => Some(inputs.tensor(bias)?.f32s()?),
                None => None,
            };
            let params = ConvParams { batch, in_channels, out_channels, groups, spatial: &spatial };
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
            && shape.len() >= 3
            && matrix(constant, shape[0], count(&shape[1..])).is_some()
    }
}

fn padding(binder: &Binder) -> Result<Padding, OpError> {
    let pad = binder.optional_ints("pad")?;
    match binder.string("pad_type")? {
        "valid" => Ok(Padding::Valid),
        "same" => Ok(Padding::Same { lower: false }),
        "same_lower" => Ok(Padding::Same { lower: true }),
        "custom" => pad.map(Padding::Custom).ok_or_else(|| OpError::Missing("pad".to_owned())),
        other => {
            let expected = "`valid`, `same`, `same_lower` or `custom`";
            Err(OpError::argument("pad_type", expected, format!("`{other}`")))
        }
    }
}

fn conv(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(Conv {
        x: binder.input("x")?,
        weight: binder.input("weight")?,
        bias: binder.optional_input("bias")?,
        padding: padding(binder)?,
        strides: binder.optional_ints("strides")?,
        dilations: binder.optional_ints("dilations")?,
        groups: binder.positive("groups")?,
    })
}

pub(super) const OPS: &[OpDef] =
    &[def("conv", Opset::Ios15, conv), def("conv", Opset::Ios17, conv)];

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
}
