//! Operations that change a tensor's shape or the order of its elements.

use std::ops::Range;

use coreml_format::mil::Opset;
use smallvec::{SmallVec, smallvec};

use super::movement::{Moved, Movement};
use crate::error::OpError;
use crate::op::{Binder, Inputs, Op, OpDef, axis, bound, def};
use crate::value::{Shape, Strides, View, count, element_count};

/// Gives a tensor another shape; the elements stay where they are.
#[derive(Clone, Debug)]
pub(crate) struct Reshape {
    pub(crate) x: usize,
    pub(crate) rule: Rule,
}

/// How [`Reshape`] finds the result's shape.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// From an input, where 0 and -1 have a meaning of their own.
    Given { shape: usize, zeros: Zeros },
    /// New axes of size 1 at these places of the result.
    Insert(SmallVec<[i64; 8]>),
    /// These axes go if their size is 1.
    Remove(SmallVec<[i64; 8]>),
    /// All axes of size 1 go.
    RemoveAll,
    /// A matrix: the axes before this one, and the others.
    Flatten(i64),
    /// As it is.
    Keep,
    /// This one.
    To(Shape),
    /// Parts of these inputs' shapes, one after the other.
    Like { references: Range<usize>, parts: SmallVec<[Part; 2]> },
}

/// A part of a shape, with places that may count from the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    begin: i64,
    /// Where it ends; none for the end of the shape.
    end: Option<i64>,
}

impl Part {
    /// The part of a shape that NumPy's `shape[begin:end]` is.
    fn of<'a>(&self, shape: &'a [usize]) -> &'a [usize] {
        let place = |place: i64| {
            let rank = shape.len() as i64;
            let place = if place < 0 { place.saturating_add(rank) } else { place };
            place.clamp(0, rank) as usize
        };
        let (begin, end) = (place(self.begin), self.end.map_or(shape.len(), place));
        shape.get(begin..end).unwrap_or_default()
    }
}

/// What a 0 in the `shape` of `reshape` takes over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Zeros {
    /// The dimension of the same axis; the ranks have to be equal (iOS 15).
    SameAxis,
    /// The dimension of the same axis counted from the end, else 1 (iOS 17).
    FromTheEnd,
}

impl Rule {
    fn apply(&self, inputs: &Inputs, x: &[usize]) -> Result<Shape, OpError> {
        match self {
            Rule::Given { shape, zeros } => given(x, &inputs.ints(*shape)?, *zeros),
            Rule::Insert(axes) => inserted(x, axes),
            Rule::Remove(axes) => removed(x, axes),
            Rule::RemoveAll => Ok(x.iter().copied().filter(|&size| size != 1).collect()),
            Rule::Flatten(at) => {
                // As a place between axes, `at` may also be the rank.
                let place =
                    if *at == x.len() as i64 { x.len() } else { axis(*at, x.len(), "axis")? };
                Ok(Shape::from_slice(&[count(&x[..place]), count(&x[place..])]))
            }
            Rule::Keep => Ok(Shape::from_slice(x)),
            Rule::To(shape) => Ok(shape.clone()),
            Rule::Like { references, parts } => {
                let mut shape = Shape::new();
                for (reference, part) in references.clone().zip(parts) {
                    shape.extend_from_slice(part.of(inputs.shape(reference)?));
                }
                if element_count(&shape) == element_count(x) {
                    return Ok(shape);
                }
                let got = format!("{:?} for a tensor of shape {x:?}", shape.as_slice());
                Err(OpError::argument("ref_tensors", "a shape for as many elements", got))
            }
        }
    }
}

fn inherited(x: &[usize], index: usize, rank: usize, zeros: Zeros) -> Result<usize, OpError> {
    match zeros {
        Zeros::SameAxis if x.len() != rank => Err(OpError::argument(
            "shape",
            format!("{} dimensions, since one is 0 (taken over from `x`)", x.len()),
            format!("{rank} dimensions"),
        )),
        Zeros::SameAxis => Ok(x[index]),
        Zeros::FromTheEnd => {
            Ok((x.len() + index).checked_sub(rank).and_then(|i| x.get(i).copied()).unwrap_or(1))
        }
    }
}

