//! Images as rows of pixels.

use coreml_format::description::{ColorSpace, ImageType};

use crate::error::ValueError;

/// An image of 8-bit pixels, row by row from the top, without gaps: one byte a pixel where it is gray,
/// else red, green and blue.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    gray: bool,
    pixels: Vec<u8>,
}

impl Image {
    /// An image of three bytes a pixel: red, green, blue.
    ///
    /// # Errors
    /// When there are not `3 · width · height` bytes.
    pub fn from_rgb(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self, ValueError> {
        Self::new(width, height, false, pixels)
    }

    /// An image of one byte a pixel.
    ///
    /// # Errors
    /// When there are not `width · height` bytes.
    pub fn from_gray(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self, ValueError> {
        Self::new(width, height, true, pixels)
    }

    fn new(width: usize, height: usize, gray: bool, pixels: Vec<u8>) -> Result<Self, ValueError> {
        let channels = if gray { 1 } else { 3 };
        let size = width.checked_mul(height).and_then(|points| points.checked_mul(channels));
        if size != Some(pixels.len()) {
            let expected = format!("{channels} bytes for each of {width} x {height} pixels");
            return Err(ValueError::mismatch(expected, format!("{} bytes", pixels.len())));
        }
        Ok(Image { width, height, gray, pixels })
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Whether there is one byte a pixel, not three.
    pub fn is_gray(&self) -> bool {
        self.gray
    }

    /// The pixels, row by row.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Fails unless an input of this type takes the image as it is.
    pub(crate) fn check(&self, ty: &ImageType) -> Result<(), ValueError> {
        let gray = channels(ty.color_space) == 1;
        if gray == self.gray && ty.allows(self.width, self.height) {
            return Ok(());
        }
        let words = |gray: bool| if gray { "gray" } else { "RGB" };
        let expected = format!(
            "a {} image of {} x {} pixels, or another size that the model allows",
            words(gray),
            ty.width,
            ty.height
        );
        let got = format!("a {} one of {} x {}", words(self.gray), self.width, self.height);
        Err(ValueError::mismatch(expected, got))
    }

    /// The shape of the multi-array that a program sees the image as: `[1, channels, height, width]`.
    pub(crate) fn shape(&self) -> [usize; 4] {
        [1, if self.gray { 1 } else { 3 }, self.height, self.width]
    }

    /// Writes the image as such an array: values from 0 to 255, channels in the order of the color
    /// space.
    pub(crate) fn write(&self, color_space: ColorSpace, to: &mut [f32]) {
        let points = self.width * self.height;
        if points == 0 {
            return;
        }
        let channels = self.shape()[1];
        for (channel, plane) in to.chunks_exact_mut(points).enumerate() {
            let byte = if color_space == ColorSpace::Bgr { 2 - channel } else { channel };
            let pixels = self.pixels.chunks_exact(channels);
            plane.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = pixel[byte].into());
        }
    }

    /// The image that such an array holds. Values are rounded, and those outside of 0 to 255 become
    /// these.
    pub(crate) fn read(
        color_space: ColorSpace,
        shape: &[usize],
        values: &[f32],
    ) -> Result<Self, ValueError> {
        let channels = channels(color_space);
        let (height, width) = match *shape {
            [1, count, height, width] if count == channels => (height, width),
            _ => {
                let expected = format!("an array [1, {channels}, height, width] for an image");
                return Err(ValueError::mismatch(expected, format!("shape {shape:?}")));
            }
        };
        let points = width * height;
        let mut pixels = vec![0; points * channels];
        for (point, pixel) in pixels.chunks_exact_mut(channels).enumerate() {
            for (byte, to) in pixel.iter_mut().enumerate() {
                let channel = if color_space == ColorSpace::Bgr { 2 - byte } else { byte };
                // A cast of a float saturates, and makes zero of NaN.
                *to = values[channel * points + point].round() as u8;
            }
        }
        Self::new(width, height, channels == 1, pixels)
    }
}

fn channels(color_space: ColorSpace) -> usize {
    match color_space {
        ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16 => 1,
        _ => 3,
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image")
            .field("width", &self.width)
            .field("height", &self.height)
            .field("gray", &self.gray)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pixels beside each other, red-ish and blue-ish.
    fn image() -> Image {
        Image::from_rgb(2, 1, vec![200, 10, 20, 30, 40, 250]).unwrap()
    }

    #[test]
    fn channels_come_in_the_order_of_the_color_space() {
        let mut rgb = [0.0; 6];
        image().write(ColorSpace::Rgb, &mut rgb);
        assert_eq!(rgb, [200.0, 30.0, 10.0, 40.0, 20.0, 250.0]);
        let mut bgr = [0.0; 6];
        image().write(ColorSpace::Bgr, &mut bgr);
        assert_eq!(bgr, [20.0, 250.0, 10.0, 40.0, 200.0, 30.0]);
        for (space, values) in [(ColorSpace::Rgb, rgb), (ColorSpace::Bgr, bgr)] {
            assert_eq!(Image::read(space, &[1, 3, 1, 2], &values).unwrap(), image());
        }
    }

    #[test]
    fn values_beyond_bytes_are_cut() {
        let values = [-3.0, 0.4, 0.6, 254.6, 300.0, f32::NAN];
        let image = Image::read(ColorSpace::Grayscale, &[1, 1, 2, 3], &values).unwrap();
        assert_eq!(image.pixels(), [0, 0, 1, 255, 255, 0]);
        assert!(Image::read(ColorSpace::Rgb, &[1, 1, 2, 3], &values).is_err());
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Image::from_rgb(2, 2, vec![0; 11]).is_err());
        assert!(Image::from_gray(usize::MAX, 2, vec![]).is_err());
    }
}
