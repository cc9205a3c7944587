//! Elementwise functions of one tensor: `cast`, `clip`, `exp`, `log`, `sqrt`, ….

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::convert::{f16_to_f32, f32_to_f16};
use coreml_kernels::vecmath;
use half::f16;

use super::strided::same_count;
use super::{Binder, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, def, one};
use crate::value::{Element, Storage, TensorMut, TensorRef};

/// Changes floats in place.
pub(super) type SliceFunction = Box<dyn Fn(&mut [f32]) + Send + Sync>;

/// A function of `f32` elements that works in place.
pub(super) struct Map {
    x: usize,
    function: SliceFunction,
}

/// Binds `x` of a function of floats.
pub(super) fn map(
    binder: &mut Binder,
    function: impl Fn(&mut [f32]) + Send + Sync + 'static,
) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    if !binder.element(x).is_float() {
        let got = format!("`{}`", binder.element(x));
        return Err(OpError::argument("x", "a tensor of floats", got));
    }
    Ok(Box::new(Map { x, function: Box::new(function) }))
}

impl Op for Map {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.x)?, inputs.shape(self.x)?)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let values = outputs.tensor(0)?.f32s()?;
        if !inputs.is_in_place(self.x) {
            let x = inputs.tensor(self.x)?.f32s()?;
            same_count(values.len(), x.len())?;
            values.copy_from_slice(x);
        }
        (self.function)(values);
        Ok(())
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

/// A function of `int32` elements.
struct MapInts {
    x: usize,
    function: fn(i32) -> i32,
}

impl Op for MapInts {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.x)?, inputs.shape(self.x)?)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let x = inputs.tensor(self.x)?.slice::<i32>()?;
        let out = outputs.tensor(0)?.slice::<i32>()?;
        same_count(out.len(), x.len())?;
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = (self.function)(x));
        Ok(())
    }
}

/// Binds `x` of a function that takes `int32` too.
fn map_with_ints(
    binder: &mut Binder,
    floats: impl Fn(&mut [f32]) + Send + Sync + 'static,
    function: fn(i32) -> i32,
) -> Result<Box<dyn Op>, OpError> {
    // `x` is asked for once only: what has been asked for becomes a run-time input.
    let x = binder.input("x")?;
    match binder.element(x) {
        ElementType::Int32 => Ok(Box::new(MapInts { x, function })),
        element if element.is_float() => Ok(Box::new(Map { x, function: Box::new(floats) })),
        element => Err(OpError::argument("x", "`fp16`, `fp32` or `int32`", format!("`{element}`"))),
    }
}

/// A function of slices from one of elements.
pub(super) fn each(
    function: impl Fn(f32) -> f32 + Send + Sync + 'static,
) -> impl Fn(&mut [f32]) + Send + Sync + 'static {
    move |values| values.iter_mut().for_each(|value| *value = function(*value))
}

/// `epsilon`, or its default as the element type of `x` holds it: the tiny ones are 0 in `fp16`.
fn epsilon(binder: &Binder, x: usize, default: f32) -> Result<f32, OpError> {
    let half = binder.element(x) == ElementType::Float16;
    let default = if half { f16::from_f32(default).to_f32() } else { default };
    Ok(binder.float("epsilon")?.unwrap_or(default))
}

/// Binds a function of `x + epsilon`.
fn map_with_epsilon(
    binder: &mut Binder,
    default: f32,
    function: fn(&mut [f32]),
) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let epsilon = epsilon(binder, x, default)?;
    let shifted = move |values: &mut [f32]| {
        values.iter_mut().for_each(|value| *value += epsilon);
        function(values);
    };
    Ok(Box::new(Map { x, function: Box::new(shifted) }))
}

/// A constant float that has to be there.
pub(super) fn required_float(binder: &Binder, name: &str) -> Result<f32, OpError> {
    binder.float(name)?.ok_or_else(|| OpError::Missing(name.to_owned()))
}

fn abs(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map_with_ints(binder, each(f32::abs), i32::wrapping_abs)
}

fn acos(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(f32::acos))
}

fn asin(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(f32::asin))
}

fn atan(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(f32::atan))
}

fn atanh(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(f32::atanh))
}

fn ceil(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(f32::ceil))
}

