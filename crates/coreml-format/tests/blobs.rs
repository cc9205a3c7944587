//! Weight blob files, sound and attacked. Files are laid out by hand after the format's description
//! in coremltools (`MILBlob/Blob/StorageFormat.hpp`).
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::path::Path;
use std::sync::Arc;

use coreml_format::mil::{BlobFileValue, ElementType, TensorType};
use coreml_format::{BlobFile, FormatError, unpack_sub_byte};
use proptest::prelude::*;

/// A file with one record at offset 64 and its data at 128.
struct Layout {
    version: u32,
    sentinel: u32,
    code: u32,
    size: u64,
    offset: u64,
    padding: u64,
    data: Vec<u8>,
}

impl Layout {
    fn sound(code: u32, data: &[u8]) -> Self {
        Layout {
            version: 2,
            sentinel: 0xDEAD_BEEF,
            code,
            size: data.len() as u64,
            offset: 128,
            padding: 0,
            data: data.to_vec(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = 1u32.to_le_bytes().to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.resize(64, 0);
        bytes.extend(self.sentinel.to_le_bytes());
        bytes.extend(self.code.to_le_bytes());
        for field in [self.size, self.offset, self.padding] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.resize(128, 0);
        bytes.extend(&self.data);
        bytes
    }

    fn write(&self, dir: &Path) -> std::path::PathBuf {
        let path = dir.join("weight.bin");
        std::fs::write(&path, self.bytes()).unwrap();
        path
    }
}

fn value(element: ElementType, shape: &[usize], offset: u64) -> BlobFileValue {
    let file = "@model_path/weight.bin".into();
    BlobFileValue { ty: TensorType::fixed(element, shape), file, offset }
}

fn read(layout: &Layout, value: &BlobFileValue) -> Result<Vec<u8>, FormatError> {
    let dir = tempfile::tempdir().unwrap();
    let file = Arc::new(BlobFile::open(layout.write(dir.path()))?);
    Ok(file.tensor(value)?.bytes().to_vec())
}

#[test]
fn every_element_type_is_read() {
    use ElementType::*;
    // Codes of `BlobDataType`; 16 elements take 2 bytes per bit of width.
    let types = [
        (1, Float16, 16),
        (2, Float32, 32),
        (3, UInt8, 8),
        (4, Int8, 8),
        (5, BFloat16, 16),
        (6, Int16, 16),
        (7, UInt16, 16),
        (8, Int4, 4),
        (9, UInt1, 1),
        (10, UInt2, 2),
        (11, UInt4, 4),
        (12, UInt3, 3),
        (13, UInt6, 6),
        (14, Int32, 32),
        (15, UInt32, 32),
        (16, Float8E4M3FN, 8),
        (17, Float8E5M2, 8),
    ];
    for (code, element, bits) in types {
        let data: Vec<u8> = (0..2 * bits).collect();
        let layout = Layout::sound(code, &data);
        let bytes = read(&layout, &value(element, &[4, 4], 64)).unwrap();
        assert_eq!(bytes, data, "{element}");
    }
}

#[test]
fn padding_bits_of_sub_byte_types_are_checked() {
    // Three 3-bit values leave 7 of 16 bits.
    let mut layout = Layout::sound(12, &[1, 0]);
    layout.padding = 7;
    assert!(read(&layout, &value(ElementType::UInt3, &[3], 64)).is_ok());
    layout.padding = 4;
    assert!(read(&layout, &value(ElementType::UInt3, &[3], 64)).is_err());
    // Old writers left the field uninitialised for other types.
    let mut layout = Layout::sound(3, &[1, 2]);
    layout.padding = u64::MAX;
    assert!(read(&layout, &value(ElementType::UInt8, &[2], 64)).is_ok());
}

#[test]
fn attacks_are_refused() {
    let sound = || Layout::sound(3, &[1, 2, 3, 4]);
    let good = || value(ElementType::UInt8, &[4], 64);
    let at = |offset| value(ElementType::UInt8, &[4], offset);
    assert_eq!(read(&sound(), &good()).unwrap(), [1, 2, 3, 4]);
    let cases = [
        ("record behind the end", sound(), at(1 << 20), "no record lies there"),
        ("record cut off", sound(), at(128), "no record lies there"),
        ("largest offset", sound(), at(u64::MAX - 63), "no record lies there"),
        ("record in the header", sound(), at(0), "behind the header"),
        ("record not aligned", sound(), at(65), "multiples of 64"),
        ("sentinel", Layout { sentinel: 1, ..sound() }, good(), "0xdeadbeef, got 0x00000001"),
        ("unknown type", Layout { code: 99, ..sound() }, good(), "unknown data type code 99"),
        ("other type", Layout { code: 4, ..sound() }, good(), "says uint8, the record says int8"),
        ("data behind the end", Layout { offset: 1 << 40, ..sound() }, good(), "do not fit"),
        ("data not aligned", Layout { offset: 129, ..sound() }, good(), "no multiple of 64"),
        ("size behind the end", Layout { size: 5, ..sound() }, good(), "do not fit"),
        ("overflow", Layout { size: u64::MAX, ..sound() }, good(), "do not fit"),
        ("small size", Layout { size: 3, ..sound() }, good(), "takes 4 bytes, the record has 3"),
        ("version 1", Layout { version: 1, ..sound() }, good(), "version 2, the header says 1"),
        (
            "shape overflow",
            sound(),
            value(ElementType::UInt8, &[usize::MAX, 2], 64),
            "number of elements",
        ),
    ];
    for (name, layout, value, part) in cases {
        let error = read(&layout, &value).unwrap_err().to_string();
        assert!(error.contains(part), "{name}: {error}");
        assert!(error.contains("weight.bin"), "{name}: {error}");
    }
}

#[test]
fn files_that_are_no_blob_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weight.bin");
    let open = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        BlobFile::open(&path).unwrap_err()
    };
    assert!(open(b"").to_string().contains("empty"));
    assert!(open(&[0; 63]).to_string().contains("header of 64 bytes"));
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    assert!(matches!(open(pointer), FormatError::GitLfsPointer { .. }));
    assert!(matches!(BlobFile::open(dir.path()), Err(FormatError::Container { .. })));
    assert!(matches!(BlobFile::open(dir.path().join("no")), Err(FormatError::Io { .. })));
}

