//! Normalizations. All statistics are those of the whole population, in double precision or close
//! to it.

use coreml_format::mil::Opset;
use coreml_kernels::norm::{self, ChannelParams, ResponseParams};
use smallvec::SmallVec;

use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Op, OpDef, Outputs, ResultTypes, bound, def, kernel, marked_axes, one,
};
use crate::value::{Layout, count, row_major, same_count};
use crate::weights::Weights;

/// The elements of a parameter that may be absent.
fn parameter<'a>(
    inputs: &Inputs<'a>,
    input: Option<usize>,
    expected: usize,
) -> Result<Option<&'a [f32]>, OpError> {
    let Some(input) = input else { return Ok(None) };
    let values = inputs.tensor(input)?.f32s()?;
    same_count(expected, values.len())?;
    Ok(Some(values))
}

/// Puts `x` into the output unless it is there.
fn start<'s>(
    inputs: &Inputs,
    outputs: &'s mut Outputs,
    x: usize,
) -> Result<&'s mut [f32], OpError> {
    let values = outputs.tensor(0)?.f32s()?;
    if !inputs.is_in_place(x) {
        let x = inputs.tensor(x)?.f32s()?;
        same_count(values.len(), x.len())?;
        values.copy_from_slice(x);
    }
    Ok(values)
}

/// Calls `visit` with the number and the position of each element of a layout, in order.
fn each(layout: &Layout, mut visit: impl FnMut(usize, usize)) {
    let (len, stride) = layout.row();
    layout.for_each_row(|first, position| {
        for i in 0..len {
            visit(first + i, (position as isize + i as isize * stride) as usize);
        }
    });
}

/// Mean and variance of the values that lie so.
fn statistics(values: &[f32], layout: &Layout) -> (f64, f64) {
    let number = layout.count().max(1) as f64;
    let (mut sum, mut squares) = (0.0, 0.0);
    each(layout, |_, position| sum += f64::from(values[position]));
    let mean = sum / number;
    each(layout, |_, position| squares += (f64::from(values[position]) - mean).powi(2));
    (mean, squares / number)
}

/// Normalizes over axes, with a scale and a shift for each element of these.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    pub(crate) x: usize,
    /// All axes, if there is no list.
    pub(crate) axes: Option<SmallVec<[i64; 8]>>,
    pub(crate) gamma: Option<usize>,
    pub(crate) beta: Option<usize>,
    pub(crate) epsilon: f32,
}

/// The layout of a tensor's axes that are marked as `wanted`.
fn part(shape: &[usize], marked: &[bool], wanted: bool) -> Layout {
    let axes = shape.iter().zip(row_major(shape)).zip(marked);
    let axes = axes.filter(|(_, marked)| **marked == wanted);
    Layout::new(0, axes.map(|((&size, stride), _)| (size, stride as isize)))
}

/// Normalizes over axes that are not the last ones: `together`, for each element of `apart`.
fn scattered(
    values: &mut [f32],
    (apart, together): (&Layout, &Layout),
    (gamma, beta): (Option<&[f32]>, Option<&[f32]>),
    epsilon: f32,
) {
    each(apart, |_, base| {
        let values = &mut values[base..];
        let (mean, variance) = statistics(values, together);
        let scale = (variance + f64::from(epsilon)).sqrt().recip();
        each(together, |i, position| {
            let value = ((f64::from(values[position]) - mean) * scale) as f32;
            let gamma = gamma.map_or(1.0, |gamma| gamma[i]);
            values[position] = value * gamma + beta.map_or(0.0, |beta| beta[i]);
        });
    });
}

