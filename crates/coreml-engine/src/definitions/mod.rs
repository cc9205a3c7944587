//! What each operator takes and gives, in every version: the table that coremltools defines.
//!
//! An operator's version is named by the opset that brought it. The rows say what a file may
//! contain, not what this engine computes. `tools/definitions` writes them from coremltools; its
//! README lists where files depart from them.

mod table;

use coreml_format::mil::{ElementType, Opset};

/// One version of an operator.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub struct Definition {
    /// The operator's name, e.g. `conv`.
    pub name: &'static str,
    /// The opset that brought this version; it holds until the opset of the next one.
    pub since: Opset,
    /// Arguments in coremltools' order. Nested blocks (of `cond` and `while_loop`) and the
    /// attribute `name` that every operation has are not among them.
    pub arguments: &'static [Argument],
    /// How many results it has.
    pub outputs: Outputs,
}

/// A parameter of an operator.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub struct Argument {
    /// Its name, e.g. `strides`.
    pub name: &'static str,
    /// What it is bound to.
    pub kind: Kind,
    /// True when the value (each value of [`Kind::Tensors`]) has to be known before the program
    /// runs: a constant, or computed from constants.
    pub constant: bool,
    /// What holds when an operation leaves it out.
    pub default: Default,
    /// Element types that it may have; empty where the definition says none, which is so for
    /// everything but [`Kind::Tensor`].
    pub types: &'static [ElementType],
    /// Arguments with the same type parameter (`T`) have the same element type. `None` where no
    /// other argument of the operator shares it.
    pub type_parameter: Option<&'static str>,
}

/// What an argument is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One tensor or scalar.
    Tensor,
    /// Any number of values in order (`values` of `concat`); those of `while_loop` may be lists.
    Tensors,
    /// A list in MIL's sense: of type `list<…>`.
    List,
    /// A state.
    State,
    /// A value of whatever type.
    Any,
}

/// What holds for an argument that an operation leaves out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default {
    /// It has to be there.
    Required,
    /// No value: the operator does without.
    Absent,
    /// A value that depends on other arguments, in words.
    Computed(&'static str),
    /// This boolean.
    Bool(bool),
    /// This integer.
    Int(i64),
    /// This number, rounded to the argument's element type (`1e-45` of `log` is 0 in `fp16`).
    Float(f64),
    /// This string.
    String(&'static str),
}

/// How many results an operator has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Always this many.
    Fixed(usize),
    /// From one to this many, as arguments ask (`topk` without indices).
    UpTo(usize),
    /// As many as arguments or blocks say.
    Several,
}

/// All definitions, by name and then by opset.
pub fn definitions() -> &'static [Definition] {
    table::DEFINITIONS
}

/// All versions of an operator, oldest first; empty when there is no operator of this name.
pub fn versions(name: &str) -> &'static [Definition] {
    let all = definitions();
    let start = all.partition_point(|definition| definition.name < name);
    let end = all.partition_point(|definition| definition.name <= name);
    all.get(start..end).unwrap_or(&[])
}

/// The version of an operator that holds in functions of this opset: the newest one not above it.
pub fn lookup(name: &str, opset: Opset) -> Option<&'static Definition> {
    versions(name).iter().rev().find(|definition| definition.since <= opset)
}

impl Definition {
    /// The argument of this name.
    pub fn argument(&self, name: &str) -> Option<&'static Argument> {
        self.arguments.iter().find(|argument| argument.name == name)
    }
}

impl Argument {
    /// A required argument without a word on element types.
    const fn new(name: &'static str, kind: Kind) -> Self {
        let default = Default::Required;
        Argument { name, kind, constant: false, default, types: &[], type_parameter: None }
    }

    /// The same, leaving a default where it is left out.
    const fn or(self, default: Default) -> Self {
        Argument { default, ..self }
    }

    /// The same, sharing its element type with the others of this parameter.
    const fn of(self, parameter: &'static str) -> Self {
        Argument { type_parameter: Some(parameter), ..self }
    }
}

/// A row of the table.
const fn operator(
    name: &'static str,
    since: Opset,
    outputs: Outputs,
    arguments: &'static [Argument],
) -> Definition {
    Definition { name, since, arguments, outputs }
}

/// A tensor, known when the program is loaded or not.
const fn tensor(name: &'static str, types: &'static [ElementType]) -> Argument {
    Argument { types, ..Argument::new(name, Kind::Tensor) }
}

/// A tensor that has to be constant.
const fn constant(name: &'static str, types: &'static [ElementType]) -> Argument {
    Argument { constant: true, ..tensor(name, types) }
}

/// An argument of another kind.
const fn other(name: &'static str, kind: Kind) -> Argument {
    Argument::new(name, kind)
}

/// An argument of another kind that has to be constant.
const fn constant_of(name: &'static str, kind: Kind) -> Argument {
    Argument { constant: true, ..Argument::new(name, kind) }
}
