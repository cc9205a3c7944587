//! A backend's results, read where they lie.

use std::ops::Range;

use candle_core::Tensor;
use coreml_engine::{Storage, TensorRef};
use coreml_format::description::FeatureType;
use coreml_format::mil::ElementType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::{FeatureValue, Image, Numbers, NumbersMut};
use crate::error::ValueError;
use crate::tensors;

/// An output, as a backend gives it: valid while it is read.
#[non_exhaustive]
pub enum OutputValue<'a> {
    /// A multi-array, or an image as one.
    Array(Array<'a>),
    /// Something else.
    Value(FeatureValue),
}

impl OutputValue<'_> {
    /// The multi-array.
    ///
    /// # Errors
    /// When the output is something else.
    pub fn array(&self) -> Result<&Array<'_>, ValueError> {
        match self {
            OutputValue::Array(array) => Ok(array),
            OutputValue::Value(value) => {
                Err(ValueError::mismatch("a multi-array", value.kind_in_words()))
            }
        }
    }

    /// A value of one's own, of the type that the model describes.
    ///
    /// # Errors
    /// When the output is not of that type, or there is no memory.
    pub fn to_value(&self, ty: Option<&FeatureType>) -> Result<FeatureValue, ValueError> {
        let array = match self {
            OutputValue::Array(array) => array,
            OutputValue::Value(value) => return Ok(value.clone()),
        };
        match ty {
            Some(FeatureType::Image(image)) => {
                Ok(Image::read(image.color_space, array.shape(), array.pixels()?)?.into())
            }
            Some(FeatureType::Double) if array.len() == 1 => {
                let mut value = [0.0];
                array.read_floats(0..1, &mut value)?;
                Ok(f64::from(value[0]).into())
            }
            Some(FeatureType::Int64) if array.len() == 1 => Ok(array.integers()?[0].into()),
            _ => Ok(array.to_tensor()?.into()),
        }
    }
}

/// A dense multi-array that is read where it lies: in a backend's memory, or in a caller's.
pub struct Array<'a>(pub(super) TensorRef<'a>);

impl<'a> Array<'a> {
    /// An array of numbers in row-major order.
    ///
    /// ```
    /// use candle_coreml::Array;
    ///
    /// let array = Array::new(&[1, 2], [0.5f32, 7.0].as_slice()).unwrap();
    /// assert!(Array::new(&[2, 2], [0.5f32, 7.0].as_slice()).is_err());
    /// ```
    ///
    /// # Errors
    /// When there are not as many numbers as the shape has.
    pub fn new(shape: &'a [usize], numbers: impl Into<Numbers<'a>>) -> Result<Self, ValueError> {
        let (element, storage, bytes) = numbers.into().parts();
        Self::of_bytes(element, storage, shape, bytes)
    }

    /// An array of the engine's.
    pub(crate) fn of_engine(tensor: TensorRef<'a>) -> Self {
        Array(tensor)
    }

    fn of_bytes(
        element: ElementType,
        storage: Storage,
        shape: &'a [usize],
        bytes: &'a [u8],
    ) -> Result<Self, ValueError> {
        if storage.byte_len(shape) != Some(bytes.len()) {
            let expected = format!("the elements of shape {shape:?}");
            return Err(ValueError::mismatch(expected, bytes.len() / storage.size()));
        }
        Ok(Array(TensorRef::dense(element, storage, shape, bytes)))
    }

    /// An array of floats for a backend of one's own: `element` is the type that they have in the
    /// program.
    ///
    /// # Errors
    /// When there are not as many as the shape has.
    pub fn from_floats(
        element: ElementType,
        shape: &'a [usize],
        values: &'a [f32],
    ) -> Result<Self, ValueError> {
        Self::of_bytes(element, Storage::F32, shape, bytemuck::cast_slice(values))
    }

