//! Normalizations. All statistics are those of the whole population, in double precision or close
//! to it.

use coreml_format::mil::Opset;
use coreml_kernels::norm;
use smallvec::SmallVec;

use super::strided::{Layout, count, row_major, same_count};
use super::{
    Binder, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, axis, def, one,
};

/// The elements of a parameter that may be absent.
fn parameter<'a>(
    inputs: &Inputs<'a>,
    input: Option<usize>,
    expected: usize,
) -> Result<Option<&'a [f32]>, OpError> {
    let Some(input) = input else { return Ok(None) };
    let values = inputs.tensor(input)?.f32s()?;
    same_count(expected, values.len())?;
    Ok(Some(values))
}

/// Puts `x` into the output unless it is there.
fn start<'s>(
    inputs: &Inputs,
    outputs: &'s mut Outputs,
    x: usize,
) -> Result<&'s mut [f32], OpError> {
    let values = outputs.tensor(0)?.f32s()?;
    if !inputs.is_in_place(x) {
        let x = inputs.tensor(x)?.f32s()?;
        same_count(values.len(), x.len())?;
        values.copy_from_slice(x);
    }
    Ok(values)
}

/// `epsilon` or its default.
fn epsilon(binder: &Binder, default: f32) -> Result<f32, OpError> {
    Ok(binder.float("epsilon")?.unwrap_or(default))
}

/// Mean and variance.
fn statistics(values: impl Iterator<Item = f32> + Clone) -> (f64, f64) {
    let (mut sum, mut number) = (0.0, 0usize);
    for value in values.clone() {
        sum += f64::from(value);
        number += 1;
    }
    let number = number.max(1) as f64;
    let mean = sum / number;
    let squares: f64 = values.map(|value| (f64::from(value) - mean).powi(2)).sum();
    (mean, squares / number)
}

/// Normalizes over axes, with a scale and a shift for each element of these.
struct LayerNorm {
    x: usize,
    axes: Option<SmallVec<[i64; 8]>>,
    gamma: Option<usize>,
    beta: Option<usize>,
    epsilon: f32,
}

impl LayerNorm {
    fn normalized(&self, rank: usize) -> Result<SmallVec<[bool; 8]>, OpError> {
        let mut normalized = SmallVec::from_elem(self.axes.is_none(), rank);
        for &place in self.axes.iter().flatten() {
            normalized[axis(place, rank, "axes")?] = true;
        }
        Ok(normalized)
    }

    /// The layouts of what is normalized apart and of what is normalized together.
    fn layouts(shape: &[usize], normalized: &[bool]) -> (Layout, Layout) {
        let part = |wanted: bool| {
            let axes = shape.iter().zip(row_major(shape)).zip(normalized);
            let axes = axes.filter(|(_, normalized)| **normalized == wanted);
            Layout::new(0, axes.map(|((&size, stride), _)| (size, stride as isize)))
        };
        (part(false), part(true))
    }

    /// Normalizes over axes that are not the last ones.
    fn scattered(
        &self,
        values: &mut [f32],
        (apart, together): (Layout, Layout),
        gamma: Option<&[f32]>,
        beta: Option<&[f32]>,
    ) {
        for base in positions(&apart) {
            let at = positions(&together).map(|position| base + position);
            let (mean, variance) = statistics(at.clone().map(|position| values[position]));
            let scale = (variance + f64::from(self.epsilon)).sqrt().recip();
            for (i, position) in at.enumerate() {
                let value = ((f64::from(values[position]) - mean) * scale) as f32;
                let gamma = gamma.map_or(1.0, |gamma| gamma[i]);
                values[position] = value * gamma + beta.map_or(0.0, |beta| beta[i]);
            }
        }
    }
}

/// The positions of a layout's elements, in order.
fn positions(layout: &Layout) -> impl Iterator<Item = usize> + Clone + use<> {
    let (len, stride) = layout.row();
    let mut rows: SmallVec<[usize; 8]> = SmallVec::new();
    layout.for_each_row(|_, position| rows.push(position));
    rows.into_iter().flat_map(move |position| {
        (0..len).map(move |i| (position as isize + i as isize * stride) as usize)
    })
}

