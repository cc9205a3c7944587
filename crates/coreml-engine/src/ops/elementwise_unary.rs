//! Elementwise functions of one tensor: `clip`, `exp`, `log`, `sqrt`, …, and the activations
//! that are such functions.

mod cast;

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::{Context, vecmath};
use half::f16;

pub(crate) use self::cast::Cast;
use self::cast::cast;
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, bound, def, kernel, one};
use crate::value::{Layout, Storage, TensorMut};
use crate::weights::Weights;

/// A function of the elements of one tensor, by the name of its operator.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unary {
    Abs,
    Acos,
    Asin,
    Atan,
    Atanh,
    Ceil,
    /// `min(α x if x < 0 else x, β)`.
    ClampedRelu {
        alpha: f32,
        beta: f32,
    },
    /// At least α, then at most β, should they be the wrong way round.
    Clip {
        alpha: f32,
        beta: f32,
    },
    Cos,
    Cosh,
    /// `α (eˣ − 1)` below 0.
    Elu {
        alpha: f32,
    },
    Erf,
    Exp,
    Exp2,
    Floor,
    Gelu(GeluMode),
    /// `1 / (x + ε)`.
    Inverse {
        epsilon: f32,
    },
    /// `α x` below 0.
    LeakyRelu {
        alpha: f32,
    },
    /// `α x + β`.
    LinearActivation {
        alpha: f32,
        beta: f32,
    },
    /// `log(x + ε)`.
    Log {
        epsilon: f32,
    },
    Relu,
    Relu6,
    /// To the nearest integer, halves to the even one.
    Round,
    /// `1 / sqrt(x + ε)`.
    Rsqrt {
        epsilon: f32,
    },
    /// `α tanh(β x)`.
    ScaledTanh {
        alpha: f32,
        beta: f32,
    },
    Sigmoid,
    /// `min(max(α x + β, 0), 1)`.
    SigmoidHard {
        alpha: f32,
        beta: f32,
    },
    /// −1, 0 or 1.
    Sign,
    /// `x · sigmoid(x)`.
    Silu,
    Sin,
    Sinh,
    /// `log(1 + eˣ)`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    Sqrt,
    Square,
    Tan,
    Tanh,
    /// `max(x, α)`, for integers too: `f64` holds both kinds exactly.
    Threshold {
        alpha: f64,
    },
    /// 0 below α.
    ThresholdedRelu {
        alpha: f32,
    },
}

/// How `gelu` is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GeluMode {
    Exact,
    TanhApproximation,
    SigmoidApproximation,
}

/// Changes each value.
pub(super) fn each<T: Copy>(values: &mut [T], function: impl Fn(T) -> T) {
    values.iter_mut().for_each(|value| *value = function(*value));
}

/// `log(1 + eˣ)`, without overflow.
pub(super) fn softplus(x: f32) -> f32 {
    (-x.abs()).exp().ln_1p() + x.max(0.0)
}

