//! The structure that every reader of a program may rely on.

use std::collections::HashSet;

use super::{Argument, Binding, BlobFileValue, Block, Function, Operation, Program, Value};
use crate::FormatError;

/// Checks a program: every value is defined once in its scope and before it is used (so there are
/// no cycles), blocks give out values that exist, and blob values have known sizes.
///
/// # Errors
/// [`FormatError::InvalidProgram`] naming function, operation and argument.
pub fn validate(program: &Program) -> Result<(), FormatError> {
    if program.functions.is_empty() {
        return Err(FormatError::field("program", "has no functions"));
    }
    program.functions.iter().try_for_each(|(name, function)| validate_function(name, function))
}

fn validate_function(name: &str, function: &Function) -> Result<(), FormatError> {
    let mut scopes = Scopes { function: name, stack: vec![HashSet::new()] };
    for input in &function.inputs {
        scopes.define(&input.name, "inputs")?;
    }
    scopes.block(&function.block)
}

/// The values that can be seen, innermost scope last.
struct Scopes<'a> {
    function: &'a str,
    stack: Vec<HashSet<&'a str>>,
}

impl<'a> Scopes<'a> {
    fn error(&self, operation: &str, message: String) -> FormatError {
        FormatError::InvalidProgram {
            function: self.function.to_owned(),
            operation: operation.to_owned(),
            message,
        }
    }

    /// A nested block may give a name anew that an outer scope has; its own scope may not.
    fn define(&mut self, name: &'a str, operation: &str) -> Result<(), FormatError> {
        let new = self.stack.last_mut().is_some_and(|scope| scope.insert(name));
        if new { Ok(()) } else { Err(self.error(operation, format!("defines `{name}` again"))) }
    }

    fn check_use(&self, name: &str, operation: &str, argument: &str) -> Result<(), FormatError> {
        if self.stack.iter().rev().any(|scope| scope.contains(name)) {
            return Ok(());
        }
        let message =
            format!("argument `{argument}` refers to `{name}`, which is not defined before it");
        Err(self.error(operation, message))
    }

    /// Defines the block's values in the innermost scope.
    fn block(&mut self, block: &'a Block) -> Result<(), FormatError> {
        for operation in &block.operations {
            self.operation(operation)?;
        }
        for output in &block.outputs {
            if !self.stack.iter().any(|scope| scope.contains(output.as_str())) {
                let message = format!("the block gives out `{output}`, which is not defined");
                return Err(self.error("outputs", message));
            }
        }
        Ok(())
    }

    fn operation(&mut self, operation: &'a Operation) -> Result<(), FormatError> {
        let name = operation.name();
        for (parameter, Argument(bindings)) in &operation.inputs {
            for binding in bindings {
                match binding {
                    Binding::Name(value) => self.check_use(value, name, parameter)?,
                    Binding::Value(value) => self.check_value(value, name, parameter)?,
                }
            }
        }
        for (attribute, value) in &operation.attributes {
            self.check_value(value, name, attribute)?;
        }
        for block in &operation.blocks {
            self.stack.push(HashSet::new());
            for input in &block.inputs {
                self.define(&input.name, name)?;
            }
            self.block(block)?;
            self.stack.pop();
        }
        operation.outputs.iter().try_for_each(|output| self.define(&output.name, name))
    }

    fn check_value(&self, value: &Value, name: &str, argument: &str) -> Result<(), FormatError> {
        let checked = match value {
            Value::BlobFile(blob) => check_blob(blob),
            Value::List(_, values) | Value::Tuple(values) => {
                return values.iter().try_for_each(|v| self.check_value(v, name, argument));
            }
            Value::Dictionary(entries) => {
                return entries.iter().try_for_each(|(_, v)| self.check_value(v, name, argument));
            }
            Value::Tensor(_) => Ok(()),
        };
        checked.map_err(|message| self.error(name, format!("argument `{argument}`: {message}")))
    }
}

/// A blob's size in bytes must be known, and its offset that of a record.
fn check_blob(blob: &BlobFileValue) -> Result<(), String> {
    let bytes = blob.ty.element_count().and_then(|count| blob.ty.element.storage_bytes(count));
    if bytes.is_none() {
        return Err(format!("a blob of type `{}` has no definite size", blob.ty));
    }
    if !blob.offset.is_multiple_of(64) {
        return Err(format!("the blob's offset {} is no multiple of 64", blob.offset));
    }
    Ok(())
}
