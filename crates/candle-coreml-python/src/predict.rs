//! Predictions: one, or many at a time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use candle_coreml::description::{FeatureDescription, FeatureType};
use candle_coreml::{BoundCall, CancelToken, CoreMLModel, CoreMLState, Error, Workers};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use smallvec::SmallVec;

use crate::inputs::{InputType, Inputs, Prepared};
use crate::interrupt::{self, Interrupt, WAIT};
use crate::state::MLState;
use crate::{errors, outputs};

/// The outputs of a prediction, by index.
type Objects = SmallVec<[Py<PyAny>; 4]>;

/// Which prediction of a list failed, and why.
type Failed = (usize, Box<Error>);

/// A function of a model, with what its predictions look up.
pub(crate) struct Predictor {
    model: CoreMLModel,
    inputs: Vec<InputType>,
    outputs: Vec<Output>,
    pace: Pace,
}

/// Whether predictions are quick. Those keep Python's lock, as NumPy does for short loops: to let go of it and to
/// take it again would be a good part of them, and other threads wait for it a moment only.
#[derive(Default)]
struct Pace {
    /// Predictions that are quick before one is measured again.
    left: AtomicUsize,
}

impl Pace {
    /// What is quick: about ten times what the lock costs.
    const QUICK: Duration = Duration::from_micros(3);
    /// Quick predictions of which one is measured.
    const MEASURED: usize = 64;

    /// Whether the next prediction is taken to be quick.
    fn is_quick(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    /// Makes a prediction, and sees how long it takes.
    fn measure<R>(&self, predict: impl FnOnce() -> R) -> R {
        let started = Instant::now();
        let predicted = predict();
        if started.elapsed() < Self::QUICK {
            self.left.store(Self::MEASURED, Ordering::Relaxed);
        }
        predicted
    }

    /// The next prediction is not taken to be quick.
    fn forget(&self) {
        self.left.store(0, Ordering::Relaxed);
    }
}

/// An output, with its name as Python has it.
struct Output {
    name: Py<PyString>,
    ty: Option<FeatureType>,
}

impl Predictor {
    pub(crate) fn new(py: Python<'_>, model: CoreMLModel) -> PyResult<Self> {
        let call = model.bind().map_err(errors::to_py)?;
        let function = model.function_description();
        let input = |name: &String| InputType::new(name, &function.inputs);
        let output = |name: &String| Output {
            name: PyString::intern(py, name).unbind(),
            ty: type_of(name, &function.outputs),
        };
        Ok(Predictor {
            inputs: call.inputs().iter().map(input).collect(),
            outputs: call.outputs().iter().map(output).collect(),
            model,
            pace: Pace::default(),
        })
    }

    pub(crate) fn model(&self) -> &CoreMLModel {
        &self.model
    }

    /// A call, with its inputs.
    pub(crate) fn call<'py>(
        &self,
        given: &Bound<'py, PyAny>,
    ) -> PyResult<(BoundCall, Inputs<'py>)> {
        let call = self.model.bind().map_err(errors::to_py)?;
        let inputs = Inputs::new(&self.inputs, &call, given)?;
        Ok((call, inputs))
    }

