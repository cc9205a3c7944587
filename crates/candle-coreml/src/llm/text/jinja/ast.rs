//! What a template consists of. Everything that is written in a row is kept in a row, so that only
//! what is nested in the source is nested here.

use std::sync::Arc;

/// A statement with its line.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) line: u32,
    pub(super) kind: Kind,
}

pub(super) type Body = Vec<Statement>;

#[derive(Debug)]
pub(super) enum Kind {
    /// Text as it stands.
    Text(Arc<str>),
    /// `{{ … }}`, or the parts of `{% print … %}`.
    Print(Expression),
    For(Arc<For>),
    /// Conditions with their bodies, and what else happens.
    If(Vec<(Expression, Body)>, Body),
    Set(Target, Expression),
    /// `{% set x | filter %}…{% endset %}`
    SetBlock(Target, Vec<Postfix>, Body),
    Macro(Arc<Macro>),
    /// `{% call(…) macro(…) %}…{% endcall %}`: the body, and what is called with it as `caller`.
    Call(Arc<Macro>, Expression, Arguments),
    Filter(Vec<Postfix>, Body),
    With(Vec<(Target, Expression)>, Body),
    /// `{% generation %}`: a body whose variables are its own.
    Scope(Body),
    /// `{% block %}`: a body that sees only variables of the whole template.
    Block {
        body: Body,
        scoped: bool,
    },
    Autoescape(Expression, Body),
    Break,
    Continue,
    /// `include` and others that ask for another template.
    Load(&'static str),
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) items: Expression,
    pub(super) condition: Option<Expression>,
    pub(super) recursive: bool,
    pub(super) body: Body,
    pub(super) otherwise: Body,
}

/// Names with their defaults.
pub(super) type Parameters = Vec<(Arc<str>, Option<Expression>)>;

#[derive(Debug)]
pub(super) struct Macro {
    /// `None` for the body of a call.
    pub(super) name: Option<Arc<str>>,
    pub(super) parameters: Parameters,
    pub(super) body: Body,
    pub(super) uses: Uses,
}

/// Which of the names that a macro has without asking are mentioned in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uses {
    pub(super) caller: bool,
    pub(super) varargs: bool,
    pub(super) kwargs: bool,
}

#[derive(Debug)]
pub(super) enum Target {
    Name(Arc<str>),
    /// An attribute of a namespace.
    Attribute(Arc<str>, Arc<str>),
    Tuple(Vec<Target>),
}

#[derive(Clone, Debug)]
pub(super) enum Constant {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
}

#[derive(Debug)]
pub(super) enum Expression {
    Constant(Constant),
    Name(Arc<str>),
    List(Vec<Expression>),
    Tuple(Vec<Expression>),
    Dict(Vec<(Expression, Expression)>),
    /// Operators of one precedence, from left to right.
    Binary(Box<Expression>, Vec<(Binary, Expression)>),
    /// Signs, the outermost first.
    Signs(Vec<Sign>, Box<Expression>),
    /// An odd number of `not` negates; an even one makes it true or false.
    Not {
        negates: bool,
        operand: Box<Expression>,
    },
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Concat(Vec<Expression>),
    Compare(Box<Expression>, Vec<(Comparison, Expression)>),
    Conditional(Box<Conditional>),
    Postfix(Box<Expression>, Vec<Postfix>),
}

#[derive(Debug)]
pub(super) struct Conditional {
    pub(super) condition: Expression,
    pub(super) then: Expression,
    pub(super) otherwise: Option<Expression>,
}

#[derive(Debug)]
pub(super) enum Postfix {
    Attribute(Arc<str>),
    Item(Subscript),
    Call(Arguments),
    Filter(Arc<str>, Arguments),
    Test { name: Arc<str>, arguments: Arguments, negated: bool },
}

#[derive(Debug)]
pub(super) enum Subscript {
    Key(Expression),
    /// First, last and step.
    Slice([Option<Box<Expression>>; 3]),
}

#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expression>,
    pub(super) named: Vec<(Arc<str>, Expression)>,
    /// `*items`
    pub(super) items: Option<Box<Expression>>,
    /// `**entries`
    pub(super) entries: Option<Box<Expression>>,
}

impl Arguments {
    pub(super) fn is_empty(&self) -> bool {
        let Arguments { positional, named, items, entries } = self;
        positional.is_empty() && named.is_empty() && items.is_none() && entries.is_none()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sign {
    Minus,
    Plus,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}
