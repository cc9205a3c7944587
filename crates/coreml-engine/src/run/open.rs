//! Operations whose shapes a plan leaves open. Results and kernel of the last run are kept, and used
//! again while shapes stay as they are.

use std::cell::Cell;

use smallvec::SmallVec;

use super::Running;
use super::workspace::{Found, OpenStep, Part};
use crate::error::OpError;
use crate::ids::{OpenId, Operand, ValueId};
use crate::op::{Frame, Inputs};
use crate::plan::{Place, Run};
use crate::value::{Shape, Strides, View};

type InputShapes = SmallVec<[(Shape, Option<Strides>); 3]>;

impl<'a> Running<'a, '_> {
    pub(super) fn open_operation(&mut self, run: &'a Run, slot: usize) -> Result<(), OpError> {
        let mut step = match self.call.workspace.steps[slot].take() {
            Some(step) if !step.by_value && self.fits(&step, run) => {
                if step.kernel.is_none() {
                    // Views of values that may have moved to other places.
                    self.views(run, &step.outputs)?;
                }
                step
            }
            _ => self.specialise(run)?,
        };
        let result = match &step.kernel {
            Some(kernel) => self.compute(run, kernel, Some(&step.outputs)),
            None => Ok(()),
        };
        if result.is_err() {
            step.by_value = true;
        }
        self.call.workspace.steps[slot] = Some(step);
        result
    }

    fn fits(&self, step: &OpenStep, run: &Run) -> bool {
        step.inputs.iter().zip(&run.inputs).all(|((shape, strides), &operand)| {
            self.shape(operand) == Some(shape.as_slice())
                && self.strides(operand) == strides.as_ref()
        })
    }

    fn input_shapes(&self, run: &Run) -> InputShapes {
        let shape = |&operand: &Operand| {
            let shape = self.shape(operand).map(Shape::from_slice).unwrap_or_default();
            (shape, self.strides(operand).cloned())
        };
        run.inputs.iter().map(shape).collect()
    }

    /// What an operation does for the shapes that its inputs have now.
    fn specialise(&mut self, run: &'a Run) -> Result<OpenStep, OpError> {
        let noted = Cell::new(false);
        let inputs = Inputs::new(&run.inputs, self).noting(&noted);
        let outputs: SmallVec<[Shape; 1]> =
            run.op.infer(&inputs)?.into_iter().map(|ty| ty.shape).collect();
        self.check_known(run, &outputs)?;
        let input_shapes = self.input_shapes(run);
        if self.views(run, &outputs)? {
            // Whether a result is a view, and of what part, may hang on values.
            let by_value = true;
            return Ok(OpenStep { inputs: input_shapes, outputs, kernel: None, by_value });
        }
        let inputs = Inputs::new(&run.inputs, self).noting(&noted).with_in_place(run.in_place);
        let kernel = Some(run.op.prepare(&inputs, &self.plan.weights)?);
        Ok(OpenStep { inputs: input_shapes, outputs, kernel, by_value: noted.get() })
    }

    /// Shapes that the plan knows must be those that come out.
    fn check_known(&self, run: &Run, shapes: &[Shape]) -> Result<(), OpError> {
        for (&output, shape) in run.outputs.iter().zip(shapes) {
            let planned = self.plan.values[output].shape.as_ref();
            if let Some(planned) = planned.filter(|planned| *planned != shape) {
                return Err(OpError::invalid(format!(
                    "a result of shape {:?} was planned, its inputs make it {:?}",
                    planned.as_slice(),
                    shape.as_slice()
                )));
            }
        }
        Ok(())
    }

    /// Makes all results views of the input that they are parts of, if they are; gives whether.
    fn views(&mut self, run: &'a Run, shapes: &[Shape]) -> Result<bool, OpError> {
        let mut views: SmallVec<[(OpenId, ValueId, View); 1]> = SmallVec::new();
        let inputs = Inputs::new(&run.inputs, self);
        for (index, &output) in run.outputs.iter().enumerate() {
            let Place::Open(open) = self.plan.values[output].place else { return Ok(false) };
            let Some(of) = self.plan.opens[open].of else { return Ok(false) };
            match run.op.view(&inputs, index)? {
                Some(view) if !view.runs_backwards() => views.push((open, of, view)),
                _ => return Ok(false),
            }
        }
        for ((open, of, view), shape) in views.into_iter().zip(shapes) {
            let Some((place, first)) = self.origin(of) else { return Err(OpError::NotYetKnown) };
            let start = usize::try_from(first as isize + view.start)
                .map_err(|_| OpError::invalid("a part that starts before its whole"))?;
            let part = Some(Part { place, start, strides: view.strides });
            self.call.workspace.opens[open] = Some(Found { shape: shape.clone(), part });
        }
        Ok(true)
    }
}
