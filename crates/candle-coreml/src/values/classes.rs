//! What a classifier's probabilities are to whoever calls it.

use coreml_format::model::ClassLabels;

use super::{Array, Dictionary, FeatureValue};
use crate::error::ValueError;

/// The class with the greatest probability: of equal ones the first. NaN is smaller than any number.
pub(crate) fn class(classes: &ClassLabels, array: &Array) -> Result<FeatureValue, ValueError> {
    let values = values(classes, array)?;
    let mut best = 0;
    for (index, &value) in values.iter().enumerate() {
        if value > values[best] || values[best].is_nan() && !value.is_nan() {
            best = index;
        }
    }
    let found = match classes {
        ClassLabels::Strings(names) => names.get(best).map(|name| name.as_str().into()),
        ClassLabels::Int64(numbers) => numbers.get(best).map(|&number| number.into()),
        _ => None,
    };
    found.ok_or_else(|| ValueError::mismatch("a class", "a classifier without classes"))
}

/// The probabilities by class; where two classes have one name, that of the last.
pub(crate) fn probabilities(
    classes: &ClassLabels,
    array: &Array,
) -> Result<FeatureValue, ValueError> {
    let values = values(classes, array)?.into_iter().map(f64::from);
    match classes {
        ClassLabels::Strings(names) => {
            Ok(Dictionary::String(names.iter().cloned().zip(values).collect()).into())
        }
        ClassLabels::Int64(numbers) => {
            Ok(Dictionary::Int64(numbers.iter().copied().zip(values).collect()).into())
        }
        _ => Err(ValueError::mismatch("classes of strings or integers", "others")),
    }
}

/// The probabilities, one for each class.
fn values(classes: &ClassLabels, array: &Array) -> Result<Vec<f32>, ValueError> {
    if array.len() != classes.len() {
        let expected = format!("{} probabilities, one for each class", classes.len());
        return Err(ValueError::mismatch(expected, format!("shape {:?}", array.shape())));
    }
    let mut values = vec![0.0; array.len()];
    array.read_floats(0..array.len(), &mut values)?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;

    use super::*;

    fn of(values: &[f32], shape: &[usize]) -> Result<(FeatureValue, FeatureValue), ValueError> {
        let array = Array::from_floats(ElementType::Float32, shape, values)?;
        let classes = ClassLabels::Int64((0..3).map(|class| class * 10).collect());
        Ok((class(&classes, &array)?, probabilities(&classes, &array)?))
    }

    #[test]
    fn the_first_of_equal_classes_is_taken_and_nan_never() {
        let best = |values: &[f32]| match of(values, &[1, 3]).unwrap().0 {
            FeatureValue::Int64(class) => class,
            other => panic!("{other:?}"),
        };
        assert_eq!(best(&[0.2, 0.4, 0.4]), 10);
        assert_eq!(best(&[f32::NAN, -1.0, 0.0]), 20);
        assert_eq!(best(&[f32::NEG_INFINITY, f32::NAN, f32::INFINITY]), 20);
        assert_eq!(best(&[f32::NAN; 3]), 0);
    }

    #[test]
    fn there_is_a_probability_for_each_class_or_an_error() {
        let (_, probabilities) = of(&[0.5, 0.25, 0.25], &[3, 1]).unwrap();
        let expected = Dictionary::Int64([(0, 0.5), (10, 0.25), (20, 0.25)].into());
        assert_eq!(probabilities.dictionary().unwrap(), &expected);
        let error = of(&[0.0; 6], &[2, 3]).unwrap_err().to_string();
        assert!(error.contains("3 probabilities") && error.contains("[2, 3]"), "{error}");
    }
}
