//! Values of images at any places.

use bytemuck::{Pod, Zeroable};

use crate::arch::compiled::{self, Loop};
use crate::context::Context;
use crate::error::{KernelError, check_len, product};
use crate::thresholds;

const KERNEL: &str = "sample";

/// What lies around an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Padding {
    /// This number.
    Constant(f32),
    /// The pixel at the border.
    Border,
    /// The image mirrored at the middle of its outermost pixels, which are not repeated.
    Reflection,
    /// The image mirrored at its edges, so that its outermost pixels are repeated.
    Symmetric,
}

/// How values at places are found in an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Height and width of the image, each at least 1.
    pub size: [usize; 2],
    /// Of four neighbours a mixture, else the nearest.
    pub bilinear: bool,
    /// What lies around.
    pub padding: Padding,
}

/// A value as a mixture of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Sample {
    /// Where the pixels lie in the image.
    at: [u32; 4],
    /// How much each counts; 0 for those that are not looked at.
    weight: [f32; 4],
    /// What is added: the part of the padding.
    rest: f32,
}

/// Where the neighbours of a place lie on an axis, if they do, and how much they count.
type Neighbours = [(Option<u32>, f32); 2];

impl Sample {
    /// A value that does not depend on the image.
    pub fn constant(value: f32) -> Self {
        Self { at: [0; 4], weight: [0.0; 4], rest: value }
    }
}

impl Sampler {
    /// The value at a place, which counts pixels from the middle of the first one. Where a place is no
    /// number, a mixture with constant padding is none either; others find the padding or the first pixel.
    pub fn at(&self, y: f32, x: f32) -> Sample {
        let outside = match self.padding {
            Padding::Constant(value) => value,
            _ => 0.0,
        };
        let [height, width] = self.size;
        let (rows, columns) = (self.neighbours(y, height), self.neighbours(x, width));
        let mut sample = Sample::constant(0.0);
        for (i, (row, of_row)) in rows.into_iter().enumerate() {
            for (j, (column, of_column)) in columns.into_iter().enumerate() {
                let (place, weight) = (2 * i + j, of_row * of_column);
                match row.zip(column) {
                    Some((row, column)) => {
                        sample.at[place] = row * width as u32 + column;
                        sample.weight[place] = weight;
                    }
                    None if weight != 0.0 => sample.rest += weight * outside,
                    None => {}
                }
            }
        }
        sample
    }

    /// The neighbours of a place on an axis of `size`.
    fn neighbours(&self, place: f32, size: usize) -> Neighbours {
        let last = size.saturating_sub(1) as f32;
        // NaN becomes 0.
        let inside = |place: f32| place.max(0.0).min(last);
        let place = match self.padding {
            Padding::Constant(_) => place,
            Padding::Border => inside(place),
            Padding::Reflection => inside(mirrored(place, 0.0, last)),
            Padding::Symmetric => inside(mirrored(place, -0.5, last + 1.0)),
        };
        let index = |at: f32| (0.0..=last).contains(&at).then_some(at as u32);
        if !self.bilinear {
            return [(index(place.round_ties_even()), 1.0), (None, 0.0)];
        }
        let first = place.floor();
        let weight = place - first;
        [(index(first), 1.0 - weight), (index(first + 1.0), weight)]
    }
}

/// The place within `low..low + span` that a place beyond shows when the image is mirrored at both.
fn mirrored(place: f32, low: f32, span: f32) -> f32 {
    if span == 0.0 {
        return 0.0;
    }
    let distance = (place - low).abs();
    let (within, flips) = (distance % span, (distance / span).floor());
    if flips % 2.0 == 0.0 { low + within } else { low + span - within }
}

/// Writes all channels' values of the samples: of `x`, `[images, channels, pixels]`, to `out`,
/// `[images.len(), channels, samples of each]`. `images` says which image the samples of each result are
/// of; `samples` has them one result after the other. Divided among threads if large.
///
/// # Errors
/// If a slice does not have the elements that the others call for, or an image is not there.
pub fn sample(
    ctx: &Context,
    channels: usize,
    pixels: usize,
    x: &[f32],
    images: &[u32],
    samples: &[Sample],
    out: &mut [f32],
) -> Result<(), KernelError> {
    let each = samples.len().checked_div(images.len()).unwrap_or(0);
    check_len(
        KERNEL,
        "samples",
        product(KERNEL, "samples", &[images.len(), each])?,
        samples.len(),
    )?;
    check_len(KERNEL, "out", product(KERNEL, "out", &[samples.len(), channels])?, out.len())?;
    let image = product(KERNEL, "x", &[channels, pixels])?;
    let known = x.len().checked_div(image).unwrap_or(0);
    if let Some(wrong) = images.iter().find(|&&number| number as usize >= known && !out.is_empty())
    {
        return Err(KernelError::value(KERNEL, "images", format!("below {known}"), wrong));
    }
    if let Some(wrong) = samples.iter().flat_map(|s| s.at).find(|&at| at as usize >= pixels) {
        return Err(KernelError::value(KERNEL, "samples", format!("pixels below {pixels}"), wrong));
    }
    let part = if out.len() < thresholds::SAMPLE {
        out.len()
    } else {
        thresholds::task(thresholds::SAMPLE)
    };
    ctx.workers().for_each_chunk_mut(out, part, |task, mut out| {
        let mut done = task * part;
        while !out.is_empty() {
            let (row, first) = (done / each, done % each);
            let count = (each - first).min(out.len());
            let (now, later) = std::mem::take(&mut out).split_at_mut(count);
            let start = images[row / channels] as usize * image + row % channels * pixels;
            let samples = &samples[row / channels * each + first..][..count];
            compiled::run(
                ctx.isa(),
                Gather { pixels: &x[start..start + pixels], samples, out: now },
            );
            done += count;
            out = later;
        }
    });
    Ok(())
}

