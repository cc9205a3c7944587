//! Binds and runs one operation on given values, for the tests of the families.

use std::sync::Arc;

use coreml_format::mil::{ElementType, Opset};
use half::f16;
use smallvec::smallvec;

use super::{
    Binder, Bound, Frame, Inputs, OpError, Operand, Output, Outputs, Scratch, expand, lookup,
};
use crate::value::{
    Buffer, Bytes, Constant, ConstantData, Element, ListValue, Shape, Storage, TensorMut, TensorRef,
};

/// A value of a test.
#[derive(Clone)]
pub(super) enum Value {
    Tensor { element: ElementType, storage: Storage, shape: Shape, buffer: Buffer },
    List(ListValue),
}

impl Value {
    /// A tensor that is held as `T` is.
    pub(super) fn tensor<T: Element>(element: ElementType, shape: &[usize], values: &[T]) -> Self {
        let buffer = Buffer::copy_of(bytemuck::cast_slice(values)).unwrap();
        let storage = if element == ElementType::Bool { Storage::Bool } else { T::STORAGE };
        Value::Tensor { element, storage, shape: Shape::from_slice(shape), buffer }
    }

    fn zeros(element: ElementType, storage: Storage, shape: &[usize]) -> Result<Self, OpError> {
        let len = storage.byte_len(shape).ok_or_else(|| OpError::invalid("too large"))?;
        let buffer = Buffer::zeroed(len)?;
        Ok(Value::Tensor { element, storage, shape: Shape::from_slice(shape), buffer })
    }

    fn view(&self) -> Option<TensorRef<'_>> {
        match self {
            Value::Tensor { element, storage, shape, buffer } => Some(TensorRef {
                element: *element,
                storage: *storage,
                shape,
                bytes: buffer.bytes(),
            }),
            Value::List(_) => None,
        }
    }

    fn bytes(&self) -> &[u8] {
        self.view().map_or(&[], |tensor| tensor.bytes)
    }

    fn output(&mut self) -> Output<'_> {
        match self {
            Value::Tensor { element, storage, shape, buffer } => Output::Tensor(TensorMut {
                element: *element,
                storage: *storage,
                shape,
                bytes: buffer.bytes_mut(),
            }),
            Value::List(list) => Output::List(list),
        }
    }

    /// The shape.
    pub(super) fn shape(&self) -> Vec<usize> {
        self.view().unwrap().shape.to_vec()
    }

    /// The element type that the program sees.
    pub(super) fn element(&self) -> ElementType {
        self.view().unwrap().element
    }

    /// The elements.
    pub(super) fn values<T: Element>(&self) -> Vec<T> {
        self.view().unwrap().slice::<T>().unwrap().to_vec()
    }
}

/// The frame of a test: run-time values and constants.
#[derive(Default)]
struct TestFrame {
    slots: Vec<Value>,
    constants: Vec<Constant>,
}

impl Frame for TestFrame {
    fn kind(&self, operand: Operand) -> (ElementType, Storage) {
        match operand {
            Operand::Constant(index) => {
                let constant = &self.constants[index];
                (constant.element, constant.storage().unwrap_or(Storage::U8))
            }
            Operand::Slot(slot) => match &self.slots[slot] {
                Value::Tensor { element, storage, .. } => (*element, *storage),
                Value::List(list) => (list.element, list.storage),
            },
        }
    }

    fn shape(&self, operand: Operand) -> Option<&[usize]> {
        match operand {
            Operand::Constant(index) => Some(&self.constants[index].shape),
            Operand::Slot(slot) => self.slots[slot].view().map(|tensor| tensor.shape),
        }
    }

    fn tensor(&self, operand: Operand) -> Option<TensorRef<'_>> {
        match operand {
            Operand::Constant(index) => self.constants[index].tensor(),
            Operand::Slot(slot) => self.slots[slot].view(),
        }
    }

    fn constant(&self, operand: Operand) -> Option<&Constant> {
        match operand {
            Operand::Constant(index) => Some(&self.constants[index]),
            Operand::Slot(_) => None,
        }
    }

    fn list(&self, operand: Operand) -> Option<&ListValue> {
        match operand {
            Operand::Slot(slot) => match &self.slots[slot] {
                Value::List(list) => Some(list),
                Value::Tensor { .. } => None,
            },
            Operand::Constant(_) => None,
        }
    }
}

