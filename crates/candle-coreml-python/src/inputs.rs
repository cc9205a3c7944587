//! Values that Python gives to a model.

use candle_coreml::description::{FeatureDescription, FeatureType, ImageType};
use candle_coreml::{Array, BoundCall, Dictionary, FeatureValue};
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};
use smallvec::SmallVec;

use crate::arrays::Lent;
use crate::{arrays, errors, images};

/// Inputs that take no memory for a list of them.
const FEW: usize = 4;

/// What an input takes, as far as it decides how Python's values are read.
pub(crate) struct InputType {
    name: String,
    image: Option<ImageType>,
    takes_floats: bool,
}

impl InputType {
    /// The type of an input of this name, as the model describes it.
    pub(crate) fn new(name: &str, inputs: &[FeatureDescription]) -> Self {
        let feature = inputs.iter().find(|feature| feature.name == name);
        let (image, takes_floats) = match feature.map(|feature| &feature.ty) {
            Some(FeatureType::Image(image)) => (Some(image.clone()), true),
            Some(FeatureType::MultiArray(array)) => (None, is_float(array.element)),
            Some(FeatureType::Int64) => (None, false),
            _ => (None, true),
        };
        InputType { name: name.to_owned(), image, takes_floats }
    }
}

fn is_float(element: candle_coreml::description::ArrayElementType) -> bool {
    use candle_coreml::description::ArrayElementType::{Double, Float16, Float32};
    matches!(element, Double | Float16 | Float32)
}

/// What a caller gives to an input.
pub(crate) enum Given<'py> {
    Array(Lent<'py>),
    Value(FeatureValue),
}

/// The inputs of one call, by their indices.
#[derive(Default)]
pub(crate) struct Inputs<'py>(SmallVec<[(usize, Given<'py>); FEW]>);

impl<'py> Inputs<'py> {
    /// Reads a mapping from names to values.
    pub(crate) fn new(
        types: &[InputType],
        call: &BoundCall,
        given: &Bound<'py, PyAny>,
    ) -> PyResult<Self> {
        let mut inputs = SmallVec::with_capacity(types.len());
        if let Ok(dict) = given.cast::<PyDict>() {
            for (name, value) in dict {
                inputs.push(input(types, call, &name, &value)?);
            }
            return Ok(Inputs(inputs));
        }
        let Ok(mapping) = given.cast::<PyMapping>() else {
            let got = given.get_type().name()?;
            let message = format!(
                "expected a mapping from the names of inputs to values, or a list of such, got {got}"
            );
            return Err(errors::input("DtypeError", None, &message));
        };
        for item in mapping.items()? {
            let (name, value): (Bound<PyAny>, Bound<PyAny>) = item.extract()?;
            inputs.push(input(types, call, &name, &value)?);
        }
        Ok(Inputs(inputs))
    }

    /// As the library takes them.
    pub(crate) fn prepared(&self) -> PyResult<Prepared<'_>> {
        let mut prepared = Prepared::default();
        for (index, given) in &self.0 {
            match given {
                Given::Array(lent) => prepared.arrays.push((*index, lent.array()?)),
                Given::Value(value) => prepared.values.push((*index, value)),
            }
        }
        Ok(prepared)
    }
}

/// The inputs of one call, which may go to another thread.
#[derive(Default)]
pub(crate) struct Prepared<'a> {
    pub(crate) arrays: SmallVec<[(usize, Array<'a>); FEW]>,
    pub(crate) values: Vec<(usize, &'a FeatureValue)>,
}

impl Prepared<'_> {
    /// Gives a call all inputs, which it keeps.
    pub(crate) fn set(&self, call: &mut BoundCall) -> candle_coreml::Result<()> {
        for (index, array) in &self.arrays {
            call.set_array(*index, array)?;
        }
        self.set_values(call)
    }

    /// Gives a call the inputs that are no arrays.
    pub(crate) fn set_values(&self, call: &mut BoundCall) -> candle_coreml::Result<()> {
        for &(index, value) in &self.values {
            call.set(index, value.clone())?;
        }
        Ok(())
    }
}

/// The index of an input and its value.
fn input<'py>(
    types: &[InputType],
    call: &BoundCall,
    name: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> PyResult<(usize, Given<'py>)> {
    let Ok(name) = name.cast::<PyString>() else {
        let message = format!("expected the name of an input, a string, got {}", name.repr()?);
        return Err(errors::input("DtypeError", None, &message));
    };
    let name = name.to_str()?;
    let index = call.input(name).map_err(errors::to_py)?;
    Ok((index, given(&types[index], value)?))
}

/// The value of an input.
fn given<'py>(ty: &InputType, value: &Bound<'py, PyAny>) -> PyResult<Given<'py>> {
    if let Ok(array) = value.cast::<PyUntypedArray>()
        && array.ndim() > 0
    {
        return of_array(ty, array);
    }
    if let Some(image) = &ty.image
        && images::is_pillow(value)?
    {
        let image =
            images::from_pillow(value, image).map_err(|error| unreadable(ty, value, error))?;
        return Ok(Given::Value(image.into()));
    }
    if let Some(number) = number(ty, value)? {
        return Ok(Given::Value(number));
    }
    if let Ok(string) = value.cast::<PyString>() {
        return Ok(Given::Value(string.to_str()?.into()));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        return Ok(Given::Value(dictionary(ty, dict)?.into()));
    }
    let array = &as_array(ty, value)?;
    match array.ndim() {
        // One number, for an input of one element whatever its rank.
        0 => match number(ty, &array.call_method0(intern!(value.py(), "item"))?)? {
            Some(number) => Ok(Given::Value(number)),
            None => of_array(ty, array),
        },
        _ => of_array(ty, array),
    }
}

