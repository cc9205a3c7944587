//! From a function and its input shapes to steps: resolves names, folds constants, binds
//! operations, infers shapes.

use std::collections::HashMap;

use coreml_format::mil::{
    Argument, Binding, ElementType, Function, NamedValueType, Operation, ValueType,
};
use smallvec::SmallVec;

use super::constants::Weights;
use super::{
    Block, Cond, LoopVariable, Plan, PlanInput, PlanState, Run, Step, While, Work, fuse, memory,
    states,
};
use crate::error::{Error, Result};
use crate::ops::{
    self, Binder, Bound, Frame, Inputs, Op, OpError, Operand, Output, Outputs, ResultType,
    ResultTypes, Scratch, Widen,
};
use crate::value::{
    Buffer, Bytes, Constant, ConstantData, ListValue, Shape, Storage, TensorMut, TensorRef,
};

/// Folded constants above this size are computed at run time instead.
const LARGEST_FOLDED_BYTES: usize = 64 << 20;

/// Makes the plan of a function for inputs of these shapes (in the order of the function's
/// tensor inputs).
pub(crate) fn build(
    name: &str,
    function: &Function,
    input_shapes: &[Shape],
    weights: &Weights,
) -> Result<Plan> {
    let mut builder = Builder::new(name, function, weights);
    builder.declare_inputs(&function.inputs, input_shapes)?;
    let steps = builder.block(&function.block.operations)?;
    let mut outputs = Vec::new();
    for output in &function.block.outputs {
        outputs.push((output.clone(), builder.named(output)?));
    }
    let mut draft = builder.draft;
    let mut body =
        Block { steps, results: outputs.iter().map(|(_, operand)| *operand).collect() };
    fuse::absorb_repeats(&mut body, &mut draft);
    fuse::drop_unneeded(&mut body, &draft);
    states::resolve(&mut body, &mut draft);
    Ok(memory::assign(draft, body, outputs))
}

/// A plan in the making: values without places.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) slots: Vec<SlotDraft>,
    pub(super) constants: Vec<Constant>,
    pub(super) inputs: Vec<PlanInput>,
    pub(super) states: Vec<PlanState>,
}

/// A slot without a place.
pub(super) struct SlotDraft {
    pub(super) element: ElementType,
    pub(super) storage: Storage,
    pub(super) shape: Option<Shape>,
    pub(super) origin: Origin,
}

/// Where a slot's bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Its own buffer.
    Own,
    /// A part of another slot that starts at this byte.
    View { of: usize, offset: usize },
    /// A function input.
    Input(usize),
    /// A function state.
    State(usize),
    /// A list.
    List,
}

impl Draft {
    pub(super) fn add_slot(&mut self, slot: SlotDraft) -> usize {
        self.slots.push(slot);
        self.slots.len() - 1
    }

    /// The slot that holds a slot's bytes, and where they start in it.
    pub(super) fn root(&self, slot: usize) -> (usize, usize) {
        let (mut root, mut start) = (slot, 0);
        while let Origin::View { of, offset } = self.slots[root].origin {
            root = of;
            start += offset;
        }
        (root, start)
    }

    /// Size of a slot in bytes, if its shape is known.
    pub(super) fn byte_len(&self, slot: usize) -> Option<usize> {
        let slot = &self.slots[slot];
        slot.storage.byte_len(slot.shape.as_ref()?)
    }
}

impl Frame for Draft {
    fn kind(&self, operand: Operand) -> (ElementType, Storage) {
        match operand {
            Operand::Slot(slot) => (self.slots[slot].element, self.slots[slot].storage),
            Operand::Constant(index) => {
                let constant = &self.constants[index];
                (constant.element, constant.storage().unwrap_or(Storage::U8))
            }
        }
    }

    fn shape(&self, operand: Operand) -> Option<&[usize]> {
        match operand {
            Operand::Slot(slot) => self.slots[slot].shape.as_deref(),
            Operand::Constant(index) => Some(&self.constants[index].shape),
        }
    }

    fn tensor(&self, operand: Operand) -> Option<TensorRef<'_>> {
        self.constant(operand)?.tensor()
    }

    fn constant(&self, operand: Operand) -> Option<&Constant> {
        match operand {
            Operand::Slot(_) => None,
            Operand::Constant(index) => Some(&self.constants[index]),
        }
    }

    fn list(&self, _operand: Operand) -> Option<&ListValue> {
        None
    }
}

