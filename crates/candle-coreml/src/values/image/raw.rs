//! Images from the memory of others.

use super::Image;
use crate::error::ValueError;

/// How pixels lie in memory: bytes of each, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RawPixels {
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, and a byte that is ignored.
    Rgba,
    /// Blue, green, red, and a byte that is ignored: the usual order of Core Video and of OpenCV.
    Bgra,
    /// Blue, green, red.
    Bgr,
    /// One byte.
    Gray,
}

impl RawPixels {
    /// Bytes of a pixel.
    pub fn size(self) -> usize {
        match self {
            RawPixels::Rgba | RawPixels::Bgra => 4,
            RawPixels::Rgb | RawPixels::Bgr => 3,
            RawPixels::Gray => 1,
        }
    }
}

impl Image {
    /// An image from pixels in memory, copied. A row begins `bytes_per_row` bytes behind the row above it;
    /// what lies between is skipped. Transparency is ignored, as by Core ML: colours are taken as they are.
    ///
    /// # Errors
    /// When rows are longer than that, or there are fewer bytes than the rows take.
    pub fn from_raw(
        pixels: RawPixels,
        width: usize,
        height: usize,
        bytes_per_row: usize,
        bytes: &[u8],
    ) -> Result<Self, ValueError> {
        let length = width.checked_mul(pixels.size()).filter(|&length| length <= bytes_per_row);
        // The last row may end with its last pixel.
        let needed = length.and_then(|length| {
            let Some(above) = height.checked_sub(1) else { return Some(0) };
            above.checked_mul(bytes_per_row)?.checked_add(length)
        });
        let (Some(length), true) = (length, needed.is_some_and(|needed| needed <= bytes.len()))
        else {
            let expected = format!(
                "{height} rows of {width} pixels, {} bytes each, in {bytes_per_row} bytes a row",
                pixels.size()
            );
            return Err(ValueError::mismatch(expected, format!("{} bytes", bytes.len())));
        };
        if length == 0 {
            let none = Vec::new();
            return match pixels {
                RawPixels::Gray => Self::from_gray(width, height, none),
                _ => Self::from_rgb(width, height, none),
            };
        }
        let rows = bytes.chunks(bytes_per_row).take(height).map(|row| &row[..length]);
        let colours = |order: [usize; 3]| {
            let pixels = rows.clone().flat_map(|row| row.chunks_exact(pixels.size()));
            pixels.flat_map(|pixel| order.map(|byte| pixel[byte])).collect()
        };
        match pixels {
            RawPixels::Gray => Self::from_gray(width, height, rows.collect::<Vec<_>>().concat()),
            RawPixels::Rgb | RawPixels::Rgba => Self::from_rgb(width, height, colours([0, 1, 2])),
            RawPixels::Bgr | RawPixels::Bgra => Self::from_rgb(width, height, colours([2, 1, 0])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pixels;
    use super::*;

    #[test]
    fn rows_may_have_gaps_and_pixels_any_order() {
        let expected = Image::from_rgb(2, 2, (1..=12).collect()).unwrap();
        let rgb = [1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 9, 10, 11, 12];
        let rgba = [1, 2, 3, 0, 4, 5, 6, 9, 7, 8, 9, 0, 10, 11, 12, 9];
        let bgra = [3, 2, 1, 0, 6, 5, 4, 9, 7, 9, 8, 7, 0, 12, 11, 10, 9];
        let bgr = [3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10, 0];
        let cases: [(_, _, &[u8]); 4] = [
            (RawPixels::Rgb, 8, &rgb),
            (RawPixels::Rgba, 8, &rgba),
            (RawPixels::Bgra, 9, &bgra),
            (RawPixels::Bgr, 6, &bgr),
        ];
        for (pixels, bytes_per_row, bytes) in cases {
            let image = Image::from_raw(pixels, 2, 2, bytes_per_row, bytes).unwrap();
            assert!(image == expected, "{pixels:?}");
        }
        let gray = Image::from_raw(RawPixels::Gray, 1, 3, 2, &[1, 0, 2, 0, 3]).unwrap();
        assert_eq!(*gray.pixels(), Pixels::Gray(vec![1, 2, 3]));
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let refused = |width, height, bytes_per_row, bytes| {
            Image::from_raw(RawPixels::Rgba, width, height, bytes_per_row, bytes).unwrap_err();
        };
        refused(2, 2, 8, &[0; 15]);
        refused(2, 1, 7, &[0; 16]);
        refused(usize::MAX, 1, usize::MAX, &[0; 16]);
        refused(1, usize::MAX, 4, &[0; 16]);
        for (width, height) in [(0, 5), (5, 0)] {
            let empty = Image::from_raw(RawPixels::Rgba, width, height, 20, &[0; 80]).unwrap();
            assert_eq!((empty.width(), empty.height()), (width, height));
        }
    }
}
