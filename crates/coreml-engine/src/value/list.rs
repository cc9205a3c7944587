//! MIL lists (`make_list`, `list_write`, …).

use std::sync::Arc;

use coreml_format::mil::ElementType;

use super::{Buffer, Shape, Storage, TensorRef};

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
    /// `None` where nothing has been written yet.
    pub(crate) items: Vec<Option<Arc<ListItem>>>,
}

impl ListValue {
    /// A list without items.
    pub(crate) fn empty(element: ElementType, storage: Storage) -> Self {
        ListValue { element, storage, items: Vec::new() }
    }

    /// Bytes that the items hold, those shared with other lists too.
    pub(crate) fn byte_len(&self) -> usize {
        let items = self.items.iter().flatten().map(|item| item.buffer.len());
        size_of_val(self.items.as_slice()) + items.sum::<usize>()
    }

    /// The item at `index`, if it has been written.
    pub(crate) fn get(&self, index: usize) -> Option<TensorRef<'_>> {
        let item = self.items.get(index)?.as_ref()?;
        Some(TensorRef::dense(self.element, self.storage, &item.shape, item.buffer.bytes()))
    }
}
