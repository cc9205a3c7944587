//! Elementwise functions of two tensors, with NumPy's broadcasting.

use coreml_format::mil::{ElementType, Opset};

use super::elementwise_unary::not_computed;
use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Op, OpDef, ResultTypes, Walk, bound, broadcast, def, kernel, one,
};
use crate::value::{Element, Storage, TensorMut, TensorRef};
use crate::weights::Weights;

/// A function of the elements of two tensors, by the name of its operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Equal,
    FloorDiv,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    LogicalAnd,
    LogicalOr,
    LogicalXor,
    Maximum,
    Minimum,
    Mod,
    Mul,
    NotEqual,
    Pow,
    RealDiv,
    Sub,
}

/// The operands and the result of a run.
struct Zip<'r, 'a> {
    walk: &'r Walk<2>,
    /// `None` when it is in the result's place.
    x: Option<TensorRef<'r>>,
    y: TensorRef<'r>,
    out: &'r mut TensorMut<'a>,
}

impl Zip<'_, '_> {
    /// Computes numbers of the operands' type.
    fn compute<T: Element>(self, function: impl Fn(T, T) -> T) -> Result<(), OpError> {
        match self.x {
            Some(x) => self.walk.zip([&x, &self.y], self.out.slice()?, function),
            None => self.walk.zip_in_place(self.out.slice()?, &self.y, function),
        }
    }

    /// Computes bools.
    fn compare<T: Element>(self, function: impl Fn(&T, &T) -> bool) -> Result<(), OpError> {
        let Some(x) = self.x else { return Err(OpError::invalid("a comparison in place")) };
        let function = |x: T, y: T| u8::from(function(&x, &y));
        self.walk.zip([&x, &self.y], self.out.slice()?, function)
    }

    /// Computes bools of bools.
    fn combine(self, function: impl Fn(bool, bool) -> bool) -> Result<(), OpError> {
        self.compute(|x: u8, y: u8| u8::from(function(x != 0, y != 0)))
    }
}

impl Binary {
    /// Whether the result is of bools whatever the operands are.
    pub(crate) fn is_comparison(self) -> bool {
        use Binary::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Greater | GreaterEqual | Less | LessEqual)
    }

    fn floats(self, zip: Zip) -> Result<(), OpError> {
        match self {
            Binary::Add => zip.compute(|x: f32, y| x + y),
            Binary::FloorDiv => zip.compute(float_floor_div),
            Binary::Maximum => zip.compute(float_maximum),
            Binary::Minimum => zip.compute(float_minimum),
            Binary::Mod => zip.compute(float_mod),
            Binary::Mul => zip.compute(|x: f32, y| x * y),
            Binary::Pow => zip.compute(float_pow),
            Binary::RealDiv => zip.compute(|x: f32, y| x / y),
            Binary::Sub => zip.compute(|x: f32, y| x - y),
            _ => self.compare::<f32>(zip),
        }
    }

    fn ints(self, zip: Zip) -> Result<(), OpError> {
        match self {
            Binary::Add => zip.compute(i32::wrapping_add),
            Binary::FloorDiv => zip.compute(int_floor_div),
            Binary::Maximum => zip.compute::<i32>(Ord::max),
            Binary::Minimum => zip.compute::<i32>(Ord::min),
            Binary::Mod => zip.compute(int_mod),
            Binary::Mul => zip.compute(i32::wrapping_mul),
            Binary::Pow => zip.compute(int_pow),
            Binary::RealDiv => zip.compute(int_div),
            Binary::Sub => zip.compute(i32::wrapping_sub),
            _ => self.compare::<i32>(zip),
        }
    }

    fn compare<T: Element>(self, zip: Zip) -> Result<(), OpError> {
        match self {
            Binary::Equal => zip.compare(T::eq),
            Binary::Greater => zip.compare(T::gt),
            Binary::GreaterEqual => zip.compare(T::ge),
            Binary::Less => zip.compare(T::lt),
            Binary::LessEqual => zip.compare(T::le),
            Binary::NotEqual => zip.compare(T::ne),
            _ => Err(OpError::unsupported(format!("{self:?} of numbers"))),
        }
    }

    fn bools(self, zip: Zip) -> Result<(), OpError> {
        match self {
            Binary::LogicalAnd => zip.combine(|x, y| x && y),
            Binary::LogicalOr => zip.combine(|x, y| x || y),
            Binary::LogicalXor => zip.combine(|x, y| x != y),
            _ => Err(OpError::unsupported(format!("{self:?} of bools"))),
        }
    }
}

/// A function of two tensors.
#[derive(Clone, Debug)]
pub(crate) struct ElementwiseBinary {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) function: Binary,
    /// The operands' common element type.
    pub(crate) element: ElementType,
}

