//! Models and their predictions.

use std::path::PathBuf;

use candle_coreml::{CoreMLModel, Features, LoadOptions, Precision};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::{errors, inputs, outputs};

/// A Core ML model, ready to run.
#[pyclass(frozen, module = "candle_coreml")]
pub(crate) struct MLModel {
    model: CoreMLModel,
}

#[pymethods]
impl MLModel {
    #[new]
    #[pyo3(signature = (path, *, function_name = None, threads = None, strict_fp16 = false))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        function_name: Option<String>,
        threads: Option<usize>,
        strict_fp16: bool,
    ) -> PyResult<Self> {
        let mut options = LoadOptions::new();
        options.function = function_name;
        if let Some(threads) = threads {
            options = options.threads(threads).map_err(errors::to_py)?;
        }
        if strict_fp16 {
            options = options.precision(Precision::AsDeclared);
        }
        let model = py.detach(|| CoreMLModel::load(path, &options)).map_err(errors::to_py)?;
        Ok(MLModel { model })
    }

    fn predict<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut features = Features::new();
        for (name, value) in inputs {
            features.push(name.cast::<PyString>()?.to_str()?, inputs::feature_value(&value)?);
        }
        let given =
            py.detach(|| self.model.predict_features(&features, None)).map_err(errors::to_py)?;
        let result = PyDict::new(py);
        for (name, value) in given {
            result.set_item(name, outputs::object(py, &value)?)?;
        }
        Ok(result)
    }
}
