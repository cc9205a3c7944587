//! Binds and runs one operation on given values, for the tests of the families.

use std::sync::Arc;

use coreml_format::Package;
use coreml_format::mil::{ElementType, Opset, ValueType, from_text};
use coreml_kernels::{Context, Workers};
use half::f16;
use smallvec::smallvec;

use super::{Arrangement, Binder, Bound, BoundOperation, Frame, Inputs, Op, Output, Outputs};
use crate::error::OpError;
use crate::ids::{Constants, Operand, Values};
use crate::ops::{Support, support};
use crate::value::{
    Buffer, Bytes, Constant, ConstantData, Element, Layout, ListValue, Shape, Storage, Strides,
    TensorMut, TensorRef,
};
use crate::weights::{Form, Weights, expand};

/// A value of a test.
#[derive(Clone)]
pub(crate) enum Value {
    Tensor { element: ElementType, storage: Storage, shape: Shape, buffer: Buffer },
    List(ListValue),
}

impl Value {
    /// A tensor that is held as `T` is.
    pub(crate) fn tensor<T: Element>(element: ElementType, shape: &[usize], values: &[T]) -> Self {
        let buffer = Buffer::copy_of(bytemuck::cast_slice(values)).unwrap();
        let storage = if element == ElementType::Bool { Storage::Bool } else { T::STORAGE };
        Value::Tensor { element, storage, shape: Shape::from_slice(shape), buffer }
    }

    fn zeros(element: ElementType, storage: Storage, shape: &[usize]) -> Result<Self, OpError> {
        let len = storage.byte_len(shape).ok_or_else(|| OpError::invalid("too large"))?;
        let buffer = Buffer::zeroed(len)?;
        Ok(Value::Tensor { element, storage, shape: Shape::from_slice(shape), buffer })
    }

    /// A copy of a dense tensor.
    pub(crate) fn of(tensor: &TensorRef) -> Self {
        Value::Tensor {
            element: tensor.element,
            storage: tensor.storage,
            shape: Shape::from_slice(tensor.shape),
            buffer: Buffer::copy_of(tensor.bytes).unwrap(),
        }
    }

    /// The tensor, if it is one.
    pub(crate) fn view(&self) -> Option<TensorRef<'_>> {
        match self {
            Value::Tensor { element, storage, shape, buffer } => {
                Some(TensorRef::dense(*element, *storage, shape, buffer.bytes()))
            }
            Value::List(_) => None,
        }
    }

    fn bytes(&self) -> &[u8] {
        self.view().map_or(&[], |tensor| tensor.bytes)
    }

    fn output(&mut self) -> Output<'_> {
        match self {
            Value::Tensor { element, storage, buffer, .. } => Output::Tensor(TensorMut {
                element: *element,
                storage: *storage,
                bytes: buffer.bytes_mut(),
            }),
            Value::List(list) => Output::List(list),
        }
    }

    /// The shape.
    pub(crate) fn shape(&self) -> Vec<usize> {
        self.view().unwrap().shape.to_vec()
    }

    /// The element type that the program sees.
    pub(crate) fn element(&self) -> ElementType {
        self.view().unwrap().element
    }

    /// The elements.
    pub(crate) fn values<T: Element>(&self) -> Vec<T> {
        self.view().unwrap().slice::<T>().unwrap().to_vec()
    }
}

/// The frame of a test: run-time values and constants.
#[derive(Default)]
struct TestFrame {
    values: Values<Value>,
    constants: Constants<Constant>,
    /// Values that are to be read strided.
    spread: Vec<Spread>,
}

/// A value's elements in another order and with gaps between them.
struct Spread {
    operand: Operand,
    strides: Strides,
    start: usize,
    buffer: Buffer,
}

impl TestFrame {
    fn spread_of(&self, operand: Operand) -> Option<&Spread> {
        self.spread.iter().find(|spread| spread.operand == operand)
    }

    /// Lays a value out with its axes in reverse, a gap behind each element and some before the first.
    fn spread(&mut self, operand: Operand) {
        let Some(tensor) = self.tensor(operand) else { return };
        let mut strides = Strides::new();
        let mut step = 2isize;
        for &size in tensor.shape {
            strides.push(step);
            step *= size.max(1) as isize;
        }
        let start = 3;
        let mut buffer = Buffer::zeroed((start + step as usize) * tensor.storage.size()).unwrap();
        let axes = tensor.shape.iter().copied().zip(strides.iter().copied());
        let layout = Layout::new(start, axes);
        layout.write(tensor.bytes, buffer.bytes_mut(), tensor.storage).unwrap();
        self.spread.push(Spread { operand, strides, start, buffer });
    }
}

impl Frame for TestFrame {
    fn kind(&self, operand: Operand) -> (ElementType, Storage) {
        match operand {
            Operand::Constant(id) => self.constants[id].kind(),
            Operand::Value(id) => match &self.values[id] {
                Value::Tensor { element, storage, .. } => (*element, *storage),
                Value::List(list) => (list.element, list.storage),
            },
        }
    }

