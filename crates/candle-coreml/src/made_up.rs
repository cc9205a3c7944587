//! Values for inputs that none are given to: to check or compare a model that somebody else has made.

use candle_core::{DType, Device, Tensor};
use coreml_format::description::{
    ArrayElementType, ColorSpace, FeatureDescription, FeatureType, ImageType, MultiArrayType,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::error::{Error, Result, ValueError};
use crate::values::{FeatureValue, Image};

/// Elements that are made up at most.
const MOST: usize = 1 << 28;

/// A value that is made up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MadeUp {
    /// The value.
    pub value: FeatureValue,
    /// What it is, e.g. `random numbers from -1 to 1`.
    pub words: &'static str,
}

impl MadeUp {
    fn new(value: impl Into<FeatureValue>, words: &'static str) -> Self {
        MadeUp { value: value.into(), words }
    }
}

/// A value for an input, of its default shape: floats from -1 to 1, integers that are places in every
/// table, random pixels, and for a mask what hides nothing. It hangs on the input's name and type alone: the
/// same input gets the same value each time.
///
/// # Errors
/// When the input is a string, a dictionary or a sequence, or too large; the message says to give it a value.
pub fn make_up(feature: &FeatureDescription) -> Result<MadeUp> {
    let made_up = match &feature.ty {
        FeatureType::MultiArray(ty) => elements(&feature.name, ty),
        FeatureType::Image(ty) => pixels(&feature.name, ty),
        FeatureType::Int64 => Ok(MadeUp::new(0i64, "zero")),
        FeatureType::Double => Ok(MadeUp::new(0.5, "a half")),
        other => Err(asked_for(format!("a value of type {other}"))),
    };
    made_up.map_err(|source| Error::Input { name: feature.name.clone(), source })
}

/// The error of a value that can't be made up.
fn asked_for(what: String) -> ValueError {
    ValueError::Missing { expected: format!("{what}, since none can be made up") }
}

fn elements(name: &str, ty: &MultiArrayType) -> Result<MadeUp, ValueError> {
    let size = room(&ty.shape)?;
    let is_mask = name.to_lowercase().contains("mask");
    let dtype = match ty.element {
        ArrayElementType::Float16 => DType::F16,
        ArrayElementType::Double => DType::F64,
        // Candle has no narrower one; the model narrows them again.
        ArrayElementType::Int8 | ArrayElementType::Int32 => DType::I32,
        _ => DType::F32,
    };
    let filled = |words, number: f32| {
        let tensor = Tensor::full(number, ty.shape.as_slice(), &Device::Cpu)?;
        Ok(MadeUp::new(tensor.to_dtype(dtype)?, words))
    };
    match (dtype == DType::I32, is_mask) {
        (true, true) => filled("ones, for a mask", 1.0),
        (true, false) => filled("zeros", 0.0),
        (false, true) => filled("zeros, for a mask", 0.0),
        (false, false) => {
            let mut random = random(name);
            // Of 24 bits, as many as a float has.
            let mut number = || (random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0;
            let numbers = (0..size).map(|_| number()).collect();
            let tensor = Tensor::from_vec(numbers, ty.shape.as_slice(), &Device::Cpu)?;
            Ok(MadeUp::new(tensor.to_dtype(dtype)?, "random numbers from -1 to 1"))
        }
    }
}

fn pixels(name: &str, ty: &ImageType) -> Result<MadeUp, ValueError> {
    let (width, height) = (ty.width, ty.height);
    let is_rgb = matches!(ty.color_space, ColorSpace::Rgb | ColorSpace::Bgr);
    let mut random = random(name);
    let mut bytes = |channels| -> Result<Vec<u8>, ValueError> {
        let size = room(&[height, width, channels])?;
        Ok((0..size).map(|_| (random.next_u32() >> 24) as u8).collect())
    };
    let image = match is_rgb {
        true => Image::from_rgb(width, height, bytes(3)?)?,
        false => Image::from_gray(width, height, bytes(1)?)?,
    };
    Ok(MadeUp::new(image.to_color_space(ty.color_space).into_owned(), "random pixels"))
}

/// How many elements a shape has, if that is not beyond all reason for values that are made up.
fn room(shape: &[usize]) -> Result<usize, ValueError> {
    let count = if shape.contains(&0) {
        Some(0)
    } else {
        shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))
    };
    count
        .filter(|&size| size <= MOST)
        .ok_or_else(|| asked_for(format!("a value of its large shape {shape:?}")))
}

