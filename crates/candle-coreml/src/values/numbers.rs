//! Numbers in the caller's memory, of every type that arrays have.

use std::fmt;

use coreml_engine::Storage;
use coreml_format::mil::ElementType;
use half::f16;

use crate::words::numpy_element;

/// Declares the enums with the same types of numbers.
macro_rules! numbers {
    ($($name:ident: $number:ty, $element:ident, $storage:ident;)*) => {
        /// Numbers of one type, to read.
        #[derive(Clone, Copy)]
        #[allow(missing_docs)] // each variant is the type that its name says
        #[non_exhaustive]
        pub enum Numbers<'a> {
            $($name(&'a [$number]),)*
        }

        /// Room for numbers of one type, to write.
        #[allow(missing_docs)] // each variant is the type that its name says
        #[non_exhaustive]
        pub enum NumbersMut<'a> {
            $($name(&'a mut [$number]),)*
        }

        impl<'a> Numbers<'a> {
            /// Their type, how they are held, and their bytes.
            pub(super) fn parts(self) -> (ElementType, Storage, &'a [u8]) {
                match self {
                    $(Numbers::$name(numbers) => (
                        ElementType::$element,
                        Storage::$storage,
                        bytemuck::cast_slice(numbers),
                    ),)*
                }
            }
        }

        impl NumbersMut<'_> {
            /// How many there are.
            pub fn len(&self) -> usize {
                match self {
                    $(NumbersMut::$name(numbers) => numbers.len(),)*
                }
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Their type.
            pub fn element(&self) -> ElementType {
                match self {
                    $(NumbersMut::$name(_) => ElementType::$element,)*
                }
            }
        }

        $(impl<'a> From<&'a [$number]> for Numbers<'a> {
            fn from(numbers: &'a [$number]) -> Self {
                Numbers::$name(numbers)
            }
        }

        impl<'a> From<&'a mut [$number]> for NumbersMut<'a> {
            fn from(numbers: &'a mut [$number]) -> Self {
                NumbersMut::$name(numbers)
            }
        })*
    };
}

numbers! {
    Bool: bool, Bool, Bool;
    Int8: i8, Int8, I8;
    UInt8: u8, UInt8, U8;
    Int16: i16, Int16, I16;
    UInt16: u16, UInt16, U16;
    Int32: i32, Int32, I32;
    UInt32: u32, UInt32, U32;
    Int64: i64, Int64, I64;
    UInt64: u64, UInt64, U64;
    Float16: f16, Float16, F16;
    Float32: f32, Float32, F32;
    Float64: f64, Float64, F64;
}

/// What they are, and not each one.
impl fmt::Debug for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (element, storage, bytes) = self.parts();
        write!(f, "{} numbers of `{}`", bytes.len() / storage.size(), numpy_element(element))
    }
}

/// What they are, and not each one.
impl fmt::Debug for NumbersMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} numbers of `{}`", self.len(), numpy_element(self.element()))
    }
}
