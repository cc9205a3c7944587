//! NumPy's arrays as the library's, and the library's as NumPy's.
#![allow(unsafe_code)]

use candle_coreml::mil::ElementType;
use candle_coreml::{Array, Numbers, NumbersMut, ValueError};
use half::f16;
use numpy::{
    Element, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors;

/// A NumPy array whose numbers are read where they lie: of a type that the library knows, in the machine's
/// byte order, and one behind the other.
pub(crate) struct Lent<'py>(Bound<'py, PyUntypedArray>);

impl<'py> Lent<'py> {
    /// An array to read; a copy of it if it lies in memory otherwise. `None` if it has no numbers that the
    /// library knows: complex ones, strings, objects.
    pub(crate) fn of(array: &Bound<'py, PyUntypedArray>) -> PyResult<Option<Self>> {
        let dtype = array.dtype();
        let known = matches!(
            (dtype.kind(), dtype.itemsize()),
            (b'b', 1) | (b'f', 2 | 4 | 8) | (b'i' | b'u', 1 | 2 | 4 | 8)
        );
        if !known {
            return Ok(None);
        }
        if is_dense(array) {
            return Ok(Some(Lent(array.clone())));
        }
        let py = array.py();
        let native = dtype.call_method1(intern!(py, "newbyteorder"), ("=",))?;
        let copy = array.call_method1(intern!(py, "astype"), (native, "C"))?;
        Ok(Some(Lent(copy.cast_into()?)))
    }

    /// The library's view of it.
    pub(crate) fn array(&self) -> PyResult<Array<'_>> {
        let dtype = self.0.dtype();
        let numbers: Numbers = match (dtype.kind(), dtype.itemsize()) {
            (b'f', 4) => self.numbers::<f32>()?.into(),
            (b'f', 2) => self.numbers::<f16>()?.into(),
            (b'f', _) => self.numbers::<f64>()?.into(),
            (b'i', 1) => self.numbers::<i8>()?.into(),
            (b'i', 2) => self.numbers::<i16>()?.into(),
            (b'i', 4) => self.numbers::<i32>()?.into(),
            (b'i', _) => self.numbers::<i64>()?.into(),
            (b'u', 1) => self.numbers::<u8>()?.into(),
            (b'u', 2) => self.numbers::<u16>()?.into(),
            (b'u', 4) => self.numbers::<u32>()?.into(),
            (b'u', _) => self.numbers::<u64>()?.into(),
            _ => self.numbers::<bool>()?.into(),
        };
        Array::new(self.0.shape(), numbers).map_err(|error| errors::to_py(error.into()))
    }

    /// The array's elements, which are of this type. What NumPy's own way costs, which notes who reads which
    /// array, would be a good part of a small prediction.
    fn numbers<T: Element>(&self) -> PyResult<&[T]> {
        if self.0.dtype().itemsize() != size_of::<T>() || !is_dense(&self.0) {
            return Err(PyTypeError::new_err("the array has changed while it was read"));
        }
        // SAFETY: the array, which is held, has elements of this type and byte order. That nobody writes to it
        // while it is read is what `predict` asks of its callers: no other way to read it could prevent that.
        unsafe { Ok(self.0.cast_unchecked::<PyArrayDyn<T>>().as_slice()?) }
    }
}

/// Whether elements lie one behind the other, aligned, and in the machine's byte order.
fn is_dense(array: &Bound<'_, PyUntypedArray>) -> bool {
    array.is_c_contiguous()
        && array.is_aligned()
        && array.dtype().is_native_byteorder() != Some(false)
}

/// Whatever NumPy makes an array of: lists, buffers, what has `__array__` or `__dlpack__`.
pub(crate) fn as_numpy<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    static ASARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static FROM_DLPACK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if let Ok(array) = value.cast::<PyUntypedArray>() {
        return Ok(array.clone());
    }
    let py = value.py();
    let has = |name| value.hasattr(name);
    let only_dlpack = has(intern!(py, "__dlpack__"))? && !has(intern!(py, "__array__"))?;
    let convert = match only_dlpack {
        true => FROM_DLPACK.import(py, "numpy", "from_dlpack")?,
        false => ASARRAY.import(py, "numpy", "asarray")?,
    };
    Ok(convert.call1((value,))?.cast_into()?)
}

/// A new NumPy array of the type that the program declares, which the elements are written to once.
/// `bfloat16` and the 8-bit floats, which NumPy lacks, become `float32`.
pub(crate) fn to_numpy<'py>(py: Python<'py>, array: &Array) -> PyResult<Bound<'py, PyAny>> {
    match array.element() {
        ElementType::Bool => written::<bool>(py, array),
        ElementType::Int4 | ElementType::Int8 => written::<i8>(py, array),
        ElementType::Int16 => written::<i16>(py, array),
        ElementType::UInt16 => written::<u16>(py, array),
        ElementType::Int32 => written::<i32>(py, array),
        ElementType::UInt32 => written::<u32>(py, array),
        ElementType::Int64 => written::<i64>(py, array),
        ElementType::UInt64 => written::<u64>(py, array),
        ElementType::Float16 => written::<f16>(py, array),
        ElementType::Float64 => written::<f64>(py, array),
        element if element.is_float() => written::<f32>(py, array),
        _ => written::<u8>(py, array),
    }
}

fn written<'py, T: Element>(py: Python<'py>, array: &Array) -> PyResult<Bound<'py, PyAny>>
where
    for<'a> &'a mut [T]: Into<NumbersMut<'a>>,
{
    let made = PyArrayDyn::<T>::zeros(py, array.shape(), false);
    // SAFETY: nobody else has the array yet.
    let elements = unsafe { made.as_slice_mut()? };
    let read = array.read(elements.into());
    read.map_err(|error: ValueError| errors::to_py(error.into()))?;
    Ok(made.into_any())
}
