//! How far two models, or two ways to run one, are apart.

use std::path::{Path, PathBuf};

use candle_coreml::description::{FeatureDescription, FeatureType};
use candle_coreml::{
    BoundCall, CoreMLModel, CoreMLState, Dictionary, ErrorKind, FeatureDifference, FeatureValue,
    Features, LoadOptions, OperationDifference, Precision, compare_features, compare_operations,
    make_up, plot_operations,
};
use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString, PyTuple};

use super::difference::Difference;
use crate::arrays::Lent;
use crate::inputs::{InputType, Inputs};
use crate::interrupt::{CancelToken, Interrupt};
use crate::model::MLModel;
use crate::{errors, images};

/// How far two models are apart, of which one is the reference.
#[pyclass(frozen, module = "candle_coreml")]
pub(crate) struct Comparison {
    reference: String,
    other: String,
    function: String,
    tolerance: f64,
    /// Each input, and what was made up for it.
    inputs: Vec<(String, Option<&'static str>)>,
    outputs: Vec<FeatureDifference>,
    operations: Option<Vec<OperationDifference>>,
}

#[pymethods]
impl Comparison {
    /// The path of the reference, or `outputs` where it was given as arrays.
    #[getter]
    fn reference(&self) -> &str {
        &self.reference
    }

    /// The path of what was compared with it, or `outputs`.
    #[getter]
    fn other(&self) -> &str {
        &self.other
    }

    /// The function that ran.
    #[getter]
    fn function(&self) -> &str {
        &self.function
    }

    /// The error up to which values count as the same.
    #[getter]
    fn tolerance(&self) -> f64 {
        self.tolerance
    }

    /// For each input `given`, or what was made up for it: `random numbers from -1 to 1`, say.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, made_up) in &self.inputs {
            dict.set_item(name, made_up.unwrap_or("given"))?;
        }
        Ok(dict)
    }

    /// How each output differs, in the reference's order.
    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.outputs.iter().cloned().map(Difference::from))
    }

    /// How the results of the operations differ that both have, as they were run; None unless they were
    /// asked for.
    #[getter]
    fn operations<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let all = self.operations.as_ref();
        all.map(|all| PyTuple::new(py, all.iter().cloned().map(Difference::from))).transpose()
    }

    /// Where the two part: the first operation that is not within the tolerance; None if there is none.
    #[getter]
    fn parts_at(&self) -> Option<Difference> {
        let all = self.operations.as_ref()?;
        all.iter().find(|of| !of.is_within(self.tolerance)).cloned().map(Difference::from)
    }

    /// Whether all outputs are the same but for errors up to `tolerance`, that of the comparison if None.
    #[pyo3(signature = (tolerance = None))]
    fn within(&self, tolerance: Option<f64>) -> bool {
        let tolerance = tolerance.unwrap_or(self.tolerance);
        self.outputs.iter().all(|of| of.is_within(tolerance))
    }

    /// A picture of the operations' errors in the order in which they run, and of where the two part: the
    /// text of an SVG file, which is written to `path` if there is one. Notebooks show it by themselves.
    ///
    /// Raises `InputError` if operations were not asked for (`per_op=True`), `FileError`.
    #[pyo3(signature = (path = None))]
    fn plot(&self, path: Option<PathBuf>) -> PyResult<String> {
        let Some(operations) = &self.operations else {
            let message = "there are no operations to plot; compare with `per_op=True`";
            return Err(errors::input("InputError", None, message));
        };
        let name = |path: &str| {
            Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned()
        };
        let title = match self.other == self.reference {
            true => format!("{}, function {}", name(&self.reference), self.function),
            false => format!("{} beside {}", name(&self.other), name(&self.reference)),
        };
        let svg = plot_operations(&title, operations, self.tolerance);
        if let Some(path) = path {
            std::fs::write(&path, &svg)
                .map_err(|source| errors::to_py(candle_coreml::Error::Io { path, source }))?;
        }
        Ok(svg)
    }

    fn _repr_svg_(&self) -> PyResult<Option<String>> {
        self.operations.as_ref().map(|_| self.plot(None)).transpose()
    }

    /// All of it, in dictionaries and lists.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let dicts =
            |all: &[Difference]| all.iter().map(|of| of.to_dict(py)).collect::<PyResult<Vec<_>>>();
        let outputs: Vec<_> = self.outputs.iter().cloned().map(Difference::from).collect();
        dict.set_item("reference", &self.reference)?;
        dict.set_item("other", &self.other)?;
        dict.set_item("function", &self.function)?;
        dict.set_item("tolerance", self.tolerance)?;
        dict.set_item("within", self.within(None))?;
        dict.set_item("inputs", self.inputs(py)?)?;
        dict.set_item("outputs", dicts(&outputs)?)?;
        if let Some(operations) = &self.operations {
            let operations: Vec<_> = operations.iter().cloned().map(Difference::from).collect();
            let parts_at = self.parts_at().map(|of| of.to_dict(py)).transpose()?;
            dict.set_item("parts_at", parts_at)?;
            dict.set_item("operations", dicts(&operations)?)?;
        }
        Ok(dict)
    }

    fn __str__(&self) -> String {
        let mut lines = vec![format!("{} beside {}", self.other, self.reference)];
        lines.extend(self.outputs.iter().map(|of| Difference::from(of.clone()).__str__()));
        match (self.parts_at(), &self.operations) {
            (Some(of), _) => lines.push(format!("they part at {}", of.__str__())),
            (None, Some(all)) => {
                lines.push(format!(
                    "the results of {} operations are within the tolerance",
                    all.len()
                ));
            }
            (None, None) => {}
        }
        let verdict = if self.within(None) { "the same" } else { "not the same" };
        lines.push(format!("{verdict}, within errors of {}", self.tolerance));
        lines.join("\n")
    }

    fn __repr__(&self) -> String {
        let within = if self.within(None) { "True" } else { "False" };
        let (reference, other) = (&self.reference, &self.other);
        format!("<Comparison of {other:?} with {reference:?}, within={within}>")
    }
}

