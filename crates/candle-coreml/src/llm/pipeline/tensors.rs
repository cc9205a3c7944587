//! Inputs of the functions: ids, positions and masks.

use candle_core::{Device, Tensor};
use half::f16;

use crate::error::{Error, Result};

/// `input_ids`: int32 `[1, length]`, padded with token 0 behind `ids`.
pub(super) fn input_ids(ids: &[u32], length: usize) -> Result<Tensor> {
    let mut ids: Vec<i32> =
        ids.iter().map(|&id| integer(id as usize, "token id")).collect::<Result<_>>()?;
    ids.resize(length, 0);
    Ok(Tensor::from_vec(ids, (1, length), &Device::Cpu)?)
}

/// `position_ids`: int32 `[length]`, counting from `start`.
pub(super) fn position_ids(start: usize, length: usize) -> Result<Tensor> {
    let positions: Vec<i32> = (start..start.saturating_add(length))
        .map(|position| integer(position, "position"))
        .collect::<Result<_>>()?;
    Ok(Tensor::from_vec(positions, length, &Device::Cpu)?)
}

/// `causal_mask`: float16 `[1, 1, rows, context]`, the rows of the positions from `start` on. A
/// column is 0 where the row's position may look (itself and earlier ones), else −∞.
pub(super) fn causal_mask(start: usize, rows: usize, context: usize) -> Result<Tensor> {
    let mut mask = vec![f16::NEG_INFINITY; rows.saturating_mul(context)];
    for (row, columns) in mask.chunks_exact_mut(context.max(1)).enumerate() {
        let visible = start.saturating_add(row).saturating_add(1).min(context);
        columns.iter_mut().take(visible).for_each(|value| *value = f16::ZERO);
    }
    Ok(Tensor::from_vec(mask, (1, 1, rows, context), &Device::Cpu)?)
}

/// `current_pos`: int32 `[1]`.
pub(super) fn current_pos(position: usize) -> Result<Tensor> {
    Ok(Tensor::from_vec(vec![integer(position, "position")?], 1, &Device::Cpu)?)
}

/// `update_mask`: float16 `[1, 1, context, rows]`, 1 where column `i` holds the token at position
/// `start + i`, for the `used` first columns.
pub(super) fn update_mask(
    start: usize,
    used: usize,
    rows: usize,
    context: usize,
) -> Result<Tensor> {
    let mut mask = vec![f16::ZERO; rows.saturating_mul(context)];
    for (position, columns) in mask.chunks_exact_mut(rows.max(1)).enumerate() {
        let column = position.checked_sub(start).filter(|&column| column < used);
        if let Some(value) = column.and_then(|column| columns.get_mut(column)) {
            *value = f16::ONE;
        }
    }
    Ok(Tensor::from_vec(mask, (1, 1, context, rows), &Device::Cpu)?)
}

fn integer(value: usize, what: &str) -> Result<i32> {
    i32::try_from(value)
        .map_err(|_| Error::Generation(format!("{what} {value} does not fit into 32 bits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_dtype(candle_core::DType::F32).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn ids_are_padded_with_zeros() {
        let ids = input_ids(&[5, 6], 4).unwrap();
        assert_eq!(ids.to_vec2::<i32>().unwrap(), [[5, 6, 0, 0]]);
        assert!(input_ids(&[u32::MAX], 1).is_err());
    }

    #[test]
    fn positions_count_from_the_start() {
        assert_eq!(position_ids(7, 3).unwrap().to_vec1::<i32>().unwrap(), [7, 8, 9]);
        assert_eq!(current_pos(9).unwrap().to_vec1::<i32>().unwrap(), [9]);
    }

    #[test]
    fn rows_see_themselves_and_what_is_before() {
        let mask = causal_mask(1, 2, 4).unwrap();
        assert_eq!(mask.dims(), [1, 1, 2, 4]);
        let no = f32::NEG_INFINITY;
        assert_eq!(floats(&mask), [0.0, 0.0, no, no, 0.0, 0.0, 0.0, no]);
    }

    #[test]
    fn the_update_mask_marks_where_tokens_go() {
        let mask = update_mask(1, 2, 3, 4).unwrap();
        assert_eq!(mask.dims(), [1, 1, 4, 3]);
        let rows = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]];
        assert_eq!(floats(&mask), rows.concat());
    }
}
