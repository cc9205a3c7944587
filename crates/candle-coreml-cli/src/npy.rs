//! Reads NumPy arrays. Candle's own reader lacks bool and int8 and trusts the sizes that a header
//! claims; here they are checked against the bytes that are there.
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor};

/// Reads a `.npy` file.
pub fn read_npy(path: &Path) -> Result<Tensor> {
    let bytes = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    parse(&bytes).with_context(|| format!("{} is no array to use", path.display()))
}

/// Reads the array `name` of a `.npz` file, or its only one.
pub fn read_npz(path: &Path, name: &str) -> Result<Tensor> {
    let place = || format!("can't read {}", path.display());
    let file = fs::File::open(path).with_context(place)?;
    let mut archive = zip::ZipArchive::new(file).with_context(place)?;
    let wanted = format!("{name}.npy");
    let index = match archive.index_for_name(&wanted) {
        Some(index) => index,
        None if archive.len() == 1 => 0,
        None => {
            let names: Vec<_> = archive.file_names().filter_map(Result::ok).collect();
            bail!("{} has no array `{name}`; it has {}", path.display(), names.join(", "));
        }
    };
    let mut bytes = Vec::new();
    archive.by_index(index).with_context(place)?.read_to_end(&mut bytes).with_context(place)?;
    parse(&bytes).with_context(|| format!("array `{name}` of {}", path.display()))
}

struct Header {
    /// Type without byte order, e.g. `f4`.
    kind: String,
    shape: Vec<usize>,
}

fn parse(bytes: &[u8]) -> Result<Tensor> {
    let (header, data) = split_header(bytes)?;
    let header = Header::parse(header)?;
    let count = header.shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    let count = count.ok_or_else(|| anyhow!("shape {:?} is too large", header.shape))?;
    let dtype = match header.kind.as_str() {
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "u1" | "b1" => DType::U8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "u4" => DType::U32,
        "i1" => {
            let values: Vec<i16> = data.iter().map(|&byte| i16::from(byte.cast_signed())).collect();
            ensure!(values.len() == count, wrong_size(&header, values.len()));
            return Ok(Tensor::from_vec(values, header.shape, &Device::Cpu)?);
        }
        other => {
            bail!("elements of type `{other}` can't be used; convert them to float32 or int32")
        }
    };
    ensure!(
        count.checked_mul(dtype.size_in_bytes()) == Some(data.len()),
        wrong_size(&header, data.len())
    );
    Ok(Tensor::from_raw_buffer(data, dtype, &header.shape, &Device::Cpu)?)
}

fn wrong_size(header: &Header, got: usize) -> String {
    format!("{got} bytes of data do not make {:?} elements of {}", header.shape, header.kind)
}

/// The header's text and the data behind it.
fn split_header(bytes: &[u8]) -> Result<(&str, &[u8])> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").context("does not begin as a .npy file")?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => {
            (usize::try_from(u32::from_le_bytes([*a, *b, *c, *d]))?, rest)
        }
        _ => bail!("has an unknown .npy version"),
    };
    let (header, data) = rest.split_at_checked(length).context("the header is cut off")?;
    Ok((std::str::from_utf8(header)?, data))
}

impl Header {
    /// From a Python dictionary such as `{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }`.
    fn parse(text: &str) -> Result<Self> {
        let value = |key: &str| -> Result<&str> {
            let (_, rest) = text
                .split_once(&format!("'{key}':"))
                .with_context(|| format!("the header has no `{key}`"))?;
            Ok(rest.trim_start())
        };
        let descr = value("descr")?.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
        let (descr, _) = descr.context("the element type is not a simple one")?;
        ensure!(!descr.starts_with('>') || descr.ends_with('1'), "big-endian data: save it as `<`");
        ensure!(
            value("fortran_order")?.starts_with("False"),
            "the array is in Fortran order: save it with numpy.ascontiguousarray"
        );
        let shape = value("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let (shape, _) = shape.context("the shape is not a tuple")?;
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape =
            sizes.map(str::parse).collect::<Result<_, _>>().context("the shape is wrong")?;
        Ok(Header { kind: descr.trim_start_matches(['<', '>', '|', '=']).to_owned(), shape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [b"\x93NUMPY\x01\x00", length.as_slice(), header.as_bytes(), data].concat()
    }

    fn header(descr: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
    }

    #[test]
    fn reads_every_type_that_models_take() {
        let floats =
            parse(&file(&header("<f4", "(2, 1)"), &[0, 0, 128, 63, 0, 0, 0, 192])).unwrap();
        assert_eq!(floats.to_vec2::<f32>().unwrap(), [[1.0], [-2.0]]);
        let bools = parse(&file(&header("|b1", "(3,)"), &[1, 0, 1])).unwrap();
        assert_eq!(bools.to_vec1::<u8>().unwrap(), [1, 0, 1]);
        let bytes = parse(&file(&header("|i1", "(2,)"), &[255, 5])).unwrap();
        assert_eq!(bytes.to_vec1::<i16>().unwrap(), [-1, 5]);
        let scalar = parse(&file(&header("<i4", "()"), &[7, 0, 0, 0])).unwrap();
        assert_eq!(scalar.to_scalar::<i32>().unwrap(), 7);
        let halves = parse(&file(&header("<f2", "(1,)"), &[0, 60])).unwrap();
        assert_eq!(halves.to_vec1::<half::f16>().unwrap(), [half::f16::ONE]);
    }

    #[test]
    fn malformed_files_are_errors() {
        let good = file(&header("<f4", "(1,)"), &[0; 4]);
        for end in 0..good.len() {
            assert!(parse(&good[..end]).is_err(), "{end}");
        }
        let huge = header("<f4", "(9223372036854775807, 4)");
        let cases = [
            (huge.as_str(), "too large"),
            (&header("<f4", "(1000000000000,)"), "do not make"),
            (&header(">f4", "(1,)"), "big-endian"),
            (&header("<c8", "(1,)"), "`c8`"),
            (&header("<f4", "(-1,)"), "shape"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "simple"),
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (1,)}", "Fortran"),
            ("{}", "no `descr`"),
        ];
        for (header, expected) in cases {
            let message = format!("{:#}", parse(&file(header, &[0; 4])).unwrap_err());
            assert!(message.contains(expected), "{message}");
        }
    }
}
