//! Compressed constants as matrices that kernels multiply with.

use coreml_format::mil::ElementType;
use coreml_kernels::{Blockwise, Context, Encoding, Numerics, Palettized, Table, Weights};

use crate::value::{Bytes, Constant, ConstantData, Storage, count};

/// How exactly products with values of a type are computed: those of half precision as the model's owner
/// chose, all others in single precision.
pub(crate) fn numerics(context: &Context, element: ElementType) -> Numerics {
    match element {
        ElementType::Float16 => context.numerics(),
        _ => Numerics::Strict,
    }
}

/// A constant as a matrix of `rows` and `cols` that kernels multiply with; `None` when it has other
/// elements or its groups don't lie regularly in such a matrix.
pub(crate) fn matrix(constant: &Constant, rows: usize, cols: usize) -> Option<Weights<'_>> {
    let shape = &constant.shape;
    let encoding = match &constant.data {
        ConstantData::Dense(storage, bytes) => match table(bytes, *storage)? {
            Table::F16(values) => Encoding::F16(values),
            Table::F32(values) => Encoding::F32(values),
        },
        ConstantData::Palettized(data) => {
            let (rows_per_group, cols_per_group) = parts(shape, &data.groups, rows, cols)?;
            Encoding::Palettized(Palettized {
                bits: data.bits,
                indices: data.indices.as_slice(),
                lut: table(&data.lut, data.lut_storage)?,
                rows_per_group,
                cols_per_group,
            })
        }
        ConstantData::Blockwise(data) => {
            let (rows_per_block, cols_per_block) = parts(shape, &data.blocks, rows, cols)?;
            Encoding::Blockwise(Blockwise {
                bits: data.bits,
                signed: data.signed,
                data: data.data.as_slice(),
                scale: table(&data.scale, data.scale_storage)?,
                offset: match &data.offset {
                    Some(offset) => Some(table(offset, Storage::F32)?),
                    None => None,
                },
                rows_per_block,
                cols_per_block,
                rounded: constant.element == ElementType::Float16,
            })
        }
        ConstantData::Packed(_) | ConstantData::Strings(_) => return None,
    };
    let weights = Weights { rows, cols, encoding };
    weights.validate().is_ok().then_some(weights)
}

fn table(bytes: &Bytes, storage: Storage) -> Option<Table<'_>> {
    match storage {
        Storage::F16 => bytemuck::try_cast_slice(bytes.as_slice()).ok().map(Table::F16),
        Storage::F32 => bytemuck::try_cast_slice(bytes.as_slice()).ok().map(Table::F32),
        _ => None,
    }
}

/// How many rows and columns of a matrix share a group, given the number of groups on each axis.
fn parts(shape: &[usize], groups: &[usize], rows: usize, cols: usize) -> Option<(usize, usize)> {
    if groups.len() != shape.len() {
        return None;
    }
    let at =
        (0..=shape.len()).find(|&at| count(&shape[..at]) == rows && count(&shape[at..]) == cols)?;
    Some((regular(&shape[..at], &groups[..at])?, regular(&shape[at..], &groups[at..])?))
}

/// How many consecutive elements share a group, if groups are made of consecutive elements: axes
/// are split to the last element before one is split in part, and not at all after it.
fn regular(shape: &[usize], groups: &[usize]) -> Option<usize> {
    let whole = shape.iter().zip(groups).take_while(|(size, groups)| size == groups).count();
    if groups.iter().skip(whole + 1).any(|&groups| groups != 1) {
        return None;
    }
    count(shape).checked_div(count(groups)).filter(|&part| part > 0)
}