impl Op for ElementwiseBinary {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let element = if self.function.is_comparison() { ElementType::Bool } else { self.element };
        one(element, broadcast(inputs.shape(self.x)?, inputs.shape(self.y)?)?)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let ElementwiseBinary { x, y, function, .. } = *self;
        let compute = match inputs.storage(x)? {
            Storage::F32 => Binary::floats,
            Storage::I32 => Binary::ints,
            Storage::Bool => Binary::bools,
            _ => return Err(not_computed(inputs, x)),
        };
        let result = broadcast(inputs.shape(x)?, inputs.shape(y)?)?;
        let walk = Walk::of(inputs, [x, y], &result)?;
        kernel(move |inputs, outputs, _context| {
            let x = match inputs.is_in_place(x) {
                true => None,
                false => Some(inputs.tensor(x)?),
            };
            let (y, out) = (inputs.tensor(y)?, outputs.tensor(0)?);
            compute(function, Zip { walk: &walk, x, y, out })
        })
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }

    fn in_place(&self) -> &[usize] {
        if self.function.is_comparison() { &[] } else { std::slice::from_ref(&self.x) }
    }
}

/// The common element type of two operands, which are held alike.
pub(super) fn common_element(
    binder: &Binder,
    operands: [(&str, usize); 2],
) -> Result<ElementType, OpError> {
    let element = binder.common_element(&operands.map(|operand| operand.1));
    for (name, operand) in operands {
        let got = binder.element(operand);
        if Storage::natural(got) != Storage::natural(element) {
            return Err(OpError::argument(name, format!("`{element}`"), format!("`{got}`")));
        }
    }
    Ok(element)
}

fn binary(binder: &mut Binder, function: Binary) -> Result<Box<dyn Op>, OpError> {
    let (x, y) = (binder.input("x")?, binder.input("y")?);
    let element = common_element(binder, [("x", x), ("y", y)])?;
    bound(ElementwiseBinary { x, y, function, element })
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
pub(super) fn int_div(x: i32, y: i32) -> i32 {
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
pub(super) fn float_maximum(x: f32, y: f32) -> f32 {
    if x > y || x.is_nan() { x } else { y }
}

/// The smaller number; NaN if one is.
pub(super) fn float_minimum(x: f32, y: f32) -> f32 {
    if x < y || x.is_nan() { x } else { y }
}

pub(super) const OPS: &[OpDef] = &[
    def("add", Opset::Ios15, |binder| binary(binder, Binary::Add)),
    def("equal", Opset::Ios15, |binder| binary(binder, Binary::Equal)),
    def("floor_div", Opset::Ios15, |binder| binary(binder, Binary::FloorDiv)),
    def("greater", Opset::Ios15, |binder| binary(binder, Binary::Greater)),
    def("greater_equal", Opset::Ios15, |binder| binary(binder, Binary::GreaterEqual)),
    def("less", Opset::Ios15, |binder| binary(binder, Binary::Less)),
    def("less_equal", Opset::Ios15, |binder| binary(binder, Binary::LessEqual)),
    def("logical_and", Opset::Ios15, |binder| binary(binder, Binary::LogicalAnd)),
    def("logical_or", Opset::Ios15, |binder| binary(binder, Binary::LogicalOr)),
    def("logical_xor", Opset::Ios15, |binder| binary(binder, Binary::LogicalXor)),
    def("maximum", Opset::Ios15, |binder| binary(binder, Binary::Maximum)),
    def("minimum", Opset::Ios15, |binder| binary(binder, Binary::Minimum)),
    def("mod", Opset::Ios15, |binder| binary(binder, Binary::Mod)),
    def("mul", Opset::Ios15, |binder| binary(binder, Binary::Mul)),
    def("not_equal", Opset::Ios15, |binder| binary(binder, Binary::NotEqual)),
    def("pow", Opset::Ios15, |binder| binary(binder, Binary::Pow)),
    def("real_div", Opset::Ios15, |binder| binary(binder, Binary::RealDiv)),
    def("sub", Opset::Ios15, |binder| binary(binder, Binary::Sub)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Case, Value};

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

    /// np.int32([…]) // and % np.int32([…]), which warn and give these numbers. NumPy has no division of
    /// integers to integers; that of coremltools' `real_div` is rounded towards zero.
    #[test]
    fn divisions_by_zero_and_beyond_the_range_are_numpys() {
        let (x, y) = ([i32::MIN, 5, -5, 0, i32::MIN, i32::MIN], [-1, 0, 0, 0, 0, 1]);
        let run = |operator: &str| {
            let case = Case::new().ints("x", &[6], &x).ints("y", &[6], &y);
            case.run_ints(operator, Opset::Ios15).1
        };
        assert_eq!(run("floor_div"), [i32::MIN, 0, 0, 0, 0, i32::MIN]);
        assert_eq!(run("mod"), [0; 6]);
        assert_eq!(run("real_div"), [i32::MIN, 0, 0, 0, 0, i32::MIN]);
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
