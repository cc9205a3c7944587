//! Values while a plan runs: where they are looked up, and how an operation gets the memory of its
//! results.

use coreml_format::mil::ElementType;

use super::workspace::Found;
use super::{Running, byte_len};
use crate::error::OpError;
use crate::ids::{ListId, OpenId, Operand, ValueId};
use crate::op::{Arrangement, Frame, Output};
use crate::plan::{Place, PlanValue};
use crate::value::{Buffer, Constant, ListValue, Shape, Storage, Strides, TensorMut, TensorRef};

impl Frame for Running<'_, '_> {
    fn kind(&self, operand: Operand) -> (ElementType, Storage) {
        match operand {
            Operand::Value(id) => (self.plan.values[id].element, self.plan.values[id].storage),
            Operand::Constant(id) => self.plan.constants[id].kind(),
        }
    }

    fn shape(&self, operand: Operand) -> Option<&[usize]> {
        let value = match operand {
            Operand::Constant(id) => return Some(&self.plan.constants[id].shape),
            Operand::Value(id) => &self.plan.values[id],
        };
        match (&value.shape, value.place) {
            (Some(shape), _) => Some(shape),
            (None, Place::Open(open)) => Some(&self.found(open)?.shape),
            (None, Place::Input { input, .. }) => Some(self.call.shapes.get(input)?),
            _ => None,
        }
    }

    fn arrangement(&self, operand: Operand) -> Arrangement<'_> {
        match self.strides(operand) {
            Some(strides) => Arrangement::Strided(strides),
            None => Arrangement::Dense,
        }
    }

    fn tensor(&self, operand: Operand) -> Option<TensorRef<'_>> {
        let value = match operand {
            Operand::Constant(id) => return self.plan.constants[id].tensor(),
            Operand::Value(id) => &self.plan.values[id],
        };
        let shape = self.shape(operand)?;
        let strides = self.strides(operand);
        let (bytes, start) = match value.place {
            Place::Open(open) => self.open_bytes(open, value, shape)?,
            place => (self.bytes(place)?, value.start),
        };
        let (element, storage) = (value.element, value.storage);
        Some(TensorRef { element, storage, shape, strides, start, bytes })
    }

    fn constant(&self, operand: Operand) -> Option<&Constant> {
        match operand {
            Operand::Constant(id) => Some(&self.plan.constants[id]),
            Operand::Value(_) => None,
        }
    }

    fn list(&self, operand: Operand) -> Option<&ListValue> {
        let Operand::Value(id) = operand else { return None };
        match self.plan.values[id].place {
            Place::List(list) => Some(&self.call.workspace.lists[list]),
            _ => None,
        }
    }
}

/// The memory of a result, taken out of its home while an operation writes it.
pub(super) struct Taken<'p> {
    element: ElementType,
    storage: Storage,
    shape: Sized<'p>,
    memory: Memory,
}

/// A shape that the plan knows, or one that was found.
enum Sized<'p> {
    Planned(&'p Shape),
    Found(Shape),
}

enum Memory {
    /// A part of an arena buffer or a state.
    Part {
        home: Place,
        buffer: Buffer,
        offset: usize,
        len: usize,
    },
    /// The first bytes of a buffer that grows.
    Open {
        open: OpenId,
        buffer: Buffer,
        len: usize,
    },
    List {
        list: ListId,
        value: ListValue,
    },
    /// Nothing reads the result.
    Nothing(Buffer),
}

/// Makes a buffer hold at least `len` bytes. Sizes are in eighths of a power of two, so that values that
/// grow a little at each run, as with the length of a context, seldom ask for memory.
pub(super) fn grow(buffer: &mut Buffer, len: usize) -> Result<(), OpError> {
    if len > buffer.len() {
        let step = len.checked_next_power_of_two().map_or(1, |power| power.div_ceil(8));
        buffer.grow(len.checked_next_multiple_of(step).unwrap_or(len))?;
    }
    Ok(())
}

impl Taken<'_> {
    /// The result, to be written.
    pub(super) fn output(&mut self) -> Output<'_> {
        let bytes = match &mut self.memory {
            Memory::List { value, .. } => return Output::List(value),
            Memory::Part { buffer, offset, len, .. } => {
                buffer.bytes_mut().get_mut(*offset..*offset + *len).unwrap_or_default()
            }
            Memory::Open { buffer, len, .. } => {
                buffer.bytes_mut().get_mut(..*len).unwrap_or_default()
            }
            Memory::Nothing(buffer) => buffer.bytes_mut(),
        };
        Output::Tensor(TensorMut { element: self.element, storage: self.storage, bytes })
    }
}

