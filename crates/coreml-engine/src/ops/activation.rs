//! Activation functions, softmax among them.

use coreml_format::mil::Opset;
use coreml_kernels::softmax as kernels;

use super::elementwise_unary::{
    GeluMode, Unary, each, load, softplus, unary, with_alpha, with_alpha_beta,
};
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, axis, bound, def, kernel, one};
use crate::value::{Lines, same_count};
use crate::weights::Weights;

fn gelu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let modes = [
        ("EXACT", GeluMode::Exact),
        ("TANH_APPROXIMATION", GeluMode::TanhApproximation),
        ("SIGMOID_APPROXIMATION", GeluMode::SigmoidApproximation),
    ];
    let mode = binder.one_of("mode", &modes)?;
    unary(binder, Unary::Gelu(mode))
}

fn elu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_alpha(binder, |alpha| Unary::Elu { alpha })
}

fn leaky_relu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_alpha(binder, |alpha| Unary::LeakyRelu { alpha })
}

fn thresholded_relu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_alpha(binder, |alpha| Unary::ThresholdedRelu { alpha })
}

fn clamped_relu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_alpha_beta(binder, |alpha, beta| Unary::ClampedRelu { alpha, beta })
}

fn linear_activation(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_alpha_beta(binder, |alpha, beta| Unary::LinearActivation { alpha, beta })
}

fn scaled_tanh(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_alpha_beta(binder, |alpha, beta| Unary::ScaledTanh { alpha, beta })
}

fn sigmoid_hard(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_alpha_beta(binder, |alpha, beta| Unary::SigmoidHard { alpha, beta })
}

/// A function with parameters for each channel, the second axis.
#[derive(Clone, Debug)]
pub(crate) struct PerChannel {
    pub(crate) x: usize,
    pub(crate) function: ChannelFunction,
}

/// What [`PerChannel`] computes, with the inputs that hold its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelFunction {
    /// `α x` below 0.
    Prelu { alpha: usize },
    /// `α log(1 + e^(β x))`.
    SoftplusParametric { alpha: usize, beta: usize },
}

impl ChannelFunction {
    /// The inputs with parameters, by the names of their arguments.
    fn parameters(self) -> impl Iterator<Item = (&'static str, usize)> {
        let (alpha, beta) = match self {
            ChannelFunction::Prelu { alpha } => (alpha, None),
            ChannelFunction::SoftplusParametric { alpha, beta } => (alpha, Some(beta)),
        };
        std::iter::once(("alpha", alpha)).chain(beta.map(|beta| ("beta", beta)))
    }

    /// Replaces the values of a tensor whose channels are the lines' axis.
    fn apply(self, inputs: &Inputs, lines: &Lines, values: &mut [f32]) -> Result<(), OpError> {
        same_count(lines.elements(), values.len())?;
        let channels = values.chunks_mut(lines.inner.max(1)).enumerate();
        let channels = channels.map(|(row, values)| (row % lines.size, values));
        match self {
            ChannelFunction::Prelu { alpha } => {
                let alpha = parameter(inputs, alpha, lines)?;
                for (channel, values) in channels {
                    let alpha = alpha[channel];
                    each(values, |x| if x < 0.0 { alpha * x } else { x });
                }
            }
            ChannelFunction::SoftplusParametric { alpha, beta } => {
                let (alpha, beta) =
                    (parameter(inputs, alpha, lines)?, parameter(inputs, beta, lines)?);
                for (channel, values) in channels {
                    let (alpha, beta) = (alpha[channel], beta[channel]);
                    each(values, |x| alpha * softplus(beta * x));
                }
            }
        }
        Ok(())
    }
}

/// A parameter of all channels.
fn parameter<'a>(inputs: &Inputs<'a>, input: usize, lines: &Lines) -> Result<&'a [f32], OpError> {
    let values = inputs.tensor(input)?.f32s()?;
    same_count(lines.size, values.len())?;
    Ok(values)
}

