//! Tags and the text between them.

use std::sync::Arc;

use super::Parser;
use crate::llm::text::jinja::ast::{
    Body, Expression, For, Kind, Macro, Parameters, Postfix, Statement, Target, Uses,
};
use crate::llm::text::jinja::lexer::Token;
use crate::llm::text::jinja::limits::Result;

impl Parser {
    /// Statements up to a tag with one of the words, which is left to be read; without words, up to
    /// the end.
    pub(super) fn body(&mut self, ends: &[&str]) -> Result<Body> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let kind = match self.peek() {
                None if ends.is_empty() => return Ok(body),
                None => return Err(self.unexpected(&format!("`{{% {} %}}`", ends.join(" or ")))),
                Some(Token::Data(text)) => {
                    let text = text.as_str().into();
                    self.at += 1;
                    Kind::Text(text)
                }
                Some(Token::VariableBegin) => {
                    self.at += 1;
                    let value = self.tuple(true, &[])?;
                    if self.peek() != Some(&Token::VariableEnd) {
                        return Err(self.unexpected("`}}`"));
                    }
                    self.at += 1;
                    Kind::Print(value)
                }
                _ => {
                    self.at += 1;
                    if ends.iter().any(|end| self.is_word(end)) {
                        return Ok(body);
                    }
                    let kind = self.nested(Self::statement)?;
                    self.end_of_tag()?;
                    kind
                }
            };
            body.push(Statement { line, kind });
        }
    }

    /// A body behind the rest of its tag, with the word that ends it.
    fn block(&mut self, ends: &[&str]) -> Result<Body> {
        self.takes(":");
        self.end_of_tag()?;
        self.body(ends)
    }

    /// A body whose one end is passed.
    fn closed(&mut self, end: &str) -> Result<Body> {
        let body = self.block(&[end])?;
        self.at += 1;
        Ok(body)
    }

    /// A closed body that is a function of its own for Jinja: loops around it are not its own.
    fn separate(&mut self, end: &str) -> Result<Body> {
        let in_loop = std::mem::replace(&mut self.in_loop, false);
        let body = self.firmly(|parser| parser.closed(end));
        self.in_loop = in_loop;
        body
    }

    /// Reads with the flag `soft` cleared.
    fn firmly<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = std::mem::replace(&mut self.soft, false);
        let result = read(self);
        self.soft = before;
        result
    }

    fn statement(&mut self) -> Result<Kind> {
        let word = self.name()?;
        match &*word {
            "for" => self.for_loop(),
            "if" => self.condition(),
            "set" => self.set(),
            "macro" => self.macro_definition(),
            "call" => self.call(),
            "filter" => {
                let filters = self.filters(true)?;
                Ok(Kind::Filter(filters, self.firmly(|parser| parser.closed("endfilter"))?))
            }
            "with" => self.with(),
            "block" => self.template_block(),
            "autoescape" => {
                let on = self.expression()?;
                Ok(Kind::Autoescape(on, self.firmly(|parser| parser.closed("endautoescape"))?))
            }
            "print" => self.print(),
            "generation" => Ok(Kind::Scope(self.separate("endgeneration")?)),
            "break" if self.in_loop => Ok(Kind::Break),
            "continue" if self.in_loop => Ok(Kind::Continue),
            "break" | "continue" => Err(self.fault(format!("`{word}` outside of a loop"))),
            "include" | "extends" | "import" | "from" => self.load(&word),
            _ => {
                self.at -= 1;
                Err(self.fault(format!("`{word}` is no tag that is known or expected here")))
            }
        }
    }

    fn for_loop(&mut self) -> Result<Kind> {
        let target = self.target(&["in"], false)?;
        if mentions_loop(&target) {
            return Err(self.fault("`loop` can't be what a loop assigns to"));
        }
        self.expect_word("in")?;
        let items = self.tuple(false, &["recursive"])?;
        let condition = if self.takes_word("if") { Some(self.expression()?) } else { None };
        let recursive = self.takes_word("recursive");
        let in_loop = std::mem::replace(&mut self.in_loop, true);
        let body = self.firmly(|parser| parser.block(&["endfor", "else"]));
        self.in_loop = in_loop;
        let body = body?;
        let otherwise = if self.takes_word("else") {
            self.firmly(|parser| parser.closed("endfor"))?
        } else {
            self.at += 1;
            Vec::new()
        };
        Ok(Kind::For(Arc::new(For { target, items, condition, recursive, body, otherwise })))
    }

    fn condition(&mut self) -> Result<Kind> {
        self.softly(|parser| {
            let mut branches = Vec::new();
            loop {
                let condition = parser.tuple(false, &[])?;
                let body = parser.block(&["elif", "else", "endif"])?;
                branches.push((condition, body));
                if parser.takes_word("elif") {
                    continue;
                }
                let otherwise =
                    if parser.takes_word("else") { parser.block(&["endif"])? } else { Vec::new() };
                parser.at += 1;
                return Ok(Kind::If(branches, otherwise));
            }
        })
    }

    fn set(&mut self) -> Result<Kind> {
        let target = self.target(&[], true)?;
        if self.takes("=") {
            return Ok(Kind::Set(target, self.tuple(true, &[])?));
        }
        let filters = self.filters(false)?;
        Ok(Kind::SetBlock(target, filters, self.firmly(|parser| parser.closed("endset"))?))
    }

    /// `|filter|filter`; where the first needs no bar, there has to be one.
    fn filters(&mut self, inline: bool) -> Result<Vec<Postfix>> {
        let mut filters = Vec::new();
        if inline {
            filters.push(self.filter()?);
        }
        while self.takes("|") {
            self.check_chain(filters.len())?;
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    fn macro_definition(&mut self) -> Result<Kind> {
        let name = self.name()?;
        self.assignable(&name)?;
        let parameters = self.signature()?;
        let (body, uses) = self.macro_body("endmacro", &parameters)?;
        Ok(Kind::Macro(Arc::new(Macro { name: Some(name), parameters, body, uses })))
    }

    fn call(&mut self) -> Result<Kind> {
        let parameters = if self.is_operator("(") { self.signature()? } else { Vec::new() };
        let called = self.expression()?;
        let Expression::Postfix(of, mut chain) = called else {
            return Err(self.fault("`call` needs a call of a macro"));
        };
        let Some(Postfix::Call(arguments)) = chain.pop() else {
            return Err(self.fault("`call` needs a call of a macro"));
        };
        let of = if chain.is_empty() { *of } else { Expression::Postfix(of, chain) };
        let (body, uses) = self.macro_body("endcall", &parameters)?;
        let caller = Arc::new(Macro { name: None, parameters, body, uses });
        Ok(Kind::Call(caller, of, arguments))
    }

    /// The body of a macro, with the names of its own that it mentions. What it mentions, macros
    /// around it mention as well.
    fn macro_body(&mut self, end: &str, parameters: &Parameters) -> Result<(Body, Uses)> {
        let around = std::mem::take(&mut self.uses);
        let body = self.separate(end)?;
        let uses = self.uses;
        if uses.caller && parameters.iter().any(|(name, d)| &**name == "caller" && d.is_none()) {
            return Err(self.fault("the parameter `caller` needs a default"));
        }
        self.uses = Uses {
            caller: uses.caller || around.caller,
            varargs: uses.varargs || around.varargs,
            kwargs: uses.kwargs || around.kwargs,
        };
        Ok((body, uses))
    }

    fn signature(&mut self) -> Result<Parameters> {
        self.expect("(")?;
        let mut parameters = Parameters::new();
        while !self.is_operator(")") {
            if !parameters.is_empty() {
                self.expect(",")?;
            }
            let name = self.name()?;
            self.assignable(&name)?;
            if parameters.iter().any(|(earlier, _)| *earlier == name) {
                return Err(self.fault(format!("two parameters are named `{name}`")));
            }
            let default = if self.takes("=") { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, d)| d.is_some()) {
                return Err(self.fault(format!("`{name}` needs a default: the one before has one")));
            }
            parameters.push((name, default));
        }
        self.expect(")")?;
        Ok(parameters)
    }

    fn with(&mut self) -> Result<Kind> {
        let mut variables = Vec::new();
        while self.peek() != Some(&Token::BlockEnd) {
            if !variables.is_empty() {
                self.expect(",")?;
            }
            let name = self.target_part(false)?;
            self.expect("=")?;
            variables.push((name, self.expression()?));
        }
        Ok(Kind::With(variables, self.firmly(|parser| parser.closed("endwith"))?))
    }

    fn template_block(&mut self) -> Result<Kind> {
        let name = self.name()?;
        if !self.blocks.insert(name.clone()) {
            return Err(self.fault(format!("two blocks are named `{name}`")));
        }
        let scoped = self.takes_word("scoped");
        let required = self.takes_word("required");
        let body = self.separate("endblock")?;
        self.takes_word(&name);
        if required {
            return Err(self.fault("a required block needs a template that extends this one"));
        }
        Ok(Kind::Block { body, scoped })
    }

    fn print(&mut self) -> Result<Kind> {
        let mut values = Vec::new();
        while self.peek() != Some(&Token::BlockEnd) {
            if !values.is_empty() {
                self.expect(",")?;
            }
            values.push(self.expression()?);
        }
        Ok(Kind::Print(Expression::Concat(values)))
    }

    /// A tag that asks for another template: fails when it is reached, as there is none.
    fn load(&mut self, word: &str) -> Result<Kind> {
        self.expression()?;
        let kind = match word {
            "include" => {
                if self.takes_word("ignore") {
                    self.expect_word("missing")?;
                }
                "include"
            }
            "extends" => "extends",
            _ => {
                self.expect_word(if word == "import" { "as" } else { "import" })?;
                self.name()?;
                while self.takes(",") || self.takes_word("as") {
                    self.name()?;
                }
                "import"
            }
        };
        if self.takes_word("with") || self.takes_word("without") {
            self.expect_word("context")?;
        }
        Ok(Kind::Load(kind))
    }

    /// What is assigned to: names, attributes of namespaces, or several of them.
    fn target(&mut self, ends: &[&str], attributes: bool) -> Result<Target> {
        let mut parts = Vec::new();
        let mut is_tuple = false;
        loop {
            let ended = matches!(self.peek(), Some(Token::BlockEnd | Token::VariableEnd) | None)
                || self.is_operator(")")
                || ends.iter().any(|end| self.is_word(end));
            if ended {
                break;
            }
            parts.push(self.target_part(attributes)?);
            if !self.takes(",") {
                break;
            }
            is_tuple = true;
        }
        match parts.pop() {
            Some(part) if !is_tuple => Ok(part),
            Some(part) => {
                parts.push(part);
                Ok(Target::Tuple(parts))
            }
            None => Err(self.unexpected("a name")),
        }
    }

    fn target_part(&mut self, attributes: bool) -> Result<Target> {
        if self.takes("(") {
            let target = self.nested(|parser| parser.target(&[], attributes))?;
            self.expect(")")?;
            return Ok(target);
        }
        let name = self.name()?;
        if attributes && self.takes(".") {
            return Ok(Target::Attribute(name, self.name()?));
        }
        self.assignable(&name)?;
        Ok(Target::Name(name))
    }

    fn assignable(&self, name: &str) -> Result<()> {
        if matches!(name, "true" | "false" | "none" | "True" | "False" | "None") {
            return Err(self.fault(format!("`{name}` can't be assigned to")));
        }
        Ok(())
    }
}

fn mentions_loop(target: &Target) -> bool {
    match target {
        Target::Name(name) => &**name == "loop",
        Target::Attribute(..) => false,
        Target::Tuple(parts) => parts.iter().any(mentions_loop),
    }
}
