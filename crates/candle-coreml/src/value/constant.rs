//! Constants: small immediate values, and weights that stay in their file, compressed if they are.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use coreml_format::blob::BlobView;
use coreml_format::mil::ElementType;

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
    Memory(Arc<Buffer>),
}

/// What identifies a constant across plans: where its bytes start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WeightKey {
    file: PathBuf,
    offset: u64,
    range: Range<usize>,
}

impl Bytes {
    /// All bytes of a blob.
    pub(crate) fn from_blob(view: BlobView) -> Self {
        let range = 0..view.bytes().len();
        Bytes { owner: Owner::Blob(view), range }
    }

    /// All bytes of a buffer.
    pub(crate) fn from_buffer(buffer: Buffer) -> Self {
        let range = 0..buffer.len();
        Bytes { owner: Owner::Memory(Arc::new(buffer)), range }
    }

    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        let all = match &self.owner {
            Owner::Blob(view) => view.bytes(),
            Owner::Memory(buffer) => buffer.bytes(),
        };
        &all[self.range.clone()]
    }

    /// A part of these bytes; the range is cut to what there is.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        let start = (self.range.start + range.start).min(self.range.end);
        let end = (self.range.start + range.end).clamp(start, self.range.end);
        Bytes { owner: self.owner.clone(), range: start..end }
    }

    /// Identity of bytes that lie in a weight file.
    pub(crate) fn key(&self) -> Option<WeightKey> {
        match &self.owner {
            Owner::Blob(view) => {
                let (file, offset) = view.id();
                Some(WeightKey { file: file.to_owned(), offset, range: self.range.clone() })
            }
            Owner::Memory(_) => None,
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
            ConstantData::Dense(storage, bytes) => Some(TensorRef {
                element: self.element,
                storage: *storage,
                shape: &self.shape,
                bytes: bytes.as_slice(),
            }),
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

    /// True while the elements are packed, palettized or quantized.
    pub(crate) fn is_compressed(&self) -> bool {
        !matches!(self.data, ConstantData::Dense(..) | ConstantData::Strings(_))
    }

    /// Identity of a weight across plans and functions.
    pub(crate) fn key(&self) -> Option<WeightKey> {
        match &self.data {
            ConstantData::Dense(_, bytes) | ConstantData::Packed(bytes) => bytes.key(),
            ConstantData::Palettized(palettized) => palettized.indices.key(),
            ConstantData::Blockwise(blockwise) => blockwise.data.key(),
            ConstantData::Strings(_) => None,
        }
    }
}

impl Constant {
    /// Type and shape for messages.
    pub(crate) fn describe(&self) -> String {
        format!("a constant of type `{}` and shape {:?}", self.element, self.shape.as_slice())
    }
}
