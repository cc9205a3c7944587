//! Image files and resized images against Pillow, and files made to do harm.

#![cfg(feature = "image")]
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::path::PathBuf;

use candle_coreml::description::ColorSpace;
use candle_coreml::image::codecs::png::PngEncoder;
use candle_coreml::image::{DynamicImage, ExtendedColorType, ImageEncoder, Rgb32FImage, RgbaImage};
use candle_coreml::{ErrorKind, Image, Pixels, Resize, ResizeFilter, ValueError};
use proptest::prelude::*;
use serde_json::Value as Json;

fn folder() -> PathBuf {
    common::fixtures().join("features/images")
}

fn entries(name: &str) -> Vec<Json> {
    serde_json::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn flat(json: &Json) -> Vec<f64> {
    match json {
        Json::Array(items) => items.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn values(image: &Image) -> Vec<f64> {
    match image.pixels() {
        Pixels::Rgb(bytes) | Pixels::Gray(bytes) => bytes.iter().map(|&byte| byte.into()).collect(),
        Pixels::GrayFloat(floats) => floats.iter().map(|&float| float.into()).collect(),
        other => panic!("{other:?}"),
    }
}

fn assert_pixels(got: &Image, rows: &Json, tolerance: f64, place: &str) {
    let (height, width) = (rows.as_array().unwrap().len(), rows[0].as_array().unwrap().len());
    assert_eq!((got.width(), got.height()), (width, height), "{place}");
    let (got, expected) = (values(got), flat(rows));
    assert_eq!(got.len(), expected.len(), "{place}: colours");
    let differences = got.iter().zip(&expected).map(|(got, expected)| (got - expected).abs());
    let greatest = differences.fold(0.0, f64::max);
    assert!(greatest <= tolerance, "{place}: off by {greatest}");
}

#[test]
fn files_of_all_kinds_are_read_as_pillow_does() {
    let entries = entries("files.json");
    assert!(entries.len() > 20);
    for entry in entries {
        let name = entry["file"].as_str().unwrap();
        let image = Image::open(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_pixels(&image, &entry["pixels"], entry["tolerance"].as_f64().unwrap(), name);
    }
}

#[test]
fn images_are_resized_as_pillow_does() {
    let source = Image::open(folder().join("source.png")).unwrap();
    let entries = entries("resized.json");
    assert!(entries.len() > 60);
    for entry in entries {
        let how = match entry["how"].as_str().unwrap() {
            "stretch" => Resize::Stretch,
            "fit" => Resize::Fit,
            _ => Resize::Fill,
        };
        let filter = match entry["filter"].as_str().unwrap() {
            "bilinear" => ResizeFilter::Bilinear,
            _ => ResizeFilter::Bicubic,
        };
        // Pillow's floats are of 32 bits, and Core ML's of 16, which rounds by up to 1/16: the source, of
        // which bicubic weights can make 1.3 times that, and the result.
        let (space, tolerance) = match entry["mode"].as_str().unwrap() {
            "L" => (ColorSpace::Grayscale, 1.0),
            "F" => (ColorSpace::GrayscaleFloat16, 0.15),
            _ => (ColorSpace::Rgb, 1.0),
        };
        let side = |name: &str| usize::try_from(entry[name].as_u64().unwrap()).unwrap();
        let (width, height) = (side("width"), side("height"));
        let image = source.to_color_space(space).resized(width, height, how, filter).unwrap();
        let place = format!("{space} {how:?} {filter:?} to {width} x {height}");
        assert_pixels(&image, &entry["pixels"], tolerance, &place);
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let image = Image::from_rgb(2, 2, vec![9; 12]).unwrap();
    let resized = |image: &Image, width, height, how| {
        image.resized(width, height, how, ResizeFilter::Bilinear).map_err(|error| error.kind())
    };
    for how in [Resize::Fit, Resize::Fill, Resize::Stretch] {
        for (width, height) in [(0, 3), (3, 0), (usize::MAX, 2), (1 << 20, 1 << 20)] {
            let result = resized(&image, width, height, how);
            assert_eq!(result, Err(ErrorKind::InvalidInput), "{how:?} {width} {height}");
        }
        let empty = Image::from_gray(0, 5, vec![]).unwrap();
        assert!(resized(&empty, 3, 3, how).is_err());
    }
}

#[test]
fn images_of_the_image_crate_become_ours_and_back() {
    let rgba = RgbaImage::from_raw(2, 1, vec![1, 2, 3, 0, 4, 5, 6, 255]).unwrap();
    let image = Image::from(DynamicImage::from(rgba));
    assert_eq!(*image.pixels(), Pixels::Rgb(vec![1, 2, 3, 4, 5, 6]));
    let back = DynamicImage::try_from(image.clone()).unwrap();
    assert_eq!(back.as_rgb8().unwrap().as_raw(), &[1, 2, 3, 4, 5, 6]);
    assert!(Image::from(back) == image);
    let floats = Rgb32FImage::from_raw(1, 1, vec![0.0, 0.5, 7.0]).unwrap();
    assert_eq!(*Image::from(DynamicImage::from(floats)).pixels(), Pixels::Rgb(vec![0, 128, 255]));
    let gray = Image::from_gray_floats(2, 1, vec![-1.0, 99.6]).unwrap();
    let gray = DynamicImage::try_from(gray).unwrap();
    assert_eq!(gray.as_luma8().unwrap().as_raw(), &[0, 100]);
}

/// A file of some kilobytes that is an image of some gigabytes.
#[test]
fn decompression_bombs_are_refused_before_they_unpack() {
    let mut small = Vec::new();
    let encoder = PngEncoder::new(&mut small);
    encoder.write_image(&[7; 12], 2, 2, ExtendedColorType::Rgb8).unwrap();
    for (width, height) in [(40_000u32, 40_000u32), (70_000, 1), (u32::MAX >> 1, u32::MAX >> 1)] {
        let mut bomb = small.clone();
        bomb[16..20].copy_from_slice(&width.to_be_bytes());
        bomb[20..24].copy_from_slice(&height.to_be_bytes());
        let sum = crc32(&bomb[12..29]).to_be_bytes();
        bomb[29..33].copy_from_slice(&sum);
        let error = Image::decode(&bomb).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{width} x {height}: {error}");
    }
}

/// The check sum of a PNG's chunk.
fn crc32(bytes: &[u8]) -> u32 {
    let sum = bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 * (sum & 1)))
    });
    !sum
}

#[test]
fn what_is_no_image_is_said_so() {
    for bytes in [&b""[..], b"hello", b"\x89PNG\r\n\x1a\n", b"P6 1 1 255 abc", b"GIF89a"] {
        let error = Image::decode(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("it is no image that can be read"), "{error}");
        assert!(matches!(error, ValueError::Image(_)));
    }
    assert_eq!(Image::open("there/is/none.png").unwrap_err().kind(), ErrorKind::NotFound);
}

fn files() -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for entry in entries("files.json") {
        files.push(std::fs::read(folder().join(entry["file"].as_str().unwrap())).unwrap());
    }
    files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Files that are damaged give an error or an image, and no panic.
    #[test]
    fn damaged_files_do_no_harm(
        file in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        end in prop::option::of(any::<prop::sample::Index>()),
    ) {
        thread_local!(static FILES: Vec<Vec<u8>> = files());
        let mut bytes = FILES.with(|files| file.get(files).clone());
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(image) = Image::decode(&bytes) {
            let (width, height) = (image.width(), image.height());
            prop_assert_eq!(values_len(&image), width * height * image.channels());
        }
    }
}

fn values_len(image: &Image) -> usize {
    match image.pixels() {
        Pixels::Rgb(bytes) | Pixels::Gray(bytes) => bytes.len(),
        Pixels::GrayFloat(floats) => floats.len(),
        _ => 0,
    }
}
