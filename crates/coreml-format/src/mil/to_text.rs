//! To MIL text: the inverse of [`from_text`](super::from_text).

use std::fmt::{self, Write};

use super::form::{Form, TextVersion};
use super::{
    Argument, Binding, Block, Function, NamedValueType, Operation, Opset, Program, Value,
    as_in_files,
};

/// The program as MIL text, one operation a line, floats in decimals.
/// [`from_text`](super::from_text) reads the same program from it, with these exceptions, for which
/// MIL text has no words: a name that is no identifier of MIL is printed as it is; a NaN comes back
/// without its payload; a dictionary's entries get the type of the first one, with `?` where
/// the sizes of others differ.
pub fn to_text(program: &Program) -> String {
    printed(program, Form::Plain)
}

/// The program as Apple's compiler writes `model.mil`, with the same exceptions; the entries of a
/// dictionary are tensors of any size.
pub(crate) fn to_compiled_text(program: &Program, version: TextVersion) -> String {
    printed(program, Form::Compiled(version))
}

fn printed(program: &Program, form: Form) -> String {
    let mut printer = Printer { out: String::new(), form };
    // A string takes whatever is written to it.
    let _ = printer.program(program);
    printer.out
}

/// Writes a program in one form. Types and values are in `value_to_text`.
pub(super) struct Printer {
    pub(super) out: String,
    pub(super) form: Form,
}

impl Printer {
    fn program(&mut self, program: &Program) -> fmt::Result {
        writeln!(self.out, "program({})", self.form.version())?;
        if !program.attributes.is_empty() {
            self.attributes(&program.attributes)?;
            self.out.push('\n');
        }
        self.out.push_str("{\n");
        for (name, function) in &program.functions {
            self.function(name, function)?;
        }
        self.out.push('}');
        if self.form == Form::Plain {
            self.out.push('\n');
        }
        Ok(())
    }

    /// `func main<ios18>(parameters) [attributes] { statements } -> (outputs);`
    fn function(&mut self, name: &str, function: &Function) -> fmt::Result {
        write!(self.out, "    func {name}<{}>", function.opset)?;
        self.parameters(&function.inputs)?;
        if !function.attributes.is_empty() {
            self.out.push(' ');
            self.attributes(&function.attributes)?;
        }
        self.out.push(' ');
        self.block(&function.block, function.opset, 0)?;
        self.out.push_str(";\n");
        Ok(())
    }

    /// `{ statements } -> (outputs)` of a block that lies in `depth` others.
    fn block(&mut self, block: &Block, opset: Opset, depth: usize) -> fmt::Result {
        self.out.push_str("{\n");
        for operation in &block.operations {
            self.indent(self.form.statement_indent(depth));
            self.operation(operation, opset, depth)?;
            self.out.push_str(";\n");
        }
        self.indent(self.form.closing_indent(depth));
        self.out.push_str("} -> (");
        self.joined(&block.outputs, |printer, name| {
            printer.out.push_str(name);
            Ok(())
        })?;
        self.out.push(')');
        Ok(())
    }

    /// `[outputs =] operator(arguments)[attributes] nested blocks`
    fn operation(&mut self, operation: &Operation, opset: Opset, depth: usize) -> fmt::Result {
        if !operation.outputs.is_empty() {
            self.joined(&operation.outputs, Self::named_type)?;
            self.out.push_str(" = ");
        }
        let (arguments, attributes) = as_in_files(operation, opset);
        write!(self.out, "{}(", operation.operator)?;
        self.joined(arguments, Self::argument)?;
        self.out.push(')');
        if !attributes.is_empty() {
            self.attributes(attributes)?;
        }
        for (index, nested) in operation.blocks.iter().enumerate() {
            self.out.push_str(&self.form.before_block(depth + 1, index == 0));
            if !nested.inputs.is_empty() || self.form != Form::Plain {
                self.parameters(&nested.inputs)?;
                self.out.push(' ');
            }
            self.block(nested, opset, depth + 1)?;
        }
        Ok(())
    }

    fn argument(&mut self, (name, Argument(bindings)): (&String, &Argument)) -> fmt::Result {
        write!(self.out, "{name} = ")?;
        if let [single] = bindings.as_slice() {
            return self.binding(single);
        }
        self.out.push('(');
        self.joined(bindings, Self::binding)?;
        self.out.push(')');
        Ok(())
    }

    fn binding(&mut self, binding: &Binding) -> fmt::Result {
        match binding {
            Binding::Name(name) => self.out.write_str(name),
            Binding::Value(value) => self.value(value),
        }
    }

    /// `[name = value, …]`
    fn attributes<'a>(
        &mut self,
        attributes: impl IntoIterator<Item = (&'a String, &'a Value)>,
    ) -> fmt::Result {
        self.out.push('[');
        self.joined(attributes, |printer, (name, value)| {
            write!(printer.out, "{name} = ")?;
            printer.value(value)
        })?;
        self.out.push(']');
        Ok(())
    }

    /// `(type name, …)`
    fn parameters(&mut self, values: &[NamedValueType]) -> fmt::Result {
        self.out.push('(');
        self.joined(values, Self::named_type)?;
        self.out.push(')');
        Ok(())
    }

    fn named_type(&mut self, value: &NamedValueType) -> fmt::Result {
        self.value_type(&value.ty)?;
        write!(self.out, " {}", value.name)
    }

    fn indent(&mut self, spaces: usize) {
        self.out.extend(std::iter::repeat_n(' ', spaces));
    }

    /// Items with commas between them.
    pub(super) fn joined<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut print: impl FnMut(&mut Self, T) -> fmt::Result,
    ) -> fmt::Result {
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            print(self, item)?;
        }
        Ok(())
    }
}
