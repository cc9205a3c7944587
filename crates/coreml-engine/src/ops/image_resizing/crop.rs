//! `crop`.

use smallvec::{SmallVec, smallvec};

use crate::error::OpError;
use crate::op::{Binder, Inputs, Op, bound};
use crate::ops::movement::{Moved, Movement};
use crate::value::{Shape, Strides, View};

/// A tensor without the first and the last elements of its last two axes.
#[derive(Clone, Debug)]
struct Crop {
    x: usize,
    /// How many go at the beginning and at the end of the height and of the width.
    crops: [[usize; 2]; 2],
}

impl Movement for Crop {
    fn x(&self) -> usize {
        self.x
    }

    fn moved(
        &self,
        _inputs: &Inputs,
        shape: &[usize],
        strides: &Strides,
    ) -> Result<SmallVec<[Moved; 1]>, OpError> {
        if shape.len() < 3 {
            let expected = "a tensor of rank 3 or more, of which the last two axes are cropped";
            return Err(OpError::argument("x", expected, format!("one of shape {shape:?}")));
        }
        let (mut result, mut start) = (Shape::from_slice(shape), 0isize);
        let first = shape.len() - 2;
        for ((axis, crop), name) in (first..).zip(self.crops).zip(["crop_height", "crop_width"]) {
            let left = crop[0].checked_add(crop[1]).and_then(|crop| shape[axis].checked_sub(crop));
            result[axis] = left.ok_or_else(|| {
                let expected = format!("at most {} elements, the axis' size", shape[axis]);
                OpError::argument(name, expected, format!("{crop:?}"))
            })?;
            // Within the axis, so that the place is one of the tensor's or just behind it.
            let step = isize::try_from(crop[0]).unwrap_or(isize::MAX);
            start = start.saturating_add(step.saturating_mul(strides[axis]));
        }
        let start = if result.contains(&0) { 0 } else { start };
        Ok(smallvec![Moved::view(result, View { start, strides: strides.clone() })])
    }
}

fn crops(binder: &Binder, name: &str) -> Result<[usize; 2], OpError> {
    let sizes = binder.shape(name)?;
    <[usize; 2]>::try_from(sizes.as_slice()).map_err(|_| {
        OpError::argument(name, "two sizes, before and after", format!("{:?}", sizes.as_slice()))
    })
}

/// Binds `crop`.
pub(super) fn crop(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    bound(Crop { x, crops: [crops(binder, "crop_height")?, crops(binder, "crop_width")?] })
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::Opset;

    use crate::op::testing::{Case, arange};

    fn case(shape: &[usize], height: &[i32], width: &[i32]) -> Case {
        let x: Vec<f32> = arange(shape).into_iter().map(|x| x as f32).collect();
        Case::new().floats("x", shape, &x).vector("crop_height", height).vector("crop_width", width)
    }

    #[test]
    fn nothing_may_be_left() {
        let none = case(&[1, 2, 3], &[1, 1], &[0, 2]).run_floats("crop", Opset::Ios15);
        assert_eq!(none, (vec![1, 0, 1], vec![]));
    }

    #[test]
    fn more_than_there_is_can_not_be_cropped() {
        for (shape, height, width, name) in [
            (&[1, 2, 3][..], &[2, 1][..], &[0, 0][..], "crop_height"),
            (&[1, 2, 3], &[0, 0], &[i32::MAX, i32::MAX], "crop_width"),
            (&[1, 2, 3], &[0], &[0, 0], "crop_height"),
            (&[1, 2, 3], &[0, 0], &[-1, 0], "crop_width"),
            (&[2, 3], &[0, 0], &[0, 0], "rank 3"),
        ] {
            let error = case(shape, height, width).run("crop", Opset::Ios15).err().unwrap();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
