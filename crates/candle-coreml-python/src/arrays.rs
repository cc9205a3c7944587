//! NumPy's arrays as the library's, and the library's as NumPy's.

use candle_coreml::mil::ElementType;
use candle_coreml::{Array, NumbersMut, ValueError};
use half::f16;
use numpy::{
    Element, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors;

/// A NumPy array whose numbers are read where they lie: of a type that the library knows, in the machine's
/// byte order, and one behind the other.
pub(crate) enum Lent<'py> {
    Bool(PyReadonlyArrayDyn<'py, bool>),
    Int8(PyReadonlyArrayDyn<'py, i8>),
    UInt8(PyReadonlyArrayDyn<'py, u8>),
    Int16(PyReadonlyArrayDyn<'py, i16>),
    UInt16(PyReadonlyArrayDyn<'py, u16>),
    Int32(PyReadonlyArrayDyn<'py, i32>),
    UInt32(PyReadonlyArrayDyn<'py, u32>),
    Int64(PyReadonlyArrayDyn<'py, i64>),
    UInt64(PyReadonlyArrayDyn<'py, u64>),
    Float16(PyReadonlyArrayDyn<'py, f16>),
    Float32(PyReadonlyArrayDyn<'py, f32>),
    Float64(PyReadonlyArrayDyn<'py, f64>),
}

impl<'py> Lent<'py> {
    /// An array to read; a copy of it if it lies in memory otherwise. `None` if it has no numbers that the
    /// library knows: complex ones, strings, objects.
    pub(crate) fn of(array: &Bound<'py, PyUntypedArray>) -> PyResult<Option<Self>> {
        let dtype = array.dtype();
        if !array.is_c_contiguous()
            || !array.is_aligned()
            || dtype.is_native_byteorder() == Some(false)
        {
            let py = array.py();
            let native = dtype.call_method1(intern!(py, "newbyteorder"), ("=",))?;
            let copy = array.call_method1(intern!(py, "astype"), (native, "C"))?;
            return Self::of_dense(copy.cast::<PyUntypedArray>()?);
        }
        Self::of_dense(array)
    }

    fn of_dense(array: &Bound<'py, PyUntypedArray>) -> PyResult<Option<Self>> {
        let dtype = array.dtype();
        Ok(Some(match (dtype.kind(), dtype.itemsize()) {
            (b'f', 4) => Lent::Float32(readonly(array)?),
            (b'i', 4) => Lent::Int32(readonly(array)?),
            (b'f', 2) => Lent::Float16(readonly(array)?),
            (b'f', 8) => Lent::Float64(readonly(array)?),
            (b'i', 8) => Lent::Int64(readonly(array)?),
            (b'b', 1) => Lent::Bool(readonly(array)?),
            (b'i', 1) => Lent::Int8(readonly(array)?),
            (b'u', 1) => Lent::UInt8(readonly(array)?),
            (b'i', 2) => Lent::Int16(readonly(array)?),
            (b'u', 2) => Lent::UInt16(readonly(array)?),
            (b'u', 4) => Lent::UInt32(readonly(array)?),
            (b'u', 8) => Lent::UInt64(readonly(array)?),
            _ => return Ok(None),
        }))
    }

    /// The library's view of it.
    pub(crate) fn array(&self) -> PyResult<Array<'_>> {
        match self {
            Lent::Bool(array) => view(array),
            Lent::Int8(array) => view(array),
            Lent::UInt8(array) => view(array),
            Lent::Int16(array) => view(array),
            Lent::UInt16(array) => view(array),
            Lent::Int32(array) => view(array),
            Lent::UInt32(array) => view(array),
            Lent::Int64(array) => view(array),
            Lent::UInt64(array) => view(array),
            Lent::Float16(array) => view(array),
            Lent::Float32(array) => view(array),
            Lent::Float64(array) => view(array),
        }
    }
}

fn readonly<'py, T: Element>(
    array: &Bound<'py, PyUntypedArray>,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    Ok(array.cast::<PyArrayDyn<T>>()?.try_readonly()?)
}

fn view<'a, T: Element>(array: &'a PyReadonlyArrayDyn<'_, T>) -> PyResult<Array<'a>>
where
    &'a [T]: Into<candle_coreml::Numbers<'a>>,
{
    let view = Array::new(array.shape(), array.as_slice()?);
    view.map_err(|error| errors::to_py(error.into()))
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
    let mut elements = made.try_readwrite()?;
    let read = array.read(elements.as_slice_mut()?.into());
    read.map_err(|error: ValueError| errors::to_py(error.into()))?;
    drop(elements);
    Ok(made.into_any())
}