    fn shape(&self, operand: Operand) -> Option<&[usize]> {
        match operand {
            Operand::Constant(id) => Some(&self.constants[id].shape),
            Operand::Value(id) => self.values[id].view().map(|tensor| tensor.shape),
        }
    }

    fn arrangement(&self, operand: Operand) -> Arrangement<'_> {
        match self.spread_of(operand) {
            Some(spread) => Arrangement::Strided(&spread.strides),
            None => Arrangement::Dense,
        }
    }

    fn tensor(&self, operand: Operand) -> Option<TensorRef<'_>> {
        if let (Some(spread), Operand::Value(id)) = (self.spread_of(operand), operand) {
            let (strides, bytes) = (Some(&spread.strides), spread.buffer.bytes());
            let dense = self.values[id].view()?;
            return Some(TensorRef { strides, start: spread.start, bytes, ..dense });
        }
        match operand {
            Operand::Constant(id) => self.constants[id].tensor(),
            Operand::Value(id) => self.values[id].view(),
        }
    }

    fn constant(&self, operand: Operand) -> Option<&Constant> {
        match operand {
            Operand::Constant(id) => Some(&self.constants[id]),
            Operand::Value(_) => None,
        }
    }

    fn list(&self, operand: Operand) -> Option<&ListValue> {
        match operand {
            Operand::Value(id) => match &self.values[id] {
                Value::List(list) => Some(list),
                Value::Tensor { .. } => None,
            },
            Operand::Constant(_) => None,
        }
    }
}

/// The weights of a package without any.
fn no_weights() -> Arc<Weights> {
    let text = "program(1.0) { func main<ios15>(fp32 x) { } -> (x); }";
    let package = Package::from_program(from_text(text).unwrap()).unwrap();
    Weights::new(package, crate::Limits::new()).unwrap()
}

/// One operation with its arguments.
#[derive(Default)]
pub(crate) struct Case {
    frame: TestFrame,
    arguments: Vec<(&'static str, Bound)>,
    declared: Vec<ValueType>,
}

impl Case {
    pub(crate) fn new() -> Self {
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
    pub(crate) fn value(mut self, name: &'static str, value: Value) -> Self {
        let value = Operand::Value(self.frame.values.add(value));
        self.bind(name, value)
    }

    /// Run-time floats.
    pub(crate) fn floats(self, name: &'static str, shape: &[usize], values: &[f32]) -> Self {
        self.value(name, Value::tensor(ElementType::Float32, shape, values))
    }

    /// Run-time integers.
    pub(crate) fn ints(self, name: &'static str, shape: &[usize], values: &[i32]) -> Self {
        self.value(name, Value::tensor(ElementType::Int32, shape, values))
    }

    /// Run-time halves, held as such.
    pub(crate) fn halves(self, name: &'static str, shape: &[usize], values: &[f32]) -> Self {
        let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
        self.value(name, Value::tensor(ElementType::Float16, shape, &halves))
    }

    /// A constant.
    pub(crate) fn constant(mut self, name: &'static str, constant: Constant) -> Self {
        let constant = Operand::Constant(self.frame.constants.add(constant));
        self.bind(name, constant)
    }

    /// A constant that is held as `T` is.
    pub(crate) fn dense<T: Element>(
        self,
        name: &'static str,
        element: ElementType,
        shape: &[usize],
        values: &[T],
    ) -> Self {
        self.constant(name, dense(element, shape, values))
    }

    /// A constant vector of integers.
    pub(crate) fn vector(self, name: &'static str, values: &[i32]) -> Self {
        self.dense(name, ElementType::Int32, &[values.len()], values)
    }

    /// A constant integer.
    pub(crate) fn int(self, name: &'static str, value: i32) -> Self {
        self.dense(name, ElementType::Int32, &[], &[value])
    }

    /// Constant bools.
    pub(crate) fn bools(self, name: &'static str, values: &[u8]) -> Self {
        self.dense(name, ElementType::Bool, &[values.len()], values)
    }

    /// A constant float.
    pub(crate) fn float(self, name: &'static str, value: f32) -> Self {
        self.dense(name, ElementType::Float32, &[], &[value])
    }

    /// A constant string.
    pub(crate) fn string(self, name: &'static str, text: &str) -> Self {
        let data = ConstantData::Strings(Arc::new([text.to_owned()]));
        self.constant(name, Constant { element: ElementType::String, shape: Shape::new(), data })
    }

    /// The types that a program declares for the results.
    pub(crate) fn declares(self, declared: Vec<ValueType>) -> Self {
        Case { declared, ..self }
    }

    /// Runs the operation; also in place and on strided inputs wherever it can, which has to give the
    /// same.
    pub(crate) fn run(self, operator: &str, opset: Opset) -> Result<Vec<Value>, OpError> {
        let Support::Computed(definition, def) = support(operator, opset) else {
            panic!("`{operator}` of {opset} is not computed");
        };
        let bound =
            Binder::new(definition, &self.arguments, &self.frame, &self.declared)?.bind(def)?;
        let (op, operands) = match bound {
            BoundOperation::Constants(constants) => {
                return constants.iter().map(of_constant).collect();
            }
            BoundOperation::Op(op, operands) => (op, operands),
        };
        let mut bench = Bench { op, operands, frame: self.frame, weights: no_weights() };
        bench.make_readable()?;
        let mut results = bench.results(operator)?;
        bench.compute(&mut results, None)?;
        if bench.op.varies() {
            return Ok(results);
        }
        bench.again_in_place(&results)?;
        bench.again_strided(&results)?;
        Ok(results)
    }

    /// The first result's shape and floats.
    pub(crate) fn run_floats(self, operator: &str, opset: Opset) -> (Vec<usize>, Vec<f32>) {
        let results = self.run(operator, opset).unwrap();
        (results[0].shape(), results[0].values())
    }

    /// The first result's shape and integers.
    pub(crate) fn run_ints(self, operator: &str, opset: Opset) -> (Vec<usize>, Vec<i32>) {
        let results = self.run(operator, opset).unwrap();
        (results[0].shape(), results[0].values())
    }
}

/// A bound operation on its values.
struct Bench {
    op: Box<dyn Op>,
    operands: Vec<Operand>,
    frame: TestFrame,
    weights: Arc<Weights>,
}

impl Bench {
    fn inputs(&self) -> Inputs<'_> {
        Inputs::new(&self.operands, &self.frame)
    }

