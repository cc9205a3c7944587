//! `scaled_dot_product_attention`, of the `transformers` family.

use coreml_format::mil::Opset;
use coreml_kernels::{AttentionSizes, Heads, Mask, Scoring, Table, attention};
use half::f16;
use smallvec::SmallVec;

use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Op, OpDef, ResultTypes, bound, broadcast, def, flops_of, kernel, one,
    repeated,
};
use crate::value::{Element, Shape, Storage, Strides, TensorRef, count};
use crate::weights::Weights;

/// `softmax(query · keyᵀ · scale + mask) · value`. What the mask hides before the first and after the last key
/// that a query sees is not read.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    pub(crate) query: usize,
    pub(crate) key: usize,
    pub(crate) value: usize,
    /// Bools, or numbers that are added.
    pub(crate) mask: Option<usize>,
    /// `1 / √width` if it is not told.
    pub(crate) scale: Option<f32>,
    /// Whether a query that sees no key gets NaN, as `softmax` has it, and not zeros.
    pub(crate) nan_unseen: bool,
    /// How many consecutive heads each one of `key` stands for.
    pub(crate) key_repeat: usize,
    /// How many consecutive heads each one of `value` stands for.
    pub(crate) value_repeat: usize,
}

/// The operands' sizes, checked.
struct Sizes {
    batch: Shape,
    queries: usize,
    keys: usize,
    width: usize,
    value_width: usize,
}

impl Attention {
    fn sizes(&self, inputs: &Inputs) -> Result<Sizes, OpError> {
        let query = inputs.shape(self.query)?;
        let [ref batch @ .., queries, width] = *query else {
            return Err(OpError::argument("query", "matrices", format!("shape {query:?}")));
        };
        let batch = Shape::from_slice(batch);
        let of_keys = shared(&batch, self.key_repeat)?;
        let [keys, _] = matrices(inputs, "key", self.key, &of_keys, [None, Some(width)])?;
        let of_values = shared(&batch, self.value_repeat)?;
        let [_, value_width] =
            matrices(inputs, "value", self.value, &of_values, [Some(keys), None])?;
        let sizes = Sizes { batch, queries, keys, width, value_width };
        if let Some(mask) = self.mask {
            let (mask, scores) = (inputs.shape(mask)?, sizes.scores());
            if broadcast(mask, &scores).ok().as_ref() != Some(&scores) {
                let expected = format!("a shape that broadcasts to {:?}", scores.as_slice());
                return Err(OpError::argument("attn_mask", expected, format!("{mask:?}")));
            }
        }
        Ok(sizes)
    }

    /// The sizes and the operands' steps as the kernel takes them: those who share keys and values are the
    /// queries of one head if each is one query, else heads along an axis of their own.
    fn layout(&self, inputs: &Inputs) -> Result<(Sizes, OperandSteps), OpError> {
        let Attention { query, key, value, mask, key_repeat, value_repeat, .. } = *self;
        let mut sizes = self.sizes(inputs)?;
        let group = key_repeat.max(value_repeat);
        if [key_repeat, value_repeat].iter().any(|repeat| ![1, group].contains(repeat)) {
            return Err(OpError::invalid("keys are shared by other heads than values"));
        }
        let together = group > 1 && sizes.queries == 1 && key_repeat == value_repeat;
        let steps = |steps: Steps, repeat: usize| match (together, repeat) {
            (true, 1) => steps.joined(group),
            (true, _) => steps,
            (false, _) => steps.grouped(group, repeat > 1),
        };
        let operand = |input, repeat: usize| {
            Ok::<_, OpError>(steps(Steps::of(&inputs.strides(input)?), repeat))
        };
        let mask = match mask {
            Some(mask) => {
                let (shape, strides) = (inputs.shape(mask)?, inputs.strides(mask)?);
                Some(Steps::of(&repeated(shape, &strides, &sizes.scores())))
            }
            None => None,
        };
        let operands = OperandSteps {
            query: operand(query, 1)?,
            key: operand(key, key_repeat)?,
            value: operand(value, value_repeat)?,
            mask: mask.map(|mask| steps(mask, 1)),
        };
        if let Some(heads) = sizes.batch.last_mut().filter(|_| group > 1) {
            *heads /= group;
            match together {
                true => sizes.queries = group,
                false => sizes.batch.push(group),
            }
        }
        Ok((sizes, operands))
    }
}

