//! Images of the `image` crate, and files that it reads.

use std::io::Cursor;
use std::path::Path;

use ::image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, Limits, RgbImage};
use coreml_format::description::ColorSpace;

use super::{Image, Pixels};
use crate::error::ValueError;
use crate::values::FeatureValue;

/// The most memory that the pixels of a file take: small files can claim to be large images.
const MOST_BYTES: u64 = 512 << 20;

/// The longest side of an image in a file, in pixels.
const LONGEST_SIDE: u32 = 1 << 16;

impl Image {
    /// The image in a file: PNG, JPEG, WebP, BMP, GIF or TIFF, as its content tells. As [`decode`](Self::decode).
    ///
    /// # Errors
    /// When the file can't be read, or as for `decode`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ValueError> {
        let bytes =
            std::fs::read(path).map_err(|error| ValueError::Image(Box::new(error.into())))?;
        Self::decode(&bytes)
    }

    /// The image in a file's bytes: PNG, JPEG, WebP, BMP, GIF or TIFF. It is turned as its Exif data say;
    /// of an animation it is the first picture; 16 bits a colour are rounded to 8, and CMYK becomes RGB.
    /// Transparency is ignored: colours are taken as they are, as by Core ML and by `convert("RGB")` of
    /// Pillow. Colour profiles are ignored, too.
    ///
    /// # Errors
    /// When it is no such file, is damaged, or would take more than 512 MiB of memory.
    pub fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        let failed = |error| ValueError::Image(Box::new(error));
        let mut limits = Limits::default();
        limits.max_alloc = Some(MOST_BYTES);
        limits.max_image_width = Some(LONGEST_SIDE);
        limits.max_image_height = Some(LONGEST_SIDE);
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        let mut reader = reader.map_err(|error| failed(error.into()))?;
        reader.limits(limits.clone());
        let mut decoder = reader.into_decoder().map_err(failed)?;
        limits.reserve(decoder.total_bytes()).map_err(failed)?;
        let orientation = decoder.orientation().map_err(failed)?;
        let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
        image.apply_orientation(orientation);
        Ok(image.into())
    }
}

/// Gray images stay gray; others become RGB. 16 bits and floats from 0 to 1 become bytes. Transparency is
/// ignored.
impl From<DynamicImage> for Image {
    fn from(image: DynamicImage) -> Self {
        // Sizes of 32 bits that the system goes by: more than 32.
        let (width, height) = (image.width() as usize, image.height() as usize);
        let pixels = match image.color().has_color() {
            true => Pixels::Rgb(image.into_rgb8().into_raw()),
            false => Pixels::Gray(image.into_luma8().into_raw()),
        };
        Image { width, height, pixels }
    }
}

impl From<DynamicImage> for FeatureValue {
    fn from(image: DynamicImage) -> Self {
        Image::from(image).into()
    }
}

/// Floats are rounded to bytes, and cut to them.
impl TryFrom<Image> for DynamicImage {
    type Error = ValueError;

    fn try_from(image: Image) -> Result<Self, ValueError> {
        let image = match image.pixels {
            Pixels::GrayFloat(_) => image.to_color_space(ColorSpace::Grayscale).into_owned(),
            _ => image,
        };
        let size = u32::try_from(image.width).ok().zip(u32::try_from(image.height).ok());
        let made = size.and_then(|(width, height)| match image.pixels {
            Pixels::Rgb(bytes) => RgbImage::from_raw(width, height, bytes).map(DynamicImage::from),
            Pixels::Gray(bytes) => {
                GrayImage::from_raw(width, height, bytes).map(DynamicImage::from)
            }
            Pixels::GrayFloat(_) => None,
        });
        let got = format!("{} x {}", image.width, image.height);
        made.ok_or_else(|| ValueError::mismatch("an image of up to 2^32 - 1 pixels a side", got))
    }
}