/// The value of a NumPy array: an image, where the input is one and the array is like one.
fn of_array<'py>(ty: &InputType, array: &Bound<'py, PyUntypedArray>) -> PyResult<Given<'py>> {
    let Some(lent) = Lent::of(array)? else {
        let wanted = if ty.takes_floats { "a float" } else { "an integer" };
        let message = format!("expected {wanted} dtype, got `{}`", array.dtype());
        return Err(errors::input("DtypeError", Some(&ty.name), &message));
    };
    if let (Some(image), 2 | 3) = (&ty.image, array.ndim()) {
        let image = images::from_array(&lent.array()?, image).map_err(|source| {
            errors::to_py(candle_coreml::Error::Input { name: ty.name.clone(), source })
        })?;
        return Ok(Given::Value(image.into()));
    }
    Ok(Given::Array(lent))
}

/// One of Python's numbers.
fn number(ty: &InputType, value: &Bound<'_, PyAny>) -> PyResult<Option<FeatureValue>> {
    if value.is_instance_of::<PyFloat>() {
        return Ok(Some(value.extract::<f64>()?.into()));
    }
    if !value.is_instance_of::<PyInt>() {
        return Ok(None);
    }
    if ty.takes_floats && !value.is_instance_of::<PyBool>() {
        return match value.extract::<f64>() {
            Ok(float) => Ok(Some(float.into())),
            Err(error) => Err(unreadable(ty, value, error)),
        };
    }
    match value.extract::<i64>() {
        Ok(integer) => Ok(Some(integer.into())),
        Err(error) => Err(unreadable(ty, value, error)),
    }
}

fn dictionary(ty: &InputType, dict: &Bound<'_, PyDict>) -> PyResult<Dictionary> {
    let read = || {
        if let Ok(entries) = dict.extract() {
            return Ok(Dictionary::Int64(entries));
        }
        Ok(Dictionary::String(dict.extract()?))
    };
    read().map_err(|error| unreadable(ty, dict, error))
}

/// Whatever NumPy makes an array of, with the numbers that the input takes where Python's have no dtype.
fn as_array<'py>(
    ty: &InputType,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyUntypedArray>> {
    let py = value.py();
    let array = arrays::as_numpy(value).map_err(|error| unreadable(ty, value, error))?;
    if !value.is_instance_of::<PyList>() && !value.is_instance_of::<PyTuple>() {
        return Ok(array);
    }
    let other = match (ty.takes_floats, array.dtype().kind()) {
        (true, b'i' | b'u') => "float64",
        (false, b'f') if array.is_empty() => "int64",
        _ => return Ok(array),
    };
    Ok(array.call_method1(intern!(py, "astype"), (other,))?.cast_into()?)
}

/// The error of a value that can't be read, with what told so as its cause.
fn unreadable(ty: &InputType, value: &Bound<'_, PyAny>, cause: PyErr) -> PyErr {
    let py = value.py();
    let kind = value.get_type().name().map_or_else(|_| "value".to_owned(), |name| name.to_string());
    let message = format!("can't read a {kind}: {}", cause.value(py));
    let class = if cause.is_instance_of::<PyTypeError>(py) { "DtypeError" } else { "InputError" };
    let error = errors::input(class, Some(&ty.name), &message);
    error.set_cause(py, Some(cause));
    error
}
