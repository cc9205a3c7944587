//! Expressions, by precedence from loose to tight. A row of operators of one precedence is read by a
//! loop; only brackets, conditions and what stands in them recurse.

use std::sync::Arc;

use super::Parser;
use crate::llm::text::jinja::ast::{
    Arguments, Binary, Comparison, Conditional, Constant, Expression, Postfix, Sign, Subscript,
};
use crate::llm::text::jinja::builtins;
use crate::llm::text::jinja::lexer::Token;
use crate::llm::text::jinja::limits::Result;

const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    ("<=", Comparison::LessOrEqual),
    (">", Comparison::Greater),
    (">=", Comparison::GreaterOrEqual),
];

const SUM: [(&str, Binary); 2] = [("+", Binary::Add), ("-", Binary::Subtract)];

const PRODUCT: [(&str, Binary); 4] = [
    ("*", Binary::Multiply),
    ("/", Binary::Divide),
    ("//", Binary::FloorDivide),
    ("%", Binary::Modulo),
];

const POWER: [(&str, Binary); 1] = [("**", Binary::Power)];

type Read = fn(&mut Parser) -> Result<Expression>;

impl Parser {
    pub(super) fn expression(&mut self) -> Result<Expression> {
        self.nested(Self::conditional)
    }

    /// An expression, or several with commas between them, which make a tuple.
    pub(super) fn tuple(&mut self, conditional: bool, ends: &[&str]) -> Result<Expression> {
        let (mut items, is_tuple) = self.tuple_items(conditional, ends)?;
        match items.pop() {
            Some(item) if !is_tuple => Ok(item),
            Some(item) => {
                items.push(item);
                Ok(Expression::Tuple(items))
            }
            None => Err(self.unexpected("an expression")),
        }
    }

