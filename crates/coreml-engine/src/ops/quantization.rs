//! Activations as small integers.

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::quantize::{Affine, Quantized, dequantize, quantize};

use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, axis, bound, def, kernel, one};
use crate::value::{Element, Storage, count};
use crate::weights::{Weights, floats};

/// How numbers and integers belong together: the inputs that say it.
#[derive(Clone, Debug)]
pub(crate) struct Scaling {
    pub(crate) scale: usize,
    pub(crate) zero_point: Option<usize>,
    /// The axis whose slices have a scale each; one for all if there is none.
    pub(crate) axis: Option<i64>,
}

/// The scales and zero points of slices of `inner` elements side by side.
struct Slices {
    scale: Vec<f32>,
    zero_point: Vec<f32>,
    inner: usize,
}

impl Scaling {
    fn bind(binder: &mut Binder) -> Result<Self, OpError> {
        let (scale, zero_point) = (binder.input("scale")?, binder.optional_input("zero_point")?);
        Ok(Scaling { scale, zero_point, axis: binder.optional_int("axis")? })
    }

    /// What `scale` and `zero_point` say of the slices of a tensor.
    fn slices(&self, inputs: &Inputs, shape: &[usize]) -> Result<Slices, OpError> {
        let along = self.axis.map(|along| axis(along, shape.len(), "axis")).transpose()?;
        let (size, inner) = match along {
            Some(axis) => (shape[axis], count(&shape[axis + 1..])),
            None => (1, count(shape)),
        };
        let numbers = |name: &str, input: usize| {
            let numbers = floats(&inputs.tensor(input)?)?;
            match numbers.len() {
                1 if size > 0 => Ok(vec![numbers[0]; size]),
                got if got == size => Ok(numbers),
                got => {
                    let expected = match along {
                        Some(axis) => format!("1 or {size} numbers, the size of axis {axis}"),
                        None => "one number, as there is no `axis`".to_owned(),
                    };
                    Err(OpError::argument(name, expected, got.to_string()))
                }
            }
        };
        let scale = numbers("scale", self.scale)?;
        let zero_point = match self.zero_point {
            Some(zero_point) => numbers("zero_point", zero_point)?,
            None => vec![0.0; size],
        };
        Ok(Slices { scale, zero_point, inner })
    }
}

impl Slices {
    fn affine(&self) -> Affine<'_> {
        Affine { scale: &self.scale, zero_point: &self.zero_point, inner: self.inner }
    }
}

/// Floats as small integers: `round(x / scale) + zero point`.
#[derive(Clone, Debug)]
pub(crate) struct Quantize {
    pub(crate) x: usize,
    pub(crate) scaling: Scaling,
    pub(crate) to: ElementType,
}

impl Op for Quantize {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(self.to, inputs.shape(self.x)?)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        match self.to {
            ElementType::Int8 => self.kernel::<i8>(inputs),
            _ => self.kernel::<u8>(inputs),
        }
    }
}

impl Quantize {
    fn kernel<Q: Quantized + Element>(&self, inputs: &Inputs) -> Result<Kernel, OpError> {
        let (x, slices) = (self.x, self.scaling.slices(inputs, inputs.shape(self.x)?)?);
        kernel(move |inputs, outputs, context| {
            let x = inputs.tensor(x)?.f32s()?;
            Ok(quantize(context, slices.affine(), x, outputs.tensor(0)?.slice::<Q>()?)?)
        })
    }
}

/// Small integers as floats: `scale · (q - zero point)`.
#[derive(Clone, Debug)]
pub(crate) struct Dequantize {
    pub(crate) q: usize,
    pub(crate) scaling: Scaling,
}

impl Op for Dequantize {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.scaling.scale)?, inputs.shape(self.q)?)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        match inputs.storage(self.q)? {
            Storage::I8 => self.kernel::<i8>(inputs),
            _ => self.kernel::<u8>(inputs),
        }
    }
}