struct Builder<'a> {
    name: &'a str,
    function: &'a Function,
    weights: &'a Weights,
    draft: Draft,
    /// Values by name, one map a nested block.
    scopes: Vec<HashMap<&'a str, Operand>>,
    state_names: HashMap<&'a str, usize>,
    widened: HashMap<usize, usize>,
    scratch: Scratch,
}

impl<'a> Builder<'a> {
    fn new(name: &'a str, function: &'a Function, weights: &'a Weights) -> Self {
        Builder {
            name,
            function,
            weights,
            draft: Draft::default(),
            scopes: vec![HashMap::new()],
            state_names: HashMap::new(),
            widened: HashMap::new(),
            scratch: Scratch::default(),
        }
    }

    fn program_error(&self, message: impl Into<String>) -> Error {
        Error::Program { function: self.name.to_owned(), message: message.into() }
    }

    fn operation_error(&self, operation: &Operation, error: &OpError) -> Error {
        Error::Operation {
            function: self.name.to_owned(),
            operation: operation.name().to_owned(),
            operator: operation.operator.clone(),
            message: error.to_string(),
        }
    }

    fn declare_inputs(&mut self, inputs: &'a [NamedValueType], shapes: &[Shape]) -> Result<()> {
        let mut shapes = shapes.iter();
        for input in inputs {
            let no_support = || self.program_error(format!("input `{}` has no tensor type", input.name));
            let tensor = input.ty.as_tensor().ok_or_else(no_support)?;
            if let ValueType::State(_) = input.ty {
                self.state_names.insert(&input.name, self.draft.states.len());
                self.draft.states.push(PlanState::new(self.name, input)?);
                continue;
            }
            let storage = Storage::natural(tensor.element).ok_or_else(no_support)?;
            let shape = shapes.next().cloned().unwrap_or_default();
            let slot = self.draft.add_slot(SlotDraft {
                element: tensor.element,
                storage,
                shape: Some(shape.clone()),
                origin: Origin::Input(self.draft.inputs.len()),
            });
            self.draft.inputs.push(PlanInput {
                name: input.name.clone(),
                element: tensor.element,
                storage,
                shape,
            });
            self.define(&input.name, Operand::Slot(slot));
        }
        Ok(())
    }

