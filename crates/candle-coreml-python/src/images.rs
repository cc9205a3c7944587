//! Images: Pillow's and NumPy's to the library's, and the library's to Pillow's.

use candle_coreml::description::{ColorSpace, ImageType};
use candle_coreml::mil::ElementType;
use candle_coreml::{Array, Image, NumbersMut, Pixels, ValueError};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

/// Whether a value is an image of Pillow's, which may not be installed.
pub(crate) fn is_pillow(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = value.py();
    // Whoever has such an image has loaded its module.
    let modules = py.import("sys")?.getattr("modules")?;
    match modules.get_item("PIL.Image") {
        Ok(module) => value.is_instance(&module.getattr(intern!(py, "Image"))?),
        Err(_) => Ok(false),
    }
}

/// An image of Pillow's of the mode that an input takes; of one with an alpha channel the colours.
pub(crate) fn from_pillow(value: &Bound<'_, PyAny>, ty: &ImageType) -> PyResult<Image> {
    let py = value.py();
    let wanted = mode(ty.color_space);
    let given: String = value.getattr(intern!(py, "mode"))?.extract()?;
    let value = match (wanted, given.as_str()) {
        ("RGB", "RGBA" | "RGBX") => value.call_method1(intern!(py, "convert"), (wanted,))?,
        (wanted, given) if wanted == given => value.clone(),
        _ => {
            let message = format!(
                "expected an image of mode `{wanted}`, got one of mode `{given}`; \
                 `image.convert(\"{wanted}\")` makes one"
            );
            return Err(PyValueError::new_err(message));
        }
    };
    let (width, height): (usize, usize) = value.getattr(intern!(py, "size"))?.extract()?;
    let bytes = value.call_method0(intern!(py, "tobytes"))?;
    let bytes = bytes.cast::<PyBytes>()?.as_bytes();
    let image = match wanted {
        "RGB" => Image::from_rgb(width, height, bytes.to_vec()),
        "L" => Image::from_gray(width, height, bytes.to_vec()),
        _ => {
            let floats = bytes.as_chunks().0.iter().map(|&bytes| f32::from_ne_bytes(bytes));
            Image::from_gray_floats(width, height, floats.collect())
        }
    };
    image.map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Pillow's mode of images of a color space.
fn mode(color_space: ColorSpace) -> &'static str {
    match color_space {
        ColorSpace::Grayscale => "L",
        ColorSpace::GrayscaleFloat16 => "F",
        _ => "RGB",
    }
}

/// An array as an image of the kind that an input takes: `[height, width, 3]` or `[height, width]` of bytes,
/// or `[height, width]` of floats.
pub(crate) fn from_array(array: &Array, ty: &ImageType) -> Result<Image, ValueError> {
    match (ty.color_space, array.element(), array.shape()) {
        (ColorSpace::Rgb | ColorSpace::Bgr, ElementType::UInt8, &[height, width, 3]) => {
            Image::from_rgb(width, height, bytes(array)?)
        }
        (ColorSpace::Grayscale, ElementType::UInt8, &[height, width]) => {
            Image::from_gray(width, height, bytes(array)?)
        }
        (
            ColorSpace::GrayscaleFloat16,
            ElementType::Float16 | ElementType::Float32,
            &[height, width],
        ) => Image::from_gray_floats(width, height, floats(array)?),
        (color_space, element, shape) => Err(ValueError::Mismatch {
            expected: match color_space {
                ColorSpace::Grayscale => "an array (height, width) of uint8",
                ColorSpace::GrayscaleFloat16 => "an array (height, width) of float16 or float32",
                _ => "an array (height, width, 3) of uint8, red first",
            }
            .to_owned(),
            got: format!("shape {shape:?} of `{element}`"),
        }),
    }
}

fn bytes(array: &Array) -> Result<Vec<u8>, ValueError> {
    let mut bytes = vec![0; array.len()];
    array.read(NumbersMut::UInt8(&mut bytes))?;
    Ok(bytes)
}

fn floats(array: &Array) -> Result<Vec<f32>, ValueError> {
    let mut floats = vec![0.0; array.len()];
    array.read(NumbersMut::Float32(&mut floats))?;
    Ok(floats)
}

/// An image of Pillow's (of mode `RGB`, `L` or `F`), or, where that is not installed, an array `[height, width, 3]`
/// or `[height, width]`.
pub(crate) fn to_py<'py>(py: Python<'py>, image: &Image) -> PyResult<Bound<'py, PyAny>> {
    let (width, height) = (image.width(), image.height());
    if let Some(frombytes) = frombytes(py)? {
        let (mode, bytes) = match image.pixels() {
            Pixels::Rgb(bytes) => ("RGB", PyBytes::new(py, bytes)),
            Pixels::Gray(bytes) => ("L", PyBytes::new(py, bytes)),
            Pixels::GrayFloat(floats) => {
                let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_ne_bytes()).collect();
                ("F", PyBytes::new(py, &bytes))
            }
            other => return Err(crate::errors::unsupported(&format!("an image of {other:?}"))),
        };
        return frombytes.call1((mode, (width, height), bytes));
    }
    Ok(match image.pixels() {
        Pixels::Rgb(bytes) => {
            PyArray1::from_slice(py, bytes).reshape([height, width, 3])?.into_any()
        }
        Pixels::Gray(bytes) => PyArray1::from_slice(py, bytes).reshape([height, width])?.into_any(),
        Pixels::GrayFloat(floats) => {
            PyArray1::from_slice(py, floats).reshape([height, width])?.into_any()
        }
        other => return Err(crate::errors::unsupported(&format!("an image of {other:?}"))),
    })
}

/// Pillow's function that makes an image of bytes, if it is installed.
fn frombytes(py: Python<'_>) -> PyResult<Option<&Bound<'_, PyAny>>> {
    static FROMBYTES: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();
    let found = FROMBYTES.get_or_try_init(py, || match py.import("PIL.Image") {
        Ok(module) => Ok::<_, PyErr>(Some(module.getattr("frombytes")?.unbind())),
        Err(_) => Ok(None),
    })?;
    Ok(found.as_ref().map(|function| function.bind(py)))
}