/// The bounds apply one after the other, `beta` last, should they be the wrong way round.
fn clip(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let alpha = required_float(binder, "alpha")?;
    let beta = required_float(binder, "beta")?;
    // Comparisons instead of `max` and `min` let NaN through.
    map(
        binder,
        each(move |x| {
            let x = if x < alpha { alpha } else { x };
            if x > beta { beta } else { x }
        }),
    )
}

fn cos(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(f32::cos))
}

fn cosh(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(f32::cosh))
}

fn erf(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, vecmath::erf)
}

fn exp(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, vecmath::exp)
}

fn exp2(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map_with_ints(binder, each(f32::exp2), |x| f64::from(x).exp2() as i32)
}

fn floor(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(f32::floor))
}

fn inverse(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map_with_epsilon(binder, 1e-4, |values| values.iter_mut().for_each(|x| *x = x.recip()))
}

fn log(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map_with_epsilon(binder, 1e-45, vecmath::log)
}

fn round(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(f32::round_ties_even))
}

fn rsqrt(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map_with_epsilon(binder, 1e-12, vecmath::rsqrt)
}

fn sign(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    // `f32::signum` has no 0.
    map_with_ints(binder, each(|x| if x == 0.0 { 0.0 } else { x.signum() }), i32::signum)
}

fn sin(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(f32::sin))
}

fn sinh(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(f32::sinh))
}

fn sqrt(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, vecmath::sqrt)
}

fn square(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map_with_ints(binder, each(|x| x * x), |x| x.wrapping_mul(x))
}

fn tan(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, each(f32::tan))
}

fn tanh(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    map(binder, vecmath::tanh)
}

fn threshold(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let alpha = required_float(binder, "alpha")?;
    map(binder, each(move |x| if x < alpha { alpha } else { x }))
}

/// The negation of bools.
struct Not {
    x: usize,
}

impl Op for Not {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(ElementType::Bool, inputs.shape(self.x)?)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        fill(inputs.tensor(self.x)?.slice::<u8>()?, outputs.tensor(0)?.slice::<u8>()?, |x| {
            u8::from(x == 0)
        })
    }
}

fn logical_not(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Not { x: binder.input("x")? }))
}

/// Converts to another element type.
struct Cast {
    x: usize,
    to: ElementType,
    /// `x`, if the result is held like it.
    in_place: Option<usize>,
}

impl Op for Cast {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(self.to, inputs.shape(self.x)?)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let from = inputs.element(self.x)?;
        let out = outputs.tensor(0)?;
        if !inputs.is_in_place(self.x) {
            convert(&inputs.tensor(self.x)?, out)?;
        }
        if self.to == ElementType::Float16 && from != ElementType::Float16 {
            round_to_half(out.f32s()?)?;
        }
        Ok(())
    }

    fn in_place(&self) -> &[usize] {
        self.in_place.as_slice()
    }
}

/// Rounds to what `fp16` can hold.
fn round_to_half(values: &mut [f32]) -> Result<(), OpError> {
    let mut halves = [f16::ZERO; 256];
    for part in values.chunks_mut(halves.len()) {
        let halves = &mut halves[..part.len()];
        f32_to_f16(part, halves)?;
        f16_to_f32(halves, part)?;
    }
    Ok(())
}

fn fill<A: Copy, B>(from: &[A], to: &mut [B], function: impl Fn(A) -> B) -> Result<(), OpError> {
    same_count(to.len(), from.len())?;
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = function(from));
    Ok(())
}

/// Converts elements: to integers towards zero and saturating, to bool whether it is not 0.
fn convert(x: &TensorRef, out: &mut TensorMut) -> Result<(), OpError> {
    if x.storage == out.storage {
        same_count(out.bytes.len(), x.bytes.len())?;
        out.bytes.copy_from_slice(x.bytes);
        return Ok(());
    }
    // `f64` holds all values of the types that programs cast.
    match x.storage {
        Storage::Bool | Storage::U8 => convert_from(x.slice::<u8>()?, f64::from, out),
        Storage::I8 => convert_from(x.slice::<i8>()?, f64::from, out),
        Storage::U16 => convert_from(x.slice::<u16>()?, f64::from, out),
        Storage::I16 => convert_from(x.slice::<i16>()?, f64::from, out),
        Storage::U32 => convert_from(x.slice::<u32>()?, f64::from, out),
        Storage::I32 => convert_from(x.slice::<i32>()?, f64::from, out),
        Storage::U64 => convert_from(x.slice::<u64>()?, |x| x as f64, out),
        Storage::I64 => convert_from(x.slice::<i64>()?, |x| x as f64, out),
        Storage::F16 => convert_from(x.slice::<f16>()?, f16::to_f64, out),
        Storage::F32 => convert_from(x.slice::<f32>()?, f64::from, out),
        Storage::F64 => convert_from(x.slice::<f64>()?, |x| x, out),
    }
}