fn given(x: &[usize], wanted: &[i64], zeros: Zeros) -> Result<Shape, OpError> {
    let fail = || {
        OpError::argument(
            "shape",
            format!("a shape for the elements of {x:?}"),
            format!("{wanted:?}"),
        )
    };
    let mut shape = Shape::new();
    let mut open = None;
    for (index, &size) in wanted.iter().enumerate() {
        match size {
            0 => shape.push(inherited(x, index, wanted.len(), zeros)?),
            -1 if open.is_none() => {
                open = Some(index);
                shape.push(1);
            }
            size => shape.push(usize::try_from(size).map_err(|_| fail())?),
        }
    }
    let total = element_count(x).ok_or_else(fail)?;
    if let Some(open) = open {
        shape[open] = total.checked_div(count(&shape)).ok_or_else(fail)?;
    }
    if element_count(&shape) == Some(total) { Ok(shape) } else { Err(fail()) }
}

fn inserted(x: &[usize], axes: &[i64]) -> Result<Shape, OpError> {
    let rank = x.len() + axes.len();
    let mut places: SmallVec<[usize; 8]> = SmallVec::new();
    for &place in axes {
        places.push(axis(place, rank, "axes")?);
    }
    let mut rest = x.iter().copied();
    let shape: Shape =
        (0..rank).map_while(|i| if places.contains(&i) { Some(1) } else { rest.next() }).collect();
    if shape.len() != rank {
        return Err(OpError::argument("axes", "axes that differ", format!("{axes:?}")));
    }
    Ok(shape)
}

fn removed(x: &[usize], axes: &[i64]) -> Result<Shape, OpError> {
    let mut places: SmallVec<[usize; 8]> = SmallVec::new();
    for &place in axes {
        places.push(axis(place, x.len(), "axes")?);
    }
    let kept = |&(i, &size): &(usize, &usize)| size != 1 || !places.contains(&i);
    Ok(x.iter().enumerate().filter(kept).map(|(_, &size)| size).collect())
}

impl Movement for Reshape {
    fn x(&self) -> usize {
        self.x
    }

    fn reads_shape_only(&self, input: usize) -> bool {
        matches!(&self.rule, Rule::Like { references, .. } if references.contains(&input))
    }

    fn moved(
        &self,
        inputs: &Inputs,
        shape: &[usize],
        strides: &Strides,
    ) -> Result<SmallVec<[Moved; 1]>, OpError> {
        let to = self.rule.apply(inputs, shape)?;
        let axes: SmallVec<[(usize, isize); 6]> =
            shape.iter().copied().zip(strides.iter().copied()).collect();
        Ok(smallvec![Moved::joined(to, &axes)])
    }
}

fn reshape_with(binder: &mut Binder, zeros: Zeros) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let shape = binder.input("shape")?;
    bound(Reshape { x, rule: Rule::Given { shape, zeros } })
}

fn reshape(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    reshape_with(binder, Zeros::SameAxis)
}

fn reshape_ios17(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    reshape_with(binder, Zeros::FromTheEnd)
}

fn reshape_like(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, references) = (binder.input("x")?, binder.inputs("ref_tensors")?);
    let (begins, ends) = (binder.int_list("begins")?, binder.int_list("ends")?);
    let masks = binder.int_list("end_masks")?;
    for (name, list) in [("begins", &begins), ("ends", &ends), ("end_masks", &masks)] {
        if list.len() != references.len() {
            let expected = format!("one for each of {} tensors", references.len());
            return Err(OpError::argument(name, expected, list.len().to_string()));
        }
    }
    let ends =
        ends.into_iter().zip(masks).map(|(end, to_the_end)| (to_the_end == 0).then_some(end));
    let parts = begins.into_iter().zip(ends).map(|(begin, end)| Part { begin, end }).collect();
    bound(Reshape { x, rule: Rule::Like { references, parts } })
}

fn expand_dims(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    bound(Reshape { x, rule: Rule::Insert(binder.ints("axes")?) })
}

