//! Elementwise functions of one tensor: `cast`, `clip`, `exp`, `log`, `sqrt`, ….

use coreml_format::mil::{ElementType, Opset};
use half::f16;

use super::{Binder, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, def, one};
use crate::value::{Element, Storage, TensorMut, TensorRef};

/// A function of `f32` elements that works in place.
pub(super) struct Map {
    x: usize,
    function: Box<dyn Fn(&mut [f32]) + Send + Sync>,
}

/// Binds `x` of a function of floats.
pub(super) fn map(
    binder: &mut Binder,
    function: impl Fn(&mut [f32]) + Send + Sync + 'static,
) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    if !binder.element(x).is_float() {
        let got = format!("`{}`", binder.element(x));
        return Err(OpError::argument("x", "a tensor of floats", got));
    }
    Ok(Box::new(Map { x, function: Box::new(function) }))
}

impl Op for Map {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.x)?, inputs.shape(self.x)?)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let values = outputs.tensor(0)?.f32s()?;
        if !inputs.is_in_place(self.x) {
            values.copy_from_slice(inputs.tensor(self.x)?.f32s()?);
        }
        (self.function)(values);
        Ok(())
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}