    /// Runs the function once; gives the outputs by name.
    pub(crate) fn predict<'py>(
        &self,
        py: Python<'py>,
        given: &Bound<'py, PyAny>,
        state: Option<&MLState>,
        cancel: Option<&interrupt::CancelToken>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (mut call, inputs) = self.call(given)?;
        let prepared = inputs.prepared()?;
        let mut state = state.map(MLState::lock).transpose()?;
        let state = state.as_deref_mut();
        let interrupt = Interrupt::new(cancel);
        call.set_cancel(Some(interrupt.token()));
        let run = || self.run(&mut call, &prepared, state);
        let ran = match self.pace.is_quick() {
            true => run(),
            false => py.detach(|| self.pace.measure(run)),
        };
        if interrupt.has_asked() {
            self.pace.forget();
        }
        self.named(py, interrupt.outcome(ran)?)
    }

    /// Runs the function once; gives the outputs by index. It attaches to Python when it reads them.
    fn run(
        &self,
        call: &mut BoundCall,
        inputs: &Prepared,
        state: Option<&mut CoreMLState>,
    ) -> candle_coreml::Result<Objects> {
        inputs.set_values(call)?;
        let mut objects = Objects::with_capacity(self.outputs.len());
        call.run_with(&inputs.arrays, state, |index, output| {
            Python::attach(|py| {
                let object = outputs::object(py, output, self.outputs[index].ty.as_ref());
                objects.push(object.map_err(Error::other)?.unbind());
                Ok(())
            })
        })?;
        Ok(objects)
    }

    fn named<'py>(&self, py: Python<'py>, objects: Objects) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (output, object) in self.outputs.iter().zip(objects) {
            dict.set_item(&output.name, object)?;
        }
        Ok(dict)
    }

    /// Runs the function on each of a list's inputs, several at a time, and gives the outputs in the same
    /// order. The first error ends them all, and names its place in the list.
    pub(crate) fn predict_all<'py>(
        &self,
        py: Python<'py>,
        given: &Bound<'py, PyList>,
        cancel: Option<&interrupt::CancelToken>,
    ) -> PyResult<Bound<'py, PyList>> {
        let inputs: Vec<Inputs> = given
            .iter()
            .enumerate()
            .map(|(index, given)| {
                Ok(self.call(&given).map_err(|error| errors::with_index(py, index, error))?.1)
            })
            .collect::<PyResult<_>>()?;
        let prepared: Vec<Prepared> = inputs
            .iter()
            .enumerate()
            .map(|(index, inputs)| {
                inputs.prepared().map_err(|error| errors::with_index(py, index, error))
            })
            .collect::<PyResult<_>>()?;
        let interrupt = Interrupt::new(cancel);
        let results = py.detach(|| self.run_all(&prepared, &interrupt.token()));
        let (failed, results) = match results {
            Ok(results) => (None, Ok(results)),
            Err((index, error)) => (Some(index), Err(*error)),
        };
        let results = interrupt.outcome(results).map_err(|error| match failed {
            Some(index) => errors::with_index(py, index, error),
            None => error,
        })?;
        let dicts = results.into_iter().map(|objects| self.named(py, objects));
        PyList::new(py, dicts.collect::<PyResult<Vec<_>>>()?)
    }

    /// The outputs of each call, or the first error with its place.
    fn run_all(&self, inputs: &[Prepared], cancel: &CancelToken) -> Result<Vec<Objects>, Failed> {
        let (model, threads) =
            self.for_calls(inputs.len()).map_err(|error| (0, Box::new(error)))?;
        let (next, all, failed) = (AtomicUsize::new(0), CancelToken::new(), AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel();
        let work = |sender: mpsc::Sender<_>| {
            while !failed.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(inputs) = inputs.get(index) else { break };
                let result = model.bind().and_then(|mut call| {
                    call.set_cancel(Some(all.clone()));
                    self.run(&mut call, inputs, None)
                });
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                if sender.send((index, result)).is_err() {
                    break;
                }
            }
        };
        let mut results: Vec<_> = inputs.iter().map(|_| None).collect();
        let mut error = None;
        thread::scope(|scope| {
            let work = &work;
            for sender in std::iter::repeat_n(sender, threads) {
                scope.spawn(move || work(sender));
            }
            loop {
                match receiver.recv_timeout(WAIT) {
                    Ok((index, Ok(objects))) => results[index] = Some(objects),
                    Ok((index, Err(failed))) => {
                        all.cancel();
                        error.get_or_insert((index, Box::new(failed)));
                    }
                    Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => all.cancel(),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        });
        match error {
            Some(error) => Err(error),
            None => Ok(results.into_iter().flatten().collect()),
        }
    }

    /// The model for so many calls at a time, and the threads to make them on: one for each call, where
    /// there are enough calls for all threads.
    fn for_calls(&self, calls: usize) -> candle_coreml::Result<(CoreMLModel, usize)> {
        let threads = self.model.threads()?;
        match calls >= threads {
            true => Ok((self.model.with_workers(&Workers::serial())?, threads)),
            false => Ok((self.model.clone(), calls)),
        }
    }
}

/// The type of a feature of this name.
fn type_of(name: &str, features: &[FeatureDescription]) -> Option<FeatureType> {
    Some(features.iter().find(|feature| feature.name == name)?.ty.clone())
}
