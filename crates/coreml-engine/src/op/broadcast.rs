//! NumPy's broadcasting: shapes, and walks over several operands.

use smallvec::SmallVec;

use super::Inputs;
use crate::error::OpError;
use crate::value::{Element, Layout, Shape, Strides, TensorRef, count, same_count};

/// The shape that two shapes broadcast to.
pub(crate) fn broadcast(x: &[usize], y: &[usize]) -> Result<Shape, OpError> {
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

/// The strides of an operand on each axis of the result: 0 where it repeats.
pub(crate) fn repeated(shape: &[usize], strides: &[isize], result: &[usize]) -> Strides {
    let missing = result.len().saturating_sub(shape.len());
    (0..result.len())
        .map(|axis| match axis.checked_sub(missing) {
            Some(axis) if shape[axis] != 1 => strides[axis],
            _ => 0,
        })
        .collect()
}

/// An axis of a walk: its size and each operand's stride.
type Axis<const N: usize> = (usize, [isize; N]);

/// A walk over a result and the `N` operands that broadcast to it. Axes that can be walked as one
/// are merged, so that equal shapes and scalars make one row.
pub(crate) struct Walk<const N: usize> {
    axes: SmallVec<[Axis<N>; 6]>,
    result: usize,
}

impl<const N: usize> Walk<N> {
    /// The walk for operands of these shapes and strides and for their broadcast shape.
    pub(crate) fn new(operands: [(&[usize], &[isize]); N], result: &[usize]) -> Self {
        let strides = operands.map(|(shape, strides)| repeated(shape, strides, result));
        let mut axes: SmallVec<[Axis<N>; 6]> = SmallVec::new();
        for (axis, &size) in result.iter().enumerate() {
            let steps = std::array::from_fn(|operand| strides[operand][axis]);
            match axes.last_mut() {
                _ if size == 1 => {}
                Some((outer, last))
                    if *last == steps.map(|step: isize| step.saturating_mul(size as isize)) =>
                {
                    *outer = outer.saturating_mul(size);
                    *last = steps;
                }
                _ => axes.push((size, steps)),
            }
        }
        Walk { axes, result: count(result) }
    }

    /// The walk for these inputs of an operation.
    pub(crate) fn of(
        inputs: &Inputs,
        operands: [usize; N],
        result: &[usize],
    ) -> Result<Self, OpError> {
        let mut shapes: [&[usize]; N] = [&[]; N];
        let mut strides: [Strides; N] = std::array::from_fn(|_| Strides::new());
        for (i, operand) in operands.into_iter().enumerate() {
            shapes[i] = inputs.shape(operand)?;
            strides[i] = inputs.strides(operand)?;
        }
        Ok(Walk::new(std::array::from_fn(|i| (shapes[i], strides[i].as_slice())), result))
    }

    /// The buffer of an operand, which has all elements that the walk comes to.
    fn buffer<'a, T: Element>(
        &self,
        operand: usize,
        tensor: &TensorRef<'a>,
    ) -> Result<&'a [T], OpError> {
        let buffer = tensor.buffer()?;
        let axes = self.axes.iter().map(|(size, steps)| (*size, steps[operand]));
        Layout::new(tensor.start, axes).check(buffer.len())?;
        Ok(buffer)
    }

    /// Calls `visit` for each row with the number of its first element in the result and the place
    /// of that in each operand, of which the first elements are at `starts`.
    fn for_each_row(&self, starts: [usize; N], mut visit: impl FnMut(usize, [usize; N])) {
        let row = self.axes.last().map_or(1, |axis| axis.0);
        let outer = &self.axes[..self.axes.len().saturating_sub(1)];
        let rows = self.result.checked_div(row).unwrap_or(0);
        let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, outer.len());
        let mut at = starts.map(|start| start as isize);
        for number in 0..rows {
            visit(number * row, at.map(|at| at as usize));
            for (i, (size, steps)) in index.iter_mut().zip(outer).rev() {
                *i += 1;
                at.iter_mut().zip(steps).for_each(|(at, step)| *at += step);
                if *i < *size {
                    break;
                }
                *i = 0;
                at.iter_mut().zip(steps).for_each(|(at, step)| *at -= step * *size as isize);
            }
        }
    }

    /// Elements of a row, and each operand's stride along it.
    fn row(&self) -> (usize, [isize; N]) {
        self.axes.last().copied().unwrap_or((1, [0; N]))
    }
}

/// The place of element `index` of a row whose first one is at `start`.
fn place(start: usize, index: usize, step: isize) -> usize {
    (start as isize + index as isize * step) as usize
}