fn convert_from<T: Element>(
    x: &[T],
    widen: impl Fn(T) -> f64,
    out: &mut TensorMut,
) -> Result<(), OpError> {
    match out.storage {
        Storage::Bool => fill(x, out.slice()?, |x| u8::from(widen(x) != 0.0)),
        Storage::U8 => fill(x, out.slice()?, |x| widen(x) as u8),
        Storage::I8 => fill(x, out.slice()?, |x| widen(x) as i8),
        Storage::U16 => fill(x, out.slice()?, |x| widen(x) as u16),
        Storage::I16 => fill(x, out.slice()?, |x| widen(x) as i16),
        Storage::U32 => fill(x, out.slice()?, |x| widen(x) as u32),
        Storage::I32 => fill(x, out.slice()?, |x| widen(x) as i32),
        Storage::U64 => fill(x, out.slice()?, |x| widen(x) as u64),
        Storage::I64 => fill(x, out.slice()?, |x| widen(x) as i64),
        Storage::F16 => fill(x, out.slice()?, |x| f16::from_f64(widen(x))),
        Storage::F32 => fill(x, out.slice()?, |x| widen(x) as f32),
        Storage::F64 => fill(x, out.slice()?, widen),
    }
}

fn cast(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let to = binder.element_type("dtype")?;
    let same = Storage::natural(to) == Storage::natural(binder.element(x));
    if Storage::natural(to).is_none() {
        return Err(OpError::argument("dtype", "a type of numbers or `bool`", format!("`{to}`")));
    }
    Ok(Box::new(Cast { x, to, in_place: same.then_some(x) }))
}

pub(super) const OPS: &[OpDef] = &[
    def("abs", Opset::Ios15, abs),
    def("acos", Opset::Ios15, acos),
    def("asin", Opset::Ios15, asin),
    def("atan", Opset::Ios15, atan),
    def("atanh", Opset::Ios15, atanh),
    def("cast", Opset::Ios15, cast),
    def("ceil", Opset::Ios15, ceil),
    def("clip", Opset::Ios15, clip),
    def("cos", Opset::Ios15, cos),
    def("cosh", Opset::Ios15, cosh),
    def("erf", Opset::Ios15, erf),
    def("exp", Opset::Ios15, exp),
    def("exp2", Opset::Ios15, exp2),
    def("floor", Opset::Ios15, floor),
    def("inverse", Opset::Ios15, inverse),
    def("log", Opset::Ios15, log),
    def("logical_not", Opset::Ios15, logical_not),
    def("round", Opset::Ios15, round),
    def("rsqrt", Opset::Ios15, rsqrt),
    def("sign", Opset::Ios15, sign),
    def("sin", Opset::Ios15, sin),
    def("sinh", Opset::Ios15, sinh),
    def("sqrt", Opset::Ios15, sqrt),
    def("square", Opset::Ios15, square),
    def("tan", Opset::Ios15, tan),
    def("tanh", Opset::Ios15, tanh),
    def("threshold", Opset::Ios15, threshold),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Case, Value};

    fn cast_to(values: &[f32], to: &str) -> Value {
        let case = Case::new().floats("x", &[values.len()], values).string("dtype", to);
        case.run("cast", Opset::Ios17).unwrap().remove(0)
    }

    #[test]
    fn casts_truncate_and_saturate() {
        let values = [1.9, -1.9, 3e9, -3e9, f32::NAN];
        assert_eq!(cast_to(&values, "int32").values::<i32>(), [1, -1, i32::MAX, i32::MIN, 0]);
        assert_eq!(cast_to(&values, "uint8").values::<u8>(), [1, 0, 255, 0, 0]);
        assert_eq!(cast_to(&values, "int8").values::<i8>(), [1, -1, 127, -128, 0]);
        assert_eq!(cast_to(&[0.0, -0.5], "bool").values::<u8>(), [0, 1]);
        // 65520 is the first number that rounds to infinity in half precision; 2049 is a tie.
        assert_eq!(
            cast_to(&[65520.0, 65519.0, 2049.0], "fp16").values::<f32>(),
            [f32::INFINITY, 65504.0, 2048.0]
        );
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
