//! Masks, sampling and logits parts as free functions, for programs that drive components
//! themselves. Text generation does not need them.

/// Masks of attention and cache updates.
pub mod mask {
    use candle_core::{Device, Tensor};

    use crate::error::{GenerationError, Result};

    /// The causal mask `[n, n]`, float32: row `r` is 0 up to column `r`, −∞ behind.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn create_causal_mask(n: usize, device: &Device) -> Result<Tensor> {
        Ok(create_causal_mask_rows(0, n, n, device)?.reshape((n, n))?)
    }

    /// The row of the causal mask for one position, `[1, context]`, float32.
    ///
    /// # Errors
    /// When the position lies outside of the context.
    pub fn create_position_mask(
        position: usize,
        context: usize,
        device: &Device,
    ) -> Result<Tensor> {
        Ok(create_rank4_position_mask(position, context, device)?.reshape((1, context))?)
    }

    /// The row of the causal mask for one position, `[1, 1, 1, context]`, float32.
    ///
    /// # Errors
    /// When the position lies outside of the context.
    pub fn create_rank4_position_mask(
        position: usize,
        context: usize,
        device: &Device,
    ) -> Result<Tensor> {
        create_causal_mask_rows(position, 1, context, device)
    }

    /// The rows of the causal mask from `start` on, `[1, 1, rows, context]`, float32.
    ///
    /// # Errors
    /// When a row lies outside of the context.
    pub fn create_causal_mask_rows(
        start: usize,
        rows: usize,
        context: usize,
        device: &Device,
    ) -> Result<Tensor> {
        if start.checked_add(rows).is_none_or(|end| end > context) {
            let expected = format!("mask rows must end within the context of {context}");
            return Err(GenerationError::option(expected, format!("{rows} from {start} on")).into());
        }
        let value =
            |row: usize, column| if column <= start + row { 0.0 } else { f32::NEG_INFINITY };
        let values: Vec<f32> =
            (0..rows).flat_map(|row| (0..context).map(move |column| value(row, column))).collect();
        Ok(Tensor::from_vec(values, (1, 1, rows, context), device)?)
    }

    /// The update mask `[1, 1, context, 1]`, float32: 1 at `position`, 0 elsewhere.
    ///
    /// # Errors
    /// When the position lies outside of the context.
    pub fn create_update_mask(position: usize, context: usize, device: &Device) -> Result<Tensor> {
        if position >= context {
            let expected = format!("the position must lie within the context of {context}");
            return Err(GenerationError::option(expected, position).into());
        }
        let values: Vec<f32> =
            (0..context).map(|row| if row == position { 1.0 } else { 0.0 }).collect();
        Ok(Tensor::from_vec(values, (1, 1, context, 1), device)?)
    }
}

/// Choosing a token from logits.
pub mod sampling {
    use candle_core::{DType, Tensor};

    use crate::error::Result;
    use crate::llm::{GenerationOptions, choose};

    /// The most likely token, the first one among equals. `logits` may have any shape with one
    /// element per token.
    ///
    /// # Errors
    /// When no logit is a finite number.
    pub fn greedy_sample(logits: &Tensor) -> Result<i64> {
        sample(logits, &GenerationOptions::new())
    }

    /// A token by its probability at a temperature.
    ///
    /// # Errors
    /// As for [`greedy_sample`], and when the temperature is negative.
    pub fn sample_with_temperature(logits: &Tensor, temperature: impl Into<f64>) -> Result<i64> {
        sample(logits, &GenerationOptions::new().temperature(temperature.into()))
    }

    /// One of the `k` most likely tokens by its probability at a temperature.
    ///
    /// # Errors
    /// As for [`sample_with_temperature`], and when `k` is 0.
    pub fn sample_top_k(logits: &Tensor, k: usize, temperature: impl Into<f64>) -> Result<i64> {
        sample(logits, &GenerationOptions::new().temperature(temperature.into()).top_k(k))
    }

    fn sample(logits: &Tensor, options: &GenerationOptions) -> Result<i64> {
        let logits = logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        choose(&logits, options).map(i64::from)
    }
}

/// Models in several packages.
pub mod multi_component {
    use std::collections::HashMap;

    use candle_core::{D, Tensor};

    use crate::error::{GenerationError, Result};

    /// Joins the outputs `logits1`, `logits2` up to `logits{parts}`, or `logits` alone, on the last
    /// axis.
    ///
    /// # Errors
    /// When a part is missing or the parts' other dimensions differ.
    pub fn combine_chunked_logits(
        outputs: HashMap<String, Tensor>,
        parts: usize,
    ) -> Result<Tensor> {
        if let Some(logits) = outputs.get("logits").filter(|_| parts == 1) {
            return Ok(logits.clone());
        }
        let part = |number: usize| {
            let name = format!("logits{number}");
            outputs.get(&name).ok_or_else(|| {
                GenerationError::Results(format!("the outputs have no `{name}` of {parts} parts"))
            })
        };
        let parts: Vec<&Tensor> = (1..=parts).map(part).collect::<Result<_, _>>()?;
        Ok(Tensor::cat(&parts, D::Minus1)?)
    }
}
