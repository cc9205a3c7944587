//! Where the elements of a tensor lie in a buffer: strides, and walks over them.

use smallvec::SmallVec;

use super::{Element, Shape, Storage, TensorRef, Visitor};
use crate::error::OpError;

/// Distance in elements between neighbours on each axis; negative where an axis runs backwards, 0
/// where it repeats one element.
pub(crate) type Strides = SmallVec<[isize; 6]>;

/// A tensor that is a part of another one's elements, with the same storage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    /// Elements from the other's first element to this one's.
    pub(crate) start: isize,
    /// Strides of this one's axes, in elements of the buffer that holds both.
    pub(crate) strides: Strides,
}

impl View {
    /// Whether an axis runs backwards: kernels of matrices do not take that.
    pub(crate) fn runs_backwards(&self) -> bool {
        self.strides.iter().any(|&stride| stride < 0)
    }

    /// Whether the elements of a tensor of `shape` lie in order without gaps.
    pub(crate) fn is_dense(&self, shape: &[usize]) -> bool {
        Layout::new(0, shape.iter().copied().zip(self.strides.iter().copied()))
            .contiguous()
            .is_some()
    }
}

/// The strides with which a tensor of other strides can be read as one of shape `to`, whose elements
/// are as many; `None` when its elements do not lie so.
pub(crate) fn reshaped(from: &[usize], strides: &[isize], to: &[usize]) -> Option<Strides> {
    if count(to) == 0 || from.contains(&0) {
        return Some(row_major(to).into_iter().map(|stride| stride as isize).collect());
    }
    let mut old = from.iter().zip(strides).filter(|(size, _)| **size != 1).peekable();
    let mut result = Strides::new();
    let mut new = to.iter().peekable();
    while let Some(&first) = new.next() {
        if first == 1 {
            result.push(1);
            continue;
        }
        // Axes of both shapes that hold the same elements: the smaller group grows.
        let (&size, &stride) = old.next()?;
        let (mut olds, mut last) = (size, stride);
        let mut news: SmallVec<[usize; 6]> = SmallVec::from_slice(&[first]);
        let mut total = first;
        while olds != total {
            if olds < total {
                let (&size, &stride) = old.next()?;
                // Two axes can be one only where the outer steps over all of the inner.
                if last != stride.checked_mul(isize::try_from(size).ok()?)? {
                    return None;
                }
                olds = olds.checked_mul(size)?;
                last = stride;
            } else {
                let next = *new.next()?;
                news.push(next);
                total = total.checked_mul(next)?;
            }
        }
        let inner = row_major(&news);
        result.extend(inner.into_iter().map(|step| step as isize * last));
    }
    old.next().is_none().then_some(result)
}

/// Distance in elements between neighbours on each axis of a row-major tensor.
pub(crate) fn row_major(shape: &[usize]) -> Shape {
    let mut strides = Shape::from_elem(1, shape.len());
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// Number of elements of a shape or of a part of one. Saturates, which matters only beside a
/// dimension of size 0.
pub(crate) fn count(shape: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().fold(1, |count: usize, &size| count.saturating_mul(size))
}

/// Where the elements of a row-major tensor lie in another buffer: element `[i, j, …]` at
/// `start + i · stride 0 + j · stride 1 + …`. Axes that can be walked as one are merged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    start: isize,
    axes: SmallVec<[(usize, isize); 6]>,
}

