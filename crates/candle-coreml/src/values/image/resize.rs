//! Images of other sizes.

use fast_image_resize::images::{Image as Pane, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::{Image, Pixels};
use crate::error::ValueError;

/// The most bytes of an image that is made, as the floats that a program takes: what the largest model
/// takes is far less.
const MOST_BYTES: usize = 1 << 30;

/// How an image of another shape becomes one of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resize {
    /// All of it, as large as there is room, in the middle of a black area; as `ImageOps.pad` of Pillow.
    Fit,
    /// As much of its middle as fills the size; as `ImageOps.fit` of Pillow.
    Fill,
    /// All of it, stretched in one direction if need be; as `Image.resize` of Pillow.
    Stretch,
}

/// How pixels between others are computed, as Pillow does it: with a support that grows where the image
/// is made smaller, so that all pixels count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResizeFilter {
    /// By a triangle: what torchvision's and Apple's preprocessing use unless told otherwise.
    #[default]
    Bilinear,
    /// By a cubic with a = −0.5: sharper.
    Bicubic,
}

impl Image {
    /// The image in another size.
    ///
    /// # Errors
    /// When it or the size has no pixels, or there are too many.
    pub fn resized(
        &self,
        width: usize,
        height: usize,
        how: Resize,
        filter: ResizeFilter,
    ) -> Result<Self, ValueError> {
        if self.pixels.len() == 0 || width == 0 || height == 0 {
            let expected = "sizes of images with pixels";
            let got = format!("{} x {} to {width} x {height}", self.width, self.height);
            return Err(ValueError::mismatch(expected, got));
        }
        let points = width.checked_mul(height);
        let room = points.and_then(|points| points.checked_mul(self.channels() * size_of::<f32>()));
        if room.is_none_or(|room| room > MOST_BYTES) {
            let expected = format!("a size of at most {MOST_BYTES} bytes as an array");
            return Err(ValueError::mismatch(expected, format!("{width} x {height} pixels")));
        }
        let filter = match filter {
            ResizeFilter::Bilinear => FilterType::Bilinear,
            ResizeFilter::Bicubic => FilterType::CatmullRom,
        };
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
        match how {
            Resize::Stretch => self.scaled(width, height, &options),
            Resize::Fill => self.scaled(width, height, &options.fit_into_destination(None)),
            Resize::Fit => {
                let (inner_width, inner_height) = self.contained(width, height);
                self.scaled(inner_width, inner_height, &options)?.padded(width, height)
            }
        }
    }

    /// The largest size within another that has the image's shape.
    fn contained(&self, width: usize, height: usize) -> (usize, usize) {
        let ratio = self.width as f64 / self.height as f64;
        let scaled = |size: f64, most: usize| (size.round_ties_even() as usize).clamp(1, most);
        match ratio > width as f64 / height as f64 {
            true => (width, scaled(width as f64 / ratio, height)),
            false => (scaled(height as f64 * ratio, width), height),
        }
    }

    fn scaled(
        &self,
        width: usize,
        height: usize,
        options: &ResizeOptions,
    ) -> Result<Self, ValueError> {
        if (width, height) == (self.width, self.height) {
            return Ok(self.clone());
        }
        let (kind, bytes): (_, &[u8]) = match &self.pixels {
            Pixels::Rgb(bytes) => (PixelType::U8x3, bytes),
            Pixels::Gray(bytes) => (PixelType::U8, bytes),
            Pixels::GrayFloat(floats) => (PixelType::F32, bytemuck::cast_slice(floats)),
        };
        let failed = |error: &dyn std::fmt::Display| {
            let wanted = format!("an image that can be made {width} x {height} pixels");
            ValueError::mismatch(wanted, format!("{} x {} ({error})", self.width, self.height))
        };
        let side = |size: usize| u32::try_from(size).map_err(|error| failed(&error));
        let from = ImageRef::new(side(self.width)?, side(self.height)?, bytes, kind);
        let from = from.map_err(|error| failed(&error))?;
        let mut to = Pane::new(side(width)?, side(height)?, kind);
        Resizer::new().resize(&from, &mut to, options).map_err(|error| failed(&error))?;
        let bytes = to.into_vec();
        match &self.pixels {
            Pixels::Rgb(_) => Self::from_rgb(width, height, bytes),
            Pixels::Gray(_) => Self::from_gray(width, height, bytes),
            Pixels::GrayFloat(_) => {
                let floats = bytes.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes));
                Self::from_gray_floats(width, height, floats.collect())
            }
        }
    }

    /// The image in the middle of a black area that is at least as large.
    fn padded(self, width: usize, height: usize) -> Result<Self, ValueError> {
        let half = |room: usize| (room as f64 / 2.0).round_ties_even() as usize;
        let (left, top) = (half(width - self.width), half(height - self.height));
        let channels = self.channels();
        let rows =
            Rows { from: self.width * channels, to: width * channels, first: left * channels };
        match self.pixels {
            Pixels::Rgb(bytes) => Self::from_rgb(width, height, rows.placed(&bytes, top, height)),
            Pixels::Gray(bytes) => Self::from_gray(width, height, rows.placed(&bytes, top, height)),
            Pixels::GrayFloat(floats) => {
                Self::from_gray_floats(width, height, rows.placed(&floats, top, height))
            }
        }
    }
}

/// Numbers of the rows of an image and of a larger one around it, and where its rows begin there.
struct Rows {
    from: usize,
    to: usize,
    first: usize,
}

impl Rows {
    fn placed<T: Copy + Default>(&self, pixels: &[T], top: usize, height: usize) -> Vec<T> {
        let mut all = vec![T::default(); self.to * height];
        let rows = all.chunks_exact_mut(self.to).skip(top);
        for (to, from) in rows.zip(pixels.chunks_exact(self.from)) {
            to[self.first..self.first + self.from].copy_from_slice(from);
        }
        all
    }
}
