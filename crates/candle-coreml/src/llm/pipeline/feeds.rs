//! What the functions are fed with: ids, positions and masks, written where a call reads them.

use crate::error::{GenerationError, Result};

/// `input_ids`: int32 `[1, length]`, `ids` and token 0 behind them.
pub(super) fn token_ids(ids: &[u32], to: &mut [i32]) {
    let ids = ids.iter().map(|&id| id.cast_signed());
    to.iter_mut().zip(ids.chain(std::iter::repeat(0))).for_each(|(to, id)| *to = id);
}

/// `position_ids`: int32 `[length]`, counting from `start`.
pub(super) fn positions(start: i32, to: &mut [i32]) {
    to.iter_mut().zip(start..).for_each(|(to, position)| *to = position);
}

/// `causal_mask`: float16 `[1, 1, rows, context]`, the rows of the positions from `start` on. A
/// column is 0 where the row's position may look (itself and earlier ones), else −∞.
pub(super) fn causal_mask(start: usize, context: usize, to: &mut [f32]) {
    for (row, columns) in to.chunks_exact_mut(context.max(1)).enumerate() {
        let visible = start.saturating_add(row).saturating_add(1).min(context);
        let (seen, unseen) = columns.split_at_mut(visible);
        seen.fill(0.0);
        unseen.fill(f32::NEG_INFINITY);
    }
}

/// `update_mask`: float16 `[1, 1, context, rows]`, 1 where column `i` holds the token at position
/// `start + i`, for the `used` first columns.
pub(super) fn update_mask(start: usize, used: usize, rows: usize, to: &mut [f32]) {
    to.fill(0.0);
    for (position, columns) in to.chunks_exact_mut(rows.max(1)).enumerate() {
        let column = position.checked_sub(start).filter(|&column| column < used);
        if let Some(value) = column.and_then(|column| columns.get_mut(column)) {
            *value = 1.0;
        }
    }
}

/// A number as the inputs hold it.
pub(super) fn integer(value: usize, what: &'static str) -> Result<i32> {
    i32::try_from(value).map_err(|_| GenerationError::OutOfRange { what, value }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_padded_with_zeros() {
        let mut ids = [9; 4];
        token_ids(&[5, 6], &mut ids);
        assert_eq!(ids, [5, 6, 0, 0]);
        assert!(integer(u32::MAX as usize, "token id").is_err());
    }

    #[test]
    fn positions_count_from_the_start() {
        let mut to = [0; 3];
        positions(7, &mut to);
        assert_eq!(to, [7, 8, 9]);
    }

    #[test]
    fn rows_see_themselves_and_what_is_before() {
        let mut mask = [5.0; 8];
        causal_mask(1, 4, &mut mask);
        let no = f32::NEG_INFINITY;
        assert_eq!(mask, [0.0, 0.0, no, no, 0.0, 0.0, 0.0, no]);
    }

    #[test]
    fn the_update_mask_marks_where_tokens_go() {
        let mut mask = [5.0; 12];
        update_mask(1, 2, 3, &mut mask);
        let rows = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]];
        assert_eq!(mask, *rows.as_flattened());
    }
}
