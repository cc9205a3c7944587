//! Pooling.

use coreml_format::mil::Opset;
use coreml_kernels::{PoolParams, Pooling, SpatialDim, pool};

use super::window::{SpatialDims, Windows};
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, bound, def, kernel, one};
use crate::value::{Shape, count};
use crate::weights::Weights;

/// Pooling over one to three spatial axes.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) x: usize,
    pub(crate) pooling: Pooling,
    pub(crate) kernel_sizes: Shape,
    pub(crate) windows: Windows,
    /// Whether the last window may end behind the padding.
    pub(crate) ceil_mode: bool,
}

impl Pool {
    /// The spatial axes of an input, and how many windows there are along each.
    fn spatial(&self, x: &[usize]) -> Result<(SpatialDims, Shape), OpError> {
        if !(3..=5).contains(&x.len()) {
            let expected = "a batch, channels and one to three spatial axes";
            return Err(OpError::argument("x", expected, format!("shape {x:?}")));
        }
        if self.kernel_sizes.len() != x.len() - 2 {
            let expected = format!("a size for each of {} spatial axes", x.len() - 2);
            let got = format!("{:?}", self.kernel_sizes.as_slice());
            return Err(OpError::argument("kernel_sizes", expected, got));
        }
        let dims = self.windows.over(&x[2..], &self.kernel_sizes)?;
        let size = |dim: &SpatialDim| match self.ceil_mode {
            true => dim.output_ceil(),
            false => dim.output(),
        };
        let output = dims.iter().map(size).collect::<Result<Shape, _>>()?;
        Ok((dims, output))
    }
}

impl Op for Pool {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let x = inputs.shape(self.x)?;
        let (_, output) = self.spatial(x)?;
        let mut shape = Shape::from_slice(&x[..2]);
        shape.extend(output);
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let shape = inputs.shape(self.x)?;
        let (spatial, output) = self.spatial(shape)?;
        let planes = count(&shape[..2]);
        let &Pool { x, pooling, .. } = self;
        kernel(move |inputs, outputs, context| {
            let params = PoolParams { planes, spatial: &spatial, output: &output, pooling };
            let x = inputs.tensor(x)?.f32s()?;
            Ok(pool(context, &params, x, outputs.tensor(0)?.f32s()?)?)
        })
    }
}

fn bind(binder: &mut Binder, pooling: Pooling) -> Result<Box<dyn Op>, OpError> {
    bound(Pool {
        x: binder.input("x")?,
        pooling,
        kernel_sizes: binder.shape("kernel_sizes")?,
        windows: Windows::bind(binder)?,
        ceil_mode: binder.bool("ceil_mode")?,
    })
}

fn avg_pool(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let padding = !binder.bool("exclude_padding_from_average")?;
    bind(binder, Pooling::Average { padding })
}

fn l2_pool(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bind(binder, Pooling::L2)
}

fn max_pool(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bind(binder, Pooling::Max)
}

pub(super) const OPS: &[OpDef] = &[
    def("avg_pool", Opset::Ios15, avg_pool),
    def("l2_pool", Opset::Ios15, l2_pool),
    def("max_pool", Opset::Ios15, max_pool),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::Case;

    fn case(shape: &[usize], kernel: &[i32], pad_type: &str) -> Case {
        let x: Vec<f32> = (1..=count(shape)).map(|i| i as f32).collect();
        let case = Case::new().floats("x", shape, &x).vector("kernel_sizes", kernel);
        case.string("pad_type", pad_type)
    }

    #[test]
    fn custom_padding_without_a_list_is_none() {
        let (shape, values) = case(&[1, 1, 4], &[2], "CUSTOM").run_floats("max_pool", Opset::Ios15);
        assert_eq!((shape, values), (vec![1, 1, 3], vec![2.0, 3.0, 4.0]));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let message = |case: Case| match case.run("max_pool", Opset::Ios15) {
            Ok(_) => panic!("it runs"),
            Err(error) => error.to_string(),
        };
        let good = || case(&[1, 1, 4], &[2], "valid");
        assert!(good().run("max_pool", Opset::Ios15).is_ok());
        let custom = || case(&[1, 1, 4], &[2], "custom");
        for (case, word) in [
            (case(&[1, 4], &[2], "valid"), "`x`"),
            (case(&[1, 1, 1, 1, 1, 4], &[2], "valid"), "`x`"),
            (case(&[1, 1, 4], &[2, 2], "valid"), "`kernel_sizes`"),
            (case(&[1, 1, 4], &[-1], "valid"), "`kernel_sizes`"),
            (case(&[1, 1, 4], &[0], "valid"), "at least 1"),
            (case(&[1, 1, 4], &[5], "valid"), "at most 4"),
            (case(&[1, 1, 4], &[5], "full"), "`pad_type`"),
            (good().vector("strides", &[0]), "`strides`"),
            (good().vector("strides", &[1, 1]), "`strides`"),
            (custom().vector("pad", &[1]), "`pad`"),
            (custom().vector("pad", &[1, 1, 1, 1]), "`pad`"),
            (custom().vector("pad", &[0, -1]), "`pad`"),
        ] {
            let message = message(case);
            assert!(message.contains(word), "{message:?} lacks {word}");
        }
    }
}
