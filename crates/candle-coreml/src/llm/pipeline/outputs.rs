//! What a function's outputs tell of the next tokens.

use std::ops::Range;

use crate::config::Head;
use crate::error::{Error, GenerationError, Result, ValueError};
use crate::llm::network::Prediction;
use crate::values::{Array, OutputValue};

/// Reads what follows some of the tokens that a function ran, as its outputs come: logits are copied
/// once, from the backend's memory to where the sampler has them.
pub(super) struct Reader<'a> {
    head: &'a Head,
    names: &'a [String],
    /// What each output is.
    parts: Vec<Option<Part>>,
    /// The tokens, by their row among those that the function ran.
    rows: Range<usize>,
    /// Of each row.
    logits: Vec<Vec<f32>>,
    tokens: Vec<i64>,
    values: Vec<f32>,
}

/// What an output is.
#[derive(Clone, Copy)]
enum Part {
    /// So many logits from this token on.
    Logits { first: usize, size: usize },
    /// The most likely token of each part.
    Tokens,
    /// Their logits.
    Values,
}

impl<'a> Reader<'a> {
    /// For a function with outputs of these names.
    pub(super) fn new(head: &'a Head, names: &'a [String], rows: Range<usize>) -> Result<Self> {
        let mut parts = vec![None; names.len()];
        let mut found = |name: &str, part: Part| match index_of(names, name) {
            Ok(index) => {
                parts[index] = Some(part);
                Ok(())
            }
            Err(error) => Err(error),
        };
        match head {
            Head::Logits { parts, sizes } => {
                let mut first = 0;
                for (name, &size) in parts.iter().zip(sizes) {
                    found(name, Part::Logits { first, size })?;
                    first += size;
                }
            }
            Head::Argmax { .. } => {
                found("argmax_idx", Part::Tokens)?;
                found("argmax_val", Part::Values)?;
            }
        }
        let logits = match head.gives_logits() {
            true => rows.clone().map(|_| vec![0.0; head.vocabulary()]).collect(),
            false => Vec::new(),
        };
        Ok(Reader { head, names, parts, rows, logits, tokens: Vec::new(), values: Vec::new() })
    }

    /// Reads an output.
    pub(super) fn read(&mut self, index: usize, output: &OutputValue) -> Result<()> {
        let Some(part) = self.parts.get(index).copied().flatten() else { return Ok(()) };
        let name = &self.names[index];
        let array = output.array()?;
        match part {
            Part::Logits { first, size } => {
                self.read_logits(name, array, first..first.saturating_add(size))?;
            }
            Part::Tokens => self.tokens = array.integers()?,
            Part::Values => {
                self.values = vec![0.0; array.len()];
                array.read_floats(0..array.len(), &mut self.values)?;
            }
        }
        Ok(())
    }

    fn read_logits(&mut self, name: &str, array: &Array, tokens: Range<usize>) -> Result<()> {
        let width = array.shape().last().copied().unwrap_or(1);
        if width != tokens.len() || array.is_empty() {
            return Err(results(format!(
                "the model gave {width} logits in `{name}`, but its description says {}",
                tokens.len()
            )));
        }
        let last = array.len() / width - 1;
        for (row, logits) in self.rows.clone().zip(&mut self.logits) {
            let start = row.min(last) * width;
            let to = logits.get_mut(tokens.clone()).unwrap_or_default();
            array.read_floats(start..start + width, to)?;
        }
        Ok(())
    }

    /// What follows each of the tokens.
    pub(super) fn finish(self) -> Result<Vec<Prediction>> {
        match self.head {
            Head::Logits { .. } => Ok(self.logits.into_iter().map(Prediction::Logits).collect()),
            Head::Argmax { sizes } => {
                let token = best_of_parts(sizes, &self.tokens, &self.values)?;
                Ok(self.rows.map(|_| Prediction::Token(token)).collect())
            }
        }
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
        results(format!(
            "the model's choice is no token: `argmax_idx` is {tokens:?} for parts of {sizes:?} \
             tokens; look at `lm_head_chunk_sizes` in meta.yaml"
        ))
    })
}

/// The model's results are not what it says they are.
fn results(message: String) -> Error {
    GenerationError::Results(message).into()
}

/// Something that other stages were to give is not there.
pub(super) fn missing(what: &str) -> Error {
    results(format!("there is no {what}"))
}

/// The index of an output.
pub(super) fn index_of(names: &[String], name: &str) -> Result<usize> {
    names.iter().position(|output| output == name).ok_or_else(|| Error::Output {
        name: name.to_owned(),
        source: ValueError::Unknown {
            owner: "the model (check its export)".to_owned(),
            available: names.to_vec(),
        },
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
