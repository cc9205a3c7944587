//! Lists of tensors, as recurrent models build them in loops.

use std::sync::Arc;

use coreml_format::mil::{ElementType, Opset};

use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, bound, def, kernel, one};
use crate::value::{
    Buffer, ItemShape, ListItem, ListValue, Shape, Storage, TensorMut, TensorRef, same_count,
};
use crate::weights::Weights;

/// The longest list, so that a wrong index can't take all memory.
const MAX_LENGTH: usize = 1 << 20;

fn length(argument: &str, length: i64) -> Result<usize, OpError> {
    usize::try_from(length).ok().filter(|&length| length <= MAX_LENGTH).ok_or_else(|| {
        OpError::argument(argument, format!("0 to {MAX_LENGTH}"), length.to_string())
    })
}

/// The elements of an index or a vector of them.
fn indices(tensor: &TensorRef) -> Result<impl Iterator<Item = i64>, OpError> {
    let (indices, count) = (tensor.int_elements()?, tensor.len());
    Ok((0..count).filter_map(move |i| indices.get(i)))
}

/// Makes a list of items that have not been written.
#[derive(Clone, Debug)]
pub(crate) struct MakeList {
    /// The input that says how many; 1 if there is none.
    pub(crate) length: Option<usize>,
    pub(crate) element: ElementType,
    pub(crate) storage: Storage,
    pub(crate) item_shape: ItemShape,
}

impl Op for MakeList {
    fn infer(&self, _inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(self.element, Shape::new())
    }

    fn prepare(&self, _inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let MakeList { length: input, element, storage, item_shape } = self.clone();
        kernel(move |inputs, outputs, _context| {
            let items = match input {
                Some(input) => length("init_length", inputs.tensor(input)?.scalar_int()?)?,
                None => 1,
            };
            let list = outputs.list(0)?;
            *list = ListValue::empty(element, storage);
            list.item_shape.clone_from(&item_shape);
            list.items.resize(items, None);
            Ok(())
        })
    }
}

fn make_list(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let length = binder.optional_input("init_length")?;
    // Lists grow whether they are declared to or not.
    binder.bool("dynamic_length")?;
    let item_shape = Some(binder.sizes("elem_shape")?).filter(|sizes| !sizes.is_empty());
    let element = binder.element_type("dtype")?;
    let storage =
        Storage::natural(element).ok_or_else(|| OpError::unsupported("a list of strings"))?;
    bound(MakeList { length, element, storage, item_shape })
}

/// Gives the number of items.
#[derive(Clone, Debug)]
pub(crate) struct ListLength {
    pub(crate) list: usize,
}

impl Op for ListLength {
    fn infer(&self, _inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(ElementType::Int32, Shape::new())
    }

    fn prepare(&self, _inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let list = self.list;
        kernel(move |inputs, outputs, _context| {
            let length = i32::try_from(inputs.list(list)?.items.len()).unwrap_or(i32::MAX);
            outputs.tensor(0)?.slice::<i32>()?.fill(length);
            Ok(())
        })
    }
}

fn list_length(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(ListLength { list: binder.input("ls")? })
}

/// The list with one item replaced, or with several.
#[derive(Clone, Debug)]
pub(crate) struct ListWrite {
    pub(crate) list: usize,
    pub(crate) indices: usize,
    pub(crate) value: usize,
    /// `list_scatter`: `indices` is a vector, and `value` has one item for each.
    pub(crate) several: bool,
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

/// Puts an item for each index into a list.
fn scatter(list: &mut ListValue, places: &TensorRef, value: &TensorRef) -> Result<(), OpError> {
    let Some((&items, shape)) = value.shape.split_first() else {
        return Err(OpError::argument("value", "one item for each index", "a scalar"));
    };
    if items != places.len() {
        let expected = format!("{} items, one for each index", places.len());
        return Err(OpError::argument("value", expected, items.to_string()));
    }
    let bytes = value.dense_bytes()?;
    let size = bytes.len().checked_div(items).unwrap_or(0);
    for (i, index) in indices(places)?.enumerate() {
        put(list, index, shape, &bytes[i * size..(i + 1) * size])?;
    }
    Ok(())
}

impl Op for ListWrite {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.list)?, Shape::new())
    }

    fn prepare(&self, _inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let ListWrite { list, indices, value, several } = *self;
        kernel(move |inputs, outputs, _context| {
            let (value, places) = (inputs.tensor(value)?, inputs.tensor(indices)?);
            let out = outputs.list(0)?;
            out.clone_from(inputs.list(list)?);
            if out.storage != value.storage {
                return Err(OpError::argument(
                    "value",
                    format!("elements of the list's type `{}`", out.element),
                    format!("`{}`", value.element),
                ));
            }
            match several {
                true => scatter(out, &places, &value),
                false => put(out, places.scalar_int()?, value.shape, value.dense_bytes()?),
            }
        })
    }
}