/// Runs two models on the same inputs and tells how far the outputs of `other` are from those of `reference`.
/// Each is a path, an `MLModel`, or outputs that were saved: a mapping from names to arrays, an `.npz` file, or
/// a folder of `.npy` files; one of them has to be a model. Without `other` it is the same model with each
/// `float16` result rounded, for which `strict_fp16` is True then; `strict_fp16` is for `other` alone, where
/// that is a path.
///
/// Inputs that are not given are made up (`Comparison.inputs` tells how); states are zero. `per_op` compares
/// the operations as well that both have by the same name. The error up to which values count as the same is
/// `tolerance`: the root of the mean square of the differences, as a part of that of the reference.
/// `function_name` and `threads` are for models that are given by their paths.
///
/// Raises `InputError`, `UnknownNameError` where `other` takes other inputs, and what loading and predicting
/// raise.
#[pyfunction]
#[pyo3(signature = (
    reference,
    other = None,
    inputs = None,
    *,
    per_op = false,
    tolerance = 0.001,
    strict_fp16 = None,
    function_name = None,
    threads = None,
    cancel = None,
))]
#[expect(clippy::too_many_arguments, reason = "Python's have names")]
pub(crate) fn compare<'py>(
    py: Python<'py>,
    reference: &Bound<'py, PyAny>,
    other: Option<&Bound<'py, PyAny>>,
    inputs: Option<Bound<'py, PyAny>>,
    per_op: bool,
    tolerance: f64,
    strict_fp16: Option<bool>,
    function_name: Option<String>,
    threads: Option<usize>,
    cancel: Option<&CancelToken>,
) -> PyResult<Comparison> {
    if tolerance.is_nan() || tolerance < 0.0 {
        let message = format!("the tolerance must be 0 or more, got {tolerance}");
        return Err(errors::input("InputError", None, &message));
    }
    let load = Load { function: function_name, threads };
    let first = load.side(reference, Precision::Single)?;
    let strict = strict_fp16.unwrap_or(other.is_none());
    let precision = if strict { Precision::AsDeclared } else { Precision::Single };
    let second = match other {
        Some(other) => load.side(other, precision)?,
        None => load.again(reference, precision)?,
    };
    let described = match (&first.source, &second.source) {
        (Source::Model(model), _) | (_, Source::Model(model)) => model.clone(),
        (Source::Saved(_), Source::Saved(_)) => {
            let message = "two sets of outputs were given; one of both has to be a model";
            return Err(errors::input("InputError", None, message));
        }
    };
    let given = inputs.unwrap_or_else(|| PyDict::new(py).into_any());
    let interrupt = Interrupt::new(cancel);
    let outputs = &described.function_description().outputs;
    let ready = |side: &Side| side.ready(&given, outputs, &interrupt);
    let mut ready = (ready(&first)?, ready(&second)?);
    let result = py.detach(|| -> candle_coreml::Result<_> {
        let expected = ready.0.outputs()?;
        let got = ready.1.outputs()?;
        let operations = match (&mut ready, per_op) {
            ((Ready::Model(first), Ready::Model(second)), true) => Some(first.operations(second)?),
            _ => None,
        };
        Ok((compare_features(&expected, &got), operations))
    });
    let (differences, operations) = interrupt.outcome(result)?;
    if per_op && operations.is_none() {
        let message = "`per_op` needs two models, and one side is outputs only";
        return Err(errors::input("InputError", None, message));
    }
    Ok(Comparison {
        reference: first.name,
        other: second.name,
        function: described.function_description().name.clone(),
        tolerance,
        inputs: described_inputs(&described, &given)?,
        outputs: differences,
        operations,
    })
}

