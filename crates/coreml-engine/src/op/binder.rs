//! Binding: parses an operation's named arguments once, when its plan is made, by the operator's
//! definition.

use std::cell::RefCell;
use std::ops::Range;

use coreml_format::mil::{ElementType, Opset, ValueType};
use half::f16;
use smallvec::SmallVec;

use super::inputs::Frame;
use super::{Bind, Op, OpDef};
use crate::definitions::{Argument, Default, Definition};
use crate::error::OpError;
use crate::ids::Operand;
use crate::value::{Constant, Shape};
use crate::weights::Folded;

/// The values bound to one argument: one, or several for a list such as `values` of `concat`.
pub(crate) type Bound = SmallVec<[Operand; 2]>;

/// What an operation became.
pub(crate) enum BoundOperation {
    /// An operation with its run-time inputs.
    Op(Box<dyn Op>, Vec<Operand>),
    /// Constants.
    Constants(Folded),
}

/// Gives an operation's `bind` function its arguments. Those asked for with `input…` become the
/// operation's run-time inputs, in that order; the others have to be constants. What is left out has
/// the definition's default.
pub(crate) struct Binder<'a> {
    definition: &'static Definition,
    arguments: &'a [(&'a str, Bound)],
    frame: &'a dyn Frame,
    outputs: &'a [ValueType],
    inputs: Vec<Operand>,
    asked: RefCell<SmallVec<[&'static str; 16]>>,
}

