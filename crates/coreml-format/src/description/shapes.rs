//! The shapes that arrays and the sizes that images may have.

use std::fmt;

use serde::Serialize;

use super::display::range_text;
use super::{ArrayElementType, ColorSpace, ImageType, MultiArrayType};

/// The shapes that a multi-array may take.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub enum ShapeFlexibility {
    /// The stated shape only.
    Fixed,
    /// These shapes.
    Enumerated(Vec<Vec<usize>>),
    /// For each dimension the smallest and the largest size, both included; no largest when
    /// unbounded.
    Ranges(Vec<(usize, Option<usize>)>),
}

/// The sizes that an image may take.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub enum ImageFlexibility {
    /// The stated size only.
    Fixed,
    /// These sizes: width, height.
    Enumerated(Vec<(usize, usize)>),
    /// Smallest and largest width and height, in pixels; no largest when unbounded.
    Ranges {
        /// Of the width.
        width: (usize, Option<usize>),
        /// Of the height.
        height: (usize, Option<usize>),
    },
}

/// Why an array of a shape may not be given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShapeMismatch {
    /// It has more or fewer dimensions.
    Rank {
        /// How many there have to be.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// The size of a dimension is too small or too large.
    OutOfRange {
        /// The dimension, from 0.
        dimension: usize,
        /// Its size.
        size: usize,
        /// The smallest and the largest size, both included; no largest when unbounded.
        allowed: (usize, Option<usize>),
    },
    /// It is none of the shapes that are listed.
    NotEnumerated {
        /// The shape.
        shape: Vec<usize>,
        /// Those that are listed.
        allowed: Vec<Vec<usize>>,
    },
}

impl fmt::Display for ShapeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShapeMismatch::Rank { expected, got } => {
                write!(f, "there are {got} dimensions instead of {expected}")
            }
            ShapeMismatch::OutOfRange { dimension, size, allowed } => {
                let allowed = range_text(*allowed);
                write!(f, "size {size} of dimension {dimension} is not {allowed}")
            }
            ShapeMismatch::NotEnumerated { .. } => f.write_str("it is none of those listed"),
        }
    }
}

impl MultiArrayType {
    /// Whether an array of this shape may be given. A type that states no shape takes any.
    pub fn allows(&self, shape: &[usize]) -> bool {
        self.mismatch(shape).is_none()
    }

    /// Why an array of this shape may not be given, if so.
    pub fn mismatch(&self, shape: &[usize]) -> Option<ShapeMismatch> {
        match &self.flexibility {
            ShapeFlexibility::Fixed if self.shape.is_empty() => None,
            ShapeFlexibility::Fixed => {
                let only = self.shape.iter().map(|&size| (size, Some(size)));
                first_mismatch(only, shape)
            }
            ShapeFlexibility::Enumerated(allowed) => {
                let listed = allowed.iter().any(|allowed| allowed == shape);
                (!listed).then(|| ShapeMismatch::NotEnumerated {
                    shape: shape.to_vec(),
                    allowed: allowed.clone(),
                })
            }
            ShapeFlexibility::Ranges(ranges) => first_mismatch(ranges.iter().copied(), shape),
        }
    }
}

/// The first size that is out of its range.
fn first_mismatch(
    ranges: impl ExactSizeIterator<Item = (usize, Option<usize>)>,
    shape: &[usize],
) -> Option<ShapeMismatch> {
    if ranges.len() != shape.len() {
        return Some(ShapeMismatch::Rank { expected: ranges.len(), got: shape.len() });
    }
    ranges.zip(shape).enumerate().find_map(|(dimension, (allowed, &size))| {
        let out = || ShapeMismatch::OutOfRange { dimension, size, allowed };
        (!in_range(allowed, size)).then(out)
    })
}

fn in_range((smallest, largest): (usize, Option<usize>), size: usize) -> bool {
    size >= smallest && largest.is_none_or(|largest| size <= largest)
}

impl ColorSpace {
    /// Numbers of a pixel.
    pub fn channels(self) -> usize {
        match self {
            ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16 => 1,
            ColorSpace::Rgb | ColorSpace::Bgr => 3,
        }
    }
}

