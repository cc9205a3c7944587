//! `cast`: other element types.

use coreml_format::mil::ElementType;
use coreml_kernels::convert::round_to_f16;
use half::f16;

use super::load;
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, ResultTypes, bound, kernel, one};
use crate::value::{Element, Storage, TensorMut, TensorRef, same_count};
use crate::weights::Weights;

/// Converts to another element type, as NumPy's `astype` does. What `fp16` can't hold is rounded where a
/// value comes into that type or goes out of it: in between, activations are held as `f32`.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    pub(crate) x: usize,
    pub(crate) to: ElementType,
    /// `x`, if the result is held like it.
    pub(crate) in_place: Option<usize>,
}

impl Op for Cast {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(self.to, inputs.shape(self.x)?)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (x, held_alike) = (self.x, self.in_place.is_some());
        let is_half = |element| element == ElementType::Float16;
        let (from_half, to_half) = (is_half(inputs.element(x)?), is_half(self.to));
        let rounds = from_half != to_half;
        kernel(move |inputs, outputs, context| {
            let out = outputs.tensor(0)?;
            match held_alike {
                true => load(inputs, x, out)?,
                false => convert(&inputs.tensor(x)?, out, from_half)?,
            }
            if rounds && out.storage == Storage::F32 {
                round_to_f16(context, out.f32s()?);
            }
            Ok(())
        })
    }

    fn reads_strided(&self, _input: usize) -> bool {
        self.in_place.is_some()
    }

    fn in_place(&self) -> &[usize] {
        self.in_place.as_slice()
    }
}

fn fill<A: Copy, B>(from: &[A], to: &mut [B], function: impl Fn(A) -> B) -> Result<(), OpError> {
    same_count(to.len(), from.len())?;
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = function(from));
    Ok(())
}

/// Converts elements; floats that mean `fp16` are rounded to it first.
fn convert(x: &TensorRef, out: &mut TensorMut, half: bool) -> Result<(), OpError> {
    match x.storage {
        Storage::Bool | Storage::U8 => convert_ints(x.slice::<u8>()?, out),
        Storage::I8 => convert_ints(x.slice::<i8>()?, out),
        Storage::U16 => convert_ints(x.slice::<u16>()?, out),
        Storage::I16 => convert_ints(x.slice::<i16>()?, out),
        Storage::U32 => convert_ints(x.slice::<u32>()?, out),
        Storage::I32 => convert_ints(x.slice::<i32>()?, out),
        Storage::U64 => convert_ints(x.slice::<u64>()?, out),
        Storage::I64 => convert_ints(x.slice::<i64>()?, out),
        Storage::F16 => convert_floats(x.slice::<f16>()?, out, f64::from),
        Storage::F32 if half => {
            convert_floats(x.slice::<f32>()?, out, |x| f16::from_f32(x).to_f64())
        }
        Storage::F32 => convert_floats(x.slice::<f32>()?, out, f64::from),
        Storage::F64 => convert_floats(x.slice::<f64>()?, out, f64::from),
    }
}

/// Integers become others as NumPy has it: their low bits. `i128` holds all of them.
fn convert_ints<T: Element + Into<i128>>(x: &[T], out: &mut TensorMut) -> Result<(), OpError> {
    let wide = |x: T| -> i128 { x.into() };
    match out.storage {
        Storage::Bool => fill(x, out.slice()?, |x| u8::from(wide(x) != 0)),
        Storage::U8 => fill(x, out.slice()?, |x| wide(x) as u8),
        Storage::I8 => fill(x, out.slice()?, |x| wide(x) as i8),
        Storage::U16 => fill(x, out.slice()?, |x| wide(x) as u16),
        Storage::I16 => fill(x, out.slice()?, |x| wide(x) as i16),
        Storage::U32 => fill(x, out.slice()?, |x| wide(x) as u32),
        Storage::I32 => fill(x, out.slice()?, |x| wide(x) as i32),
        Storage::U64 => fill(x, out.slice()?, |x| wide(x) as u64),
        Storage::I64 => fill(x, out.slice()?, |x| wide(x) as i64),
        Storage::F16 => fill(x, out.slice()?, |x| f16::from_f64(wide(x) as f64)),
        Storage::F32 => fill(x, out.slice()?, |x| wide(x) as f32),
        Storage::F64 => fill(x, out.slice()?, |x| wide(x) as f64),
    }
}

