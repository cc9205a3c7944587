//! Folding: an operation whose inputs are all constants is computed when the plan is made; of an input
//! whose shape alone matters, the shape has to be known.

use coreml_format::mil::ElementType;
use coreml_kernels::Context;
use smallvec::SmallVec;

use super::legalise::{readable_constant, result_storage};
use super::rounding::{Precision, computes_halves};
use crate::error::OpError;
use crate::graph::{Graph, Origin, Value};
use crate::ids::Operand;
use crate::op::{Frame, Inputs, Op, Output, Outputs, ResultType, ResultTypes};
use crate::ops::Cast;
use crate::value::{Buffer, Bytes, Constant, ConstantData, Storage, TensorMut};
use crate::weights::Weights;

/// Constants that an operation would make of constants are computed at run time instead if they are
/// larger. (Constant expressions are of any size.)
const LARGEST_FOLDED_BYTES: usize = 64 << 20;

/// Bytes of all constants that are made of constants for a plan, but for small ones: a program of a few
/// bytes an operation could else ask for any amount before it runs.
const MOST_FOLDED_BYTES: usize = 256 << 20;

/// Constants of so many bytes, such as shapes, are always made.
const SMALL_BYTES: usize = 1 << 10;

/// Folds the operations of a plan.
pub(crate) struct Folder<'a> {
    weights: &'a Weights,
    context: &'a Context,
    precision: Precision,
    /// Whether operations that compute numbers of `fp16` are folded, too.
    folds_halves: bool,
    /// Bytes that may still be folded.
    room: usize,
}

impl<'a> Folder<'a> {
    pub(crate) fn new(
        weights: &'a Weights,
        context: &'a Context,
        precision: Precision,
        folds_halves: bool,
    ) -> Self {
        Folder { weights, context, precision, folds_halves, room: MOST_FOLDED_BYTES }
    }

    /// Takes room for constants; false if there is none.
    fn take(&mut self, bytes: usize) -> bool {
        if bytes <= SMALL_BYTES {
            return true;
        }
        let rest = self.room.checked_sub(bytes).filter(|_| bytes <= LARGEST_FOLDED_BYTES);
        self.room = rest.unwrap_or(self.room);
        rest.is_some()
    }

    /// The results of an operation on constants; `None` when an input is no constant, the results are large
    /// and no parts of it, or each run has its own.
    pub(crate) fn fold(
        &mut self,
        op: &dyn Op,
        inputs: &[Operand],
        types: &ResultTypes,
        graph: &Graph,
    ) -> Result<Option<Vec<Constant>>, OpError> {
        if op.varies() {
            return Ok(None);
        }
        let Some((constants, operands)) = readable_inputs(op, inputs, graph, self.weights)? else {
            return Ok(None);
        };
        let inputs = Inputs::new(&operands, &constants);
        if let Some(parts) = parts(op, &inputs, types)? {
            return Ok(Some(parts));
        }
        let elements = types.iter().map(|ty| ty.element);
        let computes_halves = computes_halves(op, &operands, elements, &constants);
        if computes_halves && !self.folds_halves {
            return Ok(None);
        }
        let mut held: SmallVec<[(Storage, usize); 2]> = SmallVec::new();
        for ty in types {
            let storage = result_storage(op, &operands, &constants, ty.element)?;
            held.push((storage, storage.byte_len(&ty.shape).unwrap_or(usize::MAX)));
        }
        if !self.take(held.iter().fold(0, |sum: usize, (_, len)| sum.saturating_add(*len))) {
            return Ok(None);
        }
        let mut buffers: SmallVec<[(Storage, Buffer); 2]> = SmallVec::new();
        for (storage, len) in held {
            buffers.push((storage, Buffer::zeroed(len)?));
        }
        let mut outputs: SmallVec<[Output; 2]> =
            buffers.iter_mut().zip(types).map(|(held, ty)| output(held, ty)).collect();
        let kernel = op.prepare(&inputs, self.weights)?;
        kernel.run(&inputs, &mut Outputs(&mut outputs), self.context)?;
        if computes_halves && self.precision == Precision::AsDeclared {
            outputs.iter_mut().for_each(|output| output.round_halves(self.context));
        }
        drop(outputs);
        Ok(Some(made(buffers, types)))
    }
}

