//! Models.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use candle_coreml::{CoreMLModel, ErrorKind, LoadOptions, Numerics, Package, Precision};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::feature::Feature;
use crate::interrupt::{CancelToken, Interrupt};
use crate::predict::Predictor;
use crate::state::MLState;
use crate::{errors, json, precision};

/// A Core ML model, or one function of it, ready to run: from an `.mlpackage`, an `.mlmodel` or a compiled
/// `.mlmodelc`.
///
/// `function_name` chooses a function of several, the model's default one if None. `threads` are the
/// model's own, instead of those of the process, of which there are as many as processors, or as
/// `CANDLE_COREML_THREADS` says. With `strict_fp16` each result of `float16` is rounded as the program
/// states it, which is otherwise computed and held as `float32`. `numerics` says how values of `float16` are
/// multiplied with constant weights: in single precision ("strict"), or with numbers of 14 to 16 bits that share
/// a scale, where that is faster ("halves").
///
/// Several threads may predict with one model at a time; while it computes, other threads of Python run,
/// unless that takes no more than some microseconds.
#[pyclass(frozen, subclass, weakref, module = "candle_coreml")]
pub(crate) struct MLModel {
    path: PathBuf,
    options: Options,
    function: String,
    /// None when it is closed.
    open: Mutex<Option<Arc<Open>>>,
}

/// How a model was loaded.
#[derive(Clone, Copy)]
struct Options {
    threads: Option<usize>,
    strict_fp16: bool,
    numerics: Numerics,
}

/// The numerics of a name.
pub(crate) fn numerics_of(name: &str) -> PyResult<Numerics> {
    let found = Numerics::ALL.into_iter().find(|numerics| numerics.name() == name);
    found.ok_or_else(|| {
        let names = Numerics::ALL.map(|numerics| format!("\"{}\"", numerics.name())).join(", ");
        let message = format!("`numerics`: expected one of {names}, got \"{name}\"");
        errors::new("InputError", ErrorKind::InvalidInput, &message)
    })
}

/// What a model holds until it is closed.
struct Open {
    package: Arc<Package>,
    predictor: Predictor,
}

impl MLModel {
    fn opened(
        py: Python<'_>,
        path: PathBuf,
        options: Options,
        package: Arc<Package>,
        model: CoreMLModel,
    ) -> PyResult<Self> {
        let function = model.function_description().name.clone();
        let open = Arc::new(Open { package, predictor: Predictor::new(py, model)? });
        Ok(MLModel { path, options, function, open: Mutex::new(Some(open)) })
    }

    fn open(&self) -> PyResult<Arc<Open>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clone().ok_or_else(|| {
            let message = format!("the model `{}` is closed", self.path.display());
            errors::new("ClosedError", ErrorKind::InvalidInput, &message)
        })
    }

    /// The model, for other parts of the package.
    pub(crate) fn model(&self) -> PyResult<CoreMLModel> {
        Ok(self.open()?.predictor.model().clone())
    }
}

