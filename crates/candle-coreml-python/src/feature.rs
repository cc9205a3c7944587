//! What a model says of its inputs, outputs and states.

use candle_coreml::description::{
    ArrayElementType, ColorSpace, FeatureDescription, FeatureType, ImageFlexibility, ImageType,
    MultiArrayType, ShapeFlexibility,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The smallest and the largest size of a dimension, both included; no largest when unbounded.
type SizeRange = (usize, Option<usize>);

/// An input, an output or a state, as the model describes it.
#[pyclass(frozen, module = "candle_coreml")]
pub(crate) struct Feature(FeatureDescription);

impl Feature {
    /// Those of a list, as a tuple.
    pub(crate) fn tuple<'py>(
        py: Python<'py>,
        features: &[FeatureDescription],
    ) -> PyResult<Bound<'py, PyTuple>> {
        let features = features.iter().map(|feature| Py::new(py, Feature(feature.clone())));
        PyTuple::new(py, features.collect::<PyResult<Vec<_>>>()?)
    }

    fn array(&self) -> Option<&MultiArrayType> {
        self.0.ty.as_multi_array()
    }

    fn image(&self) -> Option<&ImageType> {
        match &self.0.ty {
            FeatureType::Image(image) => Some(image),
            _ => None,
        }
    }
}

#[pymethods]
impl Feature {
    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// What it is: `multi_array`, `image`, `string`, `int64`, `double`, `dictionary`, `sequence` or `state`.
    #[getter]
    fn r#type(&self) -> &'static str {
        match &self.0.ty {
            FeatureType::MultiArray(_) => "multi_array",
            FeatureType::Image(_) => "image",
            FeatureType::String => "string",
            FeatureType::Int64 => "int64",
            FeatureType::Double => "double",
            FeatureType::Dictionary(_) => "dictionary",
            FeatureType::Sequence(_) => "sequence",
            FeatureType::State(_) => "state",
            _ => "unknown",
        }
    }

    /// NumPy's name of its elements' type; `uint8` for images of bytes. None for what is no array.
    #[getter]
    fn dtype(&self) -> Option<&'static str> {
        if let Some(image) = self.image() {
            return Some(match image.color_space {
                ColorSpace::GrayscaleFloat16 => "float16",
                _ => "uint8",
            });
        }
        Some(match self.array()?.element {
            ArrayElementType::Float16 => "float16",
            ArrayElementType::Float32 => "float32",
            ArrayElementType::Double => "float64",
            ArrayElementType::Int8 => "int8",
            ArrayElementType::Int32 => "int32",
            _ => return None,
        })
    }

    /// Its shape, the default one where there are several; of an image `(height, width, 3)` or
    /// `(height, width)`. None for what is no array, and where the model does not state one.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let shape = match (self.array(), self.image()) {
            (Some(array), _) if !array.shape.is_empty() => array.shape.clone(),
            (_, Some(image)) => image_shape(image, image.width, image.height),
            _ => return Ok(None),
        };
        PyTuple::new(py, shape).map(Some)
    }

    /// The shapes that it may have, where the model lists them.
    #[getter]
    fn allowed_shapes<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let shapes: Vec<Vec<usize>> =
            match (self.array().map(|array| &array.flexibility), self.image()) {
                (Some(ShapeFlexibility::Enumerated(shapes)), _) => shapes.clone(),
                (_, Some(image)) => match &image.flexibility {
                    ImageFlexibility::Enumerated(sizes) => sizes
                        .iter()
                        .map(|&(width, height)| image_shape(image, width, height))
                        .collect(),
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            };
        let shapes = shapes.into_iter().map(|shape| PyTuple::new(py, shape));
        PyTuple::new(py, shapes.collect::<PyResult<Vec<_>>>()?).map(Some)
    }

    /// The smallest and the largest size of each dimension, where the model states ranges; None as the
    /// largest where it is unbounded.
    #[getter]
    fn shape_ranges<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let ranges: Vec<SizeRange> =
            match (self.array().map(|array| &array.flexibility), self.image()) {
                (Some(ShapeFlexibility::Ranges(ranges)), _) => ranges.clone(),
                (_, Some(image)) => match image.flexibility {
                    ImageFlexibility::Ranges { width, height } => {
                        let channels = (image.color_space.channels() > 1).then_some((3, Some(3)));
                        [height, width].into_iter().chain(channels).collect()
                    }
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            };
        PyTuple::new(py, ranges).map(Some)
    }

    /// Whether it is an input that may be left out.
    #[getter]
    fn optional(&self) -> bool {
        self.0.optional
    }

    /// The number that fills an input that is left out, if the model states one.
    #[getter]
    fn default_value(&self) -> Option<f64> {
        self.array()?.default_value
    }

    /// Of an image `RGB`, `BGR`, `Grayscale` or `Grayscale16Half`; None for others.
    #[getter]
    fn color_space(&self) -> Option<&'static str> {
        Some(self.image()?.color_space.name())
    }

    /// What the model's author says about it.
    #[getter]
    fn description(&self) -> &str {
        &self.0.short_description
    }

    fn __str__(&self) -> String {
        format!("{}: {}", self.0.name, self.0.ty)
    }

    fn __repr__(&self) -> String {
        format!("<Feature {}>", self.__str__())
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Feature>().is_ok_and(|other| other.get().0 == self.0)
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.__str__().hash(&mut hasher);
        hasher.finish()
    }
}

/// The shape of a NumPy array of an image.
fn image_shape(image: &ImageType, width: usize, height: usize) -> Vec<usize> {
    let channels = image.color_space.channels();
    [height, width].into_iter().chain((channels > 1).then_some(channels)).collect()
}
