//! Types and values of MIL text.
//!
//! A type is `tensor<fp16, [1, ?]>`, `list<…, 3>`, `tuple<…>`, `dict<…, …>`, `state<…>` or a bare
//! element type for a scalar. A value is a type with a literal in parentheses, which the type
//! explains: `tensor<int32, [2]>([1, 2])`, `bool(true)`, `dict<string, string>({{"k", "v"}})`.

use std::sync::Arc;

use super::from_text::Parser;
use super::immediate::ImmediateBuilder;
use super::lexer::{Token, parse_float, parse_int};
use super::{
    BlobFileValue, Dimension, ElementType, TensorData, TensorType, TensorValue, Value, ValueType,
};
use crate::FormatError;

/// Elements of a tensor literal as they are read.
enum Elements {
    Strings(Vec<String>),
    Packed(ImmediateBuilder),
}

impl Parser<'_> {
    /// A type.
    pub(super) fn value_type(&mut self) -> Result<ValueType, FormatError> {
        let (name, at) = self.name("a type")?;
        if let Some(element) = ElementType::from_name(name) {
            return Ok(ValueType::Tensor(TensorType { element, shape: Vec::new() }));
        }
        self.nested(|parser| match name {
            "tensor" => parser.tensor_type().map(ValueType::Tensor),
            "list" => parser.list_type(),
            "tuple" => parser.tuple_type(),
            "dict" => parser.dictionary_type(),
            "state" => {
                parser.expect('<')?;
                let wrapped = parser.value_type()?;
                parser.expect('>')?;
                Ok(ValueType::State(Box::new(wrapped)))
            }
            other => Err(parser.error(at, format!("expected a type, got `{other}`"))),
        })
    }

    fn tensor_type(&mut self) -> Result<TensorType, FormatError> {
        self.expect('<')?;
        let (name, at) = self.name("an element type")?;
        let element = ElementType::from_name(name)
            .ok_or_else(|| self.error(at, format!("unknown element type `{name}`")))?;
        self.expect(',')?;
        self.expect('[')?;
        let mut shape = Vec::new();
        while !self.accept(']')? {
            if !shape.is_empty() {
                self.expect(',')?;
            }
            shape.push(self.dimension()?);
        }
        self.expect('>')?;
        Ok(TensorType { element, shape })
    }

    fn list_type(&mut self) -> Result<ValueType, FormatError> {
        self.expect('<')?;
        let element = self.value_type()?;
        let length = if self.accept(',')? { self.dimension()? } else { Dimension::Unknown };
        self.expect('>')?;
        Ok(ValueType::List(Box::new(element), length))
    }

    fn tuple_type(&mut self) -> Result<ValueType, FormatError> {
        self.expect('<')?;
        let mut types = Vec::new();
        while !self.accept('>')? {
            if !types.is_empty() {
                self.expect(',')?;
            }
            types.push(self.value_type()?);
        }
        Ok(ValueType::Tuple(types))
    }

    fn dictionary_type(&mut self) -> Result<ValueType, FormatError> {
        self.expect('<')?;
        let key = self.value_type()?;
        self.expect(',')?;
        let value = self.value_type()?;
        self.expect('>')?;
        Ok(ValueType::Dictionary(Box::new(key), Box::new(value)))
    }

    /// A size, `?`, or `...` for any number of dimensions.
    fn dimension(&mut self) -> Result<Dimension, FormatError> {
        if self.accept('?')? {
            return Ok(Dimension::Unknown);
        }
        if self.accept('.')? {
            self.expect('.')?;
            self.expect('.')?;
            return Ok(Dimension::Variadic);
        }
        let (token, at) = self.advance()?;
        let size = match &token {
            Token::Number(text) => text.parse().ok(),
            _ => None,
        };
        size.map(Dimension::Fixed)
            .ok_or_else(|| self.error(at, format!("expected a size, got {}", token.describe())))
    }

    /// A value: type and literal.
    pub(super) fn value(&mut self) -> Result<Value, FormatError> {
        let ty = self.value_type()?;
        self.expect('(')?;
        let value = self.literal(&ty)?;
        self.expect(')')?;
        Ok(value)
    }

    fn literal(&mut self, ty: &ValueType) -> Result<Value, FormatError> {
        self.nested(|parser| match ty {
            ValueType::Tensor(tensor) => parser.tensor_literal(tensor),
            ValueType::List(element, _) => {
                let (open, close) = if parser.peek_is('(') { ('(', ')') } else { ('[', ']') };
                let values = parser.sequence(open, close, |parser, _| parser.literal(element))?;
                Ok(Value::List(ty.clone(), values))
            }
            ValueType::Tuple(types) => parser.tuple_literal(types),
            ValueType::Dictionary(key, value) => {
                let entries = parser.sequence('{', '}', |parser, _| {
                    parser.expect('{')?;
                    let key = parser.literal(key)?;
                    parser.expect(',')?;
                    let value = parser.literal(value)?;
                    parser.expect('}')?;
                    Ok((key, value))
                })?;
                Ok(Value::Dictionary(entries))
            }
            ValueType::State(_) => {
                Err(parser.error(parser.position(), "a state cannot be a constant"))
            }
        })
    }

    fn tuple_literal(&mut self, types: &[ValueType]) -> Result<Value, FormatError> {
        let at = self.position();
        let values = self.sequence('(', ')', |parser, index| {
            let message = format!("the tuple's type has {} elements only", types.len());
            let ty = types.get(index).ok_or_else(|| parser.error(parser.position(), message))?;
            parser.literal(ty)
        })?;
        if values.len() != types.len() {
            let (given, wanted) = (values.len(), types.len());
            return Err(self.error(at, format!("expected {wanted} tuple elements, got {given}")));
        }
        Ok(Value::Tuple(values))
    }

    fn tensor_literal(&mut self, ty: &TensorType) -> Result<Value, FormatError> {
        if self.peek_is_name("BLOBFILE") {
            return self.blob_literal(ty).map(Value::BlobFile);
        }
        if ty.element_count() == Some(0) && self.accept_empty_list()? {
            return Ok(Value::Tensor(empty_tensor(ty)));
        }
        let at = self.position();
        let mut elements = match ty.element {
            ElementType::String => Elements::Strings(Vec::new()),
            element => Elements::Packed(ImmediateBuilder::new(element)),
        };
        let mut sizes: Vec<Option<usize>> = ty.shape.iter().map(declared_size).collect();
        self.tensor_elements(&mut sizes, &mut elements)?;
        // Dimensions still unknown lie inside an empty list.
        let sizes: Vec<usize> = sizes.into_iter().map(Option::unwrap_or_default).collect();
        let ty = TensorType::fixed(ty.element, &sizes);
        let (data, count) = match elements {
            Elements::Strings(strings) => {
                let count = strings.len();
                (TensorData::Strings(strings), count)
            }
            Elements::Packed(builder) => {
                let count = builder.count();
                (TensorData::Bytes(Arc::from(builder.finish())), count)
            }
        };
        if ty.element_count() != Some(count) {
            return Err(self.error(at, format!("`{ty}` does not go with {count} elements")));
        }
        Ok(Value::Tensor(TensorValue { ty, data }))
    }

    /// Takes `[]`, which stands for all lists of a tensor without elements.
    fn accept_empty_list(&mut self) -> Result<bool, FormatError> {
        let found = self.peek_is('[') && self.following_is(']');
        if found {
            self.advance()?;
            self.advance()?;
        }
        Ok(found)
    }

    /// Nested lists, one level for each dimension. An unknown size becomes that of the first list on
    /// its level.
    fn tensor_elements(
        &mut self,
        sizes: &mut [Option<usize>],
        elements: &mut Elements,
    ) -> Result<(), FormatError> {
        let Some((size, inner)) = sizes.split_first_mut() else {
            return self.element(elements);
        };
        let at = self.position();
        let mut count = 0;
        self.nested(|parser| {
            parser.sequence('[', ']', |parser, _| {
                count += 1;
                parser.tensor_elements(inner, elements)
            })
        })?;
        let expected = *size.get_or_insert(count);
        if count != expected {
            let message = format!("expected a list of {expected} elements, got {count}");
            return Err(self.error(at, message));
        }
        Ok(())
    }

    fn element(&mut self, elements: &mut Elements) -> Result<(), FormatError> {
        let (token, at) = self.advance()?;
        let pushed = match (elements, token) {
            (Elements::Strings(strings), Token::String(text)) => {
                strings.push(text);
                Ok(())
            }
            (Elements::Packed(builder), Token::Name("true")) => builder.push_bool(true),
            (Elements::Packed(builder), Token::Name("false")) => builder.push_bool(false),
            (Elements::Packed(builder), Token::Number(text) | Token::Name(text)) => {
                push_number(builder, text)
            }
            (_, token) => Err(format!("expected an element, got {}", token.describe())),
        };
        pushed.map_err(|message| self.error(at, message))
    }

    /// `BLOBFILE(path = string("…"), offset = uint64(64))`
    fn blob_literal(&mut self, ty: &TensorType) -> Result<BlobFileValue, FormatError> {
        let (_, at) = self.advance()?;
        self.expect('(')?;
        let (mut file, mut offset) = (None, None);
        while !self.accept(')')? {
            if file.is_some() || offset.is_some() {
                self.expect(',')?;
            }
            let (field, at) = self.name("`path` or `offset`")?;
            self.expect('=')?;
            let value = self.value()?;
            match field {
                "path" => file = value.as_str().map(str::to_owned),
                "offset" => offset = unsigned_scalar(&value),
                other => return Err(self.error(at, format!("BLOBFILE has no field `{other}`"))),
            }
        }
        match (file, offset) {
            (Some(file), Some(offset)) => Ok(BlobFileValue { ty: ty.clone(), file, offset }),
            _ => Err(self.error(at, "BLOBFILE needs a string `path` and a uint64 `offset`")),
        }
    }
}

fn empty_tensor(ty: &TensorType) -> TensorValue {
    let data = match ty.element {
        ElementType::String => TensorData::Strings(Vec::new()),
        _ => TensorData::Bytes(Arc::from([])),
    };
    TensorValue { ty: ty.clone(), data }
}

fn declared_size(dimension: &Dimension) -> Option<usize> {
    match dimension {
        Dimension::Fixed(size) => Some(*size),
        Dimension::Unknown | Dimension::Variadic => None,
    }
}

fn push_number(builder: &mut ImmediateBuilder, text: &str) -> Result<(), String> {
    if builder.element().is_float() {
        let value = parse_float(text).ok_or_else(|| format!("expected a number, got `{text}`"))?;
        builder.push_float(value)
    } else {
        let value = parse_int(text).ok_or_else(|| {
            format!("expected an element of type {}, got `{text}`", builder.element())
        })?;
        builder.push_int(value)
    }
}

/// The value of a `uint64` scalar.
fn unsigned_scalar(value: &Value) -> Option<u64> {
    match value {
        Value::Tensor(TensorValue { ty, data: TensorData::Bytes(bytes) })
            if ty.element == ElementType::UInt64 && ty.shape.is_empty() =>
        {
            bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
        }
        _ => None,
    }
}
