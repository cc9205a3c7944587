//! Boxes that overlap.

use bytemuck::{Pod, Zeroable};

use crate::error::KernelError;

const KERNEL: &str = "suppress";

/// A box by its corners.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Corners {
    left: f32,
    top: f32,
    right: f32,
    bottom: f32,
}

impl Corners {
    /// A box by its middle and its size.
    pub fn around(x: f32, y: f32, width: f32, height: f32) -> Self {
        let (half_width, half_height) = (0.5 * width.abs(), 0.5 * height.abs());
        Self {
            left: x - half_width,
            top: y - half_height,
            right: x + half_width,
            bottom: y + half_height,
        }
    }

    fn area(&self) -> f32 {
        (self.right - self.left) * (self.bottom - self.top)
    }

    /// Which part of their union two boxes share; none if one has no area.
    fn overlap(&self, other: &Self) -> f32 {
        let (area, others) = (self.area(), other.area());
        if !(area > 0.0 && others > 0.0) {
            return 0.0;
        }
        let width = (self.right.min(other.right) - self.left.max(other.left)).max(0.0);
        let height = (self.bottom.min(other.bottom) - self.top.max(other.top)).max(0.0);
        let shared = width * height;
        shared / (area + others - shared)
    }
}

/// When a box suppresses another one.
#[derive(Debug, Clone, Copy)]
pub struct Suppression<'a> {
    /// The largest overlap that is allowed.
    pub overlap: f32,
    /// The class of each box, if only those of one class suppress each other.
    pub classes: Option<&'a [u32]>,
}

/// Takes candidates in their order, but for those that one taken before suppresses, until there are no more
/// or `chosen` is full. Writes their indices there, and gives how many they are.
///
/// # Errors
/// If a candidate is no box, or there are not as many classes as boxes.
pub fn suppress(
    how: &Suppression,
    boxes: &[Corners],
    candidates: &[u32],
    chosen: &mut [u32],
) -> Result<usize, KernelError> {
    if let Some(wrong) = candidates.iter().find(|&&index| index as usize >= boxes.len()) {
        let expected = format!("below {}", boxes.len());
        return Err(KernelError::value(KERNEL, "candidates", expected, wrong));
    }
    if let Some(classes) = how.classes {
        crate::error::check_len(KERNEL, "classes", boxes.len(), classes.len())?;
    }
    let same_class = |a: u32, b: u32| {
        how.classes.is_none_or(|classes| classes[a as usize] == classes[b as usize])
    };
    let mut count = 0;
    for &candidate in candidates {
        if count == chosen.len() {
            break;
        }
        let suppressed = chosen[..count].iter().any(|&other| {
            same_class(candidate, other)
                && boxes[candidate as usize].overlap(&boxes[other as usize]) > how.overlap
        });
        if !suppressed {
            chosen[count] = candidate;
            count += 1;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(boxes: &[Corners], overlap: f32, classes: Option<&[u32]>, most: usize) -> Vec<u32> {
        let candidates: Vec<u32> = (0..boxes.len() as u32).collect();
        let mut chosen = vec![0; most];
        let count = suppress(&Suppression { overlap, classes }, boxes, &candidates, &mut chosen);
        chosen.truncate(count.unwrap());
        chosen
    }

    #[test]
    fn parts_of_the_union() {
        let one = Corners::around(1.0, 1.0, 2.0, 2.0);
        assert_eq!(one.overlap(&one), 1.0);
        // Half of each: 2 of 6.
        assert_eq!(one.overlap(&Corners::around(2.0, 1.0, 2.0, 2.0)), 2.0 / 6.0);
        assert_eq!(one.overlap(&Corners::around(2.0, 1.0, -2.0, -2.0)), 2.0 / 6.0);
        assert_eq!(one.overlap(&Corners::around(9.0, 9.0, 2.0, 2.0)), 0.0);
        assert_eq!(one.overlap(&Corners::around(1.0, 1.0, 0.0, 2.0)), 0.0);
        assert_eq!(one.overlap(&Corners::around(f32::NAN, 1.0, 2.0, 2.0)), 0.0);
    }

    #[test]
    fn those_that_overlap_go_unless_their_class_differs() {
        let boxes = [0.0, 1.0, 2.0, 9.0].map(|x| Corners::around(x, 0.0, 2.0, 2.0));
        assert_eq!(chosen(&boxes, 0.3, None, 9), [0, 2, 3]);
        // An overlap as large as the threshold stays.
        assert_eq!(chosen(&boxes, 2.0 / 6.0, None, 9), [0, 1, 2, 3]);
        assert_eq!(chosen(&boxes, 0.3, Some(&[0, 1, 1, 0]), 9), [0, 1, 3]);
        assert_eq!(chosen(&boxes, 0.3, None, 2), [0, 2]);
    }

    #[test]
    fn what_is_no_box_is_refused() {
        let boxes = [Corners::around(0.0, 0.0, 1.0, 1.0)];
        let how = Suppression { overlap: 0.5, classes: None };
        assert!(suppress(&how, &boxes, &[1], &mut [0; 2]).is_err());
        let few = Suppression { classes: Some(&[]), ..how };
        assert!(suppress(&few, &boxes, &[0], &mut [0; 2]).is_err());
    }
}
