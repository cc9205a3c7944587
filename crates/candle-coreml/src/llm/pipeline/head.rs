//! What the model tells of the next token, in the forms that exports give it.

use std::collections::HashMap;

use candle_core::{DType, Tensor};

use super::interface::Interface;
use crate::config::{FunctionFacts, Manifest};
use crate::error::{Error, Result, list};
use crate::llm::network::Prediction;

/// The outputs that tell the next token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// Outputs whose last dimensions, one behind the other, are the logits.
    Logits { parts: Vec<String>, sizes: Vec<usize> },
    /// The most likely token of each part of the vocabulary, counted within the part
    /// (`argmax_idx`), and its logit (`argmax_val`).
    Argmax { sizes: Vec<usize> },
}

impl Head {
    /// `vocabulary` is the number of tokens, if a file tells it: argmax heads do not.
    pub(super) fn new(
        interface: Interface,
        facts: &FunctionFacts,
        manifest: Option<&Manifest>,
        vocabulary: Option<usize>,
    ) -> Result<Self> {
        let head = match interface.output_shape("argmax_idx") {
            Some(shape) => {
                let parts = shape.iter().product();
                Head::Argmax { sizes: part_sizes(interface, facts, parts, manifest, vocabulary)? }
            }
            None => logits(interface, facts, vocabulary)?,
        };
        let size = head.sizes().iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
        match size.filter(|&size| u32::try_from(size).is_ok_and(|size| size > 0)) {
            Some(_) => Ok(head),
            None => Err(interface.wrong("has an impossible number of logits")),
        }
    }

    pub(crate) fn sizes(&self) -> &[usize] {
        match self {
            Head::Logits { sizes, .. } | Head::Argmax { sizes } => sizes,
        }
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.sizes().iter().sum()
    }

    pub(super) fn gives_logits(&self) -> bool {
        matches!(self, Head::Logits { .. })
    }

    /// The prediction in a function's outputs, for the token in `row` of those that it ran.
    pub(super) fn read(&self, outputs: &HashMap<String, Tensor>, row: usize) -> Result<Prediction> {
        match self {
            Head::Logits { parts, .. } => self.read_logits(parts, outputs, row),
            Head::Argmax { sizes } => {
                let (tokens, values) =
                    (output(outputs, "argmax_idx")?, output(outputs, "argmax_val")?);
                let tokens = tokens.flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
                let values = values.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                best_of_parts(sizes, &tokens, &values).map(Prediction::Token)
            }
        }
    }

    fn read_logits(
        &self,
        parts: &[String],
        outputs: &HashMap<String, Tensor>,
        row: usize,
    ) -> Result<Prediction> {
        let mut logits = Vec::with_capacity(self.vocabulary());
        for name in parts {
            let part = output(outputs, name)?;
            let size = part.dims().last().copied().unwrap_or(1);
            let rows = part.reshape(((), size))?;
            let last = rows.get(row.min(rows.dim(0)?.saturating_sub(1)))?;
            logits.extend(last.to_dtype(DType::F32)?.to_vec1::<f32>()?);
        }
        if logits.len() != self.vocabulary() {
            return Err(Error::Generation(format!(
                "the model gave {} logits, but its description says {}",
                logits.len(),
                self.vocabulary()
            )));
        }
        Ok(Prediction::Logits(logits))
    }
}

/// The token of the first part with the greatest value, counted from the first part's first one.
fn best_of_parts(sizes: &[usize], tokens: &[i64], values: &[f32]) -> Result<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (part, &value) in values.iter().enumerate() {
        if best.is_none_or(|(_, greatest)| value > greatest) && !value.is_nan() {
            best = Some((part, value));
        }
    }
    let token = best.and_then(|(part, _)| {
        let before: usize = sizes.get(..part)?.iter().sum();
        let local = usize::try_from(*tokens.get(part)?)
            .ok()
            .filter(|local| Some(local) < sizes.get(part).as_ref().copied())?;
        u32::try_from(before + local).ok()
    });
    token.ok_or_else(|| {
        Error::Generation(format!(
            "the model's choice is no token: `argmax_idx` is {tokens:?} for parts of {sizes:?} \
             tokens; look at `lm_head_chunk_sizes` in meta.yaml"
        ))
    })
}