impl Op for LayerNorm {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        let normalized = marked_axes(self.axes.as_deref(), shape.len())?;
        let sizes = shape.iter().zip(&normalized).filter(|(_, normalized)| **normalized);
        let expected: SmallVec<[usize; 6]> = sizes.map(|(&size, _)| size).collect();
        for (name, parameter) in [("gamma", self.gamma), ("beta", self.beta)] {
            let Some(parameter) = parameter else { continue };
            let got = inputs.shape(parameter)?;
            if got != expected.as_slice() {
                let expected = format!("shape {:?}", expected.as_slice());
                return Err(OpError::argument(name, expected, format!("shape {got:?}")));
            }
        }
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let shape = inputs.shape(self.x)?;
        let normalized = marked_axes(self.axes.as_deref(), shape.len())?;
        let trailing = normalized.iter().skip_while(|marked| !**marked).all(|&marked| marked);
        let (apart, together) = (part(shape, &normalized, false), part(shape, &normalized, true));
        let size = together.count();
        let &LayerNorm { x, gamma, beta, epsilon, .. } = self;
        kernel(move |inputs, outputs, context| {
            let gamma = parameter(inputs, gamma, size)?;
            let beta = parameter(inputs, beta, size)?;
            let values = start(inputs, outputs, x)?;
            if values.is_empty() {
                return Ok(());
            }
            if trailing {
                return Ok(norm::layer_norm(context, values, size, gamma, beta, epsilon)?);
            }
            scattered(values, (&apart, &together), (gamma, beta), epsilon);
            Ok(())
        })
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn layer_norm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(LayerNorm {
        x: binder.input("x")?,
        axes: binder.optional_ints("axes")?,
        gamma: binder.optional_input("gamma")?,
        beta: binder.optional_input("beta")?,
        epsilon: binder.float("epsilon")?,
    })
}

/// Normalizes each channel, by given statistics or by those of each instance.
#[derive(Clone, Debug)]
pub(crate) struct ChannelNorm {
    pub(crate) x: usize,
    /// Mean and variance of `batch_norm`.
    pub(crate) given: Option<(usize, usize)>,
    pub(crate) gamma: Option<usize>,
    pub(crate) beta: Option<usize>,
    pub(crate) epsilon: f32,
}

impl Op for ChannelNorm {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        if shape.len() < 2 {
            let got = format!("shape {shape:?}");
            return Err(OpError::argument("x", "a batch, channels and more axes", got));
        }
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let shape = inputs.shape(self.x)?;
        let (channels, size) = (shape[1], count(&shape[2..]));
        let &ChannelNorm { x, given, gamma, beta, epsilon } = self;
        kernel(move |inputs, outputs, context| {
            let of = |input: Option<usize>| parameter(inputs, input, channels);
            let given = match given {
                Some((mean, variance)) => of(Some(mean))?.zip(of(Some(variance))?),
                None => None,
            };
            let params = ChannelParams { given, gamma: of(gamma)?, beta: of(beta)?, epsilon };
            let values = start(inputs, outputs, x)?;
            if values.is_empty() {
                return Ok(());
            }
            Ok(norm::channel_norm(context, values, channels, size, &params)?)
        })
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn batch_norm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(ChannelNorm {
        x: binder.input("x")?,
        given: Some((binder.input("mean")?, binder.input("variance")?)),
        gamma: binder.optional_input("gamma")?,
        beta: binder.optional_input("beta")?,
        epsilon: binder.float("epsilon")?,
    })
}

fn instance_norm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(ChannelNorm {
        x: binder.input("x")?,
        given: None,
        gamma: binder.optional_input("gamma")?,
        beta: binder.optional_input("beta")?,
        epsilon: binder.float("epsilon")?,
    })
}

/// Divides by the root of the sum of squares over the last three axes.
#[derive(Clone, Debug)]
pub(crate) struct L2Norm {
    pub(crate) x: usize,
    pub(crate) epsilon: f32,
}