fn list_write(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (list, indices) = (binder.input("ls")?, binder.input("index")?);
    bound(ListWrite { list, indices, value: binder.input("value")?, several: false })
}

fn list_scatter(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (list, indices) = (binder.input("ls")?, binder.input("indices")?);
    bound(ListWrite { list, indices, value: binder.input("value")?, several: true })
}

/// Gives one item, or several stacked to one tensor.
#[derive(Clone, Debug)]
pub(crate) struct ListRead {
    pub(crate) list: usize,
    pub(crate) indices: usize,
    /// `list_gather`: `indices` is a vector, and the result has one item for each.
    pub(crate) several: bool,
}

/// The place of an item.
fn place(list: &ListValue, index: i64) -> Result<usize, OpError> {
    let place = usize::try_from(index).ok().filter(|&place| place < list.items.len());
    let expected = || format!("one of {} items", list.items.len());
    place.ok_or_else(|| OpError::argument("index", expected(), index.to_string()))
}

/// The shape of an item.
fn shape(list: &ListValue, index: i64) -> Result<Shape, OpError> {
    let unknown = || {
        let message =
            format!("item {index} of the list has not been written, nor one of its shape");
        OpError::invalid(message)
    };
    list.shape(place(list, index)?).ok_or_else(unknown)
}

/// Copies items one after the other; those that have not been written are zeros.
fn gather(list: &ListValue, places: &TensorRef, out: &mut TensorMut) -> Result<(), OpError> {
    let size = out.bytes.len().checked_div(places.len()).unwrap_or(0);
    for (i, index) in indices(places)?.enumerate() {
        let out = &mut out.bytes[i * size..(i + 1) * size];
        let Some(item) = list.get(place(list, index)?) else {
            out.fill(0);
            continue;
        };
        same_count(size, item.dense_bytes()?.len())?;
        out.copy_from_slice(item.dense_bytes()?);
    }
    Ok(())
}

impl Op for ListRead {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (list, places) = (inputs.list(self.list)?, inputs.tensor(self.indices)?);
        if !self.several {
            return one(list.element, shape(list, places.scalar_int()?)?);
        }
        let item = match indices(&places)?.next() {
            Some(first) => shape(list, first)?,
            None => list.shape(0).unwrap_or_default(),
        };
        let mut stacked = Shape::from_slice(&[places.len()]);
        stacked.extend(item);
        one(list.element, stacked)
    }

    fn prepare(&self, _inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let ListRead { list, indices, .. } = *self;
        kernel(move |inputs, outputs, _context| {
            gather(inputs.list(list)?, &inputs.tensor(indices)?, outputs.tensor(0)?)
        })
    }
}

fn list_read(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (list, indices) = (binder.input("ls")?, binder.input("index")?);
    bound(ListRead { list, indices, several: false })
}

fn list_gather(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (list, indices) = (binder.input("ls")?, binder.input("indices")?);
    bound(ListRead { list, indices, several: true })
}

