//! Images as rows of pixels.

mod array;
#[cfg(feature = "image")]
mod files;
mod raw;
#[cfg(feature = "image")]
mod resize;

use std::borrow::Cow;

use coreml_format::description::{ColorSpace, ImageType};
use half::f16;

pub use self::raw::RawPixels;
#[cfg(feature = "image")]
pub use self::resize::{Resize, ResizeFilter};
use crate::error::ValueError;

/// An image: pixels row by row from the top, without gaps.
#[derive(Clone, PartialEq)]
pub struct Image {
    width: usize,
    height: usize,
    pixels: Pixels,
}

/// Pixels of an image.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Pixels {
    /// Three bytes a pixel: red, green, blue.
    Rgb(Vec<u8>),
    /// One byte a pixel.
    Gray(Vec<u8>),
    /// One float a pixel, a half-precision number: what models take whose images are `GRAYSCALE_FLOAT16`.
    /// Whatever 0 and 1, or 0 and 255, mean to the model.
    GrayFloat(Vec<f32>),
}

impl Image {
    /// An image of three bytes a pixel: red, green, blue.
    ///
    /// # Errors
    /// When there are not `3 · width · height` bytes.
    pub fn from_rgb(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self, ValueError> {
        Self::new(width, height, Pixels::Rgb(pixels))
    }

    /// An image of one byte a pixel.
    ///
    /// # Errors
    /// When there are not `width · height` bytes.
    pub fn from_gray(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self, ValueError> {
        Self::new(width, height, Pixels::Gray(pixels))
    }

    /// An image of one float a pixel, which is rounded to half precision, as Core ML's pixels of this kind
    /// are.
    ///
    /// # Errors
    /// When there are not `width · height` floats.
    pub fn from_gray_floats(
        width: usize,
        height: usize,
        mut pixels: Vec<f32>,
    ) -> Result<Self, ValueError> {
        pixels.iter_mut().for_each(|pixel| *pixel = f16::from_f32(*pixel).to_f32());
        Self::new(width, height, Pixels::GrayFloat(pixels))
    }

    fn new(width: usize, height: usize, pixels: Pixels) -> Result<Self, ValueError> {
        let image = Image { width, height, pixels };
        let points = width.checked_mul(height);
        let numbers = points.and_then(|points| points.checked_mul(image.channels()));
        if numbers == Some(image.pixels.len()) {
            return Ok(image);
        }
        let expected =
            format!("{} numbers for each of {width} x {height} pixels", image.channels());
        Err(ValueError::mismatch(expected, format!("{} numbers", image.pixels.len())))
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, row by row.
    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }

    /// Numbers of a pixel: 1 or 3.
    pub fn channels(&self) -> usize {
        match self.pixels {
            Pixels::Rgb(_) => 3,
            Pixels::Gray(_) | Pixels::GrayFloat(_) => 1,
        }
    }

    /// The image with the kind of pixels that a color space has. Colours become gray by their luma, as in
    /// Pillow and ITU-R BT.601: `0.299 · red + 0.587 · green + 0.114 · blue`. Bytes become floats from 0 to
    /// 255; floats are rounded to bytes, those beyond to 0 or 255, NaN to 0.
    pub fn to_color_space(&self, color_space: ColorSpace) -> Cow<'_, Image> {
        use Pixels::{Gray, GrayFloat, Rgb};
        if self.is_of(color_space) {
            return Cow::Borrowed(self);
        }
        let pixels = match (color_space.channels(), &self.pixels) {
            (3, Gray(gray)) => Rgb(gray.iter().flat_map(|&gray| [gray; 3]).collect()),
            (3, GrayFloat(gray)) => Rgb(gray.iter().flat_map(|&gray| [to_byte(gray); 3]).collect()),
            (_, GrayFloat(gray)) => Gray(gray.iter().map(|&gray| to_byte(gray)).collect()),
            (_, Gray(gray)) => GrayFloat(gray.iter().map(|&gray| gray.into()).collect()),
            (_, Rgb(rgb)) if color_space == ColorSpace::GrayscaleFloat16 => {
                GrayFloat(rgb.as_chunks().0.iter().map(luma_as_float).collect())
            }
            (_, Rgb(rgb)) => Gray(rgb.as_chunks().0.iter().map(luma).collect()),
        };
        Cow::Owned(Image { pixels, ..*self })
    }

    /// Whether a color space has the kind of pixels that the image has.
    fn is_of(&self, color_space: ColorSpace) -> bool {
        match self.pixels {
            Pixels::Rgb(_) => color_space.channels() == 3,
            Pixels::Gray(_) => color_space == ColorSpace::Grayscale,
            Pixels::GrayFloat(_) => color_space == ColorSpace::GrayscaleFloat16,
        }
    }

    /// Fails unless an input of this type takes the image as it is.
    pub(crate) fn check(&self, ty: &ImageType) -> Result<(), ValueError> {
        if !self.is_of(ty.color_space) {
            let got = self.pixels.in_words();
            return Err(ValueError::ImageColors { expected: ty.color_space, got });
        }
        if !ty.allows(self.width, self.height) {
            let (width, height) = (self.width, self.height);
            return Err(ValueError::ImageSize { expected: Box::new(ty.clone()), width, height });
        }
        Ok(())
    }
}

impl Pixels {
    fn len(&self) -> usize {
        match self {
            Pixels::Rgb(bytes) | Pixels::Gray(bytes) => bytes.len(),
            Pixels::GrayFloat(floats) => floats.len(),
        }
    }

