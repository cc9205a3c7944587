//! Operations whose shapes a plan leaves open. Results and kernel of the last run are kept, and used
//! again while shapes stay as they are. A step whose shapes change takes memory for its new kernel
//! and for nothing else.

use std::cell::Cell;

use coreml_format::mil::ElementType;
use smallvec::SmallVec;

use super::Running;
use super::workspace::{Found, OpenStep, Part};
use crate::error::OpError;
use crate::ids::{OpenId, Operand, ValueId};
use crate::op::{Arrangement, Frame, Inputs, Kernel, ResultType, ResultTypes};
use crate::plan::bind::check_count;
use crate::plan::{Place, Run};
use crate::value::{Constant, ListValue, Shape, Storage, TensorRef, View};

/// What is known of a run's values without their elements: as much as while planning, or more.
struct Unread<'r, 'a, 'c>(&'r Running<'a, 'c>);

impl Frame for Unread<'_, '_, '_> {
    fn kind(&self, operand: Operand) -> (ElementType, Storage) {
        self.0.kind(operand)
    }

    fn shape(&self, operand: Operand) -> Option<&[usize]> {
        self.0.shape(operand)
    }

    fn arrangement(&self, operand: Operand) -> Arrangement<'_> {
        self.0.arrangement(operand)
    }

    fn tensor(&self, operand: Operand) -> Option<TensorRef<'_>> {
        self.constant(operand)?.tensor()
    }

    fn constant(&self, operand: Operand) -> Option<&Constant> {
        self.0.constant(operand)
    }

    fn list(&self, _operand: Operand) -> Option<&ListValue> {
        None
    }
}

impl<'a> Running<'a, '_> {
    /// Takes what the last run of a step found, made to fit the inputs that it has now.
    pub(super) fn open_step(&mut self, run: &'a Run, slot: usize) -> Result<OpenStep, OpError> {
        let mut step = std::mem::take(&mut self.call.workspace.steps[slot]);
        let fits = self.fits(&step, run);
        if !fits || step.by_value {
            self.specialise(run, &mut step, fits)?;
        } else if step.kernel.is_none() {
            // Views of values that may have moved to other places.
            self.views(run, &step.outputs, &Cell::new(false))?;
        }
        Ok(step)
    }

    /// Whether the inputs have the shapes and strides that a step was made for.
    fn fits(&self, step: &OpenStep, run: &Run) -> bool {
        let made = step.inputs.len() == run.inputs.len() && !step.outputs.is_empty();
        made && step.inputs.iter().zip(&run.inputs).all(|((shape, strides), &operand)| {
            self.shape(operand) == Some(shape.as_slice())
                && self.strides(operand) == strides.as_ref()
        })
    }

    /// Makes a step for the shapes that the inputs have now; `fits` says whether they are those that
    /// it was made for, and only values may differ.
    fn specialise(&mut self, run: &'a Run, step: &mut OpenStep, fits: bool) -> Result<(), OpError> {
        let noted = Cell::new(false);
        let inputs = Inputs::new(&run.inputs, self).noting(&noted);
        step.outputs.clear();
        let types = run.op.infer(&inputs)?;
        self.check_known(run, &types)?;
        step.outputs.extend(types.into_iter().map(|ty| ty.shape));
        if !fits {
            step.inputs.clear();
            step.inputs.extend(run.inputs.iter().map(|&operand| {
                let shape = self.shape(operand).map(Shape::from_slice).unwrap_or_default();
                (shape, self.strides(operand).cloned())
            }));
        }
        let kernel = step.kernel.take().filter(|_| fits && !step.kernel_by_value);
        let read = Cell::new(false);
        step.kernel = match self.views(run, &step.outputs, &noted)? {
            true => None,
            false => Some(kernel.map_or_else(|| self.kernel(run, &read), Ok)?),
        };
        step.kernel_by_value = read.get();
        step.by_value = noted.get() || read.get();
        Ok(())
    }

    /// The kernel for shapes alone; if the operation has none, one for the values as well, which is
    /// noted.
    fn kernel(&self, run: &Run, noted: &Cell<bool>) -> Result<Kernel, OpError> {
        let unread = Unread(self);
        let inputs = Inputs::new(&run.inputs, &unread).with_in_place(run.in_place);
        match run.op.prepare(&inputs, &self.plan.weights) {
            Err(OpError::NotYetKnown) => {}
            prepared => return prepared,
        }
        let inputs = Inputs::new(&run.inputs, self).noting(noted).with_in_place(run.in_place);
        run.op.prepare(&inputs, &self.plan.weights)
    }

    /// Number and elements of the results, and shapes that the plan knows, must be those that come out.
    fn check_known(&self, run: &Run, types: &ResultTypes) -> Result<(), OpError> {
        check_count(run.outputs.len(), types.len())?;
        for (&output, ResultType { element, shape }) in run.outputs.iter().zip(types) {
            let value = &self.plan.values[output];
            if value.element != *element {
                return Err(OpError::invalid(format!(
                    "the program says that the result has elements of type `{}`, but its inputs make \
                     them `{element}`",
                    value.element
                )));
            }
            // Where bounds are taken as far as an axis reaches, a result may become too small.
            let declared = value.declared.as_ref().filter(|declared| !declared.allows(shape));
            if let Some(declared) = declared
                && let Some(why) = run.op.beyond(&Inputs::new(&run.inputs, self))
            {
                return Err(OpError::invalid(format!(
                    "the program says that the result is {declared}, but its inputs make it {:?}: {why}",
                    shape.as_slice()
                )));
            }
            if let Some(planned) = value.shape.as_ref().filter(|planned| *planned != shape) {
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
    /// `noted` is set if that hangs on values.
    fn views(
        &mut self,
        run: &'a Run,
        shapes: &[Shape],
        noted: &Cell<bool>,
    ) -> Result<bool, OpError> {
        let mut views: SmallVec<[(OpenId, ValueId, View); 1]> = SmallVec::new();
        let inputs = Inputs::new(&run.inputs, self).noting(noted);
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
