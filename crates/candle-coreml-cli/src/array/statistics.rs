//! What an array holds, in short.

use std::fmt;

use serde::Serialize;

use super::{Elements, Number};

/// Range and mean of the finite elements, and how many others there are.
#[derive(Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// `None`, as `greatest` and `mean`, if no element is finite.
    least: Option<Number>,
    greatest: Option<Number>,
    mean: Option<Number>,
    nan: usize,
    positive_infinity: usize,
    negative_infinity: usize,
}

impl Statistics {
    /// Of these elements.
    pub fn of(elements: &Elements) -> Self {
        let mut statistics = Statistics {
            least: None,
            greatest: None,
            mean: None,
            nan: 0,
            positive_infinity: 0,
            negative_infinity: 0,
        };
        let mut finite = 0usize;
        let mut sum = 0.0;
        for number in elements.iter() {
            match number.to_f64() {
                value if value.is_nan() => statistics.nan += 1,
                f64::INFINITY => statistics.positive_infinity += 1,
                f64::NEG_INFINITY => statistics.negative_infinity += 1,
                value => {
                    finite += 1;
                    sum += value;
                    if statistics.least.is_none_or(|least| less(number, least)) {
                        statistics.least = Some(number);
                    }
                    if statistics.greatest.is_none_or(|greatest| less(greatest, number)) {
                        statistics.greatest = Some(number);
                    }
                }
            }
        }
        if finite > 0 {
            let mut mean = sum / finite as f64;
            if !mean.is_finite() {
                // The sum is too large.
                let values = elements.iter().map(Number::to_f64).filter(|value| value.is_finite());
                mean = values.map(|value| value / finite as f64).sum();
            }
            statistics.mean = Some(Number::Double(mean));
        }
        statistics
    }
}

fn less(a: Number, b: Number) -> bool {
    match (a, b) {
        // Exact, where doubles are not.
        (Number::Integer(a), Number::Integer(b)) => a < b,
        (a, b) => a.to_f64() < b.to_f64(),
    }
}

/// `least -2, greatest 1.5, mean 0.25, 3 NaN, 1 inf`, as far as there are such; nothing of no elements.
impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let numbers = [("least", self.least), ("greatest", self.greatest), ("mean", self.mean)];
        parts.extend(
            numbers.iter().filter_map(|(name, number)| Some(format!("{name} {}", (*number)?))),
        );
        let counts =
            [("NaN", self.nan), ("inf", self.positive_infinity), ("-inf", self.negative_infinity)];
        let counts = counts.iter().filter(|(_, count)| *count > 0);
        parts.extend(counts.map(|(name, count)| format!("{count} {name}")));
        if self.least.is_none() && !parts.is_empty() {
            parts.insert(0, "no finite elements".to_owned());
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(values: &[f64]) -> String {
        Statistics::of(&Elements::Doubles(values.to_vec())).to_string()
    }

    /// The range as `numpy.nanmin` and the like of the finite elements give it.
    #[test]
    fn elements_that_are_not_finite_are_counted_and_left_out() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        assert_eq!(text(&[1.5, -2.0, 2.0]), "least -2, greatest 2, mean 0.5");
        assert_eq!(
            text(&[nan, 1.0, inf, 3.0, -inf, nan]),
            "least 1, greatest 3, mean 2, 2 NaN, 1 inf, 1 -inf"
        );
        assert_eq!(text(&[nan, nan]), "no finite elements, 2 NaN");
        assert_eq!(text(&[inf]), "no finite elements, 1 inf");
        assert_eq!(text(&[]), "");
        assert_eq!(text(&[1e308, 1e308]), "least 1e308, greatest 1e308, mean 1e308");
        let json = serde_json::to_string(&Statistics::of(&Elements::Singles(vec![f32::NAN, 0.1])));
        assert_eq!(
            json.unwrap(),
            r#"{"least":0.1,"greatest":0.1,"mean":0.10000000149011612,"nan":1,"positive_infinity":0,"negative_infinity":0}"#
        );
    }

    #[test]
    fn integers_are_compared_exactly() {
        let near = (1i128 << 60) + 1;
        let statistics = Statistics::of(&Elements::Integers(vec![near - 1, near]));
        assert_eq!(statistics.greatest, Some(Number::Integer(near)));
        assert_eq!(statistics.least, Some(Number::Integer(near - 1)));
    }
}
