//! Runs plans. Decides nothing: which value lives where, and what runs in place, the plan says.

use coreml_format::mil::ElementType;
use smallvec::SmallVec;

use crate::ops::{Frame, Inputs, OpError, Operand, Output, Outputs, Scratch};
use crate::plan::{Block, Cond, LoopVariable, Place, Plan, Run, Step, While, Work};
use crate::value::{Buffer, Constant, ListItem, ListValue, Shape, Storage, TensorMut, TensorRef};

/// A loop that has not ended after so many turns is taken for endless.
const MOST_TURNS: u64 = 1 << 32;

/// The mutable part of a plan that runs: its arena. One prediction at a time uses a session.
pub(crate) struct Session {
    buffers: Vec<Buffer>,
    dynamic: Vec<Dynamic>,
    lists: Vec<ListValue>,
    scratch: Scratch,
}

/// A value whose shape is found at run time.
#[derive(Default)]
struct Dynamic {
    shape: Option<Shape>,
    buffer: Buffer,
}

/// An error of a step, with the step's names.
#[derive(Debug)]
pub(crate) struct StepError {
    pub(crate) operation: String,
    pub(crate) operator: String,
    pub(crate) error: Box<OpError>,
}

impl Session {
    /// Memory for a plan.
    pub(crate) fn new(plan: &Plan) -> Result<Self, OpError> {
        let buffers = plan.buffers.iter().map(|&size| Buffer::zeroed(size));
        Ok(Session {
            buffers: buffers.collect::<Result<_, _>>()?,
            dynamic: (0..plan.dynamic).map(|_| Dynamic::default()).collect(),
            lists: plan.lists.iter().map(|&(e, s)| ListValue::empty(e, s)).collect(),
            scratch: Scratch::default(),
        })
    }

    /// Runs a plan on inputs (bytes in the plan's order, storage and shape) and states.
    pub(crate) fn run(
        &mut self,
        plan: &Plan,
        inputs: &[&[u8]],
        states: &mut [Buffer],
    ) -> Result<(), StepError> {
        let mut running = Running { plan, inputs, states, session: self };
        running.steps(&plan.body.steps)
    }

    /// Calls `read` with a result of the run, if it is a tensor.
    pub(crate) fn result<R>(
        &mut self,
        plan: &Plan,
        inputs: &[&[u8]],
        states: &mut [Buffer],
        operand: Operand,
        read: impl FnOnce(TensorRef) -> R,
    ) -> Option<R> {
        let running = Running { plan, inputs, states, session: self };
        running.tensor(operand).map(read)
    }
}

/// A plan with all that a run of it touches.
struct Running<'a> {
    plan: &'a Plan,
    inputs: &'a [&'a [u8]],
    states: &'a mut [Buffer],
    session: &'a mut Session,
}

impl Frame for Running<'_> {
    fn kind(&self, operand: Operand) -> (ElementType, Storage) {
        match operand {
            Operand::Slot(slot) => (self.plan.slots[slot].element, self.plan.slots[slot].storage),
            Operand::Constant(index) => {
                let constant = &self.plan.constants[index];
                (constant.element, constant.storage().unwrap_or(Storage::U8))
            }
        }
    }

    fn shape(&self, operand: Operand) -> Option<&[usize]> {
        match operand {
            Operand::Constant(index) => Some(&self.plan.constants[index].shape),
            Operand::Slot(slot) => {
                let slot = &self.plan.slots[slot];
                match slot.place {
                    Place::Dynamic(index) => self.session.dynamic[index].shape.as_deref(),
                    _ => slot.shape.as_deref(),
                }
            }
        }
    }

    fn tensor(&self, operand: Operand) -> Option<TensorRef<'_>> {
        let slot = match operand {
            Operand::Constant(index) => return self.plan.constants[index].tensor(),
            Operand::Slot(slot) => &self.plan.slots[slot],
        };
        let shape = self.shape(operand)?;
        let bytes = match slot.place {
            Place::Arena { buffer, offset, len } => {
                self.session.buffers[buffer].bytes().get(offset..offset + len)?
            }
            Place::Input { input, offset, len } => self.inputs[input].get(offset..offset + len)?,
            Place::State { state, offset, len } => {
                self.states[state].bytes().get(offset..offset + len)?
            }
            Place::Dynamic(index) => self.session.dynamic[index].buffer.bytes(),
            Place::List(_) | Place::Nowhere => return None,
        };
        Some(TensorRef { element: slot.element, storage: slot.storage, shape, bytes })
    }

    fn constant(&self, operand: Operand) -> Option<&Constant> {
        match operand {
            Operand::Constant(index) => Some(&self.plan.constants[index]),
            Operand::Slot(_) => None,
        }
    }

    fn list(&self, operand: Operand) -> Option<&ListValue> {
        let Operand::Slot(slot) = operand else { return None };
        match self.plan.slots[slot].place {
            Place::List(index) => Some(&self.session.lists[index]),
            _ => None,
        }
    }
}

