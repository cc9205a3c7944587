//! How far a value is off.

use candle_coreml::{FeatureDifference, OperationDifference};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// How a value differs from that of the reference: an output, or the result of an operation. Numbers are
/// None where there are none to compare; `words` tells then what differs.
#[pyclass(frozen, module = "candle_coreml")]
#[derive(Clone)]
pub(crate) struct Difference(Value);

#[derive(Clone)]
enum Value {
    Output(FeatureDifference),
    Operation(OperationDifference),
}

impl From<FeatureDifference> for Difference {
    fn from(of: FeatureDifference) -> Self {
        Difference(Value::Output(of))
    }
}

impl From<OperationDifference> for Difference {
    fn from(of: OperationDifference) -> Self {
        Difference(Value::Operation(of))
    }
}

impl Difference {
    fn numbers(&self) -> Option<candle_coreml::Difference> {
        match &self.0 {
            Value::Output(of) => of.difference,
            Value::Operation(of) => of.difference,
        }
    }

    fn of_operation(&self) -> Option<&OperationDifference> {
        match &self.0 {
            Value::Output(_) => None,
            Value::Operation(of) => Some(of),
        }
    }
}

#[pymethods]
impl Difference {
    /// The output's name, or that of the operation's result.
    #[getter]
    fn name(&self) -> &str {
        match &self.0 {
            Value::Output(of) => &of.name,
            Value::Operation(of) => &of.output,
        }
    }

    /// The operation's name in the program; None for outputs.
    #[getter]
    fn operation(&self) -> Option<&str> {
        Some(&self.of_operation()?.operation)
    }

    /// The operation's operator: `conv`, say; None for outputs.
    #[getter]
    fn operator(&self) -> Option<&str> {
        Some(&self.of_operation()?.operator)
    }

    /// The names of the loops and branches that the operation is in, from outside.
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.of_operation().map_or(&[][..], |of| &of.path))
    }

    /// Which time the operation ran, from 0: in loops they run several times.
    #[getter]
    fn time(&self) -> usize {
        self.of_operation().map_or(0, |of| of.time)
    }

    /// What differs, where there are no numbers to compare.
    #[getter]
    fn words(&self) -> Option<&str> {
        match &self.0 {
            Value::Output(of) => of.words.as_deref(),
            Value::Operation(of) if of.difference.is_none() => Some("another number of elements"),
            Value::Operation(_) => None,
        }
    }

    /// How many elements there are.
    #[getter]
    fn elements(&self) -> Option<usize> {
        Some(self.numbers()?.elements)
    }

    /// How many of them are others at all.
    #[getter]
    fn differing(&self) -> Option<usize> {
        Some(self.numbers()?.differing)
    }

    /// The largest difference of two elements that are finite.
    #[getter]
    fn max_abs(&self) -> Option<f64> {
        Some(self.numbers()?.largest_difference)
    }

    /// The largest difference as a part of the reference's largest magnitude.
    #[getter]
    fn relative(&self) -> Option<f64> {
        Some(self.numbers()?.relative())
    }

    /// The root of the mean square of the differences, as a part of that of the reference.
    #[getter]
    fn error(&self) -> Option<f64> {
        Some(self.numbers()?.error)
    }

    /// The cosine of the angle between both as vectors.
    #[getter]
    fn cosine(&self) -> Option<f64> {
        Some(self.numbers()?.cosine)
    }

    /// The ratio of signal to noise in decibels: infinite where nothing differs.
    #[getter]
    fn snr_db(&self) -> Option<f64> {
        Some(self.numbers()?.signal_to_noise())
    }

    /// How many elements are NaN where the reference has a number.
    #[getter]
    fn nan(&self) -> Option<usize> {
        Some(self.numbers()?.nan)
    }

    /// How many elements are infinite where the reference is finite.
    #[getter]
    fn infinite(&self) -> Option<usize> {
        Some(self.numbers()?.infinite)
    }

    /// Whether it is the same but for an error up to `tolerance`.
    pub(super) fn within(&self, tolerance: f64) -> bool {
        match &self.0 {
            Value::Output(of) => of.is_within(tolerance),
            Value::Operation(of) => of.is_within(tolerance),
        }
    }

    /// All of it by name.
    pub(super) fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("name", self.name())?;
        if let Some(of) = self.of_operation() {
            dict.set_item("operation", &of.operation)?;
            dict.set_item("operator", &of.operator)?;
            dict.set_item("path", &of.path)?;
            dict.set_item("time", of.time)?;
        }
        dict.set_item("words", self.words())?;
        dict.set_item("elements", self.elements())?;
        dict.set_item("differing", self.differing())?;
        dict.set_item("max_abs", self.max_abs())?;
        dict.set_item("relative", self.relative())?;
        dict.set_item("error", self.error())?;
        dict.set_item("cosine", self.cosine())?;
        dict.set_item("snr_db", self.snr_db())?;
        dict.set_item("nan", self.nan())?;
        dict.set_item("infinite", self.infinite())?;
        Ok(dict)
    }

    pub(super) fn __str__(&self) -> String {
        let name = match &self.0 {
            Value::Output(of) => format!("output `{}`", of.name),
            Value::Operation(of) => format!("operation `{}` ({})", of.operation, of.operator),
        };
        match (self.numbers(), self.words()) {
            (Some(of), _) => format!(
                "{name}: error {:.1e}, {} of {} elements differ, at most by {:.1e}, {:.1} dB",
                of.error,
                of.differing,
                of.elements,
                of.largest_difference,
                of.signal_to_noise()
            ),
            (None, words) => format!("{name}: {}", words.unwrap_or("the same")),
        }
    }

    fn __repr__(&self) -> String {
        format!("<Difference {}>", self.__str__())
    }
}
