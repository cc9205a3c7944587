//! A plan in the making: values and where their bytes come from, without places yet.

use coreml_format::mil::ElementType;

use super::PlanState;
use crate::ops::{Frame, Operand};
use crate::value::{Constant, ListValue, Shape, Storage, TensorRef};

/// A plan in the making: values without places.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) slots: Vec<SlotDraft>,
    pub(super) constants: Vec<Constant>,
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