fn squeeze(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let rule = binder.optional_ints("axes")?.map_or(Rule::RemoveAll, Rule::Remove);
    bound(Reshape { x, rule })
}

fn flatten2d(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    bound(Reshape { x, rule: Rule::Flatten(binder.int("axis")?) })
}

/// `identity`, of the `tensor_operation` family.
pub(super) fn identity(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(Reshape { x: binder.input("x")?, rule: Rule::Keep })
}

/// Takes the elements of `x` in another order.
#[derive(Clone, Debug)]
pub(crate) struct Reorder {
    pub(crate) x: usize,
    pub(crate) order: Order,
}

/// The order in which [`Reorder`] takes elements.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// Axes permuted.
    Permute(SmallVec<[i64; 8]>),
    /// These axes backwards; all of them if there are none.
    Reverse(Option<SmallVec<[i64; 8]>>),
    /// Windows of `size` elements along an axis, `stride` apart.
    Windows { axis: i64, size: usize, stride: usize },
    /// Channels to blocks of pixels. A channel counts before or after the place in its block.
    ChannelsToPixels { block: usize, channels_first: bool },
    /// Blocks of pixels to channels, the other way round.
    PixelsToChannels { block: usize, channels_first: bool },
}

impl Movement for Reorder {
    fn x(&self) -> usize {
        self.x
    }

    fn moved(
        &self,
        _inputs: &Inputs,
        shape: &[usize],
        strides: &Strides,
    ) -> Result<SmallVec<[Moved; 1]>, OpError> {
        let moved = match &self.order {
            Order::Permute(axes) => permuted(shape, strides, axes),
            Order::Reverse(axes) => reversed(shape, strides, axes.as_deref()),
            Order::Windows { axis, size, stride } => windows(shape, strides, *axis, *size, *stride),
            Order::ChannelsToPixels { block, channels_first } => {
                channels_to_pixels(shape, strides, *block, *channels_first)
            }
            Order::PixelsToChannels { block, channels_first } => {
                pixels_to_channels(shape, strides, *block, *channels_first)
            }
        };
        Ok(smallvec![moved?])
    }
}

fn permuted(x: &[usize], strides: &Strides, axes: &[i64]) -> Result<Moved, OpError> {
    let mut perm: SmallVec<[usize; 6]> = SmallVec::new();
    for &place in axes {
        let place = axis(place, x.len(), "perm")?;
        if perm.contains(&place) {
            return Err(OpError::argument("perm", "each axis once", format!("{axes:?}")));
        }
        perm.push(place);
    }
    if perm.len() != x.len() {
        let expected = format!("{} axes", x.len());
        return Err(OpError::argument("perm", expected, format!("{} axes", perm.len())));
    }
    let shape = perm.iter().map(|&place| x[place]).collect();
    let strides = perm.iter().map(|&place| strides[place]).collect();
    Ok(Moved::view(shape, View { start: 0, strides }))
}

fn reversed(x: &[usize], strides: &Strides, axes: Option<&[i64]>) -> Result<Moved, OpError> {
    let mut backwards: SmallVec<[bool; 8]> = SmallVec::from_elem(axes.is_none(), x.len());
    for &place in axes.unwrap_or_default() {
        backwards[axis(place, x.len(), "axes")?] ^= true;
    }
    let mut start = 0isize;
    let mut result = Strides::new();
    for ((&size, &stride), &back) in x.iter().zip(strides).zip(&backwards) {
        if back {
            let last = isize::try_from(size.saturating_sub(1)).unwrap_or(isize::MAX);
            start = start.saturating_add(last.saturating_mul(stride));
        }
        result.push(if back { -stride } else { stride });
    }
    Ok(Moved::view(Shape::from_slice(x), View { start, strides: result }))
}