pub(super) const OPS: &[OpDef] = &[
    def("list_gather", Opset::Ios15, list_gather),
    def("list_length", Opset::Ios15, list_length),
    def("list_read", Opset::Ios15, list_read),
    def("list_scatter", Opset::Ios15, list_scatter),
    def("list_write", Opset::Ios15, list_write),
    def("make_list", Opset::Ios15, make_list),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Case, Value};

    /// The one result of an operation on a list.
    fn run(case: Case, operator: &str) -> Result<Value, OpError> {
        Ok(case.run(operator, Opset::Ios15)?.remove(0))
    }

    fn list(length: i32) -> Value {
        run(Case::new().int("init_length", length).vector("elem_shape", &[2]), "make_list").unwrap()
    }

    fn len(list: &Value) -> Vec<i32> {
        run(Case::new().value("ls", list.clone()), "list_length").unwrap().values()
    }

    #[test]
    fn what_is_written_is_read_and_the_old_list_stays() {
        let old = list(1);
        let case = Case::new().value("ls", old.clone()).ints("index", &[], &[2]);
        let new = run(case.floats("value", &[2], &[1.0, 2.0]), "list_write").unwrap();
        assert_eq!((len(&old), len(&new)), (vec![1], vec![3]));
        let read = |index| {
            let case = Case::new().value("ls", new.clone()).ints("index", &[], &[index]);
            case.run("list_read", Opset::Ios15)
        };
        let item = &read(2).unwrap()[0];
        assert_eq!((item.shape(), item.values::<f32>()), (vec![2], vec![1.0, 2.0]));
        for index in [-1, 3] {
            let message = read(index).err().unwrap().to_string();
            assert!(message.contains("one of 3 items"), "{message}");
        }
    }

    #[test]
    fn what_has_not_been_written_is_zeros() {
        let read = |list: &Value| {
            let case = Case::new().value("ls", list.clone()).ints("index", &[], &[0]);
            case.run("list_read", Opset::Ios15)
        };
        let item = &read(&list(1)).unwrap()[0];
        assert_eq!((item.shape(), item.values::<f32>()), (vec![2], vec![0.0; 2]));
        // Of `["n", 2]` the first size is known when an item has been written.
        let size = || Case::new().int("init_length", 2).string("elem_shape", "n");
        let open = run(size().int("elem_shape", 2), "make_list").unwrap();
        let message = read(&open).err().unwrap().to_string();
        assert!(message.contains("item 0 of the list has not been written"), "{message}");
        let case = Case::new().value("ls", open).ints("index", &[], &[1]);
        let written = case.floats("value", &[1, 2], &[1.0, 2.0]);
        let written = run(written, "list_write").unwrap();
        let item = &read(&written).unwrap()[0];
        assert_eq!((item.shape(), item.values::<f32>()), (vec![1, 2], vec![0.0; 2]));
        let case = Case::new().value("ls", written).ints("indices", &[3], &[1, 0, 1]);
        let gathered = case.run_floats("list_gather", Opset::Ios15);
        assert_eq!(gathered, (vec![3, 1, 2], vec![1.0, 2.0, 0.0, 0.0, 1.0, 2.0]));
    }

    #[test]
    fn items_are_scattered_and_gathered() {
        let case = Case::new().value("ls", list(0)).ints("indices", &[2], &[3, 1]);
        let items = case.floats("value", &[2, 2], &[5.0, 5.5, 6.0, 6.5]);
        let new = run(items, "list_scatter").unwrap();
        let gather = |places: &[i32]| {
            let case = Case::new().value("ls", new.clone());
            case.ints("indices", &[places.len()], places).run_floats("list_gather", Opset::Ios15)
        };
        assert_eq!(gather(&[1, 3, 1]), (vec![3, 2], vec![6.0, 6.5, 5.0, 5.5, 6.0, 6.5]));
        assert_eq!(gather(&[]), (vec![0, 2], vec![]));
    }

    #[test]
    fn what_does_not_fit_a_list_is_an_error() {
        let fails = |case: Case, operator, text: &str| {
            let message = case.run(operator, Opset::Ios15).err().unwrap().to_string();
            assert!(message.contains(text), "{message}");
        };
        let write = || Case::new().value("ls", list(1));
        fails(write().ints("index", &[], &[0]).ints("value", &[1], &[1]), "list_write", "`fp32`");
        let far = write().ints("index", &[], &[i32::MAX]).floats("value", &[1], &[1.0]);
        fails(far, "list_write", "0 to 1048576");
        let few = write().ints("indices", &[2], &[0, 1]).floats("value", &[1], &[1.0]);
        fails(few, "list_scatter", "2 items, one for each index");
        let negative = Case::new().int("init_length", -1).vector("elem_shape", &[2]);
        fails(negative, "make_list", "`init_length`");
    }
}
