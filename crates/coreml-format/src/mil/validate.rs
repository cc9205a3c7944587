//! The structure that every reader of a program may rely on.

use std::collections::HashSet;

use super::{
    Argument, Binding, BlobFileValue, Block, ElementType, Function, Operation, Program, TensorData,
    TensorValue, Value,
};
use crate::FormatError;

/// Checks a program: every value is defined once in its scope and before it is used (so there are
/// no cycles), blocks give out values that exist, constants have as many elements as their types ask
/// for, and blob values known sizes.
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
            Value::Tensor(tensor) => check_immediate(tensor),
        };
        checked.map_err(|message| self.error(name, format!("argument `{argument}`: {message}")))
    }
}

/// There are as many elements as the shape asks for.
fn check_immediate(tensor: &TensorValue) -> Result<(), String> {
    let (element, count) = (tensor.ty.element, tensor.ty.element_count());
    let (fits, got) = match &tensor.data {
        TensorData::Strings(strings) => {
            let fits = element == ElementType::String && count == Some(strings.len());
            (fits, format!("{} strings", strings.len()))
        }
        TensorData::Bytes(bytes) => {
            let expected = count.and_then(|count| element.storage_bytes(count));
            (expected == Some(bytes.len()), format!("{} bytes", bytes.len()))
        }
    };
    if fits { Ok(()) } else { Err(format!("a constant of type `{}` has {got}", tensor.ty)) }
}

/// A blob's size in bytes must be known, and its offset that of a record.
fn check_blob(blob: &BlobFileValue) -> Result<(), String> {
    let bytes = blob.ty.element_count().and_then(|count| blob.ty.element.storage_bytes(count));
    if bytes.is_none() {
        return Err(format!("a blob of type `{}` has no definite size", blob.ty));
    }
    if !blob.offset.is_multiple_of(64) {
        return Err(format!(
            "the offset {} in blob file `{}` is no multiple of 64",
            blob.offset, blob.file
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mil::{TensorType, from_text};

    fn check(statements: &str, outputs: &str) -> Result<(), FormatError> {
        let text = format!(
            "program(1.0) {{ func main<ios15>(fp16 x) {{ {statements} }} -> ({outputs}); }}"
        );
        validate(&from_text(&text)?)
    }

    #[test]
    fn sound_programs_pass() {
        for (statements, outputs) in [
            ("", "x"),
            ("fp16 y = f(a = x); fp16 z = f(a = (x, y), b = fp16(1));", "z, x"),
            // Nested blocks see what is outside, have scopes of their own and may reuse names.
            ("fp16 z = c(p = x) { fp16 y = f(a = x); } -> (y), { fp16 y = f(); } -> (x);", "z"),
            ("fp16 z = w(v = x) (fp16 x) { } -> (x);", "z"),
        ] {
            if let Err(error) = check(statements, outputs) {
                panic!("{statements}: {error}");
            }
        }
    }

    #[test]
    fn faults_are_named() {
        for (statements, outputs, expected) in [
            ("", "y", "operation `outputs`: the block gives out `y`, which is not defined"),
            ("fp16 y = f(a = z);", "y", "`y`: argument `a` refers to `z`, which is not defined"),
            ("fp16 y = f(a = y);", "y", "argument `a` refers to `y`"),
            ("fp16 y = f(a = z); fp16 z = f(a = y);", "y", "refers to `z`"),
            ("fp16 y = f(); fp16 y = f();", "y", "defines `y` again"),
            ("fp16 x = f();", "x", "defines `x` again"),
            ("fp16 y, fp16 y = f();", "y", "defines `y` again"),
            ("fp16 z = c() { fp16 y = f(); } -> (y);", "y", "gives out `y`"),
            ("fp16 z = c() { } -> (z);", "z", "gives out `z`"),
            ("fp16 z = c() { } -> (x), (fp16 a, fp16 a) { } -> (x);", "z", "defines `a` again"),
            (
                r#"fp16 y = const()[val = tensor<fp16, [?]>(BLOBFILE(path = string("w"),
                   offset = uint64(64)))];"#,
                "y",
                "argument `val`: a blob of type `tensor<fp16, [?]>` has no definite size",
            ),
            (
                r#"fp16 y = const()[val = tensor<fp16, [2]>(BLOBFILE(path = string("w"),
                   offset = uint64(65)))];"#,
                "y",
                "offset 65",
            ),
        ] {
            let error = check(statements, outputs).err().map(|error| error.to_string());
            let error = error.unwrap_or_default();
            assert!(error.contains("function `main`"), "{statements}: {error}");
            assert!(error.contains(expected), "{statements}: {error}");
        }
        let few = TensorData::Bytes([0; 3].into());
        let none = TensorData::Strings(Vec::new());
        let ty = |element, shape: &[usize]| TensorType::fixed(element, shape);
        for (ty, data, expected) in [
            (ty(ElementType::Float32, &[1]), &few, "`tensor<fp32, [1]>` has 3 bytes"),
            (ty(ElementType::Int8, &[1 << 40]), &few, "has 3 bytes"),
            (ty(ElementType::Int8, &[usize::MAX; 2]), &few, "has 3 bytes"),
            (ty(ElementType::String, &[3]), &few, "has 3 bytes"),
            (ty(ElementType::String, &[]), &none, "`string` has 0 strings"),
            (ty(ElementType::Int8, &[0]), &none, "has 0 strings"),
        ] {
            let mut program = from_text(
                "program(1.0) { func main<ios15>(fp16 x) { fp16 y = f(a = fp16(1)); } -> (y); }",
            )
            .unwrap();
            let function = program.functions.get_mut("main").unwrap();
            let argument = function.block.operations[0].inputs.get_mut("a").unwrap();
            let value = TensorValue { ty, data: data.clone() };
            argument.0 = vec![Binding::Value(Value::Tensor(value))];
            let error = validate(&program).unwrap_err().to_string();
            assert!(error.contains("operation `y`: argument `a`"), "{error}");
            assert!(error.contains(expected), "{error}");
        }
        let empty = from_text("program(1.0) { }").map(|program| validate(&program));
        assert!(matches!(empty, Ok(Err(FormatError::Field { .. }))));
    }
}
