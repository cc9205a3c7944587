//! Where the slices of a tensor lie that indices name.

use coreml_format::mil::Opset;

use crate::error::OpError;
use crate::op::{Binder, Inputs, axis};
use crate::value::{Lines, Shape, TensorRef, count};

/// What an index stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// A slice of an axis; the first axes of the tensor and of the indices may be the same batches.
    Slice { axis: i64, batch_dims: i64 },
    /// An element: its place on an axis, while the places on the other axes are the index's own.
    Element { axis: i64 },
    /// With the others of the last axis, a slice: its places on the first axes behind the batches.
    Tuple { batch_dims: i64 },
}

/// How indices are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Those below 0 count from the end.
    FromBothEnds,
    /// There are none below 0.
    FromTheStart,
    /// What lies elsewhere is passed over.
    Inside,
}

impl Rule {
    /// The rule of an operator that reads by indices. Where negative ones are undefined, they count
    /// from the end, as in older opsets.
    pub(super) fn of_reads(binder: &Binder) -> Result<Self, OpError> {
        Ok(if validates(binder)? { Rule::FromTheStart } else { Rule::FromBothEnds })
    }

    /// The rule of an operator that writes by indices. Core ML promises memory safety alone where it
    /// does not validate; its tests want a result, and not one that counts from the end.
    pub(super) fn of_writes(binder: &Binder) -> Result<Self, OpError> {
        Ok(match (validates(binder)?, binder.since() < Opset::Ios17) {
            (true, _) => Rule::FromTheStart,
            (false, true) => Rule::FromBothEnds,
            (false, false) => Rule::Inside,
        })
    }

    /// The place on an axis of `size` that an index means, if it means one.
    fn resolve(self, index: i64, size: usize, axis: usize) -> Result<Option<usize>, OpError> {
        let counted = if self == Rule::FromBothEnds && index < 0 {
            index.saturating_add(size as i64)
        } else {
            index
        };
        let place = usize::try_from(counted).ok().filter(|&place| place < size);
        if place.is_none() && self != Rule::Inside {
            let expected = format!("indices of axis {axis}, which has {size} elements");
            return Err(OpError::argument("indices", expected, index.to_string()));
        }
        Ok(place)
    }
}

/// `validate_indices`, which opsets before iOS 17 lack.
fn validates(binder: &Binder) -> Result<bool, OpError> {
    Ok(binder.since() >= Opset::Ios17 && binder.bool("validate_indices")?)
}

/// The slices of a tensor that indices of known shape name.
#[derive(Clone)]
pub(super) struct Places {
    /// Shape of the named slices side by side: a result that is read, or updates to write.
    pub(super) picked: Shape,
    /// Elements of a slice.
    pub(super) inner: usize,
    rule: Rule,
    walk: Walk,
}

/// How indices follow each other, and which slices are theirs.
#[derive(Clone)]
enum Walk {
    /// The tensor is `[outer, size, inner]`; the indices are `[batch, each]`, and `outer / batch`
    /// parts of the tensor share those of a batch.
    Slices { axis: usize, outer: usize, shared: usize, size: usize, each: usize },
    /// The lines of the indices along an axis, which has `size` elements in the tensor.
    Elements { axis: usize, lines: Lines, size: usize },
    /// Tuples of `sizes.len()` indices of the axes from `first` on, `each` to a batch.
    Tuples { first: usize, sizes: Shape, batch: usize, each: usize },
}

