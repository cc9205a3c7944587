//! Layers, as far as operations' names tell of them.

use std::collections::{HashMap, HashSet};

use coreml_engine::{OperationProfile, Profile};

/// Which operations belong together.
pub(super) struct Layers<'a> {
    /// How many operations of a function have names that begin so.
    shared: HashMap<(&'a str, &'a str, &'a str), usize>,
    /// Whether there are several functions.
    several: bool,
}

impl<'a> Layers<'a> {
    pub(super) fn of(profile: &'a Profile) -> Self {
        let mut shared = HashMap::new();
        let mut functions = HashSet::new();
        for of in &profile.operations {
            functions.insert((&of.model, &of.function));
            if let Some(prefix) = numbered(&of.operation) {
                *shared.entry((&*of.model, &*of.function, prefix)).or_insert(0) += 1;
            }
        }
        Layers { shared, several: functions.len() > 1 }
    }

    /// What an operation's name begins with: up to its first number, where several names begin so; else up to
    /// before that number, as `linear` of `linear_3`; else all of it.
    pub(super) fn layer<'o>(&self, operation: &'o OperationProfile) -> &'o str {
        let OperationProfile { model, function, operation: name, .. } = operation;
        let numbered = numbered(name);
        let alone = |prefix: &&str| {
            self.shared.get(&(&**model, &**function, *prefix)).is_none_or(|&count| count < 2)
        };
        match numbered {
            None => name,
            Some(prefix) if alone(&prefix) => words(prefix),
            Some(prefix) => prefix,
        }
    }

    /// The name of a layer among those of all functions.
    pub(super) fn group(&self, model: &str, function: &str, layer: &str) -> String {
        match self.several {
            true => format!("{model} {function} {layer}").trim_start().to_owned(),
            false => layer.to_owned(),
        }
    }
}

/// Whether a character stands between words of a name.
fn is_between(character: char) -> bool {
    matches!(character, '_' | '/' | '.' | ':' | '-')
}

/// A name up to its first word that is a number, if there is a word before.
fn numbered(name: &str) -> Option<&str> {
    let mut start = 0;
    for word in name.split(is_between) {
        let end = start + word.len();
        let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        if is_number && start > 0 {
            return name.get(..end);
        }
        // Behind the character between two words, all of which take one byte.
        start = end + 1;
    }
    None
}

/// A numbered name without its number.
fn words(numbered: &str) -> &str {
    numbered.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(is_between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_begin_alike_up_to_a_number_are_a_layer() {
        let names = ["model.layers.0.q", "model.layers.0.k", "linear_3_cast", "linear_4_cast", "x"];
        let mut profile = Profile::default();
        for name in names {
            let mut of = OperationProfile::default();
            of.operation = name.to_owned();
            profile.operations.push(of);
        }
        let layers = Layers::of(&profile);
        let got: Vec<&str> = profile.operations.iter().map(|of| layers.layer(of)).collect();
        assert_eq!(got, ["model.layers.0", "model.layers.0", "linear", "linear", "x"]);
        assert_eq!(layers.group("m", "f", "x"), "x");
    }

    #[test]
    fn a_number_needs_a_word_before_it() {
        assert_eq!(numbered("block/12/conv"), Some("block/12"));
        assert_eq!((numbered("12_conv"), numbered("conv2d"), numbered("")), (None, None, None));
        assert_eq!(numbered("größe_7"), Some("größe_7"));
        assert_eq!(words("block/12"), "block");
    }
}
