//! The tensors that a call gives, in a function's order.

use candle_core::{DType, Device, Tensor};
use coreml_engine::{Function, FunctionInput, Shape, Storage};

use crate::error::{Error, Result};
use crate::tensors::InputBytes;
use crate::words::list;

/// A function's inputs for one call.
pub(super) struct Inputs {
    pub(super) shapes: Vec<Shape>,
    pub(super) bytes: Vec<InputBytes>,
}

impl Inputs {
    /// The inputs of a function, from tensors by name.
    pub(super) fn new(function: &Function, given: &[(&str, &Tensor)]) -> Result<Self> {
        check_names(function, given)?;
        let inputs = function.inputs();
        let mut shapes = Vec::with_capacity(inputs.len());
        let mut bytes = Vec::with_capacity(inputs.len());
        for input in inputs {
            let tensor = find(input, given)?;
            shapes.push(tensor.dims().into());
            bytes.push(
                InputBytes::new(&tensor, input.ty.element, input.storage)
                    .map_err(|message| Error::Input { name: input.name.clone(), message })?,
            );
        }
        Ok(Inputs { shapes, bytes })
    }
}

fn check_names(function: &Function, given: &[(&str, &Tensor)]) -> Result<()> {
    for (position, (name, _)) in given.iter().enumerate() {
        let wrong = |message| Error::Input { name: (*name).to_owned(), message };
        if !function.inputs().iter().any(|input| input.name == *name) {
            let names: Vec<&str> =
                function.inputs().iter().map(|input| input.name.as_str()).collect();
            return Err(wrong(format!(
                "function `{}` has no such input; it has {}",
                function.name(),
                list(&names)
            )));
        }
        if given[..position].iter().any(|(earlier, _)| earlier == name) {
            return Err(wrong("it is given twice".to_owned()));
        }
    }
    Ok(())
}

/// The tensor given for an input, or the default value of an optional one.
fn find(input: &FunctionInput, given: &[(&str, &Tensor)]) -> Result<Tensor> {
    let wrong = |message| Error::Input { name: input.name.clone(), message };
    let Some((_, tensor)) = given.iter().find(|(name, _)| *name == input.name) else {
        let default = input.feature.as_ref().and_then(|feature| feature.default_value);
        return match (input.optional, input.default_shape()) {
            (true, Some(shape)) => {
                let value = default.unwrap_or(0.0) as f32;
                Ok(Tensor::full(value, shape.as_slice(), &Device::Cpu)?.to_dtype(dtype(input))?)
            }
            _ => Err(wrong(format!("it is missing; expected {}", input.expected()))),
        };
    };
    if input.allows(tensor.dims()) {
        return Ok((*tensor).clone());
    }
    Err(wrong(format!("expected {}, got shape {:?}", input.expected(), tensor.dims())))
}

fn dtype(input: &FunctionInput) -> DType {
    match input.storage {
        Storage::F32 | Storage::F16 | Storage::F64 => DType::F32,
        _ => DType::I64,
    }
}
