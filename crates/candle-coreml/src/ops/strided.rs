//! Strided walks over elements, for operations that only move them.

use smallvec::SmallVec;

use super::OpError;

/// Distance in elements between neighbours on each axis of a row-major tensor.
pub(super) fn row_major(shape: &[usize]) -> SmallVec<[usize; 6]> {
    let mut strides: SmallVec<[usize; 6]> = SmallVec::from_elem(1, shape.len());
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// Number of elements of a shape or of a part of one. Saturates, which matters only beside a
/// dimension of size 0.
pub(super) fn count(shape: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().fold(1, |count: usize, &size| count.saturating_mul(size))
}

/// Where the elements of a row-major tensor lie in another buffer: element `[i, j, …]` at
/// `start + i · stride 0 + j · stride 1 + …`. Axes that can be walked as one are merged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    start: isize,
    axes: SmallVec<[(usize, isize); 6]>,
}

impl Layout {
    /// A layout of axes `(size, stride)`, outermost first.
    pub(super) fn new(start: usize, axes: impl IntoIterator<Item = (usize, isize)>) -> Self {
        let mut merged: SmallVec<[(usize, isize); 6]> = SmallVec::new();
        let mut empty = false;
        for (size, stride) in axes {
            empty |= size == 0;
            match merged.last_mut() {
                _ if size == 1 => {}
                Some(outer) if outer.1 == stride.saturating_mul(size as isize) => {
                    *outer = (outer.0.saturating_mul(size), stride);
                }
                _ => merged.push((size, stride)),
            }
        }
        if empty {
            merged.clear();
            merged.push((0, 1));
        }
        Layout { start: start as isize, axes: merged }
    }

    /// The layout of a tensor of `shape` whose axes are taken in the order `axes`.
    pub(super) fn permuted(shape: &[usize], axes: &[usize]) -> Self {
        let strides = row_major(shape);
        Layout::new(0, axes.iter().map(|&axis| (shape[axis], strides[axis] as isize)))
    }

    /// Number of elements.
    pub(super) fn count(&self) -> usize {
        self.axes.iter().fold(1, |count: usize, axis| count.saturating_mul(axis.0))
    }

    /// The position of the first element when they all lie in order without gaps.
    pub(super) fn contiguous(&self) -> Option<usize> {
        match self.axes.as_slice() {
            [] | [(_, 1)] => usize::try_from(self.start).ok(),
            _ => None,
        }
    }

    /// Fails unless all positions are within a buffer of `len` elements.
    pub(super) fn check(&self, len: usize) -> Result<(), OpError> {
        if self.count() == 0 {
            return Ok(());
        }
        let (mut low, mut high) = (self.start as i128, self.start as i128);
        for &(size, stride) in &self.axes {
            let reach = (size as i128 - 1) * stride as i128;
            low += reach.min(0);
            high += reach.max(0);
        }
        if low < 0 || high >= len as i128 {
            return Err(OpError::invalid(format!(
                "elements {low} to {high} are wanted of a tensor of {len} elements"
            )));
        }
        Ok(())
    }

    /// Number of elements and stride of the rows that [`Layout::for_each_row`] gives.
    pub(super) fn row(&self) -> (usize, isize) {
        self.axes.last().copied().unwrap_or((1, 1))
    }

