//! Weight blob files, version 2: a 64-byte header, then records of 64 bytes of metadata that point
//! at 64-byte-aligned data. Layout and type codes follow `MILBlob/Blob/StorageFormat.hpp` and
//! `BlobDataType.hpp` in coremltools (`mlmodel/src`).
//!
//! Files are mapped into memory; every offset and size is checked before use.
#![allow(unsafe_code)] // for the mapping, in `map_file` alone

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use crate::FormatError;
use crate::files::{self, FileKind};
use crate::mil::{BlobFileValue, ElementType};

const HEADER_BYTES: usize = 64;
const RECORD_BYTES: usize = 64;
const ALIGNMENT: u64 = 64;
const VERSION: u32 = 2;
const SENTINEL: u32 = 0xDEAD_BEEF;

/// Element types that blobs can hold, with their codes in `BlobDataType`.
const BLOB_TYPES: &[(u32, ElementType)] = &[
    (1, ElementType::Float16),
    (2, ElementType::Float32),
    (3, ElementType::UInt8),
    (4, ElementType::Int8),
    (5, ElementType::BFloat16),
    (6, ElementType::Int16),
    (7, ElementType::UInt16),
    (8, ElementType::Int4),
    (9, ElementType::UInt1),
    (10, ElementType::UInt2),
    (11, ElementType::UInt4),
    (12, ElementType::UInt3),
    (13, ElementType::UInt6),
    (14, ElementType::Int32),
    (15, ElementType::UInt32),
    (16, ElementType::Float8E4M3FN),
    (17, ElementType::Float8E5M2),
];

/// Maps a file, whose path is canonical, for reading. An empty file gives no mapping.
pub(crate) fn map_file(path: &Path, kind: FileKind) -> Result<Option<Mmap>, FormatError> {
    let file = files::open(path, kind)?;
    if file.metadata().map_err(FormatError::io(path))?.len() == 0 {
        return Ok(None);
    }
    // SAFETY: the map is private and read-only, and only ever seen as bytes, for which every bit
    // pattern is valid. As with every file map, another process that shortens the file while it is
    // mapped makes the system stop this one; that is part of this crate's contract with its users.
    let map = unsafe { Mmap::map(&file) }.map_err(FormatError::io(path))?;
    Ok(Some(map))
}

/// Refuses the text file that Git LFS leaves in place of a large file.
///
/// # Errors
/// When the bytes are such a pointer.
pub fn refuse_lfs_pointer(path: &Path, bytes: &[u8]) -> Result<(), FormatError> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(FormatError::GitLfsPointer { path: path.to_owned() });
    }
    Ok(())
}

/// A weight blob file, mapped into memory. The file must not be shortened while it is open.
#[derive(Debug)]
pub struct BlobFile {
    path: PathBuf,
    map: Mmap,
}

/// One blob's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlobRecord {
    /// Element type.
    pub element: ElementType,
    /// Where the data lies in the file, in bytes.
    pub range: Range<usize>,
    /// Unused bits at the end of the data; meaningful for sub-byte elements only.
    pub padding_bits: u64,
}

/// The bytes of one tensor in a blob file. Cheap to clone; keeps the file mapped.
#[derive(Clone, Debug)]
pub struct BlobView {
    file: Arc<BlobFile>,
    range: Range<usize>,
    offset: u64,
}

impl BlobFile {
    /// Opens and maps a blob file.
    ///
    /// # Errors
    /// When the file cannot be read, is a Git LFS pointer or lacks the version 2 header.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        let path = path.as_ref();
        Self::at(&path.canonicalize().map_err(FormatError::io(path))?)
    }

    /// Opens the blob file at a canonical path.
    pub(crate) fn at(path: &Path) -> Result<Self, FormatError> {
        let map = map_file(path, FileKind::Weights)?
            .ok_or_else(|| header_error("the file is empty".into()).in_file(path))?;
        refuse_lfs_pointer(path, &map)?;
        check_header(&map).map_err(|error| error.in_file(path))?;
        Ok(BlobFile { path: path.to_owned(), map })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the metadata record at `offset` (as a `BlobFileValue` gives it) and checks that its
    /// data lies in the file.
    pub fn record(&self, offset: u64) -> Result<BlobRecord, FormatError> {
        read_record(&self.map, offset)
            .map_err(|message| FormatError::Blob { offset, message }.in_file(&self.path))
    }

    /// The bytes of a tensor, after checking that the record says what the program says.
    ///
    /// Elements of sub-byte types are packed, the first in the lowest bits: [`unpack_sub_byte`].
    pub fn tensor(self: &Arc<Self>, value: &BlobFileValue) -> Result<BlobView, FormatError> {
        let record = self.record(value.offset)?;
        check_record(&record, value).map_err(|message| {
            FormatError::Blob { offset: value.offset, message }.in_file(&self.path)
        })?;
        Ok(BlobView { file: Arc::clone(self), range: record.range, offset: value.offset })
    }
}

