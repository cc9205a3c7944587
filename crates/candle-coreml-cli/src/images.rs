//! Images as inputs: from files and arrays, with the pixels and the size that a model takes.

use anyhow::{Result, bail};
use candle_coreml::description::{ColorSpace, ImageType};
use candle_coreml::image::guess_format;
use candle_coreml::{Image, Pixels, Resize, ResizeFilter};
use half::f16;

use crate::array::{Array, DType, Elements, Number};

/// What to do with an image of a size that the model does not take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resizing {
    /// `None` for nothing.
    pub how: Option<Resize>,
    pub filter: ResizeFilter,
}

/// Whether the bytes of a file are an image by their beginning.
pub fn is_image(bytes: &[u8]) -> bool {
    guess_format(bytes).is_ok()
}

/// The image with the pixels that the model takes and, if that was asked for, the size.
pub fn fitted(image: &Image, ty: &ImageType, resizing: Resizing) -> Result<Image> {
    let (width, height) = (image.width(), image.height());
    let image = image.to_color_space(ty.color_space);
    if ty.allows(width, height) {
        return Ok(image.into_owned());
    }
    match resizing.how {
        Some(how) => Ok(image.resized(ty.width, ty.height, how, resizing.filter)?),
        None => bail!(
            "is {width} × {height} pixels, and the input takes {ty}; to make it {} × {}, add --resize fit \
             (all of it, between black edges), --resize fill (its middle) or --resize stretch",
            ty.width,
            ty.height
        ),
    }
}

/// The image of an array as Pillow gives it: `[height, width, 3]`, or `[height, width]` if it is gray.
pub fn from_array(array: &Array, kind: &str, color_space: ColorSpace) -> Result<Image> {
    if let (ColorSpace::GrayscaleFloat16, &[height, width]) = (color_space, &*array.shape) {
        let narrow = |number: Number| {
            let value = number.to_f64();
            (f16::from_f64(value).is_finite() || !value.is_finite()).then_some(value as f32)
        };
        let pixels = array.each(kind, "float16 (up to 65504)", narrow)?;
        return Ok(Image::from_gray_floats(width, height, pixels)?);
    }
    let byte = |number: Number| u8::try_from(number.to_integer()?).ok();
    let pixels = array.each(kind, "a pixel (0 to 255)", byte)?;
    match *array.shape {
        [height, width, 3] => Ok(Image::from_rgb(width, height, pixels)?),
        [height, width] => Ok(Image::from_gray(width, height, pixels)?),
        _ => bail!(
            "an image is an array [height, width, 3] or, if it is gray, [height, width], and not {:?}",
            array.shape
        ),
    }
}

/// The image as such an array.
pub fn to_array(image: &Image) -> Array {
    let elements = match image.pixels() {
        Pixels::GrayFloat(floats) => Elements::Singles(floats.clone()),
        Pixels::Gray(bytes) | Pixels::Rgb(bytes) => {
            Elements::Integers(bytes.iter().map(|&byte| byte.into()).collect())
        }
        _ => Elements::Integers(Vec::new()),
    };
    Array { dtype: dtype(image), shape: shape(image), elements }
}

/// The type of an image's pixels.
pub fn dtype(image: &Image) -> DType {
    match image.pixels() {
        Pixels::GrayFloat(_) => DType::Float16,
        _ => DType::UInt8,
    }
}

/// The shape of an image as an array.
pub fn shape(image: &Image) -> Vec<usize> {
    match image.channels() {
        1 => vec![image.height(), image.width()],
        channels => vec![image.height(), image.width(), channels],
    }
}
