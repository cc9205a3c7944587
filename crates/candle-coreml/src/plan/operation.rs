//! One operation: binds it, gives it its inputs in forms that it reads, infers its results, and
//! folds it, views it or makes it a step.

use coreml_format::mil::{ElementType, Operation, ValueType};
use smallvec::SmallVec;

use super::build::{Builder, step};
use super::constants::Expression;
use super::draft::{Draft, Origin, SlotDraft};
use super::{Run, Step, Work, walk};
use crate::error::{Error, Result};
use crate::ops::{
    self, Binder, Bound, Folded, Frame, Inputs, Op, OpError, Operand, Output, Outputs, ResultType,
    ResultTypes, Scratch, Widen,
};
use crate::value::{Buffer, Bytes, Constant, ConstantData, Storage, TensorMut};

/// Constants that an operation would make of constants when the plan is made are computed at run
/// time instead if they are larger. (`constexpr_*` operations are constants of any size.)
const LARGEST_FOLDED_BYTES: usize = 64 << 20;

impl<'a> Builder<'a> {
    pub(super) fn plain(&mut self, operation: &'a Operation, steps: &mut Vec<Step>) -> Result<()> {
        let opset = self.function.opset;
        let def =
            ops::lookup(&operation.operator, opset).ok_or_else(|| Error::UnsupportedOperation {
                function: self.name.to_owned(),
                operation: operation.name().to_owned(),
                operator: operation.operator.clone(),
                opset: opset.to_string(),
            })?;
        let mut arguments: Vec<(&str, Bound)> = Vec::with_capacity(operation.inputs.len());
        for (name, argument) in &operation.inputs {
            arguments.push((name, self.bound(argument)?));
        }
        let declared: Vec<ValueType> =
            operation.outputs.iter().map(|output| output.ty.clone()).collect();
        self.bind_and_plan(operation, def, &arguments, &declared, steps).map_err(
            |error| match error {
                PlanError::Op(error) => self.operation_error(operation, &error),
                PlanError::Whole(error) => error,
            },
        )
    }

    fn bind_and_plan(
        &mut self,
        operation: &'a Operation,
        def: &ops::OpDef,
        arguments: &[(&str, Bound)],
        declared: &[ValueType],
        steps: &mut Vec<Step>,
    ) -> Result<(), PlanError> {
        let (op, mut operands) = Binder::new(arguments, &self.draft, declared).bind(def)?;
        if let Some(constants) = self.fold(op.as_ref(), def, arguments, &operands)? {
            let types = constants
                .iter()
                .map(|constant| ResultType::new(constant.element, constant.shape.clone()));
            self.check_types(operation, &types.collect())?;
            return self.define_constants(operation, constants);
        }
        self.convert_operands(op.as_ref(), &mut operands, steps)?;
        let mut types = self.infer(op.as_ref(), &operands)?;
        if types.is_none() && op.keeps_storage_of().is_some() {
            // At run time such an operation takes what it finds; what it finds has to be what the
            // slot says, so it gets natural storage.
            self.widen_all(&mut operands, steps)?;
            types = self.infer(op.as_ref(), &operands)?;
        }
        if let Some(types) = &types {
            self.check_types(operation, types)?;
            if self.all_constant(&operands)
                && declared.iter().all(|ty| matches!(ty, ValueType::Tensor(_)))
                && let Some(constants) = self.fold_by_running(op.as_ref(), &operands, types)?
            {
                return self.define_constants(operation, constants);
            }
        }
        let outputs = self.result_slots(operation, op.as_ref(), &operands, types.as_ref())?;
        let operands_of_outputs: Vec<Operand> =
            outputs.iter().map(|&slot| Operand::Slot(slot)).collect();
        self.define_outputs(operation, &operands_of_outputs)?;
        let views = outputs
            .iter()
            .all(|&slot| matches!(self.draft.slots[slot].origin, Origin::View { .. }));
        if !views || outputs.is_empty() {
            let run = Run { op, inputs: operands, outputs, in_place: None };
            steps.push(step(operation, Work::Run(run)));
        }
        Ok(())
    }

