//! The protobuf wire format, walked without decoding or copying: for messages of which little is
//! asked and which may hold hundreds of megabytes of weights.

use crate::FormatError;

/// A field of a message.
pub struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
}

/// What a field holds, by its wire type.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A varint.
    Number(u64),
    /// A string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// Four or eight bytes, which nobody asks for.
    Fixed,
}

impl<'a> Value<'a> {
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The string, or a field's error.
    pub fn text(self, field: &str) -> Result<String, FormatError> {
        let text = self.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.map(str::to_owned).ok_or_else(|| FormatError::field(field, "is no UTF-8 string"))
    }
}

/// The fields of a serialized message, in their order.
pub fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<Field<'_>, FormatError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = rest.len();
        match field(rest) {
            Some((field, after)) => {
                rest = after;
                Some(Ok(field))
            }
            None => {
                rest = &[];
                let message = format!("malformed, {length} bytes before its end");
                Some(Err(FormatError::field("protobuf message", message)))
            }
        }
    })
}

/// The first field and what follows it.
fn field(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (key, bytes) = varint(bytes)?;
    let (value, rest) = match key & 7 {
        0 => {
            let (number, rest) = varint(bytes)?;
            (Value::Number(number), rest)
        }
        1 => (Value::Fixed, bytes.get(8..)?),
        2 => {
            let (length, bytes) = varint(bytes)?;
            let (value, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            (Value::Bytes(value), rest)
        }
        5 => (Value::Fixed, bytes.get(4..)?),
        _ => return None,
    };
    Some((Field { number: u32::try_from(key >> 3).ok()?, value }, rest))
}

fn varint(mut bytes: &[u8]) -> Option<(u64, &[u8])> {
    let number = prost::encoding::decode_varint(&mut bytes).ok()?;
    Some((number, bytes))
}