#[pymethods]
impl MLModel {
    #[new]
    #[pyo3(signature = (path, *, function_name = None, threads = None, strict_fp16 = false, numerics = "strict"))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        function_name: Option<String>,
        threads: Option<usize>,
        strict_fp16: bool,
        numerics: &str,
    ) -> PyResult<Self> {
        let numerics = numerics_of(numerics)?;
        let path = std::path::absolute(&path).unwrap_or(path);
        let mut load = LoadOptions::new().numerics(numerics);
        load.function = function_name;
        if let Some(threads) = threads {
            load = load.threads(threads).map_err(errors::to_py)?;
        }
        if strict_fp16 {
            load = load.precision(Precision::AsDeclared);
        }
        let loaded = py.detach(|| {
            let package = Arc::new(Package::open(&path)?);
            let model = CoreMLModel::from_package(package.clone(), &load)?;
            Ok((package, model))
        });
        let (package, model) = loaded.map_err(errors::to_py)?;
        Self::opened(py, path, Options { threads, strict_fp16, numerics }, package, model)
    }

    /// Runs the function on inputs by name, and gives its outputs by name: arrays in the dtypes that the
    /// program declares, images, strings, numbers and dictionaries as the model describes them.
    ///
    /// Inputs are arrays of the feature's shape: NumPy's, of any strides and byte order, PyTorch's, what
    /// NumPy makes an array of, lists, numbers; and images of Pillow's. An input of floats takes any float
    /// dtype, and one of integers any integer dtype, if all values fit; infinities and NaN are let through.
    /// An array of the input's own dtype whose elements lie one behind the other is read where it lies, and
    /// must not be written to meanwhile.
    ///
    /// Of a list of inputs the predictions run on several threads at a time; outputs come in their order,
    /// and the first error ends them all. `state` is needed if the function has states, and is updated.
    /// `cancel` ends the prediction from another thread, as Ctrl-C does from the terminal.
    ///
    /// Raises `InputError` (a ValueError), `DtypeError` (a TypeError as well) and `UnknownNameError` (a
    /// KeyError) for inputs, `PredictionError` (a RuntimeError) where an operation can't be computed,
    /// `LimitError` (a MemoryError), `CancelledError`, `ClosedError`.
    #[pyo3(signature = (inputs, state = None, *, cancel = None))]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyAny>,
        state: Option<&MLState>,
        cancel: Option<&CancelToken>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let open = self.open()?;
        let Ok(list) = inputs.cast::<PyList>() else {
            return Ok(open.predictor.predict(py, inputs, state, cancel)?.into_any());
        };
        if state.is_some() {
            let message =
                "a state serves one prediction at a time: predict without a list, once for each";
            return Err(errors::input("InputError", None, message));
        }
        Ok(open.predictor.predict_all(py, list, cancel)?.into_any())
    }

    /// As `predict`, for one mapping, without holding up the event loop. When the task is cancelled the
    /// prediction ends, too.
    #[pyo3(signature = (inputs, state = None))]
    fn predict_async<'py>(
        slf: &Bound<'py, Self>,
        inputs: &Bound<'py, PyAny>,
        state: Option<&Bound<'py, MLState>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let module = slf.py().import("candle_coreml._asynchronous")?;
        module.getattr("predict")?.call1((slf, inputs, state))
    }

    /// Zeroed states for the function's predictions.
    fn make_state(&self) -> PyResult<MLState> {
        let open = self.open()?;
        Ok(MLState::new(open.predictor.model().make_state().map_err(errors::to_py)?))
    }

    /// The function's inputs.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        Feature::tuple(py, &self.open()?.predictor.model().function_description().inputs)
    }

    /// The function's outputs.
    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        Feature::tuple(py, &self.open()?.predictor.model().function_description().outputs)
    }

    /// The function's states.
    #[getter]
    fn states<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        Feature::tuple(py, &self.open()?.predictor.model().function_description().states)
    }

    /// The absolute path that the model was loaded from.
    #[getter]
    fn path(&self) -> PyResult<String> {
        Ok(self.path.display().to_string())
    }

    /// The function that `predict` runs.
    #[getter]
    fn function_name(&self) -> &str {
        &self.function
    }

    /// The names of the model's functions.
    #[getter]
    fn functions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let open = self.open()?;
        let description = open.predictor.model().description();
        match description.functions.as_slice() {
            [] => PyTuple::new(py, [&description.default_function]),
            functions => PyTuple::new(py, functions.iter().map(|function| &function.name)),
        }
    }

    /// What the author says of the model: `short_description`, `version`, `author`, `license`, and
    /// `user_defined`, a dictionary.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let open = self.open()?;
        let metadata = &open.predictor.model().description().metadata;
        let dict = PyDict::new(py);
        dict.set_item("short_description", &metadata.short_description)?;
        dict.set_item("version", &metadata.version)?;
        dict.set_item("author", &metadata.author)?;
        dict.set_item("license", &metadata.license)?;
        dict.set_item("user_defined", &metadata.user_defined)?;
        Ok(dict)
    }

    /// The version of Core ML's format that the model states: 6 for iOS 15 to 10 for iOS 26 among ML
    /// Programs, 0 if it states none.
    #[getter]
    fn specification_version(&self) -> PyResult<i32> {
        Ok(self.open()?.predictor.model().description().specification_version)
    }

    /// All that there is to know of the model, as `candle_coreml.inspect` has it.
    #[getter]
    fn description<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let package = self.open()?.package.clone();
        let inspection = py.detach(|| {
            let inspection = candle_coreml::inspect(package)?;
            serde_json::to_value(inspection).map_err(candle_coreml::Error::other)
        });
        json::to_py(py, &inspection.map_err(errors::to_py)?)
    }

    /// Another function of the model, which shares its weights.
    ///
    /// Raises `UnknownNameError` if there is none of the name.
    fn function(&self, py: Python<'_>, name: &str) -> PyResult<Self> {
        let open = self.open()?;
        let model = open.predictor.model().function(name).map_err(errors::to_py)?;
        Self::opened(py, self.path.clone(), self.options, open.package.clone(), model)
    }

    /// How the function is run, as text: steps, shapes, where values live, which rewrites were made.
    fn plan(&self, py: Python<'_>) -> PyResult<String> {
        let open = self.open()?;
        py.detach(|| open.predictor.model().plan()).map_err(errors::to_py)
    }

    /// Says what half precision does to the function for these inputs: it is run with each `float16` result
    /// rounded as the program states it, beside a run in `float32`. A dictionary with `fine`, `results`,
    /// `findings` (operations that overflow, lose their meaning or make NaN, as `candle-coreml check --json`
    /// has them) and `outputs`. The state stays as it is.
    #[pyo3(signature = (inputs, state = None, *, cancel = None))]
    fn check_precision<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyAny>,
        state: Option<&MLState>,
        cancel: Option<&CancelToken>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let open = self.open()?;
        let (mut call, inputs) = open.predictor.call(inputs)?;
        let prepared = inputs.prepared()?;
        let mut state = state.map(MLState::lock).transpose()?;
        let state = state.as_deref_mut();
        let interrupt = Interrupt::new(cancel);
        call.set_cancel(Some(interrupt.token()));
        let report = py.detach(|| {
            prepared.set(&mut call)?;
            call.check_precision(state)
        });
        precision::to_py(py, &interrupt.outcome(report)?)
    }

    /// Lets go of the model's memory. A prediction that runs goes on to its end.
    fn close(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.close();
    }

    /// It is pickled by its path and options.
    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<((PathBuf,), Bound<'py, PyDict>)> {
        let options = PyDict::new(py);
        options.set_item("function_name", &self.function)?;
        options.set_item("threads", self.options.threads)?;
        options.set_item("strict_fp16", self.options.strict_fp16)?;
        options.set_item("numerics", self.options.numerics.name())?;
        Ok(((self.path.clone(),), options))
    }

    fn __copy__(&self, py: Python<'_>) -> PyResult<Self> {
        self.function(py, &self.function)
    }

    fn __deepcopy__(&self, py: Python<'_>, _memo: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.function(py, &self.function)
    }

    fn __repr__(&self) -> String {
        let closed = if self.closed() { " closed" } else { "" };
        format!(
            "<MLModel {:?} function={:?}{closed}>",
            self.path.display().to_string(),
            self.function
        )
    }
}