/// Random numbers that are an input's own.
fn random(name: &str) -> ChaCha8Rng {
    let mut seed = [0u8; 32];
    for (place, byte) in name.bytes().enumerate() {
        let place = &mut seed[place % 32];
        *place = place.wrapping_mul(31) ^ byte;
    }
    ChaCha8Rng::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::Pixels;

    fn made_up(name: &str, ty: FeatureType) -> (Tensor, &'static str) {
        let made_up = make_up(&FeatureDescription::new(name, ty)).unwrap();
        (made_up.value.tensor().unwrap().flatten_all().unwrap(), made_up.words)
    }

    fn array(element: ArrayElementType) -> FeatureType {
        FeatureType::MultiArray(MultiArrayType::new(element, [2, 300]))
    }

    #[test]
    fn floats_are_random_and_always_the_same() {
        let numbers =
            |name| made_up(name, array(ArrayElementType::Float32)).0.to_vec1::<f32>().unwrap();
        let x = numbers("x");
        assert_eq!(x, numbers("x"));
        assert_ne!(x, numbers("y"));
        assert!(x.iter().all(|value| (-1.0..1.0).contains(value)));
        let mean = x.iter().sum::<f32>() / x.len() as f32;
        assert!(mean.abs() < 0.1 && x.iter().any(|value| value.abs() > 0.9), "{mean}");
        let (halves, _) = made_up("x", array(ArrayElementType::Float16));
        let rounded: Vec<_> = x.iter().map(|&value| half::f16::from_f32(value)).collect();
        assert_eq!(halves.to_vec1::<half::f16>().unwrap(), rounded);
    }

    #[test]
    fn masks_hide_nothing_and_indices_are_zero() {
        let (mask, words) = made_up("attention_mask", array(ArrayElementType::Int32));
        assert_eq!((mask.to_vec1::<i32>().unwrap(), words), (vec![1; 600], "ones, for a mask"));
        let (mask, _) = made_up("causalMask", array(ArrayElementType::Float32));
        assert_eq!(mask.to_vec1::<f32>().unwrap(), [0.0; 600]);
        let (ids, words) = made_up("input_ids", array(ArrayElementType::Int8));
        assert_eq!((ids.to_vec1::<i32>().unwrap(), words), (vec![0; 600], "zeros"));
    }

    #[test]
    fn images_have_random_pixels_and_what_can_not_be_made_up_is_asked_for() {
        let image = |color_space| {
            let ty = FeatureType::Image(ImageType::new(20, 10, color_space));
            let made_up = make_up(&FeatureDescription::new("x", ty)).unwrap();
            assert_eq!(made_up.words, "random pixels");
            made_up.value.image().unwrap().clone()
        };
        let rgb = image(ColorSpace::Bgr);
        assert_eq!((rgb.width(), rgb.height(), rgb.channels()), (20, 10, 3));
        let floats = image(ColorSpace::GrayscaleFloat16);
        assert!(
            matches!(floats.pixels(), Pixels::GrayFloat(of) if of.iter().any(|&p| p > 100.0)),
            "{floats:?}"
        );
        let huge = MultiArrayType::new(ArrayElementType::Float32, [1 << 40, 1 << 40]);
        for ty in [FeatureType::String, FeatureType::MultiArray(huge)] {
            let error = make_up(&FeatureDescription::new("x", ty)).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("`x`") && message.contains("made up"), "{message}");
        }
    }
}