impl Dequantize {
    fn kernel<Q: Quantized + Element>(&self, inputs: &Inputs) -> Result<Kernel, OpError> {
        let (q, slices) = (self.q, self.scaling.slices(inputs, inputs.shape(self.q)?)?);
        kernel(move |inputs, outputs, context| {
            let q = inputs.tensor(q)?.slice::<Q>()?;
            Ok(dequantize(context, slices.affine(), q, outputs.tensor(0)?.f32s()?)?)
        })
    }
}

fn quantize_op(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, scaling) = (binder.input("input")?, Scaling::bind(binder)?);
    let types = [("int8", ElementType::Int8), ("uint8", ElementType::UInt8)];
    let to = binder.one_of("output_dtype", &types)?;
    if let Some(got) =
        scaling.zero_point.map(|input| binder.element(input)).filter(|got| *got != to)
    {
        let expected = format!("`{to}`, as `output_dtype` says");
        return Err(OpError::argument("zero_point", expected, format!("`{got}`")));
    }
    bound(Quantize { x, scaling, to })
}

fn dequantize_op(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (q, scaling) = (binder.input("input")?, Scaling::bind(binder)?);
    bound(Dequantize { q, scaling })
}

pub(super) const OPS: &[OpDef] =
    &[def("dequantize", Opset::Ios17, dequantize_op), def("quantize", Opset::Ios17, quantize_op)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Case, Value};

    fn case(scale: &[f32], zero_point: &[i8]) -> Case {
        let case = Case::new().floats("input", &[2, 3], &[0.5, 1.5, -1.0, 2.0, 1e9, -0.5]);
        let case = case.dense("scale", ElementType::Float32, &[scale.len()], scale);
        let case = case.dense("zero_point", ElementType::Int8, &[zero_point.len()], zero_point);
        case.string("output_dtype", "int8")
    }

    #[test]
    fn slices_of_an_axis_have_a_scale_each() {
        let quantized = |axis: i32, scale: &[f32], zero_point: &[i8]| {
            case(scale, zero_point).int("axis", axis).run("quantize", Opset::Ios17).unwrap()[0]
                .values::<i8>()
        };
        assert_eq!(quantized(0, &[1.0, 0.5], &[0, 1]), [0, 2, -1, 5, 127, 0]);
        assert_eq!(quantized(-1, &[0.5, 1.0, 2.0], &[0, 0, 9]), [1, 2, 9, 4, 127, 9]);
        let q = Value::tensor(ElementType::UInt8, &[3], &[0u8, 128, 255]);
        let scale = Value::tensor(ElementType::Float16, &[], &[0.5f32]);
        let case = Case::new().value("input", q).value("scale", scale);
        let result = case.run("dequantize", Opset::Ios17).unwrap();
        assert_eq!(result[0].element(), ElementType::Float16);
        assert_eq!(result[0].values::<f32>(), [0.0, 64.0, 127.5]);
    }

    #[test]
    fn scales_that_do_not_fit_are_errors() {
        let error = |case: Case| case.run("quantize", Opset::Ios17).err().unwrap().to_string();
        let message = error(case(&[1.0, 2.0], &[0, 0]));
        assert!(message.contains("`scale`") && message.contains("no `axis`"), "{message}");
        assert!(error(case(&[1.0, 2.0], &[0, 0]).int("axis", 1)).contains("1 or 3 numbers"));
        assert!(error(case(&[1.0, 2.0], &[0, 0, 0]).int("axis", 0)).contains("`zero_point`"));
        assert!(error(case(&[1.0], &[0]).int("axis", 2)).contains("`axis`"));
        let other = Case::new().floats("input", &[1], &[0.0]).float("scale", 1.0);
        let other = other.dense("zero_point", ElementType::UInt8, &[], &[0u8]);
        assert!(error(other.string("output_dtype", "int8")).contains("`zero_point`"));
    }

    #[test]
    fn nothing_is_nothing() {
        let case = Case::new().floats("input", &[0, 3], &[]).string("output_dtype", "uint8");
        let case = case.dense("scale", ElementType::Float32, &[0], &[0f32; 0]).int("axis", 0);
        assert_eq!(case.run("quantize", Opset::Ios17).unwrap()[0].shape(), [0, 3]);
    }
}
