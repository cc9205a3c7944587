//! Values of every feature type, as a caller gives them to a model and gets them from it.

mod array;
mod classes;
mod dictionary;
mod features;
mod image;
mod input_array;
mod numbers;

use candle_core::Tensor;

pub use self::array::{Array, OutputValue};
pub(crate) use self::classes::{class, probabilities};
pub use self::dictionary::Dictionary;
pub use self::features::Features;
pub use self::image::{Image, Pixels, RawPixels};
#[cfg(feature = "image")]
pub use self::image::{Resize, ResizeFilter};
pub(crate) use self::input_array::{check_floats, convert, fits_as_it_is, wrong_dtype};
pub use self::numbers::{Numbers, NumbersMut};
use crate::error::ValueError;

/// The value of an input or an output.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FeatureValue {
    /// A multi-array.
    Tensor(Tensor),
    /// An image.
    Image(Image),
    /// A string, e.g. the class that a classifier predicts.
    String(String),
    /// A 64-bit integer.
    Int64(i64),
    /// A 64-bit float.
    Double(f64),
    /// Numbers by key, e.g. the probability of each class.
    Dictionary(Dictionary),
    /// Strings or integers in order.
    Sequence(Sequence),
}

/// A sequence, with elements of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum Sequence {
    /// Of integers.
    Int64(Vec<i64>),
    /// Of strings.
    String(Vec<String>),
}

impl FeatureValue {
    /// What it is, for messages.
    pub fn kind_in_words(&self) -> &'static str {
        match self {
            FeatureValue::Tensor(_) => "a tensor",
            FeatureValue::Image(_) => "an image",
            FeatureValue::String(_) => "a string",
            FeatureValue::Int64(_) => "an integer",
            FeatureValue::Double(_) => "a float",
            FeatureValue::Dictionary(_) => "a dictionary",
            FeatureValue::Sequence(_) => "a sequence",
        }
    }

    /// The tensor.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn tensor(&self) -> Result<&Tensor, ValueError> {
        match self {
            FeatureValue::Tensor(tensor) => Ok(tensor),
            other => Err(ValueError::mismatch("a tensor", other.kind_in_words())),
        }
    }

    /// The image.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn image(&self) -> Result<&Image, ValueError> {
        match self {
            FeatureValue::Image(image) => Ok(image),
            other => Err(ValueError::mismatch("an image", other.kind_in_words())),
        }
    }

    /// The dictionary, e.g. the probabilities of a classifier.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn dictionary(&self) -> Result<&Dictionary, ValueError> {
        match self {
            FeatureValue::Dictionary(dictionary) => Ok(dictionary),
            other => Err(ValueError::mismatch("a dictionary", other.kind_in_words())),
        }
    }

    /// The string.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn string(&self) -> Result<&str, ValueError> {
        match self {
            FeatureValue::String(string) => Ok(string),
            other => Err(ValueError::mismatch("a string", other.kind_in_words())),
        }
    }
}

impl From<Tensor> for FeatureValue {
    fn from(tensor: Tensor) -> Self {
        FeatureValue::Tensor(tensor)
    }
}

/// A tensor with the same memory.
impl From<&Tensor> for FeatureValue {
    fn from(tensor: &Tensor) -> Self {
        FeatureValue::Tensor(tensor.clone())
    }
}

impl From<Image> for FeatureValue {
    fn from(image: Image) -> Self {
        FeatureValue::Image(image)
    }
}

impl From<String> for FeatureValue {
    fn from(string: String) -> Self {
        FeatureValue::String(string)
    }
}

impl From<&str> for FeatureValue {
    fn from(string: &str) -> Self {
        FeatureValue::String(string.to_owned())
    }
}

impl From<i64> for FeatureValue {
    fn from(integer: i64) -> Self {
        FeatureValue::Int64(integer)
    }
}

impl From<f64> for FeatureValue {
    fn from(float: f64) -> Self {
        FeatureValue::Double(float)
    }
}

impl From<Dictionary> for FeatureValue {
    fn from(dictionary: Dictionary) -> Self {
        FeatureValue::Dictionary(dictionary)
    }
}

impl From<Sequence> for FeatureValue {
    fn from(sequence: Sequence) -> Self {
        FeatureValue::Sequence(sequence)
    }
}
