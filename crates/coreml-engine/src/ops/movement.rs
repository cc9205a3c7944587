//! What operations have in common that only move the elements of one input: they are views of it
//! where their readers take those, and copies elsewhere.

use std::fmt::Debug;

use smallvec::SmallVec;

use crate::error::OpError;
use crate::op::{Inputs, Kernel, Moves, Op, Outputs, ResultType, ResultTypes, kernel};
use crate::value::{Constant, Layout, Shape, Strides, View, reshaped, row_major};
use crate::weights::Weights;

/// A result of a movement.
pub(super) struct Moved {
    pub(super) shape: Shape,
    /// Where the elements lie from the input's first one on, in their order.
    walk: Layout,
    /// The result as a view of the input, if strides can tell where its elements lie.
    view: Option<View>,
}

impl Moved {
    /// A result that is a view.
    pub(super) fn view(shape: Shape, view: View) -> Self {
        Moved { walk: Layout::of_view(&view, &shape), shape, view: Some(view) }
    }

    /// A result of elements that lie by these axes `(size, stride)`, joined to `shape`.
    pub(super) fn joined(shape: Shape, axes: &[(usize, isize)]) -> Self {
        let (sizes, strides): (Shape, Strides) = axes.iter().copied().unzip();
        let view = reshaped(&sizes, &strides, &shape).map(|strides| View { start: 0, strides });
        Moved { shape, walk: Layout::new(0, axes.iter().copied()), view }
    }
}

/// An operation that only moves the elements of one input.
pub(super) trait Movement: Clone + Debug + Send + Sync + 'static {
    /// The input.
    fn x(&self) -> usize;

    /// True when only this input's shape matters.
    fn reads_shape_only(&self, _input: usize) -> bool {
        false
    }

    /// Inputs whose integers say where elements lie.
    fn places(&self) -> SmallVec<[usize; 2]> {
        SmallVec::new()
    }

    /// What an input's values ask for beyond the axes of the moved one.
    fn beyond(&self, _inputs: &Inputs) -> Option<String> {
        None
    }

    /// The results, for an input of this shape and these strides.
    fn moved(
        &self,
        inputs: &Inputs,
        shape: &[usize],
        strides: &Strides,
    ) -> Result<SmallVec<[Moved; 1]>, OpError>;
}

/// The strides of a dense tensor.
pub(super) fn dense_strides(shape: &[usize]) -> Strides {
    row_major(shape).into_iter().map(|stride| stride as isize).collect()
}

impl<M: Movement> Op for M {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x())?;
        let element = inputs.element(self.x())?;
        let moved = self.moved(inputs, shape, &dense_strides(shape))?;
        Ok(moved.into_iter().map(|result| ResultType::new(element, result.shape)).collect())
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let movement = self.clone();
        match layouts(self, inputs) {
            Ok(layouts) => kernel(move |inputs, outputs, _context| {
                copy(inputs, outputs, movement.x(), &layouts)
            }),
            Err(OpError::NotYetKnown) => kernel(move |inputs, outputs, _context| {
                copy(inputs, outputs, movement.x(), &layouts(&movement, inputs)?)
            }),
            Err(error) => Err(error),
        }
    }

    fn reads_half(&self, input: usize) -> bool {
        input == self.x() || Movement::reads_shape_only(self, input)
    }

    fn reads_strided(&self, input: usize) -> bool {
        input == self.x() || Movement::reads_shape_only(self, input)
    }

    fn reads_shape_only(&self, input: usize) -> bool {
        Movement::reads_shape_only(self, input)
    }

    fn reads_compressed(&self, input: usize, _constant: &Constant) -> bool {
        Movement::reads_shape_only(self, input)
    }

    fn keeps_storage_of(&self) -> Option<usize> {
        Some(self.x())
    }

    fn moves(&self) -> Option<Moves> {
        Moves::new(self, [self.x()])
    }

    fn places(&self) -> SmallVec<[usize; 2]> {
        Movement::places(self)
    }

    fn beyond(&self, inputs: &Inputs) -> Option<String> {
        Movement::beyond(self, inputs)
    }

    fn view(&self, inputs: &Inputs, output: usize) -> Result<Option<View>, OpError> {
        let (shape, strides) = (inputs.shape(self.x())?, inputs.strides(self.x())?);
        let moved = self.moved(inputs, shape, &strides)?;
        Ok(moved.into_iter().nth(output).and_then(|result| result.view))
    }
}

/// Where the elements of each result lie from the input's first one on.
fn layouts<M: Movement>(movement: &M, inputs: &Inputs) -> Result<SmallVec<[Layout; 1]>, OpError> {
    let (shape, strides) = (inputs.shape(movement.x())?, inputs.strides(movement.x())?);
    Ok(movement.moved(inputs, shape, &strides)?.into_iter().map(|result| result.walk).collect())
}

fn copy(
    inputs: &Inputs,
    outputs: &mut Outputs,
    x: usize,
    layouts: &[Layout],
) -> Result<(), OpError> {
    let x = inputs.tensor(x)?;
    for (output, layout) in layouts.iter().enumerate() {
        let layout = layout.clone().shifted(x.start);
        layout.read(x.bytes, outputs.tensor(output)?.bytes, x.storage)?;
    }
    Ok(())
}
