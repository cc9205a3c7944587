//! Values by name and in order.

use std::collections::HashMap;
use std::ops::Index;

use candle_core::Tensor;

use super::FeatureValue;
use crate::error::{Error, Result, ValueError};

/// Values with their names, in an order: that in which a caller adds inputs, and that of the function's
/// description for outputs. There are few, so that a name is looked up one by one.
///
/// ```
/// use candle_coreml::{FeatureValue, Features};
///
/// let inputs = Features::from([("text", FeatureValue::from("hello")), ("count", 3.into())]);
/// assert_eq!(inputs["text"].string().unwrap(), "hello");
/// assert!(matches!(inputs[1], FeatureValue::Int64(3)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Features {
    values: Vec<(String, FeatureValue)>,
}

impl Features {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value behind the others.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<FeatureValue>) {
        self.values.push((name.into(), value.into()));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&FeatureValue> {
        self.iter().find(|(of, _)| *of == name).map(|(_, value)| value)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FeatureValue)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The tensor of a name.
    ///
    /// # Errors
    /// When there is no value of that name, or it is no tensor.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        let wrong = |source| Error::Output { name: name.to_owned(), source };
        let value = self.get(name).ok_or_else(|| {
            let available = self.iter().map(|(name, _)| name.to_owned()).collect();
            wrong(ValueError::Unknown { owner: "the result".to_owned(), available })
        })?;
        value.tensor().map_err(wrong)
    }
}

impl<N: Into<String>, const COUNT: usize> From<[(N, FeatureValue); COUNT]> for Features {
    fn from(values: [(N, FeatureValue); COUNT]) -> Self {
        values.into_iter().collect()
    }
}

impl<N: Into<String>, V: Into<FeatureValue>> FromIterator<(N, V)> for Features {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(values: I) -> Self {
        let values = values.into_iter().map(|(name, value)| (name.into(), value.into()));
        Features { values: values.collect() }
    }
}

impl IntoIterator for Features {
    type Item = (String, FeatureValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.values.into_iter()
    }
}

impl From<Features> for HashMap<String, FeatureValue> {
    fn from(features: Features) -> Self {
        features.into_iter().collect()
    }
}

/// The value of a name.
///
/// # Panics
/// When there is none; [`Features::get`] tells.
impl Index<&str> for Features {
    type Output = FeatureValue;

    fn index(&self, name: &str) -> &FeatureValue {
        match self.get(name) {
            Some(value) => value,
            None => panic!("there is no value `{name}`"),
        }
    }
}

/// The value at a place, from 0.
///
/// # Panics
/// When there are not so many.
impl Index<usize> for Features {
    type Output = FeatureValue;

    fn index(&self, place: usize) -> &FeatureValue {
        &self.values[place].1
    }
}
