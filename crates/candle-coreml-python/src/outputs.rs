//! Values that a model gives to Python.

use candle_coreml::description::FeatureType;
use candle_coreml::{Dictionary, FeatureValue, OutputValue, Sequence};
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyString};

use crate::{arrays, errors, images};

/// The Python object of an output: an array of the type that the program declares, or what else the model
/// describes.
pub(crate) fn object<'py>(
    py: Python<'py>,
    output: &OutputValue,
    ty: Option<&FeatureType>,
) -> PyResult<Bound<'py, PyAny>> {
    let plain = matches!(ty, None | Some(FeatureType::MultiArray(_)));
    match output {
        OutputValue::Array(array) if plain => arrays::to_numpy(py, array),
        other => {
            let value = other.to_value(ty).map_err(|error| errors::to_py(error.into()))?;
            match (&value, other) {
                (FeatureValue::Tensor(_), OutputValue::Array(array)) => arrays::to_numpy(py, array),
                _ => value_object(py, &value),
            }
        }
    }
}

fn value_object<'py>(py: Python<'py>, value: &FeatureValue) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        FeatureValue::Image(image) => images::to_py(py, image)?,
        FeatureValue::String(string) => PyString::new(py, string).into_any(),
        FeatureValue::Int64(integer) => PyInt::new(py, *integer).into_any(),
        FeatureValue::Double(float) => PyFloat::new(py, *float).into_any(),
        FeatureValue::Dictionary(Dictionary::Int64(entries)) => {
            entries.into_pyobject(py)?.into_any()
        }
        FeatureValue::Dictionary(Dictionary::String(entries)) => {
            entries.into_pyobject(py)?.into_any()
        }
        FeatureValue::Sequence(Sequence::Int64(values)) => values.into_pyobject(py)?.into_any(),
        FeatureValue::Sequence(Sequence::String(values)) => values.into_pyobject(py)?.into_any(),
        other => return Err(errors::unsupported(other.kind_in_words())),
    })
}