/// The batches of an operand each of whose heads stands for `repeat` of the queries'.
fn shared(batch: &[usize], repeat: usize) -> Result<Shape, OpError> {
    let mut shared = Shape::from_slice(batch);
    match shared.last_mut() {
        _ if repeat == 1 => {}
        Some(heads) if repeat > 0 && *heads % repeat == 0 => *heads /= repeat,
        _ => {
            let message = format!("heads {batch:?} of which {repeat} share keys or values");
            return Err(OpError::invalid(message));
        }
    }
    Ok(shared)
}

/// Rows and columns of an operand of these batches, and where told of these sizes.
fn matrices(
    inputs: &Inputs,
    name: &str,
    input: usize,
    batch: &[usize],
    sizes: [Option<usize>; 2],
) -> Result<[usize; 2], OpError> {
    let shape = inputs.shape(input)?;
    let fits = |got: [usize; 2]| {
        sizes.iter().zip(got).all(|(size, got)| size.is_none_or(|size| size == got))
    };
    match *shape {
        [ref got @ .., rows, cols] if got == batch && fits([rows, cols]) => Ok([rows, cols]),
        _ => {
            let size = |size: Option<usize>| size.map_or("_".to_owned(), |size| size.to_string());
            let [rows, cols] = sizes.map(size);
            let expected = format!("batches {batch:?} of matrices [{rows}, {cols}]");
            Err(OpError::argument(name, expected, format!("shape {shape:?}")))
        }
    }
}

impl Sizes {
    /// The shape of the scores.
    fn scores(&self) -> Shape {
        let mut shape = self.batch.clone();
        shape.extend([self.queries, self.keys]);
        shape
    }
}

/// The steps of all operands.
struct OperandSteps {
    query: Steps,
    key: Steps,
    value: Steps,
    mask: Option<Steps>,
}

/// Steps of an operand's axes: those of the batches, of rows and of columns.
#[derive(Clone)]
struct Steps(SmallVec<[usize; 6]>);

impl Steps {
    fn of(strides: &Strides) -> Self {
        Steps(strides.iter().map(|&stride| usize::try_from(stride).unwrap_or(0)).collect())
    }

    /// With the last batch axis, of heads, as two: those that share keys or values, `group` at a time, side
    /// by side; of an operand that has one for them all, if it is `shared`.
    fn grouped(mut self, group: usize, shared: bool) -> Self {
        let Some(axis) = self.0.len().checked_sub(3).filter(|_| group > 1) else { return self };
        let step = self.0[axis];
        if shared {
            self.0.insert(axis + 1, 0);
        } else {
            self.0[axis] = step.saturating_mul(group);
            self.0.insert(axis + 1, step);
        }
        self
    }

    /// With heads of a single query each that share keys and values, `group` at a time, as the queries of one
    /// head.
    fn joined(mut self, group: usize) -> Self {
        if let [.., heads, row, _] = self.0.as_mut_slice() {
            *row = *heads;
            *heads = heads.saturating_mul(group);
        }
        self
    }

    fn heads<'a, D>(&'a self, data: D) -> Heads<'a, D> {
        let (batch, matrix) = self.0.split_at(self.0.len().saturating_sub(2));
        let step = |axis: usize| matrix.get(axis).copied().unwrap_or(0);
        Heads { data, batch, row: step(0), col: step(1) }
    }
}

/// The elements from a tensor's first one on.
fn behind<'a, T: Element>(tensor: &TensorRef<'a>) -> Result<&'a [T], OpError> {
    Ok(tensor.buffer::<T>()?.get(tensor.start..).unwrap_or_default())
}

/// Keys or values, in either precision.
fn table<'a>(tensor: &TensorRef<'a>) -> Result<Table<'a>, OpError> {
    Ok(match tensor.storage {
        Storage::F16 => Table::F16(behind::<f16>(tensor)?),
        _ => Table::F32(behind(tensor)?),
    })
}

impl Op for Attention {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let Sizes { mut batch, queries, value_width, .. } = self.sizes(inputs)?;
        batch.extend([queries, value_width]);
        one(inputs.element(self.query)?, batch)
    }

    fn flops(&self, inputs: &Inputs) -> Result<u64, OpError> {
        let Sizes { batch, queries, keys, width, value_width } = self.sizes(inputs)?;
        let scores = count(&batch).saturating_mul(count(&[queries, keys]));
        Ok(flops_of(scores, width.saturating_add(value_width)))
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let Attention { query, key, value, mask, .. } = *self;
        let (sizes, steps) = self.layout(inputs)?;
        let scale = self.scale.unwrap_or((1.0 / (sizes.width as f64).sqrt()) as f32);
        let unseen = if self.nan_unseen { f32::NAN } else { 0.0 };
        kernel(move |inputs, outputs, context| {
            let seen = match mask.map(|mask| inputs.tensor(mask)).transpose()? {
                Some(mask) if mask.storage == Storage::Bool => Some(Mask::Bool(behind(&mask)?)),
                Some(mask) => Some(Mask::Float(behind(&mask)?)),
                None => None,
            };
            let mask = steps.mask.as_ref().zip(seen).map(|(steps, seen)| steps.heads(seen));
            let Sizes { ref batch, queries, keys, width, value_width } = sizes;
            let sizes = AttentionSizes { batch, queries, keys, width, value_width };
            let scoring = Scoring { scale, mask, unseen };
            let query = steps.query.heads(behind(&inputs.tensor(query)?)?);
            let key = steps.key.heads(table(&inputs.tensor(key)?)?);
            let value = steps.value.heads(table(&inputs.tensor(value)?)?);
            let out = outputs.tensor(0)?.f32s()?;
            Ok(attention(context, sizes, scoring, query, key, value, out)?)
        })
    }

    fn reads_half(&self, input: usize) -> bool {
        input == self.key || input == self.value
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }
}