/// One operation with its arguments.
#[derive(Default)]
pub(super) struct Case {
    frame: TestFrame,
    arguments: Vec<(&'static str, Bound)>,
}

impl Case {
    pub(super) fn new() -> Self {
        Case::default()
    }

    fn bind(mut self, name: &'static str, operand: Operand) -> Self {
        match self.arguments.iter_mut().find(|argument| argument.0 == name) {
            Some(argument) => argument.1.push(operand),
            None => self.arguments.push((name, smallvec![operand])),
        }
        self
    }

    /// A run-time value; a name given again makes a list argument.
    pub(super) fn value(mut self, name: &'static str, value: Value) -> Self {
        self.frame.slots.push(value);
        let slot = Operand::Slot(self.frame.slots.len() - 1);
        self.bind(name, slot)
    }

    /// Run-time floats.
    pub(super) fn floats(self, name: &'static str, shape: &[usize], values: &[f32]) -> Self {
        self.value(name, Value::tensor(ElementType::Float32, shape, values))
    }

    /// Run-time integers.
    pub(super) fn ints(self, name: &'static str, shape: &[usize], values: &[i32]) -> Self {
        self.value(name, Value::tensor(ElementType::Int32, shape, values))
    }

    /// Run-time halves, held as such.
    pub(super) fn halves(self, name: &'static str, shape: &[usize], values: &[f32]) -> Self {
        let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
        self.value(name, Value::tensor(ElementType::Float16, shape, &halves))
    }

    /// A constant.
    pub(super) fn constant(mut self, name: &'static str, constant: Constant) -> Self {
        self.frame.constants.push(constant);
        let operand = Operand::Constant(self.frame.constants.len() - 1);
        self.bind(name, operand)
    }

    /// A constant that is held as `T` is.
    pub(super) fn dense<T: Element>(
        self,
        name: &'static str,
        element: ElementType,
        shape: &[usize],
        values: &[T],
    ) -> Self {
        self.constant(name, dense(element, shape, values))
    }

    /// A constant of packed elements.
    pub(super) fn packed(
        self,
        name: &'static str,
        element: ElementType,
        shape: &[usize],
        bytes: &[u8],
    ) -> Self {
        let bytes = Bytes::from_buffer(Buffer::copy_of(bytes).unwrap());
        let (shape, data) = (Shape::from_slice(shape), ConstantData::Packed(bytes));
        self.constant(name, Constant { element, shape, data })
    }

    /// A constant vector of integers.
    pub(super) fn vector(self, name: &'static str, values: &[i32]) -> Self {
        self.dense(name, ElementType::Int32, &[values.len()], values)
    }

    /// A constant integer.
    pub(super) fn int(self, name: &'static str, value: i32) -> Self {
        self.dense(name, ElementType::Int32, &[], &[value])
    }

    /// Constant bools.
    pub(super) fn bools(self, name: &'static str, values: &[u8]) -> Self {
        self.dense(name, ElementType::Bool, &[values.len()], values)
    }

    /// A constant float.
    pub(super) fn float(self, name: &'static str, value: f32) -> Self {
        self.dense(name, ElementType::Float32, &[], &[value])
    }

    /// A constant string.
    pub(super) fn string(self, name: &'static str, text: &str) -> Self {
        let data = ConstantData::Strings(Arc::new([text.to_owned()]));
        self.constant(name, Constant { element: ElementType::String, shape: Shape::new(), data })
    }

    /// Runs the operation; also in place wherever it can, which has to give the same.
    pub(super) fn run(self, operator: &str, opset: Opset) -> Result<Vec<Value>, OpError> {
        self.run_repeated(operator, opset, None)
    }