impl Walk<2> {
    /// `out = function(x, y)`. Rows that are dense or repeat one element are walked fast.
    pub(crate) fn zip<A: Element, B: Element, R>(
        &self,
        [x, y]: [&TensorRef; 2],
        out: &mut [R],
        function: impl Fn(A, B) -> R,
    ) -> Result<(), OpError> {
        same_count(self.result, out.len())?;
        let starts = [x.start, y.start];
        let (x, y) = (self.buffer::<A>(0, x)?, self.buffer::<B>(1, y)?);
        let (len, steps) = self.row();
        self.for_each_row(starts, |first, [i, j]| {
            let out = &mut out[first..first + len];
            match steps {
                [1, 1] => {
                    for ((out, &x), &y) in out.iter_mut().zip(&x[i..i + len]).zip(&y[j..j + len]) {
                        *out = function(x, y);
                    }
                }
                [1, 0] => {
                    let y = y[j];
                    out.iter_mut().zip(&x[i..i + len]).for_each(|(out, &x)| *out = function(x, y));
                }
                [0, 1] => {
                    let x = x[i];
                    out.iter_mut().zip(&y[j..j + len]).for_each(|(out, &y)| *out = function(x, y));
                }
                [x_step, y_step] => {
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = function(x[place(i, k, x_step)], y[place(j, k, y_step)]);
                    }
                }
            }
        });
        Ok(())
    }

    /// `x = function(x, y)`, where `x` is dense and has the result's shape.
    pub(crate) fn zip_in_place<T: Element>(
        &self,
        x: &mut [T],
        y: &TensorRef,
        function: impl Fn(T, T) -> T,
    ) -> Result<(), OpError> {
        same_count(self.result, x.len())?;
        let (start, y) = (y.start, self.buffer::<T>(1, y)?);
        let (len, [_, step]) = self.row();
        self.for_each_row([0, start], |first, [_, j]| {
            let x = &mut x[first..first + len];
            match step {
                0 => {
                    let y = y[j];
                    x.iter_mut().for_each(|x| *x = function(*x, y));
                }
                1 => x.iter_mut().zip(&y[j..j + len]).for_each(|(x, &y)| *x = function(*x, y)),
                _ => {
                    for (k, x) in x.iter_mut().enumerate() {
                        *x = function(*x, y[place(j, k, step)]);
                    }
                }
            }
        });
        Ok(())
    }
}

