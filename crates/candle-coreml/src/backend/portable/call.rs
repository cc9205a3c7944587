//! Calls of a function that the engine runs.

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::{Device, Tensor, WithDType};
use coreml_engine::{
    Buffer, CallOptions, CancelToken, Context, Element, Function, FunctionInput, OperationResult,
    PrecisionReport, Shape,
};
use coreml_format::description::{FeatureType, FunctionDescription};
use smallvec::SmallVec;

use super::state::PortableState;
use crate::backend::{BackendCall, ReadOutput, WriteElements, input_error};
use crate::error::{Error, Result, ValueError};
use crate::state::CoreMLState;
use crate::tensors::{self, InputBytes};
use crate::values::{self, Array, FeatureValue, Image, OutputValue};

/// A function with the memory of its inputs.
pub(super) struct PortableCall {
    function: Arc<Function>,
    context: Arc<Context>,
    inputs: Vec<String>,
    /// What the model's description says of the inputs.
    types: Vec<Option<FeatureType>>,
    values: Vec<Given>,
    shapes: Vec<Shape>,
    /// States while a call runs.
    states: Vec<Buffer>,
}

/// The bytes of inputs that lie in the caller's memory; few functions have more inputs.
type Borrowed<'a> = SmallVec<[Option<&'a [u8]>; 8]>;

/// The value of an input.
#[derive(Default)]
struct Given {
    bytes: InputBytes,
    given: bool,
}

impl PortableCall {
    pub(super) fn new(
        function: Arc<Function>,
        context: Arc<Context>,
        description: Option<&FunctionDescription>,
    ) -> Self {
        let inputs: Vec<String> = function.inputs().iter().map(|i| i.name.clone()).collect();
        let described = |name: &String| {
            let feature = description?.inputs.iter().find(|feature| feature.name == *name)?;
            Some(feature.ty.clone())
        };
        PortableCall {
            types: inputs.iter().map(described).collect(),
            values: inputs.iter().map(|_| Given::default()).collect(),
            shapes: vec![Shape::new(); inputs.len()],
            states: Vec::new(),
            inputs,
            function,
            context,
        }
    }

    fn input(&self, index: usize) -> Result<&FunctionInput, ValueError> {
        self.function.inputs().get(index).ok_or_else(|| ValueError::Unknown {
            owner: format!("function `{}`", self.function.name()),
            available: self.inputs.clone(),
        })
    }

    /// What the input takes, for messages.
    fn expected(&self, index: usize) -> Result<String, ValueError> {
        let input = self.input(index)?;
        Ok(match &self.types[index] {
            Some(image @ FeatureType::Image(_)) => image.to_string(),
            _ => input.expected(),
        })
    }

    /// The input, and the shape that its function sees of a value of this shape; fails if it takes none
    /// of it.
    fn accept(&self, index: usize, shape: &[usize]) -> Result<(&FunctionInput, Shape), ValueError> {
        let input = self.input(index)?;
        match input.shape_in_program(shape) {
            Some(seen) => Ok((input, seen)),
            None => Err(ValueError::Shape {
                expected: input.expected_instead(shape),
                got: shape.to_vec(),
                mismatch: input.mismatch(shape).map(Box::new),
            }),
        }
    }

    fn set_tensor(&mut self, index: usize, tensor: &Tensor) -> Result<(), ValueError> {
        let (input, shape) = self.accept(index, tensor.dims())?;
        let (element, storage) = (input.ty.element, input.storage);
        self.bytes(index).set(tensor, element, storage)?;
        self.note(index, shape);
        Ok(())
    }