    /// Calls `visit` with the number of a row's first element and with its position.
    pub(super) fn for_each_row(&self, mut visit: impl FnMut(usize, usize)) {
        let outer = &self.axes[..self.axes.len().saturating_sub(1)];
        let row = self.row().0;
        let rows = self.count().checked_div(row).unwrap_or(0);
        let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, outer.len());
        let mut position = self.start;
        for number in 0..rows {
            visit(number * row, position as usize);
            for (i, &(size, stride)) in index.iter_mut().zip(outer).rev() {
                *i += 1;
                position += stride;
                if *i < size {
                    break;
                }
                *i = 0;
                position -= stride * size as isize;
            }
        }
    }

    /// Copies the elements (of `size` bytes each) that lie so in `from` to `to`, in order.
    pub(super) fn read(&self, from: &[u8], to: &mut [u8], size: usize) -> Result<(), OpError> {
        match size {
            1 => self.read_chunks::<1>(from, to),
            2 => self.read_chunks::<2>(from, to),
            4 => self.read_chunks::<4>(from, to),
            _ => self.read_chunks::<8>(from, to),
        }
    }

    /// Copies the elements (of `size` bytes each) of `from` to where they lie in `to`.
    pub(super) fn write(&self, from: &[u8], to: &mut [u8], size: usize) -> Result<(), OpError> {
        match size {
            1 => self.write_chunks::<1>(from, to),
            2 => self.write_chunks::<2>(from, to),
            4 => self.write_chunks::<4>(from, to),
            _ => self.write_chunks::<8>(from, to),
        }
    }

    fn read_chunks<const N: usize>(&self, from: &[u8], to: &mut [u8]) -> Result<(), OpError> {
        let from = from.as_chunks::<N>().0;
        let to = to.as_chunks_mut::<N>().0;
        self.check(from.len())?;
        same_count(self.count(), to.len())?;
        let (len, stride) = self.row();
        self.for_each_row(|first, position| {
            let row = &mut to[first..first + len];
            if stride == 1 {
                row.copy_from_slice(&from[position..position + len]);
                return;
            }
            for (i, element) in row.iter_mut().enumerate() {
                *element = from[(position as isize + i as isize * stride) as usize];
            }
        });
        Ok(())
    }

    fn write_chunks<const N: usize>(&self, from: &[u8], to: &mut [u8]) -> Result<(), OpError> {
        let from = from.as_chunks::<N>().0;
        let to = to.as_chunks_mut::<N>().0;
        self.check(to.len())?;
        same_count(self.count(), from.len())?;
        let (len, stride) = self.row();
        self.for_each_row(|first, position| {
            let row = &from[first..first + len];
            if stride == 1 {
                to[position..position + len].copy_from_slice(row);
                return;
            }
            for (i, element) in row.iter().enumerate() {
                to[(position as isize + i as isize * stride) as usize] = *element;
            }
        });
        Ok(())
    }
}

/// Fails unless as many elements are there as are wanted.
pub(super) fn same_count(expected: usize, got: usize) -> Result<(), OpError> {
    if expected == got {
        return Ok(());
    }
    Err(OpError::invalid(format!("expected {expected} elements, got {got}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_lie_in_order_are_merged() {
        let layout = Layout::new(3, [(2, 12), (1, 99), (3, 4), (4, 1)]);
        assert_eq!(layout.contiguous(), Some(3));
        assert_eq!(layout.count(), 24);
        assert_eq!(Layout::new(0, [(2, 1), (3, 2)]).contiguous(), None);
    }

    #[test]
    fn elements_move_between_orders() {
        let from = [0u8, 1, 2, 3, 4, 5];
        let transposed = Layout::permuted(&[2, 3], &[1, 0]);
        let mut to = [0u8; 6];
        transposed.read(&from, &mut to, 1).unwrap();
        assert_eq!(to, [0, 3, 1, 4, 2, 5]);
        let mut back = [0u8; 6];
        transposed.write(&to, &mut back, 1).unwrap();
        assert_eq!(back, from);
    }

    #[test]
    fn negative_strides_walk_backwards() {
        let mut to = [0u8; 4];
        Layout::new(2, [(2, -2)]).read(&[1, 0, 2, 0, 3, 0], &mut to, 2).unwrap();
        assert_eq!(to, [3, 0, 1, 0]);
    }

    #[test]
    fn positions_outside_the_buffer_are_an_error() {
        let mut to = [0u8; 3];
        assert!(Layout::new(0, [(3, 2)]).read(&[0; 4], &mut to, 1).is_err());
        assert!(Layout::new(1, [(3, -1)]).read(&[0; 4], &mut to, 1).is_err());
        assert!(Layout::new(0, [(2, 1)]).read(&[0; 4], &mut to, 1).is_err());
    }

    #[test]
    fn an_empty_layout_moves_nothing() {
        let layout = Layout::new(7, [(usize::MAX, 5), (0, 1)]);
        assert_eq!(layout.count(), 0);
        layout.read(&[], &mut [], 4).unwrap();
    }
}