impl Places {
    /// The places in a tensor of shape `x`, the input of this name, that indices of shape `indices` name.
    pub(super) fn new(
        by: By,
        rule: Rule,
        (name, x): (&str, &[usize]),
        indices: &[usize],
    ) -> Result<Self, OpError> {
        let mut picked = Shape::new();
        let (inner, walk) = match by {
            By::Slice { axis: along, batch_dims } => {
                let axis = axis(along, x.len(), "axis")?;
                let batches = batches(batch_dims, name, &x[..axis], x, indices)?;
                picked.extend_from_slice(&x[..axis]);
                picked.extend_from_slice(&indices[batches..]);
                picked.extend_from_slice(&x[axis + 1..]);
                let (outer, shared) = (count(&x[..axis]), count(&x[batches..axis]));
                let each = count(&indices[batches..]);
                let walk = Walk::Slices { axis, outer, shared, size: x[axis], each };
                (count(&x[axis + 1..]), walk)
            }
            By::Element { axis: along } => {
                let axis = axis(along, x.len(), "axis")?;
                picked.extend_from_slice(x);
                picked[axis] = indices.get(axis).copied().unwrap_or(0);
                if picked.as_slice() != indices {
                    let expected = format!("the shape {x:?} of `{name}`, except for axis {axis}");
                    return Err(OpError::argument("indices", expected, format!("{indices:?}")));
                }
                let lines = Lines::along(indices, axis);
                (1, Walk::Elements { axis, lines, size: x[axis] })
            }
            By::Tuple { batch_dims } => {
                let Some((&depth, tuples)) = indices.split_last() else {
                    return Err(OpError::argument(
                        "indices",
                        "tuples on the last axis",
                        "a scalar",
                    ));
                };
                let first = batches(batch_dims, name, x, x, tuples)?;
                let Some(sizes) = x[first..].get(..depth) else {
                    let expected = format!("tuples of at most {} indices", x.len() - first);
                    return Err(OpError::argument("indices", expected, depth.to_string()));
                };
                picked.extend_from_slice(tuples);
                picked.extend_from_slice(&x[first + depth..]);
                let (batch, each) = (count(&tuples[..first]), count(&tuples[first..]));
                let sizes = Shape::from_slice(sizes);
                (count(&x[first + depth..]), Walk::Tuples { first, sizes, batch, each })
            }
        };
        Ok(Places { picked, inner, rule, walk })
    }

    /// The places for these inputs of an operation.
    pub(super) fn of(
        by: By,
        rule: Rule,
        inputs: &Inputs,
        (name, x): (&str, usize),
        indices: usize,
    ) -> Result<Self, OpError> {
        Places::new(by, rule, (name, inputs.shape(x)?), inputs.shape(indices)?)
    }

    /// Calls `visit` with the number of each named slice and its number among those of the tensor.
    pub(super) fn for_each(
        &self,
        indices: &TensorRef,
        mut visit: impl FnMut(usize, usize) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        if count(&self.picked) == 0 {
            return Ok(());
        }
        let values = indices.int_elements()?;
        let value = |number: usize| {
            values.get(number).ok_or_else(|| OpError::invalid(format!("no index {number}")))
        };
        match &self.walk {
            &Walk::Slices { axis, outer, shared, size, each } => {
                for part in 0..outer {
                    let first = part / shared * each;
                    for number in 0..each {
                        let index = value(first + number)?;
                        if let Some(place) = self.rule.resolve(index, size, axis)? {
                            visit(part * each + number, part * size + place)?;
                        }
                    }
                }
            }
            &Walk::Elements { axis, lines, size } => {
                let row = lines.inner;
                for number in 0..lines.elements() {
                    let place = self.rule.resolve(value(number)?, size, axis)?;
                    if let Some(place) = place {
                        let outer = number / row / lines.size;
                        visit(number, (outer * size + place) * row + number % row)?;
                    }
                }
            }
            Walk::Tuples { first, sizes, batch, each } => {
                for number in 0..batch * each {
                    let tuple = number * sizes.len();
                    let start = Some(number / each);
                    let slice =
                        sizes.iter().enumerate().try_fold(start, |slice, (i, &size)| {
                            let place = self.rule.resolve(value(tuple + i)?, size, first + i)?;
                            Ok::<_, OpError>(slice.zip(place).map(|(slice, place)| {
                                slice.saturating_mul(size).saturating_add(place)
                            }))
                        })?;
                    if let Some(slice) = slice {
                        visit(number, slice)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// `batch_dims`: how many of the first axes, all of which are among `before`, are the same.
fn batches(
    batch_dims: i64,
    name: &str,
    before: &[usize],
    x: &[usize],
    indices: &[usize],
) -> Result<usize, OpError> {
    let same = |&dims: &usize| {
        dims <= before.len() && dims <= indices.len() && before[..dims] == indices[..dims]
    };
    usize::try_from(batch_dims).ok().filter(same).ok_or_else(|| {
        let expected = format!(
            "dimensions that `{name}` ({x:?}) and `indices` ({indices:?}) share before what is indexed"
        );
        OpError::argument("batch_dims", expected, batch_dims.to_string())
    })
}