/// Floats become integers towards zero and saturating, NaN becomes 0; bools say whether they are
/// not 0.
fn convert_floats<T: Element>(
    x: &[T],
    out: &mut TensorMut,
    wide: impl Fn(T) -> f64,
) -> Result<(), OpError> {
    match out.storage {
        Storage::Bool => fill(x, out.slice()?, |x| u8::from(wide(x) != 0.0)),
        Storage::U8 => fill(x, out.slice()?, |x| wide(x) as u8),
        Storage::I8 => fill(x, out.slice()?, |x| wide(x) as i8),
        Storage::U16 => fill(x, out.slice()?, |x| wide(x) as u16),
        Storage::I16 => fill(x, out.slice()?, |x| wide(x) as i16),
        Storage::U32 => fill(x, out.slice()?, |x| wide(x) as u32),
        Storage::I32 => fill(x, out.slice()?, |x| wide(x) as i32),
        Storage::U64 => fill(x, out.slice()?, |x| wide(x) as u64),
        Storage::I64 => fill(x, out.slice()?, |x| wide(x) as i64),
        Storage::F16 => fill(x, out.slice()?, |x| f16::from_f64(wide(x))),
        Storage::F32 => fill(x, out.slice()?, |x| wide(x) as f32),
        Storage::F64 => fill(x, out.slice()?, wide),
    }
}

pub(super) fn cast(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let to = binder.element_type("dtype")?;
    let same = Storage::natural(to) == Storage::natural(binder.element(x));
    if Storage::natural(to).is_none() {
        return Err(OpError::argument("dtype", "a type of numbers or `bool`", format!("`{to}`")));
    }
    bound(Cast { x, to, in_place: same.then_some(x) })
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::{ElementType, Opset};

    use crate::op::testing::{Case, Value};

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

    /// np.float32([…]).astype(np.float16).astype(…): what is held with more precision is rounded first.
    #[test]
    fn halves_are_rounded_on_the_way_out() {
        let values = [2049f32, 0.1, 65519.0, 65520.0, -1e6, 1e-9];
        let cast = |to| {
            let x = Value::tensor(ElementType::Float16, &[6], &values);
            let case = Case::new().value("x", x).string("dtype", to);
            case.run("cast", Opset::Ios17).unwrap().remove(0)
        };
        let infinite = f32::INFINITY;
        let expected = [2048.0, 0.099_975_586, 65504.0, infinite, -infinite, 0.0];
        assert_eq!(cast("fp32").values::<f32>(), expected);
        assert_eq!(cast("int32").values::<i32>(), [2048, 0, 65504, i32::MAX, i32::MIN, 0]);
        assert_eq!(cast("uint16").values::<u16>(), [2048, 0, 65504, 65535, 0, 0]);
        assert_eq!(cast("bool").values::<u8>(), [1, 1, 1, 1, 1, 0]);
    }

    #[test]
    fn integers_wrap() {
        // np.array([300, -129, 70000, -1], np.int32).astype(…)
        let cast = |to| {
            let case = Case::new().ints("x", &[4], &[300, -129, 70000, -1]).string("dtype", to);
            case.run("cast", Opset::Ios17).unwrap().remove(0)
        };
        assert_eq!(cast("int8").values::<i8>(), [44, 127, 112, -1]);
        assert_eq!(cast("uint8").values::<u8>(), [44, 127, 112, 255]);
        assert_eq!(cast("int16").values::<i16>(), [300, -129, 4464, -1]);
        assert_eq!(cast("uint16").values::<u16>(), [300, 65407, 4464, 65535]);
        assert_eq!(cast("uint32").values::<u32>(), [300, 4_294_967_167, 70000, u32::MAX]);
        assert_eq!(cast("fp32").values::<f32>(), [300.0, -129.0, 70000.0, -1.0]);
        assert_eq!(cast("fp16").values::<f32>(), [300.0, -129.0, f32::INFINITY, -1.0]);
        assert_eq!(cast("bool").values::<u8>(), [1, 1, 1, 1]);
    }
}