/// An output's memory, taken out of its home while the operation writes it.
enum Taken {
    Tensor { home: Place, shape: Shape, buffer: Buffer },
    List { index: usize, list: ListValue },
    Nothing { shape: Shape, buffer: Buffer },
}

impl<'a> Running<'a> {
    fn steps(&mut self, steps: &'a [Step]) -> Result<(), StepError> {
        for step in steps {
            self.step(step)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &'a Step) -> Result<(), StepError> {
        let named = |error| StepError {
            operation: step.name.clone(),
            operator: step.operator.clone(),
            error: Box::new(error),
        };
        match &step.work {
            Work::Run(run) => self.operation(run).map_err(named),
            Work::ReadState { .. } => Ok(()),
            Work::WriteState { state, data } => self.write_state(*state, *data).map_err(named),
            Work::While(work) => self.while_loop(work, &named),
            Work::Cond(work) => self.cond(work, &named),
        }
    }

    fn operation(&mut self, run: &'a Run) -> Result<(), OpError> {
        // Shapes that the plan left open are asked for now.
        let open = run.outputs.iter().any(|&slot| {
            matches!(self.plan.slots[slot].place, Place::Dynamic(_))
                || (self.plan.slots[slot].shape.is_none()
                    && !matches!(self.plan.slots[slot].place, Place::List(_)))
        });
        let types = match open {
            true => Some(run.op.infer(&Inputs::new(&run.inputs, self, None))?),
            false => None,
        };
        let mut taken: SmallVec<[Taken; 2]> = SmallVec::new();
        for (index, &slot) in run.outputs.iter().enumerate() {
            let shape = types.as_ref().and_then(|types| types.get(index));
            taken.push(self.take(slot, shape.map(|ty| ty.shape.clone()))?);
        }
        let mut scratch = std::mem::take(&mut self.session.scratch);
        let result = self.run_into(run, &mut taken, &mut scratch);
        self.session.scratch = scratch;
        taken.into_iter().for_each(|taken| self.give_back(taken));
        result
    }

    fn run_into(
        &self,
        run: &Run,
        taken: &mut [Taken],
        scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let mut outputs: SmallVec<[Output; 2]> = SmallVec::new();
        for (&slot, taken) in run.outputs.iter().zip(taken) {
            let (element, storage) = self.kind(Operand::Slot(slot));
            outputs.push(match taken {
                Taken::List { list, .. } => Output::List(list),
                Taken::Nothing { shape, buffer } => {
                    Output::Tensor(TensorMut { element, storage, shape, bytes: buffer.bytes_mut() })
                }
                Taken::Tensor { home, shape, buffer } => {
                    let bytes = match *home {
                        Place::Arena { offset, len, .. } | Place::State { offset, len, .. } => {
                            buffer.bytes_mut().get_mut(offset..offset + len).unwrap_or_default()
                        }
                        _ => buffer.bytes_mut(),
                    };
                    Output::Tensor(TensorMut { element, storage, shape, bytes })
                }
            });
        }
        run.op.run(
            &Inputs::new(&run.inputs, self, run.in_place),
            &mut Outputs(&mut outputs),
            scratch,
        )
    }

    /// Takes an output's memory; a dynamic one gets the size of its shape.
    fn take(&mut self, slot: usize, shape: Option<Shape>) -> Result<Taken, OpError> {
        let drafted = &self.plan.slots[slot];
        let shape = shape.or_else(|| drafted.shape.clone()).unwrap_or_default();
        let byte_len = |shape: &[usize]| {
            drafted.storage.byte_len(shape).ok_or_else(|| {
                OpError::invalid(format!("a result of shape {shape:?} is too large"))
            })
        };
        Ok(match drafted.place {
            Place::Arena { buffer, .. } => {
                let buffer = std::mem::take(&mut self.session.buffers[buffer]);
                Taken::Tensor { home: drafted.place, shape, buffer }
            }
            Place::State { state, .. } => {
                let buffer = std::mem::take(&mut self.states[state]);
                Taken::Tensor { home: drafted.place, shape, buffer }
            }
            Place::Dynamic(index) => {
                let len = byte_len(&shape)?;
                let mut buffer = std::mem::take(&mut self.session.dynamic[index].buffer);
                buffer.set_len(len)?;
                Taken::Tensor { home: drafted.place, shape, buffer }
            }
            Place::List(index) => {
                let empty = ListValue::empty(drafted.element, drafted.storage);
                Taken::List {
                    index,
                    list: std::mem::replace(&mut self.session.lists[index], empty),
                }
            }
            Place::Input { .. } | Place::Nowhere => {
                let buffer = Buffer::zeroed(byte_len(&shape)?)?;
                Taken::Nothing { shape, buffer }
            }
        })
    }

    fn give_back(&mut self, taken: Taken) {
        match taken {
            Taken::Tensor { home: Place::Arena { buffer: index, .. }, buffer, .. } => {
                self.session.buffers[index] = buffer;
            }
            Taken::Tensor { home: Place::State { state, .. }, buffer, .. } => {
                self.states[state] = buffer;
            }
            Taken::Tensor { home: Place::Dynamic(index), shape, buffer } => {
                self.session.dynamic[index] = Dynamic { shape: Some(shape), buffer };
            }
            Taken::List { index, list } => self.session.lists[index] = list,
            Taken::Tensor { .. } | Taken::Nothing { .. } => {}
        }
    }

    fn write_state(&mut self, state: usize, data: Operand) -> Result<(), OpError> {
        let declared = &self.plan.states[state];
        let mut buffer = std::mem::take(&mut self.states[state]);
        let result = match self.tensor(data) {
            // The state's own content, unchanged.
            None => Ok(()),
            Some(tensor) if tensor.shape != &declared.shape[..] => Err(OpError::argument(
                "data",
                format!("shape {:?}", declared.shape.as_slice()),
                format!("{:?}", tensor.shape),
            )),
            Some(tensor) if tensor.storage == declared.storage => {
                buffer.bytes_mut().copy_from_slice(tensor.bytes);
                Ok(())
            }
            Some(tensor) => tensor.slice::<f32>().and_then(|floats| {
                let halves = bytemuck::try_cast_slice_mut(buffer.bytes_mut())
                    .map_err(|error| OpError::invalid(error.to_string()))?;
                Ok(coreml_kernels::convert::f32_to_f16(floats, halves)?)
            }),
        };
        self.states[state] = buffer;
        result
    }

    fn flag(&self, operand: Operand) -> Result<bool, OpError> {
        let tensor = self.tensor(operand).ok_or(OpError::NotYetKnown)?;
        Ok(tensor.scalar_int()? != 0)
    }

    fn while_loop(
        &mut self,
        work: &'a While,
        named: &dyn Fn(OpError) -> StepError,
    ) -> Result<(), StepError> {
        let initial: SmallVec<[Operand; 8]> =
            work.variables.iter().map(|variable| variable.initial).collect();
        self.assign(&initial, &work.variables).map_err(named)?;
        for _ in 0..MOST_TURNS {
            self.steps(&work.condition.steps)?;
            let [condition] = work.condition.results.as_slice() else {
                return Err(named(OpError::invalid("the condition gives no single value")));
            };
            if !self.flag(*condition).map_err(named)? {
                return Ok(());
            }
            self.steps(&work.body.steps)?;
            self.assign(&work.body.results, &work.variables).map_err(named)?;
        }
        Err(named(OpError::invalid(format!("the loop has not ended after {MOST_TURNS} turns"))))
    }

    /// Gives loop variables their next values, all at once: a value may be another variable.
    fn assign(&mut self, values: &[Operand], variables: &[LoopVariable]) -> Result<(), OpError> {
        let mut next: SmallVec<[Copied; 8]> = SmallVec::new();
        for &value in values {
            next.push(self.copied(value)?);
        }
        for (value, variable) in next.into_iter().zip(variables) {
            self.store(variable.slot, value)?;
        }
        Ok(())
    }

    fn copied(&self, operand: Operand) -> Result<Copied, OpError> {
        if let Some(list) = self.list(operand) {
            return Ok(Copied::List(list.clone()));
        }
        let tensor = self.tensor(operand).ok_or(OpError::NotYetKnown)?;
        Ok(Copied::Tensor(ListItem {
            shape: tensor.shape.into(),
            buffer: Buffer::copy_of(tensor.bytes)?,
        }))
    }

    fn store(&mut self, slot: usize, value: Copied) -> Result<(), OpError> {
        let place = self.plan.slots[slot].place;
        match (place, value) {
            (Place::List(index), Copied::List(list)) => self.session.lists[index] = list,
            (Place::Arena { buffer, offset, len }, Copied::Tensor(item)) => {
                let target = self.session.buffers[buffer].bytes_mut().get_mut(offset..offset + len);
                match target {
                    Some(target) if target.len() == item.buffer.len() => {
                        target.copy_from_slice(item.buffer.bytes());
                    }
                    _ => return Err(OpError::invalid("a value changed its size")),
                }
            }
            (Place::Dynamic(index), Copied::Tensor(item)) => {
                self.session.dynamic[index] =
                    Dynamic { shape: Some(item.shape), buffer: item.buffer };
            }
            // Nothing reads the variable.
            (Place::Nowhere, _) => {}
            _ => return Err(OpError::invalid("a list where a tensor is needed, or the reverse")),
        }
        Ok(())
    }

    fn cond(
        &mut self,
        work: &'a Cond,
        named: &dyn Fn(OpError) -> StepError,
    ) -> Result<(), StepError> {
        let taken = usize::from(!self.flag(work.predicate).map_err(named)?);
        let branch: &'a Block = &work.branches[taken];
        self.steps(&branch.steps)?;
        for (&result, &slot) in branch.results.iter().zip(&work.outputs) {
            let value = self.copied(result).map_err(named)?;
            self.store(slot, value).map_err(named)?;
        }
        Ok(())
    }
}

/// A value on its way from one block to another.
enum Copied {
    Tensor(ListItem),
    List(ListValue),
}
