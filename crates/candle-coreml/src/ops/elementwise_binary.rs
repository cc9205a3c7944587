//! Elementwise functions of two tensors, with NumPy's broadcasting.

use coreml_format::mil::{ElementType, Opset};

use super::broadcast::{Walk, shape};
use super::{Binder, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, def, one};
use crate::value::{Element, Storage};

/// The two operands of an operation.
struct Operands {
    x: usize,
    y: usize,
    /// Their common element type. Where a float constant has another one than the operand that is
    /// no constant, this counts: it is a default that a converter wrote as `fp32`.
    element: ElementType,
}

impl Operands {
    fn bind(binder: &mut Binder, logical: bool) -> Result<Self, OpError> {
        let operands = (binder.input("x")?, binder.input("y")?);
        let (x, y) = (binder.element(operands.0), binder.element(operands.1));
        if Storage::natural(x) != Storage::natural(y) {
            return Err(OpError::argument("y", format!("`{x}`, as `x` has"), format!("`{y}`")));
        }
        if logical && x != ElementType::Bool {
            return Err(OpError::argument("x", "`bool`", format!("`{x}`")));
        }
        let constant = |name| matches!(binder.constant(name), Ok(Some(_)));
        let element = if constant("x") && !constant("y") { y } else { x };
        Ok(Operands { x: operands.0, y: operands.1, element })
    }

    fn infer(&self, inputs: &Inputs, element: ElementType) -> Result<ResultTypes, OpError> {
        one(element, shape(inputs.shape(self.x)?, inputs.shape(self.y)?)?)
    }

    fn walk(&self, inputs: &Inputs, result: &[usize]) -> Result<Walk<2>, OpError> {
        Ok(Walk::new([inputs.shape(self.x)?, inputs.shape(self.y)?], result))
    }

    /// `out = function(x, y)`.
    fn zip<T: Element, R: Element>(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        function: impl Fn(T, T) -> R,
    ) -> Result<(), OpError> {
        let out = outputs.tensor(0)?;
        let walk = self.walk(inputs, out.shape)?;
        let (x, y) = (inputs.tensor(self.x)?, inputs.tensor(self.y)?);
        walk.zip(x.slice::<T>()?, y.slice::<T>()?, out.slice()?, function)
    }

    /// `out = function(x, y)`, where `x` may be in the output's place.
    fn update<T: Element>(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        function: impl Fn(T, T) -> T,
    ) -> Result<(), OpError> {
        if !inputs.is_in_place(self.x) {
            return self.zip(inputs, outputs, function);
        }
        let out = outputs.tensor(0)?;
        let walk = self.walk(inputs, out.shape)?;
        walk.zip_in_place(out.slice::<T>()?, inputs.tensor(self.y)?.slice()?, function)
    }
}

/// A function of two floats or two integers that gives the same type.
struct Arithmetic<F, I> {
    operands: Operands,
    floats: F,
    ints: I,
}

impl<F, I> Op for Arithmetic<F, I>
where
    F: Fn(f32, f32) -> f32 + Send + Sync,
    I: Fn(i32, i32) -> i32 + Send + Sync,
{
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        self.operands.infer(inputs, self.operands.element)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        match outputs.tensor(0)?.storage {
            Storage::I32 => self.operands.update(inputs, outputs, &self.ints),
            _ => self.operands.update(inputs, outputs, &self.floats),
        }
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.operands.x)
    }
}

fn arithmetic(
    binder: &mut Binder,
    floats: impl Fn(f32, f32) -> f32 + Send + Sync + 'static,
    ints: impl Fn(i32, i32) -> i32 + Send + Sync + 'static,
) -> Result<Box<dyn Op>, OpError> {
    let operands = Operands::bind(binder, false)?;
    let element = operands.element;
    if !matches!(Storage::natural(element), Some(Storage::F32 | Storage::I32)) {
        return Err(OpError::argument("x", "`fp16`, `fp32` or `int32`", format!("`{element}`")));
    }
    Ok(Box::new(Arithmetic { operands, floats, ints }))
}

/// A comparison; gives bools.
struct Comparison<F, I> {
    operands: Operands,
    floats: F,
    ints: I,
}