impl Unary {
    /// Replaces each value by the function of it. Comparisons instead of `max` and `min` let NaN
    /// through, as NumPy does.
    pub(crate) fn apply(&self, context: &Context, values: &mut [f32]) {
        match *self {
            Unary::Abs => each(values, f32::abs),
            Unary::Acos => each(values, f32::acos),
            Unary::Asin => each(values, f32::asin),
            Unary::Atan => each(values, f32::atan),
            Unary::Atanh => each(values, f32::atanh),
            Unary::Ceil => each(values, f32::ceil),
            Unary::ClampedRelu { alpha, beta } => {
                each(values, |x| {
                    let x = if x < 0.0 { alpha * x } else { x };
                    if x > beta { beta } else { x }
                });
            }
            Unary::Clip { alpha, beta } => each(values, |x| {
                let x = if x < alpha { alpha } else { x };
                if x > beta { beta } else { x }
            }),
            Unary::Cos => each(values, f32::cos),
            Unary::Cosh => each(values, f32::cosh),
            Unary::Elu { alpha } => each(values, |x| if x < 0.0 { alpha * x.exp_m1() } else { x }),
            Unary::Erf => vecmath::erf(context, values),
            Unary::Exp => vecmath::exp(context, values),
            Unary::Exp2 => each(values, f32::exp2),
            Unary::Floor => each(values, f32::floor),
            Unary::Gelu(GeluMode::Exact) => vecmath::gelu_exact(context, values),
            Unary::Gelu(GeluMode::TanhApproximation) => vecmath::gelu_tanh(context, values),
            Unary::Gelu(GeluMode::SigmoidApproximation) => vecmath::gelu_sigmoid(context, values),
            Unary::Inverse { epsilon } => each(values, |x| (x + epsilon).recip()),
            Unary::LeakyRelu { alpha } => each(values, |x| if x < 0.0 { alpha * x } else { x }),
            Unary::LinearActivation { alpha, beta } => each(values, |x| alpha * x + beta),
            Unary::Log { epsilon } => {
                each(values, |x| x + epsilon);
                vecmath::log(context, values);
            }
            Unary::Relu => each(values, |x| if x < 0.0 { 0.0 } else { x }),
            Unary::Relu6 => each(values, |x| x.clamp(0.0, 6.0)),
            Unary::Round => each(values, f32::round_ties_even),
            Unary::Rsqrt { epsilon } => {
                each(values, |x| x + epsilon);
                vecmath::rsqrt(context, values);
            }
            Unary::ScaledTanh { alpha, beta } => each(values, |x| alpha * (beta * x).tanh()),
            Unary::Sigmoid => vecmath::sigmoid(context, values),
            Unary::SigmoidHard { alpha, beta } => {
                each(values, |x| (alpha * x + beta).clamp(0.0, 1.0));
            }
            // `f32::signum` has no 0.
            Unary::Sign => each(values, |x| if x == 0.0 { 0.0 } else { x.signum() }),
            Unary::Silu => vecmath::silu(context, values),
            Unary::Sin => each(values, f32::sin),
            Unary::Sinh => each(values, f32::sinh),
            Unary::Softplus => each(values, softplus),
            Unary::Softsign => each(values, |x| x / (1.0 + x.abs())),
            Unary::Sqrt => vecmath::sqrt(context, values),
            Unary::Square => each(values, |x| x * x),
            Unary::Tan => each(values, f32::tan),
            Unary::Tanh => vecmath::tanh(context, values),
            Unary::Threshold { alpha } => {
                each(values, |x| if x < alpha as f32 { alpha as f32 } else { x });
            }
            Unary::ThresholdedRelu { alpha } => each(values, |x| if x < alpha { 0.0 } else { x }),
        }
    }

    /// Replaces each integer by the function of it; only some have a meaning for integers.
    pub(crate) fn apply_ints(&self, values: &mut [i32]) -> Result<(), OpError> {
        match *self {
            Unary::Abs => each(values, i32::wrapping_abs),
            Unary::Exp2 => each(values, |x| f64::from(x).exp2() as i32),
            Unary::Sign => each(values, i32::signum),
            Unary::Square => each(values, |x| x.wrapping_mul(x)),
            Unary::Threshold { alpha } => each(values, |x| x.max(alpha as i32)),
            _ => return Err(OpError::unsupported(format!("{self:?} of integers"))),
        }
        Ok(())
    }
}

/// A function of one tensor.
#[derive(Clone, Debug)]
pub(crate) struct Elementwise {
    pub(crate) x: usize,
    pub(crate) function: Unary,
}

/// Brings an input's elements into the result, which is held alike, unless they are there already.
pub(super) fn load(inputs: &Inputs, x: usize, out: &mut TensorMut) -> Result<(), OpError> {
    if inputs.is_in_place(x) {
        return Ok(());
    }
    let x = inputs.tensor(x)?;
    if x.storage != out.storage {
        let (x, out) = (x.storage, out.storage);
        return Err(OpError::invalid(format!("an input held as {x:?} where {out:?} is computed")));
    }
    Layout::of(&x).read(x.bytes, out.bytes, out.storage)
}

/// An input in a storage that an operation does not compute with.
pub(super) fn not_computed(inputs: &Inputs, input: usize) -> OpError {
    match (inputs.element(input), inputs.storage(input)) {
        (Ok(element), Ok(storage)) => OpError::unsupported(format!(
            "input {input} of type `{element}` (held as {storage:?}) in this operation"
        )),
        (Err(error), _) | (_, Err(error)) => error,
    }
}