fn windows(
    x: &[usize],
    strides: &Strides,
    along: i64,
    size: usize,
    step: usize,
) -> Result<Moved, OpError> {
    let along = axis(along, x.len(), "axis")?;
    let room = x[along].checked_sub(size).ok_or_else(|| {
        OpError::argument("size", format!("at most {}, the axis' size", x[along]), size.to_string())
    })?;
    let number = room.checked_div(step).map_or(0, |steps| steps + 1);
    let (mut shape, mut result) = (Shape::from_slice(x), strides.clone());
    shape[along] = number;
    shape.insert(along + 1, size);
    result[along] = strides[along].saturating_mul(isize::try_from(step).unwrap_or(isize::MAX));
    result.insert(along + 1, strides[along]);
    Ok(Moved::view(shape, View { start: 0, strides: result }))
}

/// The sizes and strides of a tensor of images.
fn image(x: &[usize], strides: &Strides) -> Result<([usize; 4], [isize; 4]), OpError> {
    match (<[usize; 4]>::try_from(x), <[isize; 4]>::try_from(strides.as_slice())) {
        (Ok(sizes), Ok(strides)) => Ok((sizes, strides)),
        _ => Err(OpError::argument("x", "a tensor of rank 4", format!("one of shape {x:?}"))),
    }
}

fn indivisible(name: &str, size: usize, block: usize) -> OpError {
    OpError::argument("x", format!("{name} that {block} divides"), size.to_string())
}

fn channels_to_pixels(
    x: &[usize],
    strides: &Strides,
    block: usize,
    channels_first: bool,
) -> Result<Moved, OpError> {
    let ([n, c, h, w], [of_n, of_c, of_h, of_w]) = image(x, strides)?;
    let square = block.checked_mul(block).filter(|&square| square > 0 && c % square == 0);
    let channels = c / square.ok_or_else(|| indivisible("channels", c, block))?;
    // A channel of `x` is a channel of the result and a place in a block of pixels.
    let step = |size: usize| (size as isize).saturating_mul(of_c);
    let (of_channel, of_row, of_column) = if channels_first {
        (step(block * block), step(block), of_c)
    } else {
        (of_c, step(block.saturating_mul(channels)), step(channels))
    };
    let shape = [n, channels, h.saturating_mul(block), w.saturating_mul(block)];
    let axes = [
        (n, of_n),
        (channels, of_channel),
        (h, of_h),
        (block, of_row),
        (w, of_w),
        (block, of_column),
    ];
    Ok(Moved::joined(Shape::from_slice(&shape), &axes))
}

fn pixels_to_channels(
    x: &[usize],
    strides: &Strides,
    block: usize,
    channels_first: bool,
) -> Result<Moved, OpError> {
    let ([n, c, h, w], [of_n, of_c, of_h, of_w]) = image(x, strides)?;
    if block == 0 || h % block != 0 || w % block != 0 {
        let size = if block > 0 && h % block == 0 { w } else { h };
        return Err(indivisible("height and width", size, block));
    }
    let step = |stride: isize| stride.saturating_mul(block as isize);
    let places = [(block, of_h), (block, of_w)];
    let [first, second, third] = if channels_first {
        [(c, of_c), places[0], places[1]]
    } else {
        [places[0], places[1], (c, of_c)]
    };
    let channels = c.saturating_mul(block).saturating_mul(block);
    let shape = [n, channels, h / block, w / block];
    let axes = [(n, of_n), first, second, third, (h / block, step(of_h)), (w / block, step(of_w))];
    Ok(Moved::joined(Shape::from_slice(&shape), &axes))
}

fn transpose(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    bound(Reorder { x, order: Order::Permute(binder.ints("perm")?) })
}

fn reverse(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    bound(Reorder { x, order: Order::Reverse(binder.optional_ints("axes")?) })
}

fn sliding_windows(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let axis = binder.int("axis")?;
    let (size, stride) = (binder.positive("size")?, binder.positive("stride")?);
    bound(Reorder { x, order: Order::Windows { axis, size, stride } })
}

fn depth_to_space(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let block = binder.positive("block_size")?;
    bound(Reorder { x, order: Order::ChannelsToPixels { block, channels_first: false } })
}

fn space_to_depth(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let block = binder.positive("block_size")?;
    bound(Reorder { x, order: Order::PixelsToChannels { block, channels_first: false } })
}

