//! Operations that change a tensor's shape or the order of its elements.

use coreml_format::mil::Opset;
use smallvec::SmallVec;

use super::strided::{Layout, count, row_major};
use super::{Binder, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, axis, def, one};
use crate::value::{Shape, element_count};

/// Gives a tensor another shape; the elements stay where they are.
struct Reshape {
    x: usize,
    rule: Rule,
}

/// How [`Reshape`] finds the result's shape.
enum Rule {
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
}

/// What a 0 in the `shape` of `reshape` takes over.
#[derive(Clone, Copy)]
enum Zeros {
    /// The dimension of the same axis; the ranks have to be equal (iOS 15).
    SameAxis,
    /// The dimension of the same axis counted from the end, else 1 (iOS 17).
    FromTheEnd,
}

impl Rule {
    fn apply(&self, inputs: &Inputs, x: &[usize]) -> Result<Shape, OpError> {
        match self {
            Rule::Given { shape, zeros } => reshaped(x, &inputs.ints(*shape)?, *zeros),
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

fn reshaped(x: &[usize], wanted: &[i64], zeros: Zeros) -> Result<Shape, OpError> {
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

impl Op for Reshape {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.x)?, self.rule.apply(inputs, inputs.shape(self.x)?)?)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        if inputs.is_in_place(self.x) {
            return Ok(());
        }
        let x = inputs.tensor(self.x)?;
        let out = outputs.tensor(0)?;
        super::strided::same_count(out.bytes.len(), x.bytes.len())?;
        out.bytes.copy_from_slice(x.bytes);
        Ok(())
    }

    fn accepts_half(&self, input: usize) -> bool {
        input == self.x
    }

    fn keeps_storage_of(&self) -> Option<usize> {
        Some(self.x)
    }

    fn view(&self, _inputs: &Inputs, _output: usize) -> Option<(usize, usize)> {
        Some((self.x, 0))
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn reshape_with(binder: &mut Binder, zeros: Zeros) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let shape = binder.input("shape")?;
    Ok(Box::new(Reshape { x, rule: Rule::Given { shape, zeros } }))
}

fn reshape(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    reshape_with(binder, Zeros::SameAxis)
}

fn reshape_ios17(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    reshape_with(binder, Zeros::FromTheEnd)
}

fn expand_dims(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    Ok(Box::new(Reshape { x, rule: Rule::Insert(binder.required_ints("axes")?) }))
}

fn squeeze(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let rule = binder.ints("axes")?.map_or(Rule::RemoveAll, Rule::Remove);
    Ok(Box::new(Reshape { x, rule }))
}

fn flatten2d(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    Ok(Box::new(Reshape { x, rule: Rule::Flatten(binder.int("axis")?.unwrap_or(1)) }))
}

/// `identity`, of the `tensor_operation` family.
pub(super) fn identity(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Reshape { x: binder.input("x")?, rule: Rule::Keep }))
}

/// Takes the elements of `x` in another order.
struct Reorder {
    x: usize,
    order: Order,
}