    /// The bytes of an array where an input takes them as they are, for one run; else it gets a copy.
    fn borrow<'a>(
        &mut self,
        index: usize,
        array: &Array<'a>,
    ) -> Result<Option<&'a [u8]>, ValueError> {
        let (input, shape) = self.accept(index, array.shape())?;
        let (element, storage) = (input.ty.element, input.storage);
        if values::fits_as_it_is(array, element, storage)? {
            self.shapes[index] = shape;
            self.values[index].given = false;
            return array.bytes().map(Some);
        }
        self.bytes(index).set_array(array, element, storage)?;
        self.note(index, shape);
        Ok(None)
    }

    fn set_image(&mut self, index: usize, image: &Image) -> Result<(), ValueError> {
        let expected = self.expected(index)?;
        let Some(FeatureType::Image(ty)) = &self.types[index] else {
            return Err(ValueError::mismatch(expected, "an image"));
        };
        image.check(ty)?;
        let color_space = ty.color_space;
        if self.input(index)?.ty.element.is_float() {
            return self.write_floats(index, &image.shape(), &mut |to| {
                image.write(color_space, to);
                Ok(())
            });
        }
        self.write_ints(index, &image.shape(), &mut |to| {
            let mut pixels = vec![0.0; to.len()];
            image.write(color_space, &mut pixels);
            to.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = pixel as i32);
            Ok(())
        })
    }

    /// Lets `write` write where the engine reads, or, for inputs that are held as other numbers, into a
    /// tensor that is converted.
    fn write<T: WithDType + Element>(
        &mut self,
        index: usize,
        shape: &[usize],
        write: WriteElements<T>,
    ) -> Result<(), ValueError> {
        let (input, seen) = self.accept(index, shape)?;
        let (element, storage) = (input.ty.element, input.storage);
        let bytes = self.bytes(index);
        if storage == T::STORAGE {
            bytes.write(shape, element, write)?;
        } else {
            bytes.set(&tensors::written(shape, write)?, element, storage)?;
        }
        self.note(index, seen);
        Ok(())
    }

    /// The shape of an input that a single number is given to.
    fn scalar_shape(&self, index: usize) -> Result<Shape, ValueError> {
        let input = self.input(index)?;
        let shape = input.default_shape().filter(|shape| shape.iter().all(|&size| size == 1));
        shape.ok_or_else(|| ValueError::mismatch(input.expected(), "a number"))
    }

    /// The bytes of an input, to be replaced: it has no value until that has succeeded.
    fn bytes(&mut self, index: usize) -> &mut InputBytes {
        self.values[index].given = false;
        &mut self.values[index].bytes
    }

    /// An input has a value of this shape.
    fn note(&mut self, index: usize, shape: Shape) {
        self.shapes[index] = shape;
        self.values[index].given = true;
    }

    /// Gives inputs without a value that of the description, where they may be left out.
    fn fill_in(&mut self, borrowed: &[Option<&[u8]>]) -> Result<()> {
        for index in 0..self.values.len() {
            if self.values[index].given || borrowed.get(index).is_some_and(Option::is_some) {
                continue;
            }
            let input = &self.function.inputs()[index];
            let error = |source| Error::Input { name: input.name.clone(), source };
            let (true, Some(shape)) = (input.optional, input.default_shape()) else {
                let expected = self.expected(index).map_err(error)?;
                return Err(error(ValueError::Missing { expected }));
            };
            let value = input.feature.as_ref().and_then(|feature| feature.default_value);
            let (element, storage) = (input.ty.element, input.storage);
            let bytes = &mut self.values[index].bytes;
            bytes.fill(value.unwrap_or(0.0), &shape, element, storage).map_err(error)?;
            // It stands in for this call alone: `given` stays as it is.
            self.shapes[index] = shape;
        }
        Ok(())
    }

    /// Takes the states that the function declares out of those given.
    fn take_states<'s>(
        &mut self,
        state: Option<&'s mut CoreMLState>,
    ) -> Result<Option<&'s mut PortableState>> {
        let Some(first) = self.function.states().first() else { return Ok(None) };
        let wrong = |source| Error::State { name: first.name.clone(), source };
        let Some(state) = state else {
            return Err(wrong(ValueError::NoState { function: self.function.name().to_owned() }));
        };
        let states =
            state.downcast_mut::<PortableState>().ok_or_else(|| wrong(ValueError::OtherBackend))?;
        states.take(self.function.states(), &mut self.states)?;
        Ok(Some(states))
    }
}

/// An output as the model describes it: of a classifier, what its probabilities mean.
fn output<'a>(function: &Function, index: usize, array: Array<'a>) -> Result<OutputValue<'a>> {
    let Some(classifier) = function.classifier() else { return Ok(OutputValue::Array(array)) };
    let index = Some(index);
    let value = if index == classifier.class {
        values::class(&classifier.classes, &array)
    } else if index == classifier.probabilities {
        values::probabilities(&classifier.classes, &array)
    } else {
        return Ok(OutputValue::Array(array));
    };
    Ok(OutputValue::Value(value?))
}