fn scaled_dot_product_attention(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (query, key) = (binder.input("query")?, binder.input("key")?);
    let (value, mask) = (binder.input("value")?, binder.optional_input("attn_mask")?);
    // A query that sees no key gets zeros, as PyTorch has it; the definition's own code makes NaN of it.
    let (scale, nan_unseen) = (None, false);
    bound(Attention { query, key, value, mask, scale, nan_unseen, key_repeat: 1, value_repeat: 1 })
}

pub(super) const OPS: &[OpDef] =
    &[def("scaled_dot_product_attention", Opset::Ios18, scaled_dot_product_attention)];

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;

    use super::*;
    use crate::op::testing::{Case, Value};

    fn case(key: &[usize], value: &[usize]) -> Case {
        let numbers = |shape: &[usize]| -> Vec<f32> {
            (0..shape.iter().product::<usize>()).map(|i| (i * 7 % 5) as f32 / 4.0).collect()
        };
        let case = Case::new().floats("query", &[2, 1, 2], &[1.0, 0.0, 0.0, 2.0]);
        let case = case.floats("key", key, &numbers(key));
        case.floats("value", value, &numbers(value))
    }

    #[test]
    fn halves_are_read_as_they_are() {
        let query = [0.5, -1.0, 0.25, 1.0];
        let (key, value) = ([0.5, 0.25, -1.0, 2.0, 0.0, 1.0], [1.0, 2.0, 4.0]);
        let mask = [0.0, -0.5, 1.0];
        // Of `fp16`, but held in `f32`, as results are.
        let wide =
            |shape: &[usize], values: &[f32]| Value::tensor(ElementType::Float16, shape, values);
        let with = |case: Case| {
            let case = case.value("query", wide(&[1, 2, 2], &query));
            case.value("attn_mask", wide(&[3], &mask))
        };
        let floats = Case::new().value("key", wide(&[1, 3, 2], &key));
        let floats = with(floats.value("value", wide(&[1, 3, 1], &value)));
        let halves =
            with(Case::new().halves("key", &[1, 3, 2], &key).halves("value", &[1, 3, 1], &value));
        let operator = "scaled_dot_product_attention";
        let (shape, expected) = floats.run_floats(operator, Opset::Ios18);
        let (same_shape, got) = halves.run_floats(operator, Opset::Ios18);
        assert_eq!(same_shape, shape);
        let close = |(got, expected): (&f32, &f32)| (got - expected).abs() <= 1e-6;
        assert!(got.iter().zip(&expected).all(close), "{got:?}, expected {expected:?}");
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors_that_name_the_argument() {
        let operator = "scaled_dot_product_attention";
        assert!(case(&[2, 3, 2], &[2, 3, 4]).run(operator, Opset::Ios18).is_ok());
        let error = |case: Case| case.run(operator, Opset::Ios18).err().unwrap().to_string();
        let message = error(case(&[2, 3, 4], &[2, 3, 4]));
        assert!(message.contains("`key`") && message.contains("[_, 2]"), "{message}");
        assert!(error(case(&[1, 3, 2], &[2, 3, 4])).contains("`key`"));
        assert!(error(case(&[2, 3, 2], &[2, 2, 4])).contains("`value`"));
        let masked = |shape: &[usize]| {
            let count = shape.iter().product();
            error(case(&[2, 3, 2], &[2, 3, 4]).floats("attn_mask", shape, &vec![0.0; count]))
        };
        assert!(masked(&[2]).contains("[2, 1, 3]"));
        assert!(masked(&[2, 2, 3]).contains("`attn_mask`"));
        assert!(masked(&[1, 1, 1, 3]).contains("`attn_mask`"));
    }
}
