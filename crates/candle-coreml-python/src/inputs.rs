//! Values that Python gives to a model.

use candle_core::{Device, Tensor};
use candle_coreml::FeatureValue;
use numpy::{PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// The value of an input.
pub(crate) fn feature_value(value: &Bound<'_, PyAny>) -> PyResult<FeatureValue> {
    let failed = |error: candle_core::Error| PyTypeError::new_err(error.to_string());
    let tensor = if let Ok(array) = value.extract::<PyReadonlyArrayDyn<f32>>() {
        Tensor::from_slice(array.as_slice()?, array.shape(), &Device::Cpu).map_err(failed)?
    } else {
        let array = value.extract::<PyReadonlyArrayDyn<i32>>()?;
        Tensor::from_slice(array.as_slice()?, array.shape(), &Device::Cpu).map_err(failed)?
    };
    Ok(tensor.into())
}