/// Values of one channel.
struct Gather<'a> {
    pixels: &'a [f32],
    samples: &'a [Sample],
    out: &'a mut [f32],
}

impl Loop for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (out, sample) in self.out.iter_mut().zip(self.samples) {
            let mut value = sample.rest;
            for (&at, &weight) in sample.at.iter().zip(&sample.weight) {
                let part = weight * self.pixels[at as usize];
                // A pixel that does not count may be infinite.
                value += if weight == 0.0 { 0.0 } else { part };
            }
            *out = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Workers;
    use crate::isa::Isa;

    fn values(sampler: Sampler, x: &[f32], places: &[[f32; 2]]) -> Vec<f32> {
        let samples: Vec<Sample> = places.iter().map(|&[y, x]| sampler.at(y, x)).collect();
        let mut out = vec![f32::NAN; places.len()];
        let ctx = Context::new(Workers::serial());
        sample(&ctx, 1, x.len(), x, &[0], &samples, &mut out).unwrap();
        out
    }

    /// A row of three pixels, and what a definition shows around it.
    #[test]
    fn what_lies_around() {
        let x = [1.0, 2.0, 3.0];
        let places: Vec<[f32; 2]> = (-3..6).map(|at| [0.0, at as f32]).collect();
        for (padding, expected) in [
            (Padding::Constant(7.0), [7.0, 7.0, 7.0, 1.0, 2.0, 3.0, 7.0, 7.0, 7.0]),
            (Padding::Border, [1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0]),
            (Padding::Reflection, [2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 2.0]),
            (Padding::Symmetric, [3.0, 2.0, 1.0, 1.0, 2.0, 3.0, 3.0, 2.0, 1.0]),
        ] {
            for bilinear in [false, true] {
                let sampler = Sampler { size: [1, 3], bilinear, padding };
                assert_eq!(values(sampler, &x, &places), expected, "{padding:?} {bilinear}");
            }
        }
    }

    #[test]
    fn between_pixels_and_at_no_place() {
        let x = [1.0, 2.0, 3.0, f32::INFINITY];
        let sampler = |bilinear, padding| Sampler { size: [2, 2], bilinear, padding };
        let mixed = sampler(true, Padding::Constant(10.0));
        let places = [[0.0, 0.25], [0.5, 0.0], [-0.5, 0.0], [0.0, 1e30], [f32::NAN, 0.0]];
        let got = values(mixed, &x, &places);
        assert_eq!(got[..4], [1.25, 2.0, 5.5, 10.0]);
        assert!(got[4].is_nan());
        let none = values(sampler(false, Padding::Constant(10.0)), &x, &[[f32::NAN, 0.0]]);
        assert_eq!(none, [10.0]);
        // Halves go to the even pixel, as PyTorch rounds.
        let nearest = sampler(false, Padding::Border);
        let places = [[0.0, 0.5], [0.0, 1.5], [0.5, 0.0], [f32::NAN, f32::NAN]];
        assert_eq!(values(nearest, &x, &places), [1.0, 2.0, 1.0, 1.0]);
        let mirror = sampler(true, Padding::Symmetric);
        assert_eq!(values(mirror, &x, &[[f32::INFINITY, 0.0]]), [1.0]);
    }

    #[test]
    fn channels_of_several_images_on_several_threads() {
        let (channels, pixels, each) = (5, 64 * 64, 50 * 50);
        let x: Vec<f32> = (0..3 * channels * pixels).map(|i| (i as f32 * 0.7).sin()).collect();
        let sampler = Sampler { size: [64, 64], bilinear: true, padding: Padding::Border };
        let samples: Vec<Sample> = (0..2 * each)
            .map(|i| sampler.at((i as f32 * 0.37) % 70.0 - 2.0, (i as f32 * 0.91) % 70.0 - 2.0))
            .collect();
        let images = [2, 0];
        let mut expected = Vec::new();
        for (&image, samples) in images.iter().zip(samples.chunks(each)) {
            for channel in 0..channels {
                let from = &x[(image as usize * channels + channel) * pixels..][..pixels];
                expected.extend(
                    samples
                        .iter()
                        .map(|s| (0..4).map(|i| s.weight[i] * from[s.at[i] as usize]).sum::<f32>()),
                );
            }
        }
        for isa in Isa::available() {
            let ctx = Context::with_isa(Workers::new(3).unwrap(), isa);
            let mut out = vec![f32::NAN; expected.len()];
            sample(&ctx, channels, pixels, &x, &images, &samples, &mut out).unwrap();
            for (out, expected) in out.iter().zip(&expected) {
                assert!((out - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ctx = Context::new(Workers::serial());
        let one = [Sample::constant(0.0)];
        assert!(sample(&ctx, 1, 2, &[0.0; 2], &[1], &one, &mut [0.0]).is_err());
        assert!(sample(&ctx, 1, 2, &[0.0; 2], &[0], &one, &mut [0.0; 2]).is_err());
        let far = Sampler { size: [2, 2], bilinear: false, padding: Padding::Border }.at(9.0, 9.0);
        assert!(sample(&ctx, 1, 2, &[0.0; 2], &[0], &[far], &mut [0.0]).is_err());
        assert!(sample(&ctx, 1, 2, &[], &[], &[], &mut []).is_ok());
    }
}