/// Constants of what was computed.
fn made(buffers: SmallVec<[(Storage, Buffer); 2]>, types: &ResultTypes) -> Vec<Constant> {
    let constant = |((storage, buffer), ty): ((Storage, Buffer), &ResultType)| {
        Constant::dense(ty.element, storage, ty.shape.clone(), Bytes::from_buffer(buffer))
    };
    buffers.into_iter().zip(types).map(constant).collect()
}

/// A graph of the inputs alone, in forms that the operation reads, with the operands in it; `None`
/// when not all are known as far as they matter.
fn readable_inputs(
    op: &dyn Op,
    inputs: &[Operand],
    graph: &Graph,
    weights: &Weights,
) -> Result<Option<(Graph, Vec<Operand>)>, OpError> {
    let mut readable = Graph::default();
    let mut operands = Vec::with_capacity(inputs.len());
    for (input, operand) in inputs.iter().enumerate() {
        if op.reads_shape_only(input)
            && let Operand::Value(value) = *operand
            && graph.values[value].shape.is_some()
        {
            let known = Value { origin: Origin::Own, ..graph.values[value].clone() };
            operands.push(Operand::Value(readable.values.add(known)));
            continue;
        }
        let Some(constant) = graph.constant(*operand) else { return Ok(None) };
        let constant = readable_constant(op, input, constant, weights)?;
        if constant.tensor().is_none() {
            return Ok(None);
        }
        operands.push(readable.add_constant(constant));
    }
    Ok((!operands.is_empty()).then_some((readable, operands)))
}

/// The results as parts of the input's own bytes, where they are gap-free parts.
fn parts(
    op: &dyn Op,
    inputs: &Inputs,
    types: &ResultTypes,
) -> Result<Option<Vec<Constant>>, OpError> {
    let Some(constant) = op.keeps_storage_of().and_then(|input| inputs.constant(input)) else {
        return Ok(None);
    };
    let ConstantData::Dense(storage, bytes) = &constant.data else { return Ok(None) };
    let mut parts = Vec::with_capacity(types.len());
    for (output, ty) in types.iter().enumerate() {
        let Some(view) = op.view(inputs, output)?.filter(|view| view.is_dense(&ty.shape)) else {
            return Ok(None);
        };
        let start = usize::try_from(view.start).unwrap_or(0) * storage.size();
        let len = storage.byte_len(&ty.shape).unwrap_or(usize::MAX);
        let bytes = bytes.part(start..start.saturating_add(len));
        parts.push(Constant::dense(ty.element, *storage, ty.shape.clone(), bytes));
    }
    Ok(Some(parts))
}

/// Whether an operation narrows constant integers that its result can't hold: it is not computed when the
/// plan is made, for [`sixteen_bits`](super::sixteen_bits) to see it.
pub(crate) fn loses_integers(op: &dyn Op, inputs: &[Operand], graph: &Graph) -> bool {
    let (Some(cast), [operand]) = (op.downcast::<Cast>(), inputs) else { return false };
    let Some(tensor) = graph.tensor(*operand) else { return false };
    let holds = |value: i64| match cast.to {
        ElementType::Int16 => i16::try_from(value).is_ok(),
        _ => u16::try_from(value).is_ok(),
    };
    is_sixteen_bits(cast.to)
        && tensor.element == ElementType::Int32
        && tensor.int_elements().is_ok_and(|ints| {
            (0..tensor.len()).any(|index| ints.get(index).is_some_and(|value| !holds(value)))
        })
}

/// Whether elements are integers of 16 bits.
pub(crate) fn is_sixteen_bits(element: ElementType) -> bool {
    matches!(element, ElementType::Int16 | ElementType::UInt16)
}

fn output<'a>((storage, buffer): &'a mut (Storage, Buffer), ty: &'a ResultType) -> Output<'a> {
    Output::Tensor(TensorMut { element: ty.element, storage: *storage, bytes: buffer.bytes_mut() })
}
