//! The engine's values: typed buffers with MIL's element types, and where their elements lie.

mod buffer;
mod constant;
mod layout;
mod lines;
mod list;
mod tensor;
mod visit;

pub use buffer::Buffer;
pub(crate) use constant::{
    BlockwiseData, Bytes, Constant, ConstantData, ConstantKey, PalettizedData,
};
pub(crate) use layout::{
    Layout, Strides, View, count, elements, elements_mut, reshaped, row_major, same_count,
};
pub(crate) use lines::Lines;
pub(crate) use list::{ItemShape, ListItem, ListValue};
pub use tensor::{Element, Shape, Storage, TensorRef, element_count};
pub(crate) use tensor::{Ints, TensorMut};
pub(crate) use visit::Visitor;
