//! The one way from a [`Storage`] to the Rust type that it stands for.

use half::f16;

use super::{Element, Storage};

/// Something to do with elements of whatever type they turn out to have.
pub(crate) trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it with elements of type `T`; bools come as `u8`.
    fn visit<T: Element>(self) -> Self::Output;
}

impl Storage {
    /// Calls the visitor with the type of the elements.
    pub(crate) fn visit<V: Visitor>(self, visitor: V) -> V::Output {
        match self {
            Storage::Bool | Storage::U8 => visitor.visit::<u8>(),
            Storage::I8 => visitor.visit::<i8>(),
            Storage::U16 => visitor.visit::<u16>(),
            Storage::I16 => visitor.visit::<i16>(),
            Storage::U32 => visitor.visit::<u32>(),
            Storage::I32 => visitor.visit::<i32>(),
            Storage::U64 => visitor.visit::<u64>(),
            Storage::I64 => visitor.visit::<i64>(),
            Storage::F16 => visitor.visit::<f16>(),
            Storage::F32 => visitor.visit::<f32>(),
            Storage::F64 => visitor.visit::<f64>(),
        }
    }

    /// Calls the visitor with the unsigned type that is as wide as the elements: for what only moves
    /// them.
    pub(crate) fn visit_bits<V: Visitor>(self, visitor: V) -> V::Output {
        match self.size() {
            1 => visitor.visit::<u8>(),
            2 => visitor.visit::<u16>(),
            4 => visitor.visit::<u32>(),
            _ => visitor.visit::<u64>(),
        }
    }
}