impl Op for Elementwise {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.x)?, inputs.shape(self.x)?)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let Elementwise { x, function } = self.clone();
        match inputs.storage(x)? {
            Storage::F32 => kernel(move |inputs, outputs, context| {
                let out = outputs.tensor(0)?;
                load(inputs, x, out)?;
                function.apply(context, out.f32s()?);
                Ok(())
            }),
            Storage::I32 => kernel(move |inputs, outputs, _context| {
                let out = outputs.tensor(0)?;
                load(inputs, x, out)?;
                function.apply_ints(out.slice()?)
            }),
            _ => Err(not_computed(inputs, x)),
        }
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

/// Binds a function without parameters.
pub(super) fn unary(binder: &mut Binder, function: Unary) -> Result<Box<dyn Op>, OpError> {
    bound(Elementwise { x: binder.input("x")?, function })
}

/// Binds a function with the parameter `alpha`.
pub(super) fn with_alpha(
    binder: &mut Binder,
    function: impl Fn(f32) -> Unary,
) -> Result<Box<dyn Op>, OpError> {
    let function = function(binder.float("alpha")?);
    unary(binder, function)
}

/// Binds a function with the parameters `alpha` and `beta`.
pub(super) fn with_alpha_beta(
    binder: &mut Binder,
    function: impl Fn(f32, f32) -> Unary,
) -> Result<Box<dyn Op>, OpError> {
    let function = function(binder.float("alpha")?, binder.float("beta")?);
    unary(binder, function)
}

/// Binds a function of `x + epsilon`. A default is rounded as the elements of `x` are, also where a
/// given `epsilon` need not have their type: the tiny ones are 0 in `fp16`.
fn with_epsilon(
    binder: &mut Binder,
    function: impl Fn(f32) -> Unary,
) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let mut epsilon = binder.float("epsilon")?;
    if binder.element(x) == ElementType::Float16 && binder.constant("epsilon")?.is_none() {
        epsilon = f16::from_f32(epsilon).to_f32();
    }
    bound(Elementwise { x, function: function(epsilon) })
}

fn clip(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_alpha_beta(binder, |alpha, beta| Unary::Clip { alpha, beta })
}

fn inverse(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_epsilon(binder, |epsilon| Unary::Inverse { epsilon })
}

fn log(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_epsilon(binder, |epsilon| Unary::Log { epsilon })
}

fn rsqrt(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    with_epsilon(binder, |epsilon| Unary::Rsqrt { epsilon })
}

fn threshold(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let alpha = match binder.element(x).is_int() {
        true => binder.int("alpha")? as f64,
        false => binder.float("alpha")?.into(),
    };
    bound(Elementwise { x, function: Unary::Threshold { alpha } })
}

/// The negation of bools.
#[derive(Clone, Debug)]
pub(crate) struct LogicalNot {
    pub(crate) x: usize,
}