impl BackendCall for PortableCall {
    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        self.function.outputs()
    }

    fn set(&mut self, index: usize, value: &FeatureValue) -> Result<(), ValueError> {
        match value {
            FeatureValue::Tensor(tensor) => self.set_tensor(index, tensor),
            FeatureValue::Image(image) => self.set_image(index, image),
            FeatureValue::Int64(integer) => {
                let shape = self.scalar_shape(index)?;
                self.set_tensor(index, &Tensor::full(*integer, &*shape, &Device::Cpu)?)
            }
            FeatureValue::Double(float) => {
                let shape = self.scalar_shape(index)?;
                self.set_tensor(index, &Tensor::full(*float, &*shape, &Device::Cpu)?)
            }
            other => Err(ValueError::mismatch(self.expected(index)?, other.kind_in_words())),
        }
    }

    fn set_array(&mut self, index: usize, array: &Array) -> Result<(), ValueError> {
        let (input, shape) = self.accept(index, array.shape())?;
        let (element, storage) = (input.ty.element, input.storage);
        self.bytes(index).set_array(array, element, storage)?;
        self.note(index, shape);
        Ok(())
    }

    fn write_floats(
        &mut self,
        index: usize,
        shape: &[usize],
        write: WriteElements<f32>,
    ) -> Result<(), ValueError> {
        self.write(index, shape, write)
    }

    fn write_ints(
        &mut self,
        index: usize,
        shape: &[usize],
        write: WriteElements<i32>,
    ) -> Result<(), ValueError> {
        self.write(index, shape, write)
    }

    fn clear(&mut self) {
        for value in &mut self.values {
            value.given = false;
            value.bytes.let_go();
        }
    }

    fn run(
        &mut self,
        state: Option<&mut CoreMLState>,
        options: CallOptions,
        read: ReadOutput,
    ) -> Result<()> {
        self.run_with(&[], state, options, read)
    }

    fn run_with(
        &mut self,
        arrays: &[(usize, Array)],
        state: Option<&mut CoreMLState>,
        options: CallOptions,
        read: ReadOutput,
    ) -> Result<()> {
        let mut borrowed = Borrowed::from_elem(None, self.inputs.len());
        for (index, array) in arrays {
            let bytes = self.borrow(*index, array);
            let bytes = bytes.map_err(|source| input_error(&self.inputs, *index, source))?;
            borrowed[*index] = bytes;
        }
        self.fill_in(&borrowed)?;
        let taken = self.take_states(state)?;
        let mut failed = None;
        let PortableCall { function, context, values, shapes, states, .. } = self;
        let inputs = values.iter().map(|value| &value.bytes).zip(borrowed.iter().copied());
        let result = InputBytes::with_all(inputs, |bytes| {
            function.predict(context, shapes, bytes, states, options, |index, tensor| {
                let result = output(function, index, Array::of_engine(*tensor));
                match result.and_then(|output| read(index, &output)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })
        });
        if let Some(taken) = taken {
            taken.put_back(function.states(), states);
        }
        result?;
        failed.map_or(Ok(()), Err)
    }

    fn check_precision(
        &mut self,
        state: Option<&mut CoreMLState>,
        cancel: Option<&CancelToken>,
    ) -> Result<PrecisionReport> {
        self.fill_in(&[])?;
        let taken = self.take_states(state)?;
        let PortableCall { function, context, values, shapes, states, .. } = self;
        let inputs = values.iter().map(|value| (&value.bytes, None));
        let report = InputBytes::with_all(inputs, |bytes| {
            function.check_precision(context, shapes, bytes, states, cancel)
        });
        if let Some(taken) = taken {
            taken.put_back(function.states(), states);
        }
        Ok(report?)
    }

    fn observe(
        &mut self,
        state: Option<&mut CoreMLState>,
        cancel: Option<&CancelToken>,
        read: &mut (dyn FnMut(OperationResult) + Send),
    ) -> Result<()> {
        self.fill_in(&[])?;
        let taken = self.take_states(state)?;
        let PortableCall { function, context, values, shapes, states, .. } = self;
        let inputs = values.iter().map(|value| (&value.bytes, None));
        let ran = InputBytes::with_all(inputs, |bytes| {
            function.observe(context, shapes, bytes, states, cancel, read)
        });
        if let Some(taken) = taken {
            taken.put_back(function.states(), states);
        }
        Ok(ran?)
    }
}
