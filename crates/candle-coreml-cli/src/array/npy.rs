//! NumPy's files of one array, in either byte order and memory order and of every version.
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::io::{self, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use half::f16;

use super::{Array, DType, Elements, count};

/// How a file begins.
pub const MAGIC: &[u8] = b"\x93NUMPY";
/// Bytes of a header. NumPy writes some hundred, and refuses more than 10,000 itself.
const LONGEST_HEADER: usize = 1 << 16;

/// What stands before the elements.
#[derive(Debug)]
pub struct Header {
    pub dtype: DType,
    pub shape: Vec<usize>,
    big_endian: bool,
    /// Whether the first index is the fastest.
    fortran_order: bool,
}

impl Header {
    /// Reads up to the elements.
    pub fn read(file: &mut impl Read) -> Result<Self> {
        let begin: [u8; 8] = bytes(file)?;
        ensure!(begin.starts_with(MAGIC), "does not begin as a .npy file");
        let length = match begin[6] {
            1 => u16::from_le_bytes(bytes(file)?).into(),
            2 | 3 => u32::from_le_bytes(bytes(file)?) as usize,
            version => bail!("is of version {version} of the .npy format; 1 to 3 are known"),
        };
        ensure!(length <= LONGEST_HEADER, "has a header of {length} bytes, more than NumPy writes");
        let mut text = vec![0; length];
        file.read_exact(&mut text).context("ends within its header")?;
        // Version 1 and 2 are Latin-1; but names of fields nothing in a header has such letters.
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// From a Python dictionary such as `{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }`.
    fn parse(text: &str) -> Result<Self> {
        let value = |key: &str| -> Result<&str> {
            let (_, rest) = text
                .split_once(&format!("'{key}':"))
                .with_context(|| format!("has no `{key}` in its header"))?;
            Ok(rest.trim_start())
        };
        let descr = value("descr")?;
        ensure!(!descr.starts_with('['), refused("a structured type"));
        let code = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
        let (code, _) = code.context("has no element type in its header")?;
        let (order, kind) = code.split_at_checked(1).context("has an empty element type")?;
        let (big_endian, kind) = match order {
            ">" => (true, kind),
            "<" | "|" | "=" => (false, kind),
            _ => (false, code),
        };
        // No feature has numbers as large as those that this type is for.
        let taken = DType::from_code(kind).filter(|&dtype| dtype != DType::UInt64);
        let dtype = taken.with_context(|| refused(&name_of(kind)))?;
        let fortran_order = match value("fortran_order")? {
            order if order.starts_with("True") => true,
            order if order.starts_with("False") => false,
            _ => bail!("does not say its order in its header"),
        };
        let shape = value("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let (shape, _) = shape.context("has no shape in its header")?;
        // Python 2 writes `3L`.
        let sizes = shape.split(',').map(|size| size.trim().trim_end_matches('L'));
        let sizes = sizes.filter(|size| !size.is_empty()).map(str::parse);
        let shape = sizes
            .collect::<Result<_, _>>()
            .with_context(|| format!("has the shape ({shape}) in its header"))?;
        Ok(Header { dtype, shape, big_endian, fortran_order })
    }

    /// Reads the elements, which have to be as many as the header says.
    pub fn read_elements(self, file: &mut impl Read) -> Result<Array> {
        let (dtype, shape) = (self.dtype, self.shape);
        let expected = count(&shape).and_then(|count| count.checked_mul(dtype.size()));
        let expected = expected.with_context(|| format!("claims the shape {shape:?}"))?;
        // Memory comes with the bytes that are there, not with those that are claimed.
        let mut data = Vec::new();
        file.take((expected as u64).saturating_add(1)).read_to_end(&mut data)?;
        let claim = format!("{} elements of shape {shape:?}, {expected} bytes", dtype.name());
        ensure!(data.len() >= expected, "claims {claim}, and has {} bytes of data", data.len());
        ensure!(data.len() == expected, "claims {claim}, and goes on behind them");
        let elements = elements(&data, dtype, self.big_endian);
        let elements = match self.fortran_order {
            true => elements.select(fortran_places(&shape)),
            false => elements,
        };
        Ok(Array { dtype, shape, elements })
    }
}

/// So many bytes of the beginning.
fn bytes<const N: usize>(file: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).context("is too short for a .npy file")?;
    Ok(bytes)
}

fn refused(name: &str) -> String {
    format!(
        "has elements of {name}, which no model takes; `.astype(numpy.float32)` or \
         `.astype(numpy.int32)` makes others of them"
    )
}

/// NumPy's name of a type that is no [`DType`], from its code.
fn name_of(code: &str) -> String {
    let (kind, size) = code.split_at_checked(1).unwrap_or((code, ""));
    match (kind, size) {
        ("f", "12" | "16") => {
            format!("type longdouble (float{})", if size == "12" { 96 } else { 128 })
        }
        ("u", "8") => "type uint64".to_owned(),
        ("c", "8") => "type complex64".to_owned(),
        ("c", "16") => "type complex128".to_owned(),
        ("c", _) => "type clongdouble (complex256)".to_owned(),
        ("O", _) => "type object (pickled)".to_owned(),
        ("U", _) => "type str".to_owned(),
        ("S" | "a", _) => "type bytes".to_owned(),
        ("V", _) => "type void".to_owned(),
        ("M", _) => "type datetime64".to_owned(),
        ("m", _) => "type timedelta64".to_owned(),
        _ => format!("the unknown type `{}`", code.escape_debug()),
    }
}

fn elements(data: &[u8], dtype: DType, big: bool) -> Elements {
    match dtype {
        DType::Bool => Elements::Integers(read(data, big, |[byte]| i128::from(byte != 0))),
        DType::Int8 => Elements::Integers(read(data, big, |b| i8::from_le_bytes(b).into())),
        DType::Int16 => Elements::Integers(read(data, big, |b| i16::from_le_bytes(b).into())),
        DType::Int32 => Elements::Integers(read(data, big, |b| i32::from_le_bytes(b).into())),
        DType::Int64 => Elements::Integers(read(data, big, |b| i64::from_le_bytes(b).into())),
        DType::UInt8 => Elements::Integers(read(data, big, |b| u8::from_le_bytes(b).into())),
        DType::UInt16 => Elements::Integers(read(data, big, |b| u16::from_le_bytes(b).into())),
        DType::UInt32 => Elements::Integers(read(data, big, |b| u32::from_le_bytes(b).into())),
        DType::UInt64 => Elements::Integers(read(data, big, |b| u64::from_le_bytes(b).into())),
        DType::Float16 => Elements::Singles(read(data, big, |b| f16::from_le_bytes(b).to_f32())),
        DType::Float32 => Elements::Singles(read(data, big, f32::from_le_bytes)),
        DType::Float64 => Elements::Doubles(read(data, big, f64::from_le_bytes)),
    }
}

/// Values of `N` bytes each; `value` takes them in little-endian order.
fn read<const N: usize, T>(data: &[u8], big: bool, value: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = data.as_chunks::<N>();
    let in_order = |mut bytes: [u8; N]| {
        if big {
            bytes.reverse();
        }
        value(bytes)
    };
    chunks.iter().copied().map(in_order).collect()
}

/// Where in Fortran order the elements lie, one after the other in row-major order.
fn fortran_places(shape: &[usize]) -> impl Iterator<Item = usize> {
    let mut index = vec![0usize; shape.len()];
    let mut at = 0;
    (0..count(shape).unwrap_or(0)).map(move |_| {
        let here = at;
        for axis in (0..shape.len()).rev() {
            let stride: usize = shape[..axis].iter().product();
            index[axis] += 1;
            at += stride;
            if index[axis] < shape[axis] {
                break;
            }
            at -= stride * shape[axis];
            index[axis] = 0;
        }
        here
    })
}

/// Writes a file as NumPy does.
pub fn write(array: &Array, out: &mut impl Write) -> io::Result<()> {
    let order = if array.dtype.size() == 1 { '|' } else { '<' };
    let sizes: Vec<String> = array.shape.iter().map(ToString::to_string).collect();
    let comma = if sizes.len() == 1 { "," } else { "" };
    let mut header = format!(
        "{{'descr': '{order}{}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        array.dtype.code(),
        sizes.join(", ")
    );
    // Version 1.0; data begins at a multiple of 64 bytes.
    let before = MAGIC.len() + 4;
    let end = (before + header.len() + 1).next_multiple_of(64);
    header.extend(std::iter::repeat_n(' ', end - before - header.len() - 1));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(io::Error::other)?;
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    match &array.elements {
        Elements::Integers(values) => values.iter().try_for_each(|value| {
            // The low bytes are those of any narrower integer.
            out.write_all(&value.to_le_bytes()[..array.dtype.size()])
        }),
        Elements::Singles(values) if array.dtype == DType::Float16 => {
            values.iter().try_for_each(|&value| out.write_all(&f16::from_f32(value).to_le_bytes()))
        }
        Elements::Singles(values) => {
            values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
        }
        Elements::Doubles(values) => {
            values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
        }
    }
}