impl Op for LogicalNot {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(ElementType::Bool, inputs.shape(self.x)?)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let x = self.x;
        if inputs.storage(x)? != Storage::Bool {
            return Err(not_computed(inputs, x));
        }
        kernel(move |inputs, outputs, _context| {
            let out = outputs.tensor(0)?;
            load(inputs, x, out)?;
            each(out.slice()?, |x: u8| u8::from(x == 0));
            Ok(())
        })
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn logical_not(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(LogicalNot { x: binder.input("x")? })
}

pub(super) const OPS: &[OpDef] = &[
    def("abs", Opset::Ios15, |binder| unary(binder, Unary::Abs)),
    def("acos", Opset::Ios15, |binder| unary(binder, Unary::Acos)),
    def("asin", Opset::Ios15, |binder| unary(binder, Unary::Asin)),
    def("atan", Opset::Ios15, |binder| unary(binder, Unary::Atan)),
    def("atanh", Opset::Ios15, |binder| unary(binder, Unary::Atanh)),
    def("cast", Opset::Ios15, cast),
    def("cast", Opset::Ios17, cast),
    def("ceil", Opset::Ios15, |binder| unary(binder, Unary::Ceil)),
    def("clip", Opset::Ios15, clip),
    def("clip", Opset::Ios17, clip),
    def("cos", Opset::Ios15, |binder| unary(binder, Unary::Cos)),
    def("cosh", Opset::Ios15, |binder| unary(binder, Unary::Cosh)),
    def("erf", Opset::Ios15, |binder| unary(binder, Unary::Erf)),
    def("exp", Opset::Ios15, |binder| unary(binder, Unary::Exp)),
    def("exp2", Opset::Ios15, |binder| unary(binder, Unary::Exp2)),
    def("floor", Opset::Ios15, |binder| unary(binder, Unary::Floor)),
    def("inverse", Opset::Ios15, inverse),
    def("inverse", Opset::Ios17, inverse),
    def("log", Opset::Ios15, log),
    def("log", Opset::Ios17, log),
    def("logical_not", Opset::Ios15, logical_not),
    def("round", Opset::Ios15, |binder| unary(binder, Unary::Round)),
    def("rsqrt", Opset::Ios15, rsqrt),
    def("rsqrt", Opset::Ios17, rsqrt),
    def("sign", Opset::Ios15, |binder| unary(binder, Unary::Sign)),
    def("sin", Opset::Ios15, |binder| unary(binder, Unary::Sin)),
    def("sinh", Opset::Ios15, |binder| unary(binder, Unary::Sinh)),
    def("sqrt", Opset::Ios15, |binder| unary(binder, Unary::Sqrt)),
    def("square", Opset::Ios15, |binder| unary(binder, Unary::Square)),
    def("tan", Opset::Ios15, |binder| unary(binder, Unary::Tan)),
    def("tanh", Opset::Ios15, |binder| unary(binder, Unary::Tanh)),
    def("threshold", Opset::Ios15, threshold),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Case, Value};

    #[test]
    fn integers_have_their_own_functions() {
        let run = |operator, case: Case| {
            case.ints("x", &[3], &[-3, 0, 5]).run_ints(operator, Opset::Ios15).1
        };
        assert_eq!(run("abs", Case::new()), [3, 0, 5]);
        assert_eq!(run("sign", Case::new()), [-1, 0, 1]);
        assert_eq!(run("square", Case::new()), [9, 0, 25]);
        assert_eq!(run("exp2", Case::new()), [0, 1, 32]);
        // Beyond what `f32` holds exactly.
        let expected = vec![16_777_217; 3];
        assert_eq!(run("threshold", Case::new().int("alpha", 16_777_217)), expected);
    }

    /// `1e-45`, the default of `log`, is 0 in half precision, also where its type is free.
    #[test]
    fn defaults_are_rounded_as_the_elements_are() {
        for opset in [Opset::Ios15, Opset::Ios17] {
            let half = Value::tensor(ElementType::Float16, &[1], &[0f32]);
            let result = Case::new().value("x", half).run_floats("log", opset).1;
            assert_eq!(result, [f32::NEG_INFINITY], "{opset}");
            let result = Case::new().floats("x", &[1], &[0.0]).run_floats("log", opset).1;
            assert!((result[0] - -103.278_93).abs() < 1e-4, "{opset}: {result:?}");
        }
    }

    #[test]
    fn parameters_may_be_wider_than_the_tensor() {
        let x = || {
            let x = Value::tensor(ElementType::Float16, &[1, 2], &[1f32, 5.0]);
            Case::new().value("x", x)
        };
        let check = |operator: &str, case: Case, expected: &[f32]| {
            let result = case.run(operator, Opset::Ios16).unwrap().remove(0);
            assert_eq!(result.element(), ElementType::Float16, "{operator}");
            let got = result.values::<f32>();
            let near =
                got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6);
            assert!(near && got.len() == expected.len(), "{operator}: {got:?}");
        };
        check("clip", x().float("alpha", 2.0).float("beta", 4.0), &[2.0, 4.0]);
        check("rsqrt", x().float("epsilon", 3.0), &[0.5, 8f32.sqrt().recip()]);
        check("log", x().float("epsilon", 1.0), &[2f32.ln(), 6f32.ln()]);
        let padded = x().vector("pad", &[1, 0]).float("constant_val", 7.0);
        check("pad", padded, &[7.0, 1.0, 5.0]);
        let normalized = x().vector("axes", &[1]).float("epsilon", 0.0);
        let gamma = [2f32, 2.0];
        let normalized = normalized.dense("gamma", ElementType::Float32, &[2], &gamma);
        check("layer_norm", normalized, &[-2.0, 2.0]);
    }
}
