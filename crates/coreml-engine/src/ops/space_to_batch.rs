//! `space_to_batch` and `batch_to_space`, of the `tensor_transformation` family.

use coreml_format::mil::Opset;

use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, bound, def, kernel, one};
use crate::value::{Element, Shape, TensorMut, TensorRef, Visitor, count, same_count};
use crate::weights::Weights;

/// The pixels of images parted among several images, or put together again. With blocks of `b` by `c`
/// pixels, image `n` of `count` has its pixel `i, j` of a block in image `(i * c + j) * count + n`.
#[derive(Clone, Debug)]
struct SpaceToBatch {
    x: usize,
    /// Height and width of the blocks.
    block: [usize; 2],
    /// Rows and columns before and after the images, which are zero or left out.
    edges: [[usize; 2]; 2],
    /// From images to their parts.
    apart: bool,
}

/// The sizes of both sides.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Whole images: number, channels, height and width.
    whole: [usize; 4],
    /// Parts of images.
    parts: [usize; 4],
}

impl SpaceToBatch {
    fn sizes(&self, inputs: &Inputs) -> Result<Sizes, OpError> {
        let shape = inputs.shape(self.x)?;
        let &[images, channels, height, width] = shape else {
            let got = format!("one of shape {shape:?}");
            return Err(OpError::argument("x", "a tensor of rank 4", got));
        };
        let [rows, columns] = self.block;
        let each = rows.checked_mul(columns).ok_or_else(OpError::too_large)?;
        let names = ["height", "width"];
        if self.apart {
            let mut size = [height, width];
            for (axis, size) in size.iter_mut().enumerate() {
                let [before, after] = self.edges[axis];
                let padded = size.checked_add(before).and_then(|size| size.checked_add(after));
                let padded = padded.ok_or_else(OpError::too_large)?;
                if !padded.is_multiple_of(self.block[axis]) {
                    let expected =
                        format!("a {} with padding that {} divides", names[axis], self.block[axis]);
                    return Err(OpError::argument("paddings", expected, padded.to_string()));
                }
                *size = padded / self.block[axis];
            }
            let count = images.checked_mul(each).ok_or_else(OpError::too_large)?;
            let parts = [count, channels, size[0], size[1]];
            return Ok(Sizes { whole: [images, channels, height, width], parts });
        }
        if !images.is_multiple_of(each) {
            let expected = format!("a number of images that {each}, the size of a block, divides");
            return Err(OpError::argument("x", expected, images.to_string()));
        }
        let mut size = [height, width];
        for (axis, size) in size.iter_mut().enumerate() {
            let [before, after] = self.edges[axis];
            let joined = size.checked_mul(self.block[axis]).ok_or_else(OpError::too_large)?;
            let left = before.checked_add(after).and_then(|crop| joined.checked_sub(crop));
            *size = left.ok_or_else(|| {
                let expected = format!("at most {joined}, the {}", names[axis]);
                OpError::argument("crops", expected, format!("{:?}", self.edges[axis]))
            })?;
        }
        let whole = [images / each, channels, size[0], size[1]];
        Ok(Sizes { whole, parts: [images, channels, height, width] })
    }
}

/// A run, whatever the type of the elements.
struct Move<'a, 'b> {
    op: &'a SpaceToBatch,
    sizes: Sizes,
    x: &'a TensorRef<'a>,
    out: &'a mut TensorMut<'b>,
}

impl Visitor for Move<'_, '_> {
    type Output = Result<(), OpError>;

