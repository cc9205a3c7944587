//! MIL lists (`make_list`, `list_write`, …).

use std::sync::Arc;

use coreml_format::mil::ElementType;
use smallvec::SmallVec;

use super::{Buffer, Shape, Storage, TensorRef};

/// The sizes of an item's axes, as far as the program says them; `None` when it says nothing.
pub(crate) type ItemShape = Option<SmallVec<[Option<usize>; 4]>>;

/// One element of a list.
#[derive(Clone)]
pub(crate) struct ListItem {
    pub(crate) shape: Shape,
    pub(crate) buffer: Buffer,
}

/// A list of tensors. Items are shared between versions of a list: a write replaces one.
#[derive(Clone)]
pub(crate) struct ListValue {
    pub(crate) element: ElementType,
    pub(crate) storage: Storage,
    pub(crate) item_shape: ItemShape,
    /// `None` where nothing has been written yet: zeros.
    pub(crate) items: Vec<Option<Arc<ListItem>>>,
}

impl ListValue {
    /// A list without items.
    pub(crate) fn empty(element: ElementType, storage: Storage) -> Self {
        ListValue { element, storage, item_shape: None, items: Vec::new() }
    }

    /// Bytes that the items hold, those shared with other lists too.
    pub(crate) fn byte_len(&self) -> usize {
        let items = self.items.iter().flatten().map(|item| item.buffer.len());
        size_of_val(self.items.as_slice()) + items.sum::<usize>()
    }

    /// The shape of the item at `index`. One that has not been written has the shape that the program
    /// says, and along axes of which it says nothing the sizes of the first item that has been; `None`
    /// when these are not known either.
    pub(crate) fn shape(&self, index: usize) -> Option<Shape> {
        if let Some(item) = self.get(index) {
            return Some(item.shape.into());
        }
        let written = self.items.iter().flatten().next().map(|item| &item.shape);
        let Some(stated) = &self.item_shape else { return written.cloned() };
        let size = |(axis, size): (usize, &Option<usize>)| {
            size.or_else(|| written.and_then(|shape| shape.get(axis)).copied())
        };
        stated.iter().enumerate().map(size).collect()
    }

    /// The item at `index`, if it has been written.
    pub(crate) fn get(&self, index: usize) -> Option<TensorRef<'_>> {
        let item = self.items.get(index)?.as_ref()?;
        Some(TensorRef::dense(self.element, self.storage, &item.shape, item.buffer.bytes()))
    }
}