/// Sizes as `meta.yaml` lists them, or as the program shows them; else the vocabulary in equal
/// parts, the first ones longer by one where it does not divide.
fn part_sizes(
    interface: Interface,
    facts: &FunctionFacts,
    parts: usize,
    manifest: Option<&Manifest>,
    vocabulary: Option<usize>,
) -> Result<Vec<usize>> {
    let listed = manifest.map(|manifest| manifest.head_part_sizes.as_slice()).unwrap_or_default();
    if parts > 0 && listed.len() == parts {
        return Ok(listed.to_vec());
    }
    if parts > 0 && facts.argmax_sizes.len() == parts {
        return Ok(facts.argmax_sizes.clone());
    }
    let vocabulary = manifest.and_then(|manifest| manifest.vocab_size).or(vocabulary);
    match vocabulary.filter(|&vocabulary| parts > 0 && vocabulary >= parts) {
        Some(size) => {
            Ok((0..parts).map(|part| size / parts + usize::from(part < size % parts)).collect())
        }
        None => Err(interface.wrong(format!(
            "tells the most likely token of {parts} parts of the vocabulary, but not their sizes; \
             set `vocab_size` or `lm_head_chunk_sizes` in meta.yaml, or add the model's config.json"
        ))),
    }
}

/// The logits outputs in numeric order.
fn logits(interface: Interface, facts: &FunctionFacts, vocabulary: Option<usize>) -> Result<Head> {
    let mut numbered: Vec<(usize, &str)> = Vec::new();
    for name in interface.outputs() {
        let number = match name.strip_prefix("logits") {
            Some("") => Some(1),
            Some(number) => number.parse().ok(),
            None => None,
        };
        numbered.extend(number.map(|number| (number, name)));
    }
    numbered.sort_unstable();
    if numbered.is_empty() || !numbered.iter().map(|part| part.0).eq(1..=numbered.len()) {
        return Err(interface.wrong(format!(
            "expected the outputs `logits`, or `logits1`, `logits2` and so on, or `argmax_idx` and \
             `argmax_val`, got {}",
            list(&interface.outputs())
        )));
    }
    let mut sizes = Vec::with_capacity(numbered.len());
    for (_, name) in &numbered {
        let stated = interface.output_shape(name).and_then(<[usize]>::last).copied();
        // Where the number of rows is free, the description may state no shape at all.
        let size = stated.or_else(|| facts.output_sizes.get(*name).copied());
        sizes.push(
            size.or(vocabulary.filter(|_| numbered.len() == 1)).ok_or_else(|| {
                interface.wrong(format!("output `{name}` does not state its shape"))
            })?,
        );
    }
    let parts = numbered.into_iter().map(|(_, name)| name.to_owned()).collect();
    Ok(Head::Logits { parts, sizes })
}

pub(super) fn output<'a>(outputs: &'a HashMap<String, Tensor>, name: &str) -> Result<&'a Tensor> {
    outputs.get(name).ok_or_else(|| {
        Error::Generation(format!("the model gave no output `{name}`; check the export"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_parts_wins() {
        assert_eq!(best_of_parts(&[4, 3, 3], &[2, 1, 0], &[0.5, 2.0, 2.0]).unwrap(), 5);
        assert_eq!(best_of_parts(&[4, 3], &[3, 0], &[-1.0, -2.0]).unwrap(), 3);
        for (tokens, values) in
            [([4i64, 0], [1.0, 0.0]), ([-1, 0], [1.0, 0.0]), ([0, 0], [f32::NAN; 2])]
        {
            assert!(best_of_parts(&[4, 3], &tokens, &values).is_err());
        }
    }
}
