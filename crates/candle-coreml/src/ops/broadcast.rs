//! NumPy's broadcasting: shapes, and walks over two operands.

use smallvec::SmallVec;

use super::OpError;
use super::strided::{count, row_major, same_count};
use crate::value::Shape;

/// The shape that two shapes broadcast to.
pub(super) fn shape(x: &[usize], y: &[usize]) -> Result<Shape, OpError> {
    let rank = x.len().max(y.len());
    let size = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis])
    };
    (0..rank)
        .map(|axis| match (size(x, axis), size(y, axis)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(OpError::invalid(format!("the shapes {x:?} and {y:?} do not broadcast"))),
        })
        .collect()
}

/// Distances between neighbours of an operand on each axis of the result: 0 where it repeats.
pub(super) fn strides(operand: &[usize], result: &[usize]) -> SmallVec<[usize; 6]> {
    let missing = result.len().saturating_sub(operand.len());
    let own = row_major(operand);
    (0..result.len())
        .map(|axis| match axis.checked_sub(missing) {
            Some(axis) if operand[axis] != 1 => own[axis],
            _ => 0,
        })
        .collect()
}

/// An axis of a walk: its size and each operand's stride.
type Axis<const N: usize> = (usize, [usize; N]);

/// A walk over a result and the `N` operands that broadcast to it. Axes that can be walked as one
/// are merged, so that equal shapes and scalars make one row.
pub(super) struct Walk<const N: usize> {
    axes: SmallVec<[Axis<N>; 6]>,
    operands: [usize; N],
    result: usize,
}

impl<const N: usize> Walk<N> {
    /// The walk for operands of these shapes and their broadcast shape.
    pub(super) fn new(operands: [&[usize]; N], result: &[usize]) -> Self {
        let strides = operands.map(|operand| strides(operand, result));
        let mut axes: SmallVec<[Axis<N>; 6]> = SmallVec::new();
        for (axis, &size) in result.iter().enumerate() {
            let steps = std::array::from_fn(|operand| strides[operand][axis]);
            match axes.last_mut() {
                _ if size == 1 => {}
                Some((outer, last)) if *last == steps.map(|step| step.saturating_mul(size)) => {
                    *outer = outer.saturating_mul(size);
                    *last = steps;
                }
                _ => axes.push((size, steps)),
            }
        }
        Walk { axes, operands: operands.map(count), result: count(result) }
    }

    /// Fails unless the operands and the result have as many elements as their shapes say.
    pub(super) fn check(&self, operands: [usize; N], result: usize) -> Result<(), OpError> {
        for (&expected, got) in self.operands.iter().zip(operands) {
            same_count(expected, got)?;
        }
        same_count(self.result, result)
    }

    /// Calls `visit` for each row with the number of its first element in the result and the place
    /// of that in each operand.
    pub(super) fn for_each_row(&self, mut visit: impl FnMut(usize, [usize; N])) {
        let row = self.axes.last().map_or(1, |axis| axis.0);
        let outer = &self.axes[..self.axes.len().saturating_sub(1)];
        let rows = self.result.checked_div(row).unwrap_or(0);
        let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, outer.len());
        let mut at = [0usize; N];
        for number in 0..rows {
            visit(number * row, at);
            for (i, (size, steps)) in index.iter_mut().zip(outer).rev() {
                *i += 1;
                at.iter_mut().zip(steps).for_each(|(at, step)| *at += step);
                if *i < *size {
                    break;
                }
                *i = 0;
                at.iter_mut().zip(steps).for_each(|(at, step)| *at -= step * size);
            }
        }
    }

    /// Elements of a row, and for each operand whether it has as many or one for all.
    pub(super) fn row(&self) -> (usize, [bool; N]) {
        let (len, steps) = self.axes.last().copied().unwrap_or((1, [0; N]));
        (len, steps.map(|step| step != 0))
    }
}

