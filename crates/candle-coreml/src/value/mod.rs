//! The engine's own values: typed buffers with MIL's element types. Candle tensors exist only at
//! the edge of the API.

mod buffer;
mod constant;
mod list;
mod tensor;

pub(crate) use buffer::{Buffer, OutOfMemory};
pub(crate) use constant::{
    BlockwiseData, Bytes, Constant, ConstantData, ConstantKey, PalettizedData,
};
pub(crate) use list::{ListItem, ListValue};
pub(crate) use tensor::{Element, Shape, Storage, TensorMut, TensorRef, element_count};