impl<'a> Running<'a, '_> {
    /// Strides of a value that is not dense.
    pub(super) fn strides(&self, operand: Operand) -> Option<&Strides> {
        let Operand::Value(id) = operand else { return None };
        let value = &self.plan.values[id];
        match value.place {
            Place::Open(open) => self.found(open)?.part.as_ref().map(|part| &part.strides),
            _ => value.strides.as_ref(),
        }
    }

    pub(super) fn found(&self, open: OpenId) -> Option<&Found> {
        self.call.workspace.opens[open].as_ref()
    }

    /// The bytes of a place, as far as a plan knows them.
    fn bytes(&self, place: Place) -> Option<&[u8]> {
        match place {
            Place::Arena { buffer, offset, len } => {
                self.call.workspace.buffers[buffer].bytes().get(offset..offset + len)
            }
            Place::Input { input, offset, len } => {
                let bytes = self.call.inputs.get(input)?;
                bytes.get(offset..len.map_or(bytes.len(), |len| offset + len))
            }
            Place::State { state, offset, len } => {
                self.call.states[state.index()].bytes().get(offset..offset + len)
            }
            Place::Open(open) => {
                // A view of an open value's own buffer.
                let buffer = self.plan.opens[open].buffer?;
                Some(self.call.workspace.buffers[buffer].bytes())
            }
            Place::List(_) | Place::Nowhere => None,
        }
    }

    /// The bytes that an open value's elements lie in, and where they start, in elements.
    fn open_bytes(
        &self,
        open: OpenId,
        value: &PlanValue,
        shape: &[usize],
    ) -> Option<(&[u8], usize)> {
        if let Some(part) = &self.found(open)?.part {
            let bytes = self.bytes(part.place)?;
            // A buffer that also serves values of other types may end within an element.
            let whole = bytes.len() - bytes.len() % value.storage.size();
            return Some((&bytes[..whole], part.start));
        }
        let bytes = self.bytes(Place::Open(open))?;
        Some((bytes.get(..value.storage.byte_len(shape)?)?, 0))
    }

    /// Takes a result's memory; that of a value of open shape grows to its size.
    pub(super) fn take(
        &mut self,
        output: ValueId,
        shape: Option<Shape>,
    ) -> Result<Taken<'a>, OpError> {
        let value = &self.plan.values[output];
        let shape = match (&value.shape, shape) {
            (Some(planned), _) => Sized::Planned(planned),
            (None, found) => Sized::Found(found.unwrap_or_default()),
        };
        let sizes = match &shape {
            Sized::Planned(shape) => shape.as_slice(),
            Sized::Found(shape) => shape.as_slice(),
        };
        match value.place {
            Place::Open(open) => self.room_to_grow(open, byte_len(value.storage, sizes)?)?,
            Place::Input { .. } | Place::Nowhere => {
                self.has_room(byte_len(value.storage, sizes)?)?;
            }
            _ => {}
        }
        let workspace = &mut *self.call.workspace;
        let memory = match value.place {
            Place::Arena { buffer, offset, len } => {
                let taken = std::mem::take(&mut workspace.buffers[buffer]);
                Memory::Part { home: value.place, buffer: taken, offset, len }
            }
            Place::State { state, offset, len } => {
                let taken = std::mem::take(&mut self.call.states[state.index()]);
                Memory::Part { home: value.place, buffer: taken, offset, len }
            }
            Place::Open(open) => {
                let len = byte_len(value.storage, sizes)?;
                let buffer = self.plan.opens[open].buffer;
                let mut taken = match buffer {
                    Some(buffer) => std::mem::take(&mut workspace.buffers[buffer]),
                    None => Buffer::default(),
                };
                grow(&mut taken, len)?;
                Memory::Open { open, buffer: taken, len }
            }
            Place::List(list) => {
                let empty = ListValue::empty(value.element, value.storage);
                let value = std::mem::replace(&mut workspace.lists[list], empty);
                Memory::List { list, value }
            }
            Place::Input { .. } | Place::Nowhere => {
                Memory::Nothing(Buffer::zeroed(byte_len(value.storage, sizes)?)?)
            }
        };
        Ok(Taken { element: value.element, storage: value.storage, shape, memory })
    }

    /// Fails if the buffer of an open value may not become so large.
    pub(super) fn room_to_grow(&self, open: OpenId, len: usize) -> Result<(), OpError> {
        let buffer = self.plan.opens[open].buffer;
        let has = buffer.map_or(0, |buffer| self.call.workspace.buffers[buffer].len());
        if len > has { self.has_room(len - has) } else { Ok(()) }
    }

    /// Whether a value is a list.
    pub(super) fn is_list(&self, value: ValueId) -> bool {
        matches!(self.plan.values[value].place, Place::List(_))
    }

    pub(super) fn give_back(&mut self, taken: Taken) {
        let workspace = &mut *self.call.workspace;
        match taken.memory {
            Memory::Part { home: Place::Arena { buffer: home, .. }, buffer, .. } => {
                workspace.buffers[home] = buffer;
            }
            Memory::Part { home: Place::State { state, .. }, buffer, .. } => {
                self.call.states[state.index()] = buffer;
            }
            Memory::Open { open, buffer, .. } => {
                if let Some(home) = self.plan.opens[open].buffer {
                    workspace.buffers[home] = buffer;
                }
                let shape = match taken.shape {
                    Sized::Found(shape) => shape,
                    Sized::Planned(shape) => shape.clone(),
                };
                workspace.opens[open] = Some(Found { shape, part: None });
            }
            Memory::List { list, value } => workspace.lists[list] = value,
            Memory::Part { .. } | Memory::Nothing(_) => {}
        }
    }

    /// The place and the first element of a state or value that another one may be a part of.
    pub(super) fn origin(&self, of: ValueId) -> Option<(Place, usize)> {
        let value = &self.plan.values[of];
        match value.place {
            Place::Open(open) => match &self.found(open)?.part {
                Some(part) => Some((part.place, part.start)),
                None => Some((value.place, 0)),
            },
            place => Some((place, value.start)),
        }
    }
}