impl Op for PerChannel {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        let channels = shape.get(1).copied();
        for (name, parameter) in self.function.parameters() {
            let got = inputs.shape(parameter)?;
            if got.len() != 1 || got.first().copied() != channels {
                let expected = format!("one number for each channel of `x` of shape {shape:?}");
                return Err(OpError::argument(name, expected, format!("shape {got:?}")));
            }
        }
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let PerChannel { x, function } = *self;
        let shape = inputs.shape(x)?;
        let lines = Lines::along(shape, axis(1, shape.len(), "x")?);
        kernel(move |inputs, outputs, _context| {
            let out = outputs.tensor(0)?;
            load(inputs, x, out)?;
            function.apply(inputs, &lines, out.f32s()?)
        })
    }

    fn reads_strided(&self, input: usize) -> bool {
        input == self.x
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn prelu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let function = ChannelFunction::Prelu { alpha: binder.input("alpha")? };
    bound(PerChannel { x, function })
}

fn softplus_parametric(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let (alpha, beta) = (binder.input("alpha")?, binder.input("beta")?);
    bound(PerChannel { x, function: ChannelFunction::SoftplusParametric { alpha, beta } })
}

/// `exp(x) / sum(exp(x))` along an axis.
#[derive(Clone, Debug)]
pub(crate) struct Softmax {
    pub(crate) x: usize,
    /// May count from the end.
    pub(crate) axis: i64,
}

impl Op for Softmax {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        axis(self.axis, shape.len(), "axis")?;
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let x = self.x;
        let shape = inputs.shape(x)?;
        let Lines { outer, size, inner } =
            Lines::along(shape, axis(self.axis, shape.len(), "axis")?);
        kernel(move |inputs, outputs, context| {
            let out = outputs.tensor(0)?;
            load(inputs, x, out)?;
            Ok(kernels::softmax(context, out.f32s()?, outer, size, inner)?)
        })
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn softmax(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(Softmax { x: binder.input("x")?, axis: binder.int("axis")? })
}

pub(super) const OPS: &[OpDef] = &[
    def("clamped_relu", Opset::Ios15, clamped_relu),
    def("clamped_relu", Opset::Ios17, clamped_relu),
    def("elu", Opset::Ios15, elu),
    def("elu", Opset::Ios17, elu),
    def("gelu", Opset::Ios15, gelu),
    def("leaky_relu", Opset::Ios15, leaky_relu),
    def("leaky_relu", Opset::Ios17, leaky_relu),
    def("linear_activation", Opset::Ios15, linear_activation),
    def("linear_activation", Opset::Ios17, linear_activation),
    def("prelu", Opset::Ios15, prelu),
    def("prelu", Opset::Ios17, prelu),
    def("relu", Opset::Ios15, |binder| unary(binder, Unary::Relu)),
    def("relu6", Opset::Ios15, |binder| unary(binder, Unary::Relu6)),
    def("scaled_tanh", Opset::Ios15, scaled_tanh),
    def("scaled_tanh", Opset::Ios17, scaled_tanh),
    def("sigmoid", Opset::Ios15, |binder| unary(binder, Unary::Sigmoid)),
    def("sigmoid_hard", Opset::Ios15, sigmoid_hard),
    def("sigmoid_hard", Opset::Ios17, sigmoid_hard),
    def("silu", Opset::Ios15, |binder| unary(binder, Unary::Silu)),
    def("softmax", Opset::Ios15, softmax),
    def("softplus", Opset::Ios15, |binder| unary(binder, Unary::Softplus)),
    def("softplus_parametric", Opset::Ios15, softplus_parametric),
    def("softplus_parametric", Opset::Ios17, softplus_parametric),
    def("softsign", Opset::Ios15, |binder| unary(binder, Unary::Softsign)),
    def("thresholded_relu", Opset::Ios15, thresholded_relu),
    def("thresholded_relu", Opset::Ios17, thresholded_relu),
];

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;

    use super::*;
    use crate::op::testing::Case;

    const X: [f32; 6] = [-3.0, -1.0, -0.25, 0.0, 0.5, 3.0];

    fn check(operator: &str, case: Case, expected: [f64; 6]) {
        let got = case.floats("x", &[1, 2, 3], &X).run_floats(operator, Opset::Ios17).1;
        for ((x, got), expected) in X.iter().zip(got).zip(expected) {
            let near = (f64::from(got) - expected).abs() < 1e-6 * expected.abs().max(1.0);
            assert!(near, "{operator}({x}) is {got}, expected {expected}");
        }
    }

