//! MIL, the language of ML Programs: one representation, [`Program`], with two readers.

mod program;
mod types;
mod value;

pub use program::{Argument, Binding, Block, Function, NamedValueType, Operation, Opset, Program};
pub use types::{Dimension, ElementType, TensorType, ValueType};
pub use value::{BlobFileValue, TensorData, TensorValue, Value};