/// The order in which [`Reorder`] takes elements.
enum Order {
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

impl Order {
    /// The result's shape, and where its elements lie in `x`.
    fn apply(&self, x: &[usize]) -> Result<(Shape, Layout), OpError> {
        match self {
            Order::Permute(axes) => permuted(x, axes),
            Order::Reverse(axes) => reversed(x, axes.as_deref()),
            Order::Windows { axis, size, stride } => windows(x, *axis, *size, *stride),
            Order::ChannelsToPixels { block, channels_first } => {
                channels_to_pixels(x, *block, *channels_first)
            }
            Order::PixelsToChannels { block, channels_first } => {
                pixels_to_channels(x, *block, *channels_first)
            }
        }
    }
}

fn permuted(x: &[usize], axes: &[i64]) -> Result<(Shape, Layout), OpError> {
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
    Ok((shape, Layout::permuted(x, &perm)))
}

fn reversed(x: &[usize], axes: Option<&[i64]>) -> Result<(Shape, Layout), OpError> {
    let mut backwards: SmallVec<[bool; 8]> = SmallVec::from_elem(axes.is_none(), x.len());
    for &place in axes.unwrap_or_default() {
        backwards[axis(place, x.len(), "axes")?] ^= true;
    }
    let mut start = 0usize;
    let mut walk: SmallVec<[(usize, isize); 6]> = SmallVec::new();
    for ((&size, stride), &back) in x.iter().zip(row_major(x)).zip(&backwards) {
        if back {
            start = start.saturating_add(size.saturating_sub(1).saturating_mul(stride));
        }
        walk.push((size, if back { -(stride as isize) } else { stride as isize }));
    }
    Ok((Shape::from_slice(x), Layout::new(start, walk)))
}

fn windows(
    x: &[usize],
    along: i64,
    size: usize,
    stride: usize,
) -> Result<(Shape, Layout), OpError> {
    let along = axis(along, x.len(), "axis")?;
    let room = x[along].checked_sub(size).ok_or_else(|| {
        OpError::argument("size", format!("at most {}, the axis' size", x[along]), size.to_string())
    })?;
    let (mut shape, mut walk) = (Shape::new(), SmallVec::<[(usize, isize); 6]>::new());
    for (i, (&dimension, step)) in x.iter().zip(row_major(x)).enumerate() {
        if i == along {
            let number = room.checked_div(stride).map_or(0, |steps| steps + 1);
            shape.extend([number, size]);
            walk.extend([(number, step.saturating_mul(stride) as isize), (size, step as isize)]);
        } else {
            shape.push(dimension);
            walk.push((dimension, step as isize));
        }
    }
    Ok((shape, Layout::new(0, walk)))
}

fn image(x: &[usize]) -> Result<[usize; 4], OpError> {
    <[usize; 4]>::try_from(x)
        .map_err(|_| OpError::argument("x", "a tensor of rank 4", format!("one of shape {x:?}")))
}

fn indivisible(name: &str, size: usize, block: usize) -> OpError {
    OpError::argument("x", format!("{name} that {block} divides"), size.to_string())
}

fn channels_to_pixels(
    x: &[usize],
    block: usize,
    channels_first: bool,
) -> Result<(Shape, Layout), OpError> {
    let [n, c, h, w] = image(x)?;
    let square = block.checked_mul(block).filter(|&square| square > 0 && c % square == 0);
    let channels = c / square.ok_or_else(|| indivisible("channels", c, block))?;
    let (split, order) = if channels_first {
        ([n, channels, block, block, h, w], [0, 1, 4, 2, 5, 3])
    } else {
        ([n, block, block, channels, h, w], [0, 3, 4, 1, 5, 2])
    };
    let shape = [n, channels, h.saturating_mul(block), w.saturating_mul(block)];
    Ok((Shape::from_slice(&shape), Layout::permuted(&split, &order)))
}

fn pixels_to_channels(
    x: &[usize],
    block: usize,
    channels_first: bool,
) -> Result<(Shape, Layout), OpError> {
    let [n, c, h, w] = image(x)?;
    if block == 0 || h % block != 0 || w % block != 0 {
        return Err(indivisible(
            "height and width",
            if block > 0 && h % block == 0 { w } else { h },
            block,
        ));
    }
    let split = [n, c, h / block, block, w / block, block];
    let order = if channels_first { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
    let channels = c.saturating_mul(block).saturating_mul(block);
    let shape = [n, channels, h / block, w / block];
    Ok((Shape::from_slice(&shape), Layout::permuted(&split, &order)))
}

impl Op for Reorder {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.x)?, self.order.apply(inputs.shape(self.x)?)?.0)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let x = inputs.tensor(self.x)?;
        let layout = self.order.apply(x.shape)?.1;
        layout.read(x.bytes, outputs.tensor(0)?.bytes, x.storage.size())
    }

    fn accepts_half(&self, _input: usize) -> bool {
        true
    }

    fn keeps_storage_of(&self) -> Option<usize> {
        Some(self.x)
    }

    fn view(&self, inputs: &Inputs, _output: usize) -> Option<(usize, usize)> {
        let layout = self.order.apply(inputs.shape(self.x).ok()?).ok()?.1;
        layout.contiguous().map(|start| (self.x, start))
    }
}

fn transpose(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    Ok(Box::new(Reorder { x, order: Order::Permute(binder.required_ints("perm")?) }))
}

fn reverse(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    Ok(Box::new(Reorder { x, order: Order::Reverse(binder.ints("axes")?) }))
}

/// A constant that has to be a positive integer.
fn positive(name: &str, value: i64) -> Result<usize, OpError> {
    usize::try_from(value)
        .ok()
        .filter(|&value| value > 0)
        .ok_or_else(|| OpError::argument(name, "a positive integer", value.to_string()))
}

fn sliding_windows(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let axis = binder.required_int("axis")?;
    let size = positive("size", binder.required_int("size")?)?;
    let stride = positive("stride", binder.int("stride")?.unwrap_or(1))?;
    Ok(Box::new(Reorder { x, order: Order::Windows { axis, size, stride } }))
}

fn depth_to_space(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let block = positive("block_size", binder.required_int("block_size")?)?;
    Ok(Box::new(Reorder { x, order: Order::ChannelsToPixels { block, channels_first: false } }))
}

fn space_to_depth(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let block = positive("block_size", binder.required_int("block_size")?)?;
    Ok(Box::new(Reorder { x, order: Order::PixelsToChannels { block, channels_first: false } }))
}

fn pixel_shuffle(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let block = positive("upscale_factor", binder.required_int("upscale_factor")?)?;
    Ok(Box::new(Reorder { x, order: Order::ChannelsToPixels { block, channels_first: true } }))
}

fn pixel_unshuffle(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let block = positive("downscale_factor", binder.required_int("downscale_factor")?)?;
    Ok(Box::new(Reorder { x, order: Order::PixelsToChannels { block, channels_first: true } }))
}

pub(super) const OPS: &[OpDef] = &[
    def("depth_to_space", Opset::Ios15, depth_to_space),
    def("expand_dims", Opset::Ios15, expand_dims),
    def("flatten2d", Opset::Ios15, flatten2d),
    def("pixel_shuffle", Opset::Ios15, pixel_shuffle),
    def("pixel_unshuffle", Opset::Ios16, pixel_unshuffle),
    def("reshape", Opset::Ios15, reshape),
    def("reshape", Opset::Ios17, reshape_ios17),
    def("reverse", Opset::Ios15, reverse),
    def("sliding_windows", Opset::Ios15, sliding_windows),
    def("space_to_depth", Opset::Ios15, space_to_depth),
    def("squeeze", Opset::Ios15, squeeze),
    def("transpose", Opset::Ios15, transpose),
];

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{Case, arange, indices, position};

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
}
