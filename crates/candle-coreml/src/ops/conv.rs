//! Convolutions.

use coreml_format::mil::Opset;
use coreml_kernels::conv::SpatialDim;
use coreml_kernels::{ColumnLayout, ConvParams, OutputLayout, conv as kernel, project};
use smallvec::SmallVec;

use super::compression::weights;
use super::linear::matrix;
use super::strided::count;
use super::{Binder, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, def, one};
use crate::value::{Constant, Shape};

/// Where zeros are added around the input.
#[derive(Clone)]
enum Padding {
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
struct Conv {
    x: usize,
    weight: usize,
    bias: Option<usize>,
    padding: Padding,
    strides: Option<SmallVec<[i64; 8]>>,
    dilations: Option<SmallVec<[i64; 8]>>,
    groups: usize,
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

    /// True when each point of the result is made from the same point of `x` alone.
    fn is_pointwise(&self, dims: &[SpatialDim]) -> bool {
        let points =
            |dim: &SpatialDim| (dim.kernel, dim.stride, dim.pad_begin, dim.pad_end) == (1, 1, 0, 0);
        self.groups == 1 && dims.iter().all(points)
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

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let x = inputs.tensor(self.x)?;
        let weight = inputs.shape(self.weight)?;
        let dims = self.spatial(x.shape, weight)?;
        let w = matrix(inputs, self.weight, weight[0], count(&weight[1..]))?;
        let bias = match self.bias {
            Some(bias) => Some(inputs.tensor(bias)?.f32s()?),
            None => None,
        };
        let out = outputs.tensor(0)?.f32s()?;
        if self.is_pointwise(&dims) {
            let points = count(&x.shape[2..]);
            let from = ColumnLayout { stride_k: points, stride_s: 1 };
            let to = OutputLayout { stride_n: points, stride_s: 1 };
            let images = x.f32s()?.chunks((w.cols * points).max(1));
            for (x, out) in images.zip(out.chunks_mut((w.rows * points).max(1))) {
                project(&w, x, from, points, bias, out, to, &mut scratch.kernel[0])?;
            }
            return Ok(());
        }
        let params = ConvParams {
            batch: x.shape[0],
            in_channels: x.shape[1],
            out_channels: weight[0],
            groups: self.groups,
            spatial: &dims,
        };
        Ok(kernel(&params, x.f32s()?, &w, bias, out, &mut scratch.kernel)?)
    }

    fn accepts_half(&self, input: usize) -> bool {
        input == self.weight
    }

    fn accepts_compressed(&self, input: usize, constant: &Constant) -> bool {
        let shape = &constant.shape;
        input == self.weight
            && shape.len() >= 3
            && weights(constant, shape[0], count(&shape[1..])).is_some()
    }
}

fn padding(binder: &Binder) -> Result<Padding, OpError> {
    match binder.string("pad_type")?.unwrap_or("valid") {
        "valid" => Ok(Padding::Valid),
        "same" => Ok(Padding::Same { lower: false }),
        "same_lower" => Ok(Padding::Same { lower: true }),
        "custom" => Ok(Padding::Custom(binder.required_ints("pad")?)),
        other => {
            let expected = "`valid`, `same`, `same_lower` or `custom`";
            Err(OpError::argument("pad_type", expected, format!("`{other}`")))
        }
    }
}

fn conv(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, weight) = (binder.input("x")?, binder.input("weight")?);
    let groups = binder.int("groups")?.unwrap_or(1);
    let positive = usize::try_from(groups).ok().filter(|&groups| groups > 0);
    Ok(Box::new(Conv {
        x,
        weight,
        bias: binder.optional_input("bias")?,
        padding: padding(binder)?,
        strides: binder.ints("strides")?,
        dilations: binder.ints("dilations")?,
        groups: positive
            .ok_or_else(|| OpError::argument("groups", "a positive integer", groups.to_string()))?,
    }))
}

pub(super) const OPS: &[OpDef] = &[def("conv", Opset::Ios15, conv)];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{Case, indices, position};

    /// Small integers, whose sums of products are exact.
    fn numbers(shape: &[usize], factor: usize) -> Vec<f32> {
        (0..count(shape)).map(|i| (i * factor % 7) as f32 - 3.0).collect()
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
            let result = [batch, filters, points + 2 * pad + 1 - size];
            let expected: Vec<f32> = indices(&result).iter().map(|at| {
                indices(&[inputs, size]).iter().map(|from| {
                    let place = (at[2] + from[1]).checked_sub(pad).filter(|&i| i < points);
                    place.map_or(0.0, |place| {
                        x[position(&shape, &[at[0], from[0], place])]
                            * w[position(&weight, &[at[1], from[0], from[1]])]
                    })
                }).sum()
            }).collect();
            let case = Case::new().floats("x", &shape, &x).floats("weight", &weight, &w);
            let case = case.string("pad_type", "custom").vector("pad", &[pad as i32; 2]);
            prop_assert_eq!(case.run_floats("conv", Opset::Ios15), (result.to_vec(), expected));
        }
    }
}