impl ImageType {
    /// Whether an image of this size may be given.
    pub fn allows(&self, width: usize, height: usize) -> bool {
        match &self.flexibility {
            ImageFlexibility::Fixed => (self.width, self.height) == (width, height),
            ImageFlexibility::Enumerated(sizes) => sizes.contains(&(width, height)),
            ImageFlexibility::Ranges { width: widths, height: heights } => {
                in_range(*widths, width) && in_range(*heights, height)
            }
        }
    }

    /// The arrays `[1, channels, height, width]` that a program takes such images as.
    pub fn as_arrays(&self, element: ArrayElementType) -> MultiArrayType {
        let channels = self.color_space.channels();
        let shape = |width, height| vec![1, channels, height, width];
        let only = |size| (size, Some(size));
        let flexibility = match &self.flexibility {
            ImageFlexibility::Fixed => ShapeFlexibility::Fixed,
            ImageFlexibility::Enumerated(sizes) => ShapeFlexibility::Enumerated(
                sizes.iter().map(|&(width, height)| shape(width, height)).collect(),
            ),
            &ImageFlexibility::Ranges { width, height } => {
                ShapeFlexibility::Ranges(vec![only(1), only(channels), height, width])
            }
        };
        MultiArrayType {
            flexibility,
            ..MultiArrayType::new(element, shape(self.width, self.height))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(shape: &[usize], flexibility: ShapeFlexibility) -> MultiArrayType {
        let mut ty = MultiArrayType::new(ArrayElementType::Float32, shape);
        ty.flexibility = flexibility;
        ty
    }

    #[test]
    fn allows_follows_the_flexibility() {
        let fixed = array(&[1, 2], ShapeFlexibility::Fixed);
        assert!(fixed.allows(&[1, 2]) && !fixed.allows(&[2, 1]) && !fixed.allows(&[1]));
        assert!(array(&[], ShapeFlexibility::Fixed).allows(&[7, 7]));

        let listed = array(&[1, 1], ShapeFlexibility::Enumerated(vec![vec![1, 1], vec![1, 64]]));
        assert!(listed.allows(&[1, 64]) && !listed.allows(&[1, 2]));

        let ranges = array(&[1, 2], ShapeFlexibility::Ranges(vec![(1, Some(1)), (2, None)]));
        assert!(ranges.allows(&[1, 4000]) && !ranges.allows(&[2, 2]) && !ranges.allows(&[1, 1]));
        assert!(!ranges.allows(&[1]));
    }

    #[test]
    fn a_mismatch_says_which_size_is_wrong() {
        let ranges = array(&[3, 2], ShapeFlexibility::Ranges(vec![(3, Some(5)), (2, None)]));
        let mismatch = |shape: &[usize]| ranges.mismatch(shape).unwrap();
        assert_eq!(
            mismatch(&[99, 2]),
            ShapeMismatch::OutOfRange { dimension: 0, size: 99, allowed: (3, Some(5)) }
        );
        assert_eq!(mismatch(&[99, 2]).to_string(), "size 99 of dimension 0 is not 3...5");
        assert_eq!(mismatch(&[3, 1]).to_string(), "size 1 of dimension 1 is not 2...");
        assert_eq!(mismatch(&[3]), ShapeMismatch::Rank { expected: 2, got: 1 });
        let listed = array(&[1], ShapeFlexibility::Enumerated(vec![vec![1], vec![4]]));
        let expected =
            ShapeMismatch::NotEnumerated { shape: vec![2], allowed: vec![vec![1], vec![4]] };
        assert_eq!(listed.mismatch(&[2]), Some(expected));
    }

    #[test]
    fn images_are_arrays_with_the_height_first() {
        let mut image = ImageType::new(20, 10, ColorSpace::Bgr);
        let arrays = |image: &ImageType| image.as_arrays(ArrayElementType::Float16);
        assert_eq!(arrays(&image).to_string(), "Float16 [1, 3, 10, 20]");
        image.flexibility = ImageFlexibility::Enumerated(vec![(20, 10), (4, 3)]);
        assert!(arrays(&image).allows(&[1, 3, 3, 4]) && !arrays(&image).allows(&[1, 3, 4, 3]));
        image.color_space = ColorSpace::Grayscale;
        image.flexibility = ImageFlexibility::Ranges { width: (5, Some(30)), height: (1, None) };
        assert!(image.allows(30, 1000) && arrays(&image).allows(&[1, 1, 1000, 30]));
        assert!(!image.allows(31, 10) && !arrays(&image).allows(&[1, 1, 10, 31]));
    }
}