fn pixel_shuffle(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let block = binder.positive("upscale_factor")?;
    bound(Reorder { x, order: Order::ChannelsToPixels { block, channels_first: true } })
}

fn pixel_unshuffle(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let block = binder.positive("downscale_factor")?;
    bound(Reorder { x, order: Order::PixelsToChannels { block, channels_first: true } })
}

pub(super) const OPS: &[OpDef] = &[
    def("depth_to_space", Opset::Ios15, depth_to_space),
    def("expand_dims", Opset::Ios15, expand_dims),
    def("expand_dims", Opset::Ios17, expand_dims),
    def("flatten2d", Opset::Ios15, flatten2d),
    def("pixel_shuffle", Opset::Ios15, pixel_shuffle),
    def("pixel_unshuffle", Opset::Ios16, pixel_unshuffle),
    def("reshape", Opset::Ios15, reshape),
    def("reshape", Opset::Ios17, reshape_ios17),
    def("reshape_like", Opset::Ios16, reshape_like),
    def("reshape_like", Opset::Ios17, reshape_like),
    def("reverse", Opset::Ios15, reverse),
    def("reverse", Opset::Ios17, reverse),
    def("sliding_windows", Opset::Ios15, sliding_windows),
    def("sliding_windows", Opset::Ios17, sliding_windows),
    def("space_to_depth", Opset::Ios15, space_to_depth),
    def("squeeze", Opset::Ios15, squeeze),
    def("squeeze", Opset::Ios17, squeeze),
    def("transpose", Opset::Ios15, transpose),
    def("transpose", Opset::Ios17, transpose),
];

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::op::testing::{Case, arange, indices, position};

    fn shape_and_order() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
        prop::collection::vec(1usize..4, 1..5).prop_flat_map(|shape| {
            let order: Vec<usize> = (0..shape.len()).collect();
            (Just(shape), Just(order).prop_shuffle())
        })
    }

    proptest! {
        #[test]
        fn transposes_reorder_axes((shape, order) in shape_and_order()) {
            let result: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
            let mut expected = vec![0; shape.iter().product()];
            for index in indices(&shape) {
                let to: Vec<usize> = order.iter().map(|&axis| index[axis]).collect();
                expected[position(&result, &to)] = position(&shape, &index) as i32;
            }
            let order: Vec<i32> = order.iter().map(|&axis| axis as i32).collect();
            let case = Case::new().ints("x", &shape, &arange(&shape)).vector("perm", &order);
            prop_assert_eq!(case.run_ints("transpose", Opset::Ios15), (result, expected));
        }
    }

    #[test]
    fn halves_move_as_they_are() {
        let case = || Case::new().halves("x", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let bits = |case: Case, operator: &str| -> Vec<f32> {
            let result = case.run(operator, Opset::Ios15).unwrap();
            result[0].values::<f16>().iter().map(|value| value.to_f32()).collect()
        };
        assert_eq!(bits(case().vector("perm", &[1, 0]), "transpose"), [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(bits(case().vector("axes", &[0]), "reverse"), [3.0, 4.0, 1.0, 2.0]);
        assert_eq!(bits(case().vector("axes", &[0]), "expand_dims"), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn parts_of_another_shape_make_a_shape() {
        let run = |begin: i32, ends: &[i32]| {
            let case = Case::new().ints("x", &[6], &arange(&[6]));
            let case = case.floats("ref_tensors", &[2, 3], &[0.0; 6]).int("begins", begin);
            let case = case.dense("end_masks", ElementType::Bool, &[], &[0u8]);
            let case = ends.iter().fold(case, |case, &end| case.int("ends", end));
            case.run("reshape_like", Opset::Ios17)
        };
        assert_eq!(run(-2, &[9]).unwrap()[0].shape(), [2, 3]);
        let message = |begin, ends: &[i32]| run(begin, ends).err().unwrap().to_string();
        assert!(message(1, &[2]).contains("ref_tensors"));
        assert!(message(2, &[1]).contains("ref_tensors"));
        assert!(message(0, &[2, 2]).contains("ends"));
        assert!(message(0, &[]).contains("ends"));
    }
}