/// How models are loaded that are given by their paths.
struct Load {
    function: Option<String>,
    threads: Option<usize>,
}

/// One of the two that are compared.
struct Side<'py> {
    name: String,
    source: Source<'py>,
}

enum Source<'py> {
    Model(CoreMLModel),
    Saved(Bound<'py, PyMapping>),
}

impl Load {
    /// A model, or outputs that were saved.
    fn side<'py>(&self, given: &Bound<'py, PyAny>, precision: Precision) -> PyResult<Side<'py>> {
        if let Ok(model) = given.cast::<MLModel>() {
            let name = given.getattr("path")?.extract()?;
            return Ok(Side { name, source: Source::Model(model.get().model()?) });
        }
        if let Ok(mapping) = given.cast::<PyMapping>() {
            let (name, source) = ("outputs".to_owned(), Source::Saved(mapping.clone()));
            return Ok(Side { name, source });
        }
        let path: PathBuf = given.extract()?;
        let source = match saved(given.py(), &path)? {
            Some(arrays) => Source::Saved(arrays),
            None => {
                Source::Model(self.model(given.py(), &path, self.function.clone(), precision)?)
            }
        };
        Ok(Side { name: path.display().to_string(), source })
    }

    /// The same model, in another precision.
    fn again<'py>(&self, given: &Bound<'py, PyAny>, precision: Precision) -> PyResult<Side<'py>> {
        if !given.is_instance_of::<MLModel>() {
            return self.side(given, precision);
        }
        let path: PathBuf = given.getattr("path")?.extract()?;
        let function = given.getattr("function_name")?.extract()?;
        let model = self.model(given.py(), &path, Some(function), precision)?;
        Ok(Side { name: path.display().to_string(), source: Source::Model(model) })
    }

    fn model(
        &self,
        py: Python<'_>,
        path: &Path,
        function: Option<String>,
        precision: Precision,
    ) -> PyResult<CoreMLModel> {
        let mut options = LoadOptions::new().precision(precision);
        options.function = function;
        if let Some(threads) = self.threads {
            options = options.threads(threads).map_err(errors::to_py)?;
        }
        py.detach(|| CoreMLModel::load(path, &options)).map_err(errors::to_py)
    }
}

/// Arrays by name, if a path is that of an archive or of a folder of such.
fn saved<'py>(py: Python<'py>, path: &Path) -> PyResult<Option<Bound<'py, PyMapping>>> {
    let load = |path: &Path| py.import("numpy")?.getattr("load")?.call1((path,));
    if path.extension().is_some_and(|end| end == "npz") {
        let arrays = py.get_type::<PyDict>().call1((load(path)?,))?;
        return Ok(Some(arrays.cast_into::<PyMapping>()?));
    }
    let files = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = files.filter(|file| file.extension().is_some_and(|end| end == "npy"));
    let arrays = PyDict::new(py);
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        arrays.set_item(name, load(&file)?)?;
    }
    Ok(if arrays.is_empty() { None } else { Some(arrays.into_mapping()) })
}

/// What gives outputs.
enum Ready {
    Model(Box<Trial>),
    Saved(Features),
}

/// A call with its inputs, and states.
struct Trial {
    model: CoreMLModel,
    call: BoundCall,
}

impl Side<'_> {
    fn ready(
        &self,
        given: &Bound<'_, PyAny>,
        outputs: &[FeatureDescription],
        interrupt: &Interrupt,
    ) -> PyResult<Ready> {
        match &self.source {
            Source::Model(model) => {
                let mut call = bound(model, given)?;
                call.set_cancel(Some(interrupt.token()));
                Ok(Ready::Model(Box::new(Trial { model: model.clone(), call })))
            }
            Source::Saved(arrays) => Ok(Ready::Saved(features(arrays, outputs)?)),
        }
    }
}

impl Ready {
    fn outputs(&mut self) -> candle_coreml::Result<Features> {
        match self {
            Ready::Model(trial) => {
                let mut state = trial.state()?;
                trial.call.run_to_features(state.as_mut())
            }
            Ready::Saved(features) => Ok(features.clone()),
        }
    }
}

