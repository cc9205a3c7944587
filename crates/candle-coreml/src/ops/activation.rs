//! Activation functions, softmax among them.

use coreml_format::mil::Opset;
use coreml_kernels::{softmax as kernel, vecmath};

use super::elementwise_unary::{each, map, required_float};
use super::strided::{count, same_count};
use super::{Binder, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, axis, def, one};

fn relu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    // A comparison lets NaN through, as NumPy's maximum does.
    map(binder, each(|x| if x < 0.0 { 0.0 } else { x }))
}

fn relu6(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(|x| x.clamp(0.0, 6.0)))
}

fn sigmoid(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, vecmath::sigmoid)
}

fn silu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, vecmath::silu)
}

fn gelu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    match binder.string("mode")?.unwrap_or("EXACT") {
        "EXACT" => map(binder, vecmath::gelu_exact),
        "TANH_APPROXIMATION" => map(binder, vecmath::gelu_tanh),
        "SIGMOID_APPROXIMATION" => map(binder, vecmath::gelu_sigmoid),
        other => Err(OpError::argument(
            "mode",
            "`EXACT`, `TANH_APPROXIMATION` or `SIGMOID_APPROXIMATION`",
            format!("`{other}`"),
        )),
    }
}

fn softplus(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(|x: f32| (-x.abs()).exp().ln_1p() + x.max(0.0)))
}

fn softsign(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(|x| x / (1.0 + x.abs())))
}

fn elu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let alpha = required_float(binder, "alpha")?;
    map(binder, each(move |x| if x < 0.0 { alpha * x.exp_m1() } else { x }))
}

fn leaky_relu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let alpha = required_float(binder, "alpha")?;
    map(binder, each(move |x| if x < 0.0 { alpha * x } else { x }))
}

fn thresholded_relu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let alpha = required_float(binder, "alpha")?;
    map(binder, each(move |x| if x < alpha { 0.0 } else { x }))
}

/// Binds a function of an element, `alpha` and `beta`.
fn with_alpha_beta(
    binder: &mut Binder,
    function: fn(f32, f32, f32) -> f32,
) -> Result<Box<dyn Op>, OpError> {
    let alpha = required_float(binder, "alpha")?;
    let beta = required_float(binder, "beta")?;
    map(binder, each(move |x| function(x, alpha, beta)))
}

fn clamped_relu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_alpha_beta(binder, |x, alpha, beta| (if x < 0.0 { alpha * x } else { x }).min(beta))
}

fn linear_activation(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_alpha_beta(binder, |x, alpha, beta| alpha * x + beta)
}

fn scaled_tanh(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_alpha_beta(binder, |x, alpha, beta| alpha * (beta * x).tanh())
}

fn sigmoid_hard(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_alpha_beta(binder, |x, alpha, beta| (alpha * x + beta).clamp(0.0, 1.0))
}

/// A function with parameters for each channel, the second axis.
struct PerChannel {
    x: usize,
    parameters: [Option<usize>; 2],
    function: fn(f32, [f32; 2]) -> f32,
}

impl Op for PerChannel {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        let channels = shape.get(1).copied();
        for parameter in self.parameters.into_iter().flatten() {
            let got = inputs.shape(parameter)?;
            if got.len() != 1 || got.first().copied() != channels {
                let expected = format!("one number for each channel of `x` of shape {shape:?}");
                return Err(OpError::argument("alpha", expected, format!("shape {got:?}")));
            }
        }
        one(inputs.element(self.x)?, shape)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let x = inputs.tensor(self.x)?;
        let values = x.f32s()?;
        let out = outputs.tensor(0)?.f32s()?;
        same_count(out.len(), values.len())?;
        let mut parameters: [&[f32]; 2] = [&[], &[]];
        for (slice, parameter) in parameters.iter_mut().zip(self.parameters) {
            if let Some(parameter) = parameter {
                *slice = inputs.tensor(parameter)?.f32s()?;
            }
        }
        let channels = x.shape.get(1).copied().unwrap_or(1).max(1);
        let inner = count(x.shape.get(2..).unwrap_or_default()).max(1);
        let rows = out.chunks_mut(inner).zip(values.chunks(inner));
        for (row, (out, values)) in rows.enumerate() {
            let at = |slice: &[f32]| slice.get(row % channels).copied().unwrap_or(0.0);
            let parameters = parameters.map(at);
            for (out, &value) in out.iter_mut().zip(values) {
                *out = (self.function)(value, parameters);
            }
        }
        Ok(())
    }
}

fn prelu(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let parameters = [Some(binder.input("alpha")?), None];
    let function = |x: f32, [alpha, _]: [f32; 2]| if x < 0.0 { alpha * x } else { x };
    Ok(Box::new(PerChannel { x, parameters, function }))
}

fn softplus_parametric(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let parameters = [Some(binder.input("alpha")?), Some(binder.input("beta")?)];
    let function = |x: f32, [alpha, beta]: [f32; 2]| {
        let x = beta * x;
        alpha * ((-x.abs()).exp().ln_1p() + x.max(0.0))
    };
    Ok(Box::new(PerChannel { x, parameters, function }))
}

/// `exp(x) / sum(exp(x))` along an axis.
struct Softmax {
    x: usize,
    axis: i64,
}

impl Op for Softmax {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        axis(self.axis, shape.len(), "axis")?;
        one(inputs.element(self.x)?, shape)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let out = outputs.tensor(0)?;
        let shape = out.shape;
        let values = out.f32s()?;
        if !inputs.is_in_place(self.x) {
            let x = inputs.tensor(self.x)?.f32s()?;
            same_count(values.len(), x.len())?;
            values.copy_from_slice(x);
        }
        let axis = axis(self.axis, shape.len(), "axis")?;
        let (outer, inner) = (count(&shape[..axis]), count(&shape[axis + 1..]));
        Ok(kernel::softmax(values, outer, shape[axis], inner)?)
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn softmax(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    Ok(Box::new(Softmax { x, axis: binder.int("axis")?.unwrap_or(-1) }))
}

pub(super) const OPS: &[OpDef] = &[
    def("clamped_relu", Opset::Ios15, clamped_relu),
    def("elu", Opset::Ios15, elu),
    def("gelu", Opset::Ios15, gelu),
    def("leaky_relu", Opset::Ios15, leaky_relu),
    def("linear_activation", Opset::Ios15, linear_activation),
    def("prelu", Opset::Ios15, prelu),
    def("relu", Opset::Ios15, relu),
    def("relu6", Opset::Ios15, relu6),
    def("scaled_tanh", Opset::Ios15, scaled_tanh),
    def("sigmoid", Opset::Ios15, sigmoid),
    def("sigmoid_hard", Opset::Ios15, sigmoid_hard),
    def("silu", Opset::Ios15, silu),
    def("softmax", Opset::Ios15, softmax),
    def("softplus", Opset::Ios15, softplus),
    def("softplus_parametric", Opset::Ios15, softplus_parametric),
    def("softsign", Opset::Ios15, softsign),
    def("thresholded_relu", Opset::Ios15, thresholded_relu),
];