impl Layout {
    /// A layout of axes `(size, stride)`, outermost first.
    pub(crate) fn new(start: usize, axes: impl IntoIterator<Item = (usize, isize)>) -> Self {
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

    /// Where a tensor's elements lie among those of its buffer.
    pub(crate) fn of(tensor: &TensorRef) -> Self {
        match tensor.strides {
            Some(strides) => {
                let axes = tensor.shape.iter().copied().zip(strides.iter().copied());
                Layout { start: tensor.start as isize, ..Layout::new(0, axes) }
            }
            None => Layout::new(0, [(count(tensor.shape), 1)]),
        }
    }

    /// The layout of a view of a tensor of `shape`, as a walk from `start` on.
    pub(crate) fn of_view(view: &View, shape: &[usize]) -> Self {
        let axes = shape.iter().copied().zip(view.strides.iter().copied());
        Layout { start: view.start, ..Layout::new(0, axes) }
    }

    /// The same walk from `start` elements further on.
    pub(crate) fn shifted(mut self, start: usize) -> Self {
        self.start += start as isize;
        self
    }

    /// Number of elements.
    pub(crate) fn count(&self) -> usize {
        self.axes.iter().fold(1, |count: usize, axis| count.saturating_mul(axis.0))
    }

    /// The position of the first element when they all lie in order without gaps.
    pub(crate) fn contiguous(&self) -> Option<usize> {
        match self.axes.as_slice() {
            [] | [(_, 1)] => usize::try_from(self.start).ok(),
            _ => None,
        }
    }

    /// Fails unless all positions are within a buffer of `len` elements.
    pub(crate) fn check(&self, len: usize) -> Result<(), OpError> {
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
    pub(crate) fn row(&self) -> (usize, isize) {
        self.axes.last().copied().unwrap_or((1, 1))
    }

    /// Calls `visit` with the number of a row's first element and with its position.
    pub(crate) fn for_each_row(&self, mut visit: impl FnMut(usize, usize)) {
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

    /// Copies the elements that lie so in `from` to `to`, in order.
    pub(crate) fn read(&self, from: &[u8], to: &mut [u8], storage: Storage) -> Result<(), OpError> {
        storage.visit_bits(Read { layout: self, from, to })
    }

    /// Copies the elements of `from`, in order, to where they lie in `to`.
    pub(crate) fn write(
        &self,
        from: &[u8],
        to: &mut [u8],
        storage: Storage,
    ) -> Result<(), OpError> {
        storage.visit_bits(Write { layout: self, from, to })
    }
}

struct Read<'a> {
    layout: &'a Layout,
    from: &'a [u8],
    to: &'a mut [u8],
}

impl Visitor for Read<'_> {
    type Output = Result<(), OpError>;

    fn visit<T: Element>(self) -> Self::Output {
        let (from, to) = (elements::<T>(self.from)?, elements_mut::<T>(self.to)?);
        self.layout.check(from.len())?;
        same_count(self.layout.count(), to.len())?;
        let (len, stride) = self.layout.row();
        self.layout.for_each_row(|first, position| {
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
}

struct Write<'a> {
    layout: &'a Layout,
    from: &'a [u8],
    to: &'a mut [u8],
}

impl Visitor for Write<'_> {
    type Output = Result<(), OpError>;

    fn visit<T: Element>(self) -> Self::Output {
        let (from, to) = (elements::<T>(self.from)?, elements_mut::<T>(self.to)?);
        self.layout.check(to.len())?;
        same_count(self.layout.count(), from.len())?;
        let (len, stride) = self.layout.row();
        self.layout.for_each_row(|first, position| {
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

/// Bytes as elements. (No bytes have any alignment.)
pub(crate) fn elements<T: Element>(bytes: &[u8]) -> Result<&[T], OpError> {
    if bytes.is_empty() {
        return Ok(&[]);
    }
    bytemuck::try_cast_slice(bytes).map_err(|error| OpError::invalid(format!("memory: {error}")))
}

/// Bytes as elements, to write.
pub(crate) fn elements_mut<T: Element>(bytes: &mut [u8]) -> Result<&mut [T], OpError> {
    if bytes.is_empty() {
        return Ok(&mut []);
    }
    bytemuck::try_cast_slice_mut(bytes)
        .map_err(|error| OpError::invalid(format!("memory: {error}")))
}

/// Fails unless as many elements are there as are wanted.
pub(crate) fn same_count(expected: usize, got: usize) -> Result<(), OpError> {
    if expected == got {
        return Ok(());
    }
    Err(OpError::invalid(format!("expected {expected} elements, got {got}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions of all elements, in order.
    fn positions(shape: &[usize], strides: &[isize]) -> Vec<isize> {
        let mut positions = vec![0];
        for (&size, &stride) in shape.iter().zip(strides) {
            let along = |&at: &isize| (0..size as isize).map(move |i| at + i * stride);
            positions = positions.iter().flat_map(along).collect();
        }
        positions
    }

    #[test]
    fn a_strided_tensor_is_reshaped_where_strides_can_tell() {
        // A transposed matrix, and a part of a larger tensor.
        assert_eq!(reshaped(&[3, 2], &[1, 3], &[6]), None);
        assert_eq!(reshaped(&[3, 2], &[1, 3], &[3, 1, 2]).unwrap()[0], 1);
        for (from, strides, to) in [
            (vec![2, 3, 4], vec![100, 4, 1], vec![2, 12]),
            (vec![2, 12], vec![100, 1], vec![2, 3, 4]),
            (vec![4, 6], vec![1, 4], vec![2, 2, 3, 2]),
            (vec![6, 5], vec![0, 1], vec![2, 3, 5]),
            (vec![1, 6, 1], vec![7, -2, 9], vec![3, 1, 2]),
            (vec![1], vec![5], vec![]),
        ] {
            let strides_of = reshaped(&from, &strides, &to).expect("a view");
            assert_eq!(positions(&from, &strides), positions(&to, &strides_of), "{from:?} {to:?}");
        }
    }

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
        let transposed = Layout::new(0, [(3, 1), (2, 3)]);
        let mut to = [0u8; 6];
        transposed.read(&from, &mut to, Storage::U8).unwrap();
        assert_eq!(to, [0, 3, 1, 4, 2, 5]);
        let mut back = [0u8; 6];
        transposed.write(&to, &mut back, Storage::U8).unwrap();
        assert_eq!(back, from);
    }

    #[test]
    fn negative_strides_walk_backwards() {
        let mut to = [0u8; 3];
        Layout::new(4, [(3, -2)]).read(&[1, 0, 2, 0, 3, 0], &mut to, Storage::U8).unwrap();
        assert_eq!(to, [3, 2, 1]);
    }

    #[test]
    fn positions_outside_the_buffer_are_an_error() {
        let mut to = [0u8; 3];
        assert!(Layout::new(0, [(3, 2)]).read(&[0; 4], &mut to, Storage::U8).is_err());
        assert!(Layout::new(1, [(3, -1)]).read(&[0; 4], &mut to, Storage::U8).is_err());
        assert!(Layout::new(0, [(2, 1)]).read(&[0; 4], &mut to, Storage::U8).is_err());
    }

    #[test]
    fn an_empty_layout_moves_nothing() {
        let layout = Layout::new(7, [(usize::MAX, 5), (0, 1)]);
        assert_eq!(layout.count(), 0);
        layout.read(&[], &mut [], Storage::F32).unwrap();
    }
}
