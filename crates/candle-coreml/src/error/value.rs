//! What is wrong with a value.

use coreml_engine::{OpError, OutOfMemory};
use coreml_format::description::{ColorSpace, ImageType, ShapeMismatch};
use coreml_format::mil::ElementType;
use coreml_format::{ErrorKind, printable_message, printable_name};

use crate::words::{list, numpy_element};

/// Why a value is not what is asked for: of an input, an output or a state, whose name the error
/// around it tells.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// There is none of this name.
    #[error("{} has none of this name; it has {}", printable_message(owner), list(available))]
    Unknown {
        /// The function or the state, in words.
        owner: String,
        /// What there is.
        available: Vec<String>,
    },

    /// It is not given.
    #[error("it is missing; expected {expected}")]
    Missing {
        /// What would do.
        expected: String,
    },

    /// It is given twice.
    #[error("it is given twice")]
    GivenTwice,

    /// Its type, its shape or its elements are others.
    #[error("expected {expected}, got {got}")]
    Mismatch {
        /// What would do.
        expected: String,
        /// What is there.
        got: String,
    },

    /// Its elements are floats where integers are taken, or the other way around.
    #[error("expected {expected}, got {got}")]
    Dtype {
        /// What would do.
        expected: String,
        /// Its elements' type.
        got: String,
    },

    /// Its shape is none that the model takes.
    #[error("expected {expected}, got shape {got:?}{}", because(mismatch.as_deref()))]
    Shape {
        /// What would do.
        expected: String,
        /// Its shape.
        got: Vec<usize>,
        /// What is wrong with it by the model's description.
        mismatch: Option<Box<ShapeMismatch>>,
    },

    /// The image has a size that the model does not take.
    #[error(
        "expected an image {expected}, got one of {width} × {height} pixels; resize it, or crop it"
    )]
    ImageSize {
        /// What would do.
        expected: Box<ImageType>,
        /// Its width in pixels.
        width: usize,
        /// Its height in pixels.
        height: usize,
    },

    /// The image has pixels of another kind than the model takes.
    #[error("expected {expected} pixels, got {got}; `Image::to_color_space` converts them")]
    ImageColors {
        /// What would do.
        expected: ColorSpace,
        /// Its pixels, in words.
        got: &'static str,
    },

    /// There is no image in a file, or none that can be read.
    #[cfg(feature = "image")]
    #[error("it is no image that can be read (PNG, JPEG, WebP, BMP, GIF or TIFF): {0}")]
    Image(#[source] Box<image::ImageError>),

    /// A number is too large or too small. (Infinities and NaN that are given are floats like others.)
    #[error("the value {value}{} does not fit into `{}`", place(index), numpy_element(*element))]
    OutOfRange {
        /// The number.
        value: String,
        /// Its place in the tensor.
        index: Vec<usize>,
        /// The type of the elements.
        element: ElementType,
    },

    /// A function with states is called without.
    #[error(
        "function `{}` has states; call `make_state` once and `predict_with_state` for each \
         prediction",
        printable_name(function)
    )]
    NoState {
        /// The function.
        function: String,
    },

    /// A state was made by another backend.
    #[error(
        "the state belongs to another backend; make it with `make_state` of a model of this one"
    )]
    OtherBackend,

    /// Candle can't read the tensor.
    #[error(transparent)]
    Candle(Box<candle_core::Error>),

    /// The engine can't read it.
    #[error(transparent)]
    Engine(Box<OpError>),

    /// There is no memory for it.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// What is wrong with a shape, as the end of a sentence.
fn because(mismatch: Option<&ShapeMismatch>) -> String {
    mismatch.map_or_else(String::new, |mismatch| format!(": {mismatch}"))
}

/// Where a number stands, unless there is but one.
fn place(index: &[usize]) -> String {
    if index.is_empty() { String::new() } else { format!(" at {index:?}") }
}

impl From<candle_core::Error> for ValueError {
    fn from(error: candle_core::Error) -> Self {
        ValueError::Candle(Box::new(error))
    }
}

impl ValueError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ValueError::Unknown { .. }
            | ValueError::Missing { .. }
            | ValueError::GivenTwice
            | ValueError::Mismatch { .. }
            | ValueError::Dtype { .. }
            | ValueError::OutOfRange { .. }
            | ValueError::NoState { .. }
            | ValueError::OtherBackend
            | ValueError::Shape { .. }
            | ValueError::ImageSize { .. }
            | ValueError::ImageColors { .. } => ErrorKind::InvalidInput,
            #[cfg(feature = "image")]
            ValueError::Image(error) => match &**error {
                image::ImageError::Limits(_) => ErrorKind::Limit,
                // A file that ends too early is one that is damaged.
                image::ImageError::IoError(error) if error.raw_os_error().is_some() => {
                    ErrorKind::of_io(error)
                }
                _ => ErrorKind::InvalidInput,
            },
            ValueError::Candle(_) => ErrorKind::Other,
            ValueError::Engine(error) => error.kind(),
            ValueError::OutOfMemory(_) => ErrorKind::Limit,
        }
    }

    /// A value of another type or shape.
    pub(crate) fn mismatch(expected: impl ToString, got: impl ToString) -> Self {
        ValueError::Mismatch { expected: expected.to_string(), got: got.to_string() }
    }
}
