//! The program: functions of blocks of operations, as the file states them.

use std::collections::BTreeMap;
use std::fmt;

use super::types::ValueType;
use super::value::Value;

/// A MIL program, the same whether it was read from protobuf or from MIL text.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Functions by name.
    pub functions: BTreeMap<String, Function>,
    /// Attributes such as `buildInfo`.
    pub attributes: BTreeMap<String, Value>,
}

/// A function with the block of its opset.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Parameters in order; states are parameters of state type.
    pub inputs: Vec<NamedValueType>,
    /// The opset that names the operations' versions.
    pub opset: Opset,
    /// The body.
    pub block: Block,
    /// Attributes such as `FlexibleShapeInformation`.
    pub attributes: BTreeMap<String, Value>,
}

/// Operations in order, with the names of the values that the block gives out.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Block {
    /// Block parameters (nested blocks only, e.g. the loop variables of `while_loop`).
    pub inputs: Vec<NamedValueType>,
    /// Names of the values that are the block's results.
    pub outputs: Vec<String>,
    /// Operations in the order of the file.
    pub operations: Vec<Operation>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Operator name, e.g. `conv` (`Operation.type` in the message).
    pub operator: String,
    /// Arguments by parameter name. `const` has one, `val`; those of the iOS 16 `constexpr_*`
    /// operations, which files keep among the attributes, are here too.
    pub inputs: BTreeMap<String, Argument>,
    /// Results: names and types.
    pub outputs: Vec<NamedValueType>,
    /// Nested blocks (`cond`: then, else; `while_loop`: condition, body).
    pub blocks: Vec<Block>,
    /// What remains of the attributes; `name` is the operation's own name.
    pub attributes: BTreeMap<String, Value>,
}

impl Operation {
    /// The operation's name: its `name` attribute, else its first output.
    pub fn name(&self) -> &str {
        self.attributes
            .get("name")
            .and_then(Value::as_str)
            .or_else(|| self.outputs.first().map(|output| output.name.as_str()))
            .unwrap_or("")
    }
}

/// An argument: one binding, or several for a parameter that takes a list (`values` of `concat`).
#[derive(Clone, Debug, PartialEq)]
pub struct Argument(pub Vec<Binding>);

/// What an argument is bound to.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding {
    /// A value of the program, by name.
    Name(String),
    /// A constant in place.
    Value(Value),
}

/// A name with its type.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedValueType {
    /// The value's name.
    pub name: String,
    /// Its type.
    pub ty: ValueType,
}

/// Operator set. Each adds operators or changes some; an operator's version is the newest one not
/// above the function's opset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // each variant is the release that its name says
#[non_exhaustive]
pub enum Opset {
    Ios15,
    Ios16,
    Ios17,
    Ios18,
    Ios26,
}

impl Opset {
    /// Every opset, oldest first.
    pub const ALL: [Opset; 5] =
        [Opset::Ios15, Opset::Ios16, Opset::Ios17, Opset::Ios18, Opset::Ios26];

    /// From the tag in the protobuf message: `CoreML5` (iOS 15) to `CoreML9` (iOS 26).
    pub fn from_proto(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|opset| opset.proto_tag() == tag)
    }

    /// The tag in the protobuf message.
    pub(crate) fn proto_tag(self) -> &'static str {
        match self {
            Opset::Ios15 => "CoreML5",
            Opset::Ios16 => "CoreML6",
            Opset::Ios17 => "CoreML7",
            Opset::Ios18 => "CoreML8",
            Opset::Ios26 => "CoreML9",
        }
    }

    /// From the tag in MIL text: `ios15` to `ios18`, `ios26`.
    pub fn from_text(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|opset| opset.name() == tag)
    }

    /// Name in MIL text.
    pub fn name(self) -> &'static str {
        match self {
            Opset::Ios15 => "ios15",
            Opset::Ios16 => "ios16",
            Opset::Ios17 => "ios17",
            Opset::Ios18 => "ios18",
            Opset::Ios26 => "ios26",
        }
    }
}

impl fmt::Display for Opset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
