//! Random numbers. A seed means the same ones at each run; without one, which is also what a negative
//! one means, they are others each time.

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::random::Source;
use coreml_kernels::softmax::softmax;

use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, bound, def, kernel, one};
use crate::value::Shape;
use crate::weights::Weights;

/// Where the numbers of a run come from.
fn source(seed: Option<u64>) -> Result<Source, OpError> {
    Ok(match seed {
        Some(seed) => Source::seeded(seed),
        None => Source::fresh()?,
    })
}

fn seed(binder: &Binder) -> Result<Option<u64>, OpError> {
    Ok(u64::try_from(binder.int("seed")?).ok())
}

/// How numbers are distributed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Distribution {
    Bernoulli { probability: f32 },
    Normal { mean: f32, deviation: f32 },
    Uniform { low: f32, high: f32 },
}

/// Numbers of a distribution.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    /// Their shape.
    pub(crate) shape: usize,
    pub(crate) distribution: Distribution,
    pub(crate) seed: Option<u64>,
    pub(crate) element: ElementType,
}

impl Op for Random {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let sizes = inputs.ints(self.shape)?;
        let shape: Option<Shape> = sizes.iter().map(|&size| usize::try_from(size).ok()).collect();
        let fail = || OpError::argument("shape", "sizes", format!("{:?}", sizes.as_slice()));
        one(self.element, shape.ok_or_else(fail)?)
    }

    fn prepare(&self, _inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let Random { distribution, seed, element, .. } = *self;
        kernel(move |_inputs, outputs, context| {
            let (source, out) = (source(seed)?, outputs.tensor(0)?.f32s()?);
            match distribution {
                Distribution::Bernoulli { probability } => {
                    source.bernoulli(context, probability, out)
                }
                Distribution::Normal { mean, deviation } => {
                    source.normal(context, mean, deviation, out)
                }
                Distribution::Uniform { low, high } => {
                    // As many bits as keep a number of the type below 1.
                    let bits = if element == ElementType::Float16 { 11 } else { 24 };
                    source.uniform(context, low, high, bits, out);
                }
            }
            Ok(())
        })
    }

    fn varies(&self) -> bool {
        true
    }
}

/// Numbers of classes, drawn by the probabilities of each line.
#[derive(Clone, Debug)]
pub(crate) struct Categorical {
    pub(crate) x: usize,
    /// Whether lines are of logarithms of probabilities.
    pub(crate) logits: bool,
    /// Draws from each line.
    pub(crate) size: usize,
    pub(crate) seed: Option<u64>,
}

impl Op for Categorical {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let Some((_, lines)) = inputs.shape(self.x)?.split_last() else {
            return Err(OpError::argument("x", "probabilities on the last axis", "a scalar"));
        };
        let mut shape = Shape::from_slice(lines);
        shape.push(self.size);
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let Categorical { x, logits, seed, .. } = *self;
        let classes = inputs.shape(x)?.last().copied().unwrap_or(0);
        kernel(move |inputs, outputs, context| {
            let (x, out) = (inputs.tensor(x)?.f32s()?, outputs.tensor(0)?.f32s()?);
            let source = source(seed)?;
            if !logits {
                return Ok(source.categorical(context, x, classes, out)?);
            }
            let mut weights = context.scratch().take::<f32>(x.len())?;
            weights.copy_from_slice(x);
            let lines = x.len().checked_div(classes).unwrap_or(0);
            softmax(context, &mut weights, lines, classes, 1)?;
            Ok(source.categorical(context, &weights, classes, out)?)
        })
    }

    fn varies(&self) -> bool {
        true
    }
}

/// Numbers of the type that a parameter has.
fn distributed(
    binder: &mut Binder,
    parameter: &str,
    distribution: impl Fn(&Binder) -> Result<Distribution, OpError>,
) -> Result<Box<dyn Op>, OpError> {
    let shape = binder.input("shape")?;
    let element = binder.constant(parameter)?.map_or(ElementType::Float32, |given| given.element);
    bound(Random { shape, distribution: distribution(binder)?, seed: seed(binder)?, element })
}

fn random_bernoulli(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    distributed(binder, "prob", |binder| {
        Ok(Distribution::Bernoulli { probability: binder.float("prob")? })
    })
}

fn random_categorical(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, logits) =
        (binder.input("x")?, binder.one_of("mode", &[("logits", true), ("probs", false)])?);
    bound(Categorical { x, logits, size: binder.positive("size")?, seed: seed(binder)? })
}

fn random_normal(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    distributed(binder, "mean", |binder| {
        Ok(Distribution::Normal { mean: binder.float("mean")?, deviation: binder.float("stddev")? })
    })
}

fn random_uniform(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    distributed(binder, "low", |binder| {
        Ok(Distribution::Uniform { low: binder.float("low")?, high: binder.float("high")? })
    })
}

pub(super) const OPS: &[OpDef] = &[
    def("random_bernoulli", Opset::Ios15, random_bernoulli),
    def("random_categorical", Opset::Ios15, random_categorical),
    def("random_normal", Opset::Ios15, random_normal),
    def("random_uniform", Opset::Ios15, random_uniform),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Case, Value};

    fn uniform(seed: i32) -> Vec<f32> {
        let case = Case::new().ints("shape", &[2], &[3, 4]).int("seed", seed);
        let (shape, values) = case.run_floats("random_uniform", Opset::Ios15);
        assert_eq!(shape, [3, 4]);
        values
    }

    #[test]
    fn only_a_seed_gives_the_same_numbers_again() {
        assert_eq!(uniform(3), uniform(3));
        assert_ne!(uniform(3), uniform(4));
        assert_ne!(uniform(-1), uniform(-1));
    }

    #[test]
    fn numbers_have_the_type_of_their_parameters() {
        let half = |case: Case, name| case.dense(name, ElementType::Float16, &[], &[1f32]);
        let case = half(half(Case::new().vector("shape", &[1000]), "low"), "high").int("seed", 1);
        let result = case.run("random_uniform", Opset::Ios15).unwrap();
        assert_eq!(result[0].element(), ElementType::Float16);
        assert!(result[0].values::<f32>().iter().all(|&value| value == 1.0));
    }

    #[test]
    fn likely_classes_are_drawn() {
        // Differences of logits matter alone; the first of the second line is as good as certain.
        let x = Value::tensor(ElementType::Float32, &[2, 2], &[1e4f32, 1e4, -1.0, -1e4]);
        let case = Case::new().value("x", x.clone()).int("size", 1000).int("seed", 5);
        let (shape, drawn) = case.run_floats("random_categorical", Opset::Ios15);
        assert_eq!(shape, [2, 1000]);
        let ones: f32 = drawn[..1000].iter().sum();
        assert!((400.0..600.0).contains(&ones), "{ones}");
        assert!(drawn[1000..].iter().all(|&class| class == 0.0));
        let refused = Case::new().value("x", x).string("mode", "probs");
        let message = refused.run("random_categorical", Opset::Ios15).err().unwrap().to_string();
        assert!(message.contains("line 1"), "{message}");
    }

    #[test]
    fn shapes_are_sizes() {
        let error = Case::new().ints("shape", &[1], &[-2]).run("random_normal", Opset::Ios15);
        assert!(error.err().unwrap().to_string().contains("`shape`"));
    }
}