    fn define(&mut self, name: &'a str, operand: Operand) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, operand);
        }
    }

    fn named(&self, name: &str) -> Result<Operand> {
        self.scopes
            .iter()
            .rev()
            .find_map(|scope| scope.get(name).copied())
            .ok_or_else(|| self.program_error(format!("value `{name}` is not defined")))
    }

    fn add_constant(&mut self, constant: Constant) -> Operand {
        self.draft.constants.push(constant);
        Operand::Constant(self.draft.constants.len() - 1)
    }

    fn block(&mut self, operations: &'a [Operation]) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for operation in operations {
            self.operation(operation, &mut steps)?;
        }
        Ok(steps)
    }

    fn operation(&mut self, operation: &'a Operation, steps: &mut Vec<Step>) -> Result<()> {
        match operation.operator.as_str() {
            "const" => self.constant(operation),
            "read_state" => self.read_state(operation, steps),
            "write_state" => self.write_state(operation, steps, "input", "data"),
            "coreml_update_state" => {
                self.write_state(operation, steps, "state", "value")?;
                self.read_state(operation, steps)
            }
            "while_loop" => self.while_loop(operation, steps),
            "cond" => self.cond(operation, steps),
            _ => self.plain(operation, steps),
        }
    }

    fn bound(&mut self, argument: &'a Argument) -> Result<Bound> {
        let mut bound = Bound::new();
        for binding in &argument.0 {
            bound.push(match binding {
                Binding::Name(name) => self.named(name)?,
                Binding::Value(value) => {
                    let constant = self.weights.constant(value)?;
                    self.add_constant(constant)
                }
            });
        }
        Ok(bound)
    }

    fn argument(&mut self, operation: &'a Operation, name: &str) -> Result<Operand> {
        let missing = || self.operation_error(operation, &OpError::Missing(name.to_owned()));
        let argument = operation.inputs.get(name).ok_or_else(missing)?;
        match self.bound(argument)?.as_slice() {
            [operand] => Ok(*operand),
            bound => {
                let got = format!("{} values", bound.len());
                Err(self.operation_error(operation, &OpError::argument(name, "one value", got)))
            }
        }
    }

    fn constant(&mut self, operation: &'a Operation) -> Result<()> {
        let value = operation.inputs.get("val").and_then(|argument| match argument.0.as_slice() {
            [Binding::Value(value)] => Some(value),
            _ => None,
        });
        let (Some(value), [output]) = (value, operation.outputs.as_slice()) else {
            let error = OpError::invalid("a constant needs one value `val` and one output");
            return Err(self.operation_error(operation, &error));
        };
        let constant = self.weights.constant(value).map_err(|error| match error {
            Error::Program { message, .. } => {
                self.operation_error(operation, &OpError::Invalid(message))
            }
            other => other,
        })?;
        let operand = self.add_constant(constant);
        self.define(&output.name, operand);
        Ok(())
    }

    fn state(&self, operation: &'a Operation, argument: &str) -> Result<usize> {
        let name = operation.inputs.get(argument).and_then(|argument| match argument.0.as_slice() {
            [Binding::Name(name)] => Some(name.as_str()),
            _ => None,
        });
        let state = name.and_then(|name| self.state_names.get(name)).copied();
        state.ok_or_else(|| {
            let error = OpError::argument(
                argument,
                "a state of the function",
                name.map_or("none".to_owned(), |name| format!("`{name}`")),
            );
            self.operation_error(operation, &error)
        })
    }

    fn read_state(&mut self, operation: &'a Operation, steps: &mut Vec<Step>) -> Result<()> {
        let argument = if operation.operator == "read_state" { "input" } else { "state" };
        let state = self.state(operation, argument)?;
        let Some(output) = operation.outputs.first() else { return Ok(()) };
        let declared = &self.draft.states[state];
        let slot = SlotDraft {
            element: declared.element,
            storage: declared.storage,
            shape: Some(declared.shape.clone()),
            origin: Origin::State(state),
        };
        let slot = self.draft.add_slot(slot);
        self.define(&output.name, Operand::Slot(slot));
        steps.push(step(operation, Work::ReadState { state, slot }));
        Ok(())
    }

    fn write_state(
        &mut self,
        operation: &'a Operation,
        steps: &mut Vec<Step>,
        state_argument: &str,
        data_argument: &str,
    ) -> Result<()> {
        let state = self.state(operation, state_argument)?;
        let data = self.argument(operation, data_argument)?;
        let declared = &self.draft.states[state];
        let (element, _) = self.draft.kind(data);
        let shape = self.draft.shape(data);
        if element != declared.element || shape.is_some_and(|shape| shape != &declared.shape[..]) {
            let error = OpError::argument(
                data_argument,
                format!("`{}` of shape {:?}", declared.element, declared.shape.as_slice()),
                format!("`{element}` of shape {:?}", shape.unwrap_or_default()),
            );
            return Err(self.operation_error(operation, &error));
        }
        let data = self.densified(operation, data)?;
        steps.push(step(operation, Work::WriteState { state, data }));
        Ok(())
    }

    /// A constant operand in dense form, whatever it was.
    fn densified(&mut self, operation: &Operation, operand: Operand) -> Result<Operand> {
        match self.draft.constant(operand) {
            Some(constant) if constant.is_compressed() => {
                let dense = self.weights.dense(&constant.clone(), true);
                let dense = dense.map_err(|error| self.operation_error(operation, &error))?;
                Ok(self.add_constant(dense))
            }
            _ => Ok(operand),
        }
    }

    fn plain(&mut self, operation: &'a Operation, steps: &mut Vec<Step>) -> Result<()> {
        let opset = self.function.opset;
        let def = ops::lookup(&operation.operator, opset).ok_or_else(|| {
            Error::UnsupportedOperation {
                function: self.name.to_owned(),
                operation: operation.name().to_owned(),
                operator: operation.operator.clone(),
                opset: opset.to_string(),
            }
        })?;
        let mut arguments: Vec<(&str, Bound)> = Vec::with_capacity(operation.inputs.len());
        for (name, argument) in &operation.inputs {
            arguments.push((name, self.bound(argument)?));
        }
        let declared: Vec<ValueType> =
            operation.outputs.iter().map(|output| output.ty.clone()).collect();
        self.bind_and_plan(operation, def, &arguments, &declared, steps)
            .map_err(|error| match error {
                PlanError::Op(error) => self.operation_error(operation, &error),
                PlanError::Whole(error) => error,
            })
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
        if let Some(constant) = op.fold(&Inputs::new(&operands, &self.draft, None))? {
            let operand = self.add_constant(constant);
            self.define_outputs(operation, &[operand])?;
            return Ok(());
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
                && let Some(constants) = self.fold_by_running(op.as_ref(), &operands, types)?
            {
                let folded: Vec<Operand> =
                    constants.into_iter().map(|constant| self.add_constant(constant)).collect();
                self.define_outputs(operation, &folded)?;
                return Ok(());
            }
        }
        let outputs = self.result_slots(operation, op.as_ref(), &operands, types.as_ref())?;
        let operands_of_outputs: Vec<Operand> =
            outputs.iter().map(|&slot| Operand::Slot(slot)).collect();
        self.define_outputs(operation, &operands_of_outputs)?;
        let views = outputs.iter().all(|&slot| {
            matches!(self.draft.slots[slot].origin, Origin::View { .. })
        });
        if !views || outputs.is_empty() {
            let run = Run { op, inputs: operands, outputs, in_place: None };
            steps.push(step(operation, Work::Run(run)));
        }
        Ok(())
    }

    fn define_outputs(
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
                super::walk::check_declared(&output.name, declared, ty)?;
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

    fn widen_all(&mut self, operands: &mut [Operand], steps: &mut Vec<Step>) -> Result<(), OpError> {
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
        let view = if known { op.view(&inputs, output) } else { None };
        let Some((input, start)) = view else { return Origin::Own };
        match operands.get(input) {
            Some(&Operand::Slot(of)) => {
                Origin::View { of, offset: start * self.draft.slots[of].storage.size() }
            }
            _ => Origin::Own,
        }
    }

    fn variable(&mut self, ty: &ValueType, shape: Option<Shape>) -> Result<usize, OpError> {
        let slot = match ty {
            ValueType::List(element, _) => list_slot(element)?,
            ValueType::Tensor(tensor) => SlotDraft {
                element: tensor.element,
                storage: natural(tensor.element)?,
                shape,
                origin: Origin::Own,
            },
            other => return Err(OpError::unsupported(format!("a variable of type {other}"))),
        };
        Ok(self.draft.add_slot(slot))
    }

    fn while_loop(&mut self, operation: &'a Operation, steps: &mut Vec<Step>) -> Result<()> {
        let wrong = |this: &Self, message: &str| {
            this.operation_error(operation, &OpError::invalid(message))
        };
        let argument = operation
            .inputs
            .get("loop_vars")
            .ok_or_else(|| self.operation_error(operation, &OpError::Missing("loop_vars".into())))?;
        let mut initial = self.bound(argument)?;
        let [condition, body] = operation.blocks.as_slice() else {
            return Err(wrong(self, "a `while_loop` has two blocks, condition and body"));
        };
        let count = initial.len();
        if condition.inputs.len() != count
            || body.inputs.len() != count
            || body.outputs.len() != count
            || operation.outputs.len() != count
            || condition.outputs.len() != 1
        {
            return Err(wrong(self, "loop variables, block parameters and results differ in number"));
        }
        for operand in &mut initial {
            *operand = self.natural_operand(operation, *operand, steps)?;
        }
        let shape = |draft: &Draft, operand| draft.shape(operand).map(Shape::from);
        let mut shapes: Vec<Option<Shape>> =
            initial.iter().map(|&operand| shape(&self.draft, operand)).collect();
        loop {
            let (slots, constants) = (self.draft.slots.len(), self.draft.constants.len());
            let mut variables = Vec::with_capacity(count);
            for ((output, &initial), shape) in operation.outputs.iter().zip(&initial).zip(&shapes) {
                let slot = self
                    .variable(&output.ty, shape.clone())
                    .map_err(|error| self.operation_error(operation, &error))?;
                variables.push(LoopVariable { initial, slot });
            }
            let operands: Vec<Operand> =
                variables.iter().map(|variable| Operand::Slot(variable.slot)).collect();
            let condition = self.nested(operation, condition, &operands)?;
            let body = self.nested(operation, body, &operands)?;
            // A variable whose shape changes from turn to turn is sized at run time.
            let mut settled = true;
            for (result, shape) in body.results.iter().zip(&mut shapes) {
                if shape.is_some() && self.draft.shape(*result) != shape.as_deref() {
                    *shape = None;
                    settled = false;
                }
            }
            if settled {
                self.define_outputs(operation, &operands).map_err(|error| match error {
                    PlanError::Op(error) => self.operation_error(operation, &error),
                    PlanError::Whole(error) => error,
                })?;
                let work = While { variables, condition, body };
                steps.push(step(operation, Work::While(Box::new(work))));
                return Ok(());
            }
            self.draft.slots.truncate(slots);
            self.draft.constants.truncate(constants);
        }
    }

    fn cond(&mut self, operation: &'a Operation, steps: &mut Vec<Step>) -> Result<()> {
        let predicate = self.argument(operation, "pred")?;
        let [when_true, when_false] = operation.blocks.as_slice() else {
            let error = OpError::invalid("a `cond` has two blocks, for true and for false");
            return Err(self.operation_error(operation, &error));
        };
        let branches = [
            self.nested(operation, when_true, &[])?,
            self.nested(operation, when_false, &[])?,
        ];
        let mut outputs = Vec::with_capacity(operation.outputs.len());
        for (index, output) in operation.outputs.iter().enumerate() {
            let of_branch = |branch: &Block| {
                let operand = branch.results.get(index)?;
                self.draft.shape(*operand).map(Shape::from)
            };
            let (first, second) = (of_branch(&branches[0]), of_branch(&branches[1]));
            let shape = if first == second { first } else { None };
            let slot = self
                .variable(&output.ty, shape)
                .map_err(|error| self.operation_error(operation, &error))?;
            outputs.push(slot);
            self.define(&output.name, Operand::Slot(slot));
        }
        if branches.iter().any(|branch| branch.results.len() != outputs.len()) {
            let error = OpError::invalid("the blocks of a `cond` give other numbers of results");
            return Err(self.operation_error(operation, &error));
        }
        let work = Cond { predicate, branches, outputs };
        steps.push(step(operation, Work::Cond(Box::new(work))));
        Ok(())
    }

    /// A nested block with its parameters bound; its results are in natural storage.
    fn nested(
        &mut self,
        operation: &'a Operation,
        block: &'a coreml_format::mil::Block,
        parameters: &[Operand],
    ) -> Result<Block> {
        self.scopes.push(HashMap::new());
        for (parameter, operand) in block.inputs.iter().zip(parameters) {
            self.define(&parameter.name, *operand);
        }
        let mut steps = self.block(&block.operations)?;
        let mut results = Vec::with_capacity(block.outputs.len());
        for output in &block.outputs {
            let operand = self.named(output)?;
            results.push(self.natural_operand(operation, operand, &mut steps)?);
        }
        self.scopes.pop();
        Ok(Block { steps, results })
    }

    /// An operand in natural storage: dense and, for floats, `F32`.
    fn natural_operand(
        &mut self,
        operation: &Operation,
        operand: Operand,
        steps: &mut Vec<Step>,
    ) -> Result<Operand> {
        let mut operands = [operand];
        let dense = self.densified(operation, operand)?;
        operands[0] = dense;
        self.widen_all(&mut operands, steps)
            .map_err(|error| self.operation_error(operation, &error))?;
        Ok(operands[0])
    }
}

/// An error of one operation, which still needs its name, or one that says all.
enum PlanError {
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

fn step(operation: &Operation, work: Work) -> Step {
    Step { name: operation.name().to_owned(), operator: operation.operator.clone(), work }
}

fn is_half(constant: &Constant) -> bool {
    constant.storage() == Some(Storage::F16)
}

fn natural(element: ElementType) -> Result<Storage, OpError> {
    Storage::natural(element)
        .ok_or_else(|| OpError::unsupported(format!("a value of type `{element}`")))
}

fn list_slot(element: &ValueType) -> Result<SlotDraft, OpError> {
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