impl<F, I> Op for Comparison<F, I>
where
    F: Fn(f32, f32) -> bool + Send + Sync,
    I: Fn(i32, i32) -> bool + Send + Sync,
{
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        self.operands.infer(inputs, ElementType::Bool)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        match inputs.tensor(self.operands.x)?.storage {
            Storage::I32 => self.operands.zip(inputs, outputs, |x, y| u8::from((self.ints)(x, y))),
            Storage::Bool => self.operands.zip(inputs, outputs, |x: u8, y: u8| {
                u8::from((self.ints)(i32::from(x), i32::from(y)))
            }),
            _ => self.operands.zip(inputs, outputs, |x, y| u8::from((self.floats)(x, y))),
        }
    }
}

fn comparison(
    binder: &mut Binder,
    floats: impl Fn(f32, f32) -> bool + Send + Sync + 'static,
    ints: impl Fn(i32, i32) -> bool + Send + Sync + 'static,
) -> Result<Box<dyn Op>, OpError> {
    let operands = Operands::bind(binder, false)?;
    let element = operands.element;
    if !matches!(Storage::natural(element), Some(Storage::F32 | Storage::I32 | Storage::Bool)) {
        let expected = "`fp16`, `fp32`, `int32` or `bool`";
        return Err(OpError::argument("x", expected, format!("`{element}`")));
    }
    Ok(Box::new(Comparison { operands, floats, ints }))
}

/// A function of two bools.
struct Logical {
    operands: Operands,
    function: fn(bool, bool) -> bool,
}

impl Op for Logical {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        self.operands.infer(inputs, ElementType::Bool)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let function = self.function;
        self.operands.update(inputs, outputs, |x: u8, y: u8| u8::from(function(x != 0, y != 0)))
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.operands.x)
    }
}

fn logical(binder: &mut Binder, function: fn(bool, bool) -> bool) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Logical { operands: Operands::bind(binder, true)?, function }))
}

/// The remainder with the divisor's sign, as Python and NumPy have it.
fn float_mod(x: f32, y: f32) -> f32 {
    let remainder = x % y;
    if remainder == 0.0 {
        0f32.copysign(y)
    } else if (remainder < 0.0) != (y < 0.0) {
        remainder + y
    } else {
        remainder
    }
}

/// Division rounded down. Goes by the exact remainder, since the quotient may be rounded up to an
/// integer.
fn float_floor_div(x: f32, y: f32) -> f32 {
    let quotient = x / y;
    if y == 0.0 || !quotient.is_finite() {
        return quotient;
    }
    let remainder = x % y;
    let mut exact = (x - remainder) / y;
    if remainder != 0.0 && (remainder < 0.0) != (y < 0.0) {
        exact -= 1.0;
    }
    if exact == 0.0 { 0f32.copysign(quotient) } else { exact.round() }
}

/// Division rounded down; 0 when the divisor is.
fn int_floor_div(x: i32, y: i32) -> i32 {
    if y == 0 {
        return 0;
    }
    let quotient = x.wrapping_div(y);
    let inexact = x.wrapping_rem(y) != 0;
    if inexact && (x < 0) != (y < 0) { quotient.wrapping_sub(1) } else { quotient }
}

/// The remainder with the divisor's sign; 0 when the divisor is.
fn int_mod(x: i32, y: i32) -> i32 {
    if y == 0 {
        return 0;
    }
    let remainder = x.wrapping_rem(y);
    if remainder != 0 && (remainder < 0) != (y < 0) { remainder.wrapping_add(y) } else { remainder }
}

/// Division rounded towards zero; 0 when the divisor is.
fn int_div(x: i32, y: i32) -> i32 {
    if y == 0 { 0 } else { x.wrapping_div(y) }
}

/// A power, wrapped; negative exponents give the truncated fraction.
fn int_pow(x: i32, y: i32) -> i32 {
    match (x, u32::try_from(y)) {
        (_, Ok(exponent)) => x.wrapping_pow(exponent),
        (1, Err(_)) => 1,
        (-1, Err(_)) => 1 - 2 * (y & 1),
        _ => 0,
    }
}

fn float_pow(x: f32, y: f32) -> f32 {
    if y == 2.0 { x * x } else { x.powf(y) }
}

/// The larger number; NaN if one is, as NumPy has it.
fn float_maximum(x: f32, y: f32) -> f32 {
    if x > y || x.is_nan() { x } else { y }
}

/// The smaller number; NaN if one is.
fn float_minimum(x: f32, y: f32) -> f32 {
    if x < y || x.is_nan() { x } else { y }
}

fn add(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    arithmetic(binder, |x, y| x + y, i32::wrapping_add)
}