/// Bit by bit, as the format says it.
fn naive_unpack(bytes: &[u8], bits: usize, count: usize) -> Vec<u8> {
    let bit = |index: usize| bytes[index / 8] >> (index % 8) & 1;
    (0..count).map(|element| (0..bits).map(|i| bit(element * bits + i) << i).sum()).collect()
}

proptest! {
    #[test]
    fn unpacking_agrees_with_the_naive_way(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        which in 0usize..6,
    ) {
        use ElementType::*;
        let (element, bits) =
            [(UInt1, 1), (UInt2, 2), (UInt3, 3), (UInt4, 4), (UInt6, 6), (Int4, 4)][which];
        let count = bytes.len() * 8 / bits;
        let mut expected = naive_unpack(&bytes, bits, count);
        if element == Int4 {
            for value in &mut expected {
                *value = if *value > 7 { (*value as i8 - 16) as u8 } else { *value };
            }
        }
        prop_assert_eq!(unpack_sub_byte(&bytes, element, count), Some(expected));
        prop_assert_eq!(unpack_sub_byte(&bytes, element, bytes.len() * 8 / bits + 8), None);
        prop_assert_eq!(unpack_sub_byte(&bytes, UInt8, 0), None);
    }

    #[test]
    fn any_bytes_and_offset_give_a_result(
        tail in prop::collection::vec(any::<u8>(), 0..256),
        fields in any::<[u64; 2]>(),
        small in any::<bool>(),
        offset in any::<u64>(),
    ) {
        let bound = if small { 512 } else { u64::MAX };
        let [size, start] = fields.map(|field| field % bound);
        let layout =
            Layout { size, offset: start & !63, ..Layout::sound(3, &tail) };
        let dir = tempfile::tempdir().unwrap();
        let file = BlobFile::open(layout.write(dir.path())).unwrap();
        let total = layout.bytes().len();
        for offset in [offset, offset % 512, 64] {
            if let Ok(record) = file.record(offset) {
                prop_assert!(record.range.end <= total);
            }
        }
    }
}
