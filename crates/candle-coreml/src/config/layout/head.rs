//! What tells the next token, in the forms that exports give it.

use super::interface::Interface;
use crate::config::facts::FunctionFacts;
use crate::config::manifest::Manifest;
use crate::error::Result;
use crate::words::list;

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

    pub(crate) fn vocabulary(&self) -> usize {
        self.sizes().iter().sum()
    }

    pub(crate) fn gives_logits(&self) -> bool {
        matches!(self, Head::Logits { .. })
    }
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