impl Op for L2Norm {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        if shape.len() < 3 {
            let got = format!("shape {shape:?}");
            return Err(OpError::argument("x", "a tensor of rank 3 or more", got));
        }
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let shape = inputs.shape(self.x)?;
        let size = count(&shape[shape.len().saturating_sub(3)..]).max(1);
        let &L2Norm { x, epsilon } = self;
        kernel(move |inputs, outputs, _| {
            for row in start(inputs, outputs, x)?.chunks_mut(size) {
                let squares: f64 = row.iter().map(|&value| f64::from(value).powi(2)).sum();
                let scale = (squares + f64::from(epsilon)).sqrt().recip();
                row.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
            }
            Ok(())
        })
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn l2_norm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(L2Norm { x: binder.input("x")?, epsilon: binder.float("epsilon")? })
}

/// Divides by a power of the mean square over neighbouring channels.
#[derive(Clone, Debug)]
pub(crate) struct LocalResponseNorm {
    pub(crate) x: usize,
    pub(crate) params: ResponseParams,
}

impl Op for LocalResponseNorm {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        if shape.len() < 3 {
            let got = format!("shape {shape:?}");
            return Err(OpError::argument("x", "a tensor of rank 3 or more", got));
        }
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let shape = inputs.shape(self.x)?;
        // Core ML takes a tensor of rank 3 for channels, height and width: coremltools' test of exact
        // values has neighbours along the first axis there, against the definition's text.
        let channels = if shape.len() == 3 { 0 } else { 1 };
        let (number, inner) = (shape[channels], count(&shape[channels + 1..]));
        let &LocalResponseNorm { x, params } = self;
        kernel(move |inputs, outputs, context| {
            let (x, out) = (inputs.tensor(x)?.f32s()?, outputs.tensor(0)?.f32s()?);
            if out.is_empty() {
                return Ok(());
            }
            Ok(norm::local_response_norm(context, x, out, number, inner, &params)?)
        })
    }
}

fn local_response_norm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let (alpha, beta) = (binder.float("alpha")?, binder.float("beta")?);
    let params =
        ResponseParams { size: binder.positive("size")?, alpha, beta, k: binder.float("k")? };
    bound(LocalResponseNorm { x, params })
}

/// Divides each vector along the last axis by the root of its mean square. No operator of MIL: a
/// rewrite makes it.
#[derive(Clone, Debug)]
pub(crate) struct RmsNorm {
    pub(crate) x: usize,
    /// A factor for each element of a vector.
    pub(crate) gamma: Option<usize>,
    pub(crate) epsilon: f32,
}

impl Op for RmsNorm {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.x)?, inputs.shape(self.x)?)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let size = inputs.shape(self.x)?.last().copied().unwrap_or(1).max(1);
        let &RmsNorm { x, gamma, epsilon } = self;
        kernel(move |inputs, outputs, context| {
            let gamma = parameter(inputs, gamma, size)?;
            let values = start(inputs, outputs, x)?;
            Ok(norm::rms_norm(context, values, size, gamma, epsilon)?)
        })
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