    fn visit<T: Element>(self) -> Self::Output {
        let Move { op, sizes, x, out } = self;
        let x = bytemuck::try_cast_slice::<u8, T>(x.dense_bytes()?);
        let out = bytemuck::try_cast_slice_mut::<u8, T>(out.bytes);
        let (Ok(x), Ok(out)) = (x, out) else {
            return Err(OpError::invalid("elements that do not lie as their type asks"));
        };
        let Sizes { whole, parts } = sizes;
        let (from, to) = if op.apart { (whole, parts) } else { (parts, whole) };
        same_count(count(&from), x.len())?;
        same_count(count(&to), out.len())?;
        if out.is_empty() {
            return Ok(());
        }
        if op.apart {
            out.fill(T::default());
        }
        for part_row in 0..count(&parts[..3]) {
            let Some(row) = op.row(&sizes, part_row) else { continue };
            let (start, step) = (row.whole, op.block[1]);
            if op.apart {
                let source = x[start..].iter().step_by(step);
                let out = &mut out[row.part..row.part + row.count];
                out.iter_mut().zip(source).for_each(|(out, &x)| *out = x);
            } else {
                let source = &x[row.part..row.part + row.count];
                let out = out[start..].iter_mut().step_by(step);
                out.zip(source).for_each(|(out, &x)| *out = x);
            }
        }
        Ok(())
    }
}

/// What a row of a part shares with a whole image.
struct Row {
    /// Its first element in the part.
    part: usize,
    /// The same element in the whole, from where on each next one is as far as a block is wide.
    whole: usize,
    count: usize,
}

impl SpaceToBatch {
    /// What row `number` of all parts shares with the whole, if it does.
    fn row(&self, sizes: &Sizes, number: usize) -> Option<Row> {
        let Sizes { whole: [images, channels, height, width], parts: [_, _, rows, columns] } =
            *sizes;
        let (rest, row) = (number / rows, number % rows);
        let (image, channel) = (rest / channels, rest % channels);
        let (place, image) = (image / images, image % images);
        let y = (row * self.block[0] + place / self.block[1]).checked_sub(self.edges[0][0])?;
        if y >= height {
            return None;
        }
        let (place, before) = (place % self.block[1], self.edges[1][0]);
        let first = before.saturating_sub(place).div_ceil(self.block[1]);
        let x = first * self.block[1] + place - before;
        let shared =
            width.saturating_sub(x).div_ceil(self.block[1]).min(columns.saturating_sub(first));
        (shared > 0).then_some(Row {
            part: number * columns + first,
            whole: ((image * channels + channel) * height + y) * width + x,
            count: shared,
        })
    }
}

impl Op for SpaceToBatch {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let sizes = self.sizes(inputs)?;
        let shape = if self.apart { sizes.parts } else { sizes.whole };
        one(inputs.element(self.x)?, Shape::from_slice(&shape))
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (op, sizes) = (self.clone(), self.sizes(inputs)?);
        kernel(move |inputs, outputs, _context| {
            let (x, out) = (inputs.tensor(op.x)?, outputs.tensor(0)?);
            x.storage.visit_bits(Move { op: &op, sizes, x: &x, out })
        })
    }

    fn reads_half(&self, _input: usize) -> bool {
        true
    }

    fn keeps_storage_of(&self) -> Option<usize> {
        Some(self.x)
    }
}

fn bind(binder: &mut Binder, edges: &str, apart: bool) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let (block, sizes) = (binder.shape("block_shape")?, binder.shape(edges)?);
    let &[rows, columns] = block.as_slice() else {
        let expected = "two sizes, of height and width";
        return Err(OpError::argument("block_shape", expected, format!("{:?}", block.as_slice())));
    };
    if rows == 0 || columns == 0 {
        return Err(OpError::argument(
            "block_shape",
            "positive sizes",
            format!("{rows}, {columns}"),
        ));
    }
    let &[top, bottom, left, right] = sizes.as_slice() else {
        let expected = "sizes before and after, of height and width";
        return Err(OpError::argument(edges, expected, format!("{:?}", sizes.as_slice())));
    };
    let edges = [[top, bottom], [left, right]];
    bound(SpaceToBatch { x, block: [rows, columns], edges, apart })
}

fn space_to_batch(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bind(binder, "paddings", true)
}

fn batch_to_space(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bind(binder, "crops", false)
}