    /// The elements' type in the program.
    pub fn element(&self) -> ElementType {
        self.0.element
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        self.0.shape
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy as a tensor on the CPU, of the dtype nearest to the elements' type: `bool` and `uint8` as
    /// `U8`, `int8` as `I16`, `uint16` as `U32`, `uint64` as `I64`.
    ///
    /// # Errors
    /// When Candle refuses it.
    pub fn to_tensor(&self) -> Result<Tensor, ValueError> {
        tensors::to_candle(&self.0)
    }

    /// Copies elements in row-major order, rounded to the type that they have in the program. This is
    /// the only copy on the way from the backend's memory.
    ///
    /// # Errors
    /// When the elements are no floats, or there are not as many as `to` takes.
    pub fn read_floats(&self, elements: Range<usize>, to: &mut [f32]) -> Result<(), ValueError> {
        if elements.len() != to.len() || elements.end > self.len() {
            let expected = format!("{} floats, elements {elements:?}", to.len());
            return Err(ValueError::mismatch(expected, format!("{} elements", self.len())));
        }
        match self.0.storage {
            Storage::F32 => {
                to.copy_from_slice(&self.elements::<f32>()?[elements]);
                round(self.0.element, to);
            }
            Storage::F16 => self.elements::<f16>()?[elements].convert_to_f32_slice(to),
            Storage::F64 => {
                let from = &self.elements::<f64>()?[elements];
                to.iter_mut().zip(from).for_each(|(to, &from)| *to = from as f32);
            }
            _ => return Err(ValueError::mismatch("floats", format!("`{}`", self.0.element))),
        }
        Ok(())
    }

    /// Copies all elements in row-major order, as numbers of the type that they have in the program, or of
    /// the next wider one that there is: `f32` for `bf16`, `u8` for `uint4`. This is the only copy on the
    /// way from the backend's memory.
    ///
    /// # Errors
    /// When `to` is of another type, or there are not as many.
    pub fn read(&self, to: NumbersMut) -> Result<(), ValueError> {
        if to.len() != self.len() {
            let expected = format!("{} elements", to.len());
            return Err(ValueError::mismatch(expected, format!("{} elements", self.len())));
        }
        match (self.0.storage, to) {
            (Storage::F16 | Storage::F32, NumbersMut::Float32(to)) => {
                self.read_floats(0..self.len(), to)?;
            }
            (Storage::F32, NumbersMut::Float16(to)) => to.convert_from_f32_slice(self.elements()?),
            (Storage::F16, NumbersMut::Float16(to)) => to.copy_from_slice(self.elements()?),
            (Storage::F64, NumbersMut::Float64(to)) => to.copy_from_slice(self.elements()?),
            (Storage::Bool, NumbersMut::Bool(to)) => {
                let elements = self.elements::<u8>()?;
                to.iter_mut().zip(elements).for_each(|(to, &element)| *to = element != 0);
            }
            (Storage::I8, NumbersMut::Int8(to)) => to.copy_from_slice(self.elements()?),
            (Storage::U8, NumbersMut::UInt8(to)) => to.copy_from_slice(self.elements()?),
            (Storage::I16, NumbersMut::Int16(to)) => to.copy_from_slice(self.elements()?),
            (Storage::U16, NumbersMut::UInt16(to)) => to.copy_from_slice(self.elements()?),
            (Storage::I32, NumbersMut::Int32(to)) => to.copy_from_slice(self.elements()?),
            (Storage::U32, NumbersMut::UInt32(to)) => to.copy_from_slice(self.elements()?),
            (Storage::I64, NumbersMut::Int64(to)) => to.copy_from_slice(self.elements()?),
            (Storage::U64, NumbersMut::UInt64(to)) => to.copy_from_slice(self.elements()?),
            (_, to) => {
                let got = format!("`{}`", self.0.element);
                return Err(ValueError::mismatch(format!("`{}`", to.element()), got));
            }
        }
        Ok(())
    }

    /// The elements as an image's pixels, which are integers in some programs.
    fn pixels(&self) -> Result<Vec<f32>, ValueError> {
        if !self.element().is_float() {
            return Ok(self.integers()?.into_iter().map(|pixel| pixel as f32).collect());
        }
        let mut pixels = vec![0.0; self.len()];
        self.read_floats(0..self.len(), &mut pixels)?;
        Ok(pixels)
    }

    /// The elements of an array of integers in row-major order.
    ///
    /// # Errors
    /// When the elements are no integers.
    pub fn integers(&self) -> Result<Vec<i64>, ValueError> {
        if self.0.element.is_float() {
            return Err(ValueError::mismatch("integers", format!("`{}`", self.0.element)));
        }
        Ok(self.0.ints().map_err(tensors::refused)?.to_vec())
    }

    /// The bytes of the elements, as they are held.
    pub(crate) fn bytes(&self) -> Result<&'a [u8], ValueError> {
        self.0.dense_bytes().map_err(tensors::refused)
    }

    pub(super) fn elements<T: coreml_engine::Element>(&self) -> Result<&'a [T], ValueError> {
        self.0.slice::<T>().map_err(tensors::refused)
    }
}

/// Rounds values that are held in single precision to the type that they have.
fn round(element: ElementType, values: &mut [f32]) {
    match element {
        ElementType::Float16 => {
            let mut halves = [f16::ZERO; 512];
            for values in values.chunks_mut(halves.len()) {
                let halves = &mut halves[..values.len()];
                halves.convert_from_f32_slice(values);
                halves.convert_to_f32_slice(values);
            }
        }
        ElementType::BFloat16 => {
            values.iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32());
        }
        _ => {}
    }
}