    /// Runs the operation after it has absorbed a repetition of an input.
    pub(super) fn run_repeated(
        self,
        operator: &str,
        opset: Opset,
        repeat: Option<(usize, usize)>,
    ) -> Result<Vec<Value>, OpError> {
        let def = lookup(operator, opset).unwrap();
        let frame = &self.frame;
        let (mut op, operands) = Binder::new(&self.arguments, frame, &[]).bind(def)?;
        if let Some((input, times)) = repeat {
            assert!(op.absorb_repeat(input, times));
        }
        let inputs = Inputs::new(&operands, frame, None);
        if let Some(constants) = op.fold(&inputs)? {
            return constants.iter().map(of_constant).collect();
        }
        let is_list = matches!(operator, "make_list" | "list_write" | "list_scatter");
        let mut results = Vec::new();
        for ty in op.infer(&inputs)? {
            let kept = op.keeps_storage_of().map(|input| frame.kind(operands[input]).1);
            let storage = kept.or(Storage::natural(ty.element)).unwrap();
            results.push(match is_list {
                true => Value::List(ListValue::empty(ty.element, storage)),
                false => Value::zeros(ty.element, storage, &ty.shape)?,
            });
        }
        let run = |results: &mut [Value], inputs: &Inputs| {
            let mut outputs: Vec<Output> = results.iter_mut().map(Value::output).collect();
            op.run(inputs, &mut Outputs(&mut outputs), &mut Scratch::default())
        };
        run(&mut results, &inputs)?;
        for &input in op.in_place() {
            let taken = inputs.tensor(input)?;
            if Some(taken.storage) != results[0].view().map(|result| result.storage)
                || taken.bytes.len() != results[0].bytes().len()
            {
                continue;
            }
            let mut again = results.clone();
            if let Value::Tensor { buffer, .. } = &mut again[0] {
                buffer.bytes_mut().copy_from_slice(taken.bytes);
            }
            run(&mut again, &Inputs::new(&operands, frame, Some(input)))?;
            assert_eq!(again[0].bytes(), results[0].bytes(), "in place of input {input}");
        }
        Ok(results)
    }

    /// The first result's shape and floats.
    pub(super) fn run_floats(self, operator: &str, opset: Opset) -> (Vec<usize>, Vec<f32>) {
        let results = self.run(operator, opset).unwrap();
        (results[0].shape(), results[0].values())
    }

    /// The first result's shape and integers.
    pub(super) fn run_ints(self, operator: &str, opset: Opset) -> (Vec<usize>, Vec<i32>) {
        let results = self.run(operator, opset).unwrap();
        (results[0].shape(), results[0].values())
    }
}

/// A constant that is held as `T` is.
pub(super) fn dense<T: Element>(element: ElementType, shape: &[usize], values: &[T]) -> Constant {
    let bytes = Bytes::from_buffer(Buffer::copy_of(bytemuck::cast_slice(values)).unwrap());
    let storage = if element == ElementType::Bool { Storage::Bool } else { T::STORAGE };
    Constant::dense(element, storage, Shape::from_slice(shape), bytes)
}

fn of_constant(constant: &Constant) -> Result<Value, OpError> {
    let dense = expand(constant)?;
    let tensor = dense.tensor().unwrap();
    let mut value = Value::zeros(tensor.element, tensor.storage, tensor.shape)?;
    if let Value::Tensor { buffer, .. } = &mut value {
        buffer.bytes_mut().copy_from_slice(tensor.bytes);
    }
    Ok(value)
}

/// All indices of a tensor, in the order of its elements.
pub(super) fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![Vec::new()], |outer, &size| {
        let longer = |index: &Vec<usize>| {
            let index = index.clone();
            (0..size).map(move |last| [index.as_slice(), &[last]].concat())
        };
        outer.iter().flat_map(longer).collect()
    })
}

/// The place of an index among the elements of a tensor.
pub(super) fn position(shape: &[usize], index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |position, (size, i)| position * size + i)
}

/// The integers from 0 on, as many as a tensor has elements.
pub(super) fn arange(shape: &[usize]) -> Vec<i32> {
    (0..shape.iter().product::<usize>() as i32).collect()
}