pub(super) const OPS: &[OpDef] = &[
    def("batch_to_space", Opset::Ios15, batch_to_space),
    def("space_to_batch", Opset::Ios15, space_to_batch),
];

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;
    use proptest::prelude::*;

    use super::*;
    use crate::op::testing::{Case, indices, position};

    proptest! {
        #[test]
        fn pixels_go_apart_and_come_together(
            [images, channels, rows, columns] in [1usize..3, 1usize..3, 1usize..4, 1usize..4],
            [height, width] in [1usize..4, 1usize..4],
            edges in any::<[prop::sample::Index; 4]>(),
        ) {
            // Sizes with edges that make them whole blocks.
            let padded = [height * rows, width * columns];
            let [top, bottom] = [edges[0].index(padded[0]), edges[1].index(padded[0])];
            let [left, right] = [edges[2].index(padded[1]), edges[3].index(padded[1])];
            prop_assume!(top + bottom < padded[0] && left + right < padded[1]);
            let whole = [images, channels, padded[0] - top - bottom, padded[1] - left - right];
            let parts = [images * rows * columns, channels, height, width];
            let x: Vec<f32> = (1..).take(count(&whole)).map(|x| x as f32).collect();
            let expected: Vec<f32> = indices(&parts)
                .iter()
                .map(|at| {
                    let (place, image) = (at[0] / images, at[0] % images);
                    let y = (at[2] * rows + place / columns).checked_sub(top)?;
                    let x = (at[3] * columns + place % columns).checked_sub(left)?;
                    (y < whole[2] && x < whole[3]).then(|| position(&whole, &[image, at[1], y, x]))
                })
                .map(|place| place.map_or(0.0, |place| x[place]))
                .collect();
            let block = [rows as i32, columns as i32];
            let edges = [top, bottom, left, right].map(|edge| edge as i32);
            let with = |case: Case, name| {
                case.vector("block_shape", &block).dense(name, ElementType::Int32, &[2, 2], &edges)
            };
            let apart = with(Case::new().floats("x", &whole, &x), "paddings");
            let got = apart.run_floats("space_to_batch", Opset::Ios15);
            prop_assert_eq!(&got, &(parts.to_vec(), expected));
            let together = with(Case::new().floats("x", &parts, &got.1), "crops");
            prop_assert_eq!(together.run_floats("batch_to_space", Opset::Ios15), (whole.to_vec(), x));
        }
    }

    #[test]
    fn sizes_that_do_not_fit() {
        let message = |operator, shape: &[usize], edges: &str, block: &[i32], sizes: &[i32]| {
            let x = vec![0.0; count(shape)];
            let case = Case::new().floats("x", shape, &x).vector("block_shape", block);
            let edges: &'static str = if edges == "crops" { "crops" } else { "paddings" };
            case.vector(edges, sizes).run(operator, Opset::Ios15).err().unwrap().to_string()
        };
        let apart = |shape: &[usize], block: &[i32], sizes: &[i32]| {
            message("space_to_batch", shape, "paddings", block, sizes)
        };
        assert!(apart(&[1, 1, 3, 2], &[2, 2], &[0; 4]).contains("height"));
        assert!(apart(&[1, 1, 2, 2], &[0, 2], &[0; 4]).contains("block_shape"));
        assert!(apart(&[1, 1, 2, 2], &[2], &[0; 4]).contains("block_shape"));
        assert!(apart(&[1, 1, 2, 2], &[2, 2], &[0; 2]).contains("paddings"));
        assert!(apart(&[1, 2, 2], &[2, 2], &[0; 4]).contains("rank 4"));
        let together = |images, sizes: &[i32]| {
            message("batch_to_space", &[images, 1, 1, 1], "crops", &[2, 2], sizes)
        };
        assert!(together(3, &[0; 4]).contains("divides"));
        assert!(together(4, &[0, 0, 2, 1]).contains("crops"));
    }
}