impl Walk<3> {
    /// `out = function(x, y, z)`.
    pub(crate) fn zip<A: Element, B: Element, C: Element, R>(
        &self,
        [x, y, z]: [&TensorRef; 3],
        out: &mut [R],
        function: impl Fn(A, B, C) -> R,
    ) -> Result<(), OpError> {
        same_count(self.result, out.len())?;
        let starts = [x.start, y.start, z.start];
        let (x, y) = (self.buffer::<A>(0, x)?, self.buffer::<B>(1, y)?);
        let z = self.buffer::<C>(2, z)?;
        let (len, [x_step, y_step, z_step]) = self.row();
        self.for_each_row(starts, |first, [i, j, k]| {
            for (n, out) in out[first..first + len].iter_mut().enumerate() {
                let (x, y) = (x[place(i, n, x_step)], y[place(j, n, y_step)]);
                *out = function(x, y, z[place(k, n, z_step)]);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;
    use proptest::prelude::*;

    use super::*;
    use crate::value::{Storage, row_major};

    #[test]
    fn shapes_broadcast_from_the_end() {
        assert_eq!(broadcast(&[4, 1, 3], &[2, 1]).unwrap().as_slice(), [4, 2, 3]);
        assert_eq!(broadcast(&[], &[2]).unwrap().as_slice(), [2]);
        assert_eq!(broadcast(&[1], &[0]).unwrap().as_slice(), [0]);
        assert!(broadcast(&[2], &[3]).is_err());
        assert!(broadcast(&[2], &[0]).is_err());
    }

    /// An operand somewhere in a buffer.
    #[derive(Clone, Debug)]
    struct Operand {
        shape: Vec<usize>,
        strides: Strides,
        start: usize,
        buffer: Vec<i32>,
    }

    impl Operand {
        /// An operand whose axes have these strides, in a buffer that it just fits in.
        fn new(shape: &[usize], strides: &[isize], seed: i32) -> Self {
            let reach = |wanted: fn(isize) -> bool| -> isize {
                let reaches =
                    shape.iter().zip(strides).map(|(&size, &step)| (size as isize - 1) * step);
                reaches.filter(|&reach| wanted(reach)).sum()
            };
            let (low, high) = (reach(|reach| reach < 0), reach(|reach| reach > 0));
            let buffer = (0..(high - low + 1) as i32).map(|i| i * seed).collect();
            let (shape, strides) = (shape.to_vec(), Strides::from_slice(strides));
            Operand { shape, strides, start: -low as usize, buffer }
        }

        /// The element that belongs to an index of the result.
        fn at(&self, index: &[usize]) -> i32 {
            let index = &index[index.len() - self.shape.len()..];
            let axes = self.shape.iter().zip(&self.strides).zip(index);
            let distance: isize =
                axes.map(|((&size, step), &i)| if size == 1 { 0 } else { step * i as isize }).sum();
            self.buffer[(self.start as isize + distance) as usize]
        }

        fn tensor(&self) -> TensorRef<'_> {
            TensorRef {
                element: ElementType::Int32,
                storage: Storage::I32,
                shape: &self.shape,
                strides: Some(&self.strides),
                start: self.start,
                bytes: bytemuck::cast_slice(&self.buffer),
            }
        }
    }

    fn naive(x: &Operand, y: &Operand, result: &[usize]) -> Vec<i32> {
        (0..result.iter().product())
            .map(|mut number| {
                let mut index = vec![0; result.len()];
                for (i, &size) in index.iter_mut().zip(result).rev() {
                    (*i, number) = (number % size, number / size);
                }
                x.at(&index) * 1000 - y.at(&index)
            })
            .collect()
    }

    fn walk(x: &Operand, y: &Operand, result: &[usize]) -> Walk<2> {
        Walk::new([(&x.shape, &x.strides), (&y.shape, &y.strides)], result)
    }

    /// Strides of one kind: dense, transposed, backwards, with gaps or all the same element.
    fn strides(shape: &[usize], kind: usize) -> Vec<isize> {
        let dense: Vec<isize> = row_major(shape).iter().map(|&step| step as isize).collect();
        let backwards: Vec<usize> = shape.iter().rev().copied().collect();
        match kind {
            0 => dense,
            1 => row_major(&backwards).iter().rev().map(|&step| step as isize).collect(),
            2 => dense.iter().map(|step| -step).collect(),
            3 => dense.iter().map(|step| 3 * step).collect(),
            _ => dense.iter().map(|_| 0).collect(),
        }
    }

    proptest! {
        #[test]
        fn walks_agree_with_indexing(
            axes in prop::collection::vec((1usize..4, any::<bool>(), any::<bool>()), 0..5),
            cuts in [0usize..5, 0usize..5],
            kinds in [0usize..5, 0usize..5],
        ) {
            let full_x: Vec<usize> = axes.iter().map(|a| if a.1 { 1 } else { a.0 }).collect();
            let full_y: Vec<usize> = axes.iter().map(|a| if a.2 { 1 } else { a.0 }).collect();
            let xs = &full_x[cuts[0].min(axes.len())..];
            let ys = &full_y[cuts[1].min(axes.len())..];
            let result = broadcast(xs, ys).unwrap();
            let x = Operand::new(xs, &strides(xs, kinds[0]), 1);
            let y = Operand::new(ys, &strides(ys, kinds[1]), 7);
            let expected = naive(&x, &y, &result);
            let mut out = vec![0; expected.len()];
            let function = |x: i32, y: i32| x * 1000 - y;
            let tensors = [&x.tensor(), &y.tensor()];
            walk(&x, &y, &result).zip(tensors, &mut out, function).unwrap();
            prop_assert_eq!(&out, &expected);
            let in_place = Operand::new(&result, &strides(&result, 0), 1);
            let expected = naive(&in_place, &y, &result);
            let mut out = in_place.buffer.clone();
            walk(&in_place, &y, &result).zip_in_place(&mut out, &y.tensor(), function).unwrap();
            prop_assert_eq!(&out, &expected);
        }
    }

    #[test]
    fn positions_outside_a_buffer_are_an_error() {
        let (x, y) = (Operand::new(&[3], &[2], 1), Operand::new(&[3], &[-1], 1));
        let walk = walk(&x, &y, &[3]);
        let add = |x: &Operand, y: &Operand, out: &mut [i32]| {
            walk.zip([&x.tensor(), &y.tensor()], out, |x: i32, y: i32| x + y)
        };
        assert!(add(&x, &y, &mut [0; 3]).is_ok());
        assert!(add(&x, &y, &mut [0; 2]).is_err());
        assert!(add(&Operand { buffer: vec![0; 4], ..x.clone() }, &y, &mut [0; 3]).is_err());
        assert!(add(&x, &Operand { start: 1, ..y.clone() }, &mut [0; 3]).is_err());
        assert!(add(&x, &Operand { start: 3, ..y.clone() }, &mut [0; 3]).is_err());
    }
}