fn sub(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    arithmetic(binder, |x, y| x - y, i32::wrapping_sub)
}

fn mul(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    arithmetic(binder, |x, y| x * y, i32::wrapping_mul)
}

fn real_div(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    arithmetic(binder, |x, y| x / y, int_div)
}

fn floor_div(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    arithmetic(binder, float_floor_div, int_floor_div)
}

fn modulo(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    arithmetic(binder, float_mod, int_mod)
}

fn pow(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    arithmetic(binder, float_pow, int_pow)
}

fn maximum(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    arithmetic(binder, float_maximum, Ord::max)
}

fn minimum(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    arithmetic(binder, float_minimum, Ord::min)
}

fn equal(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    comparison(binder, |x, y| x == y, |x, y| x == y)
}

fn not_equal(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    comparison(binder, |x, y| x != y, |x, y| x != y)
}

fn greater(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    comparison(binder, |x, y| x > y, |x, y| x > y)
}

fn greater_equal(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    comparison(binder, |x, y| x >= y, |x, y| x >= y)
}

fn less(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    comparison(binder, |x, y| x < y, |x, y| x < y)
}

fn less_equal(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    comparison(binder, |x, y| x <= y, |x, y| x <= y)
}

fn logical_and(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    logical(binder, |x, y| x && y)
}

fn logical_or(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    logical(binder, |x, y| x || y)
}

fn logical_xor(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    logical(binder, |x, y| x != y)
}

pub(super) const OPS: &[OpDef] = &[
    def("add", Opset::Ios15, add),
    def("equal", Opset::Ios15, equal),
    def("floor_div", Opset::Ios15, floor_div),
    def("greater", Opset::Ios15, greater),
    def("greater_equal", Opset::Ios15, greater_equal),
    def("less", Opset::Ios15, less),
    def("less_equal", Opset::Ios15, less_equal),
    def("logical_and", Opset::Ios15, logical_and),
    def("logical_or", Opset::Ios15, logical_or),
    def("logical_xor", Opset::Ios15, logical_xor),
    def("maximum", Opset::Ios15, maximum),
    def("minimum", Opset::Ios15, minimum),
    def("mod", Opset::Ios15, modulo),
    def("mul", Opset::Ios15, mul),
    def("not_equal", Opset::Ios15, not_equal),
    def("pow", Opset::Ios15, pow),
    def("real_div", Opset::Ios15, real_div),
    def("sub", Opset::Ios15, sub),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Case, Value};

    #[test]
    fn quotients_and_remainders_are_pythons() {
        // [x // y for …] and [x % y for …] of 7, -7, 7, -7 and 2, 2, -2, -2
        let (x, y) = ([7, -7, 7, -7], [2, 2, -2, -2]);
        let ints = || Case::new().ints("x", &[4], &x).ints("y", &[4], &y);
        assert_eq!(ints().run_ints("floor_div", Opset::Ios15).1, [3, -4, -4, 3]);
        assert_eq!(ints().run_ints("mod", Opset::Ios15).1, [1, 1, -1, -1]);
        let (x, y) = (x.map(|v| v as f32), y.map(|v| v as f32));
        let floats = || Case::new().floats("x", &[4], &x).floats("y", &[4], &y);
        assert_eq!(floats().run_floats("floor_div", Opset::Ios15).1, [3.0, -4.0, -4.0, 3.0]);
        assert_eq!(floats().run_floats("mod", Opset::Ios15).1, [1.0, 1.0, -1.0, -1.0]);
    }

    #[test]
    fn no_division_of_integers_panics() {
        for operator in ["real_div", "floor_div", "mod"] {
            let case = Case::new().ints("x", &[2], &[i32::MIN, 5]).ints("y", &[2], &[-1, 0]);
            assert!(case.run(operator, Opset::Ios15).is_ok(), "{operator}");
        }
    }

    #[test]
    fn a_constant_does_not_decide_the_type() {
        let x = Value::tensor(ElementType::Float16, &[2], &[2f32, 3.0]);
        for (first, second) in [("x", "y"), ("y", "x")] {
            let case = Case::new().value(first, x.clone()).float(second, 2.0);
            let result = case.run("mul", Opset::Ios16).unwrap();
            assert_eq!(result[0].element(), ElementType::Float16);
            assert_eq!(result[0].values::<f32>(), [4.0, 6.0]);
        }
    }
}