impl Walk<2> {
    /// `out = function(x, y)`.
    pub(super) fn zip<A: Copy, B: Copy, R>(
        &self,
        x: &[A],
        y: &[B],
        out: &mut [R],
        function: impl Fn(A, B) -> R,
    ) -> Result<(), OpError> {
        self.check([x.len(), y.len()], out.len())?;
        let (len, moves) = self.row();
        self.for_each_row(|first, [i, j]| {
            let out = &mut out[first..first + len];
            match moves {
                [true, true] => {
                    for ((out, &x), &y) in out.iter_mut().zip(&x[i..i + len]).zip(&y[j..j + len]) {
                        *out = function(x, y);
                    }
                }
                [true, false] => {
                    let y = y[j];
                    out.iter_mut().zip(&x[i..i + len]).for_each(|(out, &x)| *out = function(x, y));
                }
                [false, true] => {
                    let x = x[i];
                    out.iter_mut().zip(&y[j..j + len]).for_each(|(out, &y)| *out = function(x, y));
                }
                [false, false] => {
                    let (x, y) = (x[i], y[j]);
                    out.iter_mut().for_each(|out| *out = function(x, y));
                }
            }
        });
        Ok(())
    }

    /// `x = function(x, y)`, where `x` has the result's shape.
    pub(super) fn zip_in_place<A: Copy>(
        &self,
        x: &mut [A],
        y: &[A],
        function: impl Fn(A, A) -> A,
    ) -> Result<(), OpError> {
        same_count(self.result, x.len())?;
        same_count(self.operands[1], y.len())?;
        let (len, [_, moves]) = self.row();
        self.for_each_row(|first, [_, j]| {
            let x = &mut x[first..first + len];
            if moves {
                x.iter_mut().zip(&y[j..j + len]).for_each(|(x, &y)| *x = function(*x, y));
            } else {
                let y = y[j];
                x.iter_mut().for_each(|x| *x = function(*x, y));
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shapes_broadcast_from_the_end() {
        assert_eq!(shape(&[4, 1, 3], &[2, 1]).unwrap().as_slice(), [4, 2, 3]);
        assert_eq!(shape(&[], &[2]).unwrap().as_slice(), [2]);
        assert_eq!(shape(&[1], &[0]).unwrap().as_slice(), [0]);
        assert!(shape(&[2], &[3]).is_err());
        assert!(shape(&[2], &[0]).is_err());
    }

    /// The element of an operand that belongs to an index of the result.
    fn at(values: &[i32], operand: &[usize], index: &[usize]) -> i32 {
        let skipped = index.len() - operand.len();
        let position = operand
            .iter()
            .zip(&index[skipped..])
            .fold(0, |position, (&size, &i)| position * size + if size == 1 { 0 } else { i });
        values[position]
    }

    fn naive(x: &[i32], xs: &[usize], y: &[i32], ys: &[usize], result: &[usize]) -> Vec<i32> {
        (0..result.iter().product())
            .map(|mut number| {
                let mut index = vec![0; result.len()];
                for (i, &size) in index.iter_mut().zip(result).rev() {
                    (*i, number) = (number % size, number / size);
                }
                at(x, xs, &index) * 1000 - at(y, ys, &index)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn walks_agree_with_indexing(
            axes in prop::collection::vec((1usize..4, any::<bool>(), any::<bool>()), 0..5),
            cut_x in 0usize..5,
            cut_y in 0usize..5,
        ) {
            let full_x: Vec<usize> = axes.iter().map(|a| if a.1 { 1 } else { a.0 }).collect();
            let full_y: Vec<usize> = axes.iter().map(|a| if a.2 { 1 } else { a.0 }).collect();
            let xs = &full_x[cut_x.min(axes.len())..];
            let ys = &full_y[cut_y.min(axes.len())..];
            let result = shape(xs, ys).unwrap();
            let x: Vec<i32> = (0..xs.iter().product::<usize>() as i32).collect();
            let y: Vec<i32> = (0..ys.iter().product::<usize>() as i32).map(|v| v * 7).collect();
            let expected = naive(&x, xs, &y, ys, &result);
            let walk = Walk::new([xs, ys], &result);
            let mut out = vec![0; expected.len()];
            walk.zip(&x, &y, &mut out, |x, y| x * 1000 - y).unwrap();
            prop_assert_eq!(&out, &expected);
            if x.len() == out.len() {
                let mut x = x.clone();
                walk.zip_in_place(&mut x, &y, |x, y| x * 1000 - y).unwrap();
                prop_assert_eq!(&x, &expected);
            }
        }
    }
}