impl Trial {
    /// A zeroed state, if the function has one.
    fn state(&self) -> candle_coreml::Result<Option<CoreMLState>> {
        let has_states = !self.model.function_description().states.is_empty();
        has_states.then(|| self.model.make_state()).transpose()
    }

    fn operations(&mut self, other: &mut Trial) -> candle_coreml::Result<Vec<OperationDifference>> {
        let (mut state, mut other_state) = (self.state()?, other.state()?);
        compare_operations(
            (&mut self.call, state.as_mut()),
            (&mut other.call, other_state.as_mut()),
            |_| false,
        )
    }
}

/// A call with the inputs that are given, and those made up that are not.
fn bound(model: &CoreMLModel, given: &Bound<'_, PyAny>) -> PyResult<BoundCall> {
    let function = model.function_description();
    let mut call = model.bind().map_err(errors::to_py)?;
    let types: Vec<InputType> =
        call.inputs().iter().map(|name| InputType::new(name, &function.inputs)).collect();
    let inputs = Inputs::new(&types, &call, given)?;
    inputs.prepared()?.set(&mut call).map_err(errors::to_py)?;
    for feature in missing(&function.inputs, given)? {
        let set = |call: &mut BoundCall| {
            let index = call.input(&feature.name)?;
            call.set(index, make_up(feature)?.value)
        };
        set(&mut call).map_err(errors::to_py)?;
    }
    Ok(call)
}

/// The inputs that are needed and not given.
fn missing<'a>(
    inputs: &'a [FeatureDescription],
    given: &Bound<'_, PyAny>,
) -> PyResult<Vec<&'a FeatureDescription>> {
    let mut missing = Vec::new();
    for feature in inputs.iter().filter(|feature| !feature.optional) {
        if !given.contains(&feature.name)? {
            missing.push(feature);
        }
    }
    Ok(missing)
}

/// Each input that a model was run on, with what was made up for it.
fn described_inputs(
    model: &CoreMLModel,
    given: &Bound<'_, PyAny>,
) -> PyResult<Vec<(String, Option<&'static str>)>> {
    let mut all = Vec::new();
    for feature in &model.function_description().inputs {
        if given.contains(&feature.name)? {
            all.push((feature.name.clone(), None));
        } else if !feature.optional {
            all.push((feature.name.clone(), Some(make_up(feature).map_err(errors::to_py)?.words)));
        }
    }
    Ok(all)
}

/// Outputs that were saved, of the types that a model describes.
fn features(saved: &Bound<'_, PyMapping>, outputs: &[FeatureDescription]) -> PyResult<Features> {
    let mut features = Features::new();
    for item in saved.items()? {
        let (name, value): (String, Bound<PyAny>) = item.extract()?;
        let described = outputs.iter().find(|output| output.name == name);
        let value = feature(&value, described.map(|output| &output.ty)).map_err(|error| {
            let message = format!("output `{name}` can't be read: {}", error.value(saved.py()));
            errors::new("InputError", ErrorKind::InvalidInput, &message)
        })?;
        features.push(name, value);
    }
    Ok(features)
}

fn feature(value: &Bound<'_, PyAny>, ty: Option<&FeatureType>) -> PyResult<FeatureValue> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_str()?.into());
    }
    match ty {
        Some(FeatureType::Int64) => return Ok(value.extract::<i64>()?.into()),
        Some(FeatureType::Double) => return Ok(value.extract::<f64>()?.into()),
        Some(FeatureType::Image(image)) if images::is_pillow(value)? => {
            return Ok(images::from_pillow(value, image)?.into());
        }
        _ if value.is_instance_of::<PyDict>() => return dictionary(value),
        _ => {}
    }
    let array = value.py().import("numpy")?.getattr("asarray")?.call1((value,))?;
    let array = array.cast::<PyUntypedArray>()?;
    let Some(lent) = Lent::of(array)? else {
        let message = format!("expected numbers, got the dtype `{}`", array.dtype());
        return Err(errors::new("DtypeError", ErrorKind::InvalidInput, &message));
    };
    let array = lent.array()?;
    let value = match ty {
        Some(FeatureType::Image(image)) => {
            images::from_array(&array, image).map(FeatureValue::from)
        }
        _ => array.to_tensor().map(FeatureValue::from),
    };
    value.map_err(|error| errors::to_py(error.into()))
}

fn dictionary(value: &Bound<'_, PyAny>) -> PyResult<FeatureValue> {
    if let Ok(entries) = value.extract() {
        return Ok(Dictionary::Int64(entries).into());
    }
    Ok(Dictionary::String(value.extract()?).into())
}
