//! Constants: small immediate values, and weights that stay in their file, compressed if they are.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use coreml_format::blob::BlobView;
use coreml_format::mil::ElementType;
use smallvec::SmallVec;

use super::{Buffer, Shape, Storage, TensorRef};

/// Bytes of a constant: a part of a mapped weight file, or of memory of our own. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Bytes {
    owner: Owner,
    range: Range<usize>,
}

#[derive(Clone)]
enum Owner {
    Blob(BlobView),
    Memory(Arc<Buffer>, Option<Serial>),
}

/// A number that whoever keeps a value for all plans gave to a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Serial {
    pub(crate) value: usize,
    pub(crate) part: usize,
}

/// Bytes in memory up to this number are told apart by themselves: scalars, small tables.
const SMALL: usize = 4096;

/// What identifies bytes across plans.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum BytesKey {
    Blob { file: PathBuf, offset: u64, range: Range<usize> },
    Kept { serial: Serial, range: Range<usize> },
    Small(Box<[u8]>),
}

/// What identifies a constant across plans: its type, its encoding and its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConstantKey {
    element: ElementType,
    shape: Shape,
    encoding: EncodingKey,
    bytes: SmallVec<[BytesKey; 1]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum EncodingKey {
    Dense(Storage),
    Packed,
    Palettized { bits: u8, lut_storage: Storage, groups: Shape },
    Blockwise { bits: u8, signed: bool, scale_storage: Storage, blocks: Shape },
    Strings(Arc<[String]>),
}

/// The most [`Bytes`] that a constant consists of.
const MOST_PARTS: usize = 3;

impl Bytes {
    /// All bytes of a blob.
    pub(crate) fn from_blob(view: BlobView) -> Self {
        let range = 0..view.bytes().len();
        Bytes { owner: Owner::Blob(view), range }
    }

    /// All bytes of a buffer.
    pub(crate) fn from_buffer(buffer: Buffer) -> Self {
        let range = 0..buffer.len();
        Bytes { owner: Owner::Memory(Arc::new(buffer), None), range }
    }

    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        let all = match &self.owner {
            Owner::Blob(view) => view.bytes(),
            Owner::Memory(buffer, _) => buffer.bytes(),
        };
        &all[self.range.clone()]
    }

    /// A part of these bytes; the range is cut to what there is.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        let start = (self.range.start + range.start).min(self.range.end);
        let end = (self.range.start + range.end).clamp(start, self.range.end);
        Bytes { owner: self.owner.clone(), range: start..end }
    }

    /// Gives bytes in memory an identity; those of a file have one.
    fn number(&mut self, number: Serial) {
        if let Owner::Memory(_, serial) = &mut self.owner {
            *serial = Some(number);
        }
    }

    fn key(&self) -> Option<BytesKey> {
        let range = self.range.clone();
        match &self.owner {
            Owner::Blob(view) => {
                let (file, offset) = view.id();
                Some(BytesKey::Blob { file: file.to_owned(), offset, range })
            }
            &Owner::Memory(_, Some(serial)) => Some(BytesKey::Kept { serial, range }),
            Owner::Memory(_, None) => {
                let bytes = self.as_slice();
                (bytes.len() <= SMALL).then(|| BytesKey::Small(bytes.into()))
            }
        }
    }
}

/// A constant tensor.
#[derive(Clone)]
pub(crate) struct Constant {
    pub(crate) element: ElementType,
    pub(crate) shape: Shape,
    pub(crate) data: ConstantData,
}

/// How a constant's elements are encoded.
#[derive(Clone)]
pub(crate) enum ConstantData {
    /// One element after the other.
    Dense(Storage, Bytes),
    /// Elements of a sub-byte type, packed as in the file: the indices and quantized data that
    /// `constexpr_*` operations take (their `fold` sees this; `compression::expand` unpacks it to
    /// one element a byte for any other operation).
    Packed(Bytes),
    /// Indices into tables.
    Palettized(PalettizedData),
    /// Quantized integers with scales and offsets for blocks.
    Blockwise(BlockwiseData),
    /// Strings (modes and type names: never more than an argument).
    Strings(Arc<[String]>),
}

/// A palettized weight: `weight[i] = lut[group of i][index[i]]` (`constexpr_lut_to_dense` with
/// scalar entries).
#[derive(Clone)]
pub(crate) struct PalettizedData {
    /// Bits of an index.
    pub(crate) bits: u8,
    /// Indices, packed as in the file.
    pub(crate) indices: Bytes,
    /// Tables, one after the other.
    pub(crate) lut: Bytes,
    /// Storage of the tables' entries: `F16` or `F32`.
    pub(crate) lut_storage: Storage,
    /// Number of groups on each axis of the weight.
    pub(crate) groups: Shape,
}

/// An affinely quantized weight: `weight = scale · (q − offset)`
/// (`constexpr_blockwise_shift_scale`, `constexpr_affine_dequantize`).
#[derive(Clone)]
pub(crate) struct BlockwiseData {
    /// Bits of a quantized value.
    pub(crate) bits: u8,
    /// Whether quantized values are signed.
    pub(crate) signed: bool,
    /// Quantized values, packed as in the file.
    pub(crate) data: Bytes,
    /// Scales, one for each block.
    pub(crate) scale: Bytes,
    /// Storage of the scales: `F16` or `F32`.
    pub(crate) scale_storage: Storage,
    /// Offsets, one for each block, as `f32`.
    pub(crate) offset: Option<Bytes>,
    /// Number of blocks on each axis of the weight.
    pub(crate) blocks: Shape,
}

