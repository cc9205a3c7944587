//! States of models.

use std::sync::{Mutex, MutexGuard, TryLockError};

use candle_coreml::{CoreMLState, ErrorKind};
use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::arrays::{self, Lent};
use crate::errors;

/// The states of a model, such as a key-value cache: zeroed by `make_state`, updated by each prediction that
/// is given them. After a prediction that fails all of them are as they were before it.
///
/// One prediction at a time uses a state. It serves all functions of a model, and all models that declare
/// states of the same names, shapes and types.
#[pyclass(frozen, module = "candle_coreml")]
pub(crate) struct MLState(Mutex<CoreMLState>);

impl MLState {
    pub(crate) fn new(state: CoreMLState) -> Self {
        MLState(Mutex::new(state))
    }

    /// The state, for one user at a time.
    pub(crate) fn lock(&self) -> PyResult<MutexGuard<'_, CoreMLState>> {
        match self.0.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(errors::new(
                "PredictionError",
                ErrorKind::InvalidInput,
                "the state is in use by another prediction; give each thread a state of its own, which \
                 `make_state` makes",
            )),
        }
    }

    /// Copies of all states, by name.
    fn arrays<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let state = self.lock()?;
        for name in state.names() {
            dict.set_item(&name, read(py, &state, &name)?)?;
        }
        Ok(dict)
    }
}

#[pymethods]
impl MLState {
    /// The names of the states.
    #[getter]
    fn names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.lock()?.names())
    }

    /// A copy of a state, in the dtype that the model declares.
    fn read_state<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        read(py, &*self.lock()?, name)
    }

    /// Replaces a state by a copy of an array of its shape. Any float dtype does for a float state and any
    /// integer dtype for an integer one, if all values fit; otherwise the state stays as it is.
    fn write_state(&self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let array = arrays::as_numpy(value).map_err(|cause| {
            let message = format!("can't read the value: {}", cause.value(value.py()));
            errors::state("InputError", name, &message)
        })?;
        let Some(lent) = Lent::of(&array)? else {
            let message = format!("expected numbers, got `{}`", array.dtype());
            return Err(errors::state("DtypeError", name, &message));
        };
        let mut state = self.lock()?;
        state.write_array(name, &lent.array()?).map_err(errors::to_py)
    }

    /// Sets all states to zero.
    fn reset(&self) -> PyResult<()> {
        self.lock()?.reset();
        Ok(())
    }

    fn __copy__(&self, py: Python<'_>) -> PyResult<Self> {
        restored(&self.arrays(py)?)
    }

    fn __deepcopy__(&self, py: Python<'_>, _memo: &Bound<'_, PyAny>) -> PyResult<Self> {
        restored(&self.arrays(py)?)
    }

    /// It is pickled by its arrays.
    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyDict>,))> {
        let restore = py.import("candle_coreml._native")?.getattr("_restore_state")?;
        Ok((restore, (self.arrays(py)?,)))
    }

    fn __repr__(&self) -> String {
        match self.lock() {
            Ok(state) => format!("<MLState {}>", state.names().join(", ")),
            Err(_) => "<MLState in use>".to_owned(),
        }
    }
}

fn read<'py>(py: Python<'py>, state: &CoreMLState, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let mut object = None;
    let read = state.read_array(name, |array| {
        object = Some(arrays::to_numpy(py, array));
        Ok(())
    });
    read.map_err(errors::to_py)?;
    object.unwrap_or_else(|| Err(errors::unsupported("a state without a value")))
}

/// States of these names and arrays, as they were pickled.
#[pyfunction]
#[pyo3(name = "_restore_state")]
pub(crate) fn restored(arrays: &Bound<'_, PyDict>) -> PyResult<MLState> {
    let mut lent = Vec::with_capacity(arrays.len());
    for (name, array) in arrays {
        let name = name.cast::<PyString>()?.to_str()?.to_owned();
        let Some(array) = Lent::of(array.cast::<PyUntypedArray>()?)? else {
            return Err(errors::state("DtypeError", &name, "expected an array of numbers"));
        };
        lent.push((name, array));
    }
    let arrays: Vec<_> = lent
        .iter()
        .map(|(name, lent)| Ok((name.as_str(), lent.array()?)))
        .collect::<PyResult<_>>()?;
    let state = CoreMLState::from_arrays(&arrays).map_err(errors::to_py)?;
    Ok(MLState::new(state))
}
