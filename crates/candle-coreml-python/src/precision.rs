//! What half precision does to a model, as Python's objects.

use candle_coreml::{OutputDifference, PrecisionFinding, PrecisionReport};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// A report as a dictionary: `fine`, `results`, `findings` and `outputs`.
pub(crate) fn to_py<'py>(
    py: Python<'py>,
    report: &PrecisionReport,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("fine", report.is_fine())?;
    dict.set_item("results", report.results)?;
    let findings = report.findings.iter().map(|finding| finding_to_py(py, finding));
    dict.set_item("findings", PyList::new(py, findings.collect::<PyResult<Vec<_>>>()?)?)?;
    let outputs = report.outputs.iter().map(|output| output_to_py(py, output));
    dict.set_item("outputs", PyList::new(py, outputs.collect::<PyResult<Vec<_>>>()?)?)?;
    Ok(dict)
}

fn finding_to_py<'py>(py: Python<'py>, finding: &PrecisionFinding) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("loss", finding.loss.name())?;
    dict.set_item("operation", &finding.operation)?;
    dict.set_item("operator", &finding.operator)?;
    dict.set_item("output", &finding.output)?;
    dict.set_item("path", &finding.path)?;
    dict.set_item("affected", finding.affected)?;
    dict.set_item("elements", finding.elements)?;
    dict.set_item("times", finding.times)?;
    dict.set_item("largest", finding.largest)?;
    dict.set_item("error", finding.error)?;
    dict.set_item("input_error", finding.input_error)?;
    Ok(dict)
}

fn output_to_py<'py>(py: Python<'py>, output: &OutputDifference) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &output.name)?;
    dict.set_item("elements", output.elements)?;
    dict.set_item("differing", output.differing)?;
    dict.set_item("error", output.error)?;
    dict.set_item("largest_difference", output.largest_difference)?;
    dict.set_item("nan", output.nan)?;
    dict.set_item("infinite", output.infinite)?;
    Ok(dict)
}