    fn tuple_items(&mut self, conditional: bool, ends: &[&str]) -> Result<(Vec<Expression>, bool)> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            let ended = matches!(self.peek(), Some(Token::BlockEnd | Token::VariableEnd))
                || self.is_operator(")")
                || ends.iter().any(|end| self.is_word(end));
            if ended {
                return Ok((items, is_tuple));
            }
            items.push(if conditional { self.expression()? } else { self.nested(Self::or)? });
            if !self.takes(",") {
                return Ok((items, is_tuple));
            }
            is_tuple = true;
        }
    }

    fn conditional(&mut self) -> Result<Expression> {
        let unknown = self.unknown.len();
        let mut value = self.or()?;
        let mut conditions = 0;
        while self.takes_word("if") {
            conditions += 1;
            if conditions > 10 {
                return Err(self.fault("more than 10 conditions without `else` in a row"));
            }
            let condition = self.or()?;
            let otherwise =
                if self.takes_word("else") { Some(self.nested(Self::conditional)?) } else { None };
            // Filters that are not known are errors only if they are reached.
            self.unknown.truncate(unknown);
            value = Expression::Conditional(Box::new(Conditional {
                condition,
                then: value,
                otherwise,
            }));
        }
        Ok(value)
    }

    /// Operands with a word between them.
    fn words(
        &mut self,
        word: &str,
        read: Read,
        make: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression> {
        let first = read(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.takes_word(word) {
            self.check_chain(operands.len())?;
            operands.push(read(self)?);
        }
        Ok(make(operands))
    }

    fn or(&mut self) -> Result<Expression> {
        self.words("or", Self::and, Expression::Or)
    }

    fn and(&mut self) -> Result<Expression> {
        self.words("and", Self::not, Expression::And)
    }

    fn not(&mut self) -> Result<Expression> {
        let mut count = 0;
        while self.takes_word("not") {
            self.check_chain(count)?;
            count += 1;
        }
        let operand = self.comparison()?;
        if count == 0 {
            return Ok(operand);
        }
        Ok(Expression::Not { negates: count % 2 == 1, operand: Box::new(operand) })
    }

    fn comparison(&mut self) -> Result<Expression> {
        let first = self.sum()?;
        let mut others = Vec::new();
        loop {
            let found = COMPARISONS.iter().find(|(operator, _)| self.is_operator(operator));
            let comparison = if let Some((_, comparison)) = found {
                self.at += 1;
                *comparison
            } else if self.takes_word("in") {
                Comparison::In
            } else if self.is_word("not")
                && matches!(self.second(), Some(Token::Name(name)) if &**name == "in")
            {
                self.at += 2;
                Comparison::NotIn
            } else {
                break;
            };
            self.check_chain(others.len())?;
            others.push((comparison, self.sum()?));
        }
        if others.is_empty() {
            return Ok(first);
        }
        Ok(Expression::Compare(Box::new(first), others))
    }

    /// Operands with operators of one precedence between them.
    fn binary(&mut self, operators: &[(&str, Binary)], read: Read) -> Result<Expression> {
        let first = read(self)?;
        let mut others = Vec::new();
        while let Some((_, operator)) = operators.iter().find(|(text, _)| self.is_operator(text)) {
            self.check_chain(others.len())?;
            self.at += 1;
            others.push((*operator, read(self)?));
        }
        if others.is_empty() {
            return Ok(first);
        }
        Ok(Expression::Binary(Box::new(first), others))
    }

    fn sum(&mut self) -> Result<Expression> {
        self.binary(&SUM, Self::concatenation)
    }

    fn concatenation(&mut self) -> Result<Expression> {
        let first = self.product()?;
        if !self.is_operator("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.takes("~") {
            self.check_chain(parts.len())?;
            parts.push(self.product()?);
        }
        Ok(Expression::Concat(parts))
    }

    fn product(&mut self) -> Result<Expression> {
        self.binary(&PRODUCT, Self::power)
    }

    fn power(&mut self) -> Result<Expression> {
        self.binary(&POWER, Self::signed)
    }

    /// Signs, then what they stand before, then filters and tests of all of it.
    fn signed(&mut self) -> Result<Expression> {
        let mut signs = Vec::new();
        loop {
            let sign = if self.takes("-") {
                Sign::Minus
            } else if self.takes("+") {
                Sign::Plus
            } else {
                break;
            };
            self.check_chain(signs.len())?;
            signs.push(sign);
        }
        let mut chain = Vec::new();
        let primary = self.primary()?;
        self.postfix(&mut chain)?;
        if signs.is_empty() {
            self.filters_and_tests(&mut chain)?;
            return Ok(with_chain(primary, chain));
        }
        let value = Expression::Signs(signs, Box::new(with_chain(primary, chain)));
        let mut chain = Vec::new();
        self.filters_and_tests(&mut chain)?;
        Ok(with_chain(value, chain))
    }

    fn primary(&mut self) -> Result<Expression> {
        let Some(token) = self.peek().cloned() else {
            return Err(self.unexpected("an expression"));
        };
        let start = self.at;
        self.at += 1;
        Ok(match token {
            Token::Name(name) => self.mention(name),
            Token::Text(mut text) => {
                while let Some(Token::Text(more)) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                Expression::Constant(Constant::Text(text.into()))
            }
            Token::Int(number) => Expression::Constant(Constant::Int(number)),
            Token::Float(number) => Expression::Constant(Constant::Float(number)),
            Token::Operator("(") => {
                let (mut items, is_tuple) = self.tuple_items(true, &[])?;
                self.expect(")")?;
                match items.pop() {
                    Some(item) if !is_tuple => item,
                    item => {
                        items.extend(item);
                        Expression::Tuple(items)
                    }
                }
            }
            Token::Operator("[") => Expression::List(self.list()?),
            Token::Operator("{") => Expression::Dict(self.dict()?),
            _ => {
                self.at = start;
                return Err(self.unexpected("an expression"));
            }
        })
    }

    fn mention(&mut self, name: Arc<str>) -> Expression {
        match &*name {
            "true" | "True" => return Expression::Constant(Constant::Bool(true)),
            "false" | "False" => return Expression::Constant(Constant::Bool(false)),
            "none" | "None" => return Expression::Constant(Constant::None),
            "caller" => self.uses.caller = true,
            "varargs" => self.uses.varargs = true,
            "kwargs" => self.uses.kwargs = true,
            _ => {}
        }
        Expression::Name(name)
    }

    fn list(&mut self) -> Result<Vec<Expression>> {
        let mut items = Vec::new();
        while !self.takes("]") {
            if !items.is_empty() {
                self.expect(",")?;
                if self.takes("]") {
                    break;
                }
            }
            items.push(self.expression()?);
        }
        Ok(items)
    }

    fn dict(&mut self) -> Result<Vec<(Expression, Expression)>> {
        let mut entries = Vec::new();
        while !self.takes("}") {
            if !entries.is_empty() {
                self.expect(",")?;
                if self.takes("}") {
                    break;
                }
            }
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?));
        }
        Ok(entries)
    }

    /// Attributes, items and calls.
    fn postfix(&mut self, chain: &mut Vec<Postfix>) -> Result<()> {
        loop {
            self.check_chain(chain.len())?;
            if self.takes(".") {
                chain.push(match self.peek() {
                    Some(Token::Name(name)) => Postfix::Attribute(name.clone()),
                    Some(Token::Int(number)) => {
                        Postfix::Item(Subscript::Key(Expression::Constant(Constant::Int(*number))))
                    }
                    _ => return Err(self.unexpected("a name or number")),
                });
                self.at += 1;
            } else if self.takes("[") {
                chain.push(Postfix::Item(self.subscript()?));
            } else if self.is_operator("(") {
                chain.push(Postfix::Call(self.arguments()?));
            } else {
                return Ok(());
            }
        }
    }

    fn filters_and_tests(&mut self, chain: &mut Vec<Postfix>) -> Result<()> {
        loop {
            self.check_chain(chain.len())?;
            if self.takes("|") {
                let filter = self.filter()?;
                chain.push(filter);
            } else if self.takes_word("is") {
                let test = self.test()?;
                chain.push(test);
            } else if self.is_operator("(") {
                chain.push(Postfix::Call(self.arguments()?));
            } else {
                return Ok(());
            }
        }
    }

    /// A filter behind its bar.
    pub(super) fn filter(&mut self) -> Result<Postfix> {
        let name = self.dotted_name()?;
        if !self.soft && builtins::filter(&name).is_none() {
            let fault = self.fault(format!("no filter is named `{name}`"));
            self.unknown.push(fault);
        }
        let arguments =
            if self.is_operator("(") { self.arguments()? } else { Arguments::default() };
        Ok(Postfix::Filter(name, arguments))
    }

    fn dotted_name(&mut self) -> Result<Arc<str>> {
        let mut name = self.name()?;
        while self.takes(".") {
            name = format!("{name}.{}", self.name()?).into();
        }
        Ok(name)
    }

    /// A test behind `is`.
    fn test(&mut self) -> Result<Postfix> {
        let negated = self.takes_word("not");
        let name = self.dotted_name()?;
        if !self.soft && builtins::test(&name).is_none() {
            let fault = self.fault(format!("no test is named `{name}`"));
            self.unknown.push(fault);
        }
        let takes_argument = match self.peek() {
            Some(Token::Name(word)) => !matches!(&**word, "else" | "or" | "and"),
            Some(Token::Text(_) | Token::Int(_) | Token::Float(_)) => true,
            _ => self.is_operator("[") || self.is_operator("{"),
        };
        let arguments = if self.is_operator("(") {
            self.arguments()?
        } else if takes_argument {
            if self.is_word("is") {
                return Err(self.fault("tests with `is` can't be chained"));
            }
            let value = self.nested(Self::primary)?;
            let mut chain = Vec::new();
            self.postfix(&mut chain)?;
            Arguments { positional: vec![with_chain(value, chain)], ..Arguments::default() }
        } else {
            Arguments::default()
        };
        Ok(Postfix::Test { name, arguments, negated })
    }

    fn subscript(&mut self) -> Result<Subscript> {
        let first = self.subscribed()?;
        if self.takes("]") {
            return Ok(first);
        }
        let mut keys = Vec::new();
        let mut next = first;
        loop {
            let Subscript::Key(key) = next else {
                return Err(self.fault("slices can't be combined"));
            };
            keys.push(key);
            self.expect(",")?;
            if self.takes("]") {
                break;
            }
            next = self.subscribed()?;
            if self.takes("]") {
                let Subscript::Key(key) = next else {
                    return Err(self.fault("slices can't be combined"));
                };
                keys.push(key);
                break;
            }
        }
        Ok(Subscript::Key(Expression::Tuple(keys)))
    }

    fn subscribed(&mut self) -> Result<Subscript> {
        let mut bounds = [None, None, None];
        let mut at = 0;
        if !self.is_operator(":") {
            let first = self.expression()?;
            if !self.is_operator(":") {
                return Ok(Subscript::Key(first));
            }
            bounds[0] = Some(Box::new(first));
        }
        while at < 2 && self.takes(":") {
            at += 1;
            if !["]", ",", ":"].iter().any(|end| self.is_operator(end)) {
                bounds[at] = Some(Box::new(self.expression()?));
            }
        }
        Ok(Subscript::Slice(bounds))
    }

    fn arguments(&mut self) -> Result<Arguments> {
        self.expect("(")?;
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.takes(")") {
            if !first {
                self.expect(",")?;
                if self.takes(")") {
                    break;
                }
            }
            first = false;
            self.argument(&mut arguments)?;
        }
        Ok(arguments)
    }

    fn argument(&mut self, arguments: &mut Arguments) -> Result<()> {
        let starred = arguments.items.is_some() || arguments.entries.is_some();
        let in_order = if self.takes("*") {
            arguments.items = Some(Box::new(self.expression()?));
            !starred
        } else if self.takes("**") {
            let in_order = arguments.entries.is_none();
            arguments.entries = Some(Box::new(self.expression()?));
            in_order
        } else if let (Some(Token::Name(name)), Some(Token::Operator("="))) =
            (self.peek().cloned(), self.second())
        {
            self.at += 2;
            if arguments.named.iter().any(|(earlier, _)| *earlier == name) {
                return Err(self.fault(format!("two arguments are named `{name}`")));
            }
            let value = self.expression()?;
            arguments.named.push((name, value));
            arguments.entries.is_none()
        } else {
            let in_order = !starred && arguments.named.is_empty();
            arguments.positional.push(self.expression()?);
            in_order
        };
        if in_order { Ok(()) } else { Err(self.fault("arguments stand in a wrong order")) }
    }
}

fn with_chain(value: Expression, chain: Vec<Postfix>) -> Expression {
    if chain.is_empty() { value } else { Expression::Postfix(Box::new(value), chain) }
}