    /// What an operation itself makes of constants. The value of a `constexpr_*` operation is kept
    /// for all functions and input shapes.
    fn fold(
        &self,
        op: &dyn Op,
        def: &ops::OpDef,
        arguments: &[(&str, Bound)],
        operands: &[Operand],
    ) -> Result<Option<Folded>, OpError> {
        let inputs = Inputs::new(operands, &self.draft, None);
        if !def.name.starts_with("constexpr_") {
            return op.fold(&inputs);
        }
        let expression = self.expression(def, arguments);
        let value = self.weights.expression(expression, || {
            op.fold(&inputs)?.ok_or_else(|| OpError::invalid("its inputs have to be constants"))
        })?;
        Ok(Some(value))
    }

    fn expression(&self, def: &ops::OpDef, arguments: &[(&str, Bound)]) -> Option<Expression> {
        let mut keys = Vec::with_capacity(arguments.len());
        for (name, bound) in arguments {
            for operand in bound {
                keys.push(((*name).to_owned(), self.draft.constant(*operand)?.key()?));
            }
        }
        Some(Expression { operator: def.name, since: def.since, arguments: keys })
    }

    fn define_constants(
        &mut self,
        operation: &'a Operation,
        constants: impl IntoIterator<Item = Constant>,
    ) -> Result<(), PlanError> {
        let constants = constants.into_iter().map(|constant| self.add_constant(constant));
        let operands: Vec<Operand> = constants.collect();
        self.define_outputs(operation, &operands)
    }

    pub(super) fn define_outputs(
        &mut self,
        operation: &'a Operation,
        operands: &[Operand],
    ) -> Result<(), PlanError> {
        if operation.outputs.len() != operands.len() {
            return Err(PlanError::Op(OpError::invalid(format!(
                "the program names {} results, the operation has {}",
                operation.outputs.len(),
                operands.len()
            ))));
        }
        for (output, operand) in operation.outputs.iter().zip(operands) {
            self.define(&output.name, *operand);
        }
        Ok(())
    }

