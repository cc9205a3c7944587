//! Dictionaries of numbers.

use std::collections::BTreeMap;

/// A dictionary, with keys of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum Dictionary {
    /// By integers.
    Int64(BTreeMap<i64, f64>),
    /// By strings.
    String(BTreeMap<String, f64>),
}

impl Dictionary {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        match self {
            Dictionary::Int64(values) => values.len(),
            Dictionary::String(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries with the greatest numbers, the greatest first, at most so many: the most likely classes
    /// of a classifier. Equal numbers come in the order of their keys; NaN comes last.
    ///
    /// ```
    /// use candle_coreml::Dictionary;
    ///
    /// let classes = [("cat", 0.7), ("dog", 0.1), ("fox", 0.2)];
    /// let classes = Dictionary::String(classes.map(|(name, p)| (name.to_owned(), p)).into());
    /// assert_eq!(classes.top(2), [("cat".to_owned(), 0.7), ("fox".to_owned(), 0.2)]);
    /// ```
    pub fn top(&self, count: usize) -> Vec<(String, f64)> {
        match self {
            Dictionary::Int64(values) => {
                top(values, count).map(|(key, value)| (key.to_string(), value)).collect()
            }
            Dictionary::String(values) => {
                top(values, count).map(|(key, value)| (key.clone(), value)).collect()
            }
        }
    }
}

fn top<K>(values: &BTreeMap<K, f64>, count: usize) -> impl Iterator<Item = (&K, f64)> {
    let mut entries: Vec<(&K, f64)> = values.iter().map(|(key, &value)| (key, value)).collect();
    // `NaN` as the least of all.
    let rank = |value: f64| if value.is_nan() { f64::NEG_INFINITY } else { value };
    entries
        .sort_by(|(_, a), (_, b)| rank(*b).total_cmp(&rank(*a)).then(a.is_nan().cmp(&b.is_nan())));
    entries.into_iter().take(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_come_first_and_equal_ones_in_order() {
        let values =
            [(1, 0.1), (2, f64::NAN), (3, 0.4), (4, f64::NEG_INFINITY), (5, 0.4), (-6, 0.4)];
        let dictionary = Dictionary::Int64(values.into());
        let keys = |count| -> Vec<String> {
            dictionary.top(count).into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(9), ["-6", "3", "5", "1", "4", "2"]);
        assert_eq!(keys(2), ["-6", "3"]);
        assert_eq!(keys(0).len(), 0);
    }
}
