//! From MIL text, the form that compiled models (`.mlmodelc`) keep in `model.mil`.

use std::collections::BTreeMap;

use super::lexer::{Lexer, Token};
use super::{
    Argument, Binding, Block, Function, MAX_DEPTH, NamedValueType, Operation, Opset, Program,
    Value, move_arguments_from_attributes,
};
use crate::FormatError;

/// Reads a program from MIL text. It is not validated: see [`validate`](super::validate).
///
/// # Errors
/// [`FormatError::Text`] with line and column of the first thing that does not belong.
pub fn from_text(text: &str) -> Result<Program, FormatError> {
    let mut parser = Parser::new(text)?;
    let program = parser.program()?;
    match parser.advance()? {
        (Token::End, _) => Ok(program),
        (token, at) => Err(parser.error(
            at,
            format!("expected the end of the text behind the program, got {}", token.describe()),
        )),
    }
}

/// A reader by recursive descent with two tokens in view. Types and values are in `text_value`.
pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    current: (Token<'a>, usize),
    following: (Token<'a>, usize),
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, FormatError> {
        let mut lexer = Lexer::new(text);
        let current = lexer.next()?;
        let following = lexer.next()?;
        Ok(Parser { lexer, current, following, depth: 0 })
    }

    /// Takes the current token, with its byte position.
    pub(super) fn advance(&mut self) -> Result<(Token<'a>, usize), FormatError> {
        let next = self.lexer.next()?;
        let following = std::mem::replace(&mut self.following, next);
        Ok(std::mem::replace(&mut self.current, following))
    }

    /// Byte position of the current token.
    pub(super) fn position(&self) -> usize {
        self.current.1
    }

    pub(super) fn error(&self, position: usize, message: impl Into<String>) -> FormatError {
        self.lexer.error(position, message)
    }

    fn unexpected(&self, expected: &str) -> FormatError {
        let got = self.current.0.describe();
        self.error(self.position(), format!("expected {expected}, got {got}"))
    }

    pub(super) fn peek_is(&self, sign: char) -> bool {
        self.current.0 == Token::Punctuation(sign)
    }

    pub(super) fn following_is(&self, sign: char) -> bool {
        self.following.0 == Token::Punctuation(sign)
    }

    pub(super) fn peek_is_name(&self, name: &str) -> bool {
        self.current.0 == Token::Name(name)
    }

    /// Takes the sign if it is next.
    pub(super) fn accept(&mut self, sign: char) -> Result<bool, FormatError> {
        let found = self.peek_is(sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    pub(super) fn expect(&mut self, sign: char) -> Result<(), FormatError> {
        if self.accept(sign)? { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    /// Takes a name; `what` says in errors what it would name.
    pub(super) fn name(&mut self, what: &str) -> Result<(&'a str, usize), FormatError> {
        if let Token::Name(name) = self.current.0 {
            let (_, at) = self.advance()?;
            return Ok((name, at));
        }
        Err(self.unexpected(what))
    }

    fn keyword(&mut self, word: &str) -> Result<(), FormatError> {
        if self.peek_is_name(word) {
            self.advance()?;
            return Ok(());
        }
        Err(self.unexpected(&format!("`{word}`")))
    }

    /// Runs `read` one level deeper, which text may do [`MAX_DEPTH`] times.
    pub(super) fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, FormatError>,
    ) -> Result<T, FormatError> {
        if self.depth == MAX_DEPTH {
            let message = format!("types, values and blocks nest deeper than {MAX_DEPTH} levels");
            return Err(self.error(self.position(), message));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Items between signs, with commas between them; `read` gets each item's index.
    pub(super) fn sequence<T>(
        &mut self,
        open: char,
        close: char,
        mut read: impl FnMut(&mut Self, usize) -> Result<T, FormatError>,
    ) -> Result<Vec<T>, FormatError> {
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.accept(close)? {
            if !items.is_empty() && !self.accept(',')? {
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
            items.push(read(self, items.len())?);
        }
        Ok(items)
    }

    /// `program(1.0) [attributes] { functions }`
    fn program(&mut self) -> Result<Program, FormatError> {
        self.keyword("program")?;
        self.expect('(')?;
        match self.advance()? {
            (Token::Number("1" | "1.0" | "1.1" | "1.2" | "1.3"), _) => {}
            (token, at) => {
                let got = token.describe();
                return Err(self.error(at, format!("expected a version 1.0 to 1.3, got {got}")));
            }
        }
        self.expect(')')?;
        let attributes = self.optional_attributes()?;
        self.expect('{')?;
        let mut functions = BTreeMap::new();
        while !self.accept('}')? {
            let at = self.position();
            let (name, function) = self.function()?;
            if functions.insert(name.clone(), function).is_some() {
                return Err(self.error(at, format!("a second function `{name}`")));
            }
        }
        Ok(Program { functions, attributes })
    }

    /// `func main<ios18>(parameters) [attributes] { statements } -> (outputs);`
    fn function(&mut self) -> Result<(String, Function), FormatError> {
        self.keyword("func")?;
        let (name, _) = self.name("the function's name")?;
        self.expect('<')?;
        let (tag, at) = self.name("an opset")?;
        let opset = Opset::from_text(tag).ok_or_else(|| {
            self.error(
                at,
                format!("unknown opset `{tag}`; this reader knows ios15 to ios18, ios26"),
            )
        })?;
        self.expect('>')?;
        let inputs = self.parameters()?;
        let attributes = self.optional_attributes()?;
        let block = self.block(Vec::new())?;
        self.expect(';')?;
        Ok((name.to_owned(), Function { inputs, opset, block, attributes }))
    }

    /// `(tensor<fp16, [1]> x, state<…> s)`
    fn parameters(&mut self) -> Result<Vec<NamedValueType>, FormatError> {
        self.sequence('(', ')', |parser, _| parser.named_type())
    }

    fn named_type(&mut self) -> Result<NamedValueType, FormatError> {
        let ty = self.value_type()?;
        let (name, _) = self.name("the value's name")?;
        Ok(NamedValueType { name: name.to_owned(), ty })
    }

    /// `{ statements } -> (outputs)`
    fn block(&mut self, inputs: Vec<NamedValueType>) -> Result<Block, FormatError> {
        self.nested(|parser| {
            parser.expect('{')?;
            let mut operations = Vec::new();
            while !parser.accept('}')? {
                operations.push(parser.statement()?);
            }
            if parser.current.0 != Token::Arrow {
                return Err(parser.unexpected("`->` and the block's outputs"));
            }
            parser.advance()?;
            let outputs = parser.sequence('(', ')', |parser, _| {
                parser.name("a value's name").map(|(name, _)| name.to_owned())
            })?;
            Ok(Block { inputs, outputs, operations })
        })
    }

    /// `[outputs =] operator(arguments) [attributes] nested blocks;`
    fn statement(&mut self) -> Result<Operation, FormatError> {
        let outputs = self.statement_outputs()?;
        let (operator, _) = self.name("an operator")?;
        let mut operation = Operation {
            operator: operator.to_owned(),
            inputs: self.arguments()?,
            outputs,
            blocks: Vec::new(),
            attributes: self.optional_attributes()?,
        };
        self.nested_blocks(&mut operation)?;
        self.expect(';')?;
        move_arguments_from_attributes(&mut operation);
        Ok(operation)
    }

    /// `TYPE a, TYPE b =` or `(TYPE a, TYPE b) =`, or nothing for an operation without outputs.
    fn statement_outputs(&mut self) -> Result<Vec<NamedValueType>, FormatError> {
        let bare_call = matches!(self.current.0, Token::Name(_)) && self.following_is('(');
        if bare_call {
            return Ok(Vec::new());
        }
        let outputs = if self.peek_is('(') {
            self.parameters()?
        } else {
            let mut outputs = vec![self.named_type()?];
            while self.accept(',')? {
                outputs.push(self.named_type()?);
            }
            outputs
        };
        self.expect('=')?;
        Ok(outputs)
    }

    /// Blocks behind an operation, each `(parameters) { statements } -> (outputs)`, the parameters
    /// only if there are any, with or without commas between the blocks. Compiled models with
    /// nested blocks were not at hand when this was written: here is the place to follow them.
    fn nested_blocks(&mut self, operation: &mut Operation) -> Result<(), FormatError> {
        while self.peek_is('{') || self.peek_is('(') {
            let inputs = if self.peek_is('(') { self.parameters()? } else { Vec::new() };
            operation.blocks.push(self.block(inputs)?);
            self.accept(',')?;
        }
        if operation.attributes.is_empty() {
            operation.attributes = self.optional_attributes()?;
        }
        Ok(())
    }

    /// `(x = a, values = (b, c), axis = int32(1))`
    fn arguments(&mut self) -> Result<BTreeMap<String, Argument>, FormatError> {
        let mut arguments = BTreeMap::new();
        self.sequence('(', ')', |parser, _| {
            let (name, at) = parser.name("a parameter's name")?;
            parser.expect('=')?;
            let argument = parser.argument()?;
            match arguments.insert(name.to_owned(), argument) {
                None => Ok(()),
                Some(_) => Err(parser.error(at, format!("a second argument `{name}`"))),
            }
        })?;
        Ok(arguments)
    }

    fn argument(&mut self) -> Result<Argument, FormatError> {
        if self.peek_is('(') {
            return Ok(Argument(self.sequence('(', ')', |parser, _| parser.binding())?));
        }
        Ok(Argument(vec![self.binding()?]))
    }

    /// A value's name, or a constant, which starts with a type.
    fn binding(&mut self) -> Result<Binding, FormatError> {
        if matches!(self.following.0, Token::Punctuation('<' | '(')) {
            return self.value().map(Binding::Value);
        }
        self.name("a value's name or a constant").map(|(name, _)| Binding::Name(name.to_owned()))
    }

    /// `[name = string("x"), …]`, or nothing.
    fn optional_attributes(&mut self) -> Result<BTreeMap<String, Value>, FormatError> {
        let mut attributes = BTreeMap::new();
        if !self.peek_is('[') {
            return Ok(attributes);
        }
        self.sequence('[', ']', |parser, _| {
            let (name, at) = parser.name("an attribute's name")?;
            parser.expect('=')?;
            let value = parser.value()?;
            match attributes.insert(name.to_owned(), value) {
                None => Ok(()),
                Some(_) => Err(parser.error(at, format!("a second attribute `{name}`"))),
            }
        })?;
        Ok(attributes)
    }
}