impl Op for LayerNorm {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        let normalized = self.normalized(shape.len())?;
        let sizes = shape.iter().zip(&normalized).filter(|(_, normalized)| **normalized);
        let expected: SmallVec<[usize; 6]> = sizes.map(|(&size, _)| size).collect();
        for (name, parameter) in [("gamma", self.gamma), ("beta", self.beta)] {
            let Some(parameter) = parameter else { continue };
            let got = inputs.shape(parameter)?;
            if got != expected.as_slice() {
                let expected = format!("shape {:?}", expected.as_slice());
                return Err(OpError::argument(name, expected, format!("shape {got:?}")));
            }
        }
        one(inputs.element(self.x)?, shape)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let shape = inputs.shape(self.x)?;
        let normalized = self.normalized(shape.len())?;
        let (apart, together) = Self::layouts(shape, &normalized);
        let size = together.count();
        let gamma = parameter(inputs, self.gamma, size)?;
        let beta = parameter(inputs, self.beta, size)?;
        let values = start(inputs, outputs, self.x)?;
        if values.is_empty() {
            return Ok(());
        }
        let first = normalized.iter().position(|&normalized| normalized).unwrap_or(shape.len());
        if normalized.iter().skip(first).all(|&normalized| normalized) {
            return Ok(norm::layer_norm(values, size, gamma, beta, self.epsilon)?);
        }
        self.scattered(values, (apart, together), gamma, beta);
        Ok(())
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn layer_norm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(LayerNorm {
        x: binder.input("x")?,
        axes: binder.ints("axes")?,
        gamma: binder.optional_input("gamma")?,
        beta: binder.optional_input("beta")?,
        epsilon: epsilon(binder, 1e-5)?,
    }))
}

/// Normalizes each channel, by given statistics or by those of each instance.
struct ChannelNorm {
    x: usize,
    /// Mean and variance of `batch_norm`.
    given: Option<(usize, usize)>,
    gamma: Option<usize>,
    beta: Option<usize>,
    epsilon: f32,
}

impl Op for ChannelNorm {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        if shape.len() < 2 {
            let got = format!("shape {shape:?}");
            return Err(OpError::argument("x", "a batch, channels and more axes", got));
        }
        one(inputs.element(self.x)?, shape)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let shape = inputs.shape(self.x)?;
        let channels = shape.get(1).copied().unwrap_or(1);
        let given = match self.given {
            None => None,
            Some((mean, variance)) => parameter(inputs, Some(mean), channels)?
                .zip(parameter(inputs, Some(variance), channels)?),
        };
        let gamma = parameter(inputs, self.gamma, channels)?;
        let beta = parameter(inputs, self.beta, channels)?;
        let values = start(inputs, outputs, self.x)?;
        let inner = count(shape.get(2..).unwrap_or_default()).max(1);
        for (i, row) in values.chunks_mut(inner).enumerate() {
            let channel = i % channels;
            let (mean, variance) = match given {
                Some((mean, variance)) => {
                    (f64::from(mean[channel]), f64::from(variance[channel]))
                }
                None => statistics(row.iter().copied()),
            };
            let gamma = gamma.map_or(1.0, |gamma| f64::from(gamma[channel]));
            let beta = beta.map_or(0.0, |beta| f64::from(beta[channel]));
            let scale = gamma / (variance + f64::from(self.epsilon)).sqrt();
            for value in row {
                *value = ((f64::from(*value) - mean) * scale + beta) as f32;
            }
        }
        Ok(())
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn batch_norm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(ChannelNorm {
        x: binder.input("x")?,
        given: Some((binder.input("mean")?, binder.input("variance")?)),
        gamma: binder.optional_input("gamma")?,
        beta: binder.optional_input("beta")?,
        epsilon: epsilon(binder, 1e-5)?,
    }))
}

fn instance_norm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(ChannelNorm {
        x: binder.input("x")?,
        given: None,
        gamma: binder.optional_input("gamma")?,
        beta: binder.optional_input("beta")?,
        epsilon: epsilon(binder, 1e-5)?,
    }))
}

/// Divides by the root of the sum of squares over the last three axes.
struct L2Norm {
    x: usize,
    epsilon: f32,
}

impl Op for L2Norm {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        if shape.len() < 3 {
            let got = format!("shape {shape:?}");
            return Err(OpError::argument("x", "a tensor of rank 3 or more", got));
        }
        one(inputs.element(self.x)?, shape)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let shape = inputs.shape(self.x)?;
        let size = count(&shape[shape.len().saturating_sub(3)..]).max(1);
        for row in start(inputs, outputs, self.x)?.chunks_mut(size) {
            let squares: f64 = row.iter().map(|&value| f64::from(value).powi(2)).sum();
            let scale = (squares + f64::from(self.epsilon)).sqrt().recip();
            row.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
        }
        Ok(())
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn l2_norm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    Ok(Box::new(L2Norm { x, epsilon: epsilon(binder, 1e-6)? }))
}

pub(super) const OPS: &[OpDef] = &[
    def("batch_norm", Opset::Ios15, batch_norm),
    def("instance_norm", Opset::Ios15, instance_norm),
    def("l2_norm", Opset::Ios15, l2_norm),
    def("layer_norm", Opset::Ios15, layer_norm),
];
