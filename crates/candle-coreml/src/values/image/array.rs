//! Images as the multi-arrays that programs see, and back.

use coreml_format::description::ColorSpace;

use super::{Image, Pixels, to_byte};
use crate::error::ValueError;

impl Image {
    /// The shape of the multi-array that a program sees the image as: `[1, channels, height, width]`.
    pub(crate) fn shape(&self) -> [usize; 4] {
        [1, self.channels(), self.height, self.width]
    }

    /// Writes the image as such an array: values from 0 to 255, or the floats that it has; channels in
    /// the order of the color space.
    pub(crate) fn write(&self, color_space: ColorSpace, to: &mut [f32]) {
        let points = self.width * self.height;
        match &self.pixels {
            Pixels::GrayFloat(floats) => to.copy_from_slice(floats),
            Pixels::Gray(bytes) => {
                to.iter_mut().zip(bytes).for_each(|(to, &byte)| *to = byte.into());
            }
            Pixels::Rgb(_) if points == 0 => {}
            Pixels::Rgb(bytes) => {
                for (channel, plane) in to.chunks_exact_mut(points).enumerate() {
                    let byte = byte_of(channel, color_space);
                    let pixels = bytes.as_chunks::<3>().0;
                    plane.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = pixel[byte].into());
                }
            }
        }
    }

    /// The image that such an array holds. Where pixels are bytes, values are rounded, and those outside
    /// of 0 to 255 become these.
    pub(crate) fn read(
        color_space: ColorSpace,
        shape: &[usize],
        values: Vec<f32>,
    ) -> Result<Self, ValueError> {
        let channels = color_space.channels();
        let (height, width) = match *shape {
            [1, count, height, width] if count == channels => (height, width),
            _ => {
                let expected = format!("an array [1, {channels}, height, width] for an image");
                return Err(ValueError::mismatch(expected, format!("shape {shape:?}")));
            }
        };
        match color_space {
            ColorSpace::GrayscaleFloat16 => Self::from_gray_floats(width, height, values),
            ColorSpace::Grayscale => {
                Self::from_gray(width, height, values.into_iter().map(to_byte).collect())
            }
            _ => {
                let mut pixels = vec![0; values.len()];
                let points = values.len() / channels;
                for (point, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                    for (channel, plane) in values.chunks_exact(points).enumerate() {
                        pixel[byte_of(channel, color_space)] = to_byte(plane[point]);
                    }
                }
                Self::from_rgb(width, height, pixels)
            }
        }
    }
}

/// Which byte of a pixel is a channel of the array.
fn byte_of(channel: usize, color_space: ColorSpace) -> usize {
    if color_space == ColorSpace::Bgr { 2 - channel } else { channel }
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
            assert_eq!(Image::read(space, &[1, 3, 1, 2], values.to_vec()).unwrap(), image());
        }
    }

    #[test]
    fn values_beyond_bytes_are_cut_but_floats_stay() {
        let values = vec![-3.0, 0.4, 0.6, 254.6, 300.0, f32::NAN];
        let shape = [1, 1, 2, 3];
        let image = Image::read(ColorSpace::Grayscale, &shape, values.clone()).unwrap();
        assert_eq!(*image.pixels(), Pixels::Gray(vec![0, 0, 1, 255, 255, 0]));
        assert!(Image::read(ColorSpace::Rgb, &shape, values).is_err());
        let floats = vec![-3.0, 0.5, 1000.0];
        let image =
            Image::read(ColorSpace::GrayscaleFloat16, &[1, 1, 3, 1], floats.clone()).unwrap();
        let mut written = [0.0; 3];
        image.write(ColorSpace::GrayscaleFloat16, &mut written);
        assert_eq!(written, *floats);
        assert_eq!(image.shape(), [1, 1, 3, 1]);
    }

    #[test]
    fn images_without_pixels_are_arrays_without_elements() {
        for shape in [[1, 3, 0, 4], [1, 3, 4, 0]] {
            let image = Image::read(ColorSpace::Rgb, &shape, vec![]).unwrap();
            assert_eq!(image.shape(), shape);
            image.write(ColorSpace::Rgb, &mut []);
        }
    }
}