impl BlobView {
    /// The tensor's bytes, little-endian; they start on a 64-byte boundary.
    pub fn bytes(&self) -> &[u8] {
        self.file.map.get(self.range.clone()).unwrap_or_default()
    }

    /// What tells this blob from any other: the file's path and the record's offset in it.
    pub fn id(&self) -> (&Path, u64) {
        (&self.file.path, self.offset)
    }
}

fn header_error(message: String) -> FormatError {
    FormatError::Blob { offset: 0, message }
}

fn check_header(bytes: &[u8]) -> Result<(), FormatError> {
    let version = u32_at(bytes, 4).filter(|_| bytes.len() >= HEADER_BYTES).ok_or_else(|| {
        header_error(format!(
            "expected a header of {HEADER_BYTES} bytes, the file has {}",
            bytes.len()
        ))
    })?;
    if version != VERSION {
        return Err(header_error(format!(
            "expected a weight blob file of version {VERSION}, the header says {version}"
        )));
    }
    Ok(())
}

fn read_record(file: &[u8], offset: u64) -> Result<BlobRecord, String> {
    if !offset.is_multiple_of(ALIGNMENT) || offset < HEADER_BYTES as u64 {
        return Err(format!("records start at multiples of {ALIGNMENT} behind the header"));
    }
    let record = usize::try_from(offset)
        .ok()
        .and_then(|start| file.get(start..start.checked_add(RECORD_BYTES)?))
        .ok_or_else(|| format!("no record lies there, the file has {} bytes", file.len()))?;
    let field = |at| u64_at(record, at).unwrap_or_default();
    let sentinel = u32_at(record, 0).unwrap_or_default();
    if sentinel != SENTINEL {
        return Err(format!("expected the sentinel {SENTINEL:#010x}, got {sentinel:#010x}"));
    }
    let code = u32_at(record, 4).unwrap_or_default();
    let element = BLOB_TYPES
        .iter()
        .find(|row| row.0 == code)
        .map(|row| row.1)
        .ok_or_else(|| format!("unknown data type code {code}"))?;
    let (size, start) = (field(8), field(16));
    if !start.is_multiple_of(ALIGNMENT) {
        return Err(format!("the data's offset {start} is no multiple of {ALIGNMENT}"));
    }
    let range = byte_range(start, size, file.len()).ok_or_else(|| {
        format!("{size} bytes of data at {start} do not fit a file of {} bytes", file.len())
    })?;
    Ok(BlobRecord { element, range, padding_bits: field(24) })
}

fn byte_range(start: u64, size: u64, file_size: usize) -> Option<Range<usize>> {
    let end = usize::try_from(start.checked_add(size)?).ok()?;
    (end <= file_size).then_some(usize::try_from(start).ok()?..end)
}

fn check_record(record: &BlobRecord, value: &BlobFileValue) -> Result<(), String> {
    let element = value.ty.element;
    if record.element != element {
        return Err(format!("the program says {element}, the record says {}", record.element));
    }
    let count = value
        .ty
        .element_count()
        .ok_or_else(|| format!("the number of elements of `{}` is not known", value.ty))?;
    let needed = element
        .storage_bytes(count)
        .ok_or_else(|| format!("the size of `{}` overflows", value.ty))?;
    let size = record.range.len();
    if size != needed {
        return Err(format!("`{}` takes {needed} bytes, the record has {size}", value.ty));
    }
    // Writers before iOS 18 left the padding field uninitialised; sub-byte types are newer.
    if element.is_sub_byte() {
        let padding = (needed as u64 * 8).saturating_sub(count as u64 * element.bits() as u64);
        if record.padding_bits != padding {
            return Err(format!(
                "`{}` leaves {padding} padding bits, the record says {}",
                value.ty, record.padding_bits
            ));
        }
    }
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Unpacks `count` elements of a sub-byte type to one byte each. The first element lies in the
/// lowest bits of the first byte; elements may straddle bytes. `int4` is sign-extended, so that
/// its bytes are to be read as `i8`.
///
/// `None` when `element` is not a sub-byte type or `bytes` is too short.
pub fn unpack_sub_byte(bytes: &[u8], element: ElementType, count: usize) -> Option<Vec<u8>> {
    if !element.is_sub_byte() || bytes.len() < element.storage_bytes(count)? {
        return None;
    }
    let bits = element.bits() as u32;
    let mask = (1u32 << bits) - 1;
    let sign = if element == ElementType::Int4 { 1u8 << (bits - 1) } else { 0 };
    let mut unpacked = Vec::with_capacity(count);
    let mut source = bytes.iter();
    let (mut buffer, mut filled) = (0u32, 0u32);
    while unpacked.len() < count {
        if filled < bits {
            buffer |= u32::from(*source.next()?) << filled;
            filled += 8;
        }
        let value = (buffer & mask) as u8;
        // Flipping the sign bit and subtracting it again extends it.
        unpacked.push((value ^ sign).wrapping_sub(sign));
        buffer >>= bits;
        filled -= bits;
    }
    Some(unpacked)
}