    fn infer(&self, op: &dyn Op, operands: &[Operand]) -> Result<Option<ResultTypes>, OpError> {
        match op.infer(&Inputs::new(operands, &self.draft, None)) {
            Ok(types) => Ok(Some(types)),
            Err(OpError::NotYetKnown) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The results must be what the program declares.
    fn check_types(&self, operation: &Operation, types: &ResultTypes) -> Result<(), OpError> {
        for (output, ty) in operation.outputs.iter().zip(types) {
            if let ValueType::Tensor(declared) = &output.ty {
                walk::check_declared(&output.name, declared, ty)?;
            }
        }
        Ok(())
    }

    /// Gives an operation its inputs in forms that it reads.
    fn convert_operands(
        &mut self,
        op: &dyn Op,
        operands: &mut [Operand],
        steps: &mut Vec<Step>,
    ) -> Result<(), OpError> {
        for (input, operand) in operands.iter_mut().enumerate() {
            if let Some(constant) = self.draft.constant(*operand) {
                if constant.is_compressed() && op.accepts_compressed(input, constant) {
                    continue;
                }
                let half = op.accepts_half(input);
                if constant.is_compressed() || (is_half(constant) && !half) {
                    let dense = self.weights.dense(&constant.clone(), half)?;
                    *operand = self.add_constant(dense);
                }
            } else if !op.accepts_half(input) {
                *operand = self.widen(*operand, steps);
            }
        }
        Ok(())
    }

    pub(super) fn widen_all(
        &mut self,
        operands: &mut [Operand],
        steps: &mut Vec<Step>,
    ) -> Result<(), OpError> {
        for operand in operands {
            *operand = match self.draft.constant(*operand) {
                Some(constant) if is_half(constant) => {
                    let dense = self.weights.dense(&constant.clone(), false)?;
                    self.add_constant(dense)
                }
                Some(_) => *operand,
                None => self.widen(*operand, steps),
            };
        }
        Ok(())
    }

    /// The slot itself, or a widened copy of it when it is held as `F16`.
    fn widen(&mut self, operand: Operand, steps: &mut Vec<Step>) -> Operand {
        let Operand::Slot(slot) = operand else { return operand };
        if self.draft.slots[slot].storage != Storage::F16 {
            return operand;
        }
        // Nested blocks may run never or often: what they widen stays theirs.
        if self.scopes.len() == 1
            && let Some(&wide) = self.widened.get(&slot)
        {
            return Operand::Slot(wide);
        }
        let wide = self.draft.add_slot(SlotDraft {
            element: self.draft.slots[slot].element,
            storage: Storage::F32,
            shape: self.draft.slots[slot].shape.clone(),
            origin: Origin::Own,
        });
        let run =
            Run { op: Box::new(Widen), inputs: vec![operand], outputs: vec![wide], in_place: None };
        steps.push(Step {
            name: format!("widen {slot}"),
            operator: "widen".to_owned(),
            work: Work::Run(run),
        });
        if self.scopes.len() == 1 {
            self.widened.insert(slot, wide);
        }
        Operand::Slot(wide)
    }

    fn all_constant(&self, operands: &[Operand]) -> bool {
        !operands.is_empty()
            && operands.iter().all(|operand| {
                self.draft.constant(*operand).is_some_and(|constant| constant.tensor().is_some())
            })
    }

    /// The results of an operation on constants, unless they are large.
    fn fold_by_running(
        &mut self,
        op: &dyn Op,
        operands: &[Operand],
        types: &ResultTypes,
    ) -> Result<Option<Vec<Constant>>, OpError> {
        let inputs = Inputs::new(operands, &self.draft, None);
        let mut folded = Vec::with_capacity(types.len());
        for (index, ty) in types.iter().enumerate() {
            let storage = result_storage(op, operands, &self.draft, ty.element)?;
            let len = storage.byte_len(&ty.shape).unwrap_or(usize::MAX);
            if let Some((input, start)) = op.view(&inputs, index)
                && let Some(Constant { data: ConstantData::Dense(storage, bytes), .. }) =
                    inputs.constant(input)
            {
                let start = start * storage.size();
                let bytes = bytes.part(start..start.saturating_add(len));
                folded.push(Constant::dense(ty.element, *storage, ty.shape.clone(), bytes));
                continue;
            }
            if len > LARGEST_FOLDED_BYTES {
                return Ok(None);
            }
            let bytes = Bytes::from_buffer(Buffer::zeroed(len)?);
            folded.push(Constant::dense(ty.element, storage, ty.shape.clone(), bytes));
        }
        if (0..types.len()).all(|index| op.view(&inputs, index).is_some()) {
            return Ok(Some(folded));
        }
        run_folded(op, &inputs, types, folded, &mut self.scratch).map(Some)
    }

    /// Slots for an operation's results: views where the operation moves nothing.
    fn result_slots(
        &mut self,
        operation: &Operation,
        op: &dyn Op,
        operands: &[Operand],
        types: Option<&ResultTypes>,
    ) -> Result<Vec<usize>, OpError> {
        let mut drafts = Vec::with_capacity(operation.outputs.len());
        for (index, output) in operation.outputs.iter().enumerate() {
            drafts.push(match &output.ty {
                ValueType::List(element, _) => list_slot(element)?,
                ValueType::Tensor(declared) => {
                    let shape = types.and_then(|types| types.get(index)).map(|ty| ty.shape.clone());
                    let storage = result_storage(op, operands, &self.draft, declared.element)?;
                    let origin = self.view(op, operands, index, shape.is_some());
                    SlotDraft { element: declared.element, storage, shape, origin }
                }
                other => return Err(OpError::unsupported(format!("a result of type {other}"))),
            });
        }
        let views = drafts.iter().filter(|slot| matches!(slot.origin, Origin::View { .. })).count();
        if views != drafts.len() {
            // All or nothing: the step has to run anyway.
            for slot in &mut drafts {
                if matches!(slot.origin, Origin::View { .. }) {
                    slot.origin = Origin::Own;
                }
            }
        }
        Ok(drafts.into_iter().map(|slot| self.draft.add_slot(slot)).collect())
    }

    fn view(&self, op: &dyn Op, operands: &[Operand], output: usize, known: bool) -> Origin {
        let inputs = Inputs::new(operands, &self.draft, None);
        let view = if known && self.optimise { op.view(&inputs, output) } else { None };
        let Some((input, start)) = view else { return Origin::Own };
        match operands.get(input) {
            Some(&Operand::Slot(of)) => {
                Origin::View { of, offset: start * self.draft.slots[of].storage.size() }
            }
            _ => Origin::Own,
        }
    }
}

/// An error of one operation, which still needs its name, or one that says all.
pub(super) enum PlanError {
    Op(OpError),
    Whole(Error),
}

impl From<OpError> for PlanError {
    fn from(error: OpError) -> Self {
        PlanError::Op(error)
    }
}

impl From<Error> for PlanError {
    fn from(error: Error) -> Self {
        PlanError::Whole(error)
    }
}

fn is_half(constant: &Constant) -> bool {
    constant.storage() == Some(Storage::F16)
}

/// The storage in which an element type is computed.
pub(super) fn natural(element: ElementType) -> Result<Storage, OpError> {
    Storage::natural(element)
        .ok_or_else(|| OpError::unsupported(format!("a value of type `{element}`")))
}

/// A slot for a list of values of this type.
pub(super) fn list_slot(element: &ValueType) -> Result<SlotDraft, OpError> {
    let tensor = element
        .as_tensor()
        .ok_or_else(|| OpError::unsupported(format!("a list of values of type {element}")))?;
    Ok(SlotDraft {
        element: tensor.element,
        storage: natural(tensor.element)?,
        shape: None,
        origin: Origin::List,
    })
}

fn result_storage(
    op: &dyn Op,
    operands: &[Operand],
    draft: &Draft,
    element: ElementType,
) -> Result<Storage, OpError> {
    match op.keeps_storage_of().and_then(|input| operands.get(input)) {
        Some(operand) => Ok(draft.kind(*operand).1),
        None => natural(element),
    }
}

fn run_folded(
    op: &dyn Op,
    inputs: &Inputs,
    types: &ResultTypes,
    folded: Vec<Constant>,
    scratch: &mut Scratch,
) -> Result<Vec<Constant>, OpError> {
    let mut buffers: SmallVec<[(Storage, Buffer); 2]> = SmallVec::new();
    for constant in folded {
        if let ConstantData::Dense(storage, bytes) = constant.data {
            buffers.push((storage, Buffer::copy_of(bytes.as_slice())?));
        }
    }
    let mut outputs: SmallVec<[Output; 2]> = buffers
        .iter_mut()
        .zip(types)
        .map(|((storage, buffer), ty)| {
            Output::Tensor(TensorMut {
                element: ty.element,
                storage: *storage,
                shape: &ty.shape,
                bytes: buffer.bytes_mut(),
            })
        })
        .collect();
    op.run(inputs, &mut Outputs(&mut outputs), scratch)?;
    drop(outputs);
    let constant = |((storage, buffer), ty): ((Storage, Buffer), &ResultType)| {
        Constant::dense(ty.element, storage, ty.shape.clone(), Bytes::from_buffer(buffer))
    };
    Ok(buffers.into_iter().zip(types).map(constant).collect())
}