pub(super) const OPS: &[OpDef] = &[
    def("batch_norm", Opset::Ios15, batch_norm),
    def("batch_norm", Opset::Ios17, batch_norm),
    def("instance_norm", Opset::Ios15, instance_norm),
    def("instance_norm", Opset::Ios17, instance_norm),
    def("l2_norm", Opset::Ios15, l2_norm),
    def("l2_norm", Opset::Ios17, l2_norm),
    def("layer_norm", Opset::Ios15, layer_norm),
    def("layer_norm", Opset::Ios17, layer_norm),
    def("local_response_norm", Opset::Ios15, local_response_norm),
    def("local_response_norm", Opset::Ios17, local_response_norm),
];

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;

    use super::*;
    use crate::op::testing::Case;

    const SHAPE: [usize; 4] = [2, 3, 2, 2];
    const CHANNEL: usize = 4;
    const EPSILON: f32 = 0.25;

    fn numbers(len: usize, factor: usize) -> Vec<f32> {
        (0..len).map(|i| (i * factor % 13) as f32 / 4.0 - 1.0).collect()
    }

    fn close(got: &[f32], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((f64::from(*got) - expected).abs() < 1e-6, "{got}, expected {expected}");
        }
    }

    /// Mean and mean square distance from it.
    fn moments(values: &[f32]) -> (f64, f64) {
        let number = values.len() as f64;
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / number;
        let squares = values.iter().map(|&value| (f64::from(value) - mean).powi(2));
        (mean, squares.sum::<f64>() / number)
    }

    /// Channels normalized by these means and variances, with a scale of their own and no shift.
    fn channels(x: &[f32], gamma: &[f32], moments: impl Fn(usize) -> (f64, f64)) -> Vec<f64> {
        let one = |(i, &x): (usize, &f32)| {
            let (mean, variance) = moments(i / CHANNEL);
            let gamma = f64::from(gamma[i / CHANNEL % 3]);
            (f64::from(x) - mean) / (variance + f64::from(EPSILON)).sqrt() * gamma
        };
        x.iter().enumerate().map(one).collect()
    }

    fn case(x: &[f32], gamma: &[f32]) -> Case {
        let case = Case::new().floats("x", &SHAPE, x).float("epsilon", EPSILON);
        case.dense("gamma", ElementType::Float32, &[3], gamma)
    }

    #[test]
    fn batch_norm_takes_the_statistics_it_is_given() {
        let (x, gamma) = (numbers(24, 5), [1.0, -2.0, 0.5]);
        let (mean, variance) = ([0.5f32, -1.0, 2.0], [1.0f32, 4.0, 0.0]);
        let case = case(&x, &gamma).dense("mean", ElementType::Float32, &[3], &mean);
        let case = case.dense("variance", ElementType::Float32, &[3], &variance);
        let expected =
            channels(&x, &gamma, |row| (f64::from(mean[row % 3]), f64::from(variance[row % 3])));
        close(&case.run_floats("batch_norm", Opset::Ios15).1, &expected);
    }

    #[test]
    fn instance_norm_takes_those_of_each_instance_and_channel() {
        let (x, gamma) = (numbers(24, 5), [1.0, -2.0, 0.5]);
        let expected = channels(&x, &gamma, |row| moments(&x[row * CHANNEL..(row + 1) * CHANNEL]));
        close(&case(&x, &gamma).run_floats("instance_norm", Opset::Ios17).1, &expected);
    }

    #[test]
    fn l2_norm_divides_by_the_length_over_three_axes() {
        let x = numbers(24, 7);
        let length = |i: usize| {
            let row = &x[i / 12 * 12..][..12];
            let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
            (squares + f64::from(EPSILON)).sqrt()
        };
        let expected: Vec<f64> =
            x.iter().enumerate().map(|(i, &x)| f64::from(x) / length(i)).collect();
        let case = Case::new().floats("x", &SHAPE, &x).float("epsilon", EPSILON);
        close(&case.run_floats("l2_norm", Opset::Ios15).1, &expected);
    }

    #[test]
    fn layer_norm_over_axes_that_are_not_the_last() {
        let (x, gamma) = (numbers(24, 5), numbers(6, 3));
        // Axes 0 and 1, beside which 4 elements are apart.
        let apart: Vec<Vec<f32>> =
            (0..CHANNEL).map(|i| x.iter().skip(i).step_by(CHANNEL).copied().collect()).collect();
        let one = |(i, &x): (usize, &f32)| {
            let (mean, variance) = moments(&apart[i % CHANNEL]);
            let value = (f64::from(x) - mean) / (variance + f64::from(EPSILON)).sqrt();
            value * f64::from(gamma[i / CHANNEL])
        };
        let expected: Vec<f64> = x.iter().enumerate().map(one).collect();
        let case = Case::new().floats("x", &SHAPE, &x).float("epsilon", EPSILON);
        let case = case.vector("axes", &[1, 0]);
        let case = case.dense("gamma", ElementType::Float32, &[2, 3], &gamma);
        close(&case.run_floats("layer_norm", Opset::Ios15).1, &expected);
    }
}
