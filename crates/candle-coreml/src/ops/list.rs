//! Lists of tensors, as recurrent models build them in loops.

use std::sync::Arc;

use coreml_format::mil::{ElementType, Opset};

use super::strided::same_count;
use super::{Binder, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, def, one};
use crate::value::{Buffer, ListItem, ListValue, Shape, Storage, TensorRef};

/// The longest list, so that a wrong index can't take all memory.
const MAX_LENGTH: usize = 1 << 20;

fn length(argument: &str, length: i64) -> Result<usize, OpError> {
    usize::try_from(length).ok().filter(|&length| length <= MAX_LENGTH).ok_or_else(|| {
        OpError::argument(argument, format!("0 to {MAX_LENGTH}"), length.to_string())
    })
}

/// Makes a list of items that have not been written.
struct MakeList {
    length: Option<usize>,
    element: ElementType,
    storage: Storage,
}

impl Op for MakeList {
    fn infer(&self, _inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(self.element, Shape::new())
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let items = match self.length {
            Some(input) => length("init_length", inputs.tensor(input)?.scalar_int()?)?,
            None => 1,
        };
        let list = outputs.list(0)?;
        *list = ListValue::empty(self.element, self.storage);
        list.items.resize(items, None);
        Ok(())
    }
}

fn make_list(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let length = binder.optional_input("init_length")?;
    let element = match binder.has("dtype") {
        true => binder.element_type("dtype")?,
        false => ElementType::Float32,
    };
    let storage = Storage::natural(element)
        .ok_or_else(|| OpError::unsupported("a list of strings"))?;
    Ok(Box::new(MakeList { length, element, storage }))
}

/// Gives the number of items.
struct ListLength {
    list: usize,
}

impl Op for ListLength {
    fn infer(&self, _inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(ElementType::Int32, Shape::new())
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let length = i32::try_from(inputs.list(self.list)?.items.len()).unwrap_or(i32::MAX);
        outputs.tensor(0)?.slice::<i32>()?.fill(length);
        Ok(())
    }
}

fn list_length(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(ListLength { list: binder.input("ls")? }))
}

/// The list with one item replaced, or with several.
struct ListWrite {
    list: usize,
    indices: usize,
    value: usize,
    /// `list_scatter`: `indices` is a vector, and `value` has one item for each.
    several: bool,
}

/// Puts an item into a list, which grows if it has to.
fn put(list: &mut ListValue, index: i64, shape: &[usize], bytes: &[u8]) -> Result<(), OpError> {
    let index = length("index", index)?;
    if index >= list.items.len() {
        list.items.resize(index + 1, None);
    }
    let item = ListItem { shape: Shape::from_slice(shape), buffer: Buffer::copy_of(bytes)? };
    list.items[index] = Some(Arc::new(item));
    Ok(())
}

impl ListWrite {
    fn scatter(
        &self,
        list: &mut ListValue,
        indices: &[i64],
        value: &TensorRef,
    ) -> Result<(), OpError> {
        let Some((&items, shape)) = value.shape.split_first() else {
            return Err(OpError::argument("value", "one item for each index", "a scalar"));
        };
        if items != indices.len() {
            let expected = format!("{} items, one for each index", indices.len());
            return Err(OpError::argument("value", expected, items.to_string()));
        }
        let size = value.bytes.len().checked_div(items).unwrap_or(0);
        for (i, &index) in indices.iter().enumerate() {
            put(list, index, shape, &value.bytes[i * size..(i + 1) * size])?;
        }
        Ok(())
    }
}

impl Op for ListWrite {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.list)?, Shape::new())
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let value = inputs.tensor(self.value)?;
        let list = outputs.list(0)?;
        list.clone_from(inputs.list(self.list)?);
        if list.storage != value.storage {
            return Err(OpError::argument(
                "value",
                format!("elements of the list's type `{}`", list.element),
                format!("`{}`", value.element),
            ));
        }
        if self.several {
            return self.scatter(list, &inputs.ints(self.indices)?, &value);
        }
        put(list, inputs.tensor(self.indices)?.scalar_int()?, value.shape, value.bytes)
    }
}

fn list_write(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (list, indices, value) =
        (binder.input("ls")?, binder.input("index")?, binder.input("value")?);
    Ok(Box::new(ListWrite { list, indices, value, several: false }))
}

fn list_scatter(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (list, indices, value) =
        (binder.input("ls")?, binder.input("indices")?, binder.input("value")?);
    Ok(Box::new(ListWrite { list, indices, value, several: true }))
}

/// Gives one item, or several stacked to one tensor.
struct ListRead {
    list: usize,
    indices: usize,
    /// `list_gather`: `indices` is a vector, and the result has one item for each.
    several: bool,
}

fn item(list: &ListValue, index: i64) -> Result<TensorRef<'_>, OpError> {
    usize::try_from(index).ok().and_then(|index| list.get(index)).ok_or_else(|| {
        OpError::argument(
            "index",
            format!("an item that has been written, of {}", list.items.len()),
            index.to_string(),
        )
    })
}

impl Op for ListRead {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let list = inputs.list(self.list)?;
        let indices = inputs.ints(self.indices)?;
        if !self.several {
            let index = inputs.tensor(self.indices)?.scalar_int()?;
            return one(list.element, item(list, index)?.shape);
        }
        let mut shape = Shape::from_slice(&[indices.len()]);
        let like = match indices.first() {
            Some(&first) => Some(item(list, first)?),
            None => (0..list.items.len()).find_map(|index| list.get(index)),
        };
        shape.extend_from_slice(like.map_or(&[], |item| item.shape));
        one(list.element, shape)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let list = inputs.list(self.list)?;
        let indices = inputs.ints(self.indices)?;
        let out = outputs.tensor(0)?;
        let size = out.bytes.len().checked_div(indices.len()).unwrap_or(0);
        for (i, &index) in indices.iter().enumerate() {
            let item = item(list, index)?;
            same_count(size, item.bytes.len())?;
            out.bytes[i * size..(i + 1) * size].copy_from_slice(item.bytes);
        }
        Ok(())
    }
}

fn list_read(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (list, indices) = (binder.input("ls")?, binder.input("index")?);
    Ok(Box::new(ListRead { list, indices, several: false }))
}

fn list_gather(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (list, indices) = (binder.input("ls")?, binder.input("indices")?);
    Ok(Box::new(ListRead { list, indices, several: true }))
}

pub(super) const OPS: &[OpDef] = &[
    def("list_gather", Opset::Ios15, list_gather),
    def("list_length", Opset::Ios15, list_length),
    def("list_read", Opset::Ios15, list_read),
    def("list_scatter", Opset::Ios15, list_scatter),
    def("list_write", Opset::Ios15, list_write),
    def("make_list", Opset::Ios15, make_list),
];