    #[test]
    fn functions_with_parameters_are_numpys() {
        let with = |alpha| Case::new().float("alpha", alpha);
        // np.where(x < 0, 0.1 * x, x), np.where(x < 0, 0.5 * (np.exp(x) - 1), x), …
        check("leaky_relu", with(0.1), [-0.3, -0.1, -0.025, 0.0, 0.5, 3.0]);
        let expected = [-0.475106466, -0.316060279, -0.110599608, 0.0, 0.5, 3.0];
        check("elu", with(0.5), expected);
        check("thresholded_relu", with(1.0), [0.0, 0.0, 0.0, 0.0, 0.0, 3.0]);
        let both = |alpha, beta| with(alpha).float("beta", beta);
        check("clamped_relu", both(0.5, 2.0), [-1.5, -0.5, -0.125, 0.0, 0.5, 2.0]);
        check("linear_activation", both(2.0, -1.0), [-7.0, -3.0, -1.5, -1.0, 0.0, 5.0]);
        check("sigmoid_hard", both(0.3, 0.6), [0.0, 0.3, 0.525, 0.6, 0.75, 1.0]);
        // 2 * np.tanh(0.5 * x)
        let expected = [-1.810296507, -0.924234315, -0.248706004, 0.0, 0.489837325, 1.810296507];
        check("scaled_tanh", both(2.0, 0.5), expected);
    }

    #[test]
    fn functions_without_parameters_are_numpys() {
        let check = |operator, expected| check(operator, Case::new(), expected);
        check("relu", [0.0, 0.0, 0.0, 0.0, 0.5, 3.0]);
        check("softsign", [-0.75, -0.5, -0.2, 0.0, 1.0 / 3.0, 0.75]);
        // np.log1p(np.exp(x)), x / (1 + np.exp(-x))
        check(
            "softplus",
            [
                0.048587352,
                0.313261688,
                0.57593942,
                std::f64::consts::LN_2,
                0.974076984,
                3.048587352,
            ],
        );
        check("silu", [-0.14227762, -0.268941421, -0.109455875, 0.0, 0.311229666, 2.85772238]);
    }

    #[test]
    fn gelu_has_its_three_modes() {
        let mode = |mode| Case::new().string("mode", mode);
        // x / 2 * (1 + erf(x / √2)), x / 2 * (1 + tanh(√(2 / π) * (x + 0.044715 * x³))) and
        // x / (1 + exp(-1.702 * x)) in double precision
        let expected = [-0.004049694, -0.158655254, -0.100323419, 0.0, 0.345731231, 2.995950306];
        check("gelu", Case::new(), expected);
        check("gelu", mode("EXACT"), expected);
        let expected = [-0.003637392, -0.158808009, -0.100324649, 0.0, 0.34571401, 2.996362608];
        check("gelu", mode("TANH_APPROXIMATION"), expected);
        let expected = [-0.01807131, -0.154204234, -0.09880035, 0.0, 0.350388437, 2.98192869];
        check("gelu", mode("SIGMOID_APPROXIMATION"), expected);
    }

    #[test]
    fn channels_have_their_parameters() {
        let case = || Case::new().dense("alpha", ElementType::Float32, &[2], &[0.5f32, 2.0]);
        check("prelu", case(), [-1.5, -0.5, -0.125, 0.0, 0.5, 3.0]);
        // alpha * np.log1p(np.exp(beta * x)) with alpha and beta of shape [2, 1]
        let case = case().dense("beta", ElementType::Float32, &[2], &[1f32, 3.0]);
        let expected =
            [0.024293676, 0.156630844, 0.28796971, 1.386294361, 3.402826556, 18.000246804];
        check("softplus_parametric", case, expected);
    }

    #[test]
    fn softmax_goes_along_its_axis() {
        // np.exp(x) / np.exp(x).sum(axis, keepdims=True)
        let expected =
            [0.041611725, 0.307471373, 0.650916902, 0.04398648, 0.072521446, 0.883492074];
        check("softmax", Case::new(), expected);
        let expected =
            [0.047425873, 0.182425524, 0.037326887, 0.952574127, 0.817574476, 0.962673113];
        check("softmax", Case::new().int("axis", 1), expected);
    }
}
