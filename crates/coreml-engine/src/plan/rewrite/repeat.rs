//! Grouped-query attention repeats each key and value head for several query heads: the product, or
//! the attention as a whole, reads each head several times instead.

use coreml_format::mil::{Dimension, ElementType, TensorType};
use smallvec::SmallVec;

use super::{Effect, Match, Pattern, Replacement, Rule, Site, any, op};
use crate::graph::Graph;
use crate::ids::Operand;
use crate::op::Inputs;
use crate::ops::{Attention, Matmul, Reshape, ReshapeRule, Tile, Zeros};
use crate::value::{Buffer, Bytes, Constant, Shape, Storage};

type Dimensions = SmallVec<[Option<usize>; 6]>;

/// `matmul(x, reshape(tile(y)))`, where whole matrices of `y` are repeated. Query heads that share a
/// matrix become the rows of one product, which kernels may sum up in another order.
pub(super) const REPEATED_OPERAND: Rule = Rule {
    name: "repeated operand of a product",
    effect: Effect::Order,
    pattern: || op("product", |product: &Matmul| product.weight.is_none()).reading(1, repeated()),
    replace: |site, found| {
        let product: &Matmul = found.op("product")?;
        let (narrow, times) = narrowed(site.graph, found)?;
        let y = reshape_to(site, found, &narrow)?;
        let repeat = product.repeat.checked_mul(times)?;
        let product = Matmul { repeat, ..product.clone() };
        let x = *found.run("product")?.inputs.first()?;
        Some(Replacement::Run(Box::new(product), vec![x, y]))
    },
};

/// `scaled_dot_product_attention` of keys that are repeated.
pub(super) const REPEATED_KEYS: Rule = Rule {
    name: "repeated keys of an attention",
    effect: Effect::Exact,
    pattern: || op("attention", |_: &Attention| true).reading(KEY, repeated()),
    replace: |site, found| share(site, found, KEY),
};

/// `scaled_dot_product_attention` of values that are repeated.
pub(super) const REPEATED_VALUES: Rule = Rule {
    name: "repeated values of an attention",
    effect: Effect::Exact,
    pattern: || op("attention", |_: &Attention| true).reading(VALUE, repeated()),
    replace: |site, found| share(site, found, VALUE),
};

/// The input of an attention that is its keys, and the one that is its values.
const KEY: usize = 1;
const VALUE: usize = 2;

/// `reshape(tile(y))`.
fn repeated() -> Pattern {
    let tile = op("tile", |_: &Tile| true).reading(0, any("y"));
    op("reshape", |_: &Reshape| true).reading(0, tile)
}

/// The attention with an input that is not repeated, unless its other one is by another number.
fn share(site: &mut Site, found: &Match, input: usize) -> Option<Replacement> {
    let mut attention = found.op::<Attention>("attention")?.clone();
    let (narrow, times) = narrowed(site.graph, found)?;
    let (repeat, other) = match input {
        KEY => (&mut attention.key_repeat, attention.value_repeat),
        _ => (&mut attention.value_repeat, attention.key_repeat),
    };
    *repeat = repeat.checked_mul(times)?;
    if other != 1 && other != *repeat {
        return None;
    }
    let mut inputs = found.run("attention")?.inputs.clone();
    *inputs.get_mut(input)? = reshape_to(site, found, &narrow)?;
    Some(Replacement::Run(Box::new(attention), inputs))
}

/// The operand's dimensions without the repetition, and how often each of its matrices is repeated.
/// At most the matrices' rows may be unknown.
fn narrowed(graph: &Graph, found: &Match) -> Option<(Dimensions, usize)> {
    let source = graph.dimensions(found.operand("y")?)?;
    let reshape = found.run("reshape")?;
    let mut narrow = graph.dimensions(Operand::Value(*reshape.outputs.first()?))?;
    let tile = found.run("tile")?;
    let inputs = Inputs::new(&tile.inputs, graph);
    let reps = found.op::<Tile>("tile")?.repetitions(&inputs, &source).ok()?;
    let axis = reps.iter().position(|&rep| rep != 1)?;
    let times = reps[axis];
    let others = reps.iter().skip(axis + 1).all(|&rep| rep == 1);
    let matrix = source.len().checked_sub(2)?;
    // The axes from the repeated one up to the matrices hold one matrix only.
    let whole = axis < matrix && source[axis..matrix].iter().all(|&size| size == Some(1));
    let [.., batch, rows, columns] = narrow.as_mut_slice() else { return None };
    let same = *columns == source[matrix + 1] && columns.is_some() && *rows == source[matrix];
    let repeated = batch.filter(|batch| times > 0 && batch % times == 0)?;
    *batch = Some(repeated / times);
    // As many matrices on both sides: then the rows are as many, too, where they are not known.
    let number =
        |sizes: &[Option<usize>]| sizes.iter().try_fold(1usize, |n, size| n.checked_mul((*size)?));
    let kept = number(&narrow[..narrow.len() - 2])? == number(&source[..matrix])?;
    (others && whole && same && kept).then_some((narrow, times))
}

/// The source of the repetition, reshaped to these dimensions.
fn reshape_to(site: &mut Site, found: &Match, dimensions: &[Option<usize>]) -> Option<Operand> {
    let output = *found.run("reshape")?.outputs.first()?;
    let (name, element) =
        (site.graph.values[output].name.clone(), site.graph.values[output].element);
    let shape =
        dimensions.iter().map(|size| size.map_or(Dimension::Unknown, Dimension::Fixed)).collect();
    let declared = TensorType { element, shape };
    let known: Option<Shape> = dimensions.iter().copied().collect();
    let source = found.operand("y")?;
    if let Some(shape) = known {
        let reshape = Reshape { x: 0, rule: ReshapeRule::To(shape) };
        return site.add(reshape, vec![source], &name, declared);
    }
    let sizes: Option<Vec<i32>> = dimensions
        .iter()
        .map(|size| size.map_or(Some(-1), |size| i32::try_from(size).ok()))
        .collect();
    let sizes = sizes?;
    let bytes = Bytes::from_buffer(Buffer::copy_of(bytemuck::cast_slice(&sizes)).ok()?);
    let shape = Shape::from_slice(&[sizes.len()]);
    let sizes =
        site.graph.add_constant(Constant::dense(ElementType::Int32, Storage::I32, shape, bytes));
    let rule = ReshapeRule::Given { shape: 1, zeros: Zeros::SameAxis };
    site.add(Reshape { x: 0, rule }, vec![source, sizes], &name, declared)
}