impl Constant {
    /// A dense constant.
    pub(crate) fn dense(
        element: ElementType,
        storage: Storage,
        shape: Shape,
        bytes: Bytes,
    ) -> Self {
        Constant { element, shape, data: ConstantData::Dense(storage, bytes) }
    }

    /// The tensor, when the elements are dense.
    pub(crate) fn tensor(&self) -> Option<TensorRef<'_>> {
        match &self.data {
            ConstantData::Dense(storage, bytes) => {
                Some(TensorRef::dense(self.element, *storage, &self.shape, bytes.as_slice()))
            }
            _ => None,
        }
    }

    /// The text of a string scalar.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.data {
            ConstantData::Strings(strings) if strings.len() == 1 => Some(&strings[0]),
            _ => None,
        }
    }

    /// Storage of the dense form; `None` for strings. What is still compressed counts as `F16`: it
    /// has to be expanded for an operation that wants anything else.
    pub(crate) fn storage(&self) -> Option<Storage> {
        match &self.data {
            ConstantData::Dense(storage, _) => Some(*storage),
            ConstantData::Strings(_) => None,
            ConstantData::Packed(_) => Storage::natural(self.element),
            ConstantData::Palettized(_) | ConstantData::Blockwise(_) => Some(Storage::F16),
        }
    }

    /// Element type and storage; strings count as bytes.
    pub(crate) fn kind(&self) -> (ElementType, Storage) {
        (self.element, self.storage().unwrap_or(Storage::U8))
    }

    /// True while the elements are packed, palettized or quantized.
    pub(crate) fn is_compressed(&self) -> bool {
        !matches!(self.data, ConstantData::Dense(..) | ConstantData::Strings(_))
    }

    /// Identity across plans and functions; `None` for large immediate values.
    pub(crate) fn key(&self) -> Option<ConstantKey> {
        let encoding = match &self.data {
            ConstantData::Dense(storage, _) => EncodingKey::Dense(*storage),
            ConstantData::Packed(_) => EncodingKey::Packed,
            ConstantData::Palettized(PalettizedData { bits, lut_storage, groups, .. }) => {
                let (bits, lut_storage, groups) = (*bits, *lut_storage, groups.clone());
                EncodingKey::Palettized { bits, lut_storage, groups }
            }
            ConstantData::Blockwise(BlockwiseData {
                bits, signed, scale_storage, blocks, ..
            }) => EncodingKey::Blockwise {
                bits: *bits,
                signed: *signed,
                scale_storage: *scale_storage,
                blocks: blocks.clone(),
            },
            ConstantData::Strings(strings) => EncodingKey::Strings(strings.clone()),
        };
        let mut same = self.clone();
        let bytes = same.parts().into_iter().map(|bytes| bytes.key()).collect::<Option<_>>()?;
        Some(ConstantKey { element: self.element, shape: self.shape.clone(), encoding, bytes })
    }

    /// Gives the parts of a value that is kept for all plans an identity of their own.
    pub(crate) fn number(&mut self, value: usize, result: usize) {
        for (part, bytes) in self.parts().into_iter().enumerate() {
            bytes.number(Serial { value, part: result * MOST_PARTS + part });
        }
    }

    /// All bytes that the elements are made of.
    fn parts(&mut self) -> SmallVec<[&mut Bytes; MOST_PARTS]> {
        match &mut self.data {
            ConstantData::Dense(_, bytes) | ConstantData::Packed(bytes) => {
                SmallVec::from_iter([bytes])
            }
            ConstantData::Palettized(data) => {
                SmallVec::from_iter([&mut data.indices, &mut data.lut])
            }
            ConstantData::Blockwise(data) => {
                [&mut data.data, &mut data.scale].into_iter().chain(&mut data.offset).collect()
            }
            ConstantData::Strings(_) => SmallVec::new(),
        }
    }

    /// Bytes of memory that the elements take, beside the file.
    pub(crate) fn memory(&self) -> usize {
        let own = |bytes: &&mut Bytes| matches!(bytes.owner, Owner::Memory(..));
        let mut same = self.clone();
        same.parts().into_iter().filter(own).map(|bytes| bytes.as_slice().len()).sum()
    }

    /// Bytes that the elements take as they are held.
    pub(crate) fn byte_len(&self) -> usize {
        self.clone().parts().into_iter().map(|bytes| bytes.as_slice().len()).sum()
    }

    /// A few words for plans: the value of a small constant, else how it is encoded.
    pub(crate) fn brief(&self) -> String {
        let (element, shape) = (self.element, self.shape.as_slice());
        let encoding = match &self.data {
            ConstantData::Strings(strings) => return format!("{strings:?}"),
            ConstantData::Dense(storage, bytes) => {
                let length = bytes.as_slice().len() / storage.size();
                match self.tensor().filter(|_| length <= 6) {
                    Some(tensor) => return tensor.brief(),
                    None => format!("{storage:?}"),
                }
            }
            ConstantData::Packed(_) => "packed".to_owned(),
            ConstantData::Palettized(data) => format!("lut{}", data.bits),
            ConstantData::Blockwise(data) => format!("blocks of int{}", data.bits),
        };
        format!("{element} {shape:?} as {encoding}")
    }

    /// Type and shape for messages.
    pub(crate) fn describe(&self) -> String {
        format!("a constant of type `{}` and shape {:?}", self.element, self.shape.as_slice())
    }
}
