//! What a function's outputs tell of the next token.

use std::collections::HashMap;

use candle_core::{DType, Tensor};

use crate::config::Head;
use crate::error::{Error, Result};
use crate::llm::network::Prediction;

/// The prediction in a function's outputs, for the token in `row` of those that it ran.
pub(super) fn prediction(
    head: &Head,
    outputs: &HashMap<String, Tensor>,
    row: usize,
) -> Result<Prediction> {
    match head {
        Head::Logits { parts, .. } => {
            read_logits(parts, head.vocabulary(), outputs, row).map(Prediction::Logits)
        }
        Head::Argmax { sizes } => {
            let (tokens, values) = (output(outputs, "argmax_idx")?, output(outputs, "argmax_val")?);
            let tokens = tokens.flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
            let values = values.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            best_of_parts(sizes, &tokens, &values).map(Prediction::Token)
        }
    }
}

/// The logits of all parts, one behind the other: as many as the description says.
fn read_logits(
    parts: &[String],
    vocabulary: usize,
    outputs: &HashMap<String, Tensor>,
    row: usize,
) -> Result<Vec<f32>> {
    let mut logits = Vec::with_capacity(vocabulary);
    for name in parts {
        let part = output(outputs, name)?;
        let size = part.dims().last().copied().unwrap_or(1);
        let rows = part.reshape(((), size))?;
        let last = rows.get(row.min(rows.dim(0)?.saturating_sub(1)))?;
        logits.extend(last.to_dtype(DType::F32)?.to_vec1::<f32>()?);
    }
    if logits.len() != vocabulary {
        return Err(Error::Generation(format!(
            "the model gave {} logits, but its description says {vocabulary}",
            logits.len()
        )));
    }
    Ok(logits)
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

pub(super) fn output<'a>(outputs: &'a HashMap<String, Tensor>, name: &str) -> Result<&'a Tensor> {
    outputs.get(name).ok_or_else(|| {
        Error::Generation(format!("the model gave no output `{name}`; check the export"))
    })
}

pub(super) fn take(outputs: &mut HashMap<String, Tensor>, name: &str) -> Result<Tensor> {
    outputs.remove(name).ok_or_else(|| {
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