    /// Gives halves and compressed constants only to those who read them, as legalising does.
    fn make_readable(&mut self) -> Result<(), OpError> {
        for (input, operand) in self.operands.iter_mut().enumerate() {
            let Some(constant) = self.frame.constant(*operand).cloned() else { continue };
            let half = constant.storage() == Some(Storage::F16) && !self.op.reads_half(input);
            let packed = constant.is_compressed() && !self.op.reads_compressed(input, &constant);
            if half || packed {
                let wide = self.weights.form(&constant, Form::Wide)?;
                *operand = Operand::Constant(self.frame.constants.add(wide));
            }
        }
        Ok(())
    }

    /// Room for the results.
    fn results(&self, operator: &str) -> Result<Vec<Value>, OpError> {
        let is_list = matches!(operator, "make_list" | "list_write" | "list_scatter");
        let mut results = Vec::new();
        for ty in self.op.infer(&self.inputs())? {
            let kept = self.op.keeps_storage_of();
            let kept = kept.map(|input| self.frame.kind(self.operands[input]).1);
            let storage = kept.or(Storage::natural(ty.element)).unwrap();
            results.push(match is_list {
                true => Value::List(ListValue::empty(ty.element, storage)),
                false => Value::zeros(ty.element, storage, &ty.shape)?,
            });
        }
        Ok(results)
    }

    fn compute(&self, results: &mut [Value], in_place: Option<usize>) -> Result<(), OpError> {
        let inputs = self.inputs().with_in_place(in_place);
        let mut outputs: Vec<Output> = results.iter_mut().map(Value::output).collect();
        let context = Context::new(Workers::shared());
        let kernel = self.op.prepare(&inputs, &self.weights)?;
        kernel.run(&inputs, &mut Outputs(&mut outputs), &context)
    }

    fn again_in_place(&self, results: &[Value]) -> Result<(), OpError> {
        for &input in self.op.in_place() {
            let taken = self.inputs().tensor(input)?;
            if Some(taken.storage) != results[0].view().map(|result| result.storage)
                || taken.bytes.len() != results[0].bytes().len()
            {
                continue;
            }
            let mut again = results.to_vec();
            if let Value::Tensor { buffer, .. } = &mut again[0] {
                buffer.bytes_mut().copy_from_slice(taken.bytes);
            }
            self.compute(&mut again, Some(input))?;
            assert_eq!(again[0].bytes(), results[0].bytes(), "in place of input {input}");
        }
        Ok(())
    }

    fn again_strided(&mut self, results: &[Value]) -> Result<(), OpError> {
        for (input, &operand) in self.operands.iter().enumerate() {
            if self.op.reads_strided(input) && matches!(operand, Operand::Value(_)) {
                self.frame.spread(operand);
            }
        }
        let mut again = results.to_vec();
        for value in &mut again {
            if let Value::Tensor { buffer, .. } = value {
                buffer.bytes_mut().fill(0x5a);
            }
        }
        self.compute(&mut again, None)?;
        for (again, result) in again.iter().zip(results) {
            assert_eq!(again.bytes(), result.bytes(), "of strided inputs");
        }
        Ok(())
    }
}

/// A constant that is held as `T` is.
pub(crate) fn dense<T: Element>(element: ElementType, shape: &[usize], values: &[T]) -> Constant {
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
pub(crate) fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![Vec::new()], |outer, &size| {
        let longer = |index: &Vec<usize>| {
            let index = index.clone();
            (0..size).map(move |last| [index.as_slice(), &[last]].concat())
        };
        outer.iter().flat_map(longer).collect()
    })
}

/// The place of an index among the elements of a tensor.
pub(crate) fn position(shape: &[usize], index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |position, (size, i)| position * size + i)
}

/// The integers from 0 on, as many as a tensor has elements.
pub(crate) fn arange(shape: &[usize]) -> Vec<i32> {
    (0..shape.iter().product::<usize>() as i32).collect()
}