    fn in_words(&self) -> &'static str {
        match self {
            Pixels::Rgb(_) => "RGB",
            Pixels::Gray(_) => "gray bytes",
            Pixels::GrayFloat(_) => "gray floats",
        }
    }
}

/// The luma of a pixel, in the fixed-point numbers of Pillow.
fn luma(pixel: &[u8; 3]) -> u8 {
    let [red, green, blue] = pixel.map(u32::from);
    ((19595 * red + 38470 * green + 7471 * blue + (1 << 15)) >> 16) as u8
}

/// The luma of a pixel from 0 to 255, of half precision.
fn luma_as_float(pixel: &[u8; 3]) -> f32 {
    let [red, green, blue] = pixel.map(f32::from);
    f16::from_f32((299.0 * red + 587.0 * green + 114.0 * blue) / 1000.0).to_f32()
}

/// The nearest byte; 0 for NaN.
fn to_byte(value: f32) -> u8 {
    value.round() as u8
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image")
            .field("width", &self.width)
            .field("height", &self.height)
            .field("pixels", &self.pixels)
            .finish()
    }
}

/// What they are, and not each one.
impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.in_words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert!(Image::from_rgb(2, 2, vec![0; 11]).is_err());
        assert!(Image::from_gray(usize::MAX, 2, vec![]).is_err());
        assert!(Image::from_gray_floats(1, 2, vec![0.5]).is_err());
        assert!(Image::from_rgb(0, 7, vec![]).is_ok());
    }

    /// Expected values are Pillow's, of `convert("L")`.
    #[test]
    fn colours_become_gray_and_back() {
        let colours = vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 12, 200, 99, 255, 255, 255];
        let image = Image::from_rgb(5, 1, colours).unwrap();
        let gray = image.to_color_space(ColorSpace::Grayscale);
        assert_eq!(*gray.pixels(), Pixels::Gray(vec![76, 150, 29, 132, 255]));
        let floats = image.to_color_space(ColorSpace::GrayscaleFloat16);
        let lumas = [76.245, 149.685, 29.07, 132.274, 255.0];
        let lumas = lumas.map(|luma| f16::from_f32(luma).to_f32());
        assert_eq!(*floats.pixels(), Pixels::GrayFloat(lumas.into()));
        assert_eq!(floats.to_color_space(ColorSpace::Grayscale), gray);
        let whole = gray.to_color_space(ColorSpace::GrayscaleFloat16);
        assert_eq!(*whole.pixels(), Pixels::GrayFloat(vec![76.0, 150.0, 29.0, 132.0, 255.0]));
        let back = gray.to_color_space(ColorSpace::Bgr);
        assert_eq!(back, floats.to_color_space(ColorSpace::Rgb));
        let Pixels::Rgb(bytes) = back.pixels() else { panic!("{back:?}") };
        assert_eq!(bytes[..6], [76, 76, 76, 150, 150, 150]);
    }

    #[test]
    fn floats_are_of_half_precision_and_bytes_are_cut() {
        let values = vec![0.1, -3.0, 254.6, 300.0, f32::NAN, 1e9];
        let image = Image::from_gray_floats(6, 1, values).unwrap();
        let Pixels::GrayFloat(floats) = image.pixels() else { panic!("{image:?}") };
        assert_eq!(floats[0], f16::from_f32(0.1).to_f32());
        assert_eq!(floats[5], f32::INFINITY);
        let gray = image.to_color_space(ColorSpace::Grayscale);
        assert_eq!(*gray.pixels(), Pixels::Gray(vec![0, 0, 255, 255, 0, 255]));
    }
}
