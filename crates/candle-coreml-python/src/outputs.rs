//! Values that a model gives to Python.

use candle_coreml::FeatureValue;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// The Python object of an output.
pub(crate) fn object<'py>(py: Python<'py>, value: &FeatureValue) -> PyResult<Bound<'py, PyAny>> {
    let failed = |error: candle_core::Error| PyTypeError::new_err(error.to_string());
    let FeatureValue::Tensor(tensor) = value else {
        return Err(PyTypeError::new_err(value.kind_in_words()));
    };
    let flat = tensor.flatten_all().and_then(|flat| flat.to_dtype(candle_core::DType::F32));
    let values = flat.and_then(|flat| flat.to_vec1::<f32>()).map_err(failed)?;
    Ok(PyArray1::from_vec(py, values).reshape(tensor.dims())?.into_any())
}