impl<'a> Binder<'a> {
    /// A binder for arguments that fit the definition: it has all of them, those that are required
    /// are there, and their types are among its.
    pub(crate) fn new(
        definition: &'static Definition,
        arguments: &'a [(&'a str, Bound)],
        frame: &'a dyn Frame,
        outputs: &'a [ValueType],
    ) -> Result<Self, OpError> {
        let asked = RefCell::default();
        let binder = Binder { definition, arguments, frame, outputs, inputs: Vec::new(), asked };
        binder.check_arguments()?;
        Ok(binder)
    }

    /// Binds the operation; an argument that it does not ask for is refused.
    pub(crate) fn bind(mut self, def: &OpDef) -> Result<BoundOperation, OpError> {
        let operation = match def.bind {
            Bind::Constant(bind) => BoundOperation::Constants(bind(&self)?),
            Bind::Op(bind) => {
                let op = bind(&mut self)?;
                BoundOperation::Op(op, std::mem::take(&mut self.inputs))
            }
        };
        let asked = self.asked.borrow();
        #[cfg(test)]
        read_arguments::record(self.definition, &asked);
        match self.arguments.iter().find(|(name, _)| !asked.contains(name)) {
            Some((name, _)) => {
                Err(OpError::unsupported(format!("argument `{name}` as it is used here")))
            }
            None => Ok(operation),
        }
    }

    fn check_arguments(&self) -> Result<(), OpError> {
        for (name, bound) in self.arguments {
            let Some(argument) = self.definition.argument(name) else {
                let known: Vec<&str> =
                    self.definition.arguments.iter().map(|argument| argument.name).collect();
                return Err(OpError::invalid(format!(
                    "there is no argument `{name}` in opset {}, which has {}",
                    self.definition.since,
                    known.join(", ")
                )));
            };
            self.check_types(argument, bound)?;
        }
        let missing = |argument: &&Argument| {
            argument.default == Default::Required && self.bound(argument.name).is_none()
        };
        match self.definition.arguments.iter().find(missing) {
            Some(argument) => Err(OpError::Missing(argument.name.to_owned())),
            None => Ok(()),
        }
    }

    /// A run-time value has one of the argument's types, and that of others which share its type
    /// parameter. Of a constant only the class counts: converters write `fp32` constants into
    /// programs of `fp16`.
    fn check_types(&self, argument: &Argument, bound: &Bound) -> Result<(), OpError> {
        for &operand in bound {
            let element = self.frame.kind(operand).0;
            let fits = match operand {
                Operand::Value(_) => argument.types.contains(&element),
                Operand::Constant(_) => argument.types.iter().any(|&ty| same_class(ty, element)),
            };
            if !fits && !argument.types.is_empty() {
                let types: Vec<String> =
                    argument.types.iter().map(|ty| format!("`{ty}`")).collect();
                let expected = format!("elements of type {}", types.join(", "));
                return Err(OpError::argument(argument.name, expected, format!("`{element}`")));
            }
            self.check_parameter(argument, operand, element)?;
        }
        Ok(())
    }

    fn check_parameter(
        &self,
        argument: &Argument,
        operand: Operand,
        element: ElementType,
    ) -> Result<(), OpError> {
        let (Operand::Value(_), Some(parameter)) = (operand, argument.type_parameter) else {
            return Ok(());
        };
        match self.parameter_element(parameter) {
            Some((_, first)) if first == element => Ok(()),
            Some((name, first)) => {
                let expected = format!("elements of type `{first}`, as `{name}` has");
                Err(OpError::argument(argument.name, expected, format!("`{element}`")))
            }
            None => Ok(()),
        }
    }

    /// The element type that a type parameter stands for: that of the first run-time value.
    fn parameter_element(&self, parameter: &str) -> Option<(&'static str, ElementType)> {
        let arguments = self.definition.arguments.iter();
        arguments.filter(|argument| argument.type_parameter == Some(parameter)).find_map(
            |argument| {
                let mut operands = self.bound(argument.name)?.iter();
                let value = operands.find(|operand| matches!(operand, Operand::Value(_)))?;
                Some((argument.name, self.frame.kind(*value).0))
            },
        )
    }

    fn bound(&self, name: &str) -> Option<&'a Bound> {
        self.arguments.iter().find(|argument| argument.0 == name).map(|argument| &argument.1)
    }

    /// Notes that an argument was asked for.
    fn ask(&self, name: &str) -> Option<&'static Argument> {
        let argument = self.definition.argument(name)?;
        self.asked.borrow_mut().push(argument.name);
        Some(argument)
    }

    fn single(&self, name: &str) -> Result<Option<Operand>, OpError> {
        self.ask(name);
        match self.bound(name).map(|bound| bound.as_slice()) {
            None => Ok(None),
            Some([operand]) => Ok(Some(*operand)),
            Some(bound) => {
                Err(OpError::argument(name, "one value", format!("{} values", bound.len())))
            }
        }
    }

    /// A run-time input; gives its index.
    pub(crate) fn input(&mut self, name: &str) -> Result<usize, OpError> {
        self.optional_input(name)?.ok_or_else(|| OpError::Missing(name.to_owned()))
    }

    /// A run-time input that may be absent.
    pub(crate) fn optional_input(&mut self, name: &str) -> Result<Option<usize>, OpError> {
        let operand = self.single(name)?;
        Ok(operand.map(|operand| {
            self.inputs.push(operand);
            self.inputs.len() - 1
        }))
    }

    /// The run-time inputs of a list argument; gives their indices.
    pub(crate) fn inputs(&mut self, name: &str) -> Result<Range<usize>, OpError> {
        self.ask(name);
        let bound = self.bound(name).ok_or_else(|| OpError::Missing(name.to_owned()))?;
        let start = self.inputs.len();
        self.inputs.extend_from_slice(bound);
        Ok(start..self.inputs.len())
    }

    /// A constant argument that may be absent.
    pub(crate) fn constant(&self, name: &str) -> Result<Option<&'a Constant>, OpError> {
        let Some(operand) = self.single(name)? else { return Ok(None) };
        match self.frame.constant(operand) {
            Some(constant) => Ok(Some(constant)),
            None => Err(OpError::argument(name, "a constant", "a value known only at run time")),
        }
    }

    /// A constant argument that has to be there.
    pub(crate) fn required_constant(&self, name: &str) -> Result<&'a Constant, OpError> {
        self.constant(name)?.ok_or_else(|| OpError::Missing(name.to_owned()))
    }

    /// Integers (or bools) of a constant argument that may be absent.
    pub(crate) fn optional_ints(&self, name: &str) -> Result<Option<SmallVec<[i64; 8]>>, OpError> {
        let Some(constant) = self.constant(name)? else { return Ok(None) };
        match constant.tensor().map(|tensor| tensor.ints()) {
            Some(Ok(ints)) => Ok(Some(ints)),
            _ => Err(OpError::argument(name, "integers", format!("`{}`", constant.element))),
        }
    }

    /// Integers (or bools) of a constant argument.
    pub(crate) fn ints(&self, name: &str) -> Result<SmallVec<[i64; 8]>, OpError> {
        self.optional_ints(name)?.ok_or_else(|| OpError::Missing(name.to_owned()))
    }

    /// The integers (or bools) of an argument that is a list of constants, one each.
    pub(crate) fn int_list(&self, name: &str) -> Result<SmallVec<[i64; 8]>, OpError> {
        self.ask(name);
        let bound = self.bound(name).ok_or_else(|| OpError::Missing(name.to_owned()))?;
        let int = |&operand: &Operand| {
            let tensor = self.frame.constant(operand).and_then(Constant::tensor);
            let int = tensor.filter(|tensor| tensor.len() == 1).map(|tensor| tensor.scalar_int());
            match int {
                Some(Ok(int)) => Ok(int),
                _ => Err(OpError::argument(name, "constant integers", "something else among them")),
            }
        };
        bound.iter().map(int).collect()
    }

    /// Constant bools; empty when absent.
    pub(crate) fn bools(&self, name: &str) -> Result<SmallVec<[bool; 8]>, OpError> {
        let ints = self.optional_ints(name)?.unwrap_or_default();
        Ok(ints.into_iter().map(|value| value != 0).collect())
    }

    /// A constant shape.
    pub(crate) fn shape(&self, name: &str) -> Result<Shape, OpError> {
        let sizes = self.ints(name)?;
        let shape: Option<Shape> = sizes.iter().map(|&size| usize::try_from(size).ok()).collect();
        shape.ok_or_else(|| OpError::argument(name, "sizes", format!("{:?}", sizes.as_slice())))
    }

    /// The sizes of a shape whose axes are values of their own: constant integers, or names of those that
    /// are not known.
    pub(crate) fn sizes(&self, name: &str) -> Result<SmallVec<[Option<usize>; 4]>, OpError> {
        self.ask(name);
        let mut sizes = SmallVec::new();
        for &operand in self.bound(name).map_or(&[][..], |bound| bound.as_slice()) {
            let constant = self.frame.constant(operand);
            let constant = constant.ok_or_else(|| {
                OpError::argument(name, "constants", "a value known only at run time")
            })?;
            let wrong = || OpError::argument(name, "sizes", constant.describe());
            match constant.tensor() {
                None => sizes.push(constant.as_str().map(|_| None).ok_or_else(wrong)?),
                Some(tensor) => {
                    for size in tensor.ints()? {
                        sizes.push(Some(usize::try_from(size).map_err(|_| wrong())?));
                    }
                }
            }
        }
        Ok(sizes)
    }

    /// A constant integer, or its default; `None` when there is neither.
    pub(crate) fn optional_int(&self, name: &str) -> Result<Option<i64>, OpError> {
        match self.optional_ints(name)?.as_deref() {
            Some([value]) => Ok(Some(*value)),
            Some(values) => {
                Err(OpError::argument(name, "one integer", format!("{} integers", values.len())))
            }
            None => Ok(match self.default(name) {
                Some(Default::Int(value)) => Some(value),
                Some(Default::Bool(value)) => Some(value.into()),
                _ => None,
            }),
        }
    }

    /// A constant integer, or its default.
    pub(crate) fn int(&self, name: &str) -> Result<i64, OpError> {
        self.optional_int(name)?.ok_or_else(|| OpError::Missing(name.to_owned()))
    }

    /// A constant positive integer, or its default.
    pub(crate) fn positive(&self, name: &str) -> Result<usize, OpError> {
        let value = self.int(name)?;
        usize::try_from(value)
            .ok()
            .filter(|&value| value > 0)
            .ok_or_else(|| OpError::argument(name, "a positive integer", value.to_string()))
    }

    /// A constant bool, or its default.
    pub(crate) fn bool(&self, name: &str) -> Result<bool, OpError> {
        Ok(self.int(name)? != 0)
    }

    /// A constant number, or its default; `None` when there is neither. A default is rounded as the
    /// operation's element type holds it: `1e-45` is 0 in `fp16`.
    pub(crate) fn optional_number(&self, name: &str) -> Result<Option<f64>, OpError> {
        let Some(constant) = self.constant(name)? else {
            return Ok(match self.default(name) {
                Some(Default::Float(value)) => Some(self.rounded(name, value as f32).into()),
                Some(Default::Int(value)) => Some(value as f64),
                _ => None,
            });
        };
        match constant.tensor().filter(|tensor| tensor.len() == 1) {
            Some(tensor) => tensor.scalar_f64().map(Some),
            None => Err(OpError::argument(name, "one number", constant.describe())),
        }
    }

    /// A constant number of any type, or its default.
    pub(crate) fn number(&self, name: &str) -> Result<f64, OpError> {
        self.optional_number(name)?.ok_or_else(|| OpError::Missing(name.to_owned()))
    }

    /// As [`Binder::optional_number`], in single precision.
    pub(crate) fn optional_float(&self, name: &str) -> Result<Option<f32>, OpError> {
        Ok(self.optional_number(name)?.map(|number| number as f32))
    }

    fn rounded(&self, name: &str, value: f32) -> f32 {
        let parameter = self.definition.argument(name).and_then(|argument| argument.type_parameter);
        match parameter.and_then(|parameter| self.parameter_element(parameter)) {
            Some((_, ElementType::Float16)) => f16::from_f32(value).to_f32(),
            _ => value,
        }
    }

    /// A constant number, or its default.
    pub(crate) fn float(&self, name: &str) -> Result<f32, OpError> {
        self.optional_float(name)?.ok_or_else(|| OpError::Missing(name.to_owned()))
    }

    /// A constant string, or its default; `None` when there is neither.
    pub(crate) fn optional_string(&self, name: &str) -> Result<Option<&'a str>, OpError> {
        let Some(constant) = self.constant(name)? else {
            return Ok(match self.default(name) {
                Some(Default::String(text)) => Some(text),
                _ => None,
            });
        };
        match constant.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(OpError::argument(name, "a string", constant.describe())),
        }
    }

    /// A constant string, or its default.
    pub(crate) fn string(&self, name: &str) -> Result<&'a str, OpError> {
        self.optional_string(name)?.ok_or_else(|| OpError::Missing(name.to_owned()))
    }

    /// What a string argument means, by a list of the strings that it may be.
    pub(crate) fn one_of<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, OpError> {
        let text = self.string(name)?;
        let found = choices.iter().find(|choice| choice.0 == text).map(|choice| choice.1);
        found.ok_or_else(|| {
            let names: Vec<String> =
                choices.iter().map(|choice| format!("`{}`", choice.0)).collect();
            let expected = format!("one of {}", names.join(", "));
            OpError::argument(name, expected, format!("`{text}`"))
        })
    }

    /// An element type given by its name, as `dtype` of `cast`, or its default.
    pub(crate) fn element_type(&self, name: &str) -> Result<ElementType, OpError> {
        let text = self.string(name)?;
        ElementType::from_name(text)
            .ok_or_else(|| OpError::argument(name, "an element type", format!("`{text}`")))
    }

    fn default(&self, name: &str) -> Option<Default> {
        self.definition.argument(name).map(|argument| argument.default)
    }

    /// The element type of a run-time input, by its index.
    pub(crate) fn element(&self, input: usize) -> ElementType {
        self.frame.kind(self.inputs[input]).0
    }

    /// True when a run-time input is a constant.
    pub(crate) fn is_constant(&self, input: usize) -> bool {
        matches!(self.inputs[input], Operand::Constant(_))
    }

    /// The constant behind a run-time input.
    pub(crate) fn constant_input(&self, input: usize) -> Option<&'a Constant> {
        self.frame.constant(self.inputs[input])
    }

    /// The element type of an operation on several inputs: that of the first one that is no constant,
    /// since a constant may be `fp32` beside a value of `fp16`.
    pub(crate) fn common_element(&self, inputs: &[usize]) -> ElementType {
        let first = inputs.iter().find(|&&input| !self.is_constant(input)).or(inputs.first());
        first.map_or(ElementType::Float32, |&input| self.element(input))
    }

    /// The opset that brought the version of the operator that is bound.
    pub(crate) fn since(&self) -> Opset {
        self.definition.since
    }

    /// Types that the program declares for the results.
    pub(crate) fn outputs(&self) -> &'a [ValueType] {
        self.outputs
    }
}

/// Whether two element types are both of floats, both of integers, or the same.
fn same_class(a: ElementType, b: ElementType) -> bool {
    a == b || a.is_float() && b.is_float() || a.is_int() && b.is_int()
}

/// Which arguments binding asked for, so that a test can compare them with the definitions.
#[cfg(test)]
pub(crate) mod read_arguments {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};

    use coreml_format::mil::Opset;

    use crate::definitions::Definition;

    type Read = BTreeMap<(&'static str, Opset), BTreeSet<&'static str>>;

    thread_local! {
        static READ: RefCell<Read> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(super) fn record(definition: &Definition, asked: &[&'static str]) {
        READ.with_borrow_mut(|read| {
            read.entry((definition.name, definition.since)).or_default().extend(asked);
        });
    }

    /// What this thread's bindings asked for, by operator version.
    pub(crate) fn taken() -> Read {
        READ.take()
    }
}
